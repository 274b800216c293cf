//! Draws the machine at one moment: devices, their I/O address spaces, the remapping unit, tables, memory.

use super::paper::{Paper, Point};
use super::{MARGIN, WIDTH};
use crate::draw::moment::{MOST, Moment, Row, RowState};
use crate::draw::words;
use crate::values::{Device, Domain, Purpose, Simulation};
use machine::{PhysicalAddress, Position, Range};

/// Left edges and widths of the columns.
const DEVICES: (u32, u32) = (MARGIN + 16, 168);
const SPACES: (u32, u32) = (270, 248);
const UNIT: (u32, u32) = (574, 34);
const MEMORY: (u32, u32) = (736, WIDTH - 736 - MARGIN - 16);

/// Heights: of a row with a mapping, of the space above the rows of a domain, of a gap, of a device.
const ROW: u32 = 20;
const HEAD: u32 = 26;
const GAP: u32 = 14;
const DEVICE: u32 = 42;
/// The least height of all domains together: memory is drawn beside them.
const LEAST: u32 = 230;

/// Draws the machine; returns where the panel ends.
pub(super) fn draw(paper: &mut Paper, simulation: &Simulation, moment: Moment, top: u32) -> u32 {
    let (title, sub) = match moment {
        Moment::Before => {
            ("Before", "The kernel is dead. Its tables are in its memory, and the remapping unit uses them.")
        }
        Moment::After if simulation.failure.is_some() => {
            ("After", "The takeover gave up. Translation was never off.")
        }
        Moment::After => (
            "After",
            "The unit uses checked copies. Old translations are the same; the driver's are new, where nobody had any.",
        ),
    };
    let domains_height: u32 = simulation.domains.iter().map(|domain| height(simulation, domain) + GAP).sum();
    let body = (top + 62, domains_height.max(LEAST));
    paper.rect("card", (MARGIN, top), (WIDTH - 2 * MARGIN, body.1 + 76), 10);
    paper.text("head", (MARGIN + 16, top + 26), title);
    paper.text("sub", (MARGIN + 92, top + 26), sub);
    captions(paper, top + 50);
    let memory = Memory::new(simulation, body);
    memory.draw(paper, simulation, moment);
    let mut y = body.0 + (body.1 - domains_height) / 2;
    for (index, domain) in simulation.domains.iter().enumerate() {
        draw_domain(paper, simulation, (index, domain), moment, y, &memory);
        y += height(simulation, domain) + GAP;
    }
    draw_unit(paper, &memory, simulation, moment, body);
    top + body.1 + 76
}

fn captions(paper: &mut Paper, y: u32) {
    let captions = [
        (DEVICES.0, "DEVICES"),
        (SPACES.0, "THEIR I/O ADDRESS SPACES"),
        (UNIT.0 - 4, "IOMMU"),
        (MEMORY.0, "MEMORY"),
    ];
    for (x, words) in captions {
        paper.text("note", (x, y), words);
    }
}

fn users(simulation: &Simulation, index: usize) -> impl Iterator<Item = &Device> {
    simulation.devices.iter().filter(move |device| device.domain == Some(index))
}

/// The height of a domain. Both moments use the same heights, so that one picture can be laid over the other.
fn height(simulation: &Simulation, domain: &Domain) -> u32 {
    let index = simulation.domains.iter().position(|other| std::ptr::eq(other, domain));
    let devices = index.map_or(0, |index| users(simulation, index).count());
    let rows = HEAD + ROW * (domain.old.len().min(MOST) + domain.new.len()).max(1) as u32 + 8;
    rows.max(devices as u32 * (DEVICE + 8) - 8 * u32::from(devices > 0))
}

fn draw_domain(
    paper: &mut Paper,
    simulation: &Simulation,
    (index, domain): (usize, &Domain),
    moment: Moment,
    y: u32,
    memory: &Memory,
) {
    let height = height(simulation, domain);
    let exists = moment == Moment::After || domain.id.is_some();
    let middle = y + height / 2;
    let devices = users(simulation, index).count() as u32;
    let mut device_y = (middle + 4).saturating_sub(devices * (DEVICE + 8) / 2);
    for device in users(simulation, index) {
        draw_device(paper, device, moment, device_y);
        let from = (DEVICES.0 + DEVICES.1, device_y + DEVICE / 2);
        let is_blocked = moment == Moment::After && device.outcome.as_deref() == Some("blocked");
        if exists {
            paper.curve(if is_blocked { "badline" } else { "oldline" }, from, (SPACES.0, middle));
        }
        device_y += DEVICE + 8;
    }
    if exists {
        paper.rect("box", (SPACES.0, y), (SPACES.1, height), 6);
        draw_head(paper, domain, moment, y);
        draw_rows(paper, domain, moment, y + HEAD, memory);
    }
}

fn draw_head(paper: &mut Paper, domain: &Domain, moment: Moment, y: u32) {
    let name = match domain.id {
        _ if domain.pass_through && moment == Moment::Before => "pass-through: all of memory".to_owned(),
        _ if domain.pass_through => "pass-through, now a map".to_owned(),
        Some(id) => format!("domain {id}"),
        None => "a new domain".to_owned(),
    };
    paper.text("name", (SPACES.0 + 10, y + 18), &name);
    if let Some(outcome) = domain.outcome.as_ref().filter(|_| moment == Moment::After) {
        paper.text(class_of(outcome), (SPACES.0 + SPACES.1 - 74, y + 18), outcome);
    }
}

fn class_of(outcome: &str) -> &'static str {
    match outcome {
        "blocked" => "worse",
        "fenced" => "fenceword",
        _ => "good",
    }
}

fn draw_rows(paper: &mut Paper, domain: &Domain, moment: Moment, mut y: u32, memory: &Memory) {
    for row in moment.rows(domain) {
        draw_row(paper, row, y, memory);
        y += ROW;
    }
    let unseen = domain.old.len().saturating_sub(MOST);
    if unseen > 0 {
        paper.text("note", (SPACES.0 + 10, y + 6), &format!("and {unseen} more"));
    }
}

fn draw_row(paper: &mut Paper, Row { mapping, state }: Row<'_>, y: u32, memory: &Memory) {
    let (chip, line, dot, what) = match state {
        RowState::New => ("ownchip", "ownline", "owndot", "  new"),
        RowState::InForce => ("oldchip", "oldline", "olddot", ""),
        RowState::Broken => ("badchip", "badline", "", ""),
    };
    paper.rect(chip, (SPACES.0 + 8, y), (SPACES.1 - 16, ROW - 4), 3);
    let label = format!("{:#x}  {}{what}", mapping.iova.start, words::size(mapping.iova.len()));
    paper.text("code", (SPACES.0 + 16, y + 12), &label);
    let from = (SPACES.0 + SPACES.1 - 8, y + ROW / 2 - 2);
    match memory.place(mapping.memory) {
        Some(to) if state != RowState::Broken => {
            paper.curve(line, from, to);
            paper.dot(dot, to, 4);
        }
        Some((_, to)) => {
            let stop = (MEMORY.0 - 22, to);
            paper.curve(line, from, stop);
            paper.cross(stop);
        }
        None => {
            let stop = (UNIT.0 + UNIT.1 + 60, from.1);
            paper.curve(line, from, stop);
            paper.cross(stop);
        }
    }
}

fn draw_device(paper: &mut Paper, device: &Device, moment: Moment, y: u32) {
    let is_own = moment == Moment::After && device.purpose == Purpose::Disk;
    paper.rect(if is_own { "ownchip" } else { "chip" }, (DEVICES.0, y), (DEVICES.1, DEVICE), 6);
    paper.text("name", (DEVICES.0 + 10, y + 17), &words::shortened(&device.name, 20));
    paper.text("code", (DEVICES.0 + 10, y + 33), &device.at);
    let state = match (moment, device.purpose) {
        (Moment::After, Purpose::Disk) => "driver",
        _ => "goes on",
    };
    let is_blocked = moment == Moment::After && device.outcome.as_deref() == Some("blocked");
    let (class, state) = if is_blocked { ("worse", "blocked") } else { ("good", state) };
    paper.text(class, (DEVICES.0 + 92, y + 33), state);
}

fn draw_unit(
    paper: &mut Paper,
    memory: &Memory,
    simulation: &Simulation,
    moment: Moment,
    (y, height): (u32, u32),
) {
    paper.rect("unit", (UNIT.0, y), (UNIT.1, height), 6);
    paper.upright(
        "rootword",
        (UNIT.0 + 22, y + height / 2),
        &format!("{} mode, translation on", simulation.mode),
    );
    let from = (UNIT.0 + UNIT.1, y + height - 14);
    let [old, own] = memory.roots(simulation);
    match moment {
        Moment::Before => paper.curve("rootline", from, old),
        Moment::After if simulation.tables.roots[0] == simulation.tables.roots[1] => {
            paper.curve("rootline", from, old);
        }
        Moment::After => {
            paper.curve("staleline", from, old);
            paper.curve("rootline", from, own);
        }
    }
    paper.text("rootword", (UNIT.0 + UNIT.1 + 6, y + height + 2), "root pointer");
}

/// Memory from address zero downwards: pieces of the dead kernel's memory around the capture kernel's.
struct Memory {
    /// Addresses, top, height and owner of each piece.
    pieces: Vec<Piece>,
}

struct Piece {
    range: Range<PhysicalAddress>,
    y: u32,
    height: u32,
    is_own: bool,
}

impl Memory {
    fn new(simulation: &Simulation, (top, height): (u32, u32)) -> Self {
        let own = simulation.reservation;
        let around = simulation.memory.iter().flat_map(|ram| {
            let before = Range::new(ram.start, ram.end.min(own.start));
            let inside = ram.intersection(own);
            [(before, false), (inside, true), (Range::new(ram.start.max(own.end), ram.end), false)]
        });
        let ranges: Vec<(Range<PhysicalAddress>, bool)> =
            around.filter(|(range, _)| !range.is_empty()).collect();
        let own_height = height * 2 / 5;
        let others = ranges.len().saturating_sub(1).max(1) as u32;
        let mut y = top;
        let mut pieces = Vec::new();
        for (range, is_own) in ranges {
            let height = if is_own { own_height } else { (height - own_height) / others };
            pieces.push(Piece { range, y, height: height - 6, is_own });
            y += height;
        }
        Self { pieces }
    }

    fn draw(&self, paper: &mut Paper, simulation: &Simulation, moment: Moment) {
        for piece in &self.pieces {
            let class = match (piece.is_own, moment) {
                (false, _) => "oldram",
                (true, Moment::Before) => "ownram",
                (true, Moment::After) => "fencedram",
            };
            paper.rect(class, (MEMORY.0, piece.y), (MEMORY.1, piece.height), 4);
            let whose = if piece.is_own { "capture kernel" } else { "dead kernel" };
            let words = format!("{whose}, {}", words::size(piece.range.len()));
            paper.text("note", (MEMORY.0 + 28, piece.y + 15), &words);
        }
        self.draw_tables(paper, simulation, moment);
    }

    fn draw_tables(&self, paper: &mut Paper, simulation: &Simulation, moment: Moment) {
        let tables = &simulation.tables;
        let [old, own] = self.roots(simulation);
        let class = if moment == Moment::Before { "table" } else { "stale" };
        let is_swapped = tables.roots[0] != tables.roots[1];
        let still = if is_swapped { class } else { "table" };
        let note =
            if moment == Moment::Before { format!("{} tables", tables.old) } else { "untouched".into() };
        draw_pages(paper, old, tables.old, still, &note);
        if moment == Moment::After && is_swapped {
            draw_pages(paper, own, tables.own, "table", &format!("{} copies", tables.own));
        }
    }

    /// Where the root tables are drawn: the old one and the new one.
    fn roots(&self, simulation: &Simulation) -> [Point; 2] {
        let at = |piece: &Piece| (MEMORY.0 + 128, piece.y + piece.height / 2 + 4);
        let old = self.pieces.iter().find(|piece| piece.range.contains(simulation.tables.roots[0]));
        let own = self.pieces.iter().find(|piece| piece.is_own);
        [old, own].map(|piece| piece.map_or((MEMORY.0, 0), at))
    }

    /// Where an address is drawn; `None` if it is outside memory.
    fn place(&self, memory: Range<PhysicalAddress>) -> Option<Point> {
        let piece = self.pieces.iter().find(|piece| piece.range.contains(memory.start))?;
        let offset = u128::from(memory.start.count_since(piece.range.start));
        let room = u128::from(piece.height.saturating_sub(36));
        let y = piece.y + 26 + (offset * room / u128::from(piece.range.len())) as u32;
        Some((MEMORY.0 + 14, y))
    }
}

/// Draws pages of tables; the first is the root.
fn draw_pages(paper: &mut Paper, (x, y): Point, count: u64, class: &str, words: &str) {
    const MOST: u64 = 6;
    for index in 0..count.min(MOST) as u32 {
        let class = if index == 0 && class == "table" { "roottable" } else { class };
        paper.rect(class, (x + index * 14, y - 7), (10, 14), 2);
    }
    paper.text("note", (x + MOST as u32 * 14 + 6, y + 4), words);
}
