//! Compares the listing with the answers of modelled hardware: the model walks the same tables with code of its own.

#![expect(clippy::panic, reason = "a test stops at its first surprise")]

use amdvi::control::{Control, DeviceTableBase, ExclusionBase, ExclusionLimit};
use amdvi::feature::{ExtendedFeature, ExtendedFeature2};
use amdvi::registers::{
    CONTROL, DEVICE_TABLE, EXCLUSION_BASE, EXCLUSION_LIMIT, EXTENDED_FEATURE, EXTENDED_FEATURE_2,
    device_table_segment,
};
use machine::{PhysicalAddress, Position, Registers};
use model::random::Size;
use model::{Access, Answer, Architecture, Direction, Machine, Reason, Requester, Scenario};
use proptest::prelude::*;
use reach::{
    AmdViRegisters, Budget, Obstacle, Piece, Rights, Route, Stages, Subject, Tables, Target, UnitRegisters,
    UnitSetup, VtdRegisters,
};
use vtd::control::RootTableAddress;
use vtd::fault::FaultReason;
use vtd::registers::RTADDR;

/// More tables than any machine here has, unless they form loops. Each takes time for its 512 entries, of each route that meets it.
const TABLES: u64 = 1 << 10;

/// Most pieces of a route, and most addresses that hardware lets pass, that are compared: damaged tables that form loops have hundreds of
/// thousands of them.
const COMPARED: usize = 500;

/// Most routes of a machine that are compared: a damaged directory of PASIDs has thousands of them.
const ROUTES: usize = 64;

/// Faults of requests that all entries allow: hardware cannot set accessed and dirty bits in them (7.1.3, conditions
/// SFS and SSS of accessed and dirty bits). The listing ignores these faults.
const CANNOT_NOTE: [FaultReason; 3] = [FaultReason(0x77), FaultReason(0x7C), FaultReason(0x90)];

fn unit(machine: &Machine) -> UnitSetup {
    let registers = match machine.architecture(0) {
        Architecture::Vtd => UnitRegisters::Vtd(vtd_registers(machine)),
        Architecture::AmdVi => UnitRegisters::AmdVi(amdvi_registers(machine)),
    };
    UnitSetup { registers, host_address_bits: machine.host_address_bits(0) }
}

fn vtd_registers(machine: &Machine) -> VtdRegisters {
    let traits = machine.traits(0);
    VtdRegisters {
        root: RootTableAddress::from_bits(machine.registers(0).read64(RTADDR.offset)),
        capability: traits.capability,
        extended: traits.extended,
    }
}

fn amdvi_registers(machine: &Machine) -> AmdViRegisters {
    let read = |register: amdvi::registers::Register| machine.registers(0).read64(register.offset);
    let segment =
        |index| DeviceTableBase::from_bits(read(device_table_segment(index).unwrap_or(DEVICE_TABLE)));
    AmdViRegisters {
        device_tables: std::array::from_fn(segment),
        control: Control::from_bits(read(CONTROL)),
        features: ExtendedFeature::from_bits(read(EXTENDED_FEATURE)),
        features_2: ExtendedFeature2::from_bits(read(EXTENDED_FEATURE_2)),
        exclusion_base: ExclusionBase::from_bits(read(EXCLUSION_BASE)),
        exclusion_limit: ExclusionLimit::from_bits(read(EXCLUSION_LIMIT)),
    }
}

/// The listed requesters and their routes, and those that fault; `whole` if nothing was unreadable and the budget sufficed.
struct Listed {
    routes: Vec<(Requester, Route)>,
    faulting: Vec<Requester>,
    whole: bool,
}

/// Of devices without an entry, those that the machine has.
fn requesters(machine: &Machine, tables: &Tables<'_, model::OldRam>) -> Listed {
    let mut listed = Listed { routes: Vec::new(), faulting: Vec::new(), whole: true };
    let devices = machine.devices(0);
    let done =
        tables.each_requester(&mut Budget::new(TABLES), &mut |place, binding| match (place, binding) {
            (Subject::Requester(who), binding) => {
                let who = Requester { source: who.source.0, pasid: who.pasid };
                match binding {
                    Ok(binding) => listed.routes.push((who, binding.route)),
                    Err(obstacle) => {
                        listed.faulting.push(who);
                        listed.whole &= !obstacle.is_unknown();
                    }
                }
            }
            (Subject::Devices { first, last }, Ok(binding)) => {
                let these = devices.iter().filter(|source| (first.0..=last.0).contains(*source));
                let without_pasid = |source: &u16| Requester { source: *source, pasid: None };
                listed.routes.extend(these.map(|source| (without_pasid(source), binding.route)));
            }
            (_, Err(obstacle)) => listed.whole &= !obstacle.is_unknown(),
            (place, Ok(_)) => panic!("{place:?} is no requester"),
        });
    listed.routes.sort_unstable_by_key(|(requester, _)| *requester);
    listed.whole &= done.is_ok();
    listed
}

fn pieces(tables: &Tables<'_, model::OldRam>, route: Route) -> (Vec<Piece>, bool) {
    let (mut pieces, mut whole) = (Vec::new(), true);
    let done = tables.each_piece(route, &mut Budget::new(TABLES), &mut |piece| {
        whole &= !matches!(piece.target, Target::Obstacle(Obstacle::Unreadable(_)));
        pieces.push(piece);
    });
    (pieces, whole && done.is_ok())
}

/// Checks that reads and writes at both ends of a piece get the answer that it says.
fn check_piece(machine: &Machine, requester: Requester, piece: &Piece) -> Result<(), TestCaseError> {
    for offset in [0, piece.len - 1] {
        for direction in [Direction::Read, Direction::Write] {
            let answer =
                machine.answer_before(0, requester.access(piece.iova.saturating_add(offset), direction));
            let expected = match piece.target {
                Target::Memory { address, rights, .. } => {
                    allows(rights, direction).then_some(Answer::Memory(address.saturating_add(offset)))
                }
                Target::Obstacle(Obstacle::Unreadable(_)) => continue,
                Target::Obstacle(_) => None,
            };
            match expected {
                Some(expected) => prop_assert!(is_as_listed(answer, expected), "{answer:?}: {piece:?}"),
                None => prop_assert!(matches!(answer, Answer::Blocked(_)), "{answer:?}: {piece:?}"),
            }
        }
    }
    Ok(())
}

fn is_as_listed(answer: Answer, listed: Answer) -> bool {
    answer == listed
        || matches!(answer, Answer::Blocked(Reason::Vtd(reason)) if CANNOT_NOTE.contains(&reason))
}

/// Requests of the model do not say that they are privileged.
fn allows(rights: Rights, direction: Direction) -> bool {
    rights.user && if direction == Direction::Read { rights.read } else { rights.write }
}

fn listed_answer(pieces: &[Piece], access: Access) -> Option<PhysicalAddress> {
    // Pieces are in ascending order.
    let before = pieces.partition_point(|piece| piece.iova <= access.iova).checked_sub(1)?;
    let piece = pieces.get(before).filter(|piece| access.iova.count_since(piece.iova) < piece.len)?;
    let Target::Memory { address, rights, .. } = piece.target else { return None };
    allows(rights, access.direction).then_some(address.saturating_add(access.iova.count_since(piece.iova)))
}

/// All of `items`, or at most so many of them, from the first to the last.
fn spread<T>(items: &[T], most: usize) -> impl Iterator<Item = &T> {
    items.iter().step_by(items.len().div_ceil(most).max(1))
}

/// Compares; says whether the listing was whole.
fn check(machine: &Machine) -> Result<bool, TestCaseError> {
    let memory = machine.old_memory();
    let tables = Tables::new(&memory, unit(machine));
    let listed = requesters(machine, &tables);
    let mut known = machine.requesters_before(0);
    known.sort_unstable();
    // To the model, a device that reaches nothing but an exclusion range is blocked.
    let has_tables = listed.routes.iter().filter(|(_, route)| route.stages != Stages::Blocked);
    let told: Vec<Requester> = has_tables.map(|(requester, _)| *requester).collect();
    let all_told = match machine.architecture(0) {
        Architecture::Vtd => told == known,
        // The model names each PASID once by the tables on its way, though damaged tables may lead to themselves; and it looks at
        // no address of a root before a request does.
        Architecture::AmdVi => known.iter().all(|who| told.contains(who) || listed.faulting.contains(who)),
    };
    prop_assert!(!listed.whole || all_told, "{told:?} instead of {known:?}");
    let mut all_whole = listed.whole;
    for &(requester, route) in spread(&listed.routes, ROUTES) {
        let (pieces, whole) = pieces(&tables, route);
        all_whole &= whole;
        prop_assert!(pieces.is_sorted_by_key(|piece| piece.iova));
        spread(&pieces, COMPARED).try_for_each(|piece| check_piece(machine, requester, piece))?;
        let reached = machine.reached_before(0, requester);
        for leaf in spread(&reached, COMPARED).filter(|_| whole) {
            let access = requester.access(leaf.iova, Direction::Read);
            let answer = machine.answer_before(0, access);
            let told = listed_answer(&pieces, access).map(Answer::Memory);
            prop_assert!(told.is_none_or(|told| is_as_listed(answer, told)), "{access}");
            prop_assert!(told.is_some() || !matches!(answer, Answer::Memory(_)), "{access} is {answer:?}");
        }
    }
    Ok(all_whole)
}

fn machines() -> impl Strategy<Value = Scenario> {
    (any::<u64>(), 0..6_usize, 1..9_usize, 0..7_usize).prop_map(|(seed, domains, functions, runs)| {
        Scenario::random(seed, Size { units: 1, domains, functions, runs })
    })
}

fn amd_machines() -> impl Strategy<Value = model::amdvi::Scenario> {
    (any::<u64>(), 0..6_usize, 1..9_usize, 0..7_usize).prop_map(|(seed, domains, functions, runs)| {
        model::amdvi::Scenario::random(seed, Size { units: 1, domains, functions, runs })
    })
}

fn cases(few: u32) -> ProptestConfig {
    let told = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if told { ProptestConfig::default().cases } else { few };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn everything_that_hardware_lets_pass_is_listed_and_nothing_else(scenario in machines()) {
        prop_assert!(check(&scenario.machine())?, "tables that nobody damaged are listed whole");
    }

    #[test]
    fn damaged_tables_are_listed_as_hardware_takes_them(scenario in machines(), seed: u64, count in 1..10_usize) {
        check(&scenario.corrupt(seed, count).machine())?;
    }

    #[test]
    fn amds_hardware_lets_pass_what_is_listed_and_nothing_else(scenario in amd_machines()) {
        prop_assert!(check(&scenario.machine())?, "tables that nobody damaged are listed whole");
    }

    #[test]
    fn damaged_tables_of_amds_are_listed_as_hardware_takes_them(scenario in amd_machines(), seed: u64, count in 1..10_usize) {
        check(&scenario.corrupt(seed, count).machine())?;
    }
}

#[test]
fn the_machines_of_this_test_have_something_to_list() {
    let count = |seed| {
        let machine = Scenario::random(seed, Size { units: 1, domains: 5, functions: 8, runs: 6 }).machine();
        let memory = machine.old_memory();
        let tables = Tables::new(&memory, unit(&machine));
        let routes = requesters(&machine, &tables).routes;
        let pieces: usize = routes.iter().map(|(_, route)| pieces(&tables, *route).0.len()).sum();
        (routes.len(), pieces)
    };
    let (requesters, pieces) = (0..20).map(count).reduce(|a, b| (a.0 + b.0, a.1 + b.1)).unwrap();
    assert!(requesters > 20 && pieces > 200, "{requesters} requesters, {pieces} pieces");
}
