//! The times of QEMU's trace, since 1970.

use std::time::Duration;

/// `1795330636.217867`
pub(super) fn of_seconds(stamp: &str) -> Option<Duration> {
    let (seconds, micros) = stamp.split_once('.')?;
    Some(Duration::from_secs(seconds.parse().ok()?) + Duration::from_micros(micros.parse().ok()?))
}

/// `2026-11-30T10:13:36.414730Z`
pub(super) fn of_date(stamp: &str) -> Option<Duration> {
    let (date, time) = stamp.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    let (time, micros) = time.split_once('.')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let seconds = ((days(year, month, day)? * 24 + hour) * 60 + minute) * 60 + second;
    Some(Duration::from_secs(seconds) + Duration::from_micros(micros.parse().ok()?))
}

fn numbers<const N: usize>(text: &str, between: char) -> Option<[u64; N]> {
    let numbers: Option<Vec<_>> = text.split(between).map(|number| number.parse().ok()).collect();
    numbers?.try_into().ok()
}

/// Days from the first one of 1970 to a date of the Gregorian calendar. Years are counted from March, so that leap days come last.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    const TO_1970: u64 = 719_468;
    let year = if month <= 2 { year - 1 } else { year };
    let of_months = (153 * ((month + 9) % 12) + 2) / 5;
    (year * 365 + year / 4 - year / 100 + year / 400 + of_months + day).checked_sub(TO_1970 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_times_are_read() {
        let at = Duration::new(1_796_033_616, 414_730_000);
        assert_eq!(of_date("2026-11-30T10:13:36.414730Z"), Some(at));
        assert_eq!(of_seconds("1796033616.414730"), Some(at));
        assert_eq!(of_date("1970-01-01T00:00:00.000001Z"), Some(Duration::from_micros(1)));
        assert_eq!(of_date("2028-02-29T00:00:00.000000Z"), Some(Duration::from_secs(1_835_395_200)));
    }

    #[test]
    fn other_words_are_no_time() {
        for words in ["Z", "2026-11-30Z", "2026-11T10:13:36.000000Z", "1900-01-01T00:00:00.000000Z", "x.y"] {
            assert_eq!((of_date(words), of_seconds(words)), (None, None), "{words}");
        }
    }
}
