//! Intel VT-d architecture: layouts of registers, tables, descriptors and the DMAR table.
#![no_std]
#![forbid(unsafe_code)]
