//! Shows on the display how the dump gets on, where firmware left a framebuffer; nothing of the dump depends on it.
//!
//! A framebuffer is drawn to only behind an adapter whose base address leads to pixels whatever the dead kernel's graphics driver
//! did ([`PLAIN`]): behind that of a graphics processor there may be its page tables by now, or the dead kernel's memory. What
//! cannot be seen from here is whether a plain adapter shows other pixels of its memory.

use core::time::Duration;

use machine::{PhysicalAddress, Position, Range, rest};
use pci::Identity;
use screen::{Ink, Mode, Panel, Progress, Stage, Standing, Unusable};

use crate::discover::Machine;
use crate::platform::console::{self, say};
use crate::platform::exceptions;
use crate::platform::framebuffer::Framebuffer;
use crate::platform::paging::MapError;
use crate::platform::shared::Shared;
use crate::watchdogs::WaitClock;

/// How long a failure stays on the display before the machine is reset.
const READING: Duration = Duration::from_secs(10);
/// Base class of display adapters (PCI Code and ID Assignment specification, section 1.4).
const DISPLAY: u8 = 3;
/// Vendors of plain adapters, those of servers' management controllers and of virtual machines: they have memory of their own, and
/// nothing between it and the base address.
const PLAIN: [u16; 11] = [
    0x1013, // Cirrus Logic
    0x102B, // Matrox: G200, in management controllers of several vendors
    0x1234, // QEMU's standard adapter
    0x126F, // Silicon Motion
    0x1414, // Microsoft: Hyper-V
    0x15AD, // VMware
    0x18CA, // XGI
    0x19E5, // Huawei
    0x1A03, // ASPEED
    0x1AF4, // virtio
    0x1B36, // Red Hat: QXL
];
/// Interrupt controllers, timers and remapping units of PCs, and the firmware, are from here to 4 GiB.
const CHIPSET: Range<PhysicalAddress> =
    Range { start: PhysicalAddress::new(0xFEC0_0000), end: PhysicalAddress::new(1 << 32) };

/// The display; none where there is none, or before it was found.
static DISPLAYED: Shared<Display> = Shared::none();

struct Display {
    panel: Panel<Framebuffer>,
    standings: [Standing; Stage::ALL.len()],
}

/// Why the serial console is all there is.
#[derive(Debug, thiserror::Error)]
enum NoDisplay {
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error("the framebuffer at {0} lies over memory or registers")]
    Occupied(Range<PhysicalAddress>),
    #[error("the framebuffer at {0} belongs to no display adapter that has nothing but pixels there")]
    Nobodys(Range<PhysicalAddress>),
    #[error("the framebuffer: {0}")]
    Map(#[from] MapError),
}

/// Finds the framebuffer and shows the first stage on it.
pub(crate) fn open(machine: &mut Machine) {
    match find(machine) {
        Ok(panel) => {
            DISPLAYED.set(Display { panel, standings: [Standing::Waiting; _] });
            console::mirror(last_line);
            exceptions::before_reset(break_off);
            DISPLAYED.with(|display| display.title("Its memory is being saved."));
            begin(Stage::Discover);
        }
        Err(NoDisplay::Unusable(Unusable::Absent)) => {}
        Err(why) => say!("nothing is shown on the display: {why}"),
    }
}

/// Shows that a stage begins, and so that those before it are over.
pub(crate) fn begin(stage: Stage) {
    DISPLAYED.with(|display| display.begin(stage));
}

/// Shows that a stage failed; others may follow.
pub(crate) fn failed(stage: Stage) {
    DISPLAYED.with(|display| display.set(stage, Standing::Failed));
}

/// Shows how far the pages are.
pub(crate) fn progress(progress: Progress) {
    DISPLAYED.with(|display| display.panel.progress(progress));
}

/// Shows the console's last line.
fn last_line(text: core::fmt::Arguments<'_>) {
    DISPLAYED.with(|display| display.panel.last_line(text));
}

/// Shows that everything is done.
pub(crate) fn succeed(verdict: core::fmt::Arguments<'_>) {
    DISPLAYED.with(|display| display.end(Standing::Done, Ink::Good, verdict));
}

/// Shows why something is missing, and leaves people some time to read it.
pub(crate) fn fail(verdict: core::fmt::Arguments<'_>) {
    if DISPLAYED.with(|display| display.end(Standing::Failed, Ink::Bad, verdict)).is_some() {
        say!("the display shows this for {} s", READING.as_secs());
        rest(&WaitClock, READING);
    }
}

/// Shows why the dump ends here and now; nothing more can be done.
fn break_off(why: core::fmt::Arguments<'_>) {
    fail(format_args!(
        "THE DUMP ENDS HERE: {why}.\nFetch what was safe by now: `holdover collect`\nWhat to do: keep a picture of this display. It says more to \
         whoever mends it than the dump does."
    ));
}

impl Display {
    fn title(&mut self, what: &str) {
        let version = env!("CARGO_PKG_VERSION");
        self.panel.title(format_args!("Holdover {version}: Linux has crashed on this machine. {what}"));
    }

    fn begin(&mut self, stage: Stage) {
        for other in Stage::ALL {
            match self.standings[other as usize] {
                Standing::Doing if other < stage => self.set(other, Standing::Done),
                _ if other == stage => self.set(other, Standing::Doing),
                _ if other > stage => self.set(other, Standing::Waiting),
                _ => {}
            }
        }
    }

    /// Ends the stage that was being done, and shows the verdict.
    fn end(&mut self, standing: Standing, ink: Ink, verdict: core::fmt::Arguments<'_>) {
        for stage in Stage::ALL {
            if self.standings[stage as usize] == Standing::Doing {
                self.set(stage, standing);
            }
        }
        self.title("");
        self.panel.verdict(ink, verdict);
    }

    fn set(&mut self, stage: Stage, standing: Standing) {
        self.standings[stage as usize] = standing;
        self.panel.stage(stage, standing);
    }
}

fn find(machine: &mut Machine) -> Result<Panel<Framebuffer>, NoDisplay> {
    let mode = Mode::of_screen_info(machine.params.screen_info())?;
    let start = PhysicalAddress::new(mode.start());
    let range = Range::sized(start, mode.panel_len() as u64).ok_or(Unusable::Place(mode.start()))?;
    if machine.may_be_memory(range) || range.overlaps(CHIPSET) {
        return Err(NoDisplay::Occupied(range));
    }
    let bars = machine.devices.iter().flat_map(|device| {
        let is_plain = is_plain(device.identity());
        (0..6).filter_map(move |index| Some((device.bar(index)?, is_plain)))
    });
    if !is_of_display(range, bars) {
        return Err(NoDisplay::Nobodys(range));
    }
    Ok(Panel::new(mode, Framebuffer::map(&mut machine.space, range)?))
}

/// Whether what is behind the function's base addresses is pixels, if anything is.
fn is_plain(Identity { vendor, class, .. }: Identity) -> bool {
    class.base == DISPLAY && PLAIN.contains(&vendor)
}

/// Whether `range` can belong to a display adapter: the last base address in front of its end is one of an adapter, and in front
/// of its start. The sizes behind base addresses cannot be read without changing registers of a device at work.
fn is_of_display(range: Range<PhysicalAddress>, bars: impl Iterator<Item = (PhysicalAddress, bool)>) -> bool {
    let last = bars.filter(|(bar, _)| *bar < range.end).max_by_key(|(bar, _)| *bar);
    last.is_some_and(|(bar, is_plain)| {
        let largest = 1_u64.checked_shl(bar.get().trailing_zeros()).unwrap_or(u64::MAX);
        is_plain && bar <= range.start && range.end.count_since(bar) <= largest
    })
}

#[cfg(test)]
mod tests {
    use pci::Class;

    use super::*;

    /// The aperture of Intel's leads through a table of the graphics driver's, to whatever memory that names.
    #[test]
    fn a_graphics_processor_is_not_drawn_to() {
        let of = |vendor, base| {
            is_plain(Identity { vendor, device: 1, class: Class { base, sub: 0, interface: 0 } })
        };
        assert!(of(0x1A03, 3));
        assert!(!of(0x1A03, 6), "a bridge");
        assert!(![0x8086, 0x1002, 0x10DE].iter().any(|vendor| of(*vendor, 3)));
    }

    #[test]
    fn a_framebuffer_is_behind_a_base_address_of_a_display_adapter_and_of_nobody_else() {
        let range = Range::from(0xC000_0000..0xC010_0000);
        let is_fine = |bars: &[(u64, bool)]| {
            is_of_display(range, bars.iter().map(|&(bar, is_plain)| (bar.into(), is_plain)))
        };
        assert!(is_fine(&[(0xC000_0000, true)]));
        assert!(is_fine(&[(0xB000_0000, false), (0xC000_0000, true), (0xC010_0000, false)]));
        assert!(!is_fine(&[]));
        assert!(!is_fine(&[(0xC000_0000, false)]), "no display");
        assert!(!is_fine(&[(0xC000_0000, true), (0xC008_0000, false)]), "another's registers are inside");
        assert!(!is_fine(&[(0xC008_0000, true)]), "it begins too early");
        assert!(
            !is_fine(&[(0xBFFF_0000, true)]),
            "no base address of so little alignment has so much behind it"
        );
    }
}
