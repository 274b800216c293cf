//! The picture of the memory that devices could reach: a strip for each route of translation, with memory from left to right.
//!
//! It is inline SVG. Colours are classes, so that the page's style sheet decides them.

use maud::{Markup, html};

use crate::Bytes;
use crate::inspect::{Inspected, RouteView, RunView};

/// Columns of a strip: each is the same part of memory.
const COLUMNS: u64 = 600;
/// Strips that are drawn.
const STRIPS: usize = 48;
/// Devices that are named beside a strip.
const NAMES: usize = 3;
/// Sizes in the picture's own unit.
const LEFT: u64 = 200;
const RIGHT: u64 = 150;
const TOP: u64 = 26;
const PITCH: u64 = 26;
const STRIP: u64 = 16;

/// What may be done to a part of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rights {
    read: bool,
    write: bool,
}

impl Rights {
    /// The class of its colour.
    fn class(self) -> Option<&'static str> {
        match self {
            Self { write: true, .. } => Some("w"),
            Self { read: true, .. } => Some("r"),
            Self { .. } => None,
        }
    }
}

/// Neighbouring columns of the same rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Band {
    start: u64,
    len: u64,
    class: &'static str,
}

/// Draws the map; nothing without memory or routes.
pub(super) fn map(inspected: &Inspected, ram: &[(u64, u64)]) -> Option<Markup> {
    let end = ram.last().map(|(_, end)| *end).filter(|end| *end > 0)?;
    let reaches = inspected.units.iter().filter_map(|unit| unit.reach.as_ref());
    let routes: Vec<&RouteView> = reaches.flat_map(|reach| &reach.routes).collect();
    if routes.is_empty() {
        return None;
    }
    let drawn = &routes[..routes.len().min(STRIPS)];
    let bottom = TOP + PITCH * (drawn.len() as u64 + 1);
    let (width, height) = (LEFT + COLUMNS + RIGHT, bottom + 4);
    let ram_bands =
        bands(ram.iter().map(|&(start, end)| (start, end, Rights { read: true, write: false })), end);
    Some(html! {
        svg class="map" viewBox={ "0 0 " (width) " " (height) } role="img" aria-labelledby="map-title map-text" {
            title id="map-title" { "Memory that devices could reach when the kernel died" }
            desc id="map-text" {
                "One strip for each set of translation tables, memory from address 0 on the left to "
                (format!("{end:#x}")) " on the right. The table below has the same in numbers."
            }
            @for tick in 0..=4u64 {
                @let x = LEFT + COLUMNS * tick / 4;
                line class="tick" x1=(x) x2=(x) y1=(TOP - 6) y2=(bottom) {}
                text class="axis" x=(x) y="14" text-anchor=(anchor(tick)) {
                    (Bytes((u128::from(end) * u128::from(tick) / 4) as u64))
                }
            }
            @for (row, route) in drawn.iter().enumerate() {
                (strip(row as u64, &names(route), &size(route), &bands(pieces(route, end), end)))
            }
            (strip(drawn.len() as u64, "memory", "where there is RAM", &as_ram(ram_bands)))
        }
        @if routes.len() > drawn.len() {
            p class="note" { (routes.len() - drawn.len()) " more sets of tables are not drawn." }
        }
    })
}

fn anchor(tick: u64) -> &'static str {
    match tick {
        0 => "start",
        4 => "end",
        _ => "middle",
    }
}

fn strip(row: u64, name: &str, size: &str, bands: &[Band]) -> Markup {
    let y = TOP + PITCH * row;
    html! {
        text class="name" x=(LEFT - 8) y=(y + 12) text-anchor="end" { (name) }
        rect class="strip" x=(LEFT) y=(y) width=(COLUMNS) height=(STRIP) {}
        @for band in bands {
            rect class=(band.class) x=(LEFT + band.start) y=(y) width=(band.len) height=(STRIP) {}
        }
        text class="size" x=(LEFT + COLUMNS + 8) y=(y + 12) { (size) }
    }
}

fn as_ram(bands: Vec<Band>) -> Vec<Band> {
    bands.into_iter().map(|band| Band { class: "m", ..band }).collect()
}

/// Who uses a route.
fn names(route: &RouteView) -> String {
    let mut names: Vec<String> = route.users.iter().take(NAMES).map(|user| user.name.clone()).collect();
    if let Some(more) = route.users.len().checked_sub(NAMES).filter(|more| *more > 0) {
        names.truncate(NAMES - 1);
        names.push(format!("+{}", more + 1));
    }
    names.join(", ")
}

fn size(route: &RouteView) -> String {
    match route.writable_bytes {
        _ if route.translation == "pass-through" => "all of it".to_owned(),
        0 if route.readable_bytes == 0 => "nothing".to_owned(),
        0 => format!("{} r", Bytes(route.readable_bytes)),
        bytes => format!("{} w", Bytes(bytes)),
    }
}

/// The stretches of memory that a route leads to.
fn pieces(route: &RouteView, end: u64) -> impl Iterator<Item = (u64, u64, Rights)> {
    let all = Rights { read: true, write: true };
    let passes = (route.translation == "pass-through").then_some((0, end, all));
    let mapped = route.runs.iter().filter_map(|run: &RunView| {
        let start = run.physical?.0;
        let rights = run.rights.as_deref().unwrap_or_default();
        let rights = Rights { read: rights.contains('r'), write: rights.contains('w') };
        Some((start, start.saturating_add(run.bytes), rights))
    });
    passes.into_iter().chain(mapped)
}

/// Memory up to `end` as columns, of which neighbours with the same rights are one band. The smallest piece is a column wide.
fn bands(pieces: impl Iterator<Item = (u64, u64, Rights)>, end: u64) -> Vec<Band> {
    let column = |address: u64| (u128::from(address) * u128::from(COLUMNS) / u128::from(end)) as usize;
    let mut columns = [Rights::default(); COLUMNS as usize];
    for (start, piece_end, rights) in pieces.filter(|(start, piece_end, _)| start < piece_end && *start < end)
    {
        let last = column(piece_end.min(end) - 1);
        for column in columns.get_mut(column(start)..=last).unwrap_or_default() {
            column.read |= rights.read;
            column.write |= rights.write;
        }
    }
    let mut at = 0;
    let runs = columns.chunk_by(|one, other| one.class() == other.class());
    let placed = runs.filter_map(|run| {
        let (start, len) = (at, run.len() as u64);
        at += len;
        Some(Band { start, len, class: run.first()?.class()? })
    });
    placed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Rights = Rights { read: true, write: false };
    const WRITE: Rights = Rights { read: true, write: true };

    #[test]
    fn a_page_is_a_column_and_what_may_be_written_counts() {
        let end = COLUMNS * 0x10_0000;
        let drawn = bands(
            [(0, 0x1000, READ), (0x10_0000, 0x20_0000, WRITE), (0x18_0000, 0x38_0000, READ)].into_iter(),
            end,
        );
        let band = |start, len, class| Band { start, len, class };
        assert_eq!(drawn, [band(0, 1, "r"), band(1, 1, "w"), band(2, 2, "r")]);
    }

    #[test]
    fn what_is_beyond_memory_is_not_drawn() {
        let drawn =
            bands([(u64::MAX - 1, u64::MAX, WRITE), (4096, u64::MAX, READ), (9, 9, READ)].into_iter(), 8192);
        assert_eq!(drawn, [Band { start: 300, len: 300, class: "r" }]);
    }
}
