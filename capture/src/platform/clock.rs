//! The clock: reads the processor's time-stamp counter, and finds out how fast it counts.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use capture::platform::frequency::{FASTEST, first_plausible, told_by_cpuid};
use machine::Clock;
use x86_64::instructions::port::Port;

use crate::platform::processor::cpuid;

/// Counts per millisecond. Before calibration this assumes a fast processor, so that waits are too long rather than too
/// short.
static COUNTS_PER_MS: AtomicU64 = AtomicU64::new(FASTEST);
/// The counter when this kernel started.
static START: AtomicU64 = AtomicU64::new(0);

/// The power-management timer's counts in a second (ACPI 6.5, section 4.8.3.3).
const PM_TIMER_HZ: u64 = 3_579_545;
/// The interval timer's counts in a second (Intel 8254).
const PIT_HZ: u64 = 1_193_182;
/// Milliseconds for which the calibration watches a known timer.
const CALIBRATION_MS: u64 = 4;
/// More polls than any timer needs to count [`CALIBRATION_MS`]: each takes at least 0.1 µs, on real hardware 1 µs.
const CALIBRATION_POLLS: u32 = 1_000_000;
/// More counts than pass meanwhile. A million polls of a timer that does not exist take a second, these counts some 30 ms.
const CALIBRATION_COUNTS: u64 = 2 * FASTEST * CALIBRATION_MS;

/// The time since this kernel started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tsc;

impl Clock for Tsc {
    fn now(&self) -> Duration {
        let counts = counter().saturating_sub(START.load(Ordering::Relaxed));
        let per_ms = COUNTS_PER_MS.load(Ordering::Relaxed);
        Duration::from_millis(counts / per_ms) + Duration::from_nanos(counts % per_ms * 1_000_000 / per_ms)
    }
}

/// Starts to count.
pub(crate) fn start() {
    START.store(counter(), Ordering::Relaxed);
}

/// Measures how fast the counter counts, and returns the name of the source; `pm_timer` is the I/O port of ACPI's timer.
pub(crate) fn calibrate(pm_timer: Option<u16>) -> &'static str {
    let by_cpuid = || told_by_cpuid(cpuid);
    let by_pm_timer = || pm_timer.and_then(against_pm_timer);
    let sources: [(&dyn Fn() -> _, _); 3] =
        [(&by_cpuid, "CPUID"), (&by_pm_timer, "ACPI timer"), (&against_pit, "8254 timer")];
    let (rate, source) = first_plausible(sources).unwrap_or((FASTEST, "nothing: assuming 8 GHz"));
    COUNTS_PER_MS.store(rate, Ordering::Relaxed);
    source
}

/// Counts while ACPI's timer, of which the lower 24 bits exist everywhere, passes [`CALIBRATION_MS`].
fn against_pm_timer(port: u16) -> Option<u64> {
    let mut timer = Port::<u32>::new(port);
    // SAFETY: reads ACPI's timer, which has no side effect.
    let mut read = || unsafe { timer.read() } & 0xFF_FFFF;
    let first = read();
    let wanted = (PM_TIMER_HZ * CALIBRATION_MS / 1000) as u32;
    let start = counter();
    let passed = polls_from(start)
        .map(|()| read().wrapping_sub(first) & 0xFF_FFFF)
        .find(|&passed| passed >= wanted)?;
    Some((counter() - start) * PM_TIMER_HZ / (u64::from(passed) * 1000))
}

/// Counts while channel 2 of the 8254, whose output port 61h shows in bit 5, counts down [`CALIBRATION_MS`].
fn against_pit() -> Option<u64> {
    let mut control = Port::<u8>::new(0x61);
    let mut mode = Port::<u8>::new(0x43);
    let mut channel = Port::<u8>::new(0x42);
    let [low, high, ..] = (PIT_HZ * CALIBRATION_MS / 1000).to_le_bytes();
    // SAFETY: these ports reach the 8254 and its gate, which do not touch memory; nobody else uses them any more.
    unsafe {
        let gate = control.read() & !0x03;
        control.write(gate | 0x01); // gate on, speaker off
        mode.write(0xB0u8); // channel 2, both bytes, mode 0: output rises when the count ends
        channel.write(low);
        channel.write(high);
    }
    let start = counter();
    // SAFETY: as above.
    polls_from(start).find(|()| unsafe { control.read() } & 0x20 != 0)?;
    Some((counter() - start) / CALIBRATION_MS)
}

/// The polls of a timer that is watched since the counter was at `start`.
fn polls_from(start: u64) -> impl Iterator<Item = ()> {
    (0..CALIBRATION_POLLS).take_while(move |_| counter().wrapping_sub(start) < CALIBRATION_COUNTS).map(|_| ())
}

fn counter() -> u64 {
    // SAFETY: every x86-64 processor has the counter, and CR4.TSD matters to user mode only.
    unsafe { _rdtsc() }
}
