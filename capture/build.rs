//! Tells the linker how the image that runs without an operating system is laid out.

fn main() {
    println!("cargo::rerun-if-changed=image.ld");
    // Set by `--cfg freestanding`; without it this is an ordinary program of the host.
    if std::env::var_os("CARGO_CFG_FREESTANDING").is_some() {
        link_freestanding(&std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default());
    }
}

fn link_freestanding(folder: &str) {
    println!("cargo::rustc-link-arg-bins=-T{folder}/image.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        for argument in
            ["-nostdlib", "-nostartfiles", "-static-pie", "-Wl,--no-dynamic-linker", "-Wl,-z,norelro"]
        {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
