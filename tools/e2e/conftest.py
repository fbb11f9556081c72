"""Fixtures shared by every client: a server, an endpoint, a bucket of one's own.

`server` is one running server with one drive, shared by the session; `new_server` makes servers to
order and is for tests that kill, restart or count. A test or file marked `over_https` runs twice, over http and over
https to the same server; clients trust its certificate authority by environment variables. With E2E_ENDPOINT set (and E2E_ACCESS_KEY,
E2E_SECRET_KEY) `server` is that one, and E2E_PEER may name a product whose known differences from AWS
are then excused by the marker `differs`.
"""

import concurrent.futures
import os
import random
import string
import threading

import boto3
import pytest
import trustme
from botocore.config import Config
from xdist.scheduler import LoadScopeScheduling

import server as basalt
import wire

# The shared server's budget: room for 256 requests at once, which s5cmd makes by default.
SHARED_MEMORY_BYTES = 1 << 30

PEER = os.environ.get("E2E_PEER", "")


def pytest_configure(config):
    config.addinivalue_line("markers", "differs(peer, reason): a peer is known to differ from AWS here")
    config.addinivalue_line("markers", "over_https: runs over http and over https")


def pytest_generate_tests(metafunc):
    if metafunc.definition.get_closest_marker("over_https") and "E2E_ENDPOINT" not in os.environ:
        metafunc.parametrize("server", ["http", "https"], indirect=True, scope="session")


def pytest_collection_modifyitems(items):
    for item in items:
        for mark in item.iter_markers("differs"):
            if mark.args[0] == PEER:
                item.add_marker(pytest.mark.xfail(reason=f"{PEER}: {mark.args[1]}", strict=False))


# Files whose tests have servers of their own each, or none: these may run in any order beside others.
SCATTERED = ("test_kernel_faults.py", "test_start.py")


class Stories(LoadScopeScheduling):
    """For `--dist loadscope`: tests of a file follow one another on its server, so they stay together and in order."""

    def _split_scope(self, nodeid):
        file = nodeid.partition("::")[0]
        return nodeid if file.endswith(SCATTERED) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return Stories(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for value in list(getattr(item, "funcargs", {}).values()):
            if isinstance(value, basalt.Server):
                report.sections.append(("server", value.log_tail()))
    return report


@pytest.fixture(scope="session")
def authority():
    """A certificate authority that every client of this session trusts, and no one else."""
    authority = trustme.CA()
    basalt.SCRATCH.mkdir(parents=True, exist_ok=True)
    authority.cert_pem.write_to_path(str(basalt.CA_PATH))
    os.environ.update(basalt.TRUST)
    return authority


@pytest.fixture(scope="session")
def certificate(authority):
    """(certificate file, key file) for the names that the tests call servers by."""
    return make_certificate(authority, "shared", "localhost", "127.0.0.1", "::1", "s3.test", "*.s3.test")


def make_certificate(authority, name, *hosts):
    issued = authority.issue_cert(*hosts)
    cert, key = basalt.SCRATCH / f"{name}.pem", basalt.SCRATCH / f"{name}.key"
    cert.unlink(missing_ok=True)
    for pem in issued.cert_chain_pems:
        pem.write_to_path(str(cert), append=True)
    issued.private_key_pem.write_to_path(str(key))
    return cert, key


@pytest.fixture(scope="session")
def shared(certificate):
    if "E2E_ENDPOINT" in os.environ:
        yield basalt.External(os.environ["E2E_ENDPOINT"])
        return
    args = ["--domain", "s3.test", "--website-domain", "site.test"]
    one = basalt.Server("shared", drives=1, memory=SHARED_MEMORY_BYTES, args=args, tls=certificate)
    one.start()
    yield one
    one.remove()


@pytest.fixture(scope="session")
def server(request, shared):
    return shared.over_tls() if getattr(request, "param", "http") == "https" else shared


@pytest.fixture(scope="module")
def new_server():
    """Makes servers to order: `new_server(name, drives=6, ...)`, started."""
    if "E2E_ENDPOINT" in os.environ:
        pytest.skip("SKIPPED: needs control of the process; E2E_ENDPOINT names a foreign server")
    made = []

    def make(name, start=True, **how):
        one = basalt.Server(name, **how)
        made.append(one)
        if start:
            one.start()
        return one

    yield make
    for one in made:
        one.remove()


@pytest.fixture(scope="session")
def keys():
    return basalt.ACCESS_KEY, basalt.SECRET_KEY


def s3_client(server, **config):
    """A boto3 client as its documentation makes one; `config` goes to botocore's Config."""
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=basalt.ACCESS_KEY,
        aws_secret_access_key=basalt.SECRET_KEY,
        region_name=basalt.REGION,
        config=Config(**{"s3": {"addressing_style": "path"}, **config}),
    )


@pytest.fixture(scope="session")
def s3(server):
    return s3_client(server)


@pytest.fixture
def signer():
    return wire.signer(basalt.ACCESS_KEY, basalt.SECRET_KEY)


@pytest.fixture
def connect(server, signer):
    """Opens a bare connection: `with connect() as w: ...`; keyword arguments go to Wire."""
    return lambda **how: wire.Wire(server, how.pop("signer", signer), **how)


def bucket_name(prefix="e2e"):
    return prefix + "-" + "".join(random.choices(string.ascii_lowercase + string.digits, k=12))


def empty_bucket(s3, bucket):
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        doomed = []
        for found in page.get("Contents", []):
            if min(found["Key"]) < " ":  # XML 1.0 cannot carry it, so it cannot be deleted in bulk
                s3.delete_object(Bucket=bucket, Key=found["Key"])
            else:
                doomed.append({"Key": found["Key"]})
        if doomed:
            answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": doomed, "Quiet": True})
            assert not answer.get("Errors"), answer["Errors"]
    for upload in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])


def put_empty(s3, bucket, keys):
    """Makes an empty object of each key, a few at a time: the client is the slow side."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=b""), keys))


@pytest.fixture
def bucket(s3):
    """A new, empty bucket; emptied and deleted afterwards, which is a test in itself."""
    name = bucket_name()
    s3.create_bucket(Bucket=name)
    yield name
    empty_bucket(s3, name)
    s3.delete_bucket(Bucket=name)


@pytest.fixture(scope="module")
def module_bucket(s3):
    """One bucket for a whole file; tests keep apart by their keys."""
    name = bucket_name()
    s3.create_bucket(Bucket=name)
    yield name
    empty_bucket(s3, name)
    s3.delete_bucket(Bucket=name)


class Background:
    """A thread whose exception is not lost: `join` raises it."""

    def __init__(self, work):
        self.error = None
        self.stopping = threading.Event()

        def run():
            try:
                work(self.stopping)
            except BaseException as error:
                self.error = error

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def join(self):
        self.stopping.set()
        self.thread.join(120)
        assert not self.thread.is_alive(), "a background thread hangs"
        if self.error:
            raise self.error


def noise(size, seed=0):
    """Reproducible bytes that do not compress."""
    return random.Random(seed).randbytes(size)
