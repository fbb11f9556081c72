"""minio-py: what a program written for MinIO does."""

import datetime
import io
import urllib.request

import pytest
from minio import Minio
from minio.commonconfig import CopySource, REPLACE
from minio.deleteobjects import DeleteObject
from minio.error import S3Error

import odd_keys
import server as basalt
from conftest import noise

MIB = 1 << 20


@pytest.fixture(scope="module")
def minio(server):
    return Minio(
        endpoint=f"{server.host}:{server.port}",
        access_key=basalt.ACCESS_KEY,
        secret_key=basalt.SECRET_KEY,
        secure=server.secure,
    )


def read(response):
    try:
        return response.read()
    finally:
        response.close()
        response.release_conn()


def test_buckets(minio):
    minio.make_bucket("minio-py-bucket")
    assert minio.bucket_exists("minio-py-bucket")
    assert "minio-py-bucket" in [b.name for b in minio.list_buckets()]
    with pytest.raises(S3Error) as caught:
        minio.make_bucket("minio-py-bucket")
    assert caught.value.code == "BucketAlreadyOwnedByYou"
    minio.remove_bucket("minio-py-bucket")
    assert not minio.bucket_exists("minio-py-bucket")


@pytest.mark.over_https
def test_put_get_and_stat(minio, module_bucket):
    for size in (0, 1000, 11 * MIB):
        body = noise(size, size)
        minio.put_object(
            module_bucket, f"obj/{size}", io.BytesIO(body), size, content_type="text/x", metadata={"k": "v"}
        )
        assert read(minio.get_object(module_bucket, f"obj/{size}")) == body
        stat = minio.stat_object(module_bucket, f"obj/{size}")
        assert (stat.size, stat.content_type, stat.metadata["x-amz-meta-k"]) == (size, "text/x", "v")


@pytest.mark.over_https
def test_put_of_unknown_length_goes_in_parts(minio, module_bucket):
    body = noise(11 * MIB, 1)
    minio.put_object(module_bucket, "unknown", io.BytesIO(body), -1, part_size=5 * MIB)
    assert read(minio.get_object(module_bucket, "unknown")) == body
    assert minio.stat_object(module_bucket, "unknown").etag.endswith("-3")


@pytest.mark.over_https
def test_files_and_ranges(minio, module_bucket, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(noise(300_000))
    minio.fput_object(module_bucket, "file name+%.bin", str(path))
    minio.fget_object(module_bucket, "file name+%.bin", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == path.read_bytes()
    assert read(minio.get_object(module_bucket, "file name+%.bin", offset=70_000, length=10)) == path.read_bytes()[70_000:70_010]


def test_list_and_remove_many(minio, module_bucket):
    names = sorted((f"many/{k}" for k in odd_keys.PLAIN if "\\" not in k), key=str.encode)
    for name in names:
        minio.put_object(module_bucket, name, io.BytesIO(b"x"), 1)
    assert [o.object_name for o in minio.list_objects(module_bucket, "many/", recursive=True)] == names
    folded = [o.object_name for o in minio.list_objects(module_bucket, "many/")]
    assert "many/dir/" in folded
    assert "many/dir/file" not in folded
    v1 = minio.list_objects(module_bucket, "many/", recursive=True, use_api_v1=True)
    assert [o.object_name for o in v1] == names
    assert not list(minio.remove_objects(module_bucket, [DeleteObject(n) for n in names]))
    assert not list(minio.list_objects(module_bucket, "many/", recursive=True))


def test_copy(minio, module_bucket):
    minio.put_object(module_bucket, "copy from", io.BytesIO(b"copied"), 6)
    minio.copy_object(module_bucket, "copy-to", CopySource(module_bucket, "copy from"))
    assert read(minio.get_object(module_bucket, "copy-to")) == b"copied"
    minio.copy_object(
        module_bucket, "copy-to", CopySource(module_bucket, "copy from"),
        metadata={"new": "1"}, metadata_directive=REPLACE,
    )
    assert minio.stat_object(module_bucket, "copy-to").metadata["x-amz-meta-new"] == "1"


@pytest.mark.over_https
def test_presigned(minio, module_bucket):
    hour = datetime.timedelta(hours=1)
    url = minio.presigned_put_object(module_bucket, "pre signed", expires=hour)
    with urllib.request.urlopen(urllib.request.Request(url, data=b"pre", method="PUT")) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(minio.presigned_get_object(module_bucket, "pre signed", expires=hour)) as answer:
        assert answer.read() == b"pre"


def test_errors(minio, module_bucket):
    for call, code in (
        (lambda: minio.stat_object(module_bucket, "missing"), "NoSuchKey"),
        (lambda: minio.get_object(module_bucket, "missing"), "NoSuchKey"),
        (lambda: minio.get_object("no-such-bucket-of-ours", "k"), "NoSuchBucket"),
    ):
        with pytest.raises(S3Error) as caught:
            call()
        assert caught.value.code == code
