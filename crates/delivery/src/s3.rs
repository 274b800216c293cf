//! An object store that speaks S3: each file of a parcel becomes an object `PREFIX/NAME/FILE`.
//!
//! Each part is sent with its SHA-256 in the signature, so that the store refuses one that was damaged on its way.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{ClientOptions, Error, ObjectStoreExt, PutPayload, RetryConfig};

use crate::ledger::Progress;
use crate::web::{self, chain};
use crate::{Delivered, DeliveryError, Ledger, Parcel};

/// Bytes of a part; S3 takes no fewer than 5 MiB.
const PART: u64 = 8 << 20;
/// Most parts of an object.
const MOST_PARTS: u64 = 10_000;
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(300);
/// How long a connection may take.
const CONNECTION: Duration = Duration::from_secs(20);
/// How long a request that fails is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// How the store is reached. The keys are in `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or come from the cloud's own service.
#[derive(Clone, Debug, Default)]
pub struct S3Settings {
    /// The store's address; `None` is Amazon's.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
}

/// Opens the store; nothing is sent yet.
pub(crate) fn open(bucket: &str, settings: &S3Settings) -> Result<AmazonS3, DeliveryError> {
    web::use_ring();
    let client = ClientOptions::new().with_timeout(REQUEST).with_connect_timeout(CONNECTION);
    let retry = RetryConfig { max_retries: 3, retry_timeout: RETRY, ..RetryConfig::default() };
    let mut builder =
        AmazonS3Builder::from_env().with_bucket_name(bucket).with_client_options(client).with_retry(retry);
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    if let Some(region) = &settings.region {
        builder = builder.with_region(region);
    }
    builder.build().map_err(|error| in_words(&error, bucket))
}

/// The upload of one parcel.
pub(crate) struct Upload<'a> {
    pub(crate) store: AmazonS3,
    pub(crate) bucket: &'a str,
    pub(crate) prefix: &'a str,
    pub(crate) target: String,
    pub(crate) parcel: &'a Parcel,
    pub(crate) ledger: &'a mut Ledger,
}

impl Upload<'_> {
    /// Sends all files that are not there, one after the other.
    pub(crate) async fn send(mut self) -> Result<Delivered, DeliveryError> {
        let mut delivered = Delivered::default();
        for file in &self.parcel.files {
            let one = self.send_file(file).await?;
            delivered.sent += one.sent;
            delivered.there += one.there;
        }
        Ok(delivered)
    }

    async fn send_file(&mut self, file: &str) -> Result<Delivered, DeliveryError> {
        let name = [self.prefix, &self.parcel.name, file].join("/");
        let object = Path::from(name.trim_start_matches('/'));
        let (opened, length) = self.parcel.open(file)?;
        if self.is_there(&object, length).await? {
            return Ok(Delivered { sent: 0, there: length });
        }
        let delivered = if length <= PART {
            let bytes = read(self.parcel, file, &opened, 0, length)?;
            self.store.put(&object, bytes.into()).await.map_err(|error| self.failed(&error))?;
            Delivered { sent: length, there: 0 }
        } else {
            self.send_parts(file, &opened, &object, length).await?
        };
        self.confirm(&object, length).await?;
        Ok(delivered)
    }

    /// Whether the object is there as it was sent before.
    async fn is_there(&self, object: &Path, length: u64) -> Result<bool, DeliveryError> {
        let Some(Progress::Whole { e_tag }) = self.ledger.progress(&self.target, object.as_ref()) else {
            return Ok(false);
        };
        match self.store.head(object).await {
            Ok(found) => Ok(found.size == length && found.e_tag == *e_tag),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Notes that an object is there, once the store says so.
    async fn confirm(&mut self, object: &Path, sent: u64) -> Result<(), DeliveryError> {
        let found = self.store.head(object).await.map_err(|error| self.failed(&error))?;
        if found.size != sent {
            self.ledger.note(&self.target, object.as_ref(), None)?;
            return Err(DeliveryError::NotThere { object: object.to_string(), found: found.size, sent });
        }
        self.ledger.note(&self.target, object.as_ref(), Some(Progress::Whole { e_tag: found.e_tag }))
    }

    /// Sends a file in parts: the rest of them, if an upload of it was begun that the store still knows.
    async fn send_parts(
        &mut self,
        file: &str,
        opened: &std::fs::File,
        object: &Path,
        length: u64,
    ) -> Result<Delivered, DeliveryError> {
        let (id, part_bytes, mut parts, is_resumed) = self.begin(object, length).await?;
        let mut delivered = Delivered { sent: 0, there: length.min(parts.len() as u64 * part_bytes) };
        for number in parts.len() as u64..length.div_ceil(part_bytes) {
            let (offset, end) = (number * part_bytes, length.min((number + 1) * part_bytes));
            let payload = PutPayload::from(read(self.parcel, file, opened, offset, end - offset)?);
            match self.store.put_part(object, &id, number as usize, payload).await {
                Ok(part) => parts.push(part.content_id),
                Err(error) => return Err(self.forget_if_unknown(object, is_resumed, &error)),
            }
            delivered.sent += end - offset;
            let progress = Progress::Begun { id: id.clone(), part_bytes, parts: parts.clone() };
            self.ledger.note(&self.target, object.as_ref(), Some(progress))?;
        }
        let parts = parts.into_iter().map(|content_id| PartId { content_id }).collect();
        match self.store.complete_multipart(object, &id, parts).await {
            Ok(_) => Ok(delivered),
            Err(error) => Err(self.forget_if_unknown(object, is_resumed, &error)),
        }
    }

    /// The upload that was begun, with the answers to the parts that are there, or a new one.
    async fn begin(
        &mut self,
        object: &Path,
        length: u64,
    ) -> Result<(String, u64, Vec<String>, bool), DeliveryError> {
        if let Some(Progress::Begun { id, part_bytes, parts }) =
            self.ledger.progress(&self.target, object.as_ref())
            && *part_bytes > 0
        {
            return Ok((id.clone(), *part_bytes, parts.clone(), true));
        }
        let part_bytes = PART.max(length.div_ceil(MOST_PARTS).next_multiple_of(1 << 20));
        let id = self.store.create_multipart(object).await.map_err(|error| self.failed(&error))?;
        let progress = Progress::Begun { id: id.clone(), part_bytes, parts: Vec::new() };
        self.ledger.note(&self.target, object.as_ref(), Some(progress))?;
        Ok((id, part_bytes, Vec::new(), false))
    }

    /// An upload that was begun long ago may have been removed by the store: the next try begins anew.
    fn forget_if_unknown(&mut self, object: &Path, is_resumed: bool, error: &Error) -> DeliveryError {
        if is_resumed && matches!(error, Error::NotFound { .. }) {
            // It is not known any more there; if it cannot be forgotten here, the next try is told the same.
            let _ = self.ledger.note(&self.target, object.as_ref(), None);
        }
        self.failed(error)
    }

    fn failed(&self, error: &Error) -> DeliveryError {
        in_words(error, self.bucket)
    }
}

fn read(
    parcel: &Parcel,
    file: &str,
    opened: &std::fs::File,
    offset: u64,
    length: u64,
) -> Result<Vec<u8>, DeliveryError> {
    let mut bytes = vec![0; length as usize];
    let read = opened.read_exact_at(&mut bytes, offset);
    read.map_err(|source| DeliveryError::File { path: parcel.path(file), source })?;
    Ok(bytes)
}

/// What a person can do about an error.
fn in_words(error: &Error, bucket: &str) -> DeliveryError {
    let reason = chain(error);
    match error {
        _ if reason.contains("NoSuchBucket") => DeliveryError::NoBucket { bucket: bucket.to_owned() },
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => DeliveryError::Refused { reason },
        _ => DeliveryError::Store { reason },
    }
}
