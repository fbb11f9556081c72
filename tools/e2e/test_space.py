"""Space comes back: after all objects are deleted and reclaimed, the drives hold next to nothing."""

import time

import pytest

import server as basalt
import sigv4
import wire
from conftest import empty_bucket, noise, s3_client

MIB = 1 << 20
SEGMENT_BYTES = 256 * MIB
# One core keeps two open volumes, packed and large (DESIGN section 3), each with one segment on the drive;
# what a volume has preallocated beyond its last byte is at most that segment. Metadata runs of an empty
# namespace are a few MiB.
RESERVE_BYTES = 2 * SEGMENT_BYTES + 64 * MIB
WRITTEN_BYTES = 1600 * MIB


@pytest.mark.timeout(400)
def test_space_comes_back_after_everything_is_deleted(new_server):
    server = new_server("space", drives=1, args=["--cores", "1"])
    s3 = s3_client(server)
    s3.create_bucket(Bucket="space")
    body = noise(16 * MIB)
    # Over a bare connection: a client's own checksums would take most of the time.
    with wire.Wire(server, wire.signer(basalt.ACCESS_KEY, basalt.SECRET_KEY)) as w:

        def put(key, data):
            answer = w.request("PUT", f"/space/{key}", body=data, payload_hash=sigv4.UNSIGNED)
            assert answer.status == 200, answer

        for n in range(WRITTEN_BYTES // (16 * MIB)):
            put(f"large/{n}", n.to_bytes(4, "big") + body[4:])
        for n in range(1500):
            put(f"small/{n}", body[: 10_000 + n])
        for n in range(20):  # an overwritten object's bytes are dead too
            put("overwritten", body[: n * MIB // 4])
    parts = {"Bucket": "space", "Key": "never-finished"}
    upload = s3.create_multipart_upload(**parts)["UploadId"]
    s3.upload_part(**parts, UploadId=upload, PartNumber=1, Body=body)
    peak, _ = server.allocated_bytes()
    assert peak > WRITTEN_BYTES
    begun = time.monotonic()
    empty_bucket(s3, "space")
    allowed = peak * 2 // 100 + RESERVE_BYTES
    try:
        basalt.until(lambda: server.allocated_bytes()[0] <= allowed, 120, f"drives under {allowed >> 20} MiB")
    finally:
        data, log = server.allocated_bytes()
        took = time.monotonic() - begun
        print(f"peak {peak >> 20} MiB, now {data >> 20} MiB and {log >> 20} MiB of log; allowed {allowed >> 20} MiB")
        print(f"{took:.1f} s from the first deletion")
    server.restart()
    assert s3.list_objects_v2(Bucket="space")["KeyCount"] == 0
    assert server.allocated_bytes()[0] <= allowed
    s3.put_object(Bucket="space", Key="again", Body=body)
    assert s3.get_object(Bucket="space", Key="again")["Body"].read() == body


@pytest.mark.timeout(300)
def test_refused_and_broken_uploads_leave_no_space_behind(new_server):
    """What was half received is reclaimed without a restart, and more of it never adds up."""
    server = new_server("half", drives=1, args=["--cores", "1"])
    s3 = s3_client(server)
    s3.create_bucket(Bucket="half")
    body = noise(32 * MIB)
    for n in range(60):  # 60 x 24 MiB is far more than the reserve
        with wire.Wire(server, wire.signer(basalt.ACCESS_KEY, basalt.SECRET_KEY)) as w:
            head, _ = w.head("PUT", f"/half/{n}", payload_hash=sigv4.UNSIGNED, body=body)
            w.send(head + body[: 24 * MIB])
            w.reset()
    allowed = RESERVE_BYTES + 60 * 24 * MIB * 2 // 100
    try:
        basalt.until(lambda: server.allocated_bytes()[0] <= allowed, 120, f"drives under {allowed >> 20} MiB")
    finally:
        data, log = server.allocated_bytes()
        print(f"now {data >> 20} MiB and {log >> 20} MiB of log; allowed {allowed >> 20} MiB")
    assert s3.list_objects_v2(Bucket="half")["KeyCount"] == 0
