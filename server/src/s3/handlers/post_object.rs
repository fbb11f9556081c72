//! Browser uploads: a form is authenticated by its own fields, and then carried out as the PUT that it stands for.
//! Invariants: authorization, conditions and everything kept of the object are those of a PUT; the answer is the form's.
//! Not here: what a form is and may say (`s3::post`).

use shardstore_reactor::{Executor, Stream};

use super::{Reply, S3Service};
use crate::auth::{Credentials, encode_escapes};
use crate::http::{RequestBody, RequestHead, RequestIds, Response};
use crate::ops::api::{BucketName, ObjectKey, Operations};
use crate::s3::access_log::RequestNote;
use crate::s3::address::Address;
use crate::s3::body::S3Body;
use crate::s3::error::S3Error;
use crate::s3::post::{Begun, PostForm};
use crate::s3::route::Operation;
use crate::s3::xml;

/// Memory of a form before its file: 20 KiB of fields twice, and one read of the socket.
const FIELDS_BYTES: u64 = 40 * 1024 + 64 * 1024;

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) async fn post_object<S: Stream, E: Executor>(
        &self,
        ids: &RequestIds,
        head: &RequestHead,
        address: Address,
        body: &mut RequestBody<'_, S, E>,
        note: &RequestNote,
    ) -> Result<Reply<O>, S3Error> {
        let bucket = BucketName::parse(address.bucket.as_deref().unwrap_or_default())?;
        let now_ms = body.executor().unix_ms();
        let Begun { form, decoder, pending } = {
            // Nobody is known yet: only what is gathered, the fields and one read of the socket.
            let _permit = self.ops.admit(Some(FIELDS_BYTES))?;
            PostForm::read(head, body).await?
        };
        let key = form.key()?.to_owned();
        ObjectKey::parse(key.clone())?;
        let identity = self.verifier.authenticate_form(form.fields(), now_ms)?;
        note.asks(&identity);
        let length_range = form.check_policy(bucket.as_str(), now_ms)?;
        let put = form.to_put(head, bucket.as_str())?;
        let address = Address { key: Some(key.clone().into()), ..address };
        let asker = self.asker(&put, ids, identity, now_ms, note);
        let request = self.permitted(Operation::PutObject, address, asker).await?;
        let file = S3Body::of_form(&put, decoder, pending, length_range, body)?;
        let stored = self.put_object(&request, file, now_ms).await?;
        let scheme = if request.access.asker().is_secure { "https" } else { "http" };
        let host = head.header_str("host").unwrap_or_default();
        let below = if request.by_host { String::new() } else { format!("{}/", bucket.as_str()) };
        Ok(answer(&form, format!("{scheme}://{host}/{below}"), bucket.as_str(), &key, stored))
    }
}

/// `above`: the address of the bucket, to which the key is added.
fn answer<P>(form: &PostForm, above: String, bucket: &str, key: &str, stored: Response<P>) -> Response<P> {
    let etag = stored.headers.get("ETag").unwrap_or_default().to_owned();
    if let Some(target) = form.redirect(bucket, &etag) {
        return Response { status: 303, ..stored }.with_header("Location", target);
    }
    let mut path = above.into_bytes();
    encode_escapes(key.as_bytes(), &mut path);
    let location = String::from_utf8_lossy(&path).into_owned();
    let status = form.field("success_action_status");
    match status {
        Some("200") => Response { status: 200, ..stored }.with_header("Location", location),
        Some("201") => {
            let document = xml::post_response(&location, bucket, key, &etag);
            let created = Response { status: 201, ..stored }.with_header("Location", location);
            created.with_bytes("application/xml", document)
        }
        _ => Response { status: 204, ..stored }.with_header("Location", location),
    }
}
