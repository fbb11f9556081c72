//! Which S3 operation a request is.
//! Invariants: every operation of S3 has a name here, built or not; an unknown sub-resource is never taken for a
//! listing or a read; unknown query parameters with a value are ignored.
//! Not here: what operations do (`handlers`).

use crate::http::{Method, RequestHead};
use crate::s3::address::Address;
use crate::s3::error::{Code, S3Error};
use crate::s3::query::Query;

macro_rules! operations {
    ($($name:ident)*) => {
        /// An operation of S3.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the names are AWS's own")]
        pub enum Operation { $($name),* }

        impl Operation {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Operation] = &[$(Operation::$name),*];

            /// AWS's name.
            pub fn name(self) -> &'static str {
                match self { $(Operation::$name => stringify!($name)),* }
            }

            /// Its place in [`Operation::ALL`].
            pub fn index(self) -> usize {
                self as usize
            }
        }
    };
}

operations! {
    AbortMultipartUpload CompleteMultipartUpload CopyObject CreateBucket CreateMultipartUpload CreateSession
    DeleteBucket DeleteBucketAnalyticsConfiguration DeleteBucketCors DeleteBucketEncryption
    DeleteBucketIntelligentTieringConfiguration DeleteBucketInventoryConfiguration DeleteBucketLifecycle
    DeleteBucketMetadataConfiguration DeleteBucketMetadataTableConfiguration DeleteBucketMetricsConfiguration
    DeleteBucketOwnershipControls DeleteBucketPolicy DeleteBucketReplication DeleteBucketTagging
    DeleteBucketWebsite DeleteObject DeleteObjectTagging DeleteObjects DeletePublicAccessBlock
    GetBucketAccelerateConfiguration GetBucketAcl GetBucketAnalyticsConfiguration GetBucketCors
    GetBucketEncryption GetBucketIntelligentTieringConfiguration GetBucketInventoryConfiguration
    GetBucketLifecycleConfiguration GetBucketLocation GetBucketLogging GetBucketMetadataConfiguration
    GetBucketMetadataTableConfiguration GetBucketMetricsConfiguration GetBucketNotificationConfiguration
    GetBucketOwnershipControls GetBucketPolicy GetBucketPolicyStatus GetBucketReplication
    GetBucketRequestPayment GetBucketTagging GetBucketVersioning GetBucketWebsite GetObject GetObjectAcl
    GetObjectAttributes GetObjectLegalHold GetObjectLockConfiguration GetObjectRetention GetObjectTagging
    GetObjectTorrent GetPublicAccessBlock HeadBucket HeadObject ListBuckets ListMultipartUploads
    ListObjectVersions ListObjects ListObjectsV2 ListParts OptionsPreflight PostObject
    PutBucketAccelerateConfiguration PutBucketAcl PutBucketAnalyticsConfiguration PutBucketCors
    PutBucketEncryption PutBucketIntelligentTieringConfiguration PutBucketInventoryConfiguration
    PutBucketLifecycleConfiguration PutBucketLogging PutBucketMetadataConfiguration
    PutBucketMetadataTableConfiguration PutBucketMetricsConfiguration PutBucketNotificationConfiguration
    PutBucketOwnershipControls PutBucketPolicy PutBucketReplication PutBucketRequestPayment PutBucketTagging
    PutBucketVersioning PutBucketWebsite PutObject PutObjectAcl PutObjectLegalHold PutObjectLockConfiguration
    PutObjectRetention PutObjectTagging PutPublicAccessBlock RenameObject RestoreObject SelectObjectContent
    UploadPart UploadPartCopy Unknown
}

/// What the query holds, as far as routing needs it.
#[derive(Clone, Copy, Debug, Default)]
struct Marks<'q> {
    /// The sub-resource, if there is one.
    sub_resource: Option<&'q str>,
    /// A parameter without a value that S3 does not know.
    unknown: bool,
    upload_id: bool,
    uploads: bool,
    part_number: bool,
    list_v2: bool,
}

/// Names the operation.
pub fn route(head: &RequestHead, address: &Address) -> Operation {
    let marks = head.raw_query().map(read_marks).unwrap_or_default();
    if head.method() == Method::Options {
        return Operation::OptionsPreflight;
    }
    match (&address.bucket, &address.key) {
        (None, _) => match head.method() {
            Method::Get if marks.sub_resource.is_none() && !marks.unknown => Operation::ListBuckets,
            _ => Operation::Unknown,
        },
        (Some(_), None) => bucket_operation(head.method(), &marks),
        (Some(_), Some(_)) => object_operation(head, &marks),
    }
}

/// What AWS answers, to anyone, to a request that is no operation, where it is not just one that is not built.
pub fn misrouted(head: &RequestHead, address: &Address) -> Option<S3Error> {
    let marks = head.raw_query().map(read_marks).unwrap_or_default();
    let method = head.method();
    if let Some(source) = head.header_str("x-amz-copy-source").filter(|_| method != Method::Put) {
        return Some(S3Error::argument(
            "x-amz-copy-source",
            source,
            "You can only specify a copy source header for copy requests.",
        ));
    }
    if address.bucket.is_none() {
        let is_read = matches!(method, Method::Get | Method::Head | Method::Options);
        return (!is_read).then(|| not_allowed("GET"));
    }
    address.key.as_ref()?;
    let has_more = marks.unknown || marks.sub_resource.is_some();
    match method {
        Method::Put if marks.part_number && !marks.upload_id => {
            let number = Query::new(head.raw_query()).get("partNumber");
            let message = "This operation does not accept partNumber without uploadId";
            Some(S3Error::argument("partNumber", &number.unwrap_or_default(), message))
        }
        Method::Get if marks.uploads => Some(S3Error::with_message(
            Code::InvalidRequest,
            "Key is not expected for the GET method ?uploads subresource",
        )),
        Method::Get if marks.sub_resource == Some("versions") => Some(S3Error::with_message(
            Code::InvalidRequest,
            "There is no such thing as the ?versions sub-resource for a key",
        )),
        Method::Post if !has_more => Some(not_allowed("DELETE, GET, HEAD, PUT")),
        _ => None,
    }
}

fn not_allowed(allowed: &str) -> S3Error {
    S3Error { headers: vec![("Allow", allowed.to_owned())], ..S3Error::from(Code::MethodNotAllowed) }
}

fn read_marks(query: &str) -> Marks<'_> {
    let mut marks = Marks::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, has_value) = match pair.split_once('=') {
            Some((name, _)) => (name, true),
            None => (pair, false),
        };
        match name {
            "uploadId" => marks.upload_id = true,
            "uploads" => marks.uploads = true,
            "partNumber" => marks.part_number = true,
            "list-type" => marks.list_v2 |= pair == "list-type=2",
            _ if is_sub_resource(name) => marks.sub_resource = marks.sub_resource.or(Some(name)),
            _ => marks.unknown |= !has_value && !is_parameter(name),
        }
    }
    marks
}

/// Parameters that clients also send without a value.
fn is_parameter(name: &str) -> bool {
    matches!(
        name,
        "prefix"
            | "delimiter"
            | "marker"
            | "max-keys"
            | "max-uploads"
            | "max-parts"
            | "max-buckets"
            | "encoding-type"
            | "continuation-token"
            | "start-after"
            | "fetch-owner"
            | "key-marker"
            | "upload-id-marker"
            | "version-id-marker"
            | "part-number-marker"
            | "versionId"
            | "bucket-region"
            | "x-id"
            | "metadata"
            | "unsorted"
            | "allow-unordered"
    )
}

fn is_sub_resource(name: &str) -> bool {
    matches!(
        name,
        "abac"
            | "accelerate"
            | "acl"
            | "analytics"
            | "append"
            | "attributes"
            | "cors"
            | "delete"
            | "encryption"
            | "intelligent-tiering"
            | "inventory"
            | "legal-hold"
            | "lifecycle"
            | "location"
            | "logging"
            | "metadataConfiguration"
            | "metadataInventoryTable"
            | "metadataJournalTable"
            | "metadataTable"
            | "metrics"
            | "notification"
            | "object-lock"
            | "ownershipControls"
            | "policy"
            | "policyStatus"
            | "publicAccessBlock"
            | "renameObject"
            | "replication"
            | "requestPayment"
            | "restore"
            | "retention"
            | "select"
            | "session"
            | "tagging"
            | "torrent"
            | "versioning"
            | "versions"
            | "website"
    )
}

fn bucket_operation(method: Method, marks: &Marks<'_>) -> Operation {
    if marks.uploads {
        return if method == Method::Get { Operation::ListMultipartUploads } else { Operation::Unknown };
    }
    let Some(sub_resource) = marks.sub_resource else {
        return match method {
            _ if marks.unknown => Operation::Unknown,
            Method::Get if marks.list_v2 => Operation::ListObjectsV2,
            Method::Get => Operation::ListObjects,
            Method::Head => Operation::HeadBucket,
            Method::Put => Operation::CreateBucket,
            Method::Delete => Operation::DeleteBucket,
            Method::Post => Operation::PostObject,
            Method::Options | Method::Other => Operation::Unknown,
        };
    };
    match method {
        Method::Get => get_bucket(sub_resource),
        Method::Put => put_bucket(sub_resource),
        Method::Delete => delete_bucket(sub_resource),
        Method::Post if sub_resource == "delete" => Operation::DeleteObjects,
        Method::Post if sub_resource == "metadataConfiguration" => Operation::PutBucketMetadataConfiguration,
        Method::Post if sub_resource == "metadataTable" => Operation::PutBucketMetadataTableConfiguration,
        _ => Operation::Unknown,
    }
}

fn get_bucket(sub_resource: &str) -> Operation {
    match sub_resource {
        "accelerate" => Operation::GetBucketAccelerateConfiguration,
        "acl" => Operation::GetBucketAcl,
        "analytics" => Operation::GetBucketAnalyticsConfiguration,
        "cors" => Operation::GetBucketCors,
        "encryption" => Operation::GetBucketEncryption,
        "intelligent-tiering" => Operation::GetBucketIntelligentTieringConfiguration,
        "inventory" => Operation::GetBucketInventoryConfiguration,
        "lifecycle" => Operation::GetBucketLifecycleConfiguration,
        "location" => Operation::GetBucketLocation,
        "logging" => Operation::GetBucketLogging,
        "metadataConfiguration" => Operation::GetBucketMetadataConfiguration,
        "metadataTable" => Operation::GetBucketMetadataTableConfiguration,
        "metrics" => Operation::GetBucketMetricsConfiguration,
        "notification" => Operation::GetBucketNotificationConfiguration,
        "object-lock" => Operation::GetObjectLockConfiguration,
        "ownershipControls" => Operation::GetBucketOwnershipControls,
        "policy" => Operation::GetBucketPolicy,
        "policyStatus" => Operation::GetBucketPolicyStatus,
        "publicAccessBlock" => Operation::GetPublicAccessBlock,
        "replication" => Operation::GetBucketReplication,
        "requestPayment" => Operation::GetBucketRequestPayment,
        "session" => Operation::CreateSession,
        "tagging" => Operation::GetBucketTagging,
        "versioning" => Operation::GetBucketVersioning,
        "versions" => Operation::ListObjectVersions,
        "website" => Operation::GetBucketWebsite,
        _ => Operation::Unknown,
    }
}

fn put_bucket(sub_resource: &str) -> Operation {
    match sub_resource {
        "accelerate" => Operation::PutBucketAccelerateConfiguration,
        "acl" => Operation::PutBucketAcl,
        "analytics" => Operation::PutBucketAnalyticsConfiguration,
        "cors" => Operation::PutBucketCors,
        "encryption" => Operation::PutBucketEncryption,
        "intelligent-tiering" => Operation::PutBucketIntelligentTieringConfiguration,
        "inventory" => Operation::PutBucketInventoryConfiguration,
        "lifecycle" => Operation::PutBucketLifecycleConfiguration,
        "logging" => Operation::PutBucketLogging,
        "metrics" => Operation::PutBucketMetricsConfiguration,
        "notification" => Operation::PutBucketNotificationConfiguration,
        "object-lock" => Operation::PutObjectLockConfiguration,
        "ownershipControls" => Operation::PutBucketOwnershipControls,
        "policy" => Operation::PutBucketPolicy,
        "publicAccessBlock" => Operation::PutPublicAccessBlock,
        "replication" => Operation::PutBucketReplication,
        "requestPayment" => Operation::PutBucketRequestPayment,
        "tagging" => Operation::PutBucketTagging,
        "versioning" => Operation::PutBucketVersioning,
        "website" => Operation::PutBucketWebsite,
        _ => Operation::Unknown,
    }
}

fn delete_bucket(sub_resource: &str) -> Operation {
    match sub_resource {
        "analytics" => Operation::DeleteBucketAnalyticsConfiguration,
        "cors" => Operation::DeleteBucketCors,
        "encryption" => Operation::DeleteBucketEncryption,
        "intelligent-tiering" => Operation::DeleteBucketIntelligentTieringConfiguration,
        "inventory" => Operation::DeleteBucketInventoryConfiguration,
        "lifecycle" => Operation::DeleteBucketLifecycle,
        "metadataConfiguration" => Operation::DeleteBucketMetadataConfiguration,
        "metadataTable" => Operation::DeleteBucketMetadataTableConfiguration,
        "metrics" => Operation::DeleteBucketMetricsConfiguration,
        "ownershipControls" => Operation::DeleteBucketOwnershipControls,
        "policy" => Operation::DeleteBucketPolicy,
        "publicAccessBlock" => Operation::DeletePublicAccessBlock,
        "replication" => Operation::DeleteBucketReplication,
        "tagging" => Operation::DeleteBucketTagging,
        "website" => Operation::DeleteBucketWebsite,
        _ => Operation::Unknown,
    }
}

fn object_operation(head: &RequestHead, marks: &Marks<'_>) -> Operation {
    let method = head.method();
    if let Some(sub_resource) = marks.sub_resource {
        return match (method, sub_resource) {
            (Method::Get, "acl") => Operation::GetObjectAcl,
            (Method::Get, "attributes") => Operation::GetObjectAttributes,
            (Method::Get, "legal-hold") => Operation::GetObjectLegalHold,
            (Method::Get, "retention") => Operation::GetObjectRetention,
            (Method::Get, "tagging") => Operation::GetObjectTagging,
            (Method::Get, "torrent") => Operation::GetObjectTorrent,
            (Method::Put, "acl") => Operation::PutObjectAcl,
            (Method::Put, "legal-hold") => Operation::PutObjectLegalHold,
            (Method::Put, "retention") => Operation::PutObjectRetention,
            (Method::Put, "tagging") => Operation::PutObjectTagging,
            (Method::Put, "renameObject") => Operation::RenameObject,
            (Method::Delete, "tagging") => Operation::DeleteObjectTagging,
            (Method::Post, "restore") => Operation::RestoreObject,
            (Method::Post, "select") => Operation::SelectObjectContent,
            _ => Operation::Unknown,
        };
    }
    if marks.unknown {
        return Operation::Unknown;
    }
    let is_copy = head.header("x-amz-copy-source").is_some();
    match (method, marks.upload_id, marks.uploads) {
        (Method::Get | Method::Head | Method::Delete, ..) | (Method::Post, true, false) if is_copy => {
            Operation::Unknown
        }
        (Method::Post, _, true) => Operation::CreateMultipartUpload,
        (Method::Post, true, false) => Operation::CompleteMultipartUpload,
        (Method::Put, true, _) if is_copy => Operation::UploadPartCopy,
        (Method::Put, true, _) => Operation::UploadPart,
        (Method::Get, true, _) => Operation::ListParts,
        (Method::Delete, true, _) => Operation::AbortMultipartUpload,
        (_, _, true) | (Method::Put, false, false) if marks.uploads || marks.part_number => {
            Operation::Unknown
        }
        (Method::Put, ..) if is_copy => Operation::CopyObject,
        (Method::Put, ..) => Operation::PutObject,
        (Method::Get, ..) => Operation::GetObject,
        (Method::Head, ..) => Operation::HeadObject,
        (Method::Delete, ..) => Operation::DeleteObject,
        (Method::Post | Method::Options | Method::Other, ..) => Operation::Unknown,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::s3::test_heads::head;

    fn name_with(line: &str, fields: &str) -> &'static str {
        let head = head(line, fields);
        route(&head, &Address::parse(None, head.raw_path(), &[]).unwrap()).name()
    }

    fn name(line: &str) -> &'static str {
        name_with(line, "")
    }

    #[test]
    fn the_operations_of_everyday_are_named() {
        for (line, expected) in [
            ("GET /", "ListBuckets"),
            ("PUT /b", "CreateBucket"),
            ("HEAD /b/", "HeadBucket"),
            ("GET /b?location=", "GetBucketLocation"),
            ("GET /b/?list-type=2&prefix=a&delimiter=%2F", "ListObjectsV2"),
            ("GET /b?prefix=&max-keys=2", "ListObjects"),
            ("GET /b?versions&prefix=", "ListObjectVersions"),
            ("POST /b?delete", "DeleteObjects"),
            ("POST /b/?delete=", "DeleteObjects"),
            ("GET /b?uploads", "ListMultipartUploads"),
            ("PUT /b/k", "PutObject"),
            ("GET /b/k?partNumber=1", "GetObject"),
            ("GET /b/k?X-Amz-Algorithm=x&response-content-type=y", "GetObject"),
            ("HEAD /b/k", "HeadObject"),
            ("DELETE /b/k?versionId=null", "DeleteObject"),
            ("POST /b/k?uploads=", "CreateMultipartUpload"),
            ("PUT /b/k?partNumber=1&uploadId=x&x-id=UploadPart", "UploadPart"),
            ("POST /b/k?uploadId=x", "CompleteMultipartUpload"),
            ("GET /b/k?uploadId=x&max-parts=3", "ListParts"),
            ("DELETE /b/k?uploadId=x", "AbortMultipartUpload"),
            ("GET /b?object-lock", "GetObjectLockConfiguration"),
            ("PUT /b/k?tagging", "PutObjectTagging"),
        ] {
            assert_eq!(name(line), expected, "{line}");
        }
        assert_eq!(name_with("PUT /b/k", "x-amz-copy-source: /b/j\r\n"), "CopyObject");
        assert_eq!(
            name_with("PUT /b/k?partNumber=1&uploadId=x", "x-amz-copy-source: b/j\r\n"),
            "UploadPartCopy"
        );
    }

    #[test]
    fn unknown_parameters_are_ignored_and_unknown_sub_resources_are_not() {
        assert_eq!(name("GET /b?x-id=ListObjects&metadata=true&unsorted=true&foo=bar"), "ListObjects");
        assert_eq!(name("GET /b?foo"), "Unknown");
        assert_eq!(name("GET /b/k?foo"), "Unknown");
        assert_eq!(name("PUT /b?foo"), "Unknown");
        assert_eq!(name("DELETE /b?website&foo"), "DeleteBucketWebsite");
        assert_eq!(name("PUT /b/k?partNumber=1"), "Unknown");
        assert_eq!(name("PUT /b/k?uploads"), "Unknown");
        assert_eq!(name("GET /b/k?versions"), "Unknown");
        assert_eq!(name("PATCH /b/k"), "Unknown");
        assert_eq!(name("POST /b/k"), "Unknown");
        assert_eq!(name_with("GET /b/k", "x-amz-copy-source: b/j\r\n"), "Unknown");
    }

    #[test]
    fn what_is_no_operation_at_aws_either_is_answered_as_there() {
        let answer = |line: &str, fields: &str| {
            let head = head(line, fields);
            let address = Address::parse(None, head.raw_path(), &[]).unwrap();
            assert_eq!(route(&head, &address), Operation::Unknown, "{line}");
            misrouted(&head, &address).map(|error| (error.code, error.text().to_owned()))
        };
        let code = |line: &str| answer(line, "").map(|(code, _)| code);
        for line in ["POST /", "PUT /", "DELETE /", "POST /b/k"] {
            assert_eq!(code(line), Some(Code::MethodNotAllowed), "{line}");
        }
        assert_eq!(code("PUT /b/k?partNumber=1"), Some(Code::InvalidArgument));
        assert_eq!(code("GET /b/k?uploads"), Some(Code::InvalidRequest));
        assert_eq!(code("GET /b/k?versions"), Some(Code::InvalidRequest));
        assert_eq!(code("GET /b/k?foo"), None);
        let copy = "You can only specify a copy source header for copy requests.".to_owned();
        for line in ["GET /b/k", "HEAD /b/k", "DELETE /b/k", "POST /b/k?uploadId=x"] {
            let answered = answer(line, "x-amz-copy-source: b/j\r\n");
            assert_eq!(answered, Some((Code::InvalidArgument, copy.clone())), "{line}");
        }
    }
}
