//! Makes dumps of dumps.

use std::fs;

use dumpfile::{Dump, Lack};
use kdump::{BLOCK, Codec};
use machine::OldMemory;
use serde_json::Value;

use crate::bench::{Bench, FIRST_PFN, INFO, PAGES, json, stderr, wrong_pages};

/// Where in a dump of the core the descriptors begin: after two blocks of headers and notes, and a block for each bitmap.
const DESCRIPTORS: usize = 4 * BLOCK;
/// Bytes of a descriptor.
const DESCRIPTOR: usize = 24;

impl Bench {
    /// A bench with a dump of the core beside it.
    pub(crate) fn with_dump(options: &[&str]) -> Self {
        let bench = Self::new();
        let output = bench.run(&[options, &["core", "dump"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        bench
    }

    /// Changes a file.
    pub(crate) fn change(&self, name: &str, change: impl Fn(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(name)).unwrap();
        change(&mut bytes);
        fs::write(self.path(name), bytes).unwrap();
    }

    /// A file as it looks after it went through a pipe in pieces of so many bytes, first the even ones, then the odd ones; block
    /// 0 is sent as zeros first.
    fn flatten(&self, name: &str, piece: usize) {
        let bytes = fs::read(self.path(name)).unwrap();
        let mut flat = b"makedumpfile\0\0\0\0".to_vec();
        flat.extend([1u64, 1].map(u64::to_be_bytes).as_flattened());
        flat.resize(4096, 0);
        let pieces = || bytes.chunks(piece).enumerate();
        let (even, odd) = (pieces().step_by(2), pieces().skip(1).step_by(2));
        let all = even.chain(odd).map(|(index, content)| (index * piece, content));
        for (at, content) in [(0, [0; BLOCK].as_slice())].into_iter().chain(all) {
            flat.extend([at, content.len()].map(|number| (number as u64).to_be_bytes()).as_flattened());
            flat.extend(content);
        }
        flat.extend([0xFF; 16]);
        fs::write(self.path(name), flat).unwrap();
    }
}

#[test]
fn a_dump_of_a_dump_holds_the_pages_of_the_core_whatever_the_codecs() {
    for codec in Codec::ALL.iter().map(|codec| codec.name()) {
        let bench = Bench::with_dump(&["--codec", codec]);
        for threads in ["1", "3"] {
            let output = bench.run(&["--force", "--threads", threads, "--codec", "lzo", "dump", "again"]);
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            let again = Dump::open(&bench.path("again")).unwrap();
            assert!(again.is_complete() && again.pages() == PAGES, "{codec}");
            assert!(wrong_pages(&again).is_empty(), "{codec}");
        }
    }
}

#[test]
fn what_was_left_out_stays_out_and_is_not_missing() {
    let bench = Bench::with_dump(&["-d", "0"]);
    // The second bitmap: of sixteen page frames eight are not kept.
    let first = 3 * BLOCK + FIRST_PFN as usize / 8;
    bench.change("dump", |bytes| bytes[first + 1] = 0);
    // Their descriptors go with them.
    bench.change("dump", |bytes| {
        let (at, end) = (DESCRIPTORS + 8 * DESCRIPTOR, DESCRIPTORS + PAGES as usize * DESCRIPTOR);
        bytes.copy_within(at + 8 * DESCRIPTOR..end, at);
    });
    for form in [&["--codec", "zlib"][..], &["--elf"]] {
        let output = bench.run(&[form, &["--force", "dump", "again"]].concat());
        let said = json(&output);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!((&said["pages"], &said["missing"]), (&(PAGES - 8).into(), &0.into()));
        let dump = Dump::open(&bench.path("again")).unwrap();
        assert_eq!(dump.pages(), PAGES - 8);
        assert_eq!(wrong_pages(&dump), (FIRST_PFN + 8..FIRST_PFN + 16).collect::<Vec<_>>());
    }
}

#[test]
fn a_level_is_added_to_that_of_the_dump() {
    let bench = Bench::with_dump(&["-d", "17"]);
    assert_eq!(bench.run(&["-d", "2", "dump", "again"]).status.code(), Some(0));
    assert_eq!(Dump::open(&bench.path("again")).unwrap().level().number(), 19);
}

#[test]
fn an_elf_core_of_a_dump_holds_the_same_pages() {
    let bench = Bench::with_dump(&[]);
    assert_eq!(json(&bench.run(&["--elf", "dump", "elf"]))["complete"], Value::from(true));
    let core = Dump::open(&bench.path("elf")).unwrap();
    assert!(core.is_complete());
    assert_eq!((core.release(), core.vmcoreinfo().text()), ("6.1.0-test", INFO));
    assert_eq!((core.pages(), vmcore::notes_in(core.notes().bytes()).count()), (PAGES, 2));
    assert!(wrong_pages(&core).is_empty());
}

#[test]
fn a_dump_that_was_cut_short_or_is_damaged_makes_one_that_says_so() {
    let bench = Bench::with_dump(&["--codec", "none", "--threads", "1"]);
    // Somewhere in the data, which pages of zeros share, and in a descriptor.
    bench.change("dump", |bytes| bytes.truncate(bytes.len() - 100 * BLOCK - 1));
    bench.change("dump", |bytes| bytes[DESCRIPTORS + DESCRIPTOR..][..8].fill(0));
    let wrong = wrong_pages(&Dump::open(&bench.path("dump")).unwrap());
    assert!(wrong.len() > 100 && wrong[0] == FIRST_PFN + 1, "{wrong:?}");
    let output = bench.run(&["dump", "out"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!((&json(&output)["missing"], &json(&output)["complete"]), (&wrong.len().into(), &false.into()));
    let dump = Dump::open(&bench.path("out")).unwrap();
    assert!(!dump.is_complete());
    assert_eq!(wrong_pages(&dump), wrong);
}

/// Whoever looks only at the headers learns it too, whichever page's data is the last in the file.
#[test]
fn a_dump_that_lacks_bytes_at_its_end_says_so_before_any_page_is_read() {
    for threads in ["1", "4"] {
        let bench = Bench::with_dump(&["--codec", "none", "--threads", threads]);
        bench.change("dump", |bytes| bytes.truncate(bytes.len() - 1));
        let dump = Dump::open(&bench.path("dump")).unwrap();
        assert_eq!(dump.lacks().collect::<Vec<_>>(), [Lack::Bytes(1)], "{threads} threads");
        bench.change("dump", |bytes| bytes.truncate(DESCRIPTORS + 100 * DESCRIPTOR));
        assert!(!Dump::open(&bench.path("dump")).unwrap().is_complete());
        // A descriptor that makes no sense is damage, and no cut.
        let bench = Bench::with_dump(&["--codec", "none", "--threads", threads]);
        bench.change("dump", |bytes| bytes[DESCRIPTORS + DESCRIPTOR..][..12].fill(0xFF));
        assert!(Dump::open(&bench.path("dump")).unwrap().is_complete());
    }
}

/// As makedumpfile with a filter leaves it: at the end of a compressed dump, among the notes of a core.
#[test]
fn the_list_of_erased_data_is_kept_in_every_form() {
    const ERASED: &[u8] = b"erase dentry.d_iname 40\n";
    /// Offset of `offset_eraseinfo`.
    const PLACE: usize = BLOCK + 64;
    let bench = Bench::with_dump(&[]);
    bench.change("dump", |bytes| {
        let place = [bytes.len(), ERASED.len()].map(|number| (number as u64).to_le_bytes());
        bytes[PLACE..PLACE + 16].copy_from_slice(place.as_flattened());
        bytes.extend(ERASED);
    });
    for (form, input, out) in
        [("--codec=zlib", "dump", "kdump"), ("--elf", "dump", "elf"), ("--codec=lzo", "elf", "back")]
    {
        assert_eq!(bench.run(&[form, input, out]).status.code(), Some(0), "{out}");
        let dump = Dump::open(&bench.path(out)).unwrap();
        let lists = vmcore::notes_in(dump.notes().bytes()).filter(|note| note.name == b"ERASEINFO\0");
        assert_eq!(lists.map(|note| note.content.to_vec()).collect::<Vec<_>>(), [ERASED], "{out}");
    }
    for out in ["kdump", "back"] {
        let bytes = fs::read(bench.path(out)).unwrap();
        let field = |at| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        assert_eq!(&bytes[field(PLACE)..][..field(PLACE + 8)], ERASED, "{out}: the header points at it");
    }
    // A place behind the end of the file.
    bench.change("dump", |bytes| bytes[PLACE + 6] = 1);
    let output = bench.run(&["dump", "out"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(json(&output)["state"].as_str().unwrap().contains("header make no sense"));
}

#[test]
fn an_incomplete_dump_makes_an_incomplete_one_even_if_no_page_is_missing() {
    let bench = Bench::with_dump(&[]);
    // DUMP_DH_COMPRESSED_INCOMPLETE
    bench.change("dump", |bytes| bytes[424] |= 8);
    let output = bench.run(&["dump", "out"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(json(&output)["state"].as_str().unwrap().contains("the dump that it is made of is partial"));
    assert!(!Dump::open(&bench.path("out")).unwrap().is_complete());
}

#[test]
fn flattened_files_are_read_as_what_they_were() {
    for (options, piece) in
        [(&["--codec", "none"][..], 4096), (&["--codec", "zlib"], 1 << 20), (&["--elf"], 777)]
    {
        let bench = Bench::with_dump(options);
        let flat = Dump::open(&bench.path("dump")).unwrap().format();
        bench.flatten("dump", piece);
        let dump = Dump::open(&bench.path("dump")).unwrap();
        assert!(dump.is_complete() && dump.format() == flat);
        assert!(wrong_pages(&dump).is_empty(), "{options:?}");
        assert_eq!(bench.run(&["--threads", "1", "dump", "again"]).status.code(), Some(0));
        assert_eq!(bench.run(&["--threads", "1", "core", "alone"]).status.code(), Some(0));
        assert!(fs::read(bench.path("again")).unwrap() == fs::read(bench.path("alone")).unwrap());
    }
}

#[test]
fn of_a_flattened_file_that_was_cut_short_no_page_is_made_up() {
    let bench = Bench::with_dump(&["--codec", "none", "--threads", "1"]);
    let end = 16 + BLOCK;
    bench.flatten("dump", BLOCK);
    // The last record, a piece, and half of the one before it.
    bench.change("dump", |bytes| bytes.truncate(bytes.len() - 16 - end - end / 2));
    let output = bench.run(&["dump", "out"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let said = json(&output);
    assert!(said["state"].as_str().unwrap().contains("the flattened dump was cut short"), "{said}");
    let dump = Dump::open(&bench.path("out")).unwrap();
    let wrong = wrong_pages(&dump);
    assert_eq!((said["missing"].as_u64().unwrap(), wrong.len()), (wrong.len() as u64, 2));
    assert!(wrong.iter().all(|pfn| dump.read_page(*pfn, &mut [0; BLOCK]).is_err()));
}

/// As makedumpfile and QEMU write it: no record has the padding of headers and tables.
#[test]
fn a_flattened_file_that_was_cut_short_has_all_pages_before_the_cut() {
    let bench = Bench::with_dump(&["--codec", "none", "--threads", "1"]);
    let bytes = fs::read(bench.path("dump")).unwrap();
    let pieces = [0..464, BLOCK..BLOCK + 104 + 500, 2 * BLOCK..4 * BLOCK];
    let descriptors = DESCRIPTORS..DESCRIPTORS + PAGES as usize * DESCRIPTOR;
    let data = descriptors.end.next_multiple_of(BLOCK)..bytes.len();
    let mut flat = b"makedumpfile\0\0\0\0".to_vec();
    flat.extend([1u64, 1].map(u64::to_be_bytes).as_flattened());
    flat.resize(4096, 0);
    for place in pieces.into_iter().chain([descriptors, data]) {
        flat.extend([place.start, place.len()].map(|number| (number as u64).to_be_bytes()).as_flattened());
        flat.extend(&bytes[place]);
    }
    flat.extend([0xFF; 16]);
    // A byte of the end's mark; the mark; damage in its place; pages.
    let lost = |len: usize| {
        fs::write(bench.path("flat"), &flat[..flat.len() - len]).unwrap();
        let output = bench.run(&["--force", "flat", "out"]);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert!(json(&output)["state"].as_str().unwrap().contains("was cut short"));
        let dump = Dump::open(&bench.path("out")).unwrap();
        assert!(!dump.is_complete());
        wrong_pages(&dump).len()
    };
    assert_eq!([lost(1), lost(16)], [0, 0]);
    assert_eq!(lost(16 + 10 * BLOCK), 10);
    flat.truncate(flat.len() - 16);
    flat.extend([0; 64]);
    fs::write(bench.path("flat"), &flat).unwrap();
    assert_eq!(bench.run(&["--force", "flat", "out"]).status.code(), Some(3));
    // Half of the bitmaps: nobody knows which page is which.
    flat.truncate(4096 + 16 + 464 + 16 + 604 + 16 + BLOCK);
    fs::write(bench.path("flat"), &flat).unwrap();
    assert!(stderr(&bench.run(&["--force", "flat", "out"])).contains("the flattened file was cut short"));
}

#[test]
fn a_flattened_file_that_makes_no_sense_is_refused() {
    let bench = Bench::with_dump(&[]);
    bench.flatten("dump", BLOCK);
    bench.change("dump", |bytes| bytes[4096 + 8..][..8].fill(0));
    assert!(bench.fail(&["dump", "out"]).contains("record at byte 4096 is damaged"));
    bench.change("dump", |bytes| bytes.truncate(4096 + 16 + BLOCK));
    bench.change("dump", |bytes| bytes[4096 + 14] = 16);
    assert!(bench.fail(&["dump", "out"]).contains("the flattened file was cut short"));
}

#[test]
fn a_part_of_a_split_dump_is_refused_with_the_way_out() {
    let bench = Bench::with_dump(&[]);
    bench.change("dump", |bytes| bytes[BLOCK + 12] = 1);
    assert!(bench.fail(&["dump", "out"]).contains("makedumpfile --reassemble"));
}
