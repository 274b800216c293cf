//! Debian, from an administrator's side: the package, and a machine with systemd on which it is installed, crashes, and comes back.
//!
//! | module | what it is for |
//! |---|---|
//! | [`deb`] | makes the package |
//! | [`system`] | a Debian of its own, made by debootstrap, and its root disk |
//! | [`machine`] | the machine that runs it, driven through its `agent` |
//! | [`package`], [`rows`] | the rows of the test |

mod agent;
pub(crate) mod deb;
pub(crate) mod machine;
mod package;
pub(crate) mod rows;
pub(crate) mod system;
