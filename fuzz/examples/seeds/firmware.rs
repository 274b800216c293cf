//! `boot_params` at address 0, the command line behind it, then ACPI's tables; with UEFI, set-up data and EFI's tables lead
//! to them.

use crate::Seed;
use crate::dmar;

const COMMAND_LINE: usize = 0x1000;
const ROOT: usize = 0x1080;
const LIST: usize = 0x10C0;
const MCFG: usize = 0x1100;
const FADT: usize = 0x1180;
const DMAR: usize = 0x1280;

pub(crate) fn seeds() -> Vec<Seed> {
    vec![("qemu", memory()), ("uefi", uefi())]
}

/// The same without the root pointer's address, which EFI's configuration tables name.
fn uefi() -> Vec<u8> {
    const SETUP_DATA: usize = 0x1400;
    const SYSTEM_TABLE: usize = 0x1480;
    const CONFIGURATION: usize = 0x1500;
    const ACPI_20: u128 = 0x8188_3CC7_8000_22BC_11D3_E4F1_8868_E871;
    let mut memory = memory();
    memory.resize(0x1580, 0);
    put(&mut memory, 0x070, &[0; 8]);
    put(&mut memory, 0x1C0, b"EL64");
    put(&mut memory, 0x1C4, &(SYSTEM_TABLE as u32).to_le_bytes());
    put(&mut memory, 0x250, &(SETUP_DATA as u64).to_le_bytes());
    put(&mut memory, SETUP_DATA + 8, &[4, 0, 0, 0, 96]);
    put(&mut memory, SETUP_DATA + 32, &(CONFIGURATION as u64).to_le_bytes());
    put(&mut memory, SYSTEM_TABLE, b"IBI SYST");
    put(&mut memory, SYSTEM_TABLE + 104, &[1]);
    put(&mut memory, SYSTEM_TABLE + 112, &(CONFIGURATION as u64).to_le_bytes());
    put(&mut memory, CONFIGURATION, &ACPI_20.to_le_bytes());
    put(&mut memory, CONFIGURATION + 16, &(ROOT as u64).to_le_bytes());
    memory
}

fn memory() -> Vec<u8> {
    let mut memory = vec![0; 0x1400];
    // Offsets in boot_params: Documentation/arch/x86/zero-page.rst.
    put(&mut memory, 0x070, &(ROOT as u64).to_le_bytes());
    put(&mut memory, 0x1E8, &[2]);
    put(&mut memory, 0x228, &(COMMAND_LINE as u32).to_le_bytes());
    put(&mut memory, 0x2D0, &[0_u64, 0x9_FC00].map(u64::to_le_bytes).concat());
    put(&mut memory, 0x2E0, &[1]);
    put(&mut memory, 0x2E4, &[0x10_0000_u64, 0x3FEE_0000].map(u64::to_le_bytes).concat());
    put(&mut memory, 0x2F4, &[1]);
    put(&mut memory, COMMAND_LINE, b"elfcorehdr=0x2e000000 holdover.level=31 console=ttyS0,115200");
    put(&mut memory, ROOT, b"RSD PTR ");
    put(&mut memory, ROOT + 16, &(LIST as u32).to_le_bytes());
    make_the_sum_right(&mut memory, ROOT + 8, ROOT, 20);
    put_table(&mut memory, LIST, b"RSDT", &[MCFG, FADT, DMAR].map(|at| (at as u32).to_le_bytes()).concat());
    put_table(
        &mut memory,
        MCFG,
        b"MCFG",
        &[&[0; 8][..], &0xB000_0000_u64.to_le_bytes(), &[0, 0, 0, 255, 0, 0, 0, 0]].concat(),
    );
    let mut fadt = vec![0; 244 - 36];
    put(&mut fadt, 76 - 36, &0x608_u32.to_le_bytes());
    put(&mut fadt, 112 - 36, &(1_u32 << 10).to_le_bytes());
    put(&mut fadt, 116 - 36, &[1, 8, 0, 0, 0xF9, 0x0C]);
    put(&mut fadt, 128 - 36, &[0x0F]);
    put_table(&mut memory, FADT, b"FACP", &fadt);
    put(&mut memory, DMAR, &dmar::qemus());
    memory
}

fn put(memory: &mut [u8], at: usize, bytes: &[u8]) {
    memory[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A table (ACPI specification 6.5, section 5.2.6) with this body.
fn put_table(memory: &mut [u8], at: usize, signature: &[u8; 4], body: &[u8]) {
    let length = 36 + body.len();
    put(memory, at, signature);
    put(memory, at + 4, &(length as u32).to_le_bytes());
    put(memory, at + 36, body);
    make_the_sum_right(memory, at + 9, at, length);
}

fn make_the_sum_right(memory: &mut [u8], checksum: usize, at: usize, length: usize) {
    memory[checksum] = memory[at..at + length].iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
}
