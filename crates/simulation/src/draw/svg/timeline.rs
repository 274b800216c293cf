//! Draws the steps of the takeover, and the answers that devices got in each.

use super::paper::Paper;
use super::{MARGIN, WIDTH};
use crate::draw::words;
use crate::values::{Device, Simulation, Traffic};

/// Width of the names.
const NAMES: u32 = 176;
const ROW: u32 = 30;
/// The most marks in a step, and the distance between two.
const MARKS: u64 = 18;

/// Draws the steps; returns where they end.
pub(super) fn draw(paper: &mut Paper, simulation: &Simulation, top: u32) -> u32 {
    paper.text("head", (MARGIN, top), "The steps");
    paper.text(
        "sub",
        (MARGIN + 116, top),
        "Marks stand for the DMA of each device while a step lasts: an even row is what nobody disturbed.",
    );
    let column = (WIDTH - 2 * MARGIN - NAMES) / simulation.phases.len().max(1) as u32;
    let left = |index: usize| MARGIN + NAMES + index as u32 * column;
    for (index, phase) in simulation.phases.iter().enumerate() {
        paper.text("name", (left(index), top + 28), phase.name);
        paper.text("note", (left(index), top + 44), &format!("{} steps", words::count(phase.steps)));
        for (line, words) in words::lines(phase.what, 20, 4).iter().enumerate() {
            paper.text("note", (left(index), top + 60 + line as u32 * 14), words);
        }
    }
    let first = top + 118;
    let busiest = simulation.devices.iter().flat_map(|device| rates(simulation, device)).max().unwrap_or(1);
    for (row, device) in simulation.devices.iter().enumerate() {
        let y = first + row as u32 * ROW;
        paper.line("rule", (MARGIN, y), (WIDTH - MARGIN, y));
        paper.text("name", (MARGIN, y + 20), &words::shortened(&device.name, 20));
        for (index, (traffic, rate)) in device.traffic.iter().zip(rates(simulation, device)).enumerate() {
            let marks = (rate * MARKS).div_ceil(busiest.max(1));
            draw_marks(paper, traffic, marks, (left(index), y + 8), column - 14);
        }
    }
    first + simulation.devices.len() as u32 * ROW
}

/// How often a device did DMA in each step, per million steps of time.
fn rates<'a>(simulation: &'a Simulation, device: &'a Device) -> impl Iterator<Item = u64> + 'a {
    device.traffic.iter().zip(&simulation.phases).map(|(traffic, phase)| {
        (traffic.count() - traffic.own) * 1_000_000 / phase.steps.max(1) + traffic.own * 10_000
    })
}

/// Draws marks next to each other, a share of each kind.
fn draw_marks(paper: &mut Paper, traffic: &Traffic, marks: u64, (x, y): (u32, u32), width: u32) {
    let kinds = [
        (traffic.as_before, "oldtick"),
        (traffic.fenced, "fencetick"),
        (traffic.faulted, "badtick"),
        (traffic.astray, "astraytick"),
        (traffic.own, "owntick"),
    ];
    let count = traffic.count().max(1);
    let step = width / MARKS as u32;
    for mark in 0..marks.min(MARKS) {
        let mut reached = (mark * count + count / 2) / marks.max(1);
        let kind = kinds.iter().find(|(number, _)| {
            let here = reached < *number;
            reached = reached.saturating_sub(*number);
            here
        });
        let at = x + (mark * u64::from(width) / marks.max(1)) as u32 + step / 2;
        paper.line(kind.map_or("oldtick", |(_, class)| class), (at, y), (at, y + 14));
    }
}
