//! Certificates, and which of them a signature names as its maker's (RFC 5652, RFC 5280).

use std::fmt;

use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier};
use x509_cert::der::{Decode, DecodePem, Encode, EncodePem, pem::LineEnding};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, SubjectKeyIdentifier};

/// A certificate: a public key, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate(x509_cert::Certificate);

/// The name by which Linux' keyrings know a key, in hexadecimal digits (Linux, crypto/asymmetric_keys/x509_public_key.c).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyId(String);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl KeyId {
    fn new(bytes: &[u8]) -> Self {
        let digits = |number: u8| char::from_digit(number.into(), 16).unwrap_or_default();
        Self(bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xF].map(digits)).collect())
    }

    /// The digits.
    pub fn digits(&self) -> &str {
        &self.0
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("neither a PEM nor a DER certificate")]
pub struct CertificateError;

impl Certificate {
    /// Reads a file's content, PEM or DER.
    pub fn parse(bytes: &[u8]) -> Result<Self, CertificateError> {
        let pem = || x509_cert::Certificate::from_pem(bytes);
        x509_cert::Certificate::from_der(bytes).or_else(|_| pem()).map(Self).map_err(|_| CertificateError)
    }

    /// The certificate of whoever made a signature, a PKCS #7 message, as the message itself says.
    pub(super) fn of_signer(message: &[u8]) -> Option<Self> {
        let content = ContentInfo::from_der(message).ok()?.content;
        let signed = SignedData::from_der(&content.to_der().ok()?).ok()?;
        let sid = &signed.signer_infos.0.as_ref().first()?.sid;
        let certificates = signed.certificates.as_ref()?.0.iter();
        let certificates = certificates.filter_map(|choice| match choice {
            CertificateChoices::Certificate(certificate) => Some(Self(certificate.clone())),
            CertificateChoices::Other(_) => None,
        });
        certificates.into_iter().find(|certificate| certificate.is(sid))
    }

    fn is(&self, signer: &SignerIdentifier) -> bool {
        match signer {
            SignerIdentifier::IssuerAndSerialNumber(name) => {
                let own = &self.0.tbs_certificate;
                own.issuer == name.issuer && own.serial_number == name.serial_number
            }
            SignerIdentifier::SubjectKeyIdentifier(id) => self.subject_key().is_some_and(|own| own == *id),
        }
    }

    /// Whose it is, as RFC 4514 writes it, such as `CN=backups`.
    pub fn subject(&self) -> String {
        self.0.tbs_certificate.subject.to_string()
    }

    /// The name of its key.
    pub fn key_id(&self) -> KeyId {
        match self.subject_key() {
            Some(id) => KeyId::new(id.0.as_bytes()),
            None => KeyId::new(self.0.tbs_certificate.serial_number.as_bytes()),
        }
    }

    /// The name of the key that signed the certificate, if it tells.
    pub fn issuer_key_id(&self) -> Option<KeyId> {
        let (_, authority) = self.0.tbs_certificate.get::<AuthorityKeyIdentifier>().ok()??;
        Some(KeyId::new(authority.key_identifier?.as_bytes()))
    }

    fn subject_key(&self) -> Option<SubjectKeyIdentifier> {
        self.0.tbs_certificate.get().ok().flatten().map(|(_, id)| id)
    }

    /// As text, which `sbsign` reads.
    pub fn to_pem(&self) -> Option<String> {
        self.0.to_pem(LineEnding::LF).ok()
    }
}
