//! Reads a dead kernel that is made by hand, whole and damaged.

use std::time::{Duration, Instant};

use fixtures::Memory;
use fixtures::legible::{self, Addresses, IMAGE};
use machine::OldMemory;
use postmortem::{Address, BacktraceSource, Postmortem};
use proptest::prelude::*;
use vmcore::{Note, Notes};

fn notes(vmcoreinfo: &[u8]) -> Notes {
    let mut notes = Notes::default();
    notes.push(&Note { name: b"VMCOREINFO\0", kind: 0, content: vmcoreinfo }).expect("there is memory");
    notes
}

fn read(addresses: Addresses) -> Postmortem {
    let info = legible::vmcoreinfo(addresses);
    Postmortem::read(&legible::kernel(addresses), &notes(info.as_bytes()))
}

fn functions(postmortem: &Postmortem, cpu: usize) -> Vec<(Option<&str>, Option<&str>)> {
    let frames = &postmortem.cpus[cpu].backtrace.frames;
    frames.iter().map(|frame| (frame.function.as_deref(), frame.module.as_deref())).collect()
}

#[test]
fn a_stack_leads_through_a_function_without_tables_and_through_a_module() {
    for addresses in [Addresses::BelowBase, Addresses::AboveBase, Addresses::FromPlace] {
        let postmortem = read(addresses);
        assert!(postmortem.sources.kallsyms.found, "{addresses:?}: {:?}", postmortem.sources);
        let kernel = |name| (Some(name), None);
        let in_module = (Some("trip+0x20"), Some("broken_driver"));
        let found = functions(&postmortem, 0);
        // Without the symbols of each processor's data, which are elsewhere there, the stacks are the same.
        let expected = [kernel("__crash_kexec+0x50"), kernel("panic+0x50"), in_module, kernel("caller+0x50")];
        if addresses == Addresses::BelowBase {
            assert_eq!(found, expected);
            assert_eq!(functions(&postmortem, 1), [kernel("idle+0x50"), kernel("caller+0x60")]);
        }
    }
}

#[test]
fn tables_are_read_by_either_numbering_of_registers() {
    let mut memory = legible::kernel(Addresses::BelowBase);
    legible::renumber_orc(&mut memory);
    let info = legible::vmcoreinfo(Addresses::BelowBase);
    let postmortem = Postmortem::read(&memory, &notes(info.as_bytes()));
    for cpu in 0..2 {
        assert_eq!(functions(&postmortem, cpu), functions(&read(Addresses::BelowBase), cpu));
    }
}

#[test]
fn what_the_kernel_carries_is_told() {
    let postmortem = read(Addresses::BelowBase);
    let cpu = &postmortem.cpus[0];
    assert!(cpu.panicked && cpu.backtrace.source == BacktraceSource::Orc && cpu.backtrace.remark.is_none());
    assert!(cpu.backtrace.frames[0].interrupted && !cpu.backtrace.frames[1].interrupted);
    let task = postmortem.panic.task.as_ref().unwrap();
    assert_eq!((task.pid, task.comm.as_deref()), (4711, Some("nginx")));
    assert_eq!(postmortem.cpus.len(), 2);
    let module = &postmortem.modules.listed[0];
    assert_eq!((module.name.as_str(), module.taints.as_str()), ("broken_driver", "OE"));
    assert_eq!((module.base, module.bytes), (Some(Address(IMAGE + 0x9_0000)), Some(0x1000)));
    assert_eq!(postmortem.taint.unwrap()[0].letter, 'O');
    let system = postmortem.system;
    assert_eq!(system.host.as_deref(), Some("web-1"));
    assert_eq!(system.release.as_deref(), Some("6.1.0-56-cloud-amd64"));
    assert_eq!(system.command_line.as_deref(), Some("root=/dev/vda1 crashkernel=16M"));
    assert_eq!(system.processor.as_deref(), Some("Example CPU"));
}

#[test]
fn without_anything_the_value_says_what_is_missing() {
    let postmortem = Postmortem::read(&Memory::new(0), &Notes::default());
    assert!(!postmortem.sources.kallsyms.found && postmortem.log.missing.is_some());
    assert!(postmortem.cpus.is_empty() && postmortem.modules.listed.is_empty());
}

#[test]
fn a_list_of_modules_that_is_a_loop_ends() {
    let mut memory = legible::kernel(Addresses::BelowBase);
    memory.write_u64(0x8_0008, IMAGE + 0x8_0008);
    let info = legible::vmcoreinfo(Addresses::BelowBase);
    let modules = Postmortem::read(&memory, &notes(info.as_bytes())).modules;
    assert!(modules.cut && modules.listed.len() == 1024);
}

#[test]
fn names_and_tokens_of_absurd_lengths_take_no_time() {
    let mut memory = legible::kernel(Addresses::BelowBase);
    // Each name claims 32,638 bytes, and each byte stands for a token of 64 KiB, which no zero byte ends.
    memory.write(legible::NAMES, &vec![0xFE; 0x2_0000]);
    memory.write(legible::COUNT, &0x1_0000u32.to_le_bytes());
    memory.write(legible::INDEX, &[1; 510]);
    let start = Instant::now();
    let postmortem = Postmortem::read(&memory, &notes(legible::vmcoreinfo(Addresses::BelowBase).as_bytes()));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(!postmortem.sources.kallsyms.found);
}

/// A kernel with this many modules, each of which has a table of symbols of 1.4 MiB. Processor 0 has called through all of them, so
/// many times each; processor 1 has called through the last, and has panicked.
fn with_modules(modules: u64, times: u64) -> Postmortem {
    let mut memory = legible::kernel(Addresses::BelowBase);
    memory.write(0x2_0000, &1u32.to_le_bytes());
    // The table of symbols that all modules share.
    memory.write(0x8_1208, &0xF000u32.to_le_bytes());
    let text = |number: u64| IMAGE + legible::MODULE_TEXT + number * 0x1000;
    let mut of_first = [0; 0xF0];
    memory.read(legible::MODULE.into(), &mut of_first).expect("it is there");
    let place = |number: u64| 0x1F_0000 + number * 0x100;
    for number in 1..modules {
        memory.write(place(number), &of_first);
        memory.write_u64(place(number) + 0x80, text(number));
        let before = if number == 1 { legible::MODULE } else { place(number - 1) };
        memory.write_u64(before + 8, IMAGE + place(number) + 8);
    }
    let calls = (0..modules).flat_map(|number| (0..times).map(move |_| text(number) + 0x30));
    let mut stack = legible::STACK + 0x28;
    for address in calls.chain([IMAGE + 0x10_0350]) {
        memory.write_u64(stack, address);
        stack += 8;
    }
    memory.write_u64(legible::STACK + 0x800, text(modules - 1) + 0x30);
    memory.write_u64(legible::STACK + 0x808, IMAGE + 0x10_0350);
    Postmortem::read(&memory, &notes(legible::vmcoreinfo(Addresses::BelowBase).as_bytes()))
}

#[test]
fn a_modules_symbols_are_read_once() {
    let postmortem = with_modules(1, 80);
    let found = functions(&postmortem, 0);
    assert_eq!(found.len(), 83);
    assert_eq!(found[2..82], [(Some("trip+0x20"), Some("broken_driver")); 80]);
}

#[test]
fn what_other_stacks_use_up_is_not_missing_in_that_of_the_panic() {
    let postmortem = with_modules(60, 1);
    let others = functions(&postmortem, 0);
    assert_eq!(
        (others.len(), others[60]),
        (63, (None, Some("broken_driver"))),
        "the budget does not suffice"
    );
    assert!(postmortem.cpus[1].panicked);
    assert_eq!(functions(&postmortem, 1)[1], (Some("trip+0x3b020"), Some("broken_driver")));
}

/// Whether everything is within its bounds, and every text is printable.
fn check(postmortem: &Postmortem) {
    assert!(postmortem.cpus.len() <= 513 && postmortem.modules.listed.len() <= 1024);
    assert!(postmortem.log.lines.len() <= 300);
    let texts = postmortem.cpus.iter().flat_map(|cpu| {
        assert!(cpu.backtrace.frames.len() <= 128);
        cpu.backtrace.frames.iter().filter_map(|frame| frame.function.as_deref())
    });
    let names = postmortem.modules.listed.iter().map(|module| module.name.as_str());
    let system = &postmortem.system;
    let others = [&system.host, &system.release, &system.version, &system.command_line, &system.processor];
    let all = texts.chain(names).chain(others.into_iter().filter_map(|text| text.as_deref()));
    for text in all {
        assert!(text.len() <= 4 * 4096 && text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text:?}");
    }
}

/// A place that matters, or any.
fn place() -> impl Strategy<Value = u64> {
    let tables = prop_oneof![
        0x8000u64..0x8200,
        0x1_0000u64..0x1_b000,
        0x2_0000u64..0x2_0600,
        0x3_0000u64..0x3_0800,
        0x4_0000u64..0x4_1100,
        0x5_0000u64..0x5_0400,
        0x7_0000u64..0x7_0900,
        0x8_0000u64..0x8_1500,
        0x10_0000u64..0x10_0600,
    ];
    prop_oneof![9 => tables, 1 => 0..legible::SIZE - 8]
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        any::<u8>().prop_map(u64::from),
        (0..legible::SIZE).prop_map(|at| IMAGE + at),
        Just(u64::MAX)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_damaged_kernel_is_survived(writes in prop::collection::vec((place(), value(), 1usize..9), 1..24)) {
        let mut memory = legible::kernel(Addresses::BelowBase);
        for (at, value, len) in writes {
            memory.write(at, &value.to_le_bytes()[..len]);
        }
        check(&Postmortem::read(&memory, &notes(legible::vmcoreinfo(Addresses::BelowBase).as_bytes())));
    }

    #[test]
    fn a_damaged_vmcoreinfo_is_survived(at: prop::sample::Index, to: u8) {
        let mut info = legible::vmcoreinfo(Addresses::FromPlace).into_bytes();
        let at = at.index(info.len());
        info[at] = to;
        check(&Postmortem::read(&legible::kernel(Addresses::FromPlace), &notes(&info)));
    }
}
