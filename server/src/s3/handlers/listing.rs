//! Listings of objects: v1 and v2.
//! Invariants: a page holds at most 1,000 entries whatever is asked for; tokens are opaque and checked.
//! Not here: versions (`versioning`), uploads and parts (`multipart`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use super::documents::xml_reply;
use super::{Reply, Request, S3Service};
use crate::auth::Credentials;
use crate::ops::api::{
    ListObjects, ListedObject, ObjectKey, ObjectPage, Operations, PAGE_MAX, TAGGING_HEADER,
};
use crate::policy::Action;
use crate::s3::error::{Code, S3Error};
use crate::s3::owners::Owners;
use crate::s3::query::Query;
use crate::s3::xml::{self, Encoding, ListingEcho};

/// Most objects of a page that tells their headers, and what its answer takes at worst but for escapes.
const METADATA_PAGE_MAX: usize = 100;
const METADATA_PAGE_BYTES: u64 = 2 << 20;

/// The parameters that all listings share.
pub(super) struct Page {
    pub(super) prefix: Bytes,
    pub(super) delimiter: Option<Bytes>,
    pub(super) max: usize,
    pub(super) encoding: Encoding,
}

impl Page {
    /// Reads them; `max` is the name of the limit.
    pub(super) fn read(query: &Query<'_>, max: &str) -> Result<Page, S3Error> {
        let asked = query.number(max)?.map_or(PAGE_MAX, |asked| usize::try_from(asked).unwrap_or(PAGE_MAX));
        Ok(Page {
            prefix: utf8_bytes(query, "prefix")?,
            delimiter: Some(utf8_bytes(query, "delimiter")?).filter(|delimiter| !delimiter.is_empty()),
            max: asked.min(PAGE_MAX),
            encoding: encoding(query)?,
        })
    }

    pub(super) fn echo<'a>(&'a self, bucket: &'a str) -> ListingEcho<'a> {
        ListingEcho {
            bucket,
            prefix: &self.prefix,
            delimiter: self.delimiter.as_deref(),
            max: self.max as u64,
            encoding: self.encoding,
        }
    }
}

/// Reads `encoding-type`.
pub(super) fn encoding(query: &Query<'_>) -> Result<Encoding, S3Error> {
    match query.text("encoding-type")?.as_deref() {
        None => Ok(Encoding::Plain),
        Some("url") => Ok(Encoding::Url),
        Some(other) => {
            Err(S3Error::argument("encoding-type", other, "Invalid Encoding Method specified in Request"))
        }
    }
}

/// A parameter that goes back into XML must be text.
pub(super) fn utf8_bytes(query: &Query<'_>, name: &str) -> Result<Bytes, S3Error> {
    Ok(query.text(name)?.map(|text| Bytes::from(text.into_owned())).unwrap_or_default())
}

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) async fn list_objects(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let page = Page::read(&request.query, "max-keys")?;
        let marker = utf8_bytes(&request.query, "marker")?;
        let objects = self.objects_page(request, &page, marker.clone(), true).await?;
        let bucket = request.bucket()?;
        let owners =
            self.owners(request, objects.objects.iter().filter_map(|object| object.owner.as_ref()))?;
        let echo = page.echo(bucket.as_str());
        let document = xml::list_objects_v1(&echo, &marker, &owners, &objects);
        Ok(xml_reply(document))
    }

    pub(super) async fn list_objects_v2(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let query = &request.query;
        let page = Page::read(query, "max-keys")?;
        let token = query.text("continuation-token")?;
        let start_after = utf8_bytes(query, "start-after")?;
        let after = match token.as_deref() {
            Some("") => {
                return Err(S3Error::with_message(
                    Code::InvalidArgument,
                    "The continuation token provided is incorrect",
                ));
            }
            Some(token) => decode_token(token)?,
            None => start_after.clone(),
        };
        let with_owner = query.text("fetch-owner")?.is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let objects = match self.list_members(request, &page, &after).await? {
            Some(members) => members,
            None => self.objects_page(request, &page, after, with_owner).await?,
        };
        let next = objects.next.as_ref().map(|next| URL_SAFE_NO_PAD.encode(next));
        let bucket = request.bucket()?;
        let named = objects.objects.iter().filter_map(|object| object.owner.as_ref());
        let owners = with_owner.then(|| self.owners(request, named)).transpose()?;
        let echo = page.echo(bucket.as_str());
        let document = xml::list_objects_v2(
            &echo,
            token.as_deref(),
            &start_after,
            owners.as_ref(),
            &objects,
            next.as_deref(),
        );
        Ok(xml_reply(document))
    }

    async fn objects_page(
        &self,
        request: &Request<'_>,
        page: &Page,
        after: Bytes,
        with_owner: bool,
    ) -> Result<ObjectPage, S3Error> {
        let with_headers = request.query.get("metadata").is_some_and(|value| value == "true");
        // Headers of an object may be 64 KiB: with them a page is shorter.
        let (max_keys, answer_bytes) = match with_headers {
            true => (page.max.min(METADATA_PAGE_MAX), METADATA_PAGE_BYTES),
            false => (page.max, 0),
        };
        let _permit = self.ops.admit(Some(answer_bytes))?;
        let mut objects = self
            .ops
            .list_objects(ListObjects {
                bucket: request.bucket()?,
                prefix: page.prefix.clone(),
                delimiter: page.delimiter.clone(),
                after,
                max_keys,
                with_headers,
                with_acl: with_owner && request.access.settings()?.access.has_acls(),
            })
            .await?;
        for object in &mut objects.objects {
            tell_permitted(request, object);
        }
        if page.max == 0 {
            // AWS calls an empty page whole; a client would otherwise ask forever.
            objects.next = None;
        }
        Ok(objects)
    }
}

impl<O: Operations, C: Credentials> S3Service<O, C> {
    /// The owners of a page's entries, of which these are the ones that access lists name.
    pub(super) fn owners<'l>(
        &self,
        request: &Request<'_>,
        named: impl Iterator<Item = &'l Bytes>,
    ) -> Result<Owners, S3Error> {
        let has_acls = request.access.settings()?.access.has_acls();
        let person = |id: &str| self.verifier.credentials().person(id);
        Ok(Owners::new(self.bucket_owner(request)?, named.filter(|_| has_acls), person))
    }
}

/// Of the headers that a listing tells, only what the caller could read by itself.
fn tell_permitted(request: &Request<'_>, object: &mut ListedObject) {
    let Some(headers) = &mut object.headers else { return };
    let Ok(key) = ObjectKey::parse(object.key.clone()) else { return };
    let may_read = request.access.also_on(Action::GetObject, &key, headers).is_ok();
    if request.access.also_on(Action::GetObjectTagging, &key, headers).is_err() {
        headers.retain(|header| header.name != TAGGING_HEADER);
    }
    if !may_read {
        object.headers = None;
    }
}

pub(super) fn decode_token(token: &str) -> Result<Bytes, S3Error> {
    URL_SAFE_NO_PAD.decode(token).map(Bytes::from).map_err(|_| {
        S3Error::with_message(Code::InvalidArgument, "The continuation token provided is incorrect")
    })
}
