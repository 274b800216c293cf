//! Draws the picture for a terminal: 100 columns of text, with colours if wanted.

use machine::{PhysicalAddress, Range};

use super::moment::{MOST, Moment, Row, RowState};
use super::words::{count, lines, met, shortened, size};
use crate::values::{Device, Domain, Mapping, Purpose, Simulation, Traffic};

/// Whether to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Black and white.
    Plain,
    /// ANSI colours.
    Colour,
}

/// The purpose of a colour, with its SGR parameter (ECMA-48, 8.3.117).
#[derive(Clone, Copy)]
enum Hue {
    Bold = 1,
    Dim = 2,
    Bad = 31,
    Own = 32,
    Fence = 33,
    Old = 34,
    Root = 35,
}

const WIDTH: usize = 100;
/// Cells of the bar that shows memory.
const CELLS: u64 = 64;

/// Draws a simulation for a terminal.
pub fn text(simulation: &Simulation, ink: Ink) -> String {
    let mut page = Page { text: String::new(), ink };
    page.heading(simulation);
    page.moment(simulation, Moment::Before);
    page.moment(simulation, Moment::After);
    page.steps(simulation);
    page.policies(simulation);
    page.remarks(simulation);
    page.text
}

struct Page {
    text: String,
    ink: Ink,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn ink(&self, hue: Hue, words: &str) -> String {
        match self.ink {
            Ink::Plain => words.to_owned(),
            Ink::Colour => format!("\x1b[{}m{words}\x1b[0m", hue as u8),
        }
    }

    fn heading(&mut self, simulation: &Simulation) {
        let title = self.ink(Hue::Bold, &shortened(&simulation.title, WIDTH));
        self.line(&title);
        for line in lines(&simulation.story, WIDTH, 6) {
            self.line(&line);
        }
    }

    /// Draws the machine before or after the takeover: devices, what they can reach, memory.
    fn moment(&mut self, simulation: &Simulation, moment: Moment) {
        let (name, words) = match moment {
            Moment::Before => ("BEFORE", "the kernel is dead, its tables are in force"),
            Moment::After if simulation.failure.is_some() => {
                ("AFTER", "the takeover gave up, translation was never off")
            }
            Moment::After => ("AFTER", "checked copies are in force, translation was never off"),
        };
        let head = self.ink(Hue::Bold, name);
        self.line(&format!("\n{head}  {words}"));
        for (index, domain) in simulation.domains.iter().enumerate() {
            if moment == Moment::After || domain.id.is_some() {
                self.domain(simulation, index, domain, moment);
            }
        }
        self.memory(simulation, moment);
    }

    fn domain(&mut self, simulation: &Simulation, index: usize, domain: &Domain, moment: Moment) {
        let devices: Vec<&Device> =
            simulation.devices.iter().filter(|device| device.domain == Some(index)).collect();
        let mut rows: Vec<String> = vec![self.domain_name(domain, moment)];
        rows.extend(moment.rows(domain).into_iter().map(|row| self.mapping(row)));
        if domain.old.len() > MOST {
            rows.push(format!("  and {} more", domain.old.len() - MOST));
        }
        for row in 0..rows.len().max(devices.len()) {
            let device =
                devices.get(row).map_or_else(|| " ".repeat(34), |device| self.device(device, moment));
            let arrow = if row < devices.len() { "──▶" } else { "   " };
            let row = rows.get(row).map_or("", String::as_str);
            self.line(&format!("  {device}{arrow} {row}"));
        }
    }

    /// A device, in 34 columns.
    fn device(&self, device: &Device, moment: Moment) -> String {
        let name = format!("{:9}{:14}", device.at, shortened(&device.name, 13));
        let (hue, state) = match (moment, device.purpose, device.outcome.as_deref()) {
            (Moment::After, _, Some("blocked")) => (Hue::Bad, "blocked"),
            (Moment::After, Purpose::Disk, _) => (Hue::Own, "driver"),
            _ => (Hue::Old, "goes on"),
        };
        format!("{name}{}", self.ink(hue, &format!("{state:11}")))
    }

    fn domain_name(&self, domain: &Domain, moment: Moment) -> String {
        let name = match domain.id {
            _ if domain.pass_through => "pass-through".to_owned(),
            Some(id) => format!("domain {id}"),
            None => "a new domain".to_owned(),
        };
        let outcome = domain.outcome.as_deref().filter(|_| moment == Moment::After).unwrap_or_default();
        let hue = match outcome {
            "blocked" => Hue::Bad,
            "fenced" => Hue::Fence,
            _ => Hue::Own,
        };
        format!("{} {}", self.ink(Hue::Bold, &name), self.ink(hue, outcome))
    }

    fn mapping(&self, Row { mapping, state }: Row<'_>) -> String {
        let (hue, arrow, note) = match state {
            RowState::New => (Hue::Own, "─▶", "  the driver's"),
            RowState::InForce => (Hue::Old, "─▶", ""),
            RowState::Broken => (Hue::Bad, "─✗", ""),
        };
        let (iova, len) = (format!("{:#x}", mapping.iova.start), size(mapping.iova.len()));
        self.ink(hue, &format!("  {iova:>12} {len:>8} {arrow} {:#x}{note}", mapping.memory.start))
    }

    /// Draws memory as a bar, and the place of the tables.
    fn memory(&mut self, simulation: &Simulation, moment: Moment) {
        let bar: String = (0..CELLS).map(|cell| self.cell(simulation, cell, moment)).collect();
        self.line(&format!("  memory  {bar}"));
        let tables = &simulation.tables;
        let old = self.ink(
            Hue::Root,
            &format!("root pointer ▶ {:#x}", tables.roots[usize::from(moment == Moment::After)]),
        );
        let whose = match moment {
            Moment::After if tables.roots[0] != tables.roots[1] => {
                format!(
                    "{} of {} frames hold copies, in the capture kernel's memory (▓)",
                    tables.own, tables.budget
                )
            }
            _ => format!("{} tables, in the dead kernel's memory (░)", tables.old),
        };
        self.line(&format!("  {old}  {whose}"));
    }

    /// Draws one cell of memory: whether devices reach it, and whether it is the dead kernel's or ours.
    fn cell(&self, simulation: &Simulation, cell: u64, moment: Moment) -> String {
        let place = place_of(simulation, cell);
        let is_reached = |mapping: &Mapping| moment.is_in_force(mapping) && mapping.memory.overlaps(place);
        let mut old = simulation.domains.iter().flat_map(|domain| &domain.old);
        let is_own = simulation.reservation.overlaps(place);
        let reaches = old.any(is_reached);
        match (is_own, reaches) {
            (true, _) => self.ink(Hue::Own, "▓"),
            (false, true) => self.ink(Hue::Old, "█"),
            (false, false) => self.ink(Hue::Dim, "░"),
        }
    }

    fn steps(&mut self, simulation: &Simulation) {
        let head = self.ink(Hue::Bold, "STEPS");
        let names = columns(simulation.phases.iter().map(|phase| phase.name.to_owned()));
        self.line(&format!("\n{head}{}{names}", " ".repeat(19)));
        let lengths = columns(simulation.phases.iter().map(|phase| count(phase.steps)));
        self.line(&format!("  {:22}{lengths}", "steps of time"));
        for device in &simulation.devices {
            let met: String = device.traffic.iter().map(|traffic| self.met(traffic)).collect();
            self.line(&format!("  {:22}{met}", shortened(&device.name, 21)));
        }
        self.line("  ✓ answered as before   + the new driver's   ! fenced off   ✗ faulted   ? astray");
    }

    /// The worst that a device met in a step, in twelve columns.
    fn met(&self, traffic: &Traffic) -> String {
        let kinds = [
            (traffic.astray, Hue::Bad, '?'),
            (traffic.faulted, Hue::Bad, '✗'),
            (traffic.fenced, Hue::Fence, '!'),
            (traffic.own, Hue::Own, '+'),
            (traffic.as_before, Hue::Old, '✓'),
        ];
        let worst = kinds.into_iter().find(|(number, ..)| *number > 0);
        worst.map_or_else(
            || format!("{:>12}", "·"),
            |(number, hue, mark)| self.ink(hue, &format!("{:>12}", format!("{} {mark}", count(number)))),
        )
    }

    fn policies(&mut self, simulation: &Simulation) {
        let head = self.ink(Hue::Bold, "WHY");
        self.line(&format!("\n{head}  what the same DMA meets if the capture kernel does something else"));
        for result in &simulation.policies {
            let met = met(result);
            self.line(&format!("  {:22}{met}", result.policy.to_string()));
        }
    }

    fn remarks(&mut self, simulation: &Simulation) {
        if let Some(failure) = &simulation.failure {
            let failure = self.ink(Hue::Bad, &format!("not taken over: {failure}"));
            self.line(&format!("\n{failure}"));
        }
        if let Some(why) = simulation.without_buffer.as_ref().filter(|_| simulation.failure.is_none()) {
            let why = self.ink(Hue::Bad, &format!("no buffer for the disk's driver: {why}"));
            self.line(&format!("\n{why}"));
        }
        if !simulation.hazards.is_empty() {
            let head = self.ink(Hue::Bold, "HAZARDS");
            self.line(&format!("\n{head}"));
            simulation.hazards.iter().for_each(|hazard| self.line(&format!("  {hazard}")));
        }
    }
}

/// Puts words into columns of twelve.
fn columns(words: impl Iterator<Item = String>) -> String {
    words.map(|word| format!("{word:>12}")).collect::<Vec<_>>().concat()
}

/// The memory of a cell of the bar. The capture kernel's memory has an eighth of the cells, so that it is visible.
fn place_of(simulation: &Simulation, cell: u64) -> Range<PhysicalAddress> {
    const OWN: u64 = CELLS / 8;
    let own = simulation.reservation;
    let all: u64 = simulation.memory.iter().map(|range| range.len()).sum();
    let per_cell = (all - own.len()).div_ceil(CELLS - OWN);
    let own_cell = below(simulation, own.start) / per_cell;
    match cell {
        _ if cell < own_cell => address_range(simulation, cell * per_cell, per_cell),
        _ if cell < own_cell + OWN => own,
        _ => address_range(simulation, (cell - OWN) * per_cell + own.len(), per_cell),
    }
}

/// How many bytes of memory lie below an address.
fn below(simulation: &Simulation, address: PhysicalAddress) -> u64 {
    let below = Range::new(PhysicalAddress::default(), address);
    simulation.memory.iter().map(|range| range.intersection(below).len()).sum()
}

/// The addresses of the `len` bytes of memory after the first `offset`, as far as they are contiguous.
fn address_range(simulation: &Simulation, mut offset: u64, len: u64) -> Range<PhysicalAddress> {
    for range in &simulation.memory {
        if offset < range.len() {
            let start = range.start.saturating_add(offset);
            return Range::new(start, range.end.min(start.saturating_add(len)));
        }
        offset -= range.len();
    }
    Range::default()
}
