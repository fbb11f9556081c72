"""Encryption at rest with real clients: keys of ours, customers' keys, a bucket's default, and what the drives hold."""

import base64
import hashlib
import io
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from minio import Minio
from minio.sse import SseCustomerKey, SseS3

import server as basalt
from conftest import bucket_name, empty_bucket, noise, s3_client
from test_awscli import aws  # noqa: F401 (a fixture)
from test_rclone import RCLONE, rclone_env
from test_s5cmd import s5cmd_command, s5cmd_env

MIB = 1 << 20
# What must not be found on a drive; longer than any accident.
MARKER = b"the plaintext of a secret that no drive may hold "
SSE = "ServerSideEncryption"
AES256 = {SSE: "AES256"}
BY_DEFAULT = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}


def key_of(seed):
    return hashlib.sha256(seed.encode()).digest()


def customer(key):
    return {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": key}


def source_customer(key):
    return {"CopySourceSSECustomerAlgorithm": "AES256", "CopySourceSSECustomerKey": key}


ONE, OTHER = key_of("one"), key_of("other")


def refused(status, call, **parameters):
    with pytest.raises(ClientError) as error:
        call(**parameters)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == status, error.value
    return error.value.response["Error"]


def body(s3, bucket, key, **parameters):
    return s3.get_object(Bucket=bucket, Key=key, **parameters)["Body"].read()


@pytest.fixture
def own(s3):
    name = bucket_name("sealed")
    s3.create_bucket(Bucket=name)
    yield name
    empty_bucket(s3, name)
    s3.delete_bucket(Bucket=name)


@pytest.mark.over_https
def test_sizes_and_ranges_come_back_whoever_holds_the_key(server, module_bucket):
    s3 = s3_client(server)
    for how in (AES256, customer(ONE)):
        read = {} if how is AES256 else how
        for size in (0, 1, 1023, 65535, 65536, 65537, 200_000, 5 * MIB + 3):
            data = noise(size, size)
            put = s3.put_object(Bucket=module_bucket, Key="sized", Body=data, **how)
            md5 = f'"{hashlib.md5(data).hexdigest()}"'
            assert (put["ETag"] == md5) == (how is AES256)
            head = s3.head_object(Bucket=module_bucket, Key="sized", **read)
            assert (head["ContentLength"], head["ETag"]) == (size, put["ETag"])
            assert head.get(SSE) == ("AES256" if how is AES256 else None)
            assert body(s3, module_bucket, "sized", **read) == data
            for start, end in ((0, 1), (65535, 65537), (65536, 131072), (100, 150_001), (size - 7, size)):
                if 0 <= start < end <= size:
                    found = body(s3, module_bucket, "sized", Range=f"bytes={start}-{end - 1}", **read)
                    assert found == data[start:end], (size, start, end)
    listed = s3.list_objects_v2(Bucket=module_bucket, Prefix="sized")["Contents"][0]
    assert listed["Size"] == 5 * MIB + 3


def test_a_customers_object_opens_with_its_key_only(s3, module_bucket):
    where = {"Bucket": module_bucket, "Key": "customer"}
    put = s3.put_object(Body=b"hello", **where, **customer(ONE))
    md5 = base64.b64encode(hashlib.md5(ONE).digest()).decode()
    assert (put["SSECustomerAlgorithm"], put["SSECustomerKeyMD5"]) == ("AES256", md5)
    assert body(s3, **key_args(where), **customer(ONE)) == b"hello"
    assert refused(400, s3.get_object, **where)["Code"] == "InvalidRequest"
    assert refused(403, s3.get_object, **where, **customer(OTHER))["Code"] == "AccessDenied"
    refused(400, s3.head_object, **where)
    refused(403, s3.head_object, **where, **customer(OTHER))
    attributes = {"ObjectAttributes": ["ObjectSize", "ETag"]}
    refused(400, s3.get_object_attributes, **where, **attributes)
    # boto3 encodes keys for every call but this one.
    encoded = {**customer(base64.b64encode(ONE).decode()), "SSECustomerKeyMD5": md5}
    assert s3.get_object_attributes(**where, **attributes, **encoded)["ObjectSize"] == 5
    s3.put_object(Bucket=module_bucket, Key="plain", Body=b"v")
    unfit = refused(400, s3.get_object, Bucket=module_bucket, Key="plain", **customer(ONE))
    assert unfit["Message"] == "The encryption parameters are not applicable to this object."


def key_args(where):
    return {"bucket": where["Bucket"], "key": where["Key"]}


def test_a_multipart_upload_keeps_its_key_over_all_parts(s3, module_bucket):
    where = {"Bucket": module_bucket, "Key": "parts"}
    data = noise(11 * MIB + 5)
    upload = s3.create_multipart_upload(**where, **customer(ONE))["UploadId"]
    pieces = [data[at : at + 5 * MIB] for at in range(0, len(data), 5 * MIB)]
    refused(400, s3.upload_part, **where, UploadId=upload, PartNumber=1, Body=b"x")
    refused(400, s3.upload_part, **where, UploadId=upload, PartNumber=1, Body=b"x", **customer(OTHER))
    parts = []
    for number, piece in enumerate(pieces, 1):
        part = s3.upload_part(**where, UploadId=upload, PartNumber=number, Body=piece, **customer(ONE))
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    done = {"UploadId": upload, "MultipartUpload": {"Parts": parts}}
    refused(400, s3.complete_multipart_upload, **where, **done, **customer(OTHER))
    s3.complete_multipart_upload(**where, **done, **customer(ONE))
    assert body(s3, module_bucket, "parts", **customer(ONE)) == data
    across = f"bytes={5 * MIB - 3}-{10 * MIB + 3}"
    assert body(s3, module_bucket, "parts", Range=across, **customer(ONE)) == data[5 * MIB - 3 : 10 * MIB + 4]
    second = s3.get_object(**where, PartNumber=2, **customer(ONE))
    assert (second["PartsCount"], second["Body"].read()) == (3, pieces[1])
    refused(400, s3.get_object, **where)


@pytest.mark.over_https
def test_copies_change_who_holds_the_key(server, module_bucket):
    s3 = s3_client(server)
    data = noise(300_000, 7)
    holders = {"plain": {}, "ours": AES256, "one": customer(ONE), "other": customer(OTHER)}
    for source, made_with in holders.items():
        more = {"Metadata": {"m": "1"}, "Tagging": "a=1", "ChecksumAlgorithm": "SHA256"}
        s3.put_object(Bucket=module_bucket, Key=source, Body=data, **more, **made_with)
        for target, how in holders.items():
            from_key = source_customer(made_with["SSECustomerKey"]) if "SSECustomerKey" in made_with else {}
            copied = {"Bucket": module_bucket, "Key": "copy", "CopySource": f"{module_bucket}/{source}"}
            s3.copy_object(**copied, **how, **from_key)
            read = how if "SSECustomerKey" in how else {}
            found = s3.get_object(Bucket=module_bucket, Key="copy", ChecksumMode="ENABLED", **read)
            assert found["Body"].read() == data, (source, target)
            assert (found["Metadata"], found["TagCount"]) == ({"m": "1"}, 1), (source, target)
            # What was encrypted does not become plain by being copied.
            by = "AES256" if target == "plain" and source != "plain" else how.get(SSE)
            assert found.get(SSE) == by and "ChecksumSHA256" in found, (source, target)
    copied = {"Bucket": module_bucket, "Key": "copy", "CopySource": f"{module_bucket}/one"}
    refused(400, s3.copy_object, **copied)
    refused(403, s3.copy_object, **copied, **source_customer(OTHER))
    # A key is changed where the object lies.
    itself = {"Bucket": module_bucket, "Key": "one", "CopySource": f"{module_bucket}/one"}
    s3.copy_object(**itself, **source_customer(ONE), **customer(OTHER))
    assert body(s3, module_bucket, "one", **customer(OTHER)) == data


def test_parts_are_copied_between_keys(s3, module_bucket):
    data = noise(12 * MIB, 3)
    s3.put_object(Bucket=module_bucket, Key="part-source", Body=data, **customer(ONE))
    where = {"Bucket": module_bucket, "Key": "part-target"}
    upload = s3.create_multipart_upload(**where, **customer(OTHER))["UploadId"]
    parts = []
    for number, (start, end) in enumerate(((0, 6 * MIB), (6 * MIB, 12 * MIB)), 1):
        part = s3.upload_part_copy(
            **where, UploadId=upload, PartNumber=number, CopySource=f"{module_bucket}/part-source",
            CopySourceRange=f"bytes={start}-{end - 1}", **customer(OTHER), **source_customer(ONE),
        )  # fmt: skip
        parts.append({"PartNumber": number, "ETag": part["CopyPartResult"]["ETag"]})
    done = {"UploadId": upload, "MultipartUpload": {"Parts": parts}}
    s3.complete_multipart_upload(**where, **done, **customer(OTHER))
    assert body(s3, module_bucket, "part-target", **customer(OTHER)) == data


def test_a_default_encrypts_and_can_refuse_customers_keys(s3, own):
    assert refused(404, s3.get_bucket_encryption, Bucket=own)["Code"].startswith("ServerSideEncryptionConfig")
    s3.put_bucket_encryption(Bucket=own, ServerSideEncryptionConfiguration=BY_DEFAULT)
    rule = s3.get_bucket_encryption(Bucket=own)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert s3.put_object(Bucket=own, Key="k", Body=b"v")[SSE] == "AES256"
    assert s3.put_object(Bucket=own, Key="c", Body=b"v", **customer(ONE)).get(SSE) is None
    blocked = {"Rules": [{"BlockedEncryptionTypes": {"EncryptionType": ["SSE-C"]}}]}
    s3.put_bucket_encryption(Bucket=own, ServerSideEncryptionConfiguration=blocked)
    refused(403, s3.put_object, Bucket=own, Key="c", Body=b"w", **customer(ONE))
    assert body(s3, own, "c", **customer(ONE)) == b"v"
    kms = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]}
    refused(501, s3.put_bucket_encryption, Bucket=own, ServerSideEncryptionConfiguration=kms)
    s3.delete_bucket_encryption(Bucket=own)
    assert s3.put_object(Bucket=own, Key="k", Body=b"v").get(SSE) is None


def test_a_presigned_link_of_a_customers_object_needs_the_key_in_the_request(s3, module_bucket):
    s3.put_object(Bucket=module_bucket, Key="linked", Body=b"hello", **customer(ONE))
    # The key's digest stands in the signature, the key in the request: a link gives nothing away.
    link = s3.generate_presigned_url(
        "get_object", Params={"Bucket": module_bucket, "Key": "linked", **customer(ONE)}, ExpiresIn=60
    )
    key, md5 = (base64.b64encode(bits).decode() for bits in (ONE, hashlib.md5(ONE).digest()))
    assert key not in link
    prefix = "x-amz-server-side-encryption-customer-"
    headers = {f"{prefix}algorithm": "AES256", f"{prefix}key": key, f"{prefix}key-MD5": md5}
    with urllib.request.urlopen(urllib.request.Request(link, headers=headers), timeout=30) as answer:
        assert answer.read() == b"hello"
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(link, timeout=30)
    assert error.value.code == 403


def test_the_drives_hold_no_plaintext(new_server):
    one = new_server("sealed-drives", drives=3)
    s3 = s3_client(one)
    s3.create_bucket(Bucket="bkt")
    data = MARKER * (3 * MIB // len(MARKER))
    for size, name in ((500, "small"), (100_000, "middle"), (len(data), "large")):
        s3.put_object(Bucket="bkt", Key=f"{name}-ours", Body=data[:size], **AES256)
        s3.put_object(Bucket="bkt", Key=f"{name}-theirs", Body=data[:size], **customer(ONE))
    s3.put_bucket_encryption(Bucket="bkt", ServerSideEncryptionConfiguration=BY_DEFAULT)
    s3.put_object(Bucket="bkt", Key="default", Body=data)
    s3.put_object(Bucket="bkt", Key="one", Body=b"x" * 100, **customer(ONE))
    assert one.stop() == 0
    assert holders(one, MARKER) == []
    assert holders(one, ONE) == [], "a customer's key is on a drive"
    one.start()
    assert body(s3, "bkt", "large-ours") == data
    assert body(s3, "bkt", "small-theirs", **customer(ONE)) == data[:500]
    assert base64.b64encode(ONE).decode() not in one.log_path.read_text()
    # The search itself finds what is there.
    s3.delete_bucket_encryption(Bucket="bkt")
    s3.put_object(Bucket="bkt", Key="plain", Body=data)
    assert one.stop() == 0
    assert holders(one, MARKER) != []


def holders(one, wanted):
    """The files of a server's drives that hold some bytes."""
    found = []
    for drive in one.drives:
        for path in sorted(p for p in Path(drive).rglob("*") if p.is_file()):
            if holds(path, wanted):
                found.append(str(path.relative_to(drive)))
    return found


def holds(path, wanted):
    tail = b""
    with open(path, "rb") as file:
        while piece := file.read(8 * MIB):
            if wanted in tail + piece:
                return True
            tail = piece[-len(wanted) :]
    return False


def test_awscli_encrypts_in_one_piece_and_in_parts(aws, s3, module_bucket, tmp_path):  # noqa: F811
    key_path = tmp_path / "key"
    key_path.write_bytes(ONE)
    for name, size in (("small", 1000), ("large", 13 * MIB + 1)):
        path = tmp_path / name
        path.write_bytes(noise(size, size))
        aws("s3", "cp", "--sse", "AES256", path, f"s3://{module_bucket}/aws/{name}-ours")
        assert s3.head_object(Bucket=module_bucket, Key=f"aws/{name}-ours")[SSE] == "AES256"
        theirs = f"s3://{module_bucket}/aws/{name}-theirs"
        by_key = ("--sse-c", "AES256", "--sse-c-key", f"fileb://{key_path}")
        aws("s3", "cp", *by_key, path, theirs)
        aws("s3", "cp", *by_key, theirs, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == path.read_bytes()
        assert aws("s3", "cp", theirs, tmp_path / "none", check=False).returncode != 0
        aws("s3", "cp", f"s3://{module_bucket}/aws/{name}-ours", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == path.read_bytes()


def test_rclone_reads_what_it_wrote_with_its_key(server, module_bucket, tmp_path):
    def rclone(*words, key=ONE):
        by_key = ("--s3-sse-customer-algorithm", "AES256")
        by_key += ("--s3-sse-customer-key-base64", base64.b64encode(key).decode())
        command = [RCLONE, "--retries", "1", "--low-level-retries", "2", *by_key, *map(str, words)]
        return subprocess.run(command, env=rclone_env(server), capture_output=True, text=True, timeout=240)

    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "small").write_bytes(b"hello")
    (tree / "large").write_bytes(noise(13 * MIB))
    where = f"e2e:{module_bucket}/rclone"
    parts = ("--s3-upload-cutoff", "8M", "--s3-chunk-size", "5M")
    for words in ((*parts, "sync", tree, where), ("check", "--download", tree, where)):
        done = rclone(*words)
        assert done.returncode == 0, f"{words}: {done.stderr}"
    assert rclone("copyto", f"{where}/small", tmp_path / "none", key=OTHER).returncode != 0


def test_minio_py_encrypts_in_one_piece_and_in_parts(shared, module_bucket):
    tls = shared.over_tls()  # minio-py sends no key by http
    client = Minio(f"{tls.host}:{tls.port}", basalt.ACCESS_KEY, basalt.SECRET_KEY, secure=True)
    for sse in (SseS3(), SseCustomerKey(ONE)):
        for size in (1000, 11 * MIB):
            data = noise(size, size)
            client.put_object(module_bucket, "minio-py", io.BytesIO(data), size, part_size=5 * MIB, sse=sse)
            answer = client.get_object(module_bucket, "minio-py", ssec=sse if isinstance(sse, SseCustomerKey) else None)
            found = answer.read()
            answer.close()
            answer.release_conn()
            assert found == data, (type(sse), size)


def test_s5cmd_asks_for_our_keys(server, s3, module_bucket, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(noise(12 * MIB))
    where = f"s3://{module_bucket}/s5cmd"
    for words in (("cp", "--sse", "AES256", "--part-size", "5", path, where), ("cp", where, tmp_path / "back")):
        done = subprocess.run(s5cmd_command(server, *words), env=s5cmd_env(), capture_output=True, timeout=240)
        assert done.returncode == 0, f"{words}: {done.stderr}"
    assert s3.head_object(Bucket=module_bucket, Key="s5cmd")[SSE] == "AES256"
    assert (tmp_path / "back").read_bytes() == path.read_bytes()


NOT_THE_POOLS = "the master key is not the one that this pool's secrets are sealed under"
NEW_KEY = "--accept-new-master-key"


def test_another_master_key_is_refused_at_every_start_unless_it_is_accepted(tmp_path):
    ours, another = tmp_path / "ours.key", tmp_path / "another.key"
    ours.write_text("ab" * 32)
    another.write_text("cd" * 32)
    server = basalt.Server("other-master-key", env={"BASALT_MASTER_KEY_FILE": ours})
    where = {"Bucket": "sealed-elsewhere"}
    try:
        server.start()
        s3 = s3_client(server, retries={"max_attempts": 0})
        s3.create_bucket(**where)
        s3.put_object(Key="ours", Body=b"of the pool", **where, **AES256)
        s3.put_object(Key="theirs", Body=b"of a customer", **where, **customer(ONE))
        assert not any((server.drives[0] / "identity").glob("master.key"))
        server.stop()
        # Twice: the first start must leave nothing behind that the second one takes for the pool's.
        server.env["BASALT_MASTER_KEY_FILE"] = another
        for _ in range(2):
            with pytest.raises(AssertionError, match=NOT_THE_POOLS + f"(?s:.)*{NEW_KEY}"):
                server.start()
        server.env["BASALT_MASTER_KEY_FILE"] = ours
        server.start()
        assert body(s3, "sealed-elsewhere", "ours") == b"of the pool"
        server.stop()
        server.env["BASALT_MASTER_KEY_FILE"], server.args = another, [NEW_KEY]
        server.start()
        assert "the master key is another from now on" in server.out_path.read_text()
        assert refused(500, s3.get_object, Key="ours", **where)["Code"] == "InternalError"
        assert body(s3, "sealed-elsewhere", "theirs", **customer(ONE)) == b"of a customer"
        s3.put_object(Key="since", Body=b"of the new key", **where, **AES256)
        server.stop()
        server.args = []
        server.start()
        assert body(s3, "sealed-elsewhere", "since") == b"of the new key"
        server.stop()
        server.env["BASALT_MASTER_KEY_FILE"] = ours
        with pytest.raises(AssertionError, match=NOT_THE_POOLS):
            server.start()
    finally:
        server.stop()
        server.remove()


def test_a_key_on_the_drives_is_told_from_a_file_and_its_loss_is_accepted_by_who_says_so(new_server, tmp_path):
    another = tmp_path / "another.key"
    another.write_text("cd" * 32)
    three = new_server("lost-master-key", drives=3)
    copies = [drive / "identity" / "master.key" for drive in three.drives]
    s3 = s3_client(three, retries={"max_attempts": 0})
    s3.create_bucket(Bucket="bkt")
    s3.put_object(Bucket="bkt", Key="ours", Body=b"of the pool", **AES256)
    three.stop()
    kept = copies[0].read_bytes()
    three.env["BASALT_MASTER_KEY_FILE"] = another
    with pytest.raises(AssertionError, match=NOT_THE_POOLS):
        three.start()
    del three.env["BASALT_MASTER_KEY_FILE"]
    copies[0].unlink()
    three.start()
    assert body(s3, "bkt", "ours") == b"of the pool"
    assert [copy.read_bytes() for copy in copies] == [kept] * 3
    three.stop()
    for copy in copies:
        copy.unlink()
    with pytest.raises(AssertionError, match=f"no drive has the master key(?s:.)*{NEW_KEY}"):
        three.start()
    three.args = [NEW_KEY]
    three.start()
    made = copies[0].read_bytes()
    assert made != kept and [copy.read_bytes() for copy in copies] == [made] * 3
    refused(500, s3.get_object, Bucket="bkt", Key="ours")
    three.args = []
    three.restart()
    # The key is found again: it opens what it sealed, and nobody loses what was sealed since without saying so.
    three.stop()
    for copy in copies:
        copy.write_bytes(kept)
    with pytest.raises(AssertionError, match=NOT_THE_POOLS):
        three.start()
