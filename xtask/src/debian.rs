//! Debian, from an administrator's side: the package that is installed there.

pub(crate) mod deb;
