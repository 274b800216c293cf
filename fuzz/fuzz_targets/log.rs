//! The dead kernel's log: the fuzzer's bytes are its memory from where the kernel's image begins. The first byte says in which form the
//! log is.

#![no_main]

use core::convert::Infallible;

use holdover_fuzz::Memory;
use libfuzzer_sys::fuzz_target;
use vmcore::{Kernel, VmcoreInfo};

/// Where all is found without page tables: in the image.
const SPACE: &str = "NUMBER(phys_base)=0\nSYMBOL(swapper_pg_dir)=ffffffff80000000\n";
/// The ring of 5.10 and later.
const RING: &str = "\
SYMBOL(prb)=ffffffff80000000
SIZE(printk_ringbuffer)=80
OFFSET(printk_ringbuffer.desc_ring)=0
OFFSET(printk_ringbuffer.text_data_ring)=40
OFFSET(prb_desc_ring.count_bits)=0
OFFSET(prb_desc_ring.descs)=8
OFFSET(prb_desc_ring.infos)=16
OFFSET(prb_desc_ring.head_id)=24
OFFSET(prb_desc_ring.tail_id)=32
SIZE(prb_desc)=24
OFFSET(prb_desc.state_var)=0
OFFSET(prb_desc.text_blk_lpos)=8
OFFSET(prb_data_blk_lpos.begin)=0
OFFSET(prb_data_blk_lpos.next)=8
SIZE(printk_info)=24
OFFSET(printk_info.ts_nsec)=8
OFFSET(printk_info.text_len)=16
OFFSET(prb_data_ring.size_bits)=0
OFFSET(prb_data_ring.data)=8
";
/// The records of 3.5 to 5.9.
const RECORDS: &str = "\
SYMBOL(log_buf)=ffffffff80000000
SYMBOL(log_buf_len)=ffffffff80000008
SYMBOL(log_first_idx)=ffffffff8000000c
SYMBOL(log_next_idx)=ffffffff80000010
SIZE(printk_log)=16
OFFSET(printk_log.ts_nsec)=0
OFFSET(printk_log.len)=8
OFFSET(printk_log.text_len)=10
";

fuzz_target!(|bytes: &[u8]| {
    let Some((form, bytes)) = bytes.split_first() else { return };
    let info = [SPACE, if form % 2 == 0 { RING } else { RECORDS }].concat();
    let kernel = Kernel::new(VmcoreInfo::new(info.as_bytes()));
    let memory = Memory::new(bytes);
    let Ok(log) = kernel.log(&memory) else { return };
    let mut len = 0;
    let Ok(()) = log.print(|text| -> Result<(), Infallible> {
        assert!(text.iter().all(|byte| matches!(byte, b'\n' | b'\t' | b' '..=b'~')));
        len += text.len() as u64;
        Ok(())
    });
    assert_eq!(len, log.len());
});
