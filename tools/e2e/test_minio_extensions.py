"""What MinIO adds to S3 and `warp` uses: archives unpacked as they are put, members read out of archives, listings
with metadata, appends; by minio-py, and over a bare connection where it has no call for it."""

import gzip
import hashlib
import io
import tarfile
import zipfile

import pytest
from minio import Minio
from minio.commonconfig import SnowballObject
from minio.error import S3Error

import server as basalt
import sigv4
from conftest import noise

MIB = 1 << 20


@pytest.fixture(scope="module")
def minio(server):
    return Minio(
        endpoint=f"{server.host}:{server.port}",
        access_key=basalt.ACCESS_KEY,
        secret_key=basalt.SECRET_KEY,
        secure=False,
    )


def read(response):
    try:
        return response.read()
    finally:
        response.close()
        response.release_conn()


def tar_of(members, **how):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **how) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if data is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def put_archive(connect, bucket, body, key="x.tar", **headers):
    headers = {"x-amz-meta-snowball-auto-extract": "true", **headers}
    with connect() as w:
        return w.request("PUT", sigv4.object_path(bucket, key), headers=headers, body=body)


def bodies(s3, bucket, prefix):
    found = s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return {o["Key"]: s3.get_object(Bucket=bucket, Key=o["Key"])["Body"].read() for o in found}


@pytest.mark.parametrize("compression", [False, True])
def test_minio_py_puts_many_objects_in_one_archive(minio, s3, module_bucket, compression):
    prefix = f"snowball-{compression}/"
    objects = {f"{prefix}{n}/obj": noise(n * 7_000, n) for n in range(40)}
    listed = [
        SnowballObject(key, data=io.BytesIO(body), length=len(body)) for key, body in objects.items()
    ]
    minio.upload_snowball_objects(module_bucket, listed, compression=compression)
    assert bodies(s3, module_bucket, prefix) == objects


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar_is_unpacked(connect, s3, module_bucket, form):
    long = "d" * 90 + "/" + "n" * 95
    members = [("./a//b", b"1"), (long, b"2"), ("dir", None), ("big", noise(3 * MIB, 1)), ("a/b", b"last")]
    body = tar_of(members, format=form)
    answer = put_archive(connect, module_bucket, body, **{"x-amz-meta-minio-snowball-prefix": f"form{form}/"})
    assert (answer.status, answer.headers["etag"]) == (200, f'"{hashlib.md5(body).hexdigest()}"')
    expected = {"a/b": b"last", long: b"2", "dir/": b"", "big": noise(3 * MIB, 1)}
    assert bodies(s3, module_bucket, f"form{form}/") == {f"form{form}/{k}": v for k, v in expected.items()}
    with pytest.raises(s3.exceptions.ClientError):
        s3.head_object(Bucket=module_bucket, Key="x.tar")


def test_directories_may_be_left_out_and_members_bring_headers(connect, s3, module_bucket):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("headers/dir")
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
        info = tarfile.TarInfo("headers/obj")
        info.pax_headers = {"minio.metadata.content-type": "a/b", "minio.metadata.x-amz-meta-m": "1"}
        tar.addfile(info)
    ignore = {"x-amz-meta-minio-snowball-ignore-dirs": "true"}
    assert put_archive(connect, module_bucket, out.getvalue(), **ignore).status == 200
    assert list(bodies(s3, module_bucket, "headers/")) == ["headers/obj"]
    head = s3.head_object(Bucket=module_bucket, Key="headers/obj")
    assert (head["ContentType"], head["Metadata"]) == ("a/b", {"m": "1"})


def test_what_is_no_archive_is_refused(connect, s3, module_bucket):
    whole = tar_of([("cut/1", b"x" * 1000), ("cut/2", b"y" * 1000)])
    for body, key in ((b"not a tar archive" * 100, "x.tar"), (whole[:2000], "cut.tar")):
        answer = put_archive(connect, module_bucket, body, key)
        assert (answer.status, answer.code) == (400, "BadRequest")
    assert list(bodies(s3, module_bucket, "cut/")) == ["cut/1"], "members before the fault stay"
    answer = put_archive(connect, module_bucket, bytes([0x28, 0xB5, 0x2F, 0xFD]) + bytes(100))
    assert (answer.status, answer.code) == (501, "NotImplemented")
    answer = put_archive(connect, module_bucket, gzip.compress(whole)[:-20])
    assert (answer.status, answer.code) == (400, "BadRequest")


def test_a_member_that_is_refused_ends_the_archive_unless_errors_are_ignored(connect, s3, module_bucket):
    body = tar_of([("err/1", b"1"), ("err/" + "k" * 1100, b"2"), ("err/3", b"3")])
    answer = put_archive(connect, module_bucket, body)
    assert (answer.status, answer.code) == (400, "KeyTooLongError")
    assert "err/3" not in bodies(s3, module_bucket, "err/")
    ignore = {"x-amz-meta-minio-snowball-ignore-errors": "true"}
    assert put_archive(connect, module_bucket, body, **ignore).status == 200
    assert bodies(s3, module_bucket, "err/") == {"err/1": b"1", "err/3": b"3"}


MEMBERS = {
    "a.txt": b"hello",
    "dir/b.json": b'{"k": 1}' * 10_000,
    "dir/empty": b"",
    "big.bin": noise(3 * MIB, 9),
    "z/deep/er": b"z",
}
# minio-py adds to the dict that it is given.
EXTRACT = {"x-minio-extract": "true"}


@pytest.fixture(scope="module", params=[zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def archive(request, s3, module_bucket):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", request.param) as made:
        for name, data in MEMBERS.items():
            made.writestr(name, data)
        made.mkdir("folder")
        made.comment = b"a comment"
    key = f"zip/{request.param}.zip"
    s3.put_object(Bucket=module_bucket, Key=key, Body=out.getvalue())
    return key


def test_members_of_a_zip_are_read_where_they_lie(minio, connect, s3, module_bucket, archive):
    for name, data in MEMBERS.items():
        got = minio.get_object(module_bucket, f"{archive}/{name}", request_headers=dict(EXTRACT))
        assert read(got) == data, name
    with connect() as w:
        head = w.request("HEAD", sigv4.object_path(module_bucket, f"{archive}/dir/b.json"), headers=EXTRACT)
        assert (head.status, head.headers["content-length"]) == (200, str(len(MEMBERS["dir/b.json"])))
        assert head.headers["content-type"] == "application/json"
        for name in ("none", "folder/", "dir"):
            got = w.request("GET", sigv4.object_path(module_bucket, f"{archive}/{name}"), headers=EXTRACT)
            assert (got.status, got.code) == (404, "NoSuchKey"), name
        plain = w.request("GET", sigv4.object_path(module_bucket, f"{archive}/a.txt"))
        assert plain.code == "NoSuchKey", "without the header it is a key like any other"
        ranged = {**EXTRACT, "range": "bytes=0-1"}
        got = w.request("GET", sigv4.object_path(module_bucket, f"{archive}/a.txt"), headers=ranged)
        assert (got.status, got.code) == (416, "InvalidRange")


def test_members_of_a_zip_are_listed(minio, module_bucket, archive):
    def names(**how):
        found = minio.list_objects(module_bucket, prefix=f"{archive}/", extra_headers=dict(EXTRACT), **how)
        return [o.object_name.removeprefix(f"{archive}/") for o in found]

    assert names(recursive=True) == sorted([*MEMBERS, "folder/"])
    assert names() == ["a.txt", "big.bin", "dir/", "folder/", "z/"]


def test_pages_of_members_join_to_the_whole_listing(connect, module_bucket, archive):
    found, token = [], ""
    with connect() as w:
        while True:
            pairs = [("list-type", "2"), ("max-keys", "2"), ("prefix", f"{archive}/")]
            pairs += [("continuation-token", token)] if token else []
            page = w.request("GET", f"/{module_bucket}", sigv4.query_string(pairs), EXTRACT).body.decode()
            found += [part.split("</Key>")[0] for part in page.split("<Key>")[1:]]
            if "<NextContinuationToken>" not in page:
                break
            token = page.split("<NextContinuationToken>")[1].split("</")[0]
    assert found == [f"{archive}/{name}" for name in sorted([*MEMBERS, "folder/"])]


def test_what_is_no_zip_or_is_damaged_is_refused(connect, s3, module_bucket):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("m", b"some text " * 1000)
    damaged = bytearray(out.getvalue())
    damaged[40] ^= 0xFF
    s3.put_object(Bucket=module_bucket, Key="no.zip", Body=b"nothing of the kind")
    s3.put_object(Bucket=module_bucket, Key="damaged.zip", Body=bytes(damaged))
    with connect() as w:
        got = w.request("GET", sigv4.object_path(module_bucket, "no.zip/m"), headers=EXTRACT)
        assert (got.status, got.code) == (400, "InvalidRequest")
        got = w.request("GET", sigv4.object_path(module_bucket, "none.zip/m"), headers=EXTRACT)
        assert (got.status, got.code) == (404, "NoSuchKey")
        got = w.request("GET", sigv4.object_path(module_bucket, "damaged.zip/m"), headers=EXTRACT)
        assert (got.status, got.code) == (500, "InternalError"), "not one byte of it was sent"


def test_a_listing_tells_metadata_and_tags_when_asked(minio, s3, module_bucket):
    s3.put_object(
        Bucket=module_bucket,
        Key="meta/1",
        Body=b"x",
        Metadata={"colour": "blue & green"},
        ContentType="text/x",
        Tagging="a=1&b=2",
    )
    (found,) = minio.list_objects(module_bucket, prefix="meta/", include_user_meta=True)
    told = {name.lower(): value for name, value in found.metadata.items()}
    assert told == {"x-amz-meta-colour": "blue & green", "content-type": "text/x"}
    assert dict(found.tags or {}) == {"a": "1", "b": "2"}
    (found,) = minio.list_objects(module_bucket, prefix="meta/")
    assert not found.metadata


def test_minio_py_appends(minio, module_bucket):
    minio.put_object(module_bucket, "append", io.BytesIO(b"one"), 3)
    minio.append_object(module_bucket, "append", io.BytesIO(b"two"), 3)
    assert read(minio.get_object(module_bucket, "append")) == b"onetwo"
    with pytest.raises(S3Error):
        minio.append_object(module_bucket, "missing", io.BytesIO(b"x"), 1)
