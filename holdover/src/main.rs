//! Command line for a host that uses Holdover.

fn main() {}
