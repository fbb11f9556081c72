"""boto3 as its users use it: defaults first, then every knob that changes what goes over the wire."""

import base64
import datetime
import hashlib
import io
import threading
import urllib.error
import urllib.parse
import urllib.request
import zlib

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

import odd_keys
from conftest import bucket_name, empty_bucket, noise, put_empty, s3_client

MIB = 1 << 20


def refused(call, status, code):
    """Asserts that `call` raises AWS's error with this status and code; the error."""
    with pytest.raises(ClientError) as caught:
        call()
    answer = caught.value.response
    assert (answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]) == (status, code)
    return answer


# Buckets


def test_a_bucket_is_created_found_listed_and_deleted(s3):
    name = bucket_name()
    refused(lambda: s3.head_bucket(Bucket=name), 404, "404")
    answer = s3.create_bucket(Bucket=name)
    assert answer["Location"].endswith(name)
    assert s3.head_bucket(Bucket=name)["ResponseMetadata"]["HTTPStatusCode"] == 200
    listed = {b["Name"]: b["CreationDate"] for b in s3.list_buckets()["Buckets"]}
    age = datetime.datetime.now(datetime.timezone.utc) - listed[name]
    assert abs(age.total_seconds()) < 120
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] is None
    assert s3.delete_bucket(Bucket=name)["ResponseMetadata"]["HTTPStatusCode"] == 204
    refused(lambda: s3.delete_bucket(Bucket=name), 404, "NoSuchBucket")
    assert name not in [b["Name"] for b in s3.list_buckets()["Buckets"]]


def test_a_bucket_of_ones_own_cannot_be_created_twice(s3, bucket):
    refused(lambda: s3.create_bucket(Bucket=bucket), 409, "BucketAlreadyOwnedByYou")


def test_a_bucket_with_an_object_is_not_deleted(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    refused(lambda: s3.delete_bucket(Bucket=bucket), 409, "BucketNotEmpty")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_a_recreated_bucket_is_empty(s3):
    name = bucket_name()
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="old", Body=b"old")
    s3.delete_object(Bucket=name, Key="old")
    s3.delete_bucket(Bucket=name)
    s3.create_bucket(Bucket=name)
    assert s3.list_objects_v2(Bucket=name)["KeyCount"] == 0
    refused(lambda: s3.get_object(Bucket=name, Key="old"), 404, "NoSuchKey")
    s3.delete_bucket(Bucket=name)


def test_everything_in_a_missing_bucket_is_no_such_bucket(s3):
    name = bucket_name("missing")
    for call in (
        lambda: s3.get_object(Bucket=name, Key="k"),
        lambda: s3.put_object(Bucket=name, Key="k", Body=b""),
        lambda: s3.delete_object(Bucket=name, Key="k"),
        lambda: s3.list_objects_v2(Bucket=name),
        lambda: s3.list_objects(Bucket=name),
        lambda: s3.create_multipart_upload(Bucket=name, Key="k"),
        lambda: s3.list_multipart_uploads(Bucket=name),
        lambda: s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "k"}]}),
        lambda: s3.get_bucket_location(Bucket=name),
    ):
        refused(call, 404, "NoSuchBucket")


# Objects

SIZES = [0, 1, 4095, 4096, 4097, 65471, 65472, 65473, 1 * MIB - 1, 1 * MIB, 5 * MIB + 3]


@pytest.mark.over_https
@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
@pytest.mark.parametrize("size", SIZES)
def test_put_get_head_and_delete_round_trip(server, s3, module_bucket, size, checksums):
    client = s3_client(server, request_checksum_calculation=checksums, response_checksum_validation=checksums)
    body, key = noise(size, size), f"round/{checksums}/{size}"
    etag = '"' + hashlib.md5(body).hexdigest() + '"'
    put = client.put_object(Bucket=module_bucket, Key=key, Body=body)
    assert put["ETag"] == etag
    if checksums == "when_supported":
        crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        assert put["ChecksumCRC32"] == crc
        assert client.head_object(Bucket=module_bucket, Key=key, ChecksumMode="ENABLED")["ChecksumCRC32"] == crc
    got = client.get_object(Bucket=module_bucket, Key=key)
    assert got["Body"].read() == body
    head = client.head_object(Bucket=module_bucket, Key=key)
    listed = client.list_objects_v2(Bucket=module_bucket, Prefix=key, MaxKeys=1)["Contents"][0]
    assert {got["ETag"], head["ETag"], listed["ETag"]} == {etag}
    assert {got["ContentLength"], head["ContentLength"], listed["Size"]} == {size}
    assert got["AcceptRanges"] == "bytes"
    assert listed["StorageClass"] == "STANDARD"
    assert got["LastModified"] == head["LastModified"] == listed["LastModified"].replace(microsecond=0)
    client.delete_object(Bucket=module_bucket, Key=key)
    refused(lambda: client.get_object(Bucket=module_bucket, Key=key), 404, "NoSuchKey")
    refused(lambda: client.head_object(Bucket=module_bucket, Key=key), 404, "404")


def test_overwriting_replaces_bytes_and_metadata(s3, module_bucket):
    where = {"Bucket": module_bucket, "Key": "overwrite"}
    s3.put_object(**where, Body=noise(3 * MIB), Metadata={"a": "1"}, ContentType="text/one")
    s3.put_object(**where, Body=b"short", Metadata={"b": "2"})
    got = s3.get_object(**where)
    assert got["Body"].read() == b"short"
    assert got["Metadata"] == {"b": "2"}
    assert got["ContentType"] == "binary/octet-stream"


def test_deleting_what_is_not_there_succeeds(s3, module_bucket):
    answer = s3.delete_object(Bucket=module_bucket, Key="never-was")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_a_prefix_is_not_an_object(s3, module_bucket):
    s3.put_object(Bucket=module_bucket, Key="folder/file", Body=b"x")
    for key in ("folder", "folder/"):
        refused(lambda: s3.head_object(Bucket=module_bucket, Key=key), 404, "404")
        refused(lambda: s3.get_object(Bucket=module_bucket, Key=key), 404, "NoSuchKey")


def test_metadata_and_headers_come_back_as_they_were_sent(s3, module_bucket):
    where = {"Bucket": module_bucket, "Key": "metadata"}
    sent = {
        "ContentType": "text/plain; charset=utf-8",
        "CacheControl": "max-age=60, public",
        "ContentDisposition": 'attachment; filename="a b.txt"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "en, fr",
    }
    expires = datetime.datetime(2031, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    metadata = {"plain": "value", "with-dash": "a=b; c", "empty": "", "long": "v" * 1500}
    s3.put_object(**where, Body=b"x", Metadata=metadata, Expires=expires, **sent)
    for answer in (s3.get_object(**where), s3.head_object(**where)):
        assert answer["Metadata"] == metadata
        assert {k: answer[k] for k in sent} == sent
        assert answer["ExpiresString"] == "Thu, 02 Jan 2031 03:04:05 GMT"


@pytest.mark.differs("minio", "its limit on metadata is another")
def test_metadata_over_two_kib_is_refused(s3, module_bucket):
    refused(
        lambda: s3.put_object(Bucket=module_bucket, Key="fat", Body=b"", Metadata={"k": "v" * 2048}),
        400,
        "MetadataTooLarge",
    )


@pytest.mark.over_https
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME"])
def test_stored_checksums_are_returned_when_asked_for(server, s3, module_bucket, algorithm):
    if algorithm in ("CRC32C", "CRC64NVME"):
        value = {"CRC32C": "4waSgw==", "CRC64NVME": "rosUhgp5mIg="}[algorithm]  # the check value of 123456789
    elif algorithm == "CRC32":
        value = base64.b64encode(zlib.crc32(b"123456789").to_bytes(4, "big")).decode()
    else:
        value = base64.b64encode(hashlib.new(algorithm.lower(), b"123456789").digest()).decode()
    where, field = {"Bucket": module_bucket, "Key": f"sum/{algorithm}"}, f"Checksum{algorithm}"
    assert s3.put_object(**where, Body=b"123456789", **{field: value})[field] == value
    assert s3.head_object(**where, ChecksumMode="ENABLED")[field] == value
    assert s3.get_object(**where, ChecksumMode="ENABLED")[field] == value
    plain = s3.head_object(**where)
    assert field not in plain
    wrong = base64.b64encode(bytes(len(base64.b64decode(value)))).decode()
    once = s3_client(server, retries={"total_max_attempts": 1})  # boto3 repeats a BadDigest for ten seconds
    with pytest.raises(ClientError) as caught:
        once.put_object(**where, Body=b"other", **{field: wrong})
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert s3.get_object(**where)["Body"].read() == b"123456789"


@pytest.mark.over_https
def test_upload_and_download_fileobj(s3, module_bucket, tmp_path):
    for size in (0, 10, 9 * MIB + 7):
        body = noise(size, size)
        s3.upload_fileobj(io.BytesIO(body), module_bucket, f"fileobj/{size}")
        into = io.BytesIO()
        s3.download_fileobj(module_bucket, f"fileobj/{size}", into)
        assert into.getvalue() == body
    path = tmp_path / "f"
    path.write_bytes(noise(100_000))
    s3.upload_file(str(path), module_bucket, "file", ExtraArgs={"Metadata": {"m": "1"}})
    s3.download_file(module_bucket, "file", str(path) + ".back")
    assert (tmp_path / "f.back").read_bytes() == path.read_bytes()
    assert s3.head_object(Bucket=module_bucket, Key="file")["Metadata"] == {"m": "1"}


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(k, marks=pytest.mark.differs("minio", "keys live in a file system"))
        if k in odd_keys.SLASHES + odd_keys.LONG + odd_keys.CONTROL or "\\" in k
        else k
        for k in odd_keys.ALL
    ],
    ids=lambda k: ascii(k[:30]),
)
def test_odd_keys_round_trip(s3, module_bucket, key):
    body = key.encode()
    s3.put_object(Bucket=module_bucket, Key=key, Body=body)
    assert s3.get_object(Bucket=module_bucket, Key=key)["Body"].read() == body
    listed = s3.list_objects_v2(Bucket=module_bucket, Prefix=key, MaxKeys=1)["Contents"]
    assert [o["Key"] for o in listed] == [key]
    s3.delete_object(Bucket=module_bucket, Key=key)
    refused(lambda: s3.head_object(Bucket=module_bucket, Key=key), 404, "404")


# Ranges and conditions


@pytest.fixture(scope="module")
def ranged(s3, module_bucket):
    body = noise(3 * MIB + 17, 5)
    s3.put_object(Bucket=module_bucket, Key="ranged", Body=body)
    return {"Bucket": module_bucket, "Key": "ranged"}, body


@pytest.mark.parametrize(
    "text,first,past",
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, None),
        ("bytes=1-65472", 1, 65473),
        ("bytes=65471-65473", 65471, 65474),
        ("bytes=1048575-1048577", 1048575, 1048578),
        ("bytes=-1", -1, None),
        ("bytes=-70000", -70000, None),
        ("bytes=-99999999", 0, None),
        ("bytes=3000000-99999999", 3000000, None),
    ],
)
def test_a_range_is_exactly_its_bytes(s3, ranged, text, first, past):
    where, body = ranged
    want = body[first:past]
    for call in (s3.get_object, s3.head_object):
        answer = call(**where, Range=text)
        start = first if first >= 0 else len(body) + first
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert answer["ContentRange"] == f"bytes {start}-{start + len(want) - 1}/{len(body)}"
        assert answer["ContentLength"] == len(want)
    assert s3.get_object(**where, Range=text)["Body"].read() == want


@pytest.mark.parametrize("text", ["bytes=99999999-", "bytes=3145745-", "bytes=-0"])
def test_a_range_past_the_end_is_416(s3, ranged, text):
    answer = refused(lambda: s3.get_object(**ranged[0], Range=text), 416, "InvalidRange")
    assert answer["Error"].get("ActualObjectSize", str(len(ranged[1]))) == str(len(ranged[1]))


def test_any_range_of_an_empty_object_is_416(s3, module_bucket):
    where = {"Bucket": module_bucket, "Key": "empty-range"}
    s3.put_object(**where, Body=b"")
    answer = refused(lambda: s3.get_object(**where, Range="bytes=0-99"), 416, "InvalidRange")
    assert answer["ResponseMetadata"]["HTTPHeaders"]["content-type"] == "application/xml"


@pytest.mark.parametrize("text", ["bytes=5-2", "bytes=a-b", "lines=1-2", "bytes=0-1,4-5", "bytes="])
@pytest.mark.differs("minio", "it answers 416 to some malformed ranges")
def test_a_malformed_or_multiple_range_is_the_whole_object(s3, ranged, text):
    answer = s3.get_object(**ranged[0], Range=text)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert answer["Body"].read() == ranged[1]


@pytest.mark.over_https
def test_conditional_reads(s3, module_bucket):
    where = {"Bucket": module_bucket, "Key": "conditional"}
    etag = s3.put_object(**where, Body=b"body")["ETag"]
    modified = s3.head_object(**where)["LastModified"]
    before, after = modified - datetime.timedelta(hours=1), modified + datetime.timedelta(seconds=1)
    other = '"00000000000000000000000000000000"'
    for call, missing in ((s3.get_object, "PreconditionFailed"), (s3.head_object, "412")):
        assert call(**where, IfMatch=etag)["ETag"] == etag
        assert call(**where, IfMatch=etag.strip('"'))["ETag"] == etag
        assert call(**where, IfMatch="*")["ETag"] == etag
        refused(lambda: call(**where, IfMatch=other), 412, missing)
        refused(lambda: call(**where, IfNoneMatch=etag), 304, "304")
        assert call(**where, IfNoneMatch=other)["ETag"] == etag
        assert call(**where, IfModifiedSince=before)["ETag"] == etag
        refused(lambda: call(**where, IfModifiedSince=modified), 304, "304")
        assert call(**where, IfUnmodifiedSince=after)["ETag"] == etag
        refused(lambda: call(**where, IfUnmodifiedSince=before), 412, missing)
        # RFC 9110: If-Match wins over If-Unmodified-Since, If-None-Match over If-Modified-Since.
        assert call(**where, IfMatch=etag, IfUnmodifiedSince=before)["ETag"] == etag
        refused(lambda: call(**where, IfNoneMatch=etag, IfModifiedSince=before), 304, "304")


@pytest.mark.differs("minio", "it answers 304 when either condition says so")
def test_if_none_match_silences_if_modified_since(s3, module_bucket):
    where = {"Bucket": module_bucket, "Key": "silenced"}
    etag = s3.put_object(**where, Body=b"body")["ETag"]
    modified = s3.head_object(**where)["LastModified"]
    for call in (s3.get_object, s3.head_object):
        assert call(**where, IfNoneMatch='"0"', IfModifiedSince=modified)["ETag"] == etag


def test_a_conditional_range_serves_the_range(s3, ranged):
    where, body = ranged
    etag = s3.head_object(**where)["ETag"]
    assert s3.get_object(**where, IfMatch=etag, Range="bytes=10-19")["Body"].read() == body[10:20]


def test_put_if_none_match_creates_only_once(s3, module_bucket):
    where = {"Bucket": module_bucket, "Key": "only-once"}
    s3.put_object(**where, Body=b"first", IfNoneMatch="*")
    refused(lambda: s3.put_object(**where, Body=b"second", IfNoneMatch="*"), 412, "PreconditionFailed")
    assert s3.get_object(**where)["Body"].read() == b"first"


def test_put_if_match_replaces_only_what_was_read(s3, module_bucket):
    where = {"Bucket": module_bucket, "Key": "compare-and-swap"}
    etag = s3.put_object(**where, Body=b"one")["ETag"]
    s3.put_object(**where, Body=b"two", IfMatch=etag)
    refused(lambda: s3.put_object(**where, Body=b"three", IfMatch=etag), 412, "PreconditionFailed")
    assert s3.get_object(**where)["Body"].read() == b"two"


def test_racing_creators_have_one_winner(server, module_bucket):
    where, won, lost = {"Bucket": module_bucket, "Key": "race"}, [], []

    def create(n):
        client = s3_client(server, retries={"total_max_attempts": 1})
        try:
            client.put_object(**where, Body=str(n).encode(), IfNoneMatch="*")
            won.append(n)
        except ClientError as error:
            lost.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert set(lost) <= {"PreconditionFailed", "ConditionalRequestConflict"}
    assert len(lost) == 7
    assert s3_client(server).get_object(**where)["Body"].read() == str(won[0]).encode()


@pytest.mark.over_https
def test_presigned_get_overrides_response_headers(server, s3, module_bucket):
    client = s3_client(server, signature_version="s3v4")
    where = {"Bucket": module_bucket, "Key": "presigned key+%.txt"}
    s3.put_object(**where, Body=b"presigned", ContentType="text/plain")
    overrides = {
        "ResponseContentType": "application/json",
        "ResponseContentDisposition": 'attachment; filename="x y.txt"',
        "ResponseCacheControl": "no-cache",
        "ResponseContentLanguage": "de",
        "ResponseContentEncoding": "identity",
    }
    url = client.generate_presigned_url("get_object", Params={**where, **overrides}, ExpiresIn=60)
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"presigned"
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="x y.txt"'
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["Content-Language"] == "de"
        assert answer.headers["Content-Encoding"] == "identity"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url.replace("no-cache", "no-store"))
    assert caught.value.code == 403


@pytest.mark.over_https
def test_presigned_put_then_get(server, module_bucket):
    client = s3_client(server, signature_version="s3v4")
    where = {"Bucket": module_bucket, "Key": "presigned-put"}
    url = client.generate_presigned_url("put_object", Params=where, ExpiresIn=60)
    request = urllib.request.Request(url, data=b"up", method="PUT")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(client.generate_presigned_url("get_object", Params=where)) as answer:
        assert answer.read() == b"up"


# Listing


TAME = ["a/1", "a/2", "a/b/1", "a/b/2", "ab", "b/1", "c", "d e/+%", "d e/z", "z\u00e9", "\u4e2d", "\U0001f600"]
# A name and its "folder" side by side, and empty folder names, which a file system cannot hold.
WILD = TAME + ["a", "a/", "d//x", "d//y", "//", "\uffee", "b/1/"]


@pytest.fixture(
    scope="module",
    params=["tame", pytest.param("wild", marks=pytest.mark.differs("minio", "keys live in a file system"))],
)
def listed(request, s3):
    """(bucket, its keys in the order of a listing)."""
    name, keys = bucket_name("list"), TAME if request.param == "tame" else WILD
    s3.create_bucket(Bucket=name)
    for key in keys:
        s3.put_object(Bucket=name, Key=key, Body=key.encode())
    yield name, by_bytes(keys)
    empty_bucket(s3, name)
    s3.delete_bucket(Bucket=name)


def by_bytes(keys):
    return sorted(keys, key=lambda k: k.encode())


def model(keys, prefix="", delimiter="", after=""):
    """What a listing says, by the words of its documentation: (keys, common prefixes)."""
    found, folded = [], []
    for key in keys:
        if not key.startswith(prefix) or key.encode() <= after.encode():
            continue
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        if end < 0:
            found.append(key)
        elif key[: end + len(delimiter)] not in folded:
            folded.append(key[: end + len(delimiter)])
    return found, folded


def shape(answer):
    """(keys, common prefixes) of one page."""
    return (
        [o["Key"] for o in answer.get("Contents", [])],
        [p["Prefix"] for p in answer.get("CommonPrefixes", [])],
    )


@pytest.mark.parametrize("version", [1, 2])
def test_listing_is_ordered_by_utf8_bytes(s3, listed, version):
    bucket, keys = listed
    answer = (s3.list_objects_v2 if version == 2 else s3.list_objects)(Bucket=bucket)
    assert shape(answer) == (keys, [])
    assert answer["IsTruncated"] is False
    assert answer["MaxKeys"] == 1000
    assert answer["Name"] == bucket
    if version == 2:
        assert answer["KeyCount"] == len(keys)


DELIMITED = pytest.mark.parametrize(
    "prefix,delimiter",
    [
        ("", "/"), ("a", "/"), ("a/", "/"), ("a/b", "/"), ("a/b/", "/"), ("d", "/"), ("d/", "/"),
        ("d e/", "/"), ("/", "/"), ("nothing", "/"), ("z\u00e9", ""), ("a/", ""), ("", ""), ("", "\U0001f600"),
        pytest.param("d//", "/", marks=pytest.mark.differs("minio", "it has no empty folder names")),
        pytest.param("", "b", marks=pytest.mark.differs("minio", "delimiters other than / walk its folders")),
        pytest.param("", "//", marks=pytest.mark.differs("minio", "it has no empty folder names")),
        pytest.param("a", "/b/", marks=pytest.mark.differs("minio", "delimiters other than / walk its folders")),
    ],
)


@DELIMITED
@pytest.mark.parametrize("version", [1, 2])
def test_prefix_and_delimiter(s3, listed, version, prefix, delimiter):
    bucket, keys = listed
    call = s3.list_objects_v2 if version == 2 else s3.list_objects
    answer = call(Bucket=bucket, Prefix=prefix, **({"Delimiter": delimiter} if delimiter else {}))
    want = model(keys, prefix, delimiter)
    assert shape(answer) == want
    # botocore decodes the Prefix of version 2 only.
    assert (answer["Prefix"] if version == 2 else urllib.parse.unquote_plus(answer["Prefix"])) == prefix
    assert answer.get("Delimiter", "") == delimiter
    if version == 2:
        assert answer["KeyCount"] == len(want[0]) + len(want[1])


@DELIMITED
@pytest.mark.parametrize("page", [1, 2, 5])
def test_pages_join_to_the_whole_listing(s3, listed, page, prefix, delimiter):
    bucket, keys = listed
    how = {"Bucket": bucket, "Prefix": prefix, **({"Delimiter": delimiter} if delimiter else {})}
    for name in ("list_objects_v2", "list_objects"):
        if name == "list_objects" and not delimiter:
            continue  # version 1 gives no NextMarker then; test_start_after_and_marker pages by hand
        found, folded = [], []
        for answer in s3.get_paginator(name).paginate(**how, PaginationConfig={"PageSize": page}):
            one, two = shape(answer)
            assert len(one) + len(two) <= page
            found += one
            folded += two
        assert (found, folded) == model(keys, prefix, delimiter)


def test_start_after_and_marker(s3, listed):
    bucket, keys = listed
    for after in ("a/1", "a/11", "!", "\U0010ffff", "zz", *keys):
        want = model(keys, after=after)
        assert shape(s3.list_objects_v2(Bucket=bucket, StartAfter=after)) == want
        assert shape(s3.list_objects(Bucket=bucket, Marker=after)) == want
    answer = s3.list_objects_v2(Bucket=bucket, StartAfter="a/1", Delimiter="/")
    assert answer["StartAfter"] == "a/1"


@pytest.mark.differs("minio", "it says IsTruncated")
def test_max_keys_zero_is_an_empty_answer(s3, listed):
    for call in (s3.list_objects_v2, s3.list_objects):
        answer = call(Bucket=listed[0], MaxKeys=0)
        assert shape(answer) == ([], [])
        assert answer["IsTruncated"] is False


def test_a_wrong_continuation_token_or_max_keys_is_refused(s3, module_bucket):
    refused(lambda: s3.list_objects_v2(Bucket=module_bucket, ContinuationToken=""), 400, "InvalidArgument")
    refused(lambda: s3.list_objects_v2(Bucket=module_bucket, MaxKeys=-1), 400, "InvalidArgument")


def test_fetch_owner_adds_the_owner(s3, listed):
    bucket, _ = listed
    assert "Owner" not in s3.list_objects_v2(Bucket=bucket, MaxKeys=1)["Contents"][0]
    assert s3.list_objects_v2(Bucket=bucket, MaxKeys=1, FetchOwner=True)["Contents"][0]["Owner"]["ID"]


def test_a_long_listing_pages_by_a_thousand(s3, bucket):
    put_empty(s3, bucket, (f"{n:05}" for n in range(1005)))
    first = s3.list_objects_v2(Bucket=bucket, MaxKeys=5000)
    assert (first["KeyCount"], first["IsTruncated"]) == (1000, True)
    rest = s3.list_objects_v2(Bucket=bucket, ContinuationToken=first["NextContinuationToken"])
    assert [o["Key"] for o in rest["Contents"]] == [f"{n:05}" for n in range(1000, 1005)]


@pytest.mark.differs("minio", "keys live in a file system")
def test_odd_keys_list_exactly(s3, bucket):
    for key in odd_keys.ALL:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    for name in ("list_objects_v2", "list_objects"):
        found = []
        for answer in s3.get_paginator(name).paginate(Bucket=bucket, PaginationConfig={"PageSize": 3}):
            found += shape(answer)[0]
        assert found == by_bytes(odd_keys.ALL)


# Bulk delete and copy


def test_delete_objects_reports_or_keeps_quiet(s3, module_bucket):
    for n in range(4):
        s3.put_object(Bucket=module_bucket, Key=f"bulk/{n} +", Body=b"x")
    both = [{"Key": "bulk/0 +"}, {"Key": "bulk/missing"}]
    answer = s3.delete_objects(Bucket=module_bucket, Delete={"Objects": both})
    assert {d["Key"] for d in answer["Deleted"]} == {"bulk/0 +", "bulk/missing"}
    assert "Errors" not in answer
    quiet = {"Objects": [{"Key": "bulk/1 +"}, {"Key": "bulk/2 +", "VersionId": "null"}], "Quiet": True}
    answer = s3.delete_objects(Bucket=module_bucket, Delete=quiet)
    assert "Deleted" not in answer
    assert shape(s3.list_objects_v2(Bucket=module_bucket, Prefix="bulk/"))[0] == ["bulk/3 +"]


@pytest.mark.differs("minio", "it takes a key of any length and says it is gone")
def test_delete_objects_answers_for_each_key(s3, module_bucket):
    s3.put_object(Bucket=module_bucket, Key="bulk-good", Body=b"x")
    answer = s3.delete_objects(
        Bucket=module_bucket, Delete={"Objects": [{"Key": "k" * 1025}, {"Key": "bulk-good"}]}
    )
    assert [d["Key"] for d in answer["Deleted"]] == ["bulk-good"]
    assert [e["Code"] for e in answer["Errors"]] == ["KeyTooLongError"]


def test_a_thousand_keys_are_deleted_at_once(s3, bucket):
    put_empty(s3, bucket, map(str, range(1000)))
    doomed = [{"Key": str(n)} for n in range(1000)]
    assert len(s3.delete_objects(Bucket=bucket, Delete={"Objects": doomed})["Deleted"]) == 1000
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_copy_keeps_or_replaces_metadata(s3, module_bucket):
    source = {"Bucket": module_bucket, "Key": "copy source+%.bin"}
    body = noise(2 * MIB + 1, 9)
    etag = s3.put_object(**source, Body=body, Metadata={"m": "1"}, ContentType="text/x")["ETag"]
    copied = s3.copy_object(Bucket=module_bucket, Key="copied", CopySource=source)
    assert copied["CopyObjectResult"]["ETag"] == etag
    got = s3.get_object(Bucket=module_bucket, Key="copied")
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (body, {"m": "1"}, "text/x")
    s3.copy_object(
        Bucket=module_bucket, Key="copied", CopySource=source,
        MetadataDirective="REPLACE", Metadata={"n": "2"}, ContentType="text/y",
    )
    got = s3.get_object(Bucket=module_bucket, Key="copied")
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (body, {"n": "2"}, "text/y")
    s3.delete_object(**source)
    assert s3.get_object(Bucket=module_bucket, Key="copied")["Body"].read() == body


def test_copy_onto_itself_needs_a_change(s3, module_bucket):
    where = {"Bucket": module_bucket, "Key": "self"}
    s3.put_object(**where, Body=b"self")
    refused(lambda: s3.copy_object(**where, CopySource=where), 400, "InvalidRequest")
    s3.copy_object(**where, CopySource=where, MetadataDirective="REPLACE", Metadata={"now": "changed"})
    assert s3.head_object(**where)["Metadata"] == {"now": "changed"}
    assert s3.get_object(**where)["Body"].read() == b"self"


def test_copy_obeys_conditions_on_its_source(s3, module_bucket, bucket):
    source = {"Bucket": module_bucket, "Key": "copy-if"}
    etag = s3.put_object(**source, Body=b"x")["ETag"]
    target = {"Bucket": bucket, "Key": "t", "CopySource": source}
    refused(lambda: s3.copy_object(**target, CopySourceIfMatch='"0"'), 412, "PreconditionFailed")
    refused(lambda: s3.copy_object(**target, CopySourceIfNoneMatch=etag), 412, "PreconditionFailed")
    s3.copy_object(**target, CopySourceIfMatch=etag)
    assert s3.get_object(Bucket=bucket, Key="t")["Body"].read() == b"x"
    missing = {"Bucket": module_bucket, "Key": "missing"}
    refused(lambda: s3.copy_object(Bucket=bucket, Key="t", CopySource=missing), 404, "NoSuchKey")


# Multipart


def composite(parts):
    digest = hashlib.md5(b"".join(hashlib.md5(p).digest() for p in parts)).hexdigest()
    return f'"{digest}-{len(parts)}"'


@pytest.mark.over_https
@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
def test_transfer_manager_uploads_in_parts(server, module_bucket, checksums):
    client = s3_client(server, request_checksum_calculation=checksums, response_checksum_validation=checksums)
    body = noise(17 * MIB + 5, 17)
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=4)
    key = f"transfer/{checksums}"
    extra = {"Metadata": {"m": "1"}, "ContentType": "text/x"}
    client.upload_fileobj(io.BytesIO(body), module_bucket, key, ExtraArgs=extra, Config=config)
    head = client.head_object(Bucket=module_bucket, Key=key)
    assert head["ETag"] == composite([body[i : i + 5 * MIB] for i in range(0, len(body), 5 * MIB)])
    assert (head["ContentLength"], head["Metadata"], head["ContentType"]) == (len(body), {"m": "1"}, "text/x")
    into = io.BytesIO()
    client.download_fileobj(module_bucket, key, into, Config=config)
    assert into.getvalue() == body
    across = client.get_object(Bucket=module_bucket, Key=key, Range=f"bytes={5 * MIB - 3}-{5 * MIB + 3}")
    assert across["Body"].read() == body[5 * MIB - 3 : 5 * MIB + 4]


def test_multipart_by_hand(s3, module_bucket):
    where = {"Bucket": module_bucket, "Key": "parts by+hand"}
    one, two, three = noise(5 * MIB, 1), noise(6 * MIB, 2), noise(100, 3)
    upload = s3.create_multipart_upload(**where, Metadata={"m": "1"})["UploadId"]
    assert [u["UploadId"] for u in s3.list_multipart_uploads(Bucket=module_bucket)["Uploads"]] == [upload]
    refused(lambda: s3.head_object(**where), 404, "404")
    etags = {}
    for number, body in ((7, three), (1, noise(5 * MIB, 9)), (3, two), (1, one)):  # the second part 1 wins
        etags[number] = s3.upload_part(**where, UploadId=upload, PartNumber=number, Body=body)["ETag"]
        assert etags[number] == '"' + hashlib.md5(body).hexdigest() + '"'
    listed = s3.list_parts(**where, UploadId=upload)
    assert [(p["PartNumber"], p["Size"], p["ETag"]) for p in listed["Parts"]] == [
        (1, len(one), etags[1]), (3, len(two), etags[3]), (7, len(three), etags[7]),
    ]
    page = s3.list_parts(**where, UploadId=upload, MaxParts=1, PartNumberMarker=1)
    assert ([p["PartNumber"] for p in page["Parts"]], page["IsTruncated"]) == ([3], True)
    assert page["NextPartNumberMarker"] == 3
    parts = [{"PartNumber": n, "ETag": etags[n]} for n in (1, 3, 7)]
    done = s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    assert done["ETag"] == composite([one, two, three])
    got = s3.get_object(**where)
    assert got["Body"].read() == one + two + three
    assert (got["ETag"], got["Metadata"]) == (done["ETag"], {"m": "1"})
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=module_bucket)


def test_what_was_never_set_is_answered_as_s3_answers_it(s3, bucket):
    """What infrastructure tools read of every bucket before they do anything."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for acl in (s3.get_bucket_acl(Bucket=bucket), s3.get_object_acl(Bucket=bucket, Key="k")):
        (grant,) = acl["Grants"]
        assert grant["Permission"] == "FULL_CONTROL"
        assert (grant["Grantee"]["Type"], grant["Grantee"]["ID"]) == ("CanonicalUser", acl["Owner"]["ID"])
    assert s3.list_buckets()["Owner"]["ID"] == acl["Owner"]["ID"]
    refused(lambda: s3.put_bucket_acl(Bucket=bucket, ACL="private"), 400, "AccessControlListNotSupported")
    refused(lambda: s3.put_object_acl(Bucket=bucket, Key="k", ACL="private"), 400, "AccessControlListNotSupported")
    refused(lambda: s3.put_object_acl(Bucket=bucket, Key="none", ACL="private"), 404, "NoSuchKey")
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert "LoggingEnabled" not in s3.get_bucket_logging(Bucket=bucket)
    assert "Status" not in s3.get_bucket_accelerate_configuration(Bucket=bucket)
    assert "QueueConfigurations" not in s3.get_bucket_notification_configuration(Bucket=bucket)
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    for listing in (
        s3.list_bucket_inventory_configurations, s3.list_bucket_metrics_configurations,
        s3.list_bucket_analytics_configurations, s3.list_bucket_intelligent_tiering_configurations,
    ):
        assert listing(Bucket=bucket)["IsTruncated"] is False
    refused(lambda: s3.get_bucket_metrics_configuration(Bucket=bucket, Id="a"), 404, "NoSuchConfiguration")
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is False
    for delete in (
        s3.delete_bucket_policy, s3.delete_bucket_cors, s3.delete_bucket_lifecycle, s3.delete_bucket_tagging,
        s3.delete_bucket_encryption, s3.delete_bucket_website, s3.delete_public_access_block,
        s3.delete_bucket_ownership_controls, s3.delete_bucket_replication,
    ):
        assert delete(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204
    refused(lambda: s3.get_bucket_acl(Bucket="not-there-at-all"), 404, "NoSuchBucket")


def tags_of(s3, bucket, key):
    return {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]}


def tag_set(**tags):
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


def test_tags_are_set_with_an_object_or_by_themselves(s3, module_bucket):
    where = dict(Bucket=module_bucket, Key="tagged")
    written = s3.put_object(**where, Body=b"x", Tagging="team=a%20b&empty=&%C3%BC=%3D%40")
    assert tags_of(s3, module_bucket, "tagged") == {"team": "a b", "empty": "", "ü": "=@"}
    found = s3.get_object(**where)
    assert found["TagCount"] == 3 and "x-amz-tagging" not in found["ResponseMetadata"]["HTTPHeaders"]
    s3.put_object_tagging(**where, Tagging=tag_set(one="1", two="+ /=@:"))
    assert tags_of(s3, module_bucket, "tagged") == {"one": "1", "two": "+ /=@:"}
    after = s3.head_object(**where)
    assert (after["ETag"], after["LastModified"]) == (written["ETag"], found["LastModified"])
    s3.delete_object_tagging(**where)
    assert tags_of(s3, module_bucket, "tagged") == {}
    assert "x-amz-tagging-count" not in s3.head_object(**where)["ResponseMetadata"]["HTTPHeaders"]
    s3.put_object(**where, Body=b"y", Tagging="a=b")
    s3.put_object(**where, Body=b"z")
    assert tags_of(s3, module_bucket, "tagged") == {}


def test_tags_in_copies_and_uploads_in_parts(s3, module_bucket):
    s3.put_object(Bucket=module_bucket, Key="tag-source", Body=b"x", Tagging="a=1", Metadata={"m": "1"})
    copy = dict(Bucket=module_bucket, CopySource={"Bucket": module_bucket, "Key": "tag-source"})
    s3.copy_object(**copy, Key="tag-copy")
    assert tags_of(s3, module_bucket, "tag-copy") == {"a": "1"}
    s3.copy_object(**copy, Key="tag-copy", MetadataDirective="REPLACE", Metadata={})
    assert tags_of(s3, module_bucket, "tag-copy") == {"a": "1"}
    s3.copy_object(**copy, Key="tag-copy", TaggingDirective="REPLACE", Tagging="b=2")
    assert tags_of(s3, module_bucket, "tag-copy") == {"b": "2"}
    assert s3.head_object(Bucket=module_bucket, Key="tag-copy")["Metadata"] == {"m": "1"}
    s3.copy_object(**copy, Key="tag-copy", TaggingDirective="REPLACE")
    assert tags_of(s3, module_bucket, "tag-copy") == {}
    where = dict(Bucket=module_bucket, Key="tag-parts")
    upload = s3.create_multipart_upload(**where, Tagging="c=3")["UploadId"]
    part = s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"p")["ETag"]
    s3.complete_multipart_upload(
        **where, UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]}
    )
    assert tags_of(s3, module_bucket, "tag-parts") == {"c": "3"}


def test_tags_over_a_limit_are_refused_and_change_nothing(s3, module_bucket):
    where = dict(Bucket=module_bucket, Key="tag-limits")
    s3.put_object(**where, Body=b"x", Tagging="kept=1")
    full = {f"{n:0128}": "v" * 256 for n in range(10)}

    def put(tags):
        return lambda: s3.put_object_tagging(**where, Tagging={"TagSet": tags})

    for code, tags in (
        ("BadRequest", [{"Key": str(n), "Value": ""} for n in range(11)]),
        ("InvalidTag", [{"Key": "k" * 129, "Value": ""}]),
        ("InvalidTag", [{"Key": "k", "Value": "v" * 257}]),
        ("InvalidTag", [{"Key": "k", "Value": "1"}, {"Key": "k", "Value": "2"}]),
        ("InvalidTag", [{"Key": "aws:k", "Value": "1"}]),
    ):
        refused(put(tags), 400, code)
    refused(lambda: s3.put_object(**where, Body=b"y", Tagging="a=%zz"), 400, "InvalidArgument")
    refused(lambda: s3.put_object(**where, Body=b"y", Tagging="a=1,b=2"), 400, "InvalidTag")
    error = refused(put([{"Key": "a,b", "Value": "1"}]), 400, "InvalidTag")["Error"]
    assert error["TagKey"] == "a,b"
    assert tags_of(s3, module_bucket, "tag-limits") == {"kept": "1"}
    assert s3.get_object(**where)["Body"].read() == b"x"
    s3.put_object_tagging(**where, Tagging=tag_set(**full))
    assert tags_of(s3, module_bucket, "tag-limits") == full
    refused(lambda: s3.get_object_tagging(Bucket=module_bucket, Key="none"), 404, "NoSuchKey")
    refused(lambda: s3.put_object_tagging(Bucket=module_bucket, Key="none", Tagging=tag_set(a="b")), 404, "NoSuchKey")


@pytest.mark.over_https
@pytest.mark.parametrize("algorithm", [None, "CRC32", "SHA256"])
def test_the_transfer_manager_copies_a_large_object_in_parts(s3, module_bucket, bucket, algorithm):
    """`client.copy` and `aws s3 cp` between buckets do this by themselves from 8 MiB on."""
    body = noise(19 * MIB + 3)
    s3.put_object(Bucket=module_bucket, Key="in parts/söurce +", Body=body, Metadata={"a": "b"})
    source = {"Bucket": module_bucket, "Key": "in parts/söurce +"}
    extra = {"ChecksumAlgorithm": algorithm} if algorithm else None
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=6 * MIB, max_concurrency=3)
    s3.copy(source, bucket, "copy", ExtraArgs=extra, Config=config)
    found = s3.head_object(Bucket=bucket, Key="copy", PartNumber=2)
    assert (found["PartsCount"], found["ContentLength"]) == (4, 6 * MIB)
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == body


def test_parts_are_copied_from_ranges_and_mixed_with_uploaded_ones(s3, module_bucket):
    body = noise(12 * MIB)
    s3.put_object(Bucket=module_bucket, Key="ranged", Body=body)
    tag = s3.head_object(Bucket=module_bucket, Key="ranged")["ETag"]
    upload = s3.create_multipart_upload(Bucket=module_bucket, Key="mixed")["UploadId"]
    where = dict(Bucket=module_bucket, Key="mixed", UploadId=upload)
    source = {"Bucket": module_bucket, "Key": "ranged"}
    first = s3.upload_part_copy(
        **where, PartNumber=1, CopySource=source, CopySourceRange=f"bytes=1000-{6 * MIB}", CopySourceIfMatch=tag
    )["CopyPartResult"]
    assert first["ETag"] == f'"{hashlib.md5(body[1000:6 * MIB + 1]).hexdigest()}"'
    assert first["LastModified"].year >= 2024
    second = s3.upload_part(**where, PartNumber=2, Body=b"u" * (5 * MIB))
    last = s3.upload_part_copy(**where, PartNumber=3, CopySource=f"{module_bucket}/ranged")["CopyPartResult"]
    # The source may go and change: the parts are what they were.
    s3.put_object(Bucket=module_bucket, Key="ranged", Body=b"another")
    listed = s3.list_parts(**where)["Parts"]
    assert [part["Size"] for part in listed] == [6 * MIB - 999, 5 * MIB, 12 * MIB]
    parts = [{"PartNumber": n, "ETag": part["ETag"]} for n, part in enumerate((first, second, last), 1)]
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    whole = body[1000 : 6 * MIB + 1] + b"u" * (5 * MIB) + body
    assert s3.get_object(Bucket=module_bucket, Key="mixed")["Body"].read() == whole


def test_a_part_copy_is_refused_for_what_is_wrong_with_its_source(s3, module_bucket):
    s3.put_object(Bucket=module_bucket, Key="five", Body=b"12345")
    tag = s3.head_object(Bucket=module_bucket, Key="five")["ETag"]
    upload = s3.create_multipart_upload(Bucket=module_bucket, Key="refused")["UploadId"]

    def copy(source="five", **how):
        where = {**dict(Bucket=module_bucket, Key="refused", UploadId=upload, PartNumber=1), **how}
        return lambda: s3.upload_part_copy(CopySource={"Bucket": module_bucket, "Key": source}, **where)

    refused(copy("nothing"), 404, "NoSuchKey")
    refused(copy(CopySourceRange="bytes=0-5"), 416, "InvalidRange")
    for text in ("0-2", "bytes=0", "bytes=hello-world", "bytes=3-2", "bytes=0-2,3-4"):
        refused(copy(CopySourceRange=text), 400, "InvalidArgument")
    refused(copy(CopySourceIfMatch='"no"'), 412, "PreconditionFailed")
    refused(copy(CopySourceIfNoneMatch=tag), 412, "PreconditionFailed")
    refused(copy(PartNumber=10_001), 400, "InvalidArgument")
    refused(copy(UploadId="0" * 32), 404, "NoSuchUpload")
    assert "Parts" not in s3.list_parts(Bucket=module_bucket, Key="refused", UploadId=upload)
    copy(CopySourceRange="bytes=0-4", CopySourceIfMatch=tag)()
    s3.abort_multipart_upload(Bucket=module_bucket, Key="refused", UploadId=upload)


def test_an_object_is_read_by_part_number(s3, module_bucket):
    """The CRT begins each download with part 1; warp reads every part this way."""
    where = {"Bucket": module_bucket, "Key": "by part"}
    bodies = [noise(5 * MIB, 1), noise(5 * MIB, 2), noise(100, 3)]
    upload = s3.create_multipart_upload(**where)["UploadId"]
    parts = [
        {"PartNumber": n, "ETag": s3.upload_part(**where, UploadId=upload, PartNumber=n, Body=body)["ETag"]}
        for n, body in enumerate(bodies, 1)
    ]
    s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    whole, begin = b"".join(bodies), 0
    for n, body in enumerate(bodies, 1):
        got = s3.get_object(**where, PartNumber=n)
        assert got["Body"].read() == body
        assert got["ContentRange"] == f"bytes {begin}-{begin + len(body) - 1}/{len(whole)}"
        assert got["PartsCount"] == 3
        head = s3.head_object(**where, PartNumber=n)
        assert (head["ContentLength"], head["PartsCount"]) == (len(body), 3)
        begin += len(body)
    refused(lambda: s3.get_object(**where, PartNumber=4), 416, "InvalidPartNumber")
    assert "PartsCount" not in s3.head_object(**where)


def test_an_object_put_whole_is_its_own_part_1(s3, module_bucket):
    where = {"Bucket": module_bucket, "Key": "one part"}
    s3.put_object(**where, Body=b"0123456789")
    got = s3.get_object(**where, PartNumber=1)
    assert (got["Body"].read(), got["ContentRange"]) == (b"0123456789", "bytes 0-9/10")
    assert "PartsCount" not in got  # AWS: only for what was uploaded in parts
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    refused(lambda: s3.get_object(**where, PartNumber=2), 416, "InvalidPartNumber")


def test_a_completed_upload_may_leave_parts_out(s3, module_bucket):
    where = {"Bucket": module_bucket, "Key": "left-out"}
    upload = s3.create_multipart_upload(**where)["UploadId"]
    etags = {
        n: s3.upload_part(**where, UploadId=upload, PartNumber=n, Body=noise(5 * MIB, n))["ETag"] for n in (1, 2, 3)
    }
    parts = [{"PartNumber": n, "ETag": etags[n]} for n in (1, 3)]
    s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    assert s3.get_object(**where)["Body"].read() == noise(5 * MIB, 1) + noise(5 * MIB, 3)


def test_an_aborted_upload_is_gone(s3, module_bucket):
    where = {"Bucket": module_bucket, "Key": "aborted"}
    upload = s3.create_multipart_upload(**where)["UploadId"]
    s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"part")
    s3.abort_multipart_upload(**where, UploadId=upload)
    for call in (
        lambda: s3.list_parts(**where, UploadId=upload),
        lambda: s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b""),
    ):
        refused(call, 404, "NoSuchUpload")
    refused(lambda: s3.head_object(**where), 404, "404")


def test_multipart_refusals(s3, module_bucket):
    where = {"Bucket": module_bucket, "Key": "refused"}
    upload = s3.create_multipart_upload(**where)["UploadId"]
    etags = {
        n: s3.upload_part(**where, UploadId=upload, PartNumber=n, Body=b"small")["ETag"] for n in (1, 2)
    }

    def complete(*parts):
        listed = {"Parts": [{"PartNumber": n, "ETag": e} for n, e in parts]}
        return lambda: s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=listed)

    refused(complete((1, etags[1]), (2, etags[2])), 400, "EntityTooSmall")
    refused(complete((2, etags[2]), (1, etags[1])), 400, "InvalidPartOrder")
    refused(complete((1, '"00000000000000000000000000000000"')), 400, "InvalidPart")
    refused(complete((9, etags[1])), 400, "InvalidPart")
    complete((2, etags[2]))()
    assert s3.get_object(**where)["Body"].read() == b"small"


@pytest.mark.differs("minio", "its code is InvalidPart")
@pytest.mark.parametrize("number", [0, 10001])
def test_a_part_number_outside_1_to_10000_is_refused(s3, module_bucket, number):
    where = {"Bucket": module_bucket, "Key": "part-number"}
    upload = s3.create_multipart_upload(**where)["UploadId"]
    put = lambda: s3.upload_part(**where, UploadId=upload, PartNumber=number, Body=b"")
    refused(put, 400, "InvalidArgument")


@pytest.mark.differs("minio", "it forgets the upload at once")
def test_complete_is_idempotent(s3, module_bucket):
    where = {"Bucket": module_bucket, "Key": "idempotent"}
    upload = s3.create_multipart_upload(**where)["UploadId"]
    etag = s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"once")["ETag"]
    finish = dict(**where, UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    first = s3.complete_multipart_upload(**finish)
    assert s3.complete_multipart_upload(**finish)["ETag"] == first["ETag"]


def test_complete_if_none_match_does_not_replace(s3, module_bucket):
    where = {"Bucket": module_bucket, "Key": "complete-once"}
    s3.put_object(**where, Body=b"there")
    upload = s3.create_multipart_upload(**where)["UploadId"]
    etag = s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"late")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    refused(
        lambda: s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts, IfNoneMatch="*"),
        412,
        "PreconditionFailed",
    )
    assert s3.get_object(**where)["Body"].read() == b"there"
    s3.abort_multipart_upload(**where, UploadId=upload)


@pytest.mark.differs("minio", "it lists uploads of one key only")
def test_uploads_list_by_prefix_and_page(s3, bucket):
    made = [(k, s3.create_multipart_upload(Bucket=bucket, Key=k)["UploadId"]) for k in ("p/a", "p/a", "p/b", "q")]
    answer = s3.list_multipart_uploads(Bucket=bucket, Prefix="p/")
    assert {(u["Key"], u["UploadId"]) for u in answer["Uploads"]} == set(made[:3])
    found, markers = [], {}
    while True:
        answer = s3.list_multipart_uploads(Bucket=bucket, MaxUploads=1, **markers)
        found += [(u["Key"], u["UploadId"]) for u in answer.get("Uploads", [])]
        if not answer["IsTruncated"]:
            break
        markers = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}
    assert sorted(found) == sorted(made)
    folded = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [p["Prefix"] for p in folded["CommonPrefixes"]] == ["p/"]
    assert [u["Key"] for u in folded["Uploads"]] == ["q"]
