//! Development tasks: setup, build, demo, test.

fn main() {}
