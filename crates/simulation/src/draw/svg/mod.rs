//! Draws the picture for a page: before and after, the steps between, and the alternatives.

mod comparison;
mod panel;
mod paper;
mod style;
mod timeline;

use paper::Paper;

use super::moment::Moment;
use super::words;
use crate::values::Simulation;

/// Width of the page, and of its margins.
const WIDTH: u32 = 1080;
const MARGIN: u32 = 32;
/// Characters in a line of the story.
const LINE: usize = 130;

/// Draws a simulation as an SVG document.
pub fn svg(simulation: &Simulation) -> String {
    let mut paper = Paper::default();
    let mut y = heading(&mut paper, simulation);
    y = panel::draw(&mut paper, simulation, Moment::Before, y);
    y = panel::draw(&mut paper, simulation, Moment::After, y + 24);
    y = timeline::draw(&mut paper, simulation, y + 28);
    y = comparison::draw(&mut paper, simulation, y + 28);
    y = remarks(&mut paper, simulation, y + 12);
    let mut page = Paper::default();
    let size = (WIDTH, y + MARGIN);
    page.rect("page", (0, 0), size, 12);
    page.append(&paper);
    page.document(size, &simulation.title, &style::style())
}

fn heading(paper: &mut Paper, simulation: &Simulation) -> u32 {
    paper.text("title", (MARGIN, 46), &words::shortened(&simulation.title, 70));
    let mut y = 52;
    for line in words::lines(&simulation.story, LINE, 4) {
        y += 20;
        paper.text("story", (MARGIN, y), &line);
    }
    y + 30
}

/// Draws hazards and failures, one line each.
fn remarks(paper: &mut Paper, simulation: &Simulation, mut y: u32) -> u32 {
    const MOST: usize = 6;
    let failures = simulation.failure.iter().chain(&simulation.without_buffer);
    let bad = failures.map(|failure| ("worse", failure));
    let hazards = simulation.hazards.iter().map(|hazard| ("code", hazard));
    for (class, words) in bad.chain(hazards).take(MOST) {
        y += 18;
        paper.text(class, (MARGIN, y), &words::shortened(words, 140));
    }
    y
}
