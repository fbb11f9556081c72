"""Server access logs with boto3: what is recorded, in which form, where it arrives, and that a stop loses nothing."""

import json
import re
import urllib.error
import urllib.request

import pytest
from botocore.exceptions import ClientError

import server as basalt
from conftest import bucket_name, s3_client

# The regular expression of AWS's guide for Athena, and the fields that its table names.
FIELDS = [
    "owner", "bucket", "time", "ip", "requester", "request_id", "operation", "key", "uri", "status", "error", "sent",
    "size", "total_ms", "turn_around_ms", "referer", "user_agent", "version", "host_id", "signature", "cipher", "auth",
    "host", "tls", "access_point", "acl", "region",
]  # fmt: skip
WORD, QUOTED = r"([^ ]*)", r'("[^"]*"|-)'
LINE = re.compile(
    " ".join([WORD, WORD, r"\[(.*?)\]", *[WORD] * 5, QUOTED, "(-|[0-9]*)", *[WORD] * 5, QUOTED, QUOTED, *[WORD] * 10])
)
DEADLINE_S = 60
# A day of lifecycle rules on the server that acts on them.
DAY_S = 2


def metric(server, name):
    text = urllib.request.urlopen(server.admin + "/metrics", timeout=5).read().decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.split(" ")[0].split("{")[0] == name)


def log_into(s3, source, target, **more):
    """Has `source` logged into `target`, whose policy lets that be as AWS's guide writes it."""
    account = s3.list_buckets()["Owner"]["ID"]
    statement = {
        "Sid": "S3ServerAccessLogsPolicy",
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": ["s3:PutObject"],
        "Resource": f"arn:aws:s3:::{target}/*",
        "Condition": {
            "ArnLike": {"aws:SourceArn": f"arn:aws:s3:::{source}"},
            "StringEquals": {"aws:SourceAccount": account},
        },
    }
    # What many buckets have besides: deliveries must pass it.
    tls_only = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{target}/*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    policy = {"Version": "2012-10-17", "Statement": [statement, tls_only]}
    s3.put_bucket_policy(Bucket=target, Policy=json.dumps(policy))
    enabled = {"TargetBucket": target, "TargetPrefix": "web/", **more}
    s3.put_bucket_logging(Bucket=source, BucketLoggingStatus={"LoggingEnabled": enabled})
    assert s3.get_bucket_logging(Bucket=source)["LoggingEnabled"] == enabled


def logs(s3, target):
    """Every delivered log: key and text."""
    keys = [found["Key"] for found in s3.list_objects_v2(Bucket=target).get("Contents", [])]
    return {key: s3.get_object(Bucket=target, Key=key)["Body"].read().decode() for key in keys}


def records(s3, target):
    found = []
    for text in logs(s3, target).values():
        assert text.endswith("\n")
        for line in text.splitlines():
            match = LINE.fullmatch(line)
            assert match, line
            found.append(dict(zip(FIELDS, match.groups(), strict=True)))
    return found


@pytest.fixture(scope="module")
def logged(new_server, certificate):
    args = ["--access-log-interval-seconds", "1", "--lifecycle-day-seconds", str(DAY_S)]
    return new_server("access-logs", args=args, tls=certificate)


@pytest.fixture
def buckets(logged):
    """A client, a bucket to log and one for the logs."""
    s3, source, target = s3_client(logged), bucket_name("source"), bucket_name("logs")
    s3.create_bucket(Bucket=source)
    s3.create_bucket(Bucket=target)
    return s3, source, target


def test_requests_are_recorded_in_awss_format(logged, buckets):
    s3, source, target = buckets
    dropped = metric(logged, "basalt_access_log_dropped_records_total")
    log_into(s3, source, target)
    over_tls = s3_client(logged.over_tls())
    s3.put_object(Bucket=source, Key="a b/\u00e9", Body=b"hello")
    got = over_tls.get_object(Bucket=source, Key="a b/\u00e9")
    assert got["Body"].read() == b"hello"
    url = s3.generate_presigned_url("get_object", Params={"Bucket": source, "Key": "a b/\u00e9"})
    assert urllib.request.urlopen(url).read() == b"hello"
    s3.copy_object(Bucket=source, Key="copy", CopySource={"Bucket": source, "Key": "a b/\u00e9"})
    s3.list_objects_v2(Bucket=source)
    with pytest.raises(ClientError):
        s3.head_object(Bucket=source, Key="none")
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{logged.endpoint}/{source}/copy")
    s3.delete_objects(Bucket=source, Delete={"Objects": [{"Key": "copy"}, {"Key": "a b/\u00e9"}]})
    s3.get_bucket_versioning(Bucket=source)

    def by_operation():
        found = {}
        for record in records(s3, target):
            found.setdefault(record["operation"], []).append(record)
        # Each core delivers its own: the last request's record may come before those of other connections.
        is_whole = "REST.GET.VERSIONING" in found and len(found.get("REST.GET.OBJECT", [])) >= 3
        return is_whole and found

    found = basalt.until(by_operation, DEADLINE_S, "the log is delivered")
    names = {name: len(group) for name, group in found.items()}
    assert names == {
        "REST.GET.LOGGING_STATUS": 1, "REST.PUT.OBJECT": 1, "REST.GET.OBJECT": 3, "REST.COPY.OBJECT": 1,
        "REST.COPY.OBJECT_GET": 1, "REST.GET.BUCKET": 1, "REST.HEAD.OBJECT": 1, "REST.POST.MULTI_OBJECT_DELETE": 1,
        "BATCH.DELETE.OBJECT": 2, "REST.GET.VERSIONING": 1,
    }  # fmt: skip
    account = s3.list_buckets()["Owner"]["ID"]
    for group in found.values():
        for record in group:
            assert (record["owner"], record["bucket"], record["ip"]) == (account, source, "127.0.0.1"), record
    put = found["REST.PUT.OBJECT"][0]
    assert (put["key"], put["status"], put["size"], put["requester"]) == ("a%20b/%C3%A9", "200", "5", account)
    assert (put["signature"], put["auth"], put["tls"], put["cipher"]) == ("SigV4", "AuthHeader", "-", "-")
    assert put["uri"] == f'"PUT /{source}/a%20b/%C3%A9 HTTP/1.1"' and "Boto3" in put["user_agent"]
    # Which log a record stands in, and so its place, is its core's affair.
    gets = sorted(found["REST.GET.OBJECT"], key=lambda record: (record["tls"] == "-", record["status"]))
    sealed, presigned, refused = gets
    assert (sealed["tls"], sealed["sent"], sealed["size"]) == ("TLSv1.3", "5", "5")
    assert sealed["cipher"].startswith("TLS_AES_"), sealed
    answered = got["ResponseMetadata"]
    assert (sealed["request_id"], sealed["host_id"]) == (answered["RequestId"], answered["HostId"])
    assert (presigned["auth"], presigned["status"]) == ("QueryString", "200")
    assert (refused["requester"], refused["status"], refused["error"]) == ("-", "403", "AccessDenied")
    assert found["REST.HEAD.OBJECT"][0]["error"] == "NoSuchKey"
    assert {record["key"] for record in found["BATCH.DELETE.OBJECT"]} == {"copy", "a%20b/%C3%A9"}
    assert all(re.fullmatch(r"web/\d{4}(-\d\d){5}-[0-9A-F]{16}", key) for key in logs(s3, target))
    assert metric(logged, "basalt_access_log_delivered_objects_total") >= 1
    assert metric(logged, "basalt_access_log_dropped_records_total") == dropped


def test_expiry_by_lifecycle_is_recorded(buckets):
    s3, source, target = buckets
    parted = {"PartitionedPrefix": {"PartitionDateSource": "EventTime"}}
    log_into(s3, source, target, TargetObjectKeyFormat=parted)
    s3.put_object(Bucket=source, Key="old/1", Body=b"v")
    rule = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "old/"}, "Expiration": {"Days": 1}}
    s3.put_bucket_lifecycle_configuration(Bucket=source, LifecycleConfiguration={"Rules": [rule]})

    def expired():
        return [record for record in records(s3, target) if record["operation"] == "S3.EXPIRE.OBJECT"]

    record = basalt.until(expired, DEADLINE_S, "the expiry is in the log")[0]
    assert (record["requester"], record["ip"], record["key"], record["uri"]) == ("AmazonS3", "-", "old/1", "-")
    account = s3.list_buckets()["Owner"]["ID"]
    form = rf"web/{account}/{basalt.REGION}/{source}/\d{{4}}/\d\d/\d\d/\d{{4}}-\d\d-\d\d-00-00-00-[0-9A-F]{{16}}"
    assert all(re.fullmatch(form, key) for key in logs(s3, target))


def test_targets_are_checked_and_a_lost_one_is_told(logged, buckets):
    s3, source, target = buckets
    with pytest.raises(ClientError) as error:
        enabled = {"TargetBucket": bucket_name("none"), "TargetPrefix": ""}
        s3.put_bucket_logging(Bucket=source, BucketLoggingStatus={"LoggingEnabled": enabled})
    assert error.value.response["Error"]["Code"] == "InvalidTargetBucketForLogging"
    log_into(s3, source, target)
    failed = metric(logged, "basalt_access_log_failed_deliveries_total")
    dropped = metric(logged, "basalt_access_log_dropped_records_total")
    s3.delete_bucket_policy(Bucket=target)
    s3.list_objects_v2(Bucket=source)
    told = lambda: metric(logged, "basalt_access_log_failed_deliveries_total") > failed  # noqa: E731
    basalt.until(told, DEADLINE_S, "the failed delivery is counted")
    assert metric(logged, "basalt_access_log_dropped_records_total") > dropped
    assert "access log was dropped" in logged.log_tail()
    s3.put_bucket_logging(Bucket=source, BucketLoggingStatus={})
    assert "LoggingEnabled" not in s3.get_bucket_logging(Bucket=source)


def test_a_stop_delivers_what_waits(new_server):
    server = new_server("access-logs-stop", args=["--access-log-interval-seconds", "86400"])
    s3, source, target = s3_client(server), bucket_name("source"), bucket_name("logs")
    s3.create_bucket(Bucket=source)
    s3.create_bucket(Bucket=target)
    log_into(s3, source, target)
    for number in range(50):
        s3.put_object(Bucket=source, Key=f"k{number}", Body=b"v")
    assert logs(s3, target) == {}
    assert server.stop() == 0
    server.start()
    puts = [record["key"] for record in records(s3, target) if record["operation"] == "REST.PUT.OBJECT"]
    assert sorted(puts) == sorted(f"k{number}" for number in range(50))
