//! When a certificate is valid (RFC 5280 §4.1.2.5): two dates out of its DER, and nothing else of it.
//!
//! Which names it is for is the TLS library's to say; it tells no dates.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not before.
    pub from: Timestamp,
    /// Not after.
    pub until: Timestamp,
}

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The validity of a certificate; `None` for what is none.
pub fn validity(certificate: &[u8]) -> Option<Validity> {
    let (mut whole, _) = expect(certificate, SEQUENCE)?;
    let (mut signed, _) = expect(whole, SEQUENCE)?;
    whole = signed;
    if whole.first() == Some(&VERSION) {
        signed = expect(whole, VERSION)?.1;
    }
    // Serial number, algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        signed = expect(signed, tag)?.1;
    }
    let (dates, _) = expect(signed, SEQUENCE)?;
    let (from, rest) = time(dates)?;
    Some(Validity { from, until: time(rest)?.0 })
}

/// What an element with this tag holds, and what follows it.
fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        // X.690 §8.1.3.5: so many bytes hold the length; more than four are no certificate's.
        let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(d, _)| d.len() <= 4)?;
        length = digits.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn time(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (tag, text, rest) = element(bytes)?;
    let text = text.strip_suffix(b"Z")?;
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| digits.iter().fold(0_i16, |sum, digit| sum * 10 + i16::from(digit - b'0'));
    let (year, rest_of_it) = match (tag, text.len()) {
        // RFC 5280 §4.1.2.5.1: 50 to 99 is the last century.
        (UTC_TIME, 12) => {
            let year = number(&text[..2]);
            (if year >= 50 { 1900 + year } else { 2000 + year }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&text[..4]), &text[4..]),
        _ => return None,
    };
    let mut parts = rest_of_it.chunks(2).map(|two| i8::try_from(number(two)).unwrap_or(i8::MAX));
    let [month, day, hour, minute, second] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let at = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    Some((at.to_zoned(TimeZone::UTC).ok()?.timestamp(), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dated(tag: u8, text: &str) -> Option<String> {
        let mut bytes = vec![tag, u8::try_from(text.len()).expect("short")];
        bytes.extend(text.as_bytes());
        time(&bytes).map(|(at, _)| at.to_string())
    }

    #[test]
    fn both_forms_of_a_date_are_read() {
        assert_eq!(dated(UTC_TIME, "261126103000Z").as_deref(), Some("2026-11-26T10:30:00Z"));
        assert_eq!(dated(UTC_TIME, "991231235959Z").as_deref(), Some("1999-12-31T23:59:59Z"));
        assert_eq!(dated(GENERALIZED_TIME, "20500101000000Z").as_deref(), Some("2050-01-01T00:00:00Z"));
        for (tag, text) in
            [(UTC_TIME, "261326103000Z"), (UTC_TIME, "2611261030Z"), (GENERALIZED_TIME, "2050010100000xZ")]
        {
            assert_eq!(dated(tag, text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_certificate_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = validity(&bytes);
            let mut framed = vec![SEQUENCE, 0x82, 0xff, 0xff];
            framed.extend(&bytes);
            prop_assert_eq!(validity(&framed), None);
        }
    }
}
