"""Versions, delete markers and object lock as boto3 shows them."""

import concurrent.futures
import datetime
import random

import pytest
from botocore.exceptions import ClientError

from conftest import bucket_name
from test_boto3 import refused


def wipe(s3, name):
    """Removes every version, locked or not by governance, and the bucket."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
        for entry in page.get("Versions", []) + page.get("DeleteMarkers", []):
            named = {"Bucket": name, "Key": entry["Key"], "VersionId": entry["VersionId"]}
            try:
                s3.delete_object(**named, BypassGovernanceRetention=True)
            except ClientError:
                s3.put_object_legal_hold(**named, LegalHold={"Status": "OFF"})
                s3.delete_object(**named, BypassGovernanceRetention=True)
    s3.delete_bucket(Bucket=name)


def set_versioning(s3, name, status):
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": status})


@pytest.fixture
def versioned(s3):
    name = bucket_name()
    s3.create_bucket(Bucket=name)
    set_versioning(s3, name, "Enabled")
    yield name
    wipe(s3, name)


@pytest.fixture
def plain(s3):
    name = bucket_name()
    s3.create_bucket(Bucket=name)
    yield name
    wipe(s3, name)


@pytest.fixture
def locked(s3):
    name = bucket_name()
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    yield name
    wipe(s3, name)


def listed(s3, name, page=1000, **how):
    """(key, version, is latest, is marker) of every page."""
    entries = []
    pages = s3.get_paginator("list_object_versions").paginate(
        Bucket=name, PaginationConfig={"PageSize": page}, **how
    )
    for found in pages:
        part = [(e["Key"], e["VersionId"], e["IsLatest"], False) for e in found.get("Versions", [])]
        part += [(e["Key"], e["VersionId"], e["IsLatest"], True) for e in found.get("DeleteMarkers", [])]
        # Ids of one key sort the newest first; boto3 gives versions and markers apart.
        entries += part
    return entries


def body(s3, name, key, **how):
    return s3.get_object(Bucket=name, Key=key, **how)["Body"].read()


def test_versioning_is_unset_enabled_suspended_and_words_that_are_unknown_are_refused(s3, plain):
    assert "Status" not in s3.get_bucket_versioning(Bucket=plain)
    assert "VersionId" not in s3.put_object(Bucket=plain, Key="k", Body=b"1")
    for status in ["Enabled", "Suspended", "Enabled"]:
        set_versioning(s3, plain, status)
        assert s3.get_bucket_versioning(Bucket=plain)["Status"] == status
    refused(lambda: set_versioning(s3, plain, "On"), 400, "MalformedXML")
    with_mfa = {"Status": "Enabled", "MFADelete": "Enabled"}
    refused(
        lambda: s3.put_bucket_versioning(Bucket=plain, VersioningConfiguration=with_mfa), 501, "NotImplemented"
    )


def test_older_versions_are_read_by_their_ids_and_the_newest_without(s3, versioned):
    made = [s3.put_object(Bucket=versioned, Key="k", Body=str(n).encode())["VersionId"] for n in range(4)]
    assert len(set(made)) == 4
    for n, version in enumerate(made):
        assert body(s3, versioned, "k", VersionId=version) == str(n).encode()
        assert s3.head_object(Bucket=versioned, Key="k", VersionId=version)["VersionId"] == version
    assert s3.get_object(Bucket=versioned, Key="k")["VersionId"] == made[3]
    assert [e[1:3] for e in listed(s3, versioned)] == [(v, v == made[3]) for v in reversed(made)]
    other = made[0][:-1] + ("0" if made[0][-1] != "0" else "1")
    refused(lambda: body(s3, versioned, "k", VersionId=other), 404, "NoSuchVersion")
    refused(lambda: body(s3, versioned, "none", VersionId=made[0]), 404, "NoSuchVersion")
    answer = refused(lambda: body(s3, versioned, "k", VersionId="no-id"), 400, "InvalidArgument")
    assert answer["Error"]["Message"] == "Invalid version id specified"
    refused(lambda: body(s3, versioned, "k", VersionId="null"), 404, "NoSuchVersion")


def test_a_delete_makes_a_marker_and_removing_that_brings_the_object_back(s3, versioned):
    version = s3.put_object(Bucket=versioned, Key="k", Body=b"x")["VersionId"]
    deleted = s3.delete_object(Bucket=versioned, Key="k")
    assert deleted["DeleteMarker"] is True
    marker = deleted["VersionId"]
    headers = refused(lambda: body(s3, versioned, "k"), 404, "NoSuchKey")["ResponseMetadata"]["HTTPHeaders"]
    assert (headers["x-amz-delete-marker"], headers["x-amz-version-id"]) == ("true", marker)
    by_id = refused(lambda: body(s3, versioned, "k", VersionId=marker), 405, "MethodNotAllowed")
    headers = by_id["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amz-delete-marker"] == "true" and "last-modified" in headers
    refused(lambda: s3.head_object(Bucket=versioned, Key="k"), 404, "404")
    refused(lambda: s3.head_object(Bucket=versioned, Key="k", VersionId=marker), 405, "405")
    assert "Contents" not in s3.list_objects_v2(Bucket=versioned)
    refused(lambda: s3.delete_bucket(Bucket=versioned), 409, "BucketNotEmpty")
    again = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    assert again != marker
    for one in [again, marker]:
        gone = s3.delete_object(Bucket=versioned, Key="k", VersionId=one)
        assert (gone["DeleteMarker"], gone["VersionId"]) == (True, one)
    assert s3.get_object(Bucket=versioned, Key="k")["VersionId"] == version
    gone = s3.delete_object(Bucket=versioned, Key="k", VersionId=version)
    assert gone["VersionId"] == version and "DeleteMarker" not in gone
    assert s3.delete_object(Bucket=versioned, Key="k", VersionId=version)["VersionId"] == version


def test_null_versions_are_replaced_while_suspended_and_kept_while_enabled(s3, plain):
    s3.put_object(Bucket=plain, Key="k", Body=b"before")
    set_versioning(s3, plain, "Enabled")
    assert s3.get_object(Bucket=plain, Key="k")["VersionId"] == "null"
    named = s3.put_object(Bucket=plain, Key="k", Body=b"named")["VersionId"]
    assert body(s3, plain, "k", VersionId="null") == b"before"
    set_versioning(s3, plain, "Suspended")
    for text in [b"null 1", b"null 2"]:
        assert "VersionId" not in s3.put_object(Bucket=plain, Key="k", Body=text)
    assert s3.head_object(Bucket=plain, Key="k")["VersionId"] == "null"
    assert [e[1] for e in listed(s3, plain)] == ["null", named]
    deleted = s3.delete_object(Bucket=plain, Key="k")
    assert (deleted["VersionId"], deleted["DeleteMarker"]) == ("null", True)
    assert sorted(e[1:] for e in listed(s3, plain)) == sorted([("null", True, True), (named, False, False)])
    s3.delete_object(Bucket=plain, Key="k", VersionId="null")
    assert body(s3, plain, "k") == b"named"
    s3.delete_object(Bucket=plain, Key="k", VersionId=named)
    assert listed(s3, plain) == []


def test_bulk_deletes_tell_of_versions_and_markers(s3, versioned):
    version = s3.put_object(Bucket=versioned, Key="a", Body=b"1")["VersionId"]
    s3.put_object(Bucket=versioned, Key="b", Body=b"1")
    objects = [{"Key": "a", "VersionId": version}, {"Key": "b"}, {"Key": "c", "VersionId": "nonsense"}]
    answer = s3.delete_objects(Bucket=versioned, Delete={"Objects": objects})
    of = {entry["Key"]: entry for entry in answer["Deleted"]}
    assert of["a"]["VersionId"] == version and "DeleteMarker" not in of["a"]
    assert of["b"]["DeleteMarker"] is True and "VersionId" not in of["b"]
    assert [(e["Key"], e["Code"]) for e in answer["Errors"]] == [("c", "NoSuchVersion")]
    marker = of["b"]["DeleteMarkerVersionId"]
    removal = {"Objects": [{"Key": "b", "VersionId": marker}]}
    gone = s3.delete_objects(Bucket=versioned, Delete=removal)["Deleted"][0]
    assert (gone["VersionId"], gone["DeleteMarker"], gone["DeleteMarkerVersionId"]) == (marker, True, marker)
    assert body(s3, versioned, "b") == b"1"


def test_copies_and_parts_come_from_the_version_that_is_named(s3, versioned):
    old = s3.put_object(Bucket=versioned, Key="k", Body=b"old" * 3000)["VersionId"]
    s3.put_object(Bucket=versioned, Key="k", Body=b"new" * 3000)
    source = {"Bucket": versioned, "Key": "k", "VersionId": old}
    copied = s3.copy_object(Bucket=versioned, Key="copy", CopySource=source)
    assert copied["CopySourceVersionId"] == old and copied["VersionId"] != old
    assert body(s3, versioned, "copy") == b"old" * 3000
    s3.copy_object(Bucket=versioned, Key="k", CopySource=source)
    assert body(s3, versioned, "k") == b"old" * 3000, "an older version comes back by a copy onto its key"
    upload = s3.create_multipart_upload(Bucket=versioned, Key="parts")["UploadId"]
    part = s3.upload_part_copy(
        Bucket=versioned, Key="parts", UploadId=upload, PartNumber=1, CopySource=source
    )
    assert part["CopySourceVersionId"] == old
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]}
    done = s3.complete_multipart_upload(Bucket=versioned, Key="parts", UploadId=upload, MultipartUpload=parts)
    assert s3.get_object(Bucket=versioned, Key="parts")["VersionId"] == done["VersionId"]
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    gone = {"Bucket": versioned, "Key": "k", "VersionId": marker}
    refused(lambda: s3.copy_object(Bucket=versioned, Key="x", CopySource=gone), 400, "InvalidRequest")
    current = {"Bucket": versioned, "Key": "k"}
    refused(lambda: s3.copy_object(Bucket=versioned, Key="x", CopySource=current), 404, "NoSuchKey")


def test_tags_belong_to_a_version(s3, versioned):
    old = s3.put_object(Bucket=versioned, Key="k", Body=b"1", Tagging="a=1")["VersionId"]
    new = s3.put_object(Bucket=versioned, Key="k", Body=b"2")["VersionId"]
    tags = {"TagSet": [{"Key": "b", "Value": "2"}]}
    assert s3.put_object_tagging(Bucket=versioned, Key="k", VersionId=old, Tagging=tags)["VersionId"] == old
    answer = s3.get_object_tagging(Bucket=versioned, Key="k", VersionId=old)
    assert (answer["TagSet"], answer["VersionId"]) == (tags["TagSet"], old)
    assert s3.get_object_tagging(Bucket=versioned, Key="k")["TagSet"] == []
    assert s3.delete_object_tagging(Bucket=versioned, Key="k", VersionId=old)["VersionId"] == old
    assert s3.get_object_tagging(Bucket=versioned, Key="k", VersionId=old)["TagSet"] == []
    assert s3.get_object_tagging(Bucket=versioned, Key="k")["VersionId"] == new


def test_conditional_writes_see_through_markers_to_nothing(s3, versioned):
    first = s3.put_object(Bucket=versioned, Key="k", Body=b"1", IfNoneMatch="*")
    refused(lambda: s3.put_object(Bucket=versioned, Key="k", Body=b"2", IfNoneMatch="*"), 412, "PreconditionFailed")
    assert s3.put_object(Bucket=versioned, Key="k", Body=b"2", IfMatch=first["ETag"])["VersionId"]
    s3.delete_object(Bucket=versioned, Key="k")
    refused(lambda: s3.put_object(Bucket=versioned, Key="k", Body=b"3", IfMatch=first["ETag"]), 404, "NoSuchKey")
    assert s3.put_object(Bucket=versioned, Key="k", Body=b"3", IfNoneMatch="*")["VersionId"]


def test_random_histories_page_exactly(s3, versioned):
    numbers = random.Random(7)
    keys = ["a", "a/b", "a/c d", "b/+", "c\u00e9/x", "z"]
    expected = {key: [] for key in keys}
    for n in range(120):
        key = numbers.choice(keys)
        if numbers.random() < 0.3:
            expected[key].insert(0, (s3.delete_object(Bucket=versioned, Key=key)["VersionId"], True))
        else:
            made = s3.put_object(Bucket=versioned, Key=key, Body=str(n).encode())["VersionId"]
            expected[key].insert(0, (made, False))
    for key in keys:
        for index in sorted(numbers.sample(range(len(expected[key])), 3), reverse=True):
            version = expected[key].pop(index)[0]
            s3.delete_object(Bucket=versioned, Key=key, VersionId=version)
    for prefix in ["", "a", "a/"]:
        wanted = sorted(
            (key, version, index == 0, is_marker)
            for key in keys
            if key.startswith(prefix)
            for index, (version, is_marker) in enumerate(expected[key])
        )
        for page in [1, 3, 7, 1000]:
            assert sorted(listed(s3, versioned, page, Prefix=prefix)) == wanted, (prefix, page)
    rolled = s3.list_object_versions(Bucket=versioned, Delimiter="/")
    assert [p["Prefix"] for p in rolled["CommonPrefixes"]] == ["a/", "b/", "c\u00e9/"]
    current = [key for key in keys if expected[key] and not expected[key][0][1]]
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=versioned).get("Contents", [])] == sorted(current)
    refused(lambda: s3.list_object_versions(Bucket=versioned, VersionIdMarker="null"), 400, "InvalidArgument")


def test_racing_writers_each_leave_a_version(s3, versioned):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        puts = [pool.submit(s3.put_object, Bucket=versioned, Key="k", Body=str(n)) for n in range(40)]
        made = {put.result()["VersionId"] for put in puts}
    assert {e[1] for e in listed(s3, versioned, 7)} == made


# Object lock


def later(**how):
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**how)


def test_a_retained_version_stays_until_governance_is_bypassed(s3, locked):
    assert s3.get_bucket_versioning(Bucket=locked)["Status"] == "Enabled"
    retention = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": later(days=1)}
    version = s3.put_object(Bucket=locked, Key="k", Body=b"x", **retention)["VersionId"]
    head = s3.head_object(Bucket=locked, Key="k")
    assert head["ObjectLockMode"] == "GOVERNANCE"
    named = {"Bucket": locked, "Key": "k", "VersionId": version}
    refused(lambda: s3.delete_object(**named), 403, "AccessDenied")
    one = {"Objects": [{"Key": "k", "VersionId": version}]}
    answer = s3.delete_objects(Bucket=locked, Delete=one)
    assert [e["Code"] for e in answer["Errors"]] == ["AccessDenied"]
    marker = s3.delete_object(Bucket=locked, Key="k")["VersionId"]
    assert s3.get_object(**named)["Body"].read() == b"x"
    shorter = {"Mode": "GOVERNANCE", "RetainUntilDate": later(hours=1)}
    refused(lambda: s3.put_object_retention(**named, Retention=shorter), 403, "AccessDenied")
    longer = {"Mode": "GOVERNANCE", "RetainUntilDate": later(days=2)}
    s3.put_object_retention(**named, Retention=longer)
    s3.put_object_retention(**named, Retention=shorter, BypassGovernanceRetention=True)
    assert s3.get_object_retention(**named)["Retention"]["Mode"] == "GOVERNANCE"
    s3.delete_object(**named, BypassGovernanceRetention=True)
    assert [e[1] for e in listed(s3, locked)] == [marker]


def test_compliance_yields_to_no_one_until_its_time(s3, locked):
    until = later(seconds=6)
    version = s3.put_object(
        Bucket=locked, Key="k", Body=b"x", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until
    )["VersionId"]
    named = {"Bucket": locked, "Key": "k", "VersionId": version}
    refused(lambda: s3.delete_object(**named, BypassGovernanceRetention=True), 403, "AccessDenied")
    weaker = {"Mode": "GOVERNANCE", "RetainUntilDate": later(days=1)}
    refused(
        lambda: s3.put_object_retention(**named, Retention=weaker, BypassGovernanceRetention=True),
        403,
        "AccessDenied",
    )
    while datetime.datetime.now(datetime.timezone.utc) <= until:
        refused_still = "Body" in s3.get_object(**named)
        assert refused_still
    s3.delete_object(**named)


def test_a_legal_hold_stands_by_itself(s3, locked):
    version = s3.put_object(Bucket=locked, Key="k", Body=b"x", ObjectLockLegalHoldStatus="ON")["VersionId"]
    named = {"Bucket": locked, "Key": "k", "VersionId": version}
    assert s3.get_object_legal_hold(**named)["LegalHold"]["Status"] == "ON"
    assert s3.get_object(**named)["ObjectLockLegalHoldStatus"] == "ON"
    refused(lambda: s3.delete_object(**named, BypassGovernanceRetention=True), 403, "AccessDenied")
    refused(lambda: s3.get_object_retention(**named), 404, "NoSuchObjectLockConfiguration")
    s3.put_object_legal_hold(**named, LegalHold={"Status": "OFF"})
    assert s3.get_object_legal_hold(**named)["LegalHold"]["Status"] == "OFF"
    s3.delete_object(**named)
    free = s3.put_object(Bucket=locked, Key="free", Body=b"x")["VersionId"]
    refused(
        lambda: s3.get_object_legal_hold(Bucket=locked, Key="free", VersionId=free),
        404,
        "NoSuchObjectLockConfiguration",
    )


def test_a_default_retention_is_that_of_every_way_to_write(s3, locked):
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 3}}
    configuration = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    s3.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration=configuration)
    answer = s3.get_object_lock_configuration(Bucket=locked)
    assert answer["ObjectLockConfiguration"] == configuration
    s3.put_object(Bucket=locked, Key="put", Body=b"x")
    s3.copy_object(Bucket=locked, Key="copy", CopySource={"Bucket": locked, "Key": "put"})
    upload = s3.create_multipart_upload(Bucket=locked, Key="parts")["UploadId"]
    part = s3.upload_part(Bucket=locked, Key="parts", UploadId=upload, PartNumber=1, Body=b"x")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket=locked, Key="parts", UploadId=upload, MultipartUpload=parts)
    for key in ["put", "copy", "parts"]:
        head = s3.head_object(Bucket=locked, Key=key)
        left = head["ObjectLockRetainUntilDate"] - datetime.datetime.now(datetime.timezone.utc)
        assert head["ObjectLockMode"] == "GOVERNANCE", key
        assert datetime.timedelta(days=2, hours=23) < left <= datetime.timedelta(days=3), key


def test_lock_documents_and_buckets_that_cannot_be_locked_are_refused(s3, plain, locked):
    def put(name, enabled="Enabled", **default):
        rule = {"Rule": {"DefaultRetention": default}} if default else {}
        configuration = {"ObjectLockEnabled": enabled, **rule}
        s3.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration=configuration)

    refused(lambda: put(locked, Mode="GOVERNANCE", Days=0), 400, "InvalidRetentionPeriod")
    refused(lambda: put(locked, Mode="GOVERNANCE", Years=-1), 400, "InvalidRetentionPeriod")
    refused(lambda: put(locked, Mode="GOVERNANCE", Days=1, Years=1), 400, "MalformedXML")
    refused(lambda: put(locked, Mode="abc", Years=1), 400, "MalformedXML")
    refused(lambda: put(locked, enabled="Disabled", Mode="GOVERNANCE", Days=1), 400, "MalformedXML")
    refused(lambda: set_versioning(s3, locked, "Suspended"), 409, "InvalidBucketState")
    refused(lambda: put(plain, Mode="GOVERNANCE", Days=1), 409, "InvalidBucketState")
    refused(lambda: s3.get_object_lock_configuration(Bucket=plain), 404, "ObjectLockConfigurationNotFoundError")
    s3.put_object(Bucket=plain, Key="k", Body=b"x")
    refused(lambda: s3.get_object_retention(Bucket=plain, Key="k"), 400, "InvalidRequest")
    refused(lambda: s3.get_object_legal_hold(Bucket=plain, Key="k"), 400, "InvalidRequest")
    refused(
        lambda: s3.put_object_legal_hold(Bucket=plain, Key="k", LegalHold={"Status": "ON"}), 400, "InvalidRequest"
    )
    refused(
        lambda: s3.put_object(Bucket=plain, Key="x", Body=b"x", ObjectLockLegalHoldStatus="ON"),
        400,
        "InvalidRequest",
    )
    set_versioning(s3, plain, "Enabled")
    put(plain, Mode="GOVERNANCE", Days=1)
    assert s3.get_object_lock_configuration(Bucket=plain)["ObjectLockConfiguration"]["Rule"]


def test_a_delete_marker_takes_no_tags_and_stops_conditional_deletes(s3, versioned):
    s3.put_object(Bucket=versioned, Key="k", Body=b"1")
    s3.delete_object(Bucket=versioned, Key="k")
    marker, never = {"Bucket": versioned, "Key": "k"}, {"Bucket": versioned, "Key": "never"}
    tags = {"TagSet": [{"Key": "a", "Value": "1"}]}
    for call in (
        lambda: s3.put_object_tagging(**marker, Tagging=tags),
        lambda: s3.get_object_tagging(**marker),
        lambda: s3.delete_object_tagging(**marker),
    ):
        answer = refused(call, 405, "MethodNotAllowed")
        assert answer["Error"]["ResourceType"] == "DeleteMarker"
    refused(lambda: s3.get_object_tagging(**never), 404, "NoSuchKey")
    refused(lambda: s3.delete_object(**marker, IfMatch="*"), 412, "PreconditionFailed")
    refused(lambda: s3.delete_object(**never, IfMatch="*"), 404, "NoSuchKey")
    assert listed(s3, versioned)[-1][0] == "k", "a refused delete made a marker"
