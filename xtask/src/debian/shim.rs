//! Starts a machine under Secure Boot as Debian's own installation does: firmware that trusts Microsoft's keys starts shim, shim starts
//! GRUB, and GRUB Debian's signed kernel. The owner's certificate is in shim's list (MOK), where `mokutil --import` has it put.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::system::System;
use crate::guests::archive::Suite;
use crate::machines::files::Files;
use crate::machines::firmware;
use crate::paths;

/// What firmware and shim start, in turn: the package, its file, and the name under which it is looked for.
const LOADERS: [(&str, &str, &str); 2] = [
    ("shim-signed", "./usr/lib/shim/shimx64.efi.signed", "EFI/BOOT/BOOTX64.EFI"),
    ("grub-efi-amd64-signed", "./usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", "EFI/BOOT/grubx64.efi"),
];

/// Has QEMU start the kernel in this way; the certificate is a file in DER.
pub(super) fn add_to(
    command: &mut Command,
    files: &Files,
    system: &System,
    line: &str,
    owner: &Path,
) -> Result<()> {
    let mut variables = fs::read(firmware::microsofts_variables()?)?;
    let certificate = signature_list(&fs::read(owner)?)?;
    append(&mut variables, "MokList", SHIM, &certificate)?;
    let file = files.scratch("uefi-variables");
    fs::write(&file, variables)?;
    firmware::add_secure_boot(command, &file)?;
    let folder = boot_folder(files, system, line)?;
    let drive = format!("if=none,id=boot,format=raw,readonly=on,file=fat:{}", folder.display());
    command.args(["-drive", &drive, "-device", "virtio-blk-pci,drive=boot,bootindex=0"]);
    Ok(())
}

/// Makes the folder that the machine sees as the disk from which it boots.
fn boot_folder(files: &Files, system: &System, line: &str) -> Result<PathBuf> {
    let folder = files.scratch("boot");
    for (package, file, name) in LOADERS {
        let loader = Suite::Installed.unpacked(package, &[file])?.join(file);
        paths::made(folder.join("EFI/BOOT"))?;
        fs::copy(loader, folder.join(name))?;
    }
    fs::copy(&system.kernel.image, folder.join("vmlinuz"))?;
    fs::copy(files.initramfs(), folder.join("initrd"))?;
    let menu = format!("linux /vmlinuz {line}\ninitrd /initrd\nboot\n");
    fs::write(paths::made(folder.join("EFI/debian"))?.join("grub.cfg"), menu)?;
    Ok(folder)
}

/// A GUID as it is in memory (UEFI specification 2.10, appendix A).
type Guid = [u8; 16];

/// The owner of shim's variables: 605dab50-e046-4300-abb6-3dd810dd8b23.
const SHIM: Guid = *b"\x50\xab\x5d\x60\x46\xe0\x00\x43\xab\xb6\x3d\xd8\x10\xdd\x8b\x23";
/// `EFI_CERT_X509_GUID`: a5c059a1-94e4-4aa7-87b5-ab155c2bf072.
const X509: Guid = *b"\xa1\x59\xc0\xa5\xe4\x94\xa7\x4a\x87\xb5\xab\x15\x5c\x2b\xf0\x72";

/// An `EFI_SIGNATURE_LIST` with one certificate (UEFI specification 2.10, 32.4.1).
fn signature_list(certificate: &[u8]) -> Result<Vec<u8>> {
    let signature = u32::try_from(SHIM.len() + certificate.len())?;
    let sizes = [28 + signature, 0, signature].map(u32::to_le_bytes);
    Ok([&X509, sizes.as_flattened(), &SHIM, certificate].concat())
}

/// Where the first variable is: behind the headers of the firmware's volume and of the store (EDK II's `VariableFormat.h`).
const FIRST_VARIABLE: usize = 0x64;
/// Bytes of an `AUTHENTICATED_VARIABLE_HEADER`; names and values follow, and the next header is at a multiple of 4.
const HEADER: usize = 60;
const START: [u8; 2] = [0xaa, 0x55];
/// The state of a variable that is there.
const ADDED: u8 = 0x3f;
/// What no running system sees: non-volatile, for boot services.
const ATTRIBUTES: u32 = 3;

/// Appends a variable to those of a new machine.
fn append(store: &mut [u8], name: &str, owner: Guid, value: &[u8]) -> Result<()> {
    let name: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let mut variable = [&START[..], &[ADDED, 0], &ATTRIBUTES.to_le_bytes()].concat();
    // A count, a time and a key, which a variable without a signature has not.
    variable.extend([0; 28]);
    for size in [name.len(), value.len()] {
        variable.extend(u32::try_from(size)?.to_le_bytes());
    }
    variable.extend([&owner[..], &name, value].concat());
    let free = first_free(store)?;
    let place = store.get_mut(free..free + variable.len()).context("the variables are full")?;
    ensure!(place.iter().all(|byte| *byte == 0xff), "behind the last variable is something else");
    place.copy_from_slice(&variable);
    Ok(())
}

/// Where the next variable goes.
fn first_free(store: &[u8]) -> Result<usize> {
    let mut at = FIRST_VARIABLE;
    while store.get(at..at + 2) == Some(&START) {
        let size = |offset| {
            let bytes = store.get(at + offset..at + offset + 4).context("the variables are cut off")?;
            Ok::<_, anyhow::Error>(u32::from_le_bytes(bytes.try_into()?) as usize)
        };
        at = (at + HEADER + size(36)? + size(40)?).next_multiple_of(4);
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_appended_behind_the_others() {
        let mut store = vec![0xff; 0x200];
        append(&mut store, "Odd", SHIM, b"x").unwrap();
        append(&mut store, "MokList", X509, b"value").unwrap();
        // The first has a name of 8 bytes, and a value of 1.
        let second = (FIRST_VARIABLE + HEADER + 8 + 1).next_multiple_of(4);
        assert_eq!(store[second..second + 8], [0xaa, 0x55, 0x3f, 0, 3, 0, 0, 0]);
        assert_eq!(store[second + 36..second + 44], [16, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!(store[second + 44..second + 60], X509);
        assert_eq!(&store[second + 60..second + 82], b"M\0o\0k\0L\0i\0s\0t\0\0\0value\xff");
    }

    #[test]
    fn what_is_behind_the_last_variable_is_not_overwritten() {
        let mut store = vec![0; 0x200];
        assert!(append(&mut store, "MokList", SHIM, b"value").is_err());
        assert!(append(&mut store[..0x70], "MokList", SHIM, b"value").is_err(), "no room");
    }

    #[test]
    fn a_list_of_signatures_says_how_long_it_is() {
        let list = signature_list(b"DER").unwrap();
        assert_eq!(list.len(), 47);
        assert_eq!(list[16..28], [47, 0, 0, 0, 0, 0, 0, 0, 19, 0, 0, 0]);
    }
}
