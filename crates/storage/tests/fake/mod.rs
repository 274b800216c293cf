//! Devices in software, each in a machine of its own, for tests of their drivers.

pub(crate) mod ahci;
pub(crate) mod machine;
pub(crate) mod nvme;
pub(crate) mod pvscsi;
pub(crate) mod scsi;
pub(crate) mod virtio_blk;

use std::convert::Infallible;

use storage::{OpenError, StartError};

/// Why a device could not be started: there is a driver for it, and it can be attached.
pub(crate) fn start_error(error: OpenError<Infallible>) -> StartError {
    match error {
        OpenError::Start(error) => error,
        OpenError::NoDriver | OpenError::Attach(_) => panic!("{error}"),
    }
}
