"""AWS Signature Version 4, written from its specification so that tests can sign, and mis-sign, by hand.

Pure functions over bytes and strings; no sockets. Paths and query strings are given as they go on the
wire (already percent-encoded), because S3 signs what was sent and normalises nothing.
"""

import datetime
import hashlib
import hmac
import urllib.parse

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def quote(text, safe="-_.~"):
    return urllib.parse.quote(text, safe=safe)


def object_path(bucket, key=""):
    """/bucket/key as S3 wants it on the wire: everything but unreserved characters and / is encoded."""
    return "/" + bucket + ("/" + quote(key, safe="-_.~/") if key else "")


def query_string(pairs):
    """A query string in the canonical form, so the wire form and the signed form are one."""
    encoded = sorted((quote(k), quote(v)) for k, v in pairs)
    return "&".join(f"{k}={v}" for k, v in encoded)


def _hmac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


class Signer:
    """One identity in one region; `when` is the moment that a request claims to be made at."""

    def __init__(self, access_key, secret_key, region="us-east-1", when=None):
        self.access_key, self.secret_key, self.region = access_key, secret_key, region
        self.when = when

    def _times(self):
        when = self.when or now()
        return when.strftime("%Y%m%dT%H%M%SZ"), when.strftime("%Y%m%d")

    def _key(self, date):
        key = _hmac(("AWS4" + self.secret_key).encode(), date)
        for part in (self.region, "s3", "aws4_request"):
            key = _hmac(key, part)
        return key

    def _scope(self, date):
        return f"{date}/{self.region}/s3/aws4_request"

    def sign(self, method, path, query, headers, payload_hash, stamp=None):
        """Returns (headers with the Authorization, a `Seed` for signed chunks).

        `headers` is a dict with lower-case names, all of which are signed; `query` is canonical, but a name
        without a value may lack its `=`.
        """
        amz_date, date = stamp or self._times()
        headers = dict(headers)
        headers.setdefault("x-amz-date", amz_date)
        headers.setdefault("x-amz-content-sha256", payload_hash)
        names = sorted(headers)
        if query:
            query = "&".join(pair if "=" in pair else pair + "=" for pair in query.split("&"))
        canonical = "\n".join(
            [method, path, query]
            + [f"{n}:{' '.join(headers[n].split())}" for n in names]
            + ["", ";".join(names), payload_hash]
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        scope = self._scope(date)
        to_sign = "\n".join(["AWS4-HMAC-SHA256", amz_date, scope, digest])
        key = self._key(date)
        signature = _hmac(key, to_sign).hex()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, "
            f"SignedHeaders={';'.join(names)}, Signature={signature}"
        )
        return headers, Seed(key, amz_date, scope, signature)

    def presign(self, method, host, path, expires_s, pairs=(), headers=None):
        """The path and query of a presigned URL."""
        amz_date, date = self._times()
        headers = {"host": host, **(headers or {})}
        names = sorted(headers)
        scope = self._scope(date)
        query = query_string(
            [
                ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
                ("X-Amz-Credential", f"{self.access_key}/{scope}"),
                ("X-Amz-Date", amz_date),
                ("X-Amz-Expires", str(expires_s)),
                ("X-Amz-SignedHeaders", ";".join(names)),
                *pairs,
            ]
        )
        canonical = "\n".join(
            [method, path, query] + [f"{n}:{headers[n]}" for n in names] + ["", ";".join(names), UNSIGNED]
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = "\n".join(["AWS4-HMAC-SHA256", amz_date, scope, digest])
        return f"{path}?{query}&X-Amz-Signature={_hmac(self._key(date), to_sign).hex()}"


class Seed:
    """The chain of signatures over the parts of an aws-chunked body."""

    def __init__(self, key, amz_date, scope, signature):
        self.key, self.amz_date, self.scope, self.signature = key, amz_date, scope, signature

    def chunk(self, data):
        to_sign = "\n".join(
            [
                "AWS4-HMAC-SHA256-PAYLOAD",
                self.amz_date,
                self.scope,
                self.signature,
                EMPTY_SHA256,
                hashlib.sha256(data).hexdigest(),
            ]
        )
        self.signature = _hmac(self.key, to_sign).hex()
        return self.signature

    def trailer(self, text):
        """`text` is the trailing headers in canonical form: name:value and a newline each."""
        to_sign = "\n".join(
            [
                "AWS4-HMAC-SHA256-TRAILER",
                self.amz_date,
                self.scope,
                self.signature,
                hashlib.sha256(text.encode()).hexdigest(),
            ]
        )
        self.signature = _hmac(self.key, to_sign).hex()
        return self.signature


def aws_chunked(parts, seed=None, trailers=()):
    """An aws-chunked body: signed when `seed` is given, with trailing headers when there are any."""
    out = []
    for data in [*parts, b""]:
        extension = f";chunk-signature={seed.chunk(data)}" if seed else ""
        out.append(f"{len(data):x}{extension}\r\n".encode())
        if data:
            out.append(data + b"\r\n")
    for name, value in trailers:
        out.append(f"{name}:{value}\r\n".encode())
    if trailers and seed:
        text = "".join(f"{name}:{value}\n" for name, value in trailers)
        out.append(f"x-amz-trailer-signature:{seed.trailer(text)}\r\n".encode())
    out.append(b"\r\n")
    return b"".join(out)
