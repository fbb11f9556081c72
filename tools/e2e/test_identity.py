"""Users and their access keys, made with basaltctl, asked with boto3: who may do what, and what changes at once."""

import boto3
import pytest
from botocore.client import Config
from botocore.exceptions import ClientError

import server as basalt
from conftest import s3_client
from test_basaltctl import FAILED, asked, ctl

SECRET = "secret-of-the-user"


@pytest.fixture(scope="module")
def admin(server):
    if not hasattr(server, "admin"):
        pytest.skip("SKIPPED: users are made with basaltctl; E2E_ENDPOINT names a foreign server")
    return server


def client(server, key):
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=key["access_key"],
        aws_secret_access_key=key["secret_key"],
        region_name=basalt.REGION,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def refused(code, call, **parameters):
    with pytest.raises(ClientError) as error:
        call(**parameters)
    assert error.value.response["Error"]["Code"] == code, error.value
    return error.value.response


@pytest.fixture(scope="module")
def users(admin):
    server = admin
    made = [asked(server, "user", "add", name)["key"] for name in ("ann", "bob")]
    yield made
    for name in ("ann", "bob"):
        ctl(server, "--yes", "user", "remove", name)


def test_two_users_own_their_buckets_and_no_others(server, users):
    ann, bob, root = client(server, users[0]), client(server, users[1]), s3_client(server)
    ann.create_bucket(Bucket="anns")
    bob.create_bucket(Bucket="bobs")
    ann.put_object(Bucket="anns", Key="k", Body=b"hers")
    refused("AccessDenied", bob.get_object, Bucket="anns", Key="k")
    refused("AccessDenied", bob.list_objects_v2, Bucket="anns")
    refused("AccessDenied", bob.copy_object, Bucket="bobs", Key="k", CopySource="anns/k")
    refused("AccessDenied", bob.delete_bucket, Bucket="anns")
    refused("BucketAlreadyExists", bob.create_bucket, Bucket="anns")
    refused("BucketAlreadyOwnedByYou", ann.create_bucket, Bucket="anns")
    assert root.get_object(Bucket="anns", Key="k")["Body"].read() == b"hers"

    listed = ann.list_buckets()
    assert [bucket["Name"] for bucket in listed["Buckets"]] == ["anns"]
    owner = listed["Owner"]
    assert owner["DisplayName"] == "ann" and len(owner["ID"]) == 64
    assert owner["ID"] == next(user["id"] for user in asked(server, "user", "list")["users"] if user["name"] == "ann")
    assert {"anns", "bobs"} <= {bucket["Name"] for bucket in root.list_buckets()["Buckets"]}
    assert root.list_objects_v2(Bucket="anns", FetchOwner=True)["Contents"][0]["Owner"] == owner
    assert root.list_object_versions(Bucket="anns")["Versions"][0]["Owner"] == owner
    assert root.get_bucket_acl(Bucket="anns")["Owner"] == owner
    upload = root.create_multipart_upload(Bucket="anns", Key="big")["UploadId"]
    shown = ann.list_multipart_uploads(Bucket="anns")["Uploads"][0]
    assert shown["Owner"] == owner and shown["Initiator"]["DisplayName"] == "root"
    ann.abort_multipart_upload(Bucket="anns", Key="big", UploadId=upload)

    assert "owns buckets" in ctl(server, "--yes", "user", "remove", "ann", code=FAILED)
    ann.delete_object(Bucket="anns", Key="k")
    ann.delete_bucket(Bucket="anns")
    bob.delete_bucket(Bucket="bobs")


def test_keys_are_added_rotated_disabled_and_removed_at_once(server, users):
    second = asked(server, "key", "add", "ann", "--access-key", "ANNSECOND", "--secret-key", SECRET)["key"]
    assert second == {"user": "ann", "access_key": "ANNSECOND", "secret_key": SECRET}
    client(server, second).list_buckets()
    rotated = asked(server, "--yes", "key", "rotate", "ANNSECOND")["key"]
    refused("SignatureDoesNotMatch", client(server, second).list_buckets)
    client(server, rotated).list_buckets()
    ctl(server, "key", "disable", "ANNSECOND")
    refused("InvalidAccessKeyId", client(server, rotated).list_buckets)
    ctl(server, "key", "enable", "ANNSECOND")
    client(server, rotated).list_buckets()
    (ann,) = asked(server, "key", "list", "ann")["users"]
    shown = next(key for key in ann["keys"] if key["access_key"] == "ANNSECOND")
    assert shown["enabled"] and shown["last_used_ms"] >= shown["created_ms"] > 0 and "secret_key" not in shown
    ctl(server, "--yes", "key", "remove", "ANNSECOND")
    refused("InvalidAccessKeyId", client(server, rotated).list_buckets)
    client(server, users[0]).list_buckets()


def test_only_root_may_ask_the_admin_api_and_its_own_key_is_not_removed(server, users):
    keys = (users[0]["access_key"], users[0]["secret_key"])
    assert "root account" in ctl(server, "user", "list", keys=keys, code=FAILED)
    assert "--yes" in ctl(server, "user", "remove", "ann", code=FAILED)
    assert "started with" in ctl(server, "--yes", "key", "remove", basalt.ACCESS_KEY, code=FAILED)
    assert "cannot be removed" in ctl(server, "--yes", "user", "remove", "root", code=FAILED)
    assert "there is such a user" in ctl(server, "--yes", "user", "add", "ann", code=FAILED)
    assert "no user" in ctl(server, "--yes", "key", "add", "nobody", code=FAILED)
