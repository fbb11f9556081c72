"""The AWS Common Runtime by way of the PyTorch connector's client: part-sized ranges, suffix ranges, zero-byte objects.

`s3torchconnector` itself needs PyTorch, gigabytes for what is above this client; every request it makes comes from here.
The runtime trusts only the machine's certificates, so it is tested over http. mountpoint-s3 is this same client.
"""

import pytest
from s3torchconnectorclient._mountpoint_s3_client import MountpointS3Client, S3Exception

import server as basalt
from conftest import noise

MIB = 1 << 20


@pytest.fixture(scope="module")
def crt(server):
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", basalt.ACCESS_KEY)
    patch.setenv("AWS_SECRET_ACCESS_KEY", basalt.SECRET_KEY)
    yield MountpointS3Client(
        region=basalt.REGION, endpoint=server.endpoint, force_path_style=True, part_size=8 * MIB, max_attempts=1
    )
    patch.undo()


def put(crt, bucket, key, body):
    stream = crt.put_object(bucket, key)
    for start in range(0, len(body), MIB):
        stream.write(body[start : start + MIB])
    stream.close()


@pytest.mark.parametrize("size", [0, 1, 8 * MIB, 20 * MIB + 5])
def test_an_object_of_any_size_is_written_read_and_found(crt, module_bucket, size):
    body, key = noise(size, size), f"crt/{size}"
    put(crt, module_bucket, key, body)
    assert b"".join(crt.get_object(module_bucket, key)) == body
    assert crt.head_object(module_bucket, key).size == size


def test_ranges_as_a_training_loader_reads_them(crt, module_bucket):
    body = noise(20 * MIB)
    put(crt, module_bucket, "crt/ranged", body)
    for start, end in ((0, 1), (7 * MIB, 9 * MIB), (20 * MIB - 10, 20 * MIB), (8 * MIB, 16 * MIB)):
        assert b"".join(crt.get_object(module_bucket, "crt/ranged", start, end)) == body[start:end]


def test_listing_pages_and_prefixes(crt, s3, bucket):
    for number in range(7):
        s3.put_object(Bucket=bucket, Key=f"set/{number}/sample", Body=b"x")
    pages = list(crt.list_objects(bucket, prefix="set/", delimiter="/", max_keys=3))
    assert [len(page.common_prefixes) for page in pages] == [3, 3, 1]
    found = [info.key for page in crt.list_objects(bucket, max_keys=2) for info in page.object_info]
    assert found == [f"set/{number}/sample" for number in range(7)]


def test_copy_delete_and_a_missing_object(crt, module_bucket):
    put(crt, module_bucket, "crt/source", b"value")
    crt.copy_object(module_bucket, "crt/source", module_bucket, "crt/copy")
    crt.delete_object(module_bucket, "crt/source")
    assert b"".join(crt.get_object(module_bucket, "crt/copy")) == b"value"
    with pytest.raises(S3Exception):
        b"".join(crt.get_object(module_bucket, "crt/source"))


def test_ranges_as_mountpoint_reads_ahead(connect, s3, module_bucket):
    """A file system's prefetch: growing ranges of one pinned ETag, and a HEAD for the last bytes."""
    body = noise(3 * MIB)
    etag = s3.put_object(Bucket=module_bucket, Key="mount", Body=body)["ETag"]
    path = f"/{module_bucket}/mount"
    with connect() as wire:
        at, step = 0, 128 << 10
        while at < len(body):
            last = min(at + step, len(body)) - 1
            headers = {"range": f"bytes={at}-{last}", "if-match": etag, "x-amz-checksum-mode": "enabled"}
            answer = wire.request("GET", path, headers=headers)
            assert answer.status == 206, answer
            assert answer.body == body[at : last + 1]
            assert answer.headers["content-range"] == f"bytes {at}-{last}/{len(body)}"
            assert answer.headers["etag"] == etag
            at, step = last + 1, step * 2
        suffix = wire.request("HEAD", path, headers={"range": "bytes=-100"})
        assert (suffix.status, suffix.headers["content-length"]) == (206, "100")
        changed = wire.request("GET", path, headers={"range": "bytes=0-9", "if-match": '"other"'})
        assert (changed.status, changed.code) == (412, "PreconditionFailed")


def test_a_range_of_an_empty_object_is_the_error_that_the_runtime_looks_for(connect, s3, module_bucket):
    s3.put_object(Bucket=module_bucket, Key="zero", Body=b"")
    with connect() as wire:
        answer = wire.request("GET", f"/{module_bucket}/zero", headers={"range": "bytes=0-8388607"})
    assert (answer.status, answer.code) == (416, "InvalidRange")
    assert answer.headers["content-type"] == "application/xml"
    assert b"<ActualObjectSize>0</ActualObjectSize>" in answer.body
