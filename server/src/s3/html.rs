//! Errors as pages for people: what S3 shows in a browser where a website has no page of its own.
//! Invariants: nothing that a visitor or a bucket's owner wrote becomes markup.
//! Not here: when such a page is shown (`handlers::website`).

use bytes::Bytes;

use crate::http::{HeaderText, RequestIds, reason};
use crate::s3::error::S3Error;

/// What [`error_page`] is.
pub const CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// S3's own page for an error; `of_document` is what went wrong with the site's own.
pub fn error_page(error: &S3Error, of_document: Option<&S3Error>, ids: &RequestIds) -> Bytes {
    let status = error.code.status();
    let title = format!("{status} {}", reason(status));
    let mut page = String::with_capacity(512);
    page.push_str(&format!("<html>\n<head><title>{title}</title></head>\n<body>\n<h1>{title}</h1>\n<ul>\n"));
    push_items(&mut page, error);
    push_item(&mut page, "RequestId", ids.request_id());
    push_item(&mut page, "HostId", ids.host_id());
    page.push_str("</ul>\n");
    if let Some(error) = of_document {
        page.push_str(
            "<h3>An Error Occurred While Attempting to Retrieve a Custom Error Document</h3>\n<ul>\n",
        );
        push_items(&mut page, error);
        page.push_str("</ul>\n");
    }
    page.push_str("<hr/>\n</body>\n</html>\n");
    Bytes::from(page)
}

/// Adds the fields by which an answer of a website names its error.
pub fn push_error_fields(headers: &mut HeaderText, error: &S3Error) {
    headers.push("x-amz-error-code", error.code.as_str());
    headers.push("x-amz-error-message", error.text());
    for (name, value) in &error.extra {
        headers.push(&format!("x-amz-error-detail-{name}"), value);
    }
    for (name, value) in &error.headers {
        headers.push(name, value);
    }
}

fn push_items(page: &mut String, error: &S3Error) {
    push_item(page, "Code", error.code.as_str());
    push_item(page, "Message", error.text());
    for (name, value) in &error.extra {
        push_item(page, name, value);
    }
}

fn push_item(page: &mut String, name: &str, value: &str) {
    page.push_str("<li>");
    page.push_str(name);
    page.push_str(": ");
    for c in value.chars() {
        match c {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            c => page.push(c),
        }
    }
    page.push_str("</li>\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::s3::error::Code;

    fn missing(key: &str) -> S3Error {
        S3Error::from(Code::NoSuchKey).and("Key", key.to_owned())
    }

    #[test]
    fn a_page_lists_the_error_and_what_went_wrong_with_the_sites_own() {
        let page = error_page(&missing("a"), Some(&missing("404.html")), &RequestIds::for_tests());
        let page = std::str::from_utf8(&page).unwrap();
        for text in [
            "<title>404 Not Found</title>",
            "<h1>404 Not Found</h1>",
            "<li>Code: NoSuchKey</li>\n<li>Message: The specified key does not exist.</li>\n<li>Key: a</li>",
            "<li>RequestId: ",
            "Retrieve a Custom Error Document</h3>\n<ul>\n<li>Code: NoSuchKey</li>",
            "<li>Key: 404.html</li>",
        ] {
            assert!(page.contains(text), "{text}: {page}");
        }
    }

    #[test]
    fn what_a_visitor_wrote_is_no_markup_and_ends_no_field() {
        let error = missing("<script>'\"&\r\nx: y");
        let page = error_page(&error, None, &RequestIds::for_tests());
        let page = std::str::from_utf8(&page).unwrap();
        assert!(page.contains("<li>Key: &lt;script&gt;&#39;&quot;&amp;"), "{page}");
        let mut headers = HeaderText::default();
        push_error_fields(&mut headers, &error);
        assert_eq!(headers.get("x-amz-error-detail-Key"), Some("<script>'\"&x: y"));
        assert_eq!(headers.get("x-amz-error-code"), Some("NoSuchKey"));
    }
}
