//! The capture kernel: boots when Linux has died, accepts its IOMMU, writes its dump, resets.

fn main() {}
