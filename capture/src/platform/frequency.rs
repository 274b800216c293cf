//! Decides how fast the time-stamp counter counts: what the processor says of it, and which of several sources is believed.

use core::arch::x86_64::CpuidResult;

/// Counts per millisecond of a processor that is faster than any real one.
pub const FASTEST: u64 = 8_000_000;
/// The range of plausible rates, in counts per millisecond: 100 MHz to 8 GHz.
const PLAUSIBLE: core::ops::RangeInclusive<u64> = 100_000..=FASTEST;

/// The first plausible rate, in counts per millisecond, and the name of its source. The sources are asked one by one: to
/// watch a timer takes time.
pub fn first_plausible<'a>(
    sources: impl IntoIterator<Item = (&'a dyn Fn() -> Option<u64>, &'static str)>,
) -> Option<(u64, &'static str)> {
    sources.into_iter().find_map(|(ask, name)| Some((ask().filter(|rate| PLAUSIBLE.contains(rate))?, name)))
}

/// Counts per millisecond by CPUID (Intel SDM volume 3, section 18.7.3): leaf 15h has the crystal's clock and the ratio of the
/// counter to it. Where the clock is not told, the counter runs at the processor's base frequency, which leaf 16h has.
///
/// `cpuid(leaf)` is zero beyond the highest leaf. A hypervisor can hand leaf 16h through and scale the counter, so that
/// leaf is not believed there.
pub fn told_by_cpuid(cpuid: impl Fn(u32) -> CpuidResult) -> Option<u64> {
    const HYPERVISOR: u32 = 1 << 31;
    let CpuidResult { eax: denominator, ebx: numerator, ecx: crystal_hz, .. } = cpuid(0x15);
    if denominator == 0 || numerator == 0 {
        return None;
    }
    if crystal_hz != 0 {
        let counts = u128::from(crystal_hz) * u128::from(numerator);
        return u64::try_from(counts / (u128::from(denominator) * 1000)).ok();
    }
    let base_mhz = u64::from(cpuid(0x16).eax & 0xFFFF);
    (cpuid(1).ecx & HYPERVISOR == 0 && base_mhz != 0).then_some(base_mhz * 1000)
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    /// A processor with these leaves 15h (ratio's denominator and numerator, crystal's clock), 16h and 1.
    fn told(ratio: (u32, u32, u32), base_mhz: u32, features: u32) -> Option<u64> {
        told_by_cpuid(|leaf| match leaf {
            0x15 => CpuidResult { eax: ratio.0, ebx: ratio.1, ecx: ratio.2, edx: 0 },
            0x16 => CpuidResult { eax: base_mhz, ebx: 0, ecx: 0, edx: 0 },
            1 => CpuidResult { eax: 0, ebx: 0, ecx: features, edx: 0 },
            _ => CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 },
        })
    }

    #[test]
    fn the_crystals_clock_times_the_ratio_is_the_rate() {
        assert_eq!(told((2, 168, 25_000_000), 0, 0), Some(2_100_000));
        assert_eq!(
            told((1, u32::MAX, u32::MAX), 0, 0),
            Some(u64::from(u32::MAX) * u64::from(u32::MAX) / 1000)
        );
    }

    #[test]
    fn without_the_crystals_clock_the_base_frequency_is_the_rate_but_not_of_a_hypervisor() {
        assert_eq!(told((2, 216, 0), 2700, 0), Some(2_700_000));
        assert_eq!(told((2, 216, 0), 2700, 1 << 31), None);
        assert_eq!(told((2, 216, 0), 0, 0), None);
    }

    #[test]
    fn a_processor_that_tells_no_ratio_tells_nothing() {
        assert_eq!(told((0, 0, 0), 2700, 0), None);
        assert_eq!(told((0, 84, 24_000_000), 2700, 0), None);
        assert_eq!(told((2, 0, 24_000_000), 2700, 0), None);
    }

    /// Each timer that is watched in vain can cost a second.
    #[test]
    fn no_source_is_asked_after_a_plausible_one() {
        let asked = Cell::new(0);
        let ask = |rate| {
            let asked = &asked;
            move || {
                asked.set(asked.get() + 1);
                rate
            }
        };
        let (zero, none, good) = (ask(Some(0)), ask(None), ask(Some(2_000_000)));
        let all: [(&dyn Fn() -> Option<u64>, _); 4] =
            [(&zero, "zero"), (&none, "none"), (&good, "good"), (&good, "late")];
        assert_eq!(first_plausible(all), Some((2_000_000, "good")));
        assert_eq!(asked.get(), 3);
        assert_eq!(first_plausible([(&ask(Some(FASTEST + 1)) as &dyn Fn() -> _, "fast")]), None);
    }
}
