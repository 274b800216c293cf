//! Each kind of timer on a machine made by hand, whose timers reset it in fact: found, extended, pinged, and never started.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise, as tests do")]

mod fake;

use std::time::Duration;

use fake::{Machine, bridge, lpc};
use fixtures::ConfigSpace;
use fixtures::wdat;
use pci::{Device, Function};
use proptest::prelude::*;
use watchdog::{Armed, KcsPlace, Kind, Watchdogs};

type All = Watchdogs<Machine, ConfigSpace, Machine>;

fn watchdogs(machine: &Machine) -> All {
    All::new(machine.clone(), machine.clone())
}

fn place() -> KcsPlace {
    KcsPlace::new(0xCA2, 1).unwrap()
}

/// Works for some seconds, a millisecond at a time.
fn work(watchdogs: &mut All, machine: &Machine, seconds: u64) {
    for _ in 0..seconds * 1000 {
        machine.pass(Duration::from_millis(1));
        watchdogs.progress();
    }
}

#[test]
fn a_running_tco_timer_is_extended_and_pinged_each_second() {
    let machine = Machine::new();
    machine.run_tco(10);
    let mut watchdogs = watchdogs(&machine);
    let armed = watchdogs.look_at_function(&lpc(), |_| None);
    let extended = Some(Duration::from_secs(120));
    assert_eq!(armed, Some(Armed { kind: Kind::Tco, extended }));
    assert_eq!(machine.port16(0x672), 0xFCC8, "the other bits are kept");
    work(&mut watchdogs, &machine, 10);
    assert_eq!(watchdogs.pings(), 11);
}

/// An ICH5, with processors of 64 bits since 2004.
#[test]
fn a_tco_timer_of_the_first_generation_has_counts_of_six_bits_in_bytes() {
    let machine = Machine::new();
    machine.run_first_tco(10);
    let mut watchdogs = watchdogs(&machine);
    let armed = watchdogs.look_at_function(&bridge(0x24D0, &[1, 6], &[0x10]), |_| None);
    let extended = Some(Duration::from_millis(63 * 600));
    assert_eq!(armed, Some(Armed { kind: Kind::Tco, extended }));
    assert_eq!(machine.port16(0x660) >> 8, 0xFF, "the other bits are kept");
    assert_eq!(
        (machine.port16(0x664), machine.port16(0x672)),
        (8, 0xFC04),
        "the first countdown is forgotten"
    );
}

/// Avoton, where the register at 44h is no ACPI_CNTL.
#[test]
fn the_tco_timer_of_an_atom_counts_seconds() {
    let machine = Machine::new();
    machine.run_tco(10);
    let mut watchdogs = watchdogs(&machine);
    let armed = watchdogs.look_at_function(&bridge(0x1F38, &[3, 6], &[2, 0x30, 0xD0, 0xFE]), |_| None);
    assert_eq!(armed, Some(Armed { kind: Kind::Tco, extended: Some(Duration::from_secs(120)) }));
    assert_eq!(machine.port16(0x672), 0xFC78);
    let off = bridge(0x1F38, &[1, 6], &[0x80]);
    assert_eq!(self::watchdogs(&machine).look_at_function(&off, |_| None), None, "its ports are off");
}

#[test]
fn who_waits_keeps_the_timers_quiet_for_three_minutes_and_no_longer() {
    let machine = Machine::new();
    machine.run_tco(10);
    let mut watchdogs = watchdogs(&machine);
    watchdogs.look_at_function(&lpc(), |_| None);
    for _ in 0..300 * 10 {
        machine.pass(Duration::from_millis(100));
        watchdogs.waiting();
    }
    assert_eq!(watchdogs.pings(), 1 + 180, "the first one, and one a second");
    work(&mut watchdogs, &machine, 10);
    assert_eq!(watchdogs.pings(), 1 + 180 + 10, "progress pings them all the same");
}

#[test]
fn a_timer_that_does_not_run_is_not_touched() {
    let machine = Machine::new();
    let mut watchdogs = watchdogs(&machine);
    assert_eq!(watchdogs.look_at_function(&lpc(), |_| None), None, "it was never started");
    assert_eq!(watchdogs.look_at_wdat(&wdat(200), false, |_| None), None, "nor as the table describes it");
    machine.run_tco(10);
    machine.halt_tco();
    assert_eq!(watchdogs.look_at_function(&lpc(), |_| None), None, "it was stopped");
    assert_eq!(watchdogs.look_at_wdat(&wdat(200), true, |_| None), None, "whatever was told");
    assert_eq!(watchdogs.look_at_bmc(place()), None);
    work(&mut watchdogs, &machine, 3);
    assert_eq!((machine.writes_to_tco(), machine.commands(), watchdogs.pings()), (0, vec![0x25], 0));
}

#[test]
fn wdat_runs_the_timer_that_it_describes_and_tco_is_then_left_alone() {
    let machine = Machine::new();
    machine.run_tco(10);
    let mut watchdogs = watchdogs(&machine);
    let armed = watchdogs.look_at_wdat(&wdat(8), false, |_| None).unwrap();
    assert_eq!(
        armed,
        Armed { kind: Kind::Wdat, extended: Some(Duration::from_secs(6)) },
        "it is longer already"
    );
    assert_eq!(watchdogs.look_at_function(&lpc(), |_| None), None);
    machine.run_tco(4);
    let armed = self::watchdogs(&machine).look_at_wdat(&wdat(8), false, |_| None).unwrap();
    assert_eq!(armed.extended, Some(Duration::from_millis(4800)), "as far as the table allows");
    assert_eq!(machine.port16(0x672), 0xFC00 | 8);
}

#[test]
fn a_management_controllers_timer_goes_on_while_it_is_extended() {
    let machine = Machine::new();
    machine.run_bmc(50);
    let mut watchdogs = watchdogs(&machine);
    let armed = watchdogs.look_at_bmc(place());
    assert_eq!(armed, Some(Armed { kind: Kind::Ipmi, extended: Some(Duration::from_secs(120)) }));
    assert_eq!(machine.last_set(), [0xC4, 0x01, 5, 0, 0xB0, 0x04], "use, action and pre-time-out are kept");
    work(&mut watchdogs, &machine, 5);
    assert_eq!(machine.commands(), [0x25, 0x24, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22]);
    assert_eq!(watchdogs.pings(), 6);
}

/// A controller that needs time holds up nobody: each call returns at once.
#[test]
fn a_slow_controller_is_pinged_between_other_work() {
    let machine = Machine::new();
    machine.run_bmc(50);
    machine.take_for_each_byte(Duration::from_millis(20));
    let mut watchdogs = watchdogs(&machine);
    assert!(watchdogs.look_at_bmc(place()).is_some());
    let reads = machine.reads();
    watchdogs.progress();
    assert!(machine.reads() - reads < 10);
    work(&mut watchdogs, &machine, 5);
    assert!(watchdogs.pings() >= 4, "{}", watchdogs.pings());
}

/// A disk or a remapping unit can keep the processor waiting for longer than a controller may: that is not its fault.
#[test]
fn a_slow_controller_is_not_given_up_after_a_long_wait_for_something_else() {
    let machine = Machine::new();
    machine.run_bmc(50);
    machine.take_for_each_byte(Duration::from_millis(20));
    let mut watchdogs = watchdogs(&machine);
    assert!(watchdogs.look_at_bmc(place()).is_some());
    for _ in 0..3 {
        watchdogs.progress();
        machine.pass(Duration::from_secs(90));
    }
    work(&mut watchdogs, &machine, 5);
    assert_eq!(watchdogs.lost().count(), 0);
    assert!(watchdogs.pings() >= 4, "{}", watchdogs.pings());
}

#[test]
fn a_transaction_that_the_dead_kernel_left_half_done_is_aborted() {
    for bytes in 1..4 {
        let machine = Machine::new();
        machine.run_bmc(50);
        machine.begin_transaction(bytes);
        assert!(watchdogs(&machine).look_at_bmc(place()).is_some(), "{bytes}");
    }
}

#[test]
fn a_controller_that_dies_is_given_up_for_good_and_told_of() {
    let machine = Machine::new();
    machine.run_bmc(50);
    let mut watchdogs = watchdogs(&machine);
    watchdogs.look_at_bmc(place()).unwrap();
    work(&mut watchdogs, &machine, 2);
    machine.die();
    work(&mut watchdogs, &machine, 8);
    assert_eq!(watchdogs.lost().collect::<Vec<_>>(), [Kind::Ipmi]);
    let reads = machine.reads();
    work(&mut watchdogs, &machine, 2);
    assert_eq!(machine.reads(), reads);
}

#[test]
fn where_nothing_answers_the_search_ends_at_once_and_where_something_is_stuck_after_a_second() {
    let machine = Machine::new();
    assert_eq!(watchdogs(&machine).look_at_bmc(KcsPlace::new(0xE00, 1).unwrap()), None);
    assert!(machine.reads() < 3);
    machine.run_bmc(50);
    machine.die();
    assert_eq!(watchdogs(&machine).look_at_bmc(place()), None);
    assert!(machine.now_is() < Duration::from_millis(1100));
}

#[test]
fn the_6300esb_is_unlocked_for_each_write() {
    let config =
        ConfigSpace::new(&[(0, &[0x86, 0x80, 0xAB, 0x25]), (0x10, &[0, 0, 0x10, 0xFE]), (0x68, &[2])]);
    let device = Device { function: Function { segment: 0, bus: 0, devfn: 0xB8 }, config };
    let registers = ConfigSpace::new(&[(4, &[0xFF, 0xFF, 0x0F])]);
    let machine = Machine::new();
    let mut watchdogs = watchdogs(&machine);
    let armed = watchdogs.look_at_function(&device, |range| {
        assert_eq!(range, machine::Range::from(0xFE10_0000..0xFE10_0010));
        Some(registers.clone())
    });
    let extended = Some(Duration::from_millis(60_000 + 0xF_FFFF));
    assert_eq!(armed, Some(Armed { kind: Kind::I6300esb, extended }), "a longer stage stays");
    device.config.put(0x68, &[0]);
    assert_eq!(watchdogs.look_at_function(&device, |_| Some(registers.clone())), None, "it does not run");
}

proptest! {
    /// The firmware's table is hostile: nothing panics, only devices' ports are touched, and memory only where the caller allows.
    #[test]
    fn any_table_is_harmless(
        mut table in proptest::collection::vec(any::<u8>(), 0..400),
        entries in proptest::collection::vec((prop::sample::select(vec![1u8, 5, 6, 8, 9]), 0u8..5, 0u8..3, any::<u8>(), 0u8..5, any::<u16>()), 0..14),
        answer: u8,
    ) {
        if table.len() > 68 {
            table.truncate(68);
            table[60] |= 1;
            for (action, instruction, space, offset, access, address) in entries {
                let [low, high] = address.to_le_bytes();
                table.extend([action, instruction, 0, 0, space, 32, offset, access, low, high, 0, 0, 0, 0, 0, 0]);
                table.extend([0xFF; 8]);
            }
        }
        let machine = Machine::new();
        machine.answer_everywhere(answer);
        let mut watchdogs = watchdogs(&machine);
        watchdogs.look_at_wdat(&table, true, |range| {
            assert!(range.len() <= 4);
            (range.start.get() >= 0x8000).then(|| ConfigSpace::new(&[(0, &[answer; 8])]))
        });
        work(&mut watchdogs, &machine, 2);
        prop_assert!(machine.touched().all(|port| port >= 0x100 && !(0xCF8..0xD00).contains(&port)));
    }

    /// A controller that answers anything: every call ends, and the search within its seconds.
    #[test]
    fn any_controller_is_harmless(answers in proptest::collection::vec(any::<u8>(), 1..200)) {
        let machine = Machine::new();
        machine.answer(&answers);
        let mut watchdogs = watchdogs(&machine);
        watchdogs.look_at_bmc(place());
        prop_assert!(machine.now_is() < Duration::from_millis(2500));
        work(&mut watchdogs, &machine, 7);
        prop_assert!(machine.touched().all(|port| (0xCA2..0xCA4).contains(&port)));
    }
}
