//! `holdover sign`: signs the capture kernel's image for Secure Boot.

use std::path::{Path, PathBuf};

use anyhow::Result;
use host::config::Configuration;
use host::image::{ImageChoice, SIGNED_COPY};
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
    /// The image; by default the one that the configuration names, otherwise the one inside this program
    #[arg(long, value_name = "PATH")]
    image: Option<PathBuf>,
    /// Where the signed image goes; by default where `holdover load` finds it: in the place of the image that the configuration
    /// names, otherwise at /var/lib/holdover/capture.bzImage
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

/// Signs the image.
pub(crate) fn run(arguments: &Arguments) -> Result<SignedImage> {
    // What the configuration says does not matter if an image is named.
    let configured = match &arguments.image {
        Some(_) => None,
        None => Configuration::for_load(Configuration::of_host())?.0.image,
    };
    Ok(sign::sign(&request(arguments, configured.as_deref())?)?)
}

/// What is to be signed, and whereto, where this image is configured.
fn request(arguments: &Arguments, configured: Option<&Path>) -> Result<SignRequest> {
    let choice = ImageChoice { named: arguments.image.as_deref(), configured, embedded: embedded::image() };
    let pair = arguments.key.clone().zip(arguments.cert.clone());
    let out = arguments.out.as_deref().or(configured).unwrap_or(Path::new(SIGNED_COPY));
    Ok(SignRequest {
        image: choice.choose()?,
        pair: pair.map(|(key, certificate)| KeyPair { key, certificate }),
        out: out.to_owned(),
    })
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

#[cfg(test)]
mod tests {
    use std::fs;

    use host::image::Origin;

    use super::*;

    #[test]
    fn the_configured_image_is_signed_in_its_place_unless_another_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let [configured, named] = ["configured", "named"].map(|name| folder.path().join(name));
        for path in [&configured, &named] {
            // What makes a file a bzImage.
            fs::write(path, [&[0; 0x202][..], b"HdrS"].concat()).unwrap();
        }
        let mut arguments = Arguments { key: None, cert: None, image: None, out: None };
        let of = |arguments: &Arguments, configured: Option<&Path>| {
            let request = request(arguments, configured).unwrap();
            (request.image.origin().clone(), request.out)
        };
        assert_eq!(of(&arguments, Some(&configured)), (Origin::File(configured.clone()), configured.clone()));
        arguments.image = Some(named.clone());
        assert_eq!(of(&arguments, None), (Origin::File(named.clone()), SIGNED_COPY.into()));
        arguments.out = Some("out".into());
        assert_eq!(of(&arguments, None), (Origin::File(named), "out".into()));
    }
}
