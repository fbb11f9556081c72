"""s3fs (fsspec): files that are opened, read at offsets, found, moved and created exclusively."""

import pytest
import s3fs

import server as basalt
from conftest import noise

MIB = 1 << 20


@pytest.fixture(scope="module")
def fs(server):
    return s3fs.S3FileSystem(
        key=basalt.ACCESS_KEY,
        secret=basalt.SECRET_KEY,
        endpoint_url=server.endpoint,
        client_kwargs={"region_name": basalt.REGION},
        skip_instance_cache=True,
        use_listings_cache=False,
    )


@pytest.mark.over_https
def test_open_write_and_read(fs, module_bucket):
    for size in (0, 100, 12 * MIB):
        path, body = f"{module_bucket}/files/{size}", noise(size, size)
        with fs.open(path, "wb", block_size=5 * MIB) as file:
            file.write(body)
        with fs.open(path, "rb") as file:
            assert file.read() == body
        assert fs.info(path)["size"] == size
        assert fs.cat_file(path) == body


@pytest.mark.over_https
def test_seek_and_read_ranges(fs, module_bucket):
    body, path = noise(4 * MIB, 4), f"{module_bucket}/seek"
    fs.pipe_file(path, body)
    with fs.open(path, "rb", block_size=1 << 16) as file:
        for offset in (0, 65_471, 3 * MIB, 17):
            file.seek(offset)
            assert file.read(1000) == body[offset : offset + 1000]
    assert fs.cat_file(path, start=-100) == body[-100:]
    assert fs.cat_file(path, start=10, end=20) == body[10:20]


def test_text_and_append(fs, module_bucket):
    path = f"{module_bucket}/text +%.txt"
    with fs.open(path, "w") as file:
        file.write("one\ntwo\n")
    with fs.open(path, "ab") as file:
        file.write(b"three\n")
    with fs.open(path) as file:
        assert file.readlines() == [b"one\n", b"two\n", b"three\n"]


def test_find_ls_glob_walk_and_du(fs, module_bucket):
    root = f"{module_bucket}/find"
    names = ["a.txt", "b/c.txt", "b/d/e.bin", "b/d/f.txt"]
    for name in names:
        fs.pipe_file(f"{root}/{name}", name.encode())
    assert fs.find(root) == [f"{root}/{n}" for n in names]
    assert sorted(fs.ls(root, detail=False)) == [f"{root}/a.txt", f"{root}/b"]
    assert fs.glob(f"{root}/**/*.txt") == [f"{root}/{n}" for n in ("a.txt", "b/c.txt", "b/d/f.txt")]
    assert fs.isdir(f"{root}/b")
    assert fs.isfile(f"{root}/a.txt")
    assert not fs.exists(f"{root}/nothing")
    assert fs.du(root) == sum(map(len, names))
    fs.rm(f"{root}/b", recursive=True)
    assert fs.find(root) == [f"{root}/a.txt"]


def test_exclusive_create_keeps_what_is_there(fs, module_bucket):
    path = f"{module_bucket}/exclusive"
    fs.pipe_file(path, b"first", mode="create")
    with pytest.raises(OSError):  # s3fs makes EINVAL of a 412, not FileExistsError
        fs.pipe_file(path, b"second", mode="create")
    assert fs.cat_file(path) == b"first"
    with fs.open(f"{module_bucket}/exclusive-open", "xb") as file:
        file.write(b"x")
    with pytest.raises(OSError):
        with fs.open(f"{module_bucket}/exclusive-open", "xb") as file:
            file.write(b"y")
    assert fs.cat_file(f"{module_bucket}/exclusive-open") == b"x"


def test_mv_cp_touch_and_metadata(fs, module_bucket):
    root = f"{module_bucket}/mv"
    fs.pipe_file(f"{root}/one", b"bytes")
    fs.mv(f"{root}/one", f"{root}/two")
    assert not fs.exists(f"{root}/one")
    fs.cp_file(f"{root}/two", f"{root}/three")
    assert fs.cat([f"{root}/two", f"{root}/three"]) == {f"{root}/two": b"bytes", f"{root}/three": b"bytes"}
    fs.touch(f"{root}/empty")
    assert fs.info(f"{root}/empty")["size"] == 0
    with fs.open(f"{root}/meta", "wb", Metadata={"k": "v"}) as file:
        file.write(b"x")
    assert fs.metadata(f"{root}/meta") == {"k": "v"}


def test_a_missing_file_is_file_not_found(fs, module_bucket):
    with pytest.raises(FileNotFoundError):
        fs.cat_file(f"{module_bucket}/no-such")
    with pytest.raises(FileNotFoundError):
        fs.ls("no-such-bucket-of-ours")


def test_bucket_is_made_and_removed(fs):
    fs.mkdir("s3fs-mkdir")
    assert fs.exists("s3fs-mkdir")
    fs.rmdir("s3fs-mkdir")
    assert not fs.exists("s3fs-mkdir")
