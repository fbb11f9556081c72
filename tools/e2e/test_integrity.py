"""Checksums, attributes, append, rename and restore: what vouches for bytes, and what moves without them.

botocore computes few of the algorithms by itself; the others are sent as values over a bare connection.
"""

import base64
import concurrent.futures
import datetime
import hashlib
import uuid
import zlib

import pytest
from botocore.exceptions import ClientError

import sigv4
from conftest import noise, s3_client

MIB = 1 << 20
PART = 5 * MIB

# Of b"123456789", as each algorithm's authors publish it; big-endian.
CHECK = {
    "CRC32": "y/Q5Jg==",
    "CRC32C": "4waSgw==",
    "CRC64NVME": "rosUhgp5mIg=",
    "SHA1": "98O8HYCOBHMq32eZZczDTKeuNEE=",
    "SHA256": "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=",
    "SHA512": "2eZ2LdHI6vbWGzxhkvxAjU1tXxF20MKRabwk5xw/J0rSf81YEbMT1oH35V7ALXPUmclUVba1u1A6z1dPuo/+hQ==",
    "MD5": "JfnnlDI7RTiF9RgfG2JNCw==",
    "XXHASH64": "jLhB20DmroM=",
    "XXHASH3": "ctyxi2ehff8=",
    "XXHASH128": "MxGUd+3l3NXpcWQnaB1YYA==",
}
BYTES = b"123456789"


def code(caught):
    return caught.value.response["Error"]["Code"]


def status(caught):
    return caught.value.response["ResponseMetadata"]["HTTPStatusCode"]


def b64(digest):
    return base64.b64encode(digest).decode()


@pytest.mark.parametrize("algorithm", CHECK)
def test_every_algorithm_is_checked_kept_and_returned(connect, s3, module_bucket, algorithm):
    name = "x-amz-checksum-" + algorithm.lower()
    path = sigv4.object_path(module_bucket, f"sum/{algorithm}")
    with connect() as w:
        put = w.request("PUT", path, headers={name: CHECK[algorithm]}, body=BYTES)
        assert (put.status, put.headers[name]) == (200, CHECK[algorithm])
        assert put.headers["x-amz-checksum-type"] == "FULL_OBJECT"
        assert name not in w.request("HEAD", path).headers
        for method in ("GET", "HEAD"):
            got = w.request(method, path, headers={"x-amz-checksum-mode": "enabled"})
            assert got.headers[name] == CHECK[algorithm]
        wrong = w.request("PUT", path, headers={name: CHECK[algorithm]}, body=BYTES + b"0")
        assert (wrong.status, wrong.code) == (400, "BadDigest")
    attributes = s3.get_object_attributes(
        Bucket=module_bucket, Key=f"sum/{algorithm}", ObjectAttributes=["Checksum", "ETag", "ObjectSize"]
    )
    assert attributes["Checksum"] == {f"Checksum{algorithm}": CHECK[algorithm], "ChecksumType": "FULL_OBJECT"}
    assert (attributes["ETag"], attributes["ObjectSize"]) == (hashlib.md5(BYTES).hexdigest(), 9)
    assert "StorageClass" not in attributes


@pytest.mark.parametrize("algorithm", CHECK)
def test_every_algorithm_may_come_in_a_trailer(connect, module_bucket, algorithm):
    name = "x-amz-checksum-" + algorithm.lower()
    path = sigv4.object_path(module_bucket, f"trailer/{algorithm}")

    def put(w, value):
        framed = b"9\r\n" + BYTES + b"\r\n0\r\n" + f"{name}:{value}\r\n\r\n".encode()
        headers = {
            "content-encoding": "aws-chunked",
            "x-amz-trailer": name,
            "x-amz-decoded-content-length": "9",
            "content-length": str(len(framed)),
        }
        head, _ = w.head("PUT", path, headers=headers, payload_hash=sigv4.STREAMING_UNSIGNED_TRAILER)
        w.send(head + framed)
        return w.read()

    with connect() as w:
        good = put(w, CHECK[algorithm])
        assert (good.status, good.headers[name]) == (200, CHECK[algorithm])
        wrong = put(w, b64(bytes(len(base64.b64decode(CHECK[algorithm])))))
        assert (wrong.status, wrong.code) == (400, "BadDigest")


def test_crc64nvme_is_computed_where_nothing_was_sent(server, module_bucket):
    s3 = s3_client(server, request_checksum_calculation="when_required")
    put = s3.put_object(Bucket=module_bucket, Key="default", Body=BYTES)
    assert (put["ChecksumCRC64NVME"], put["ChecksumType"]) == (CHECK["CRC64NVME"], "FULL_OBJECT")
    head = s3.head_object(Bucket=module_bucket, Key="default", ChecksumMode="ENABLED")
    assert head["ChecksumCRC64NVME"] == CHECK["CRC64NVME"]


def test_checksums_that_contradict_or_are_unknown_are_refused(connect, module_bucket):
    path = sigv4.object_path(module_bucket, "refused")
    crc32 = {"x-amz-checksum-crc32": CHECK["CRC32"]}
    refused = [
        {**crc32, "x-amz-checksum-sha1": CHECK["SHA1"]},
        {"x-amz-checksum-crc99": "AAAA"},
        {"x-amz-checksum-crc32": "not base64"},
        {**crc32, "x-amz-sdk-checksum-algorithm": "SHA256"},
        {**crc32, "x-amz-sdk-checksum-algorithm": "CRC99"},
        {"x-amz-sdk-checksum-algorithm": "CRC32"},
    ]
    with connect() as w:
        for headers in refused:
            answer = w.request("PUT", path, headers=headers, body=BYTES)
            assert (answer.status, answer.code) == (400, "InvalidRequest"), headers
        answer = w.request("PUT", path, headers={"content-md5": "short"}, body=BYTES)
        assert (answer.status, answer.code) == (400, "InvalidDigest")
        answer = w.request("PUT", path, headers={"content-md5": b64(hashlib.md5(b"x").digest())}, body=BYTES)
        assert (answer.status, answer.code) == (400, "BadDigest")
        assert w.request("HEAD", path).status == 404, "nothing was kept"


def upload(s3, bucket, key, pieces, algorithm=None, kind=None):
    how = {"ChecksumAlgorithm": algorithm} if algorithm else {}
    how |= {"ChecksumType": kind} if kind else {}
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key=key, **how)["UploadId"]
    parts = []
    for number, piece in enumerate(pieces, 1):
        how = {"ChecksumAlgorithm": algorithm} if algorithm else {}
        part = s3.upload_part(
            Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=piece, **how
        )
        kept = {k: v for k, v in part.items() if k.startswith("Checksum") and k != "ChecksumType"}
        parts.append({"PartNumber": number, "ETag": part["ETag"], **kept})
    return upload_id, parts


def complete(s3, bucket, key, upload_id, parts, **how):
    return s3.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}, **how
    )


def test_a_copy_of_parts_has_a_checksum_of_all_its_bytes(s3, module_bucket):
    pieces = [noise(PART, 5), noise(PART, 6), b"last"]
    everything = b"".join(pieces)
    for algorithm, expected in [
        ("SHA256", b64(hashlib.sha256(everything).digest())),
        ("CRC32", b64(zlib.crc32(everything).to_bytes(4, "big"))),
    ]:
        upload_id, parts = upload(s3, module_bucket, "of-parts", pieces, algorithm)
        complete(s3, module_bucket, "of-parts", upload_id, parts)
        source = {"Bucket": module_bucket, "Key": "of-parts"}
        copied = s3.copy_object(Bucket=module_bucket, Key="of-all", CopySource=source)["CopyObjectResult"]
        assert (copied[f"Checksum{algorithm}"], copied["ChecksumType"]) == (expected, "FULL_OBJECT")
        head = s3.head_object(Bucket=module_bucket, Key="of-all", ChecksumMode="ENABLED")
        assert (head[f"Checksum{algorithm}"], head["ChecksumType"]) == (expected, "FULL_OBJECT")
        # The client compares what it reads with that.
        assert s3.get_object(Bucket=module_bucket, Key="of-all")["Body"].read() == everything
        head = s3.head_object(ChecksumMode="ENABLED", **source)
        assert head["ChecksumType"] == "COMPOSITE", "the source stays as it was"
        with pytest.raises(ClientError) as caught:
            s3.copy_object(CopySource=source, **source)
        assert (code(caught), status(caught)) == ("InvalidRequest", 400), "onto itself nothing would change"


def test_a_composite_checksum_is_of_the_parts_and_each_part_keeps_its_own(s3, module_bucket):
    pieces = [noise(PART, 1), noise(PART, 2), b"last"]
    sums = [b64(hashlib.sha256(piece).digest()) for piece in pieces]
    whole = b64(hashlib.sha256(b"".join(hashlib.sha256(p).digest() for p in pieces)).digest()) + "-3"
    upload_id, parts = upload(s3, module_bucket, "composite", pieces, "SHA256")
    bare = [{k: v for k, v in part.items() if k != "ChecksumSHA256"} for part in parts]
    with pytest.raises(ClientError) as caught:
        complete(s3, module_bucket, "composite", upload_id, bare)
    assert (code(caught), status(caught)) == ("InvalidRequest", 400)
    with pytest.raises(ClientError) as caught:
        complete(s3, module_bucket, "composite", upload_id, parts, ChecksumSHA256=sums[0])
    assert (code(caught), status(caught)) == ("BadDigest", 400)
    wrong = [{**parts[0], "ChecksumSHA256": sums[1]}, *parts[1:]]
    with pytest.raises(ClientError) as caught:
        complete(s3, module_bucket, "composite", upload_id, wrong)
    assert code(caught) == "InvalidPart"
    done = complete(
        s3, module_bucket, "composite", upload_id, parts, ChecksumSHA256=whole, ChecksumType="COMPOSITE"
    )
    assert (done["ChecksumSHA256"], done["ChecksumType"]) == (whole, "COMPOSITE")
    where = {"Bucket": module_bucket, "Key": "composite"}
    for number, (piece, expected) in enumerate(zip(pieces, sums), 1):
        got = s3.get_object(PartNumber=number, **where)
        assert got["Body"].read() == piece
        assert (got["ChecksumSHA256"], got["ChecksumType"], got["PartsCount"]) == (expected, "COMPOSITE", 3)
        head = s3.head_object(PartNumber=number, ChecksumMode="ENABLED", **where)
        assert head["ChecksumSHA256"] == expected
    everything = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
    told = s3.get_object_attributes(ObjectAttributes=everything, **where)
    # Here, and only here, AWS leaves the number of parts out.
    assert told["Checksum"] == {"ChecksumSHA256": whole.removesuffix("-3"), "ChecksumType": "COMPOSITE"}
    assert (told["StorageClass"], told["ObjectSize"]) == ("STANDARD", 2 * PART + 4)
    assert told["ETag"] == done["ETag"].strip('"')
    assert told["LastModified"] == s3.head_object(**where)["LastModified"]
    of_parts = told["ObjectParts"]
    assert (of_parts["TotalPartsCount"], of_parts["IsTruncated"], of_parts["MaxParts"]) == (3, False, 1000)
    seen = [(part["PartNumber"], part["Size"], part["ChecksumSHA256"]) for part in of_parts["Parts"]]
    assert seen == [(1, PART, sums[0]), (2, PART, sums[1]), (3, 4, sums[2])]
    page = s3.get_object_attributes(
        ObjectAttributes=["ObjectParts"], MaxParts=1, PartNumberMarker=1, **where
    )["ObjectParts"]
    assert (page["PartNumberMarker"], page["NextPartNumberMarker"], page["IsTruncated"]) == (1, 2, True)
    assert [part["PartNumber"] for part in page["Parts"]] == [2]


def test_full_object_crcs_are_combined_from_the_parts(s3, module_bucket):
    pieces = [noise(PART, 3), noise(PART + 1, 4), b"x"]
    whole = b64(zlib.crc32(b"".join(pieces)).to_bytes(4, "big"))
    upload_id, parts = upload(s3, module_bucket, "full", pieces, "CRC32", "FULL_OBJECT")
    with pytest.raises(ClientError) as caught:
        complete(s3, module_bucket, "full", upload_id, parts, ChecksumType="COMPOSITE")
    assert code(caught) == "InvalidRequest"
    size = sum(map(len, pieces))
    with pytest.raises(ClientError) as caught:
        complete(s3, module_bucket, "full", upload_id, parts, MpuObjectSize=size + 1)
    assert code(caught) == "InvalidRequest"
    bare = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in parts]
    done = complete(s3, module_bucket, "full", upload_id, bare, ChecksumCRC32=whole, MpuObjectSize=size)
    assert (done["ChecksumCRC32"], done["ChecksumType"]) == (whole, "FULL_OBJECT")


def test_an_upload_that_names_no_algorithm_gets_crc64nvme_whatever_its_parts_bring(s3, module_bucket):
    pieces = [noise(PART, 5), b"tail"]
    upload_id, parts = upload(s3, module_bucket, "unnamed", pieces)
    assert "ChecksumCRC32" in parts[0], "botocore's default"
    done = complete(s3, module_bucket, "unnamed", upload_id, parts)
    assert (done["ChecksumType"], len(done["ChecksumCRC64NVME"])) == ("FULL_OBJECT", 12)
    s3.put_object(Bucket=module_bucket, Key="unnamed-whole", Body=b"".join(pieces), ChecksumAlgorithm="SHA1")


def test_a_kind_or_an_algorithm_that_an_upload_cannot_have_is_refused(s3, module_bucket):
    for how in (
        {"ChecksumAlgorithm": "SHA256", "ChecksumType": "FULL_OBJECT"},
        {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "COMPOSITE"},
        {"ChecksumAlgorithm": "XXHASH3", "ChecksumType": "FULL_OBJECT"},
        {"ChecksumType": "COMPOSITE"},
    ):
        with pytest.raises(ClientError) as caught:
            s3.create_multipart_upload(Bucket=module_bucket, Key="k", **how)
        assert (code(caught), status(caught)) == ("InvalidRequest", 400), how
    upload_id, _ = upload(s3, module_bucket, "k", [], "SHA1")
    with pytest.raises(ClientError) as caught:
        s3.upload_part(
            Bucket=module_bucket,
            Key="k",
            UploadId=upload_id,
            PartNumber=1,
            Body=b"x",
            ChecksumAlgorithm="CRC32",
        )
    assert (code(caught), status(caught)) == ("InvalidRequest", 400)
    s3.abort_multipart_upload(Bucket=module_bucket, Key="k", UploadId=upload_id)


def test_a_copy_may_have_another_checksum(s3, module_bucket):
    s3.put_object(Bucket=module_bucket, Key="copy/from", Body=BYTES)
    source = {"Bucket": module_bucket, "Key": "copy/from"}
    kept = s3.copy_object(Bucket=module_bucket, Key="copy/kept", CopySource=source)["CopyObjectResult"]
    assert kept["ChecksumCRC32"] == CHECK["CRC32"]
    for key in ("copy/to", "copy/from"):
        done = s3.copy_object(Bucket=module_bucket, Key=key, CopySource=source, ChecksumAlgorithm="SHA256")
        assert done["CopyObjectResult"]["ChecksumSHA256"] == CHECK["SHA256"]
        head = s3.head_object(Bucket=module_bucket, Key=key, ChecksumMode="ENABLED")
        assert (head["ChecksumSHA256"], "ChecksumCRC32" in head) == (CHECK["SHA256"], False)


def test_storage_classes_are_shown_if_they_are_so_and_refused_if_not(s3, module_bucket):
    s3.put_object(Bucket=module_bucket, Key="class", Body=b"x", StorageClass="REDUCED_REDUNDANCY")
    assert s3.head_object(Bucket=module_bucket, Key="class")["StorageClass"] == "REDUCED_REDUNDANCY"
    told = s3.get_object_attributes(Bucket=module_bucket, Key="class", ObjectAttributes=["StorageClass"])
    assert told["StorageClass"] == "REDUCED_REDUNDANCY"
    source = {"Bucket": module_bucket, "Key": "class"}
    s3.copy_object(Bucket=module_bucket, Key="class", CopySource=source, StorageClass="STANDARD")
    assert "StorageClass" not in s3.head_object(Bucket=module_bucket, Key="class")
    for how in (s3.put_object, s3.create_multipart_upload):
        with pytest.raises(ClientError) as caught:
            how(Bucket=module_bucket, Key="class", StorageClass="GLACIER")
        assert (code(caught), status(caught)) == ("InvalidStorageClass", 400)


def test_attributes_that_are_unknown_or_missing_are_refused(connect, s3, module_bucket):
    s3.put_object(Bucket=module_bucket, Key="attributes", Body=b"x")
    path = sigv4.object_path(module_bucket, "attributes")
    with connect() as w:
        assert w.request("GET", path, "attributes=").code == "InvalidRequest"
        answer = w.request("GET", path, "attributes=", {"x-amz-object-attributes": "ETag,Size"})
        assert (answer.status, answer.code) == (400, "InvalidArgument")
    told = s3.get_object_attributes(
        Bucket=module_bucket, Key="attributes", ObjectAttributes=["ObjectParts", "StorageClass"]
    )
    assert told["StorageClass"] == "STANDARD"
    assert "ObjectParts" not in told, "it was not uploaded in parts"
    with pytest.raises(ClientError) as caught:
        s3.get_object_attributes(Bucket=module_bucket, Key="none", ObjectAttributes=["ETag"])
    assert code(caught) == "NoSuchKey"


def append(s3, bucket, key, offset, body, **how):
    return s3.put_object(Bucket=bucket, Key=key, Body=body, WriteOffsetBytes=offset, **how)


@pytest.mark.parametrize("size", [0, 100, 3 * MIB])
def test_appended_bytes_follow_what_is_there(s3, module_bucket, size):
    key, body = f"append/{size}", noise(size, size)
    s3.put_object(Bucket=module_bucket, Key=key, Body=body, ContentType="text/x", Metadata={"m": "1"})
    tags = {s3.head_object(Bucket=module_bucket, Key=key)["ETag"]}
    for more in (b"a", noise(MIB, 1), b"0123456789"):
        done = append(s3, module_bucket, key, len(body), more)
        body += more
        assert done["Size"] == len(body)
        tags.add(done["ETag"])
    assert len(tags) == 4, "each append has a tag of its own"
    got = s3.get_object(Bucket=module_bucket, Key=key)
    assert got["Body"].read() == body
    assert (got["ContentType"], got["Metadata"]) == ("text/x", {"m": "1"})
    assert got["ChecksumCRC32"] == b64(zlib.crc32(body).to_bytes(4, "big"))
    tail = s3.get_object(Bucket=module_bucket, Key=key, Range="bytes=-12")
    assert tail["Body"].read() == body[-12:]


def test_an_append_elsewhere_than_at_the_end_is_refused(s3, module_bucket):
    where = (s3, module_bucket, "append/offset")
    with pytest.raises(ClientError) as caught:
        append(*where, 1, b"x")
    assert (code(caught), status(caught)) == ("InvalidWriteOffset", 400)
    append(*where, 0, b"first")
    for offset in (0, 4, 6):
        with pytest.raises(ClientError) as caught:
            append(*where, offset, b"x")
        assert code(caught) == "InvalidWriteOffset"
    with pytest.raises(ClientError) as caught:
        append(*where, 5, b"x", IfMatch='"00000000000000000000000000000000"')
    assert code(caught) == "PreconditionFailed"
    assert s3.get_object(Bucket=module_bucket, Key="append/offset")["Body"].read() == b"first"


def test_of_racing_appends_at_one_offset_one_is_taken(server, s3, module_bucket):
    s3.put_object(Bucket=module_bucket, Key="append/race", Body=b"base")

    def one(n):
        try:
            append(s3_client(server), module_bucket, "append/race", 4, bytes([n]) * 1000)
            return n
        except ClientError as error:
            assert error.response["Error"]["Code"] in ("InvalidWriteOffset", "ConditionalRequestConflict")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        won = [n for n in pool.map(one, range(8)) if n is not None]
    assert len(won) == 1
    body = s3.get_object(Bucket=module_bucket, Key="append/race")["Body"].read()
    assert body == b"base" + bytes(won) * 1000


def test_a_copy_of_an_appended_object_is_its_own(s3, module_bucket):
    s3.put_object(Bucket=module_bucket, Key="append/a", Body=noise(70_000, 1))
    append(s3, module_bucket, "append/a", 70_000, b"one")
    source = {"Bucket": module_bucket, "Key": "append/a"}
    s3.copy_object(Bucket=module_bucket, Key="append/b", CopySource=source)
    append(s3, module_bucket, "append/a", 70_003, b"two")
    append(s3, module_bucket, "append/b", 70_003, b"three")
    s3.delete_object(Bucket=module_bucket, Key="append/a")
    got = s3.get_object(Bucket=module_bucket, Key="append/b")["Body"].read()
    assert got == noise(70_000, 1) + b"onethree"


def test_an_appended_upload_has_one_more_part(s3, module_bucket):
    pieces = [noise(PART, 7), b"end"]
    upload_id, parts = upload(s3, module_bucket, "append/mpu", pieces, "CRC32", "FULL_OBJECT")
    complete(s3, module_bucket, "append/mpu", upload_id, parts)
    done = append(s3, module_bucket, "append/mpu", PART + 3, b"more")
    assert done["ChecksumCRC32"] == b64(zlib.crc32(b"".join(pieces) + b"more").to_bytes(4, "big"))
    third = s3.get_object(Bucket=module_bucket, Key="append/mpu", PartNumber=3)
    assert (third["Body"].read(), third["PartsCount"]) == (b"more", 3)


def rename(s3, bucket, source, key, **how):
    return s3.rename_object(Bucket=bucket, Key=key, RenameSource=source, **how)


def test_a_renamed_object_keeps_everything_but_its_name(s3, module_bucket):
    s3.put_object(
        Bucket=module_bucket, Key="rename/a b", Body=b"x", Metadata={"m": "1"}, Tagging="t=1", ContentType="a/b"
    )
    before = s3.head_object(Bucket=module_bucket, Key="rename/a b")
    rename(s3, module_bucket, "rename/a%20b", "rename/c")
    after = s3.head_object(Bucket=module_bucket, Key="rename/c")
    for name in ("ETag", "LastModified", "Metadata", "ContentType", "TagCount"):
        assert after[name] == before[name]
    with pytest.raises(ClientError) as caught:
        s3.head_object(Bucket=module_bucket, Key="rename/a b")
    assert status(caught) == 404
    with pytest.raises(ClientError) as caught:
        rename(s3, module_bucket, "rename/a%20b", "rename/d")
    assert code(caught) == "NoSuchKey"
    with pytest.raises(ClientError) as caught:
        rename(s3, module_bucket, "rename/c", "rename/c")
    assert code(caught) == "InvalidRequest"


def test_a_rename_obeys_conditions_on_both_names(s3, module_bucket):
    tag = s3.put_object(Bucket=module_bucket, Key="rename/from", Body=b"1")["ETag"]
    other = s3.put_object(Bucket=module_bucket, Key="rename/to", Body=b"2")["ETag"]
    for how in (
        {"DestinationIfNoneMatch": "*"},
        {"DestinationIfMatch": tag},
        {"SourceIfMatch": other},
        {"SourceIfNoneMatch": tag},
    ):
        with pytest.raises(ClientError) as caught:
            rename(s3, module_bucket, "rename/from", "rename/to", **how)
        assert (code(caught), status(caught)) == ("PreconditionFailed", 412), how
    with pytest.raises(ClientError) as caught:
        rename(s3, module_bucket, "rename/from", "rename/free", DestinationIfMatch="*")
    assert code(caught) == "PreconditionFailed"
    rename(s3, module_bucket, "rename/from", "rename/to", SourceIfMatch=tag, DestinationIfMatch=other)
    assert s3.get_object(Bucket=module_bucket, Key="rename/to")["Body"].read() == b"1"


def test_a_client_token_renames_once(s3, module_bucket):
    token = str(uuid.uuid4())
    s3.put_object(Bucket=module_bucket, Key="rename/once", Body=b"1")
    rename(s3, module_bucket, "rename/once", "rename/done", ClientToken=token)
    s3.put_object(Bucket=module_bucket, Key="rename/once", Body=b"2")
    rename(s3, module_bucket, "rename/once", "rename/done", ClientToken=token)
    assert s3.get_object(Bucket=module_bucket, Key="rename/done")["Body"].read() == b"1"
    with pytest.raises(ClientError) as caught:
        rename(s3, module_bucket, "rename/once", "rename/other", ClientToken=token)
    assert (code(caught), status(caught)) == ("IdempotencyParameterMismatch", 400)


def test_nothing_here_is_ever_to_be_restored(s3, module_bucket):
    s3.put_object(Bucket=module_bucket, Key="warm", Body=b"x")
    with pytest.raises(ClientError) as caught:
        s3.restore_object(Bucket=module_bucket, Key="warm", RestoreRequest={"Days": 1})
    assert (code(caught), status(caught)) == ("InvalidObjectState", 403)
    with pytest.raises(ClientError) as caught:
        s3.restore_object(Bucket=module_bucket, Key="none", RestoreRequest={"Days": 1})
    assert code(caught) == "NoSuchKey"


def test_a_delete_obeys_conditions_on_tag_size_and_time(s3, module_bucket):
    where = {"Bucket": module_bucket, "Key": "delete/one"}
    tag = s3.put_object(Body=b"12345", **where)["ETag"]
    at = s3.head_object(**where)["LastModified"]
    other = at + datetime.timedelta(hours=1)
    for wrong in ({"IfMatch": '"0"'}, {"IfMatchSize": 6}, {"IfMatchLastModifiedTime": other}):
        with pytest.raises(ClientError) as caught:
            s3.delete_object(**where, **wrong)
        assert (code(caught), status(caught)) == ("PreconditionFailed", 412), wrong
    s3.delete_object(**where, IfMatch=tag, IfMatchSize=5, IfMatchLastModifiedTime=at)
    with pytest.raises(ClientError) as caught:
        s3.head_object(**where)
    assert status(caught) == 404


def test_each_key_of_a_bulk_delete_has_its_conditions(s3, module_bucket):
    tags = {n: s3.put_object(Bucket=module_bucket, Key=f"delete/{n}", Body=b"1" * n)["ETag"] for n in range(1, 6)}
    at = s3.head_object(Bucket=module_bucket, Key="delete/1")["LastModified"]
    objects = [
        {"Key": "delete/1", "ETag": tags[1], "Size": 1},
        {"Key": "delete/2", "ETag": tags[1]},
        {"Key": "delete/3", "Size": 4},
        {"Key": "delete/4", "LastModifiedTime": at + datetime.timedelta(days=1)},
        {"Key": "delete/5"},
    ]
    answer = s3.delete_objects(Bucket=module_bucket, Delete={"Objects": objects})
    assert {o["Key"] for o in answer["Deleted"]} == {"delete/1", "delete/5"}
    refused = {o["Key"]: o["Code"] for o in answer["Errors"]}
    assert refused == {f"delete/{n}": "PreconditionFailed" for n in (2, 3, 4)}
