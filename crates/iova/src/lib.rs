//! I/O virtual address allocation around what is already in use.
#![no_std]
#![forbid(unsafe_code)]
