"""TLS, IPv6 and virtual-host style: how clients come to the server, whatever they ask for then."""

import http.client
import io
import signal
import socket
import ssl
import subprocess

import boto3
import pytest
from botocore.config import Config

import server as basalt
from conftest import make_certificate, noise, s3_client

MIB = 1 << 20
RELOADED = 'basalt_tls_reloads_total{result="%s"}'


def trusting():
    return ssl.create_default_context(cafile=str(basalt.CA_PATH))


def shown_certificate(server):
    """The certificate that a new connection is shown, verified or not."""
    return ssl.get_server_certificate((server.host, server.tls_port))


def metric(server, line):
    connection = http.client.HTTPConnection(server.host, server.admin_port, timeout=10)
    connection.request("GET", "/metrics")
    for row in connection.getresponse().read().decode().splitlines():
        if row.startswith(line + " "):
            return float(row.rsplit(" ", 1)[1])
    return 0


@pytest.fixture(scope="module")
def renewed(new_server, authority):
    return new_server("renewed", tls=make_certificate(authority, "renewed", "localhost", "127.0.0.1"))


def test_a_new_certificate_is_served_without_dropping_a_connection(renewed, authority):
    before = shown_certificate(renewed)
    kept = http.client.HTTPSConnection("localhost", renewed.tls_port, context=trusting(), timeout=30)
    kept.request("GET", "/")
    assert kept.getresponse().read()
    make_certificate(authority, "renewed", "localhost", "127.0.0.1", "new.test")
    renewed.process.send_signal(signal.SIGHUP)
    basalt.until(lambda: shown_certificate(renewed) != before, 20, "the new certificate is shown")
    kept.request("GET", "/")
    assert kept.getresponse().status == 403, "the connection goes on with the certificate it began with"
    kept.close()


def test_a_bad_certificate_changes_nothing_and_is_told(renewed):
    before = shown_certificate(renewed)
    good = renewed.tls[0].read_bytes()
    refused = metric(renewed, RELOADED % "refused")
    renewed.tls[0].write_text("not a certificate")
    renewed.process.send_signal(signal.SIGHUP)
    basalt.until(lambda: metric(renewed, RELOADED % "refused") > refused, 20, "the bad file is counted")
    assert shown_certificate(renewed) == before
    assert "holds no certificate" in renewed.log_tail()
    renewed.tls[0].write_bytes(good)


def test_plain_http_on_the_https_port_is_answered_in_words(shared):
    connection = http.client.HTTPConnection(shared.host, shared.tls_port, timeout=30)
    connection.request("GET", "/")
    answer = connection.getresponse()
    assert answer.status == 400
    assert b"sent to an HTTPS port" in answer.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls_are_spoken(shared, version):
    context = trusting()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection((shared.host, shared.tls_port)) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as sealed:
            assert sealed.version() == version.name.replace("_", ".")
            assert sealed.selected_alpn_protocol() == "http/1.1"


def test_a_client_that_vanishes_in_a_handshake_or_a_body_costs_nothing(shared):
    for sent in (b"", b"\x16\x03\x01\x02\x00\x01"):
        with socket.create_connection((shared.host, shared.tls_port)) as plain:
            plain.sendall(sent)
    with socket.create_connection((shared.host, shared.tls_port)) as plain:
        with trusting().wrap_socket(plain, server_hostname="localhost") as sealed:
            sealed.sendall(b"PUT /bucket/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
    connection = http.client.HTTPSConnection("localhost", shared.tls_port, context=trusting(), timeout=30)
    connection.request("GET", "/")
    assert connection.getresponse().status == 403


def test_a_certificate_for_a_trial(new_server):
    one = new_server("trial", args=["--tls-self-signed", "--listen", f"https://127.0.0.1:{(port := basalt.free_port())}"])
    one.endpoint = f"https://127.0.0.1:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=one.endpoint,
        aws_access_key_id=basalt.ACCESS_KEY,
        aws_secret_access_key=basalt.SECRET_KEY,
        region_name=basalt.REGION,
        verify=False,
    )
    client.create_bucket(Bucket="trial")
    assert [found["Name"] for found in client.list_buckets()["Buckets"]] == ["trial"]
    assert "told not to verify" in one.out_path.read_text()
    context = ssl.create_default_context()
    with socket.create_connection(("127.0.0.1", port)) as plain, pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(plain, server_hostname="localhost")


def test_each_host_gets_its_certificate(new_server, authority):
    first = make_certificate(authority, "first", "127.0.0.1", "localhost")
    second = make_certificate(authority, "second", "*.two.test")
    one = new_server("sni", tls=first, args=["--tls-cert", str(second[0]), "--tls-key", str(second[1])])
    for host in ("localhost", "bucket.two.test"):
        with socket.create_connection((one.host, one.tls_port)) as plain:
            trusting().wrap_socket(plain, server_hostname=host).close()
    with socket.create_connection((one.host, one.tls_port)) as plain:
        with pytest.raises(ssl.SSLCertVerificationError):
            trusting().wrap_socket(plain, server_hostname="three.test")


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--tls-cert", "missing.pem", "--tls-key", "missing.key"], "cannot read --tls-cert missing.pem"),
        (["--tls-cert", "a.pem"], "give each certificate its key"),
        (["--listen", "https://127.0.0.1:0"], "needs a certificate"),
    ],
)
def test_what_cannot_be_served_is_refused_at_the_start(tmp_path, words, sentence):
    command = [str(basalt.BINARY), "serve", "--admin-listen", "127.0.0.1:0", *words, str(tmp_path / "d")]
    done = subprocess.run(command, env=basalt.clean_env(), cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert sentence in done.stderr


def test_a_key_of_another_certificate_is_refused_by_name(tmp_path, authority):
    cert, _ = make_certificate(authority, "one", "localhost")
    _, key = make_certificate(authority, "other", "localhost")
    command = [str(basalt.BINARY), "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
    command += ["--tls-cert", str(cert), "--tls-key", str(key), str(tmp_path / "d")]
    done = subprocess.run(command, env=basalt.clean_env(), cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "is not the key of --tls-cert" in done.stderr


def test_several_addresses_and_ipv6_are_served_at_once(new_server, authority):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("SKIPPED: this machine has no IPv6")
    ports = basalt.free_port(), basalt.free_port()
    args = ["--listen", f"http://[::1]:{ports[0]},https://[::]:{ports[1]}"]
    one = new_server("ipv6", args=args, tls=make_certificate(authority, "ipv6", "::1", "127.0.0.1"))
    client = s3_client(one)
    client.create_bucket(Bucket="addresses")
    client.put_object(Bucket="addresses", Key="key", Body=b"value")
    for endpoint in (f"http://[::1]:{ports[0]}", f"https://[::1]:{ports[1]}", f"https://127.0.0.1:{ports[1]}"):
        one.endpoint = endpoint
        client = s3_client(one)
        assert client.get_object(Bucket="addresses", Key="key")["Body"].read() == b"value"
        client.put_object(Bucket="addresses", Key=endpoint, Body=b"x")


@pytest.mark.over_https
def test_a_bucket_is_named_by_the_host(server, monkeypatch):
    """Virtual-host style as SDKs do it by default, without a name server: every name below s3.test is loopback."""
    resolve = socket.getaddrinfo

    def resolved(host, *rest, **how):
        return resolve("127.0.0.1" if str(host).endswith("s3.test") else host, *rest, **how)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    client = boto3.client(
        "s3",
        endpoint_url=f"{'https' if server.secure else 'http'}://s3.test:{server.port}",
        aws_access_key_id=basalt.ACCESS_KEY,
        aws_secret_access_key=basalt.SECRET_KEY,
        region_name=basalt.REGION,
        config=Config(s3={"addressing_style": "virtual"}, signature_version="s3v4"),
    )
    bucket = "virtual-" + ("tls" if server.secure else "plain")
    client.create_bucket(Bucket=bucket)
    body = noise(9 * MIB)
    client.upload_fileobj(io.BytesIO(body), bucket, "a/b c+%.bin")
    assert client.get_object(Bucket=bucket, Key="a/b c+%.bin")["Body"].read() == body
    assert [found["Key"] for found in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["a/b c+%.bin"]
    url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a/b c+%.bin"})
    assert url.split("/")[2] == f"{bucket}.s3.test:{server.port}"
    command = ["curl", "-sSf", "--resolve", f"{bucket}.s3.test:{server.port}:127.0.0.1", url]
    assert subprocess.run(command, capture_output=True, check=True, timeout=60).stdout == body
    client.delete_object(Bucket=bucket, Key="a/b c+%.bin")
    client.delete_bucket(Bucket=bucket)
