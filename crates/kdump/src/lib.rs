//! The kdump-compressed dump format: writer and reader.
#![no_std]
#![forbid(unsafe_code)]
