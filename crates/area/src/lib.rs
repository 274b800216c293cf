//! The dump area on disk: label, seal, checksum.
#![no_std]
#![forbid(unsafe_code)]
