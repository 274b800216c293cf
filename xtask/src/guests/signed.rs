//! Signs the capture kernel for guests under Secure Boot, and makes images that they must not load.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::guests::initramfs::Archive;
use crate::guests::tool::Tool;
use crate::machines::files::Files;
use crate::machines::firmware::{self, KEY_PASSWORD};
use crate::process;

/// Names in the guest of the images that it must refuse: one without a signature, one signed with a key that nobody trusts, one that
/// was changed after it was signed.
pub(crate) const REFUSED: [&str; 3] = ["capture.unsigned", "capture.strange", "capture.altered"];

/// A byte of the program, which a signature covers.
const ALTERED: usize = 0x4321;

/// The images.
pub(crate) struct SignedImages {
    signed: Vec<u8>,
    refused: [Vec<u8>; 3],
}

impl SignedImages {
    /// Makes them of a capture kernel.
    pub(crate) fn make(image: &Path, tool: &Tool, files: &Files) -> Result<Self> {
        let sign = |name: &str, key: &Path, certificate: &Path| {
            let out = files.scratch(name);
            tool.sign([key, certificate], image, &out)?;
            Ok::<_, anyhow::Error>(fs::read(out)?)
        };
        let trusted = firmware::trusted_key()?;
        let signed = sign("capture.signed", &without_password(&trusted.key, files)?, &trusted.certificate)?;
        let [key, certificate] = strange_key(files)?;
        let strange = sign("capture.strange", &key, &certificate)?;
        let mut altered = signed.clone();
        altered[ALTERED] ^= 1;
        Ok(Self { signed, refused: [fs::read(image)?, strange, altered] })
    }

    /// Puts them into a guest's initial RAM file system.
    pub(crate) fn add_to(&self, archive: &mut Archive) {
        archive.add("capture", &self.signed);
        for (name, image) in REFUSED.iter().zip(&self.refused) {
            archive.add(name, image);
        }
    }
}

/// The same key in a file that no password protects.
pub(crate) fn without_password(key: &Path, files: &Files) -> Result<PathBuf> {
    let out = files.scratch("trusted.key");
    let mut openssl = Command::new("openssl");
    openssl.args(["pkey", "-passin", &format!("pass:{KEY_PASSWORD}"), "-in"]).arg(key).arg("-out").arg(&out);
    process::stdout(&mut openssl)?;
    Ok(out)
}

/// A key and a certificate that nobody has seen before.
fn strange_key(files: &Files) -> Result<[PathBuf; 2]> {
    let [key, certificate] = ["strange.key", "strange.pem"].map(|name| files.scratch(name));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=stranger"]);
    process::stdout(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate))?;
    Ok([key, certificate])
}
