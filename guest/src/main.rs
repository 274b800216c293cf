//! What runs inside the crashing Linux of the bench.

fn main() {}
