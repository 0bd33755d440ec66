//! A list of files as lines of text, in the order of a walk, so that two lists are compared without holding either.
//!
//! `KIND SIZE SECONDS.NANOS MODE DIGEST DIR PATH`, separated by one space; the path is the rest of the line, written as
//! [`super::path::shown`] writes it. No digest is `-`.

use std::cmp::Ordering;
use std::fmt::Write as _;

use super::path;

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; it is never followed.
    Link,
    /// A socket, a pipe, a device: never opened.
    Other,
}

impl Kind {
    fn letter(self) -> char {
        match self {
            Self::File => 'f',
            Self::Directory => 'd',
            Self::Link => 'l',
            Self::Other => 'o',
        }
    }

    fn of(letter: &str) -> Option<Self> {
        [Self::File, Self::Directory, Self::Link, Self::Other]
            .into_iter()
            .find(|kind| letter == kind.letter().to_string())
    }
}

/// What the file system says of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// What it is.
    pub kind: Kind,
    /// Bytes; of a link, the length of its target.
    pub size: u64,
    /// When its content last changed: seconds since 1970 and nanoseconds.
    pub modified: (i64, u32),
    /// Permission bits.
    pub mode: u32,
}

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which of the working directories, from 0.
    pub dir: usize,
    /// The path below it.
    pub path: Vec<u8>,
    /// What the file system said of it.
    pub about: About,
    /// blake3 of the content, hexadecimal; of a link, its target as [`path::shown`] writes it.
    pub digest: Option<String>,
}

impl Line {
    /// The order of a list.
    pub fn order(&self, other: &Self) -> Ordering {
        self.dir.cmp(&other.dir).then_with(|| path::compare(&self.path, &other.path))
    }

    /// As text, with the end of the line.
    pub fn write(&self) -> String {
        let About { kind, size, modified: (seconds, nanos), mode } = self.about;
        let digest = self.digest.as_deref().unwrap_or("-").replace(' ', "%20");
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{} {size} {seconds}.{nanos:09} {mode:o} {digest} {} {}",
            kind.letter(),
            self.dir,
            path::shown(&self.path)
        );
        text
    }

    /// Reads a line, without its end.
    ///
    /// # Errors
    /// What is wrong with it: somebody else wrote it, or it was cut.
    pub fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("is no line of a list of files: {}", text.chars().take(80).collect::<String>());
        let mut parts = text.splitn(7, ' ');
        let mut part = || parts.next().ok_or_else(wrong);
        let kind = Kind::of(part()?).ok_or_else(wrong)?;
        let size = part()?.parse().map_err(|_| wrong())?;
        let (seconds, nanos) = part()?.split_once('.').ok_or_else(wrong)?;
        let modified = (seconds.parse().map_err(|_| wrong())?, nanos.parse().map_err(|_| wrong())?);
        let mode = u32::from_str_radix(part()?, 8).map_err(|_| wrong())?;
        let digest = Some(part()?).filter(|digest| *digest != "-").map(|digest| digest.replace("%20", " "));
        let dir = part()?.parse().map_err(|_| wrong())?;
        let path = path::unshown(part()?).filter(|path| !path.is_empty()).ok_or_else(wrong)?;
        Ok(Self { dir, path, about: About { kind, size, modified, mode }, digest })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_entry_is_one_line_and_is_read_back(
            path in proptest::collection::vec(any::<u8>(), 1..40), dir in 0..9_usize, size: u64, seconds: i64,
            nanos in 0..1_000_000_000_u32, mode in 0..0o10000_u32, digest in proptest::option::of("[0-9a-f]{64}"),
        ) {
            let about = About { kind: Kind::File, size, modified: (seconds, nanos), mode };
            let line = Line { dir, path, about, digest };
            let text = line.write();
            prop_assert_eq!(text.matches('\n').count(), 1);
            prop_assert_eq!(Line::read(text.trim_end_matches('\n')), Ok(line));
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = Line::read(&text);
        }
    }

    #[test]
    fn a_cut_line_is_refused() {
        let about = About { kind: Kind::Link, size: 3, modified: (-5, 7), mode: 0o777 };
        let line = Line { dir: 1, path: b"a b".to_vec(), about, digest: Some("to%20c".to_owned()) };
        let text = line.write();
        assert_eq!(text, "l 3 -5.000000007 777 to%20c 1 a b\n");
        for cut in 0..text.len() - 4 {
            assert!(Line::read(&text[..cut]).is_err(), "{cut}");
        }
    }
}
