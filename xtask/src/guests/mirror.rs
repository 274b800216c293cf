//! Finds Debian's archive in the configuration of this machine's apt: mirrors, keys and, through apt itself, proxies.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// What `apt-get indextargets` is asked to print of each list of packages. What a list does not have is printed as it stands here.
const FORMAT: &str = "$(LABEL)|$(REPO_URI)|$(SIGNED_BY)";
/// The label of Debian's archive itself: updates for security have another.
const LABEL: &str = "Debian";
/// Debian's keys, where they are installed.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

const NONE: &str = "apt on this machine has no lists of packages from Debian's archive: name a mirror of it in \
                    /etc/apt/sources.list.d, and run `apt-get update` as root";

/// A mirror of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    uri: String,
    /// The file of keys with which its lists are signed; without one, apt's own are valid.
    signed_by: Option<String>,
}

impl Mirror {
    /// The mirror from which this machine has its lists of packages.
    pub(crate) fn of_this_machine() -> Result<Self> {
        let mut targets = Command::new("apt-get");
        targets.args(["indextargets", "--format", FORMAT, "Created-By: Packages"]);
        let mirror = Self::parse(&process::stdout(&mut targets)?).context(NONE)?;
        let installed = || Path::new(KEYRING).is_file().then(|| KEYRING.to_owned());
        Ok(Self { signed_by: mirror.signed_by.clone().or_else(installed), ..mirror })
    }

    /// Finds the first of Debian's archives in a list of [`FORMAT`].
    fn parse(targets: &str) -> Option<Self> {
        targets.lines().find_map(|target| {
            let mut fields = target.splitn(3, '|');
            let (label, uri, signed_by) = (fields.next()?, fields.next()?, fields.next()?);
            let signed_by = signed_by.starts_with('/').then(|| signed_by.to_owned());
            (label == LABEL && uri.contains(':')).then(|| Self { uri: uri.to_owned(), signed_by })
        })
    }

    /// Where it is.
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// The line of a list of sources for a suite.
    pub(crate) fn source(&self, suite: &str) -> String {
        let Self { uri, signed_by } = self;
        let keys = signed_by.as_ref().map_or(String::new(), |keys| format!(" [signed-by={keys}]"));
        format!("deb{keys} {uri} {suite} main\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_own_archive_is_found_among_those_of_others() {
        let targets = "\
Debian-Security|http://mirror.example/debian-security/|$(SIGNED_BY)
$(LABEL)|http://others.example/apt/|/etc/others.gpg
Debian|http://mirror.example/debian/|$(SIGNED_BY)
Debian|http://second.example/debian/|$(SIGNED_BY)
";
        let mirror = Mirror::parse(targets).unwrap();
        assert_eq!(mirror.source("forky"), "deb http://mirror.example/debian/ forky main\n");
    }

    #[test]
    fn keys_that_the_machine_names_for_it_stay_its_keys() {
        let mirror = Mirror::parse("Debian|https://mirror.example/debian/|/etc/keys.asc\n").unwrap();
        let line = "deb [signed-by=/etc/keys.asc] https://mirror.example/debian/ forky main\n";
        assert_eq!(mirror.source("forky"), line);
    }

    #[test]
    fn a_machine_that_is_not_debians_and_one_without_lists_have_no_mirror() {
        assert_eq!(Mirror::parse("Other|http://mirror.example/other/|$(SIGNED_BY)\n"), None);
        assert_eq!(Mirror::parse("Debian|$(REPO_URI)|$(SIGNED_BY)\n"), None);
        assert_eq!(Mirror::parse(""), None);
    }
}
