//! S3's XML: a bounded reader for what clients send, a writer for every reply.
//! Invariants: a document type, an unknown entity, excess depth or excess size is an error, never expanded; every
//! text that is written is one that an XML parser takes.
//! Not here: what the documents mean (`handlers`).

mod acl;
mod attributes;
mod reader;
mod replies;
mod requests;
mod tree;
mod versions;
mod writer;

pub use acl::{
    AccessControlPolicy, NamedGrantee, acl, ownership, parse_acl, parse_ownership, parse_public_access_block,
    policy_status, public_access_block,
};
pub use attributes::{AskedAttributes, PartsEcho, object_attributes};
pub use reader::{MalformedXml, XmlEvent, walk};
pub use replies::{
    DeletedKey, Encoding, ListingEcho, bucket_location, complete_upload, copy_object, copy_part,
    delete_result, initiate_upload, list_buckets, list_objects_v1, list_objects_v2, list_parts, list_uploads,
    no_configurations, owner_pays, post_response, tagging, unset,
};
pub use requests::{
    CompletePart, CompleteParts, CreateBucketDocument, DeleteKey, DeleteKeys, parse_complete_upload,
    parse_create_bucket, parse_delete, parse_tagging,
};
pub use tree::Element;
pub use versions::{
    AskedDefault, AskedVersioning, VersionsEcho, legal_hold, list_versions, object_lock, parse_legal_hold,
    parse_object_lock, parse_retention, parse_versioning, retention, versioning,
};
pub use writer::XmlWriter;
