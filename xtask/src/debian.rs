//! Debian, from an administrator's side: the package, and a machine with systemd on which it is installed, crashes, and comes back.
//!
//! | module | what it is for |
//! |---|---|
//! | [`deb`] | makes the package |
//! | [`system`] | a Debian of its own, made by debootstrap, and its root disk |
//! | [`machine`] | the machine that runs it, driven through its `agent` |
//! | [`shim`] | how it starts under Secure Boot, as Debian is installed |
//! | [`rows`], with [`ansible`], [`kdump_tools`], [`package`], [`secure_boot`] and [`troubles`] | the rows of the test |

mod agent;
mod ansible;
pub(crate) mod deb;
mod kdump_tools;
pub(crate) mod machine;
mod package;
pub(crate) mod rows;
mod secure_boot;
mod shim;
pub(crate) mod system;
mod troubles;
