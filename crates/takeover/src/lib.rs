//! Accept a VT-d unit in the active state that a dead kernel left: census, duplicate, swap, attach.
#![no_std]
#![forbid(unsafe_code)]
