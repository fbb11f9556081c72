"""HTTP/1.1 over a bare socket: sends exactly the bytes that it is given and reads exactly one answer.

Libraries hide what these tests are about (100-continue, pipelining, broken framing), so none is used.
"""

import hashlib
import re
import socket
import ssl
import struct

import sigv4


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def code(self):
        found = re.search(rb"<Code>([^<]*)</Code>", self.body)
        return found.group(1).decode() if found else None

    def __repr__(self):
        return f"{self.status} {self.code} {self.headers} {self.body[:300]!r}"


class Closed(ConnectionError):
    """The server closed before a whole answer."""


class Wire:
    """One connection, with a signer; usable as a context manager."""

    def __init__(self, server, signer, timeout_s=30):
        self.host = f"{server.host}:{server.port}"
        self.signer = signer
        self.socket = socket.create_connection((server.host, server.port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if server.secure:
            self.socket = ssl.create_default_context().wrap_socket(self.socket, server_hostname="localhost")
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def reset(self):
        """Vanishes: the kernel sends RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def end(self):
        """No more bytes from here; the answer can still be read."""
        self.socket.shutdown(socket.SHUT_WR)

    def head(self, method, path, query="", headers=None, payload_hash=None, body=b"", length=True, sign=True):
        """(bytes of a signed request head, the seed of its signed chunks)."""
        headers = {k.lower(): v for k, v in (headers or {}).items()}
        headers.setdefault("host", self.host)
        if length and "content-length" not in headers and (body or method in ("PUT", "POST")):
            headers["content-length"] = str(len(body))
        seed = None
        if sign:
            payload_hash = payload_hash or hashlib.sha256(body).hexdigest()
            headers, seed = self.signer.sign(method, path, query, headers, payload_hash)
        target = path + ("?" + query if query else "")
        return render(method, target, headers), seed

    def read(self, method="GET"):
        """The next answer; an interim 100 is an answer of its own."""
        head = self._until(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ", 2)[1])
        headers = {}
        for line in lines[1:]:
            if line:
                name, value = line.split(":", 1)
                headers[name.strip().lower()] = value.strip()
        if method == "HEAD" or status in (100, 204, 304):
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = b""
            while True:
                size = int(self._until(b"\r\n").split(b";")[0], 16)
                if size == 0:
                    while self._until(b"\r\n") != b"\r\n":
                        pass
                    return Answer(status, headers, body)
                body += self._exactly(size)
                self._exactly(2)
        if "content-length" in headers:
            return Answer(status, headers, self._exactly(int(headers["content-length"])))
        return Answer(status, headers, self._to_end())

    def request(self, method, path, query="", headers=None, body=b"", **how):
        head, _ = self.head(method, path, query, headers, body=body, **how)
        self.send(head + body)
        return self.read(method)

    def closed(self):
        """Whether the server has closed its side (waits for it, up to the socket's timeout)."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def _more(self):
        data = self.socket.recv(262144)
        if not data:
            raise Closed(f"closed after {len(self.buffer)} bytes of an answer: {self.buffer[:200]!r}")
        self.buffer += data

    def _until(self, mark):
        while mark not in self.buffer:
            self._more()
        head, self.buffer = self.buffer.split(mark, 1)
        return head + mark

    def _exactly(self, count):
        parts, have = [self.buffer], len(self.buffer)
        while have < count:
            data = self.socket.recv(1 << 20)
            if not data:
                raise Closed(f"closed after {have} of {count} body bytes")
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self.buffer = whole[count:]
        return whole[:count]

    def _to_end(self):
        body = self.buffer
        self.buffer = b""
        while data := self.socket.recv(262144):
            body += data
        return body


def render(method, target, headers):
    lines = [f"{method} {target} HTTP/1.1"] + [f"{k}: {v}" for k, v in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def signer(access_key, secret_key, **more):
    return sigv4.Signer(access_key, secret_key, **more)
