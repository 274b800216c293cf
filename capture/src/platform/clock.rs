//! The clock: reads the processor's time-stamp counter, and finds out how fast it counts.

use core::arch::x86_64::{__cpuid, _rdtsc};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use machine::Clock;
use x86_64::instructions::port::Port;

/// Counts per millisecond. Before calibration this assumes a fast processor, so that waits are too long rather than too
/// short.
static COUNTS_PER_MS: AtomicU64 = AtomicU64::new(FASTEST);
/// The counter when this kernel started.
static START: AtomicU64 = AtomicU64::new(0);

/// Counts per millisecond of a processor that is faster than any real one.
const FASTEST: u64 = 8_000_000;
/// The range of plausible calibrations, in counts per millisecond: 100 MHz to 8 GHz.
const PLAUSIBLE: core::ops::RangeInclusive<u64> = 100_000..=FASTEST;

/// The power-management timer's counts in a second (ACPI 6.5, section 4.8.3.3).
const PM_TIMER_HZ: u64 = 3_579_545;
/// The interval timer's counts in a second (Intel 8254).
const PIT_HZ: u64 = 1_193_182;
/// Milliseconds for which the calibration watches a known timer.
const CALIBRATION_MS: u64 = 4;
/// More polls than any timer needs to count [`CALIBRATION_MS`]: each takes at least 0.1 µs, on real hardware 1 µs.
const CALIBRATION_POLLS: u32 = 1_000_000;

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
    let by_pm_timer = || pm_timer.and_then(against_pm_timer);
    let (rate, source) =
        [(from_cpuid(), "CPUID"), (by_pm_timer(), "ACPI timer"), (against_pit(), "8254 timer")]
            .into_iter()
            .find_map(|(rate, source)| Some((rate.filter(|rate| PLAUSIBLE.contains(rate))?, source)))
            .unwrap_or((FASTEST, "nothing: assuming 8 GHz"));
    COUNTS_PER_MS.store(rate, Ordering::Relaxed);
    source
}

/// Counts per millisecond from CPUID leaf 15h (Intel SDM volume 3, section 18.7.3): crystal clock times a ratio.
fn from_cpuid() -> Option<u64> {
    if __cpuid(0).eax < 0x15 {
        return None;
    }
    let leaf = __cpuid(0x15);
    let (denominator, numerator, crystal_hz) =
        (u64::from(leaf.eax), u64::from(leaf.ebx), u64::from(leaf.ecx));
    (crystal_hz * numerator).checked_div(denominator * 1000).filter(|&rate| rate != 0)
}

/// Counts while ACPI's timer, of which the lower 24 bits exist everywhere, passes [`CALIBRATION_MS`].
fn against_pm_timer(port: u16) -> Option<u64> {
    let mut timer = Port::<u32>::new(port);
    // SAFETY: reads ACPI's timer, which has no side effect.
    let mut read = || unsafe { timer.read() } & 0xFF_FFFF;
    let first = read();
    let wanted = (PM_TIMER_HZ * CALIBRATION_MS / 1000) as u32;
    let start = counter();
    let passed = (0..CALIBRATION_POLLS)
        .map(|_| read().wrapping_sub(first) & 0xFF_FFFF)
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
    (0..CALIBRATION_POLLS).find(|_| unsafe { control.read() } & 0x20 != 0)?;
    Some((counter() - start) / CALIBRATION_MS)
}

fn counter() -> u64 {
    // SAFETY: every x86-64 processor has the counter, and CR4.TSD matters to user mode only.
    unsafe { _rdtsc() }
}
