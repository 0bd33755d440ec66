//! Paths as bytes: their order on disk, and how people see them.

use std::cmp::Ordering;
use std::fmt::Write as _;

/// The order in which a walk meets two paths: directory by directory, names by their bytes. A directory comes right
/// before what it holds, so that two walks can be compared while they run.
pub fn compare(one: &[u8], other: &[u8]) -> Ordering {
    one.split(|byte| *byte == b'/').cmp(other.split(|byte| *byte == b'/'))
}

/// For people, and for one line of a file: UTF-8 stays, controls, `%` and what is no UTF-8 are written `%0A`.
pub fn shown(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            // The two separators end a line for some readers.
            if c.is_control() || c == '%' || matches!(c, '\u{2028}' | '\u{2029}') {
                let mut bytes = [0; 4];
                escape(&mut text, c.encode_utf8(&mut bytes).as_bytes());
            } else {
                text.push(c);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

fn escape(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "%{byte:02X}");
    }
}

/// Reads what [`shown`] wrote; `None` for an escape that is none.
pub fn unshown(text: &str) -> Option<Vec<u8>> {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        if *byte == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
            path.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            path.push(*byte);
            rest = after;
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_directory_comes_right_before_what_it_holds() {
        let mut paths: Vec<&[u8]> = vec![b"a.conf", b"a/z", b"a", b"a-b", b"a/b/c", b"a/b"];
        paths.sort_by(|one, other| compare(one, other));
        assert_eq!(paths, [&b"a"[..], b"a/b", b"a/b/c", b"a/z", b"a-b", b"a.conf"]);
    }

    #[test]
    fn what_people_see_stays_on_one_line() {
        assert_eq!(shown("voicemail/Ärger/msg 1.wav".as_bytes()), "voicemail/Ärger/msg 1.wav");
        assert_eq!(shown(b"a\nb\x1b[31m\xffc%"), "a%0Ab%1B[31m%FFc%25");
        assert_eq!(unshown("%G0"), None);
        assert_eq!(unshown("a%4"), None);
        assert_eq!(unshown("a%+1"), None);
    }

    proptest! {
        #[test]
        fn every_path_can_be_read_back(path: Vec<u8>) {
            let text = shown(&path);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(unshown(&text), Some(path));
        }
    }
}
