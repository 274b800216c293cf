//! Virtual addresses through page tables of every shape.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise as tests do")]

use fixtures::Memory;
use machine::{Position, Range, VirtualAddress};
use proptest::prelude::*;
use vmcore::{AddressSpace, Mapping, Unknown, Unmapped, VmcoreInfo};

const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;

/// Tables are at 0x1000 times their level; the address 0x…123456789abc has these indices in them.
const ADDRESS: VirtualAddress = VirtualAddress::new(0xffff_9234_5678_9abc);
const INDEX: [u64; 5] = [0x189, 0xb3, 0xd1, 0x124, 0x1ff];

fn space(more: &str) -> AddressSpace {
    let levels = if more.contains("l5_enabled)=1") { 5 } else { 4 };
    let root = 0xffff_ffff_8000_0000u64 + 0x1000 * levels;
    let text = format!("{more}SYMBOL(swapper_pg_dir)={root:x}\nNUMBER(phys_base)=0\n");
    AddressSpace::new(VmcoreInfo::new(text.as_bytes())).unwrap()
}

/// Memory with tables from the top level down to `leaf`, whose entry is `entry`.
fn tables(leaf: usize, entry: u64) -> Memory {
    let mut memory = Memory::new(1 << 21);
    for level in leaf + 1..=5 {
        let next = 0x1000 * (level as u64 - 1);
        memory.write_u64(0x1000 * level as u64 + INDEX[level - 1] * 8, next | PRESENT);
    }
    memory.write_u64(0x1000 * leaf as u64 + INDEX[leaf - 1] * 8, entry);
    memory
}

#[test]
fn four_levels_lead_to_a_small_page() {
    let memory = tables(1, 0x77_7000 | NO_EXECUTE | 0x63);
    let mapping = Mapping { physical: 0x77_7abc.into(), len: 0x544 };
    assert_eq!(space("").translate(&memory, ADDRESS), Ok(mapping));
}

#[test]
fn five_levels_lead_to_the_same_page() {
    let memory = tables(1, 0x77_7000 | PRESENT);
    let space = space("NUMBER(pgtable_l5_enabled)=1\n");
    assert_eq!(space.levels(), 5);
    assert_eq!(space.translate(&memory, ADDRESS), Ok(Mapping { physical: 0x77_7abc.into(), len: 0x544 }));
}

#[test]
fn large_pages_of_2_mib_and_1_gib_are_followed() {
    let memory = tables(2, 0x1240_0000 | PRESENT | LARGE | 1 << 12);
    assert_eq!(
        space("").translate(&memory, ADDRESS),
        Ok(Mapping { physical: 0x1258_9abc.into(), len: 0x7_6544 })
    );
    let memory = tables(3, 0x1_4000_0000 | PRESENT | LARGE);
    let mapping = Mapping { physical: 0x1_5678_9abc.into(), len: 0x2987_6544 };
    assert_eq!(space("").translate(&memory, ADDRESS), Ok(mapping));
}

#[test]
fn the_top_level_maps_no_pages_itself() {
    let memory = tables(4, 0x3000 | PRESENT | LARGE);
    assert_eq!(space("").translate(&memory, ADDRESS), Err(Unmapped(ADDRESS)));
}

#[test]
fn an_entry_that_is_not_present_leads_nowhere() {
    for level in 1..=4 {
        let memory = tables(level, 0x77_7000);
        assert_eq!(space("").translate(&memory, ADDRESS), Err(Unmapped(ADDRESS)), "level {level}");
    }
}

#[test]
fn the_encryption_bit_is_no_part_of_an_address() {
    let encrypted = 1 << 47;
    let memory = tables(1, 0x77_7000 | encrypted | PRESENT);
    let space = space("NUMBER(sme_mask)=140737488355328\n");
    assert_eq!(space.translate(&memory, ADDRESS), Ok(Mapping { physical: 0x77_7abc.into(), len: 0x544 }));
}

#[test]
fn the_image_needs_no_tables() {
    let text = b"SYMBOL(swapper_pg_dir)=ffffffff89610000\nNUMBER(phys_base)=230686720\nNUMBER(KERNEL_IMAGE_SIZE)=1073741824";
    let space = AddressSpace::new(VmcoreInfo::new(text)).unwrap();
    let memory = Memory::new(0);
    // Debian's 6.1.0-56 cloud kernel: `_stext` at 0xffffffff87c00000, and the image at 0x15800000 by its core header.
    let mapping = space.translate(&memory, 0xffff_ffff_87c0_0000.into()).unwrap();
    assert_eq!(mapping.physical, 0x1580_0000.into());
    assert_eq!(
        space.translate(&memory, 0xffff_ffff_c000_0000.into()),
        Err(Unmapped(0xffff_ffff_c000_0000.into())),
        "modules"
    );
}

#[test]
fn reading_goes_on_in_the_next_page_and_stops_where_memory_does() {
    let mut memory = tables(1, 0x10_0000 | PRESENT);
    memory.write_u64(0x1000 + (INDEX[0] + 1) * 8, 0x8000 | PRESENT);
    memory.write(0x10_0ffe, &[1, 2]);
    memory.write(0x8000, &[3, 4]);
    let (space, mut bytes) = (space(""), [0; 4]);
    let end_of_page = ADDRESS.get() | 0xfff;
    space.read(&memory, (end_of_page - 1).into(), &mut bytes).unwrap();
    assert_eq!(bytes, [1, 2, 3, 4]);
    memory.punch(Range::from(0x8000..0x9000));
    assert_eq!(
        space.read(&memory, (end_of_page - 1).into(), &mut bytes),
        Err(Unmapped((end_of_page + 1).into()))
    );
}

#[test]
fn without_the_tables_place_there_is_no_address_space() {
    let no_base = AddressSpace::new(VmcoreInfo::new(b"SYMBOL(swapper_pg_dir)=ffffffff89610000\n"));
    assert_eq!(no_base, Err(Unknown("NUMBER(phys_base)")));
    let no_root = AddressSpace::new(VmcoreInfo::new(b"NUMBER(phys_base)=1\n"));
    assert_eq!(no_root, Err(Unknown("SYMBOL(swapper_pg_dir)")));
}

proptest! {
    #[test]
    fn tables_of_random_words_end_every_walk(
        words in prop::collection::vec(any::<u64>(), 512),
        address in any::<u64>(),
        root in any::<u64>(),
        phys_base in any::<i64>(),
        five in any::<bool>(),
    ) {
        let mut memory = Memory::new(1 << 16);
        for (at, word) in (0..1 << 16).step_by(8).zip(words.iter().cycle()) {
            memory.write_u64(at, if at % 24 == 0 { *word } else { word & 0xf081 | PRESENT });
        }
        let text = format!(
            "SYMBOL(swapper_pg_dir)={root:x}\nNUMBER(phys_base)={phys_base}\nNUMBER(pgtable_l5_enabled)={}\n",
            u8::from(five)
        );
        let space = AddressSpace::new(VmcoreInfo::new(text.as_bytes())).unwrap();
        if let Ok(mapping) = space.translate(&memory, address.into()) {
            prop_assert!(mapping.len > 0);
            prop_assert!(mapping.physical.checked_add(mapping.len).is_some());
        }
        let mut bytes = [0; 9000];
        let _ = space.read(&memory, address.into(), &mut bytes);
    }
}
