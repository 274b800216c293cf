//! Stories of single machines.
