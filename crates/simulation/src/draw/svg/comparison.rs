//! Draws what devices would have met if the capture kernel had not accepted the hardware.

use super::paper::Paper;
use super::{MARGIN, WIDTH};
use crate::draw::words;
use crate::values::{PolicyResult, Simulation};

const NAMES: u32 = 176;
const BAR: u32 = 250;
const ROW: u32 = 34;

/// Draws the comparison; returns where it ends.
pub(super) fn draw(paper: &mut Paper, simulation: &Simulation, top: u32) -> u32 {
    paper.text("head", (MARGIN, top), "Why");
    paper.text(
        "sub",
        (MARGIN + 116, top),
        "What the same DMA meets if the capture kernel does something else.",
    );
    for (row, result) in simulation.policies.iter().enumerate() {
        let y = top + 18 + row as u32 * ROW;
        paper.line("rule", (MARGIN, y), (WIDTH - MARGIN, y));
        paper.text("name", (MARGIN, y + 22), &result.policy.to_string());
        draw_bar(paper, result, y + 10);
        paper.text("sub", (MARGIN + NAMES + BAR + 16, y + 22), &words::shortened(&words::met(result), 84));
    }
    top + 18 + simulation.policies.len() as u32 * ROW
}

fn draw_bar(paper: &mut Paper, result: &PolicyResult, y: u32) {
    let traffic = &result.traffic;
    let parts = [
        (traffic.as_before + traffic.own, "oldbar"),
        (traffic.fenced, "fencebar"),
        (traffic.faulted, "badbar"),
        (traffic.astray, "astraybar"),
    ];
    let all = traffic.count().max(1);
    let mut x = MARGIN + NAMES;
    for (number, class) in parts {
        let width = (number * u64::from(BAR) / all) as u32;
        paper.rect(class, (x, y), (width, 14), 2);
        x += width;
    }
}
