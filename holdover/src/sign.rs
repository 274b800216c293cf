//! `holdover sign`: signs the capture kernel's image for Secure Boot.

use std::path::PathBuf;

use anyhow::Result;
use host::image::{Image, ImageChoice, SIGNED_COPY};
use host::secure_boot::{FirmwareState, KeyState};
use host::sign::{self, KeyPair, SignRequest, SignedImage};
use serde_json::{Value, json};

use crate::embedded;
use crate::report::{Report, row};

/// What the command is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The private key, PEM; by default the one that DKMS or shim has for this machine's kernel modules
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// The key's certificate, PEM or DER
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The image; by default the one inside this program
    #[arg(long, value_name = "PATH")]
    image: Option<PathBuf>,
    /// Where the signed image goes; `holdover load` finds it at the default
    #[arg(long, value_name = "PATH", default_value = SIGNED_COPY)]
    out: PathBuf,
}

/// Signs the image.
pub(crate) fn run(arguments: &Arguments) -> Result<SignedImage> {
    let pair = arguments.key.clone().zip(arguments.cert.clone());
    let request = SignRequest {
        image: image(arguments)?,
        pair: pair.map(|(key, certificate)| KeyPair { key, certificate }),
        out: arguments.out.clone(),
    };
    Ok(sign::sign(&request)?)
}

fn image(arguments: &Arguments) -> Result<Image> {
    let choice =
        ImageChoice { named: arguments.image.as_deref(), configured: None, embedded: embedded::image() };
    Ok(choice.choose()?)
}

/// What is left to do until the kernel loads the image; `None` if nothing is.
fn next(signed: &SignedImage) -> Option<String> {
    let certificate = signed.pair.certificate.display();
    match (signed.key, signed.firmware) {
        (KeyState::Known, _) => None,
        (_, FirmwareState::Bios) => {
            Some("this machine has no UEFI and takes no keys: the signature is of no use here".into())
        }
        _ if signed.is_der => Some(enrol(&certificate.to_string())),
        _ => Some(format!(
            "`openssl x509 -in {certificate} -outform der -out holdover-key.der`, then {}",
            enrol("holdover-key.der")
        )),
    }
}

fn enrol(certificate: &str) -> String {
    format!("`mokutil --import {certificate}`, restart, and confirm the key in MOK management")
}

impl Report for SignedImage {
    fn rows(&self) -> Vec<Vec<String>> {
        let known = match self.key {
            KeyState::Known => "known to this kernel",
            KeyState::Missing => "not known to this kernel",
            KeyState::Unknown => "no keyrings are to be seen, so whether this kernel knows it is not known",
        };
        let mut rows = vec![
            row("signed", self.out.display().to_string()),
            row("by", self.certificate.subject()),
            row("key", known),
        ];
        rows.extend(next(self).map(|next| row("next", next)));
        rows
    }

    fn json(&self) -> Result<Value> {
        Ok(json!({
            "image": self.out,
            "key": self.pair.key,
            "certificate": self.pair.certificate,
            "subject": self.certificate.subject(),
            "key_id": self.certificate.key_id().digits(),
            "known": match self.key {
                KeyState::Known => Value::Bool(true),
                KeyState::Missing => Value::Bool(false),
                KeyState::Unknown => Value::Null,
            },
            "next": next(self),
        }))
    }
}
