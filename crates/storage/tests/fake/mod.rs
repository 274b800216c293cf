//! Devices in software, each in a machine of its own, for tests of their drivers.

pub(crate) mod ahci;
pub(crate) mod machine;
pub(crate) mod nvme;

pub(crate) mod pvscsi;
pub(crate) mod scsi;
pub(crate) mod virtio_blk;
