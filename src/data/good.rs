//! The last survey that passed, as a file: so that a robot that is started again still knows what was so before.
//!
//! Only what the gate compares with is kept: the files of configuration. A file that does not read is no file.

use std::fmt::Write as _;

use super::path::{shown, unshown};
use super::survey::{Fault, Kept, Place, Survey};

/// The first line; another version is another file.
const HEAD: &str = "pbx-failover working directory 1";

/// By which rules a survey was made that is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookedBy {
    /// Those that were asked for.
    TheseRules,
    /// Others: it may hold files that these pass over or class otherwise, and lack some.
    OtherRules,
}

/// As text. `rules`: those by which the working directories were looked at.
pub fn write(survey: &Survey, dirs: &[&[u8]], rules: &str) -> String {
    let mut text = format!("{HEAD}\n");
    for one in dirs.iter().chain([&rules.as_bytes()]) {
        let _ = writeln!(text, "about {}", shown(one));
    }
    for (place, kept) in &survey.kept {
        let fault = match &kept.fault {
            None => "-".to_owned(),
            Some(Fault::Empty) => "empty".to_owned(),
            Some(Fault::Nul) => "nul".to_owned(),
            Some(Fault::Malformed(why)) => format!("malformed {}", shown(why.as_bytes())),
        };
        let end = if kept.ends_within_line { "within" } else { "at" };
        let path = shown(&place.path).replace(' ', "%20");
        let _ = writeln!(text, "{} {} {} {end} {path} {fault}", place.dir, kept.size, kept.changed);
    }
    let _ = writeln!(text, "end {}", survey.kept.len());
    text
}

/// Reads it; `None` where it is damaged, of another version or about other directories.
pub fn read(text: &str, dirs: &[&[u8]], rules: &str) -> Option<(Survey, LookedBy)> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    if lines.next()? != HEAD {
        return None;
    }
    let mut about = || unshown(lines.next()?.strip_prefix("about ")?);
    for dir in dirs {
        if about()? != *dir {
            return None;
        }
    }
    let looked_by = if about()? == rules.as_bytes() { LookedBy::TheseRules } else { LookedBy::OtherRules };
    let mut survey = Survey::default();
    for line in lines.by_ref() {
        if let Some(count) = line.strip_prefix("end ") {
            let whole = count.parse() == Ok(survey.kept.len()) && lines.next().is_none();
            return whole.then_some((survey, looked_by));
        }
        let (place, kept) = entry(line)?;
        survey.keep(place, kept);
    }
    None
}

fn entry(line: &str) -> Option<(Place, Kept)> {
    let mut parts = line.splitn(6, ' ');
    let mut part = || parts.next();
    let dir = part()?.parse().ok()?;
    let (size, changed) = (part()?.parse().ok()?, part()?.parse().ok()?);
    let ends_within_line = match part()? {
        "within" => true,
        "at" => false,
        _ => return None,
    };
    let path = unshown(part()?)?;
    let fault = match part()? {
        "-" => None,
        "empty" => Some(Fault::Empty),
        "nul" => Some(Fault::Nul),
        other => Some(Fault::Malformed(String::from_utf8(unshown(other.strip_prefix("malformed ")?)?).ok()?)),
    };
    Some((Place { dir, path }, Kept { size, changed, fault, ends_within_line }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey() -> Survey {
        let mut survey = Survey::default();
        let at = "2026-11-26T03:00:00.123456789Z".parse().expect("a time");
        let faults =
            [None, Some(Fault::Empty), Some(Fault::Nul), Some(Fault::Malformed("line 2:\n 100% wrong".into()))];
        for (n, fault) in faults.into_iter().enumerate() {
            let path = [b"a b\n%\xff/" as &[u8], &[b'0' + u8::try_from(n).expect("small")]].concat();
            let kept = Kept { size: 7, changed: at, fault, ends_within_line: n % 2 == 0 };
            survey.keep(Place { dir: n % 2, path }, kept);
        }
        survey
    }

    #[test]
    fn what_was_written_is_read_again_whatever_the_names() {
        let dirs: [&[u8]; 2] = [b"/var/lib/a b", b"/var/lib/\xff\n"];
        let text = write(&survey(), &dirs, "rules");
        assert_eq!(read(&text, &dirs, "rules"), Some((survey(), LookedBy::TheseRules)), "{text}");
        assert_eq!(read(&text, &dirs, "others"), Some((survey(), LookedBy::OtherRules)));
        assert_eq!(read(&text, &dirs[..1], "rules"), None, "about other directories");
        assert_eq!(read(&text, &[dirs[0], dirs[1], b"/c"], "rules"), None, "about other directories");
    }

    #[test]
    fn a_file_that_was_cut_anywhere_is_no_file() {
        let text = write(&survey(), &[b"/a"], "");
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            assert_eq!(read(&text[..end], &[b"/a"], ""), None, "cut at {end}");
        }
        assert_eq!(read(&format!("{text}x\n"), &[b"/a"], ""), None);
    }
}
