"""Configuration of buckets with boto3: what comes back, what is refused, what browsers are told, what lifecycle removes."""

import http.client

import pytest
from botocore.exceptions import ClientError

import server as basalt
from conftest import bucket_name, empty_bucket, s3_client

# A day of lifecycle rules on the server that acts on them.
DAY_S = 2
CORS = {
    "CORSRules": [
        {
            "AllowedMethods": ["GET", "PUT"],
            "AllowedOrigins": ["https://*.example.com"],
            "AllowedHeaders": ["x-amz-*"],
            "ExposeHeaders": ["ETag"],
            "MaxAgeSeconds": 60,
        }
    ]
}


def refused(code, call, **parameters):
    with pytest.raises(ClientError) as error:
        call(**parameters)
    assert error.value.response["Error"]["Code"] == code, error.value


def rule(prefix, **more):
    return {"ID": prefix.strip("/") or "all", "Status": "Enabled", "Filter": {"Prefix": prefix}, **more}


@pytest.fixture
def own(s3):
    name = bucket_name("config")
    s3.create_bucket(Bucket=name)
    yield name
    empty_bucket(s3, name)
    s3.delete_bucket(Bucket=name)


def test_documents_come_back_as_they_were_put(s3, own):
    tags = [{"Key": "team", "Value": "a = b @ 1"}]
    s3.put_bucket_tagging(Bucket=own, Tagging={"TagSet": tags})
    assert s3.get_bucket_tagging(Bucket=own)["TagSet"] == tags
    s3.put_bucket_cors(Bucket=own, CORSConfiguration=CORS)
    assert s3.get_bucket_cors(Bucket=own)["CORSRules"] == CORS["CORSRules"]
    both = {"And": {"Prefix": "a/", "Tags": tags, "ObjectSizeGreaterThan": 7}}
    rules = [{"ID": "one", "Status": "Disabled", "Filter": both, "Expiration": {"Days": 9}}]
    s3.put_bucket_lifecycle_configuration(Bucket=own, LifecycleConfiguration={"Rules": rules})
    assert s3.get_bucket_lifecycle_configuration(Bucket=own)["Rules"] == rules
    for delete, get, code in [
        (s3.delete_bucket_tagging, s3.get_bucket_tagging, "NoSuchTagSet"),
        (s3.delete_bucket_cors, s3.get_bucket_cors, "NoSuchCORSConfiguration"),
        (s3.delete_bucket_lifecycle, s3.get_bucket_lifecycle_configuration, "NoSuchLifecycleConfiguration"),
    ]:
        delete(Bucket=own)
        refused(code, get, Bucket=own)


def test_what_would_have_to_act_is_refused(s3, own):
    s3.put_bucket_request_payment(Bucket=own, RequestPaymentConfiguration={"Payer": "BucketOwner"})
    s3.put_bucket_notification_configuration(Bucket=own, NotificationConfiguration={})
    s3.put_bucket_accelerate_configuration(Bucket=own, AccelerateConfiguration={"Status": "Suspended"})
    assert s3.get_bucket_accelerate_configuration(Bucket=own)["Status"] == "Suspended"
    requester = {"Payer": "Requester"}
    refused("NotImplemented", s3.put_bucket_request_payment, Bucket=own, RequestPaymentConfiguration=requester)
    kms = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]}
    refused("NotImplemented", s3.put_bucket_encryption, Bucket=own, ServerSideEncryptionConfiguration=kms)
    refused("ServerSideEncryptionConfigurationNotFoundError", s3.get_bucket_encryption, Bucket=own)
    zero = {"Rules": [rule("", Expiration={"Days": 0})]}
    refused("InvalidArgument", s3.put_bucket_lifecycle_configuration, Bucket=own, LifecycleConfiguration=zero)
    reserved = {"TagSet": [{"Key": "aws:x", "Value": ""}]}
    refused("InvalidTag", s3.put_bucket_tagging, Bucket=own, Tagging=reserved)


def test_a_browser_is_told_what_the_rules_allow(s3, own, server):
    s3.put_bucket_cors(Bucket=own, CORSConfiguration=CORS)
    s3.put_object(Bucket=own, Key="k", Body=b"v")

    def preflight(origin, method):
        plain = http.client.HTTPConnection(server.host, server.port)
        headers = {"Origin": origin, "Access-Control-Request-Method": method}
        plain.request("OPTIONS", f"/{own}/k", headers=headers)
        answer = plain.getresponse()
        answer.read()
        return answer

    allowed = preflight("https://a.example.com", "PUT")
    assert allowed.status == 200
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://a.example.com"
    assert allowed.headers["Access-Control-Allow-Methods"] == "GET, PUT"
    assert preflight("https://example.org", "PUT").status == 403
    assert preflight("https://a.example.com", "DELETE").status == 403


def test_a_bucket_begins_with_its_tags(s3):
    name = bucket_name("config")
    tags = [{"Key": "a", "Value": "1"}]
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"Tags": tags})
    assert s3.get_bucket_tagging(Bucket=name)["TagSet"] == tags
    s3.delete_bucket(Bucket=name)
    s3.create_bucket(Bucket=name)
    refused("NoSuchTagSet", s3.get_bucket_tagging, Bucket=name)
    s3.delete_bucket(Bucket=name)


def test_lifecycle_removes_what_its_rules_name_also_after_a_kill(new_server):
    server = new_server("lifecycle", args=["--lifecycle-day-seconds", str(DAY_S)])
    s3, name = s3_client(server), bucket_name("lifecycle")
    s3.create_bucket(Bucket=name)
    for key, tagging in [("logs/1", ""), ("logs/2", ""), ("kept", ""), ("tagged", "gone=yes"), ("other", "gone=no")]:
        s3.put_object(Bucket=name, Key=key, Body=b"v", Tagging=tagging)
    s3.create_multipart_upload(Bucket=name, Key="logs/upload")
    s3.create_multipart_upload(Bucket=name, Key="kept/upload")
    by_tag = {**rule("tagged"), "Filter": {"Tag": {"Key": "gone", "Value": "yes"}}, "Expiration": {"Days": 1}}
    abort = {"DaysAfterInitiation": 1}
    rules = [rule("logs/", Expiration={"Days": 1}, AbortIncompleteMultipartUpload=abort), by_tag]
    s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})
    told = s3.put_object(Bucket=name, Key="logs/3", Body=b"v")["Expiration"]
    assert 'rule-id="logs"' in told and told.startswith('expiry-date="'), told
    server.kill9()
    server.start()

    def left():
        keys = [found["Key"] for found in s3.list_objects_v2(Bucket=name).get("Contents", [])]
        uploads = [found["Key"] for found in s3.list_multipart_uploads(Bucket=name).get("Uploads", [])]
        return keys == ["kept", "other"] and uploads == ["kept/upload"]

    basalt.until(left, 20 * DAY_S, "only what no rule names is left")


def test_lifecycle_removes_older_versions_and_lone_markers_and_nothing_locked(new_server):
    server = new_server("lifecycle-versions", args=["--lifecycle-day-seconds", str(DAY_S)])
    s3, name = s3_client(server), bucket_name("lifecycle")
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    for key in ["old/a", "old/b", "kept/a", "old/locked"]:
        for body in [b"1", b"2", b"3"]:
            s3.put_object(Bucket=name, Key=key, Body=body)
    s3.delete_object(Bucket=name, Key="old/b")
    held = s3.list_object_versions(Bucket=name, Prefix="old/locked")["Versions"][1]["VersionId"]
    hold = {"Status": "ON"}
    s3.put_object_legal_hold(Bucket=name, Key="old/locked", VersionId=held, LegalHold=hold)
    gone = {"NoncurrentDays": 1}
    lone = {"ExpiredObjectDeleteMarker": True}
    rules = [rule("old/", NoncurrentVersionExpiration=gone, Expiration=lone)]
    s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})
    assert s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"] == rules

    def left():
        page = s3.list_object_versions(Bucket=name)
        counts = {}
        for version in page.get("Versions", []):
            counts[version["Key"]] = counts.get(version["Key"], 0) + 1
        return "DeleteMarkers" not in page and counts == {"kept/a": 3, "old/a": 1, "old/locked": 2}

    basalt.until(left, 20 * DAY_S, "only current, locked and unnamed versions are left")
    assert s3.get_object(Bucket=name, Key="old/locked", VersionId=held)["Body"].read() == b"2"
