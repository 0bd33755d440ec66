//! Durations as people write them: `500ms`, `5s`, `2m`, `1h`, `1m30s`.
//!
//! Only whole numbers; a bare number is refused, because nobody can see whether it means seconds. `0s` is written
//! with a unit as well.

use std::time::Duration;

/// The longest duration that makes sense anywhere here; a longer one is a slip of the pen.
pub const DURATION_MAX: Duration = Duration::from_hours(30 * 24);

/// Units with their milliseconds, in the order in which they may follow each other.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads a duration; `Err` says what is wrong, without quoting the text.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    if text.starts_with(['-', '+']) {
        return Err("has a sign");
    }
    let mut rest = text;
    let mut total_ms: u64 = 0;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at(letters);
        if number.is_empty() {
            return Err("is no duration");
        }
        if unit.is_empty() {
            return Err(if after.is_empty() { "has no unit" } else { "is no duration" });
        }
        let Some(index) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err("has an unknown unit");
        };
        if index < next_unit {
            return Err("has its units in the wrong order");
        }
        next_unit = index + 1;
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(UNITS[index].1));
        total_ms = part.and_then(|ms| total_ms.checked_add(ms)).ok_or("is far too long")?;
        rest = after;
    }
    if text.is_empty() {
        return Err("is empty");
    }
    Ok(Duration::from_millis(total_ms))
}

/// Writes a duration as this file would have it.
pub fn text(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, size) in UNITS {
        if rest >= size {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (written, ms) in
            [("500ms", 500), ("5s", 5000), ("2m", 120_000), ("1h", 3_600_000), ("1m30s", 90_000), ("0s", 0)]
        {
            assert_eq!(parse(written), Ok(Duration::from_millis(ms)), "{written}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_reason() {
        for (written, why) in [
            ("5", "has no unit"),
            ("", "is empty"),
            ("-5s", "has a sign"),
            ("5 s", "is no duration"),
            ("1.5s", "is no duration"),
            ("5sec", "has an unknown unit"),
            ("5S", "has an unknown unit"),
            ("5s1m", "has its units in the wrong order"),
            ("5s5s", "has its units in the wrong order"),
            ("99999999999999999999h", "is far too long"),
            ("9999999999999999h", "is far too long"),
            ("s", "is no duration"),
        ] {
            assert_eq!(parse(written), Err(why), "{written:?}");
        }
    }

    #[test]
    fn a_duration_is_written_as_it_is_read() {
        for written in ["500ms", "5s", "1m30s", "1h", "2d3h", "0s"] {
            assert_eq!(text(parse(written).expect("good")), written);
        }
    }
}
