//! **isolation** among devices that shared a domain: each device that is given to a driver gets mappings that no
//! other device reaches, at whatever address, and keeps those of the old kernel.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use crate::common::{
    Buffer, Described, PLENTY, buffer, cases, function, holds, is_guests, plausible, take_over_all, unmapped,
    with_vtd,
};
use machine::{Frames, Permission, PhysicalAddress, Range, SourceId};
use model::damage::{Damage, Harm, Victim};
use model::random::PASS_THROUGH;
use model::scenario::{Attached, Domain, Function};
use model::{Access, Answer, Direction, Machine, Own, OwnFrames, Requester};
use proptest::prelude::*;
use std::collections::BTreeSet;
use takeover::Attachment;
use verdict::{Taken, continuity, isolation, limits};
use vtd::paging::AddressWidth;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// One of the devices is given to a driver.
    Attach { device: usize },
    /// So many pages are mapped for one of the devices, which is given to a driver if it was not.
    Map { device: usize, pages: u64 },
    /// The oldest mapping of all ends.
    Unmap,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let map = (any::<usize>(), 1..17_u64).prop_map(|(device, pages)| Turn::Map { device, pages });
    let attach = any::<usize>().prop_map(|device| Turn::Attach { device });
    prop::collection::vec(prop_oneof![3 => map, 3 => attach, 1 => Just(Turn::Unmap)], 1..12)
}

/// Machines whose units have 16 domain-ids. The old kernel used them all, some in contexts that the takeover refuses.
fn crowded() -> impl Strategy<Value = Described> {
    /// In legacy mode: a present entry of an undefined type. In scalable mode: one with its directory at address zero.
    const REFUSED: Harm = Harm::Overwrite(0xD);
    with_vtd().prop_map(|mut scenario| {
        (1..).zip(&mut scenario.domains).for_each(|(id, domain)| domain.id = id);
        let used = scenario.domains.len() as u16 + 1;
        for id in used..PASS_THROUGH {
            let (unit, source) = (usize::from(id) % scenario.units.len(), 0x0500 + id);
            let attached = Attached::To(scenario.domains.len());
            scenario.domains.push(Domain { id, width: AddressWidth::BITS_39, ..Domain::default() });
            scenario.functions.push(Function { unit, source, attached, ..Function::default() });
            scenario.damage.push(Damage { victim: Victim::Context(source), harm: REFUSED });
        }
        scenario.units.iter_mut().for_each(|unit| unit.traits.capability.set_nd(0));
        scenario.into()
    })
}

/// Devices of one domain that are given to drivers.
struct Sharers<'m, 'c> {
    machine: &'m Machine,
    unit: usize,
    taken: Taken<'c>,
    frames: OwnFrames,
    requesters: Vec<Requester>,
    mapped: Vec<(usize, Attachment, Buffer)>,
    /// How many buffers there have been.
    buffers: u64,
}

impl Sharers<'_, '_> {
    fn take_turn(&mut self, turn: Turn) -> Result<(), TestCaseError> {
        let count = self.requesters.len();
        match turn {
            Turn::Attach { device } => self.attach(device % count).map(drop),
            Turn::Map { device, pages } => self.map(device % count, pages),
            Turn::Unmap if self.mapped.is_empty() => Ok(()),
            Turn::Unmap => self.unmap(),
        }
    }

    /// A device without a domain may take three tables above the domain's, and its root table; a twin takes one.
    fn attach(&mut self, device: usize) -> Result<Attachment, TestCaseError> {
        let before = self.frames.available();
        let device = self.taken.attach(SourceId(self.requesters[device].source), &[], &mut self.frames);
        prop_assert!(before - self.frames.available() <= 4);
        Ok(device?)
    }

    /// Takes five tables on the path at most, and one beside the last.
    fn map(&mut self, device: usize, pages: u64) -> Result<(), TestCaseError> {
        let memory = buffer(self.machine, self.buffers, pages);
        self.buffers += 1;
        let guarded = self.mapped.iter().map(|(owner, _, buffer)| (*owner, buffer.memory));
        self.guard(guarded.chain([(device, memory)]).collect());
        let attached = self.attach(device)?;
        let before = self.frames.available();
        let (old, frames) = (self.machine.old_memory(), &mut self.frames);
        let start = self.taken.map(&attached, memory, Permission::ReadWrite, &old, frames);
        prop_assert!(before - self.frames.available() <= 6);
        let start = start.unwrap();
        let iova = Range::new(start, start.saturating_add(memory.len()));
        self.mapped.push((device, attached, Buffer { iova, memory }));
        Ok(())
    }

    fn unmap(&mut self) -> Result<(), TestCaseError> {
        let (device, attached, buffer) = self.mapped.remove(0);
        unmapped(self.taken.unmap(&attached, buffer.iova, &mut self.frames))?;
        self.guard(self.mapped.iter().map(|(owner, _, buffer)| (*owner, buffer.memory)).collect());
        let source = self.requesters[device].source;
        let keeps_on = self.machine.keeps_on(self.unit, source);
        for (access, _) in accesses(self.requesters[device], &buffer) {
            let (cold, warm) =
                (self.machine.answer(self.unit, access), self.machine.access(self.unit, access));
            prop_assert!(matches!(cold, Answer::Blocked(_)), "{access} is {cold}");
            prop_assert!(keeps_on || matches!(warm, Answer::Blocked(_)), "{access} is {warm}, warm");
        }
        Ok(())
    }

    fn guard(&self, own: Vec<(usize, Range<PhysicalAddress>)>) {
        let own = own.into_iter().map(|(device, memory)| Own { requester: self.requesters[device], memory });
        self.machine.guard(own.collect());
    }

    /// Checks that every device reaches what is mapped for it, cold and warm, and nothing that is mapped for others.
    fn check(&self) -> Result<(), TestCaseError> {
        for (owner, _, buffer) in &self.mapped {
            for (index, requester) in self.requesters.iter().enumerate() {
                for (access, memory) in accesses(*requester, buffer) {
                    let cold = self.machine.answer(self.unit, access);
                    let warm = self.machine.access(self.unit, access);
                    prop_assert_eq!(
                        cold == Answer::Memory(memory),
                        index == *owner,
                        "{} is {}",
                        access,
                        cold
                    );
                    prop_assert_eq!(
                        warm == Answer::Memory(memory),
                        index == *owner,
                        "{} is {}",
                        access,
                        warm
                    );
                }
            }
        }
        holds(isolation::check(self.machine, self.unit))
    }
}

/// Both ends of a buffer under its I/O addresses, read and written, and the memory that they should reach.
fn accesses(requester: Requester, buffer: &Buffer) -> impl Iterator<Item = (Access, PhysicalAddress)> {
    let Buffer { iova, memory } = *buffer;
    let at = |offset| (iova.start.saturating_add(offset), memory.start.saturating_add(offset));
    let ends = [0, iova.len() - 1].map(at);
    let both = [Direction::Read, Direction::Write];
    ends.into_iter()
        .flat_map(move |(iova, memory)| both.map(|direction| (requester.access(iova, direction), memory)))
}

/// The devices that were in this one's domain, all by requests without PASID.
fn sharing(machine: &Machine, unit: usize, device: Requester) -> Vec<Requester> {
    let sharing = machine.sharing_before(unit, device).into_iter();
    let plain: BTreeSet<Requester> = sharing.filter(|requester| requester.pasid.is_none()).collect();
    plain.into_iter().collect()
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn what_is_mapped_for_one_device_no_other_reaches(
        scenario in prop_oneof![3 => plausible(), 1 => crowded()],
        pick in 0..9_usize,
        turns in turns(),
    ) {
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let mut taken = take_over_all(&machine, &mut frames, &clock, &limits()).unwrap();
        let (unit, device) = function(&scenario, pick);
        let requesters = sharing(&machine, unit, device);
        let (taken, machine) = (taken.swap_remove(unit), &machine);
        let mut sharers = Sharers { machine, unit, taken, frames, requesters, mapped: Vec::new(), buffers: 0 };
        for turn in turns {
            sharers.take_turn(turn)?;
            machine.run(10);
            sharers.check()?;
        }
        if !is_guests(&scenario, device) {
            holds(continuity::check(machine, unit))?;
        }
    }
}
