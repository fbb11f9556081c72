"""Who may do what: root, two users and nobody, over policies, access lists and blocks."""

import http.client
import io
import json
import zipfile

import boto3
import botocore
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

import server as basalt
from conftest import s3_client
from test_basaltctl import ctl

EVERYONE = "http://acs.amazonaws.com/groups/global/AllUsers"


def client(server, access_key=None, secret_key=None):
    """A client of an account, or of nobody."""
    signed = access_key is not None
    config = Config(
        signature_version="s3v4" if signed else botocore.UNSIGNED, s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}
    )
    return boto3.client(
        "s3", endpoint_url=server.endpoint, region_name=basalt.REGION, config=config,
        aws_access_key_id=access_key, aws_secret_access_key=secret_key,
    )


@pytest.fixture(scope="module")
def people(server):
    """ann, ben and nobody; the users are made once, and leave nothing behind."""
    if server.external:
        pytest.skip("SKIPPED: users are made with basaltctl; E2E_ENDPOINT names a foreign server")
    made, users = {"nobody": client(server)}, {"ann": "access-ann", "ben": "access-ben"}
    for name, user in users.items():
        keys = (f"{user}-key", f"{user}-secret-of-the-tests")
        ctl(server, "user", "add", user, "--access-key", keys[0], "--secret-key", keys[1])
        made[name] = client(server, *keys)
        made[f"{name}_id"] = made[name].list_buckets()["Owner"]["ID"]
    yield made
    root = s3_client(server)
    for name, user in users.items():
        for bucket in made[name].list_buckets()["Buckets"]:
            root.delete_bucket_policy(Bucket=bucket["Name"])
            for entry in root.list_objects_v2(Bucket=bucket["Name"]).get("Contents", []):
                root.delete_object(Bucket=bucket["Name"], Key=entry["Key"])
            root.delete_bucket(Bucket=bucket["Name"])
        ctl(server, "--yes", "user", "remove", user)


@pytest.fixture
def ann(people):
    return people["ann"]


@pytest.fixture
def ben(people):
    return people["ben"]


@pytest.fixture
def nobody(people):
    return people["nobody"]


@pytest.fixture
def anns(ann, request):
    """A bucket of ann's; with lists that count if the test's name says so."""
    name = request.node.name.replace("_", "-").replace("[", "-").replace("]", "")[-50:].strip("-").lower()
    how = {"ObjectOwnership": "ObjectWriter"} if "list" in request.node.name else {}
    ann.create_bucket(Bucket=name, **how)
    return name


def code(call):
    """The code of a refusal; None where there is none."""
    try:
        call()
        return None
    except ClientError as error:
        return error.response["Error"]["Code"]


def allow(bucket, actions, who="*", **condition):
    policy = {"Effect": "Allow", "Principal": who, "Action": actions, "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}
    if condition:
        policy["Condition"] = condition
    return policy


def put_policy(s3, bucket, *statements):
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))


def test_a_bucket_is_its_owners_and_roots_alone(server, ann, ben, nobody, anns):
    ann.put_object(Bucket=anns, Key="k", Body=b"hers")
    assert s3_client(server).get_object(Bucket=anns, Key="k")["Body"].read() == b"hers"
    for other in (ben, nobody):
        for call in (
            lambda: other.get_object(Bucket=anns, Key="k"),
            lambda: other.put_object(Bucket=anns, Key="k", Body=b"x"),
            lambda: other.delete_object(Bucket=anns, Key="k"),
            lambda: other.list_objects_v2(Bucket=anns),
            lambda: other.get_bucket_policy(Bucket=anns),
            lambda: other.delete_bucket(Bucket=anns),
            lambda: other.create_multipart_upload(Bucket=anns, Key="k"),
        ):
            assert code(call) == "AccessDenied"
    assert code(nobody.list_buckets) == "AccessDenied"
    assert code(lambda: ben.create_bucket(Bucket=anns)) == "BucketAlreadyExists"
    assert anns not in [bucket["Name"] for bucket in ben.list_buckets()["Buckets"]]


def test_a_policy_opens_a_bucket_to_one_user_and_then_to_all(people, ann, ben, nobody, anns):
    ann.put_object(Bucket=anns, Key="k", Body=b"x")
    put_policy(ann, anns, allow(anns, ["s3:GetObject", "s3:ListBucket"], {"AWS": f"arn:aws:iam::{people['ben_id']}:user/access-ben"}))
    assert ben.get_object(Bucket=anns, Key="k")["Body"].read() == b"x"
    assert code(lambda: ben.get_object(Bucket=anns, Key="none")) == "NoSuchKey"
    assert code(lambda: nobody.get_object(Bucket=anns, Key="k")) == "AccessDenied"
    put_policy(ann, anns, allow(anns, "s3:GetObject"))
    assert nobody.get_object(Bucket=anns, Key="k")["Body"].read() == b"x"
    assert code(lambda: nobody.get_object(Bucket=anns, Key="none")) == "AccessDenied"
    assert code(lambda: nobody.list_objects_v2(Bucket=anns)) == "AccessDenied"
    assert ann.get_bucket_policy_status(Bucket=anns)["PolicyStatus"]["IsPublic"] is True
    ann.delete_bucket_policy(Bucket=anns)
    assert code(lambda: ben.get_object(Bucket=anns, Key="k")) == "AccessDenied"


def test_conditions_act_on_prefix_tag_and_address(ann, ben, anns):
    for key in ("open/a", "shut/b"):
        ann.put_object(Bucket=anns, Key=key, Body=b"x", Tagging=f"class={key[:4]}")
    put_policy(
        ann, anns,
        allow(anns, "s3:ListBucket", StringLike={"s3:prefix": "open/*"}),
        allow(anns, "s3:GetObject", StringEquals={"s3:ExistingObjectTag/class": "open"}, IpAddress={"aws:SourceIp": "127.0.0.0/8"}),
    )
    assert [o["Key"] for o in ben.list_objects_v2(Bucket=anns, Prefix="open/")["Contents"]] == ["open/a"]
    assert code(lambda: ben.list_objects_v2(Bucket=anns, Prefix="shut/")) == "AccessDenied"
    assert ben.get_object(Bucket=anns, Key="open/a")["Body"].read() == b"x"
    assert code(lambda: ben.get_object(Bucket=anns, Key="shut/b")) == "AccessDenied"
    assert code(lambda: ben.head_object(Bucket=anns, Key="open/none")) == "404"
    assert code(lambda: ben.head_object(Bucket=anns, Key="shut/none")) == "403"


def test_a_deny_holds_for_owner_and_root_until_the_policy_is_gone(server, ann, anns):
    ann.put_object(Bucket=anns, Key="k", Body=b"x")
    put_policy(ann, anns, {**allow(anns, "s3:*"), "Effect": "Deny"})
    for s3 in (ann, s3_client(server)):
        assert code(lambda: s3.get_object(Bucket=anns, Key="k")) == "AccessDenied"
        assert code(lambda: s3.delete_bucket(Bucket=anns)) == "AccessDenied"
    ann.delete_bucket_policy(Bucket=anns)
    assert ann.get_object(Bucket=anns, Key="k")["Body"].read() == b"x"


def test_copies_need_both_sides(ann, ben, anns):
    ann.put_object(Bucket=anns, Key="src", Body=b"x", Tagging="a=1")
    bens = f"{anns}-b"[-60:].strip("-")
    ben.create_bucket(Bucket=bens)
    copy = lambda **how: ben.copy_object(Bucket=bens, Key="dst", CopySource={"Bucket": anns, "Key": "src"}, **how)
    assert code(copy) == "AccessDenied"
    put_policy(ann, anns, allow(anns, "s3:GetObject"))
    assert code(copy) == "AccessDenied", "the tags go along"
    copy(TaggingDirective="REPLACE")
    put_policy(ann, anns, allow(anns, ["s3:GetObject", "s3:GetObjectTagging"]))
    copy()
    assert ben.get_object(Bucket=bens, Key="dst")["Body"].read() == b"x"


def test_deletes_of_many_are_decided_one_by_one(ann, ben, anns):
    for key in ("a/1", "b/1"):
        ann.put_object(Bucket=anns, Key=key)
    statement = {**allow(anns, "s3:DeleteObject"), "Resource": f"arn:aws:s3:::{anns}/a/*"}
    put_policy(ann, anns, statement)
    done = ben.delete_objects(Bucket=anns, Delete={"Objects": [{"Key": "a/1"}, {"Key": "b/1"}]})
    assert [d["Key"] for d in done["Deleted"]] == ["a/1"]
    assert [(e["Key"], e["Code"]) for e in done["Errors"]] == [("b/1", "AccessDenied")]


def test_a_list_does_not_count_where_the_owner_owns_everything(ann):
    bucket = "enforced-bucket"
    ann.create_bucket(Bucket=bucket)
    assert ann.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert code(lambda: ann.put_bucket_acl(Bucket=bucket, ACL="public-read")) == "AccessControlListNotSupported"
    assert code(lambda: ann.put_object(Bucket=bucket, Key="k", ACL="public-read")) == "AccessControlListNotSupported"
    ann.put_object(Bucket=bucket, Key="k", ACL="bucket-owner-full-control")


def test_a_list_of_a_bucket_and_of_its_objects(people, ann, ben, nobody, anns):
    ann.put_bucket_acl(Bucket=anns, ACL="public-read-write")
    ann.put_object(Bucket=anns, Key="private", Body=b"p")
    ann.put_object(Bucket=anns, Key="public", Body=b"o", ACL="public-read")
    assert len(nobody.list_objects_v2(Bucket=anns)["Contents"]) == 2
    assert nobody.get_object(Bucket=anns, Key="public")["Body"].read() == b"o"
    assert code(lambda: nobody.get_object(Bucket=anns, Key="private")) == "AccessDenied"
    assert code(lambda: nobody.get_object(Bucket=anns, Key="none")) == "NoSuchKey"
    ben.put_object(Bucket=anns, Key="bens", Body=b"b")
    assert code(lambda: ann.get_object(Bucket=anns, Key="bens")) == "AccessDenied"
    acl = ben.get_object_acl(Bucket=anns, Key="bens")
    assert (acl["Owner"]["ID"], acl["Owner"]["DisplayName"]) == (people["ben_id"], "access-ben")
    ben.put_object_acl(Bucket=anns, Key="bens", GrantRead=f'id="{people["ann_id"]}"')
    assert ann.get_object(Bucket=anns, Key="bens")["Body"].read() == b"b"
    ann.copy_object(Bucket=anns, Key="mine", CopySource={"Bucket": anns, "Key": "bens"})
    assert ann.get_object_acl(Bucket=anns, Key="mine")["Owner"]["ID"] == people["ann_id"]
    assert code(lambda: ben.get_object(Bucket=anns, Key="mine")) == "AccessDenied"
    grants = ann.get_object_acl(Bucket=anns, Key="public")["Grants"]
    assert {"Grantee": {"Type": "Group", "URI": EVERYONE}, "Permission": "READ"} in grants
    ann.put_object_acl(Bucket=anns, Key="public", ACL="private")
    assert code(lambda: nobody.get_object(Bucket=anns, Key="public")) == "AccessDenied"
    ann.delete_object(Bucket=anns, Key="bens")


def test_listings_name_the_owner_of_each_object_and_upload(people, ann, ben, anns):
    ann.put_bucket_acl(Bucket=anns, ACL="public-read-write")
    ann.put_object(Bucket=anns, Key="a", Body=b"1")
    ben.put_object(Bucket=anns, Key="b", Body=b"1")
    uploads = [(who, key, who.create_multipart_upload(Bucket=anns, Key=key)["UploadId"]) for who, key in [(ann, "a"), (ben, "b")]]
    owners = {"a": people["ann_id"], "b": people["ben_id"]}
    for entries in (
        ann.list_objects(Bucket=anns)["Contents"],
        ann.list_objects_v2(Bucket=anns, FetchOwner=True)["Contents"],
        ann.list_object_versions(Bucket=anns)["Versions"],
        ann.list_multipart_uploads(Bucket=anns)["Uploads"],
    ):
        assert {entry["Key"]: entry["Owner"]["ID"] for entry in entries} == owners
    for who, key, upload in uploads:
        assert who.list_parts(Bucket=anns, Key=key, UploadId=upload)["Owner"]["ID"] == owners[key]
        who.abort_multipart_upload(Bucket=anns, Key=key, UploadId=upload)


def test_a_public_access_block_acts_on_policies_and_lists(ann, nobody, anns):
    ann.put_object(Bucket=anns, Key="k", Body=b"x", ACL="public-read")
    assert nobody.get_object(Bucket=anns, Key="k")["Body"].read() == b"x"
    block = lambda **on: ann.put_public_access_block(Bucket=anns, PublicAccessBlockConfiguration=on)
    block(IgnorePublicAcls=True)
    assert code(lambda: nobody.get_object(Bucket=anns, Key="k")) == "AccessDenied"
    block(BlockPublicAcls=True)
    assert code(lambda: ann.put_object_acl(Bucket=anns, Key="k", ACL="public-read")) == "AccessDenied"
    put_policy(ann, anns, allow(anns, "s3:ListBucket"))
    assert nobody.list_objects_v2(Bucket=anns)["KeyCount"] == 1
    block(RestrictPublicBuckets=True, BlockPublicPolicy=True)
    assert code(lambda: nobody.list_objects_v2(Bucket=anns)) == "AccessDenied"
    assert code(lambda: put_policy(ann, anns, allow(anns, "s3:ListBucket"))) == "AccessDenied"
    ann.delete_public_access_block(Bucket=anns)
    assert nobody.list_objects_v2(Bucket=anns)["KeyCount"] == 1


def test_a_deny_by_tag_covers_members_of_an_archive_and_listed_metadata(server, ann, nobody, anns):
    """Story: members of a ZIP and listings with metadata asked for the archive's key only, and not for what is tagged."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("inner.txt", "text")
    for key, tagging in [("open.zip", ""), ("secret.zip", "secret=1")]:
        ann.put_object(Bucket=anns, Key=key, Body=made.getvalue(), Tagging=tagging, Metadata={"of": key})
    deny = {**allow(anns, "s3:GetObject", StringEquals={"s3:ExistingObjectTag/secret": "1"}), "Effect": "Deny"}
    both = [allow(anns, ["s3:GetObject", "s3:ListBucket"]), deny]
    ann.put_bucket_policy(Bucket=anns, Policy=json.dumps({"Version": "2012-10-17", "Statement": both}))
    assert code(lambda: nobody.get_object(Bucket=anns, Key="secret.zip")) == "AccessDenied"

    def plain(path, **headers):
        wire = http.client.HTTPConnection(server.host, server.port)
        wire.request("GET", f"/{anns}{path}", headers=headers)
        answer = wire.getresponse()
        return answer.status, answer.read()

    extract = {"x-minio-extract": "true"}
    assert plain("/open.zip/inner.txt", **extract) == (200, b"text")
    assert plain("/secret.zip/inner.txt", **extract)[0] == 403
    assert plain("?list-type=2&prefix=open.zip/", **extract)[0] == 200
    assert plain("?list-type=2&prefix=secret.zip/", **extract)[0] == 403
    status, page = plain("?list-type=2&metadata=true")
    assert status == 200 and b"<of>open.zip</of>" in page.lower().replace(b"x-amz-meta-", b"")
    assert b"<of>secret.zip</of>" not in page.lower().replace(b"x-amz-meta-", b"")


def test_a_bucket_of_another_owner_than_expected_is_refused(people, ann, anns):
    assert code(lambda: ann.head_bucket(Bucket=anns, ExpectedBucketOwner=people["ann_id"])) is None
    assert code(lambda: ann.list_objects_v2(Bucket=anns, ExpectedBucketOwner=people["ben_id"])) == "AccessDenied"
