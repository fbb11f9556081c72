//! RestoreObject.
//! Invariants: every class that is kept here can be read at once, so nothing is ever to be restored; the answer is
//! S3's for such an object.
//! Not here: storage classes (`headers`).

use shardstore_reactor::{Executor, Stream};

use super::{Reply, Request, S3Service};
use crate::auth::Credentials;
use crate::ops::api::Operations;
use crate::s3::body::S3Body;
use crate::s3::error::{Code, S3Error};

/// Longest document: far above what any client sends.
const DOCUMENT_BYTES_MAX: usize = 64 << 10;

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) async fn restore_object<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let version = request.version()?;
        let (_permit, _) = self.read_document(body, DOCUMENT_BYTES_MAX).await?;
        let info = self.ops.head_object(request.bucket()?, request.key()?, version).await?;
        let class = info.storage_class.unwrap_or_else(|| "STANDARD".to_owned());
        Err(S3Error::with_message(
            Code::InvalidObjectState,
            "Restore is not allowed for the object's current storage class",
        )
        .and("StorageClass", class))
    }
}
