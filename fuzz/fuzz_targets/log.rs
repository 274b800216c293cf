//! The dead kernel's log: the fuzzer's bytes are its memory from where the kernel's image begins. The first byte says in which form the
//! log is.

#![no_main]

use core::convert::Infallible;

use fixtures::info::{printk_records, printk_ring};
use holdover_fuzz::Memory;
use libfuzzer_sys::fuzz_target;
use vmcore::{Kernel, VmcoreInfo};

/// Where all is found without page tables: in the image.
const SPACE: &str = "NUMBER(phys_base)=0\nSYMBOL(swapper_pg_dir)=ffffffff80000000\n";
/// Where the ring's pointer or the buffer's variables are: where the fuzzer's bytes begin.
const IMAGE: u64 = 0xffff_ffff_8000_0000;
/// Bytes of `struct printk_info`: only what is read, so that the fuzzer has less to find.
const INFO: u64 = 24;

fuzz_target!(|bytes: &[u8]| {
    let Some((form, bytes)) = bytes.split_first() else { return };
    let facts = if form % 2 == 0 { printk_ring(IMAGE, INFO) } else { printk_records(IMAGE) };
    let info = SPACE.to_owned() + &facts;
    let kernel = Kernel::new(VmcoreInfo::new(info.as_bytes()));
    let memory = Memory::new(bytes);
    let Ok(log) = kernel.log(&memory, || true) else { return };
    let mut len = 0;
    let Ok(()) = log.print(|text| -> Result<(), Infallible> {
        assert!(text.iter().all(|byte| matches!(byte, b'\n' | b'\t' | b' '..=b'~')));
        len += text.len() as u64;
        Ok(())
    });
    assert_eq!(len, log.len());
});
