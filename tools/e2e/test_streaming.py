"""Bodies in aws-chunked form, each kind good and tampered with, and plain chunked bodies of unknown length.

The three kinds: every chunk signed (minio-go, the Java and C++ SDKs over http), a trailing checksum
without signatures (boto3 and the CRT over https), and both.
"""

import base64
import hashlib
import subprocess
import zlib

import pytest

import sigv4
from conftest import noise, s3_client
from test_bad_input import absent, expect

MIB = 1 << 20
KINDS = [sigv4.STREAMING, sigv4.STREAMING_UNSIGNED_TRAILER, sigv4.STREAMING_TRAILER]


def crc32(body):
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


def pieces(body, size):
    return [body[i : i + size] for i in range(0, len(body), size)]


def framed(w, path, kind, parts, headers=None, declared=None, checksum=None, chunked=False, change=None):
    """(head, aws-chunked body) of a PUT of `parts`; `checksum` replaces the right one.

    `change` breaks the framing; the length in the head is that of what is really sent.
    """
    change = change or (lambda data: data)
    body = b"".join(parts)
    headers = dict(headers or {})
    headers.setdefault("content-encoding", "aws-chunked")
    headers["x-amz-decoded-content-length"] = str(len(body) if declared is None else declared)
    trailers = []
    if kind != sigv4.STREAMING:
        trailers = [("x-amz-checksum-crc32", checksum or crc32(body))]
        headers["x-amz-trailer"] = "x-amz-checksum-crc32"
    seed_needed = kind != sigv4.STREAMING_UNSIGNED_TRAILER
    # The length of the framing does not depend on the signatures in it.
    sham = sigv4.Seed(b"", "", "", "")
    length = len(change(sigv4.aws_chunked(parts, sham if seed_needed else None, trailers)))
    if chunked:
        headers["transfer-encoding"] = "chunked"
    else:
        headers["content-length"] = str(length)
    head, seed = w.head("PUT", path, headers=headers, payload_hash=kind, length=False)
    return head, change(sigv4.aws_chunked(parts, seed if seed_needed else None, trailers))


def in_transfer_chunks(body, size=10_000):
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces(body, size)) + b"0\r\n\r\n"


@pytest.mark.over_https
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 1, 8192, 65536, 65537, 200_000, 5 * MIB + 1])
def test_a_body_is_decoded(connect, module_bucket, kind, size):
    path, body = f"/{module_bucket}/{kind}/{size}", noise(size, size)
    with connect() as w:
        head, data = framed(w, path, kind, pieces(body, 65536))
        w.send(head + data)
        answer = w.read()
        expect(answer, 200)
        assert answer.headers["etag"] == '"' + hashlib.md5(body).hexdigest() + '"'
        got = w.request("GET", path, headers={"x-amz-checksum-mode": "ENABLED"})
        assert got.body == body
        assert "aws-chunked" not in got.headers.get("content-encoding", "")
        if kind != sigv4.STREAMING:
            assert got.headers["x-amz-checksum-crc32"] == crc32(body)


@pytest.mark.parametrize("kind", KINDS)
def test_a_decoded_body_without_a_content_length(connect, module_bucket, kind):
    """As botocore sends a stream over https: HTTP's own chunks around the aws-chunked ones."""
    path, body = f"/{module_bucket}/te/{kind}", noise(300_000)
    with connect() as w:
        head, data = framed(w, path, kind, pieces(body, 65536), chunked=True)
        w.send(head + in_transfer_chunks(data))
        expect(w.read(), 200)
        assert w.request("GET", path).body == body


@pytest.mark.parametrize("sent", ["gzip,aws-chunked", "aws-chunked,gzip", "gzip, aws-chunked"])
@pytest.mark.differs("minio", "it strips only a leading or single aws-chunked")
def test_only_aws_chunked_is_stripped_from_the_encoding(connect, module_bucket, sent):
    path = f"/{module_bucket}/encoding"
    with connect() as w:
        head, data = framed(w, path, sigv4.STREAMING, [b"zipped"], headers={"content-encoding": sent})
        w.send(head + data)
        expect(w.read(), 200)
        assert w.request("HEAD", path).headers["content-encoding"] == "gzip"


def test_the_encoding_may_go_unsaid(connect, module_bucket):
    path = f"/{module_bucket}/unsaid"
    with connect() as w:
        headers = {"x-amz-decoded-content-length": "4"}
        length = len(sigv4.aws_chunked([b"body"], sigv4.Seed(b"", "", "", "")))
        headers["content-length"] = str(length)
        head, seed = w.head("PUT", path, headers=headers, payload_hash=sigv4.STREAMING)
        w.send(head + sigv4.aws_chunked([b"body"], seed))
        expect(w.read(), 200)
        assert w.request("GET", path).body == b"body"


def refused(connect, path, send, status, code=None):
    """Sends what `send` makes and asserts the refusal, and that nothing was stored."""
    with connect() as w:
        head, data = send(w)
        w.send(head + data)
        expect(w.read(), status, code)
    absent(connect, path)


@pytest.mark.parametrize("kind", [sigv4.STREAMING, sigv4.STREAMING_TRAILER])
def test_tampered_data_or_signatures_are_refused(connect, module_bucket, kind):
    path, body = f"/{module_bucket}/tampered/{kind}", noise(200_000)

    def with_change(change):
        def send(w):
            head, data = framed(w, path, kind, pieces(body, 65536))
            return head, change(data)

        return send

    at = 100_000
    flipped = lambda d: d[:at] + bytes([d[at] ^ 1]) + d[at + 1 :]
    refused(connect, path, with_change(flipped), 403, "SignatureDoesNotMatch")
    wrong = lambda d: d.replace(b"chunk-signature=", b"chunk-signature=" + b"0" * 64, 1)[: len(d)]
    refused(connect, path, with_change(wrong), (400, 403))
    last = b"0;chunk-signature="
    final = lambda d: d[: d.rindex(last) + len(last)] + b"0" * 64 + d[d.rindex(last) + len(last) + 64 :]
    refused(connect, path, with_change(final), 403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("kind", [sigv4.STREAMING_UNSIGNED_TRAILER, sigv4.STREAMING_TRAILER])
@pytest.mark.differs("minio", "its code is XAmzContentChecksumMismatch")
def test_a_wrong_trailing_checksum_is_bad_digest(connect, module_bucket, kind):
    path = f"/{module_bucket}/trailer/{kind}"
    send = lambda w: framed(w, path, kind, [noise(100_000)], checksum="AAAAAA==")
    refused(connect, path, send, 400, "BadDigest")


def test_a_wrong_trailer_signature_is_refused(connect, module_bucket):
    path, mark = f"/{module_bucket}/trailer-signature", b"x-amz-trailer-signature:"

    def send(w):
        head, data = framed(w, path, sigv4.STREAMING_TRAILER, [b"body"])
        at = data.index(mark) + len(mark)
        return head, data[:at] + b"0" * 64 + data[at + 64 :]

    refused(connect, path, send, 403, "SignatureDoesNotMatch")


@pytest.mark.differs("minio", "it takes bare newlines, and a body without its end")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change",
    [
        lambda d: b"zz" + d[2:],
        lambda d: b"f" * 40 + d,
        lambda d: d.replace(b"\r\n", b"\n", 1),
        lambda d: d[: len(d) // 2],
        lambda d: d[: d.rindex(b"\r\n0") + 2],
        lambda d: b"A" * 100_000 + d,
        lambda d: b"",
    ],
    ids=["no size", "huge size", "bare newline", "half", "no last chunk", "endless line", "nothing"],
)
def test_broken_framing_is_refused(request, connect, module_bucket, kind, change):
    path = sigv4.object_path(module_bucket, f"framing/{request.node.callspec.id}")  # of its own: failures stay apart
    with connect() as w:
        # ASCII without newlines, so that `change` finds only the marks of the framing
        head, data = framed(w, path, kind, [b"a" * 65536, b"b" * 34464], change=change)
        try:
            w.send(head + data)
            expect(w.read(), (400, 403))
        except ConnectionError:
            pass
    absent(connect, path)


@pytest.mark.parametrize("declared", [99_999, 100_001, 0])
def test_the_decoded_length_must_be_true(connect, module_bucket, declared):
    path = f"/{module_bucket}/declared/{declared}"
    with connect() as w:
        head, data = framed(w, path, sigv4.STREAMING, pieces(noise(100_000), 65536), declared=declared)
        w.send(head + data)
        expect(w.read(), (400, 403))
    absent(connect, path)


@pytest.mark.over_https
@pytest.mark.differs("minio", "it wants a length")
def test_curl_uploads_a_pipe_by_presigned_url(server, s3, module_bucket):
    """As WebDataset writes: `curl -X PUT -T -`, chunked, no length, long-lived presigned URL."""
    body = noise(7 * MIB + 3)
    client = s3_client(server, signature_version="s3v4")
    where = {"Bucket": module_bucket, "Key": "curl/pipe+%.tar"}
    url = client.generate_presigned_url("put_object", Params=where, ExpiresIn=604800)
    subprocess.run(["curl", "-sSf", "-X", "PUT", "-T", "-", url], input=body, check=True, timeout=60)
    url = client.generate_presigned_url("get_object", Params=where, ExpiresIn=604800)
    assert subprocess.run(["curl", "-fsSL", url], capture_output=True, check=True).stdout == body


@pytest.mark.over_https
def test_curl_uploads_and_reads_a_file_by_presigned_url(server, module_bucket, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(noise(3 * MIB))
    client = s3_client(server, signature_version="s3v4")
    where = {"Bucket": module_bucket, "Key": "curl/file"}
    put = client.generate_presigned_url("put_object", Params=where)
    subprocess.run(["curl", "-sSf", "-T", str(path), put], check=True, timeout=60)
    get = client.generate_presigned_url("get_object", Params=where)
    assert subprocess.run(["curl", "-sSf", get], capture_output=True, check=True).stdout == path.read_bytes()
    part = subprocess.run(["curl", "-sSf", "-r", "100-199", get], capture_output=True, check=True).stdout
    assert part == path.read_bytes()[100:200]
    head = client.generate_presigned_url("head_object", Params=where)
    shown = subprocess.run(["curl", "-sSfI", head], capture_output=True, text=True, check=True).stdout
    assert f"content-length: {3 * MIB}" in shown.lower()


@pytest.mark.differs("minio", "it wants a length")
@pytest.mark.parametrize("size", [0, 1, 70_000])
def test_a_chunked_put_with_a_signed_hash(connect, module_bucket, size):
    path, body = f"/{module_bucket}/chunked/{size}", noise(size, size)
    with connect() as w:
        how = {"headers": {"transfer-encoding": "chunked"}, "length": False}
        head, _ = w.head("PUT", path, payload_hash=hashlib.sha256(body).hexdigest(), **how)
        w.send(head + in_transfer_chunks(body, 1000))
        expect(w.read(), 200)
        assert w.request("GET", path).body == body
        other = hashlib.sha256(b"other").hexdigest()
        head, _ = w.head("PUT", path, payload_hash=other, **how)
        w.send(head + in_transfer_chunks(b"beer"))
        expect(w.read(), 400, "XAmzContentSHA256Mismatch")


@pytest.mark.parametrize("data", [b"zz\r\nabc\r\n0\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n", b"-1\r\n"])
def test_broken_transfer_chunks_are_refused(connect, module_bucket, data):
    path = f"/{module_bucket}/chunked/broken/{data[:6].hex()}"
    with connect() as w:
        head, _ = w.head(
            "PUT", path, headers={"transfer-encoding": "chunked"}, payload_hash=sigv4.UNSIGNED, length=False
        )
        w.send(head + data)
        try:
            answer = w.read()
            assert answer.status in (400, 411), answer
            assert w.closed()
        except ConnectionError:
            pass
    absent(connect, path)
