//! Puts the capture kernel's image that the environment variable `HOLDOVER_IMAGE` names into the program.
//!
//! Without the variable the program has no image inside: plain `cargo build` makes such a one, whose `load` needs `--image`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The variable with the absolute path of the image.
const VARIABLE: &str = "HOLDOVER_IMAGE";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    println!("cargo::rerun-if-changed=build.rs");
    let image = env::var_os(VARIABLE).map_or(Ok(Vec::new()), |path| read(&PathBuf::from(path)))?;
    let folder = env::var_os("OUT_DIR").ok_or("cargo names no OUT_DIR")?;
    fs::write(Path::new(&folder).join("image"), &image)?;
    let inside = match image.len() {
        0 => "no capture kernel inside: `load` needs --image".to_owned(),
        bytes => format!("with a capture kernel of {bytes} bytes inside"),
    };
    println!("cargo::rustc-env=HOLDOVER_INSIDE={inside}");
    Ok(())
}

/// Reads an image, and fails if it is none: the boot protocol of Linux on x86 has "HdrS" at 0x202.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    println!("cargo::rerun-if-changed={}", path.display());
    let named = format!("{VARIABLE} names {}", path.display());
    if !path.is_absolute() {
        return Err(format!("{named}, which must be an absolute path"));
    }
    let image = fs::read(path).map_err(|error| format!("{named}: {error}"))?;
    if image.get(0x202..0x206) != Some(b"HdrS") {
        return Err(format!("{named}, which is no bzImage"));
    }
    Ok(image)
}
