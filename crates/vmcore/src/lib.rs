//! A dead kernel's memory: core header, notes, VMCOREINFO, and which pages are worth keeping.
#![no_std]
#![forbid(unsafe_code)]
