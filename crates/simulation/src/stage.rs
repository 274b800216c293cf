//! Turns the content of a file into a machine that can be built; an impossible machine is an error with its line.

mod amdvi;
mod damage;
pub(crate) mod domains;

use std::collections::BTreeSet;

use machine::{IoAddress, PAGE_SIZE, PhysicalAddress, Range};
use model::habits::{Chore, Habit, Habits};
use model::scenario::{Attached, DeviceTlb, Function, OldQueue, UnitScenario};
use model::walk::Traits;
use model::{Machine, MemoryKind, Scenario};
use toml::Spanned;
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::TableMode;

use crate::file::{self, Error, File, Mode, Queue, Source, line_of};

/// Physical address bits of the machine.
const HOST_ADDRESS_BITS: u32 = 39;
/// Memory ends at 3 GiB and continues at 4 GiB, as on most machines.
const HOLE: Range<PhysicalAddress> = Range::new(PhysicalAddress::new(3 << 30), PhysicalAddress::new(4 << 30));
/// Some device's registers.
const REGISTERS: Range<PhysicalAddress> =
    Range::new(PhysicalAddress::new(0xFEB0_0000), PhysicalAddress::new(0xFEC0_0000));
/// The least memory for the capture kernel, and for the old kernel beside it.
const LEAST: u64 = 1 << 20;
/// The most memory of a simulated machine.
const MOST_MEMORY: u64 = 256 << 30;
/// The most devices, and the most addresses that one device uses.
const MOST: usize = 64;
/// The largest value of `busy`.
const BUSIEST: usize = 16;

/// A machine that can be built, and the file that describes it.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The machine. What it says of VT-d stands for AMD-Vi's own where the file is about that.
    pub(crate) scenario: Scenario,
    /// Page frames that the takeover may use.
    pub(crate) budget: usize,
    /// The file, for names.
    pub(crate) file: File,
}

impl Stage {
    /// Checks that the machine can exist; `text` is what `file` was read from.
    pub fn set(file: File, text: &str) -> Result<Self, Error> {
        let check = Check { text };
        let memory = check.memory(&file)?;
        let old =
            memory.iter().filter(|(_, kind)| *kind == MemoryKind::Old).map(|(range, _)| range.len()).sum();
        let domains = check.domains(&file, old)?;
        let functions = check.functions(&file)?;
        let damage = check.damage(&file, &domains)?;
        check.stuck(&file)?;
        let units = vec![unit(&file)];
        let scenario = Scenario { seed: 1, memory, units, domains, functions, damage, ..Scenario::default() };
        let budget = file.budget.unwrap_or((file.reservation.get_ref().size / 4 / PAGE_SIZE) as usize);
        Ok(Self { scenario, budget, file })
    }

    /// How many tables are above the page tables: root and context tables, or pages of the device table.
    pub(crate) fn upper_tables(&self) -> u64 {
        let buses = self.scenario.functions.iter().map(|function| function.source >> 8);
        match self.file.mode {
            Mode::Legacy | Mode::Scalable => 1 + buses.collect::<BTreeSet<_>>().len() as u64,
            Mode::AmdVi => amdvi::table_pages(&self.file),
        }
    }

    /// The machine at the moment its kernel dies.
    pub(crate) fn machine(&self) -> Machine {
        match self.file.mode {
            Mode::Legacy | Mode::Scalable => self.scenario.machine(),
            Mode::AmdVi => amdvi::scenario(&self.file, &self.scenario).machine(),
        }
    }
}

/// The checks of a file: an error names its line in the text.
#[derive(Clone, Copy)]
struct Check<'a> {
    text: &'a str,
}

impl Check<'_> {
    fn refuse<T>(self, place: &Spanned<T>, what: impl Into<String>) -> Error {
        Error { line: line_of(self.text, place.span().start), what: what.into() }
    }

    fn ensure<T>(self, place: &Spanned<T>, holds: bool, what: impl Into<String>) -> Result<(), Error> {
        if holds { Ok(()) } else { Err(self.refuse(place, what)) }
    }

    /// The old kernel's memory around the capture kernel's, and some device registers in the hole below 4 GiB.
    fn memory(self, file: &File) -> Result<Vec<(Range<PhysicalAddress>, MemoryKind)>, Error> {
        let size = file.memory.get_ref().0;
        self.ensure(&file.memory, size.is_multiple_of(PAGE_SIZE), "memory is made of pages of 4 KiB")?;
        self.ensure(&file.memory, (4 * LEAST..=MOST_MEMORY).contains(&size), "memory has 4 MiB to 256 GiB")?;
        let reservation = file.reservation.get_ref();
        let ram = ram(size);
        let capture = Range::sized(PhysicalAddress::new(reservation.start), reservation.size)
            .filter(|capture| ram.iter().any(|range| range.covers(*capture)))
            .ok_or_else(|| {
                self.refuse(&file.reservation, "the reservation lies outside the machine's memory")
            })?;
        let whole = capture.start.is_aligned(PAGE_SIZE) && capture.len().is_multiple_of(PAGE_SIZE);
        self.ensure(&file.reservation, whole, "a reservation is made of pages of 4 KiB")?;
        let enough = capture.len() >= LEAST && size - capture.len() >= LEAST;
        self.ensure(&file.reservation, enough, "either kernel needs 1 MiB at least")?;
        let around = ram.into_iter().flat_map(|range| {
            [
                Range::new(range.start, range.end.min(capture.start)),
                Range::new(range.start.max(capture.end), range.end),
            ]
        });
        let old = around.filter(|range| !range.is_empty()).map(|range| (range, MemoryKind::Old));
        Ok(old.chain([(capture, MemoryKind::Capture), (REGISTERS, MemoryKind::Mmio)]).collect())
    }

    /// A unit of AMD's has no chores of some kinds.
    fn stuck(self, file: &File) -> Result<(), Error> {
        let none = |stuck: &&Spanned<file::Chore>| amdvi::chore(*stuck.get_ref()).is_none();
        match file.unit.stuck.iter().find(none).filter(|_| file.mode == Mode::AmdVi) {
            Some(stuck) => Err(self.refuse(stuck, "a unit of AMD's takes its tables at once")),
            None => Ok(()),
        }
    }

    fn functions(self, file: &File) -> Result<Vec<Function>, Error> {
        let mut known = BTreeSet::new();
        file.devices.iter().map(|device| self.function(file, device, &mut known)).collect()
    }

    fn function(
        self,
        file: &File,
        device: &file::Device,
        known: &mut BTreeSet<Source>,
    ) -> Result<Function, Error> {
        let source = *device.at.get_ref();
        self.ensure(&device.at, known.insert(source), format!("there is a device {source} already"))?;
        self.ensure(&device.at, known.len() <= MOST, format!("more than {MOST} devices"))?;
        let busy = *device.busy.get_ref();
        self.ensure(&device.busy, (1..=BUSIEST).contains(&busy), format!("busy is 1 to {BUSIEST}"))?;
        self.ensure(&device.at, device.dma.len() <= MOST, format!("more than {MOST} addresses"))?;
        let attached = match *device.domain.get_ref() {
            file::Attached::PassThrough => Attached::PassThrough(unused_id(file)),
            file::Attached::To(id) => Attached::To(self.domain(file, &device.domain, id)?),
        };
        // A device uses an address more often if its list contains it several times.
        let works_at = device.dma.repeat(busy).into_iter().map(IoAddress::new).collect();
        let device_tlb = device.device_tlb.map(|habit| match habit {
            file::DeviceTlb::Obeys => DeviceTlb::Answers,
            file::DeviceTlb::KeepsSilent => DeviceTlb::Silent,
        });
        Ok(Function { source: source.0, attached, works_at, device_tlb, ..Function::default() })
    }

    /// The index of the domain with this id.
    fn domain<T>(self, file: &File, place: &Spanned<T>, id: u16) -> Result<usize, Error> {
        let found = file.domains.iter().position(|domain| *domain.id.get_ref() == id);
        found.ok_or_else(|| self.refuse(place, format!("there is no domain {id}")))
    }
}

/// The ranges of `size` bytes of memory.
pub(crate) fn ram(size: u64) -> Vec<Range<PhysicalAddress>> {
    let low = size.min(HOLE.start.get());
    let ranges = [Range::from(0..low), Range::new(HOLE.end, HOLE.end.saturating_add(size - low))];
    ranges.into_iter().filter(|range| !range.is_empty()).collect()
}

/// An unused domain-id as the tag of pass-through.
fn unused_id(file: &File) -> u16 {
    let used: BTreeSet<u16> = file.domains.iter().map(|domain| *domain.id.get_ref()).collect();
    (1..=u16::MAX).find(|id| !used.contains(id)).unwrap_or_default()
}

fn unit(file: &File) -> UnitScenario {
    let scalable = file.mode == Mode::Scalable;
    let capability = Capability::new()
        .with_nd(6)
        .with_sagaw(0b1110)
        .with_mgaw(56)
        .with_sslps(0b11)
        .with_psi(true)
        .with_mamv(18)
        .with_dwd(true)
        .with_drd(true)
        .with_fro(0x22);
    let extended = ExtendedCapability::new()
        .with_qi(file.unit.queue != Queue::None)
        .with_ir(true)
        .with_pt(true)
        .with_dt(file.devices.iter().any(|device| device.device_tlb.is_some()))
        .with_smts(scalable)
        .with_ssts(scalable)
        .with_iro(0xF);
    UnitScenario {
        traits: Traits { capability, extended, host_address_bits: HOST_ADDRESS_BITS },
        habits: file
            .unit
            .stuck
            .iter()
            .fold(Habits::default(), |habits, stuck| habits.with(chore(*stuck.get_ref()), Habit::Never)),
        mode: if scalable { TableMode::SCALABLE } else { TableMode::LEGACY },
        queue: match file.unit.queue {
            Queue::Idle => OldQueue::Idle,
            Queue::None => OldQueue::Off,
            Queue::Busy => OldQueue::Busy(3),
            Queue::Stopped => OldQueue::Stopped,
        },
    }
}

fn chore(stuck: file::Chore) -> Chore {
    match stuck {
        file::Chore::TakeRoot => Chore::TakeRoot,
        file::Chore::SwitchQueue => Chore::SwitchQueue,
        file::Chore::FetchDescriptor => Chore::FetchDescriptor,
        file::Chore::ForgetContexts => Chore::ForgetContexts,
        file::Chore::ForgetTranslations => Chore::ForgetTranslations,
    }
}
