//! Carries collected dumps elsewhere, so that they outlive their host: to an object store that speaks S3, or to a host behind SSH. Posts
//! what happened to a web address.
//!
//! A delivery is resumed where it was cut off. For S3, a [`Ledger`] beside the dump notes the parts that the store has confirmed: these
//! are not sent again, and a file that is there in whole is not either, if its length and its ETag are those that were noted. For SSH,
//! `sftp` goes on behind the last byte that is there, if what is before it is read back as it was sent. Each request has a deadline, and so has each delivery.
//!
//! Names of hosts are looked up in `/etc/hosts` and by the servers in `/etc/resolv.conf`, without the C library; `sftp` looks them up as
//! its host does. Servers are trusted by the root certificates of the system.
//!
//! Nothing here knows what a dump is: a [`Parcel`] is a folder with files.
//!
//! # Example
//!
//! ```
//! use delivery::Target;
//!
//! let target: Target = "s3://crashes/web".parse()?;
//! assert_eq!(target.to_string(), "s3://crashes/web");
//! # Ok::<(), delivery::TargetError>(())
//! ```

#![forbid(unsafe_code)]

mod ledger;
mod names;
mod parcel;
mod s3;
mod ssh;
mod target;
mod web;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use ledger::Ledger;
pub use parcel::Parcel;
pub use s3::S3Settings;
pub use ssh::SshSettings;
pub use target::{Target, TargetError};
pub use web::post_json;

/// How targets are reached.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// An object store.
    pub s3: S3Settings,
    /// A host behind SSH.
    pub ssh: SshSettings,
}

/// What a delivery sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Bytes that were sent now.
    pub sent: u64,
    /// Bytes that were there from an earlier try.
    pub there: u64,
}

/// Why something was not delivered.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum DeliveryError {
    /// The bucket is missing.
    #[error("the store has no bucket {bucket}: make it, or correct `to` in [actions]")]
    NoBucket {
        /// Its name.
        bucket: String,
    },
    /// The store does not take the keys.
    #[error(
        "the store refuses: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be keys that it knows and that may write to the bucket ({reason})"
    )]
    Refused {
        /// What it said.
        reason: String,
    },
    /// The store knows the keys, but they may not write.
    #[error(
        "the keys may not write to bucket {bucket}: give them the right s3:PutObject for it (and the use of its key, if it encrypts by KMS) ({reason})"
    )]
    MayNot {
        /// The bucket.
        bucket: String,
        /// What the store said.
        reason: String,
    },
    /// The store takes signatures of the present only.
    #[error("the store refuses because this host's clock is wrong: set it ({reason})")]
    WrongClock {
        /// What it said.
        reason: String,
    },
    /// The store failed, or could not be reached.
    #[error("the store failed, or was not reached: {reason}; `endpoint` in [actions.s3] names it")]
    Store {
        /// What happened.
        reason: String,
    },
    /// The store has something else than what was sent.
    #[error(
        "{object} has {found} bytes in the store, and {sent} were sent; it is sent again by the next `holdover collect --retry-actions`"
    )]
    NotThere {
        /// The object.
        object: String,
        /// Bytes that it has.
        found: u64,
        /// Bytes that were sent.
        sent: u64,
    },
    /// Something else has the name of the parcel.
    #[error("{folder} is there with other files: move it away")]
    Taken {
        /// The folder at the target.
        folder: String,
    },
    /// `sftp` failed.
    #[error("sftp failed: {said}; `{command}` must work for root without a password")]
    Sftp {
        /// What it said last.
        said: String,
        /// What a person may try.
        command: String,
    },
    /// A web address answered with an error, or did not.
    #[error("{address} was not reached, or answered: {reason}; `webhook` in [actions] names it")]
    Web {
        /// The address.
        address: String,
        /// What happened.
        reason: String,
    },
    /// It took too long. What was sent is not sent again.
    #[error("it took longer than {} minutes; the next try goes on from there", after.as_secs() / 60)]
    TooLong {
        /// The limit.
        after: Duration,
    },
    /// A file of this host cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

/// Delivers a folder, or the rest of one, within a time. `ledger` notes how far that is; `there` is told how many bytes of all files are
/// at the target, whenever that is known: after each part of an object, and at the end of a transfer by SSH.
pub fn deliver(
    target: &Target,
    parcel: &Parcel,
    settings: &Settings,
    ledger: &mut Ledger,
    limit: Duration,
    there: &dyn Fn(u64),
) -> Result<Delivered, DeliveryError> {
    match target {
        Target::S3 { bucket, prefix } => {
            let store = s3::open(bucket, &settings.s3)?;
            let upload =
                s3::Upload { store, bucket, prefix, target: target.to_string(), parcel, ledger, there };
            web::run(limit, upload.send())
        }
        Target::Ssh(host) => {
            let delivered = ssh::send(host, parcel, &settings.ssh, limit)?;
            there(delivered.sent + delivered.there);
            Ok(delivered)
        }
    }
}
