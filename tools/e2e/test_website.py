"""Static websites: configured with boto3, visited as a browser does, by the name of their host."""

import ssl

import pytest
import urllib3
from botocore.exceptions import ClientError

from conftest import bucket_name, empty_bucket

PAGES = {
    "IndexDocument": {"Suffix": "index.html"},
    "ErrorDocument": {"Key": "sorry.html"},
    "RoutingRules": [
        {
            "Condition": {"KeyPrefixEquals": "docs/"},
            "Redirect": {"ReplaceKeyPrefixWith": "documents/"},
        },
        {
            "Condition": {"HttpErrorCodeReturnedEquals": "404", "KeyPrefixEquals": "old/"},
            "Redirect": {
                "HostName": "archive.test",
                "Protocol": "https",
                "HttpRedirectCode": "307",
                "ReplaceKeyWith": "gone.html",
            },
        },
    ],
}
ELSEWHERE = {"RedirectAllRequestsTo": {"HostName": "other.test", "Protocol": "https"}}


def policy(bucket, *actions):
    resources = {"s3:GetObject": f"arn:aws:s3:::{bucket}/*", "s3:ListBucket": f"arn:aws:s3:::{bucket}"}
    allow = [
        f'{{"Effect":"Allow","Principal":"*","Action":"{action}","Resource":"{resources[action]}"}}'
        for action in actions
    ]
    return f'{{"Version":"2012-10-17","Statement":[{",".join(allow)}]}}'


@pytest.fixture
def site(s3):
    """A bucket whose website everyone may read and list."""
    name = bucket_name("site")
    s3.create_bucket(Bucket=name)
    s3.put_bucket_policy(Bucket=name, Policy=policy(name, "s3:GetObject", "s3:ListBucket"))
    s3.put_bucket_website(Bucket=name, WebsiteConfiguration=PAGES)
    yield name
    empty_bucket(s3, name)
    s3.delete_bucket(Bucket=name)


@pytest.fixture
def visit(server, site):
    """What a browser gets that does not follow redirects: `visit(path)`."""
    browser = urllib3.PoolManager(ssl_context=ssl.create_default_context(), retries=False)

    def visit(path, method="GET", host=None, **headers):
        headers = {"Host": host or f"{site}.site.test", **headers}
        return browser.request(method, server.endpoint + path, headers=headers, redirect=False)

    yield visit
    browser.clear()


def put(s3, bucket, key, text, **more):
    s3.put_object(Bucket=bucket, Key=key, Body=text.encode(), ContentType="text/html", **more)


def test_a_configuration_comes_back_as_it_was_put(s3, site):
    got = s3.get_bucket_website(Bucket=site)
    assert {name: got[name] for name in PAGES} == PAGES
    s3.put_bucket_website(Bucket=site, WebsiteConfiguration=ELSEWHERE)
    got = s3.get_bucket_website(Bucket=site)
    assert got["RedirectAllRequestsTo"] == ELSEWHERE["RedirectAllRequestsTo"]
    assert "IndexDocument" not in got
    s3.delete_bucket_website(Bucket=site)
    with pytest.raises(ClientError) as error:
        s3.get_bucket_website(Bucket=site)
    assert error.value.response["Error"]["Code"] == "NoSuchWebsiteConfiguration"


@pytest.mark.parametrize(
    "wrong",
    [
        {"IndexDocument": {"Suffix": "a/b"}},
        {"ErrorDocument": {"Key": "e"}},
        {**PAGES, **ELSEWHERE},
        {**PAGES, "RoutingRules": [{"Redirect": {"HttpRedirectCode": "200"}}]},
        {**PAGES, "RoutingRules": [{"Redirect": {"HostName": "h"}}] * 51},
    ],
)
def test_a_configuration_that_aws_refuses_is_refused(s3, site, wrong):
    with pytest.raises(ClientError) as error:
        s3.put_bucket_website(Bucket=site, WebsiteConfiguration=wrong)
    assert error.value.response["Error"]["Code"] in ("InvalidArgument", "InvalidRequest")


@pytest.mark.over_https
def test_a_site_shows_its_pages(s3, site, visit):
    for key in ("index.html", "a/index.html", "sorry.html", "b c.html"):
        put(s3, site, key, key)
    for path, key in [("/", "index.html"), ("/a/", "a/index.html"), ("/b%20c.html?x=y", "b c.html")]:
        page = visit(path)
        assert (page.status, page.data.decode()) == (200, key)
        assert page.headers["Content-Type"] == "text/html"
    assert visit("/", "HEAD").headers["ETag"] == visit("/").headers["ETag"]
    part = visit("/", Range="bytes=0-4")
    assert (part.status, part.data.decode()) == (206, "index")
    assert visit("/", **{"If-None-Match": visit("/").headers["ETag"]}).status == 304
    folder = visit("/a")
    assert (folder.status, folder.headers["Location"]) == (302, "/a/")
    missing = visit("/none")
    assert (missing.status, missing.data.decode()) == (404, "sorry.html")
    assert missing.headers["x-amz-error-code"] == "NoSuchKey"
    assert missing.headers["x-amz-error-detail-Key"] == "none"
    assert visit("/", "DELETE").status == 405


def test_what_is_closed_is_closed_for_visitors(s3, site, visit):
    put(s3, site, "index.html", "hello")
    s3.put_bucket_policy(Bucket=site, Policy=policy(site, "s3:GetObject"))
    assert visit("/").data.decode() == "hello"
    unknown = visit("/none")
    assert unknown.status == 403
    assert "<li>Code: AccessDenied</li>" in unknown.data.decode()
    block = {"RestrictPublicBuckets": True}
    s3.put_public_access_block(Bucket=site, PublicAccessBlockConfiguration=block)
    assert visit("/").status == 403


@pytest.mark.over_https
def test_rules_send_visitors_elsewhere(s3, site, visit, server):
    own = server.endpoint.split("://")[0] + f"://{site}.site.test"
    for path, status, location in [
        ("/docs/a%20b", 301, f"{own}/documents/a%20b"),
        ("/old/page", 307, "https://archive.test/gone.html"),
    ]:
        answer = visit(path)
        assert (answer.status, answer.headers["Location"]) == (status, location)
    s3.put_bucket_website(Bucket=site, WebsiteConfiguration=ELSEWHERE)
    answer = visit("/any/page?a=b")
    assert (answer.status, answer.headers["Location"]) == (301, "https://other.test/any/page?a=b")


def test_an_object_sends_its_visitors_elsewhere(s3, site, visit):
    put(s3, site, "one", "1", WebsiteRedirectLocation="/two")
    upload = s3.create_multipart_upload(Bucket=site, Key="parts", WebsiteRedirectLocation="https://other.test/")
    named = {"Bucket": site, "Key": "parts", "UploadId": upload["UploadId"]}
    part = s3.upload_part(**named, PartNumber=1, Body=b"x")
    s3.complete_multipart_upload(**named, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    field = {"x-amz-website-redirect-location": "/three"}
    form = s3.generate_presigned_post(site, "form", Fields=field, Conditions=[field])
    fields = {**form["fields"], "file": ("file", b"x")}
    assert urllib3.request("POST", form["url"], fields=fields).status == 204
    for key, location in [("one", "/two"), ("parts", "https://other.test/"), ("form", "/three")]:
        assert s3.head_object(Bucket=site, Key=key)["WebsiteRedirectLocation"] == location
        answer = visit(f"/{key}")
        assert (answer.status, answer.headers["Location"]) == (301, location)
    copy = {"Bucket": site, "Key": "copy", "CopySource": {"Bucket": site, "Key": "one"}}
    s3.copy_object(**copy)
    assert visit("/copy").data.decode() == "1"
    s3.copy_object(**copy, WebsiteRedirectLocation="/four")
    assert visit("/copy").headers["Location"] == "/four"
    with pytest.raises(ClientError) as error:
        put(s3, site, "wrong", "", WebsiteRedirectLocation="two")
    assert error.value.response["Error"]["Code"] == "InvalidRedirectLocation"


def test_hosts_without_a_site_say_so(s3, site, visit):
    s3.delete_bucket_website(Bucket=site)
    none = visit("/")
    assert (none.status, none.headers["x-amz-error-code"]) == (404, "NoSuchWebsiteConfiguration")
    none = visit("/", host=bucket_name() + ".site.test")
    assert (none.status, none.headers["x-amz-error-code"]) == (404, "NoSuchBucket")
    assert none.headers["Content-Type"].startswith("text/html")
