//! Addresses to which dumps are delivered.

use std::fmt;
use std::str::FromStr;

/// An address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `s3://BUCKET/PREFIX`: objects of that bucket, the names of which begin so.
    S3 {
        /// The bucket.
        bucket: String,
        /// Without slashes at its ends; may be empty.
        prefix: String,
    },
    /// `ssh://USER@HOST:PORT/PATH`: a folder of that host.
    Ssh(SshHost),
}

/// A folder of a host behind SSH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshHost {
    /// `USER@HOST`, or the host only.
    pub(crate) login: String,
    /// The port, if it is not SSH's own.
    pub(crate) port: Option<u16>,
    /// The folder, from the root.
    pub(crate) folder: String,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no address: s3://BUCKET/PREFIX and ssh://USER@HOST/PATH are, of letters, digits and -_.~+/"
)]
pub struct TargetError {
    text: String,
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let read = match text.split_once("://") {
            Some(("s3", rest)) => s3(rest),
            Some(("ssh", rest)) => ssh(rest),
            _ => None,
        };
        read.ok_or_else(|| TargetError { text: text.to_owned() })
    }
}

fn s3(rest: &str) -> Option<Target> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    let is_good = is_plain(bucket) && (prefix.is_empty() || is_path(prefix));
    is_good.then(|| Target::S3 { bucket: bucket.into(), prefix: prefix.into() })
}

fn ssh(rest: &str) -> Option<Target> {
    let (login, folder) = rest.split_once('/')?;
    let (login, port) = match login.rsplit_once(':') {
        Some((login, port)) => (login, Some(port.parse().ok()?)),
        None => (login, None),
    };
    let names: Vec<_> = login.split('@').collect();
    let folder = folder.trim_end_matches('/');
    // A name that begins with a hyphen is an option to `sftp`.
    let is_good = names.len() <= 2 && names.iter().all(|name| is_plain(name)) && is_path(folder);
    is_good.then(|| Target::Ssh(SshHost { login: login.into(), port, folder: format!("/{folder}") }))
}

/// Letters that mean nothing special to `sftp`, to a shell or in an address.
fn is_plain(name: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-_.~+".contains(letter);
    !name.is_empty() && !name.starts_with('-') && name.chars().all(is_letter)
}

fn is_path(path: &str) -> bool {
    path.split('/').all(|name| is_plain(name) && name != ".." && name != ".")
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Ssh(SshHost { login, port: None, folder }) => write!(f, "ssh://{login}{folder}"),
            Self::Ssh(SshHost { login, port: Some(port), folder }) => {
                write!(f, "ssh://{login}:{port}{folder}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for text in
            ["s3://crashes", "s3://crashes/web/1", "ssh://host/srv", "ssh://dumps@host:2222/srv/dumps"]
        {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        let slashes: Target = "s3://crashes/web/".parse().unwrap();
        assert_eq!(slashes.to_string(), "s3://crashes/web");
    }

    #[test]
    fn what_a_shell_or_sftp_might_take_for_a_command_is_refused() {
        let refused = [
            "ftp://a/b",
            "s3://",
            "s3:///a",
            "ssh://host",
            "ssh://host/",
            "ssh://-oProxyCommand=x/a",
            "ssh://a@-b/c",
            "ssh://host/a b",
            "ssh://host/a\nrm b",
            "ssh://host/../a",
            "ssh://a@b@c/d",
            "ssh://host:x/a",
            "s3://a/b$c",
            "s3://a//b",
        ];
        for text in refused {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
