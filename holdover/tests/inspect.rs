//! Inspects dumps with tables made by hand.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output};

use dumpfile::BlockFile;
use kdump::{Codec, Header, NoteSegment, Page, Utsname, begin, layout::Name};
use record::{
    Architecture, Context, Counts, Domain, Entry, Hazard, HazardPlace, Outcome, Queue, Record, Register,
    Takeover, Text, UnitFate, UnitRecord,
};
use serde_json::Value;
use tempfile::TempDir;
use vtd::registers::{CAP, ECAP, GSTS, RTADDR, VER};

/// Addresses of tables.
const ROOT: u64 = 0x1000;
const CONTEXTS: u64 = 0x2000;
const TOP: u64 = 0x3000;
const LEAVES: u64 = 0x4000;

/// A page that devices of these tests could reach.
const PAGE: u64 = 0x9000;

/// Memory as pages of 64-bit words.
#[derive(Clone, Default)]
struct Memory(BTreeMap<u64, u64>);

impl Memory {
    /// Legacy tables: 00:14.0 in domain 1 reaches `PAGE` and the page after at 0x4000_0000, the page before for reading
    /// only at 0x4000_2000, and 2 MiB at 0x4020_0000; 00:15.0 is passed through.
    fn legacy() -> Self {
        Self(BTreeMap::from([
            (ROOT, CONTEXTS | 1),
            (CONTEXTS + 0xA0 * 16, TOP | 1),
            (CONTEXTS + 0xA0 * 16 + 8, 0x0101),
            (CONTEXTS + 0xA8 * 16, 0x9),
            (CONTEXTS + 0xA8 * 16 + 8, 0x0201),
            (TOP + 8, LEAVES | 3),
            (LEAVES, 0x5003),
            (LEAVES + 8, 0x20_0083),
            (0x5000, PAGE | 3),
            (0x5008, (PAGE + 0x1000) | 3),
            (0x5010, (PAGE - 0x1000) | 1),
        ]))
    }

    fn page(&self, pfn: u64) -> Page {
        let mut page = [0; kdump::BLOCK];
        for (address, word) in self.0.range(pfn << 12..(pfn + 1) << 12) {
            let at = (address % 4096) as usize;
            page[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        page
    }
}

fn register(register: vtd::registers::Register, value: u64) -> Register {
    Register { offset: register.offset as u16, value }
}

/// A unit as QEMU's, with pages of 2 MiB, whose tables are at `rtaddr`.
fn unit(rtaddr: u64) -> UnitRecord {
    let context = Context {
        source: 0xA0,
        pasid: None,
        entry: Entry::Context([TOP | 1, 0x0101]),
        domain: Some(1),
        outcome: Outcome::Duplicated,
    };
    let domain =
        Domain { id: 1, address_bits: 39, tables: 3, leaves: 4, fenced: 0, outcome: Outcome::Duplicated };
    let hazard = Hazard {
        place: HazardPlace::Bus(3),
        what: Text::new("reserved bits are set"),
        outcome: Outcome::Blocked,
    };
    let registers = [
        register(VER, 0x10),
        register(CAP, 0x00D2_008C_2226_0206),
        // Scalable mode, second stage in it, RID_PASID honoured.
        register(ECAP, 0x00F0_0F5A | 1 << 43 | 1 << 46 | 1 << 49),
        register(GSTS, 0xC700_0000),
        register(RTADDR, rtaddr),
    ];
    let takeover = Takeover {
        old_root: rtaddr,
        new_root: 0x3E00_2000,
        queue: Queue::Drained,
        faults: [(0xFFFF_E000, 1 << 63 | 1 << 62 | 0x6 << 32 | 0x00FA)].into_iter().collect(),
        counts: Counts {
            contexts_accepted: 1,
            tables_duplicated: 5,
            leaf_mappings: 4,
            domains_reserved: 1,
            hazards: 1,
        },
        contexts: [context].into_iter().collect(),
        domains: [domain].into_iter().collect(),
        hazards: [hazard].into_iter().collect(),
    };
    UnitRecord {
        architecture: Architecture::Vtd,
        base: 0xFED9_0000,
        segment: 0,
        registers: registers.into_iter().collect(),
        state: UnitFate::TakenOver(takeover),
    }
}

fn record(units: impl IntoIterator<Item = UnitRecord>) -> Record {
    Record { writer: Text::new("0.1.0"), host_address_bits: 39, units: units.into_iter().collect() }
}

fn note(record: Record) -> Vec<u8> {
    let content = record.encode().unwrap();
    let mut note = Vec::new();
    let lengths = [record::NOTE_NAME.len() as u32, content.len() as u32, record::NOTE_TYPE];
    note.extend(lengths.map(u32::to_le_bytes).as_flattened());
    for part in [record::NOTE_NAME, &content] {
        note.extend(part);
        note.resize(note.len().next_multiple_of(4), 0);
    }
    note
}

/// A folder with a dump.
struct Bench {
    folder: TempDir,
}

impl Bench {
    /// A dump of the pages of `memory` that hold something, except `missing`.
    fn new(memory: &Memory, notes: &[u8], missing: Option<u64>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vmcore");
        fs::File::create(&path).unwrap().set_len(1 << 20).unwrap();
        let mut file = BlockFile::open_exclusive(&path).unwrap();
        let utsname = Utsname { release: Name::new("6.1.0-\x1b[2J"), ..Utsname::default() };
        let header = Header { utsname, crashed_at: 0, cpus: 1, frames: 16, phys_base: 0, dump_level: 31 };
        let segment = NoteSegment { bytes: notes, ..NoteSegment::default() };
        let mut bitmaps = begin(&mut file, &header, &segment, Codec::Zlib).unwrap();
        let mut kept = [0; 2];
        for pfn in memory.0.keys().map(|address| address >> 12).filter(|pfn| missing != Some(pfn << 12)) {
            kept[pfn as usize / 8] |= 1 << (pfn % 8);
        }
        bitmaps.push(&[0xFF; 2], &kept).unwrap();
        let mut pages = bitmaps.finish().unwrap();
        let read = |pfn, page: &mut Page| {
            *page = memory.page(pfn);
            Ok(())
        };
        while pages.write_next(|_| true, read).unwrap().is_some() {}
        assert_eq!(pages.finish().error, None);
        Self { folder }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdover"));
        command.current_dir(&self.folder).arg("inspect").args(arguments).output().unwrap()
    }

    fn json(&self, arguments: &[&str], code: i32) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(code), "{}{}", stdout(&output), stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn legacy() -> Bench {
    Bench::new(&Memory::legacy(), &note(record([unit(ROOT)])), None)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The runs of a route as `iova+bytes->physical rights`.
fn runs(route: &Value) -> Vec<String> {
    let runs = route["runs"].as_array().unwrap().iter().map(|run| {
        let text = |key: &str| run[key].as_str().unwrap_or("?").to_owned();
        format!("{}+{}->{} {}", text("iova"), run["bytes"], text("physical"), text("rights"))
    });
    runs.collect()
}

#[test]
fn the_record_is_shown_as_it_was_written() {
    let inspected = legacy().json(&["vmcore"], 0);
    assert_eq!(inspected["counts"]["tables_duplicated"], 5);
    let unit = &inspected["units"][0];
    assert_eq!((&unit["base"], &unit["state"]), (&"0xfed90000".into(), &"taken over".into()));
    assert_eq!(unit["registers"][3]["meaning"], "TES RTPS QIES IRES IRTPS");
    let takeover = &unit["takeover"];
    assert_eq!(
        (&takeover["contexts"][0]["device"], &takeover["contexts"][0]["domain"]),
        (&"00:14.0".into(), &1.into())
    );
    assert_eq!(takeover["hazards"][0]["place"], "bus 03");
    assert_eq!(
        (&takeover["faults"][0]["device"], &takeover["faults"][0]["reason"]),
        (&"00:1f.2".into(), &"0x6".into())
    );
    assert_eq!((&takeover["domains"][0]["leaves"], &takeover["new_root"]), (&4.into(), &"0x3e002000".into()));
}

#[test]
fn a_devices_neighbouring_pages_are_one_run_if_they_lead_alike() {
    let inspected = legacy().json(&["vmcore", "--device", "00:14.0"], 0);
    let routes = inspected["units"][0]["reach"]["routes"].as_array().unwrap();
    assert_eq!(routes.len(), 1);
    let expected =
        ["0x40000000+8192->0x9000 rw", "0x40002000+4096->0x8000 r", "0x40200000+2097152->0x200000 rw"];
    assert_eq!(runs(&routes[0]), expected);
    assert_eq!(
        (&routes[0]["readable_bytes"], &routes[0]["writable_bytes"]),
        (&0x20_3000.into(), &0x20_2000.into())
    );
}

#[test]
fn who_maps_a_page_is_found_also_in_pass_through_and_within_large_pages() {
    let bench = legacy();
    let users = |address: &str| {
        let inspected = bench.json(&["vmcore", "--address", address], 0);
        let routes = inspected["units"][0]["reach"]["routes"].as_array().unwrap().clone();
        let users = routes
            .iter()
            .map(|route| (route["users"][0]["device"].as_str().unwrap().to_owned(), runs(route)));
        users.collect::<BTreeMap<String, Vec<String>>>()
    };
    let passed = |address: &str| (String::from("00:15.0"), vec![format!("{address}+4096->{address} rw")]);
    let mapped = |run: &str| (String::from("00:14.0"), vec![run.to_owned()]);
    assert_eq!(users("0x9abc"), BTreeMap::from([mapped("0x40000000+4096->0x9000 rw"), passed("0x9000")]));
    assert_eq!(
        users("0x345678"),
        BTreeMap::from([mapped("0x40345000+4096->0x345000 rw"), passed("0x345000")])
    );
    assert_eq!(users("0xb000"), BTreeMap::from([passed("0xb000")]));
}

#[test]
fn people_are_shown_the_same_without_a_terminals_commands() {
    let bench = legacy();
    let text = stdout(&bench.run(&["vmcore"]));
    for expected in
        ["6.1.0-\\u{1b}[2J", "legacy mode, root table at 0x1000", "bus 03", "pass-through", "2.01 MiB"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains('\x1b'));
    let text = stdout(&bench.run(&["vmcore", "--device", "00:14.0"]));
    assert!(text.contains("0x40000000-0x40001fff  0x9000-0xafff"), "{text}");
    let text = stdout(&bench.run(&["vmcore", "--device", "00:16.0"]));
    assert!(text.contains("all its requests were blocked"), "{text}");
    let text = stdout(&bench.run(&["vmcore", "--address", "9000"]));
    assert!(text.contains("00:14.0  0x1     second stage 0x3000, 39 bits  0x40000000-0x40000fff"), "{text}");
}

#[test]
fn a_table_that_is_not_in_the_dump_is_told_and_not_guessed() {
    let bench = Bench::new(&Memory::legacy(), &note(record([unit(ROOT)])), Some(0x5000));
    let inspected = bench.json(&["vmcore", "--device", "00:14.0"], 3);
    let route = &inspected["units"][0]["reach"]["routes"][0];
    let obstacle = route["runs"][0]["obstacle"].as_str().unwrap();
    assert_eq!(obstacle, "unknown: the table at 0x5000 cannot be read: page frame 0x5 is not in the dump");
    assert_eq!(route["runs"][0]["bytes"], 0x20_0000);
    assert_eq!(bench.json(&["vmcore", "--address", "0x9000"], 3)["whole"], false);
    let bench = Bench::new(&Memory::legacy(), &note(record([unit(ROOT)])), Some(CONTEXTS));
    let inspected = bench.json(&["vmcore"], 3);
    assert_eq!(inspected["units"][0]["reach"]["obstacles"][0]["place"], "00:00.0 to 00:1f.7");
}

/// 9.2 to 9.6: root table, context table of the upper half, PASID directory, PASID table.
#[test]
fn a_pasid_is_found_beside_the_requests_without_one() {
    let mut memory = Memory::legacy();
    memory.0.extend([
        // Bus 0, devices from 16 on.
        (0x6008, 0x7001),
        // 00:14.0: PASIDE, directory at 0x8000, RID_PASID 1.
        (0x7000 + 0x20 * 32, 0x8009),
        (0x7000 + 0x20 * 32 + 8, 1),
        (0x8000, 0xB001),
        // PASID 1: second stage, 39 bits; PASID 5: pass-through.
        (0xB000 + 64, TOP | 2 << 6 | 1 << 2 | 1),
        (0xB000 + 72, 7),
        (0xB000 + 5 * 64, 4 << 6 | 1),
        (0xB000 + 5 * 64 + 8, 8),
    ]);
    let bench = Bench::new(&memory, &note(record([unit(0x6400)])), None);
    let inspected = bench.json(&["vmcore", "--address", "0x9000"], 0);
    let routes = inspected["units"][0]["reach"]["routes"].as_array().unwrap();
    let users: Vec<String> = routes
        .iter()
        .map(|route| format!("{} {}", route["users"][0]["pasid"], route["users"][0]["domain"]))
        .collect();
    assert_eq!(users, ["5 8", "null 7"]);
    let only = bench.json(&["vmcore", "--device", "00:14.0/0x5"], 0);
    assert_eq!(only["units"][0]["reach"]["routes"].as_array().unwrap().len(), 1);
    assert_eq!(only["units"][0]["reach"]["routes"][0]["translation"], "pass-through");
}

#[test]
fn a_unit_whose_translation_was_off_has_no_tables_to_ask() {
    let mut off = unit(ROOT);
    off.state = UnitFate::Off;
    off.registers = [register(GSTS, 0)].into_iter().collect();
    let bench = Bench::new(&Memory::legacy(), &note(record([off])), None);
    assert_eq!(bench.json(&["vmcore"], 0)["units"][0]["reach"], Value::Null);
    assert!(stdout(&bench.run(&["vmcore", "--address", "0x9000"])).contains("could reach all memory"));
}

#[test]
fn tables_that_lead_back_to_themselves_end() {
    let mut memory = Memory::legacy();
    // The first eight entries of the top table lead to itself.
    memory.0.extend((0..8).map(|index| (TOP + index * 8, TOP | 3)));
    let bench = Bench::new(&memory, &note(record([unit(ROOT)])), None);
    let inspected = bench.json(&["vmcore", "--device", "00:14.0"], 0);
    // Three levels of one table: all leaves are the table itself, each a run of its own.
    let route = &inspected["units"][0]["reach"]["routes"][0];
    assert_eq!(runs(route).len(), 8 * 8 * 8);
    assert_eq!(route["readable_bytes"], 8 * 8 * 8 * 4096);
}

#[test]
fn dumps_of_others_and_damaged_records_are_refused_with_a_reason() {
    let bench = Bench::new(&Memory::legacy(), &[], None);
    let output = bench.run(&["vmcore"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("only dumps that Holdover's capture kernel wrote"),
        "{}",
        stderr(&output)
    );
    let mut damaged = note(record([unit(ROOT)]));
    damaged[24] = 9;
    let output = Bench::new(&Memory::legacy(), &damaged, None).run(&["vmcore"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the record is of version 9"), "{}", stderr(&output));
    fs::write(bench.folder.path().join("text"), "nothing").unwrap();
    let output = bench.run(&["text"]);
    assert!(stderr(&output).contains("neither an ELF core"), "{}", stderr(&output));
}

#[test]
fn what_is_asked_for_is_checked() {
    let bench = legacy();
    for wrong in [
        &["vmcore", "--device", "14.0"][..],
        &["vmcore", "--address", "12z"],
        &[],
        &["vmcore", "--dmar", "x"],
        &["--dmar", "x", "--ivrs", "x"],
    ] {
        assert_eq!(bench.run(wrong).status.code(), Some(2), "{wrong:?}");
    }
    let output = bench.run(&["vmcore", "--unit", "0xfed91000"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no remapping unit at 0xfed91000"), "{}", stderr(&output));
}

/// What QEMU's `build_dmar_q35` writes, an RMRR of 02:1f.3, and a structure of a type that no specification has yet.
fn dmar() -> Vec<u8> {
    let mut table = b"DMAR".to_vec();
    table.resize(48, 0);
    (table[36], table[37]) = (38, 1);
    table.extend([0, 0, 24, 0, 1, 0, 0, 0, 0, 0, 0xD9, 0xFE, 0, 0, 0, 0, 3, 8, 0, 0, 2, 0xFF, 0, 0]);
    table.extend([
        1, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0xFF, 0x0F, 0x11, 0, 0, 0, 0, 0, 1, 8, 0, 0, 0, 2,
    ]);
    table.extend([0x1F, 3]);
    table.extend([9, 0, 6, 0, 0xAB, 0xCD]);
    table[4] = table.len() as u8;
    table[9] = table.iter().fold(0, |sum, byte| sum.wrapping_sub(*byte));
    table
}

#[test]
fn a_dmar_table_is_decoded() {
    let bench = legacy();
    fs::write(bench.folder.path().join("DMAR"), dmar()).unwrap();
    let decoded = bench.json(&["--dmar", "DMAR"], 0);
    assert_eq!((&decoded["host_address_bits"], &decoded["interrupt_remapping"]), (&39.into(), &true.into()));
    let [unit, region, unknown] = decoded["structures"].as_array().unwrap().as_slice() else {
        panic!("{decoded}")
    };
    assert_eq!((&unit["structure"], &unit["base"]), (&"DRHD".into(), &"0xfed90000".into()));
    assert_eq!((&unit["include_pci_all"], &unit["scopes"][0]["kind"]), (&true.into(), &"I/O APIC".into()));
    assert_eq!((&region["limit"], &region["scopes"][0]["path"]), (&"0x110fff".into(), &"02:1f.3".into()));
    assert_eq!((&unknown["kind"], &unknown["bytes"]), (&9.into(), &"09 00 06 00 ab cd".into()));
    let text = stdout(&bench.run(&["--dmar", "DMAR"]));
    assert!(text.contains("RMRR     0x100000-0x110fff"), "{text}");
}

#[test]
fn damage_to_a_dmar_table_is_told_and_the_rest_decoded() {
    let bench = legacy();
    let damage = |table: &[u8]| {
        fs::write(bench.folder.path().join("DMAR"), table).unwrap();
        let decoded = bench.json(&["--dmar", "DMAR"], 3);
        assert_eq!(decoded["structures"][0]["structure"], "DRHD");
        decoded["damage"]
            .as_array()
            .unwrap()
            .iter()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let mut table = dmar();
    table[9] ^= 1;
    assert_eq!(damage(&table), ["the checksum is wrong"]);
    let table = dmar();
    let cut = damage(&table[..table.len() - 1]);
    assert_eq!(cut[0], "the table is cut short: its header says 110 bytes, and there are 109");
    assert_eq!(cut[1], "the DMAR structure at offset 0x68 has an impossible length");
    let mut table = dmar();
    table[65] = 9;
    assert_eq!(
        damage(&table),
        ["the checksum is wrong", "structure 1: a device scope of an impossible length"]
    );
    fs::write(bench.folder.path().join("DMAR"), "FACP").unwrap();
    assert_eq!(bench.run(&["--dmar", "DMAR"]).status.code(), Some(1));
}

/// A unit in two blocks, with devices of every kind, and memory of 00:14.0: 48 bits of physical addresses, 64 of I/O addresses.
fn ivrs() -> Vec<u8> {
    let mut table = [b"IVRS".to_vec(), vec![0; 44]].concat();
    table[8] = 2;
    table[36..40].copy_from_slice(&(1_u32 | 48 << 8 | 64 << 15).to_le_bytes());
    let unit = |kind: u8, images: &[u8], entries: &[u8]| {
        let length = 24 + images.len() + entries.len();
        let head = [kind, 0xB0, length as u8, 0, 2, 0, 0x40, 0, 0, 0, 0xD8, 0xFE, 0, 0, 0, 0];
        [&head[..], &[0; 8], images, entries].concat()
    };
    let range = [3, 8, 0, 0, 4, 0xFF, 0xFF, 0];
    let special = [72, 0, 0, 0xD7, 33, 0xA0, 0, 1];
    let alias = [66, 0x80, 1, 0, 0, 0, 1, 0];
    let acpi = [&[240, 0xA5, 0, 0][..], b"AMDI0020", &[0; 8], &[2, 4], b"\\_SB"].concat();
    let image = [&0x58F7_7EF2_2294_A5DA_u64.to_le_bytes()[..], &[0; 8]].concat();
    table.extend(unit(0x10, &[], &range));
    table.extend(unit(0x40, &image, &[&range[..], &alias, &special, &acpi].concat()));
    table.extend([0x21, 5, 32, 0, 0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    table.extend([0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0]);
    table[4] = table.len() as u8;
    table[9] = table.iter().fold(0, |sum, byte| sum.wrapping_sub(*byte));
    table
}

#[test]
fn an_ivrs_table_is_decoded() {
    let bench = legacy();
    fs::write(bench.folder.path().join("IVRS"), ivrs()).unwrap();
    let decoded = bench.json(&["--ivrs", "IVRS"], 0);
    assert_eq!(
        (&decoded["physical_address_bits"], &decoded["virtual_address_bits"]),
        (&48.into(), &64.into())
    );
    let [old, new, memory] = decoded["blocks"].as_array().unwrap().as_slice() else { panic!("{decoded}") };
    assert_eq!(
        (&old["block"], &old["used"], &old["features"]),
        (&"IVHD".into(), &false.into(), &Value::Null)
    );
    assert_eq!((&new["used"], &new["features"]), (&true.into(), &"0x58f77ef22294a5da".into()));
    assert_eq!((&new["base"], &new["device"]), (&"0xfed80000".into(), &"00:00.2".into()));
    let [from, to, alias, special, acpi] = new["entries"].as_array().unwrap().as_slice() else {
        panic!("{decoded}")
    };
    assert_eq!((&from["kind"], &to["device"]), (&"from".into(), &"ff:1f.7".into()));
    assert_eq!((&alias["device"], &alias["alias"]), (&"01:10.0".into(), &"01:00.0".into()));
    assert_eq!((&special["kind"], &special["about"]), (&"I/O APIC".into(), &"number 33".into()));
    assert_eq!((&acpi["device"], &acpi["about"]), (&"00:14.5".into(), &"AMDI0020:\\_SB".into()));
    assert_eq!((&memory["devices"], &memory["unity"]), (&"00:14.0".into(), &true.into()));
    let text = stdout(&bench.run(&["--ivrs", "IVRS"]));
    assert!(text.contains("IVHD 10h  0xfed80000") && text.contains("an older description"), "{text}");
    assert!(text.contains("device 01:10.0  ") && text.contains("requests arrive as 01:00.0"), "{text}");
}

#[test]
fn damage_to_an_ivrs_table_is_told_and_the_rest_decoded() {
    let bench = legacy();
    let decoded = |table: &[u8]| {
        fs::write(bench.folder.path().join("IVRS"), table).unwrap();
        bench.json(&["--ivrs", "IVRS"], 3)
    };
    let mut table = ivrs();
    table[9] ^= 1;
    assert_eq!(decoded(&table)["damage"], serde_json::json!(["the checksum is wrong"]));
    let table = ivrs();
    let cut = decoded(&table[..table.len() - 1]);
    assert_eq!(cut["blocks"].as_array().unwrap().len(), 2);
    assert_eq!(cut["damage"][1], "the IVRS block at offset 0xaa has an impossible length");
    fs::write(bench.folder.path().join("IVRS"), "FACP").unwrap();
    assert_eq!(bench.run(&["--ivrs", "IVRS"]).status.code(), Some(1));
}
