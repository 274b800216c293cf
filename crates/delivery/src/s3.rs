//! An object store that speaks S3: each file of a parcel becomes an object `PREFIX/NAME/FILE`.
//!
//! Each part is sent with its SHA-256 in the signature, so that the store refuses one that was damaged on its way. Its answer to what was
//! sent is what counts: `s3:PutObject` is the one right that is needed. Where the keys may read too, the object's length is checked.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{ClientOptions, Error, ObjectStoreExt, PutPayload, RetryConfig};

use crate::ledger::Progress;
use crate::names::Names;
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
    builder(bucket, settings).build().map_err(|error| in_words(&error, bucket))
}

fn builder(bucket: &str, settings: &S3Settings) -> AmazonS3Builder {
    web::use_ring();
    let client = ClientOptions::new().with_timeout(REQUEST).with_connect_timeout(CONNECTION);
    let client = client.with_dns_resolver(Arc::new(Names::of_host()));
    let retry = RetryConfig { max_retries: 3, retry_timeout: RETRY, ..RetryConfig::default() };
    let mut builder =
        AmazonS3Builder::from_env().with_bucket_name(bucket).with_client_options(client).with_retry(retry);
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    if let Some(region) = &settings.region {
        builder = builder.with_region(region);
    }
    builder
}

/// The upload of one parcel.
pub(crate) struct Upload<'a> {
    pub(crate) store: AmazonS3,
    pub(crate) bucket: &'a str,
    pub(crate) prefix: &'a str,
    pub(crate) target: String,
    pub(crate) parcel: &'a Parcel,
    pub(crate) ledger: &'a mut Ledger,
    /// Is told how many bytes are there.
    pub(crate) there: &'a dyn Fn(u64),
}

impl Upload<'_> {
    /// Sends all files that are not there, one after the other.
    pub(crate) async fn send(mut self) -> Result<Delivered, DeliveryError> {
        let mut delivered = Delivered::default();
        for file in &self.parcel.files {
            let one = self.send_file(file, delivered.sent + delivered.there).await?;
            delivered.sent += one.sent;
            delivered.there += one.there;
            (self.there)(delivered.sent + delivered.there);
        }
        Ok(delivered)
    }

    /// Sends a file, if it is not there, behind so many bytes of others.
    async fn send_file(&mut self, file: &str, before: u64) -> Result<Delivered, DeliveryError> {
        let name = [self.prefix, &self.parcel.name, file].join("/");
        let object = Path::from(name.trim_start_matches('/'));
        let (opened, length) = self.parcel.open(file)?;
        if self.is_there(&object, length).await? {
            return Ok(Delivered { sent: 0, there: length });
        }
        let (delivered, e_tag) = if length <= PART {
            let bytes = read(self.parcel, file, &opened, 0, length)?;
            let put = self.store.put(&object, bytes.into()).await.map_err(|error| self.failed(&error))?;
            (Delivered { sent: length, there: 0 }, put.e_tag)
        } else {
            self.send_parts(file, &opened, &object, length, before).await?
        };
        self.confirm(&object, length, e_tag).await?;
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
            // Keys that may only write: what the store answered when it took the object stands.
            Err(error) if is_refusal(&error) => Ok(true),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Notes that an object is there: the store took it, and does not contradict if it is asked.
    async fn confirm(
        &mut self,
        object: &Path,
        sent: u64,
        taken: Option<String>,
    ) -> Result<(), DeliveryError> {
        // A store that says nothing now, or not to these keys, said enough when it took the object.
        let found = self.store.head(object).await.ok();
        if let Some(found) = found.as_ref().filter(|found| found.size != sent) {
            self.ledger.note(&self.target, object.as_ref(), None)?;
            return Err(DeliveryError::NotThere { object: object.to_string(), found: found.size, sent });
        }
        let e_tag = found.map_or(taken, |found| found.e_tag);
        self.ledger.note(&self.target, object.as_ref(), Some(Progress::Whole { e_tag }))
    }

    /// Sends a file in parts: the rest of them, if an upload of it was begun that the store still knows.
    async fn send_parts(
        &mut self,
        file: &str,
        opened: &std::fs::File,
        object: &Path,
        length: u64,
        before: u64,
    ) -> Result<(Delivered, Option<String>), DeliveryError> {
        let (id, part_bytes, mut parts) = self.begin(object, length).await?;
        let mut delivered = Delivered { sent: 0, there: length.min(parts.len() as u64 * part_bytes) };
        for number in parts.len() as u64..length.div_ceil(part_bytes) {
            let (offset, end) = (number * part_bytes, length.min((number + 1) * part_bytes));
            let payload = PutPayload::from(read(self.parcel, file, opened, offset, end - offset)?);
            match self.store.put_part(object, &id, number as usize, payload).await {
                Ok(part) => parts.push(part.content_id),
                Err(error) => return Err(self.forget_if_unknown(object, &error)),
            }
            delivered.sent += end - offset;
            (self.there)(before + end);
            let progress = Progress::Begun { id: id.clone(), part_bytes, parts: parts.clone() };
            self.ledger.note(&self.target, object.as_ref(), Some(progress))?;
        }
        Ok((delivered, self.complete(object, &id, parts, length).await?))
    }

    /// Has the store make the object of its parts, and returns the object's ETag.
    async fn complete(
        &mut self,
        object: &Path,
        id: &String,
        parts: Vec<String>,
        length: u64,
    ) -> Result<Option<String>, DeliveryError> {
        let count = parts.len();
        let parts = parts.into_iter().map(|content_id| PartId { content_id }).collect();
        let error = match self.store.complete_multipart(object, id, parts).await {
            Ok(put) => return Ok(put.e_tag),
            Err(error) => error,
        };
        // A store that did it, and the answer of which was lost, does not know the upload any more when it is asked again.
        if matches!(error, Error::NotFound { .. })
            && let Ok(found) = self.store.head(object).await
            && found.size == length
            && has_parts(found.e_tag.as_deref(), count)
        {
            return Ok(found.e_tag);
        }
        Err(self.forget_if_unknown(object, &error))
    }

    /// The upload that was begun, with the answers to the parts that are there, or a new one.
    async fn begin(
        &mut self,
        object: &Path,
        length: u64,
    ) -> Result<(String, u64, Vec<String>), DeliveryError> {
        if let Some(Progress::Begun { id, part_bytes, parts }) =
            self.ledger.progress(&self.target, object.as_ref())
            && *part_bytes > 0
        {
            return Ok((id.clone(), *part_bytes, parts.clone()));
        }
        let part_bytes = PART.max(length.div_ceil(MOST_PARTS).next_multiple_of(1 << 20));
        let id = self.store.create_multipart(object).await.map_err(|error| self.failed(&error))?;
        let progress = Progress::Begun { id: id.clone(), part_bytes, parts: Vec::new() };
        self.ledger.note(&self.target, object.as_ref(), Some(progress))?;
        Ok((id, part_bytes, Vec::new()))
    }

    /// An upload that was begun long ago may have been removed by the store: the next try begins anew.
    fn forget_if_unknown(&mut self, object: &Path, error: &Error) -> DeliveryError {
        if matches!(error, Error::NotFound { .. }) {
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

fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. })
}

/// Whether an ETag can be that of an object of so many parts. Amazon's ends with their number; other stores' may be anything.
fn has_parts(e_tag: Option<&str>, count: usize) -> bool {
    let told = e_tag.and_then(|e_tag| e_tag.trim_matches('"').rsplit_once('-')?.1.parse().ok());
    told.is_none_or(|told: usize| told == count)
}

/// What a person can do about an error.
fn in_words(error: &Error, bucket: &str) -> DeliveryError {
    let (reason, bucket) = (chain(error), bucket.to_owned());
    // Error codes of S3: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    match error {
        _ if reason.contains("NoSuchBucket") => DeliveryError::NoBucket { bucket },
        _ if reason.contains("RequestTimeTooSkewed") => DeliveryError::WrongClock { reason },
        _ if is_refusal(error) && reason.contains("AccessDenied") => DeliveryError::MayNot { bucket, reason },
        _ if is_refusal(error) => DeliveryError::Refused { reason },
        _ => DeliveryError::Store { reason },
    }
}

#[cfg(test)]
mod tests;
