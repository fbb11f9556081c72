"""Browser uploads: the forms that boto3 presigns, sent as a browser sends them; and links signed by either version."""

import base64
import json
import urllib.error
import urllib.request
import uuid
import xml.etree.ElementTree

import boto3
import pytest
from botocore.client import Config
from botocore.exceptions import ClientError

import server as basalt
from conftest import noise, s3_client


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


OPENER = urllib.request.build_opener(NoRedirect)


def send(request):
    """Status, header fields and body, whatever the status."""
    try:
        answer = OPENER.open(request, timeout=30)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.headers, answer.read()


def post(url, fields, body, name="photo.jpg"):
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
        for field, value in fields.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
    parts += [head.encode(), b"Content-Type: image/jpeg\r\n\r\n", body, f"\r\n--{boundary}--\r\n".encode()]
    content_type = f"multipart/form-data; boundary={boundary}"
    return send(urllib.request.Request(url, b"".join(parts), {"Content-Type": content_type}))


def code_of(body):
    return xml.etree.ElementTree.fromstring(body).findtext("Code")


@pytest.fixture(scope="module", params=["s3", "s3v4"])
def signing(request, server):
    return s3_client(server, signature_version=request.param)


def test_a_presigned_form_uploads_a_file_of_any_size(signing, s3, bucket):
    for size in (0, 5, 70_000, 9 << 20):
        body = noise(size, size)
        fields = {"Content-Type": "image/jpeg", "x-amz-meta-colour": "red", "success_action_status": "201"}
        conditions = [{name: value} for name, value in fields.items()] + [["content-length-range", 0, 10 << 20]]
        form = signing.generate_presigned_post(bucket, "up/${filename}", Fields=fields, Conditions=conditions)
        status, headers, answer = post(form["url"], form["fields"], body)
        assert status == 201, answer
        found = s3.get_object(Bucket=bucket, Key="up/photo.jpg")
        assert found["Body"].read() == body
        assert found["ContentType"] == "image/jpeg" and found["Metadata"] == {"colour": "red"}
        told = xml.etree.ElementTree.fromstring(answer)
        assert told.findtext("Key") == "up/photo.jpg" and told.findtext("ETag") == found["ETag"] == headers["ETag"]


def test_a_form_that_says_more_than_was_signed_is_refused(signing, s3, bucket):
    form = signing.generate_presigned_post(bucket, "a", Conditions=[["content-length-range", 2, 4]])
    for change, body, status, code in [
        ({"key": "b"}, b"abc", 403, "AccessDenied"),
        ({"x-amz-meta-more": "1"}, b"abc", 403, "AccessDenied"),
        ({}, b"abcde", 400, "EntityTooLarge"),
        ({}, b"a", 400, "EntityTooSmall"),
        ({"policy": base64.b64encode(json.dumps({"conditions": []}).encode()).decode()}, b"abc", 403, None),
    ]:
        answer = post(form["url"], {**form["fields"], **change}, body)
        assert answer[0] == status and code in (None, code_of(answer[2])), answer
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    assert post(form["url"], {"key": "a"}, b"abc")[0] == 403
    assert post(form["url"], form["fields"], b"abc")[0] == 204


def test_a_browser_is_sent_on(signing, bucket):
    fields = {"success_action_redirect": "http://example.test/done"}
    form = signing.generate_presigned_post(bucket, "a b", Fields=fields, Conditions=[fields])
    status, headers, _ = post(form["url"], form["fields"], b"abc")
    assert status == 303
    assert headers["Location"].startswith(f"http://example.test/done?bucket={bucket}&key=a%20b&etag=%22")


def test_requests_and_links_of_either_version_are_taken(signing, s3, bucket):
    signing.put_object(Bucket=bucket, Key="a/b c+d%", Body=b"abc", Metadata={"x": "1"})
    assert [found["Key"] for found in signing.list_objects_v2(Bucket=bucket, Prefix="a/")["Contents"]] == ["a/b c+d%"]
    assert signing.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 200
    upload = signing.create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]
    signing.abort_multipart_upload(Bucket=bucket, Key="big", UploadId=upload)
    get = signing.generate_presigned_url(
        "get_object", {"Bucket": bucket, "Key": "a/b c+d%", "ResponseContentType": "text/x"}, ExpiresIn=60
    )
    status, headers, body = send(get)
    assert (status, headers["Content-Type"], body) == (200, "text/x", b"abc")
    put = signing.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "link"}, ExpiresIn=60)
    assert send(urllib.request.Request(put, b"by link", {"Content-Type": ""}, method="PUT"))[0] == 200
    assert s3.get_object(Bucket=bucket, Key="link")["Body"].read() == b"by link"
    assert send(get.replace("text%2Fx", "text%2Fy"))[0] == 403
    late = signing.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "link"}, ExpiresIn=-10)
    assert send(late)[0] in (400, 403)


def test_a_session_token_is_refused(server, bucket):
    for version in ("s3", "s3v4"):
        client = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            aws_access_key_id=basalt.ACCESS_KEY,
            aws_secret_access_key=basalt.SECRET_KEY,
            aws_session_token="not-from-here",
            region_name=basalt.REGION,
            config=Config(signature_version=version, s3={"addressing_style": "path"}),
        )
        with pytest.raises(ClientError) as refused:
            client.list_objects_v2(Bucket=bucket)
        assert refused.value.response["Error"]["Code"] == "InvalidToken"
