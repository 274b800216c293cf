//! Polling disk drivers over a DMA trait.
#![no_std]
#![forbid(unsafe_code)]
