//! Patterns of paths, as `failover.yaml` has them.

use std::fmt;

/// A pattern of paths below a working directory.
///
/// `*` and `?` stop at a `/`, `**` does not, `[a-z]` and `{a,b}` are as in a shell. Without a `/` it is about the name of
/// a file in any directory; with one, about the whole path. With a `/` at its end it is about all that lies below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    glob: String,
    about: About,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Name,
    Path,
}

/// A longer one is a mistake.
const BYTES_MAX: usize = 1000;

impl Pattern {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, to be followed by what to write.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() || text == "/" {
            return Err("is empty".to_owned());
        }
        if text.len() > BYTES_MAX || text.contains('\0') {
            return Err(format!("is no pattern of a path (at most {BYTES_MAX} bytes)"));
        }
        if text.starts_with('!') {
            return Err("begins with !: what is meant must be named, not what is not".to_owned());
        }
        if text.split('/').any(|part| part == "..") {
            return Err("leads out of the working directory (..)".to_owned());
        }
        fast_glob::validate(text).map_err(|error| format!("is no pattern: {error}"))?;
        let inside = text.strip_prefix('/').unwrap_or(text);
        let about = if inside.contains('/') || inside.len() < text.len() { About::Path } else { About::Name };
        let glob = if inside.ends_with('/') { format!("{inside}**") } else { inside.to_owned() };
        Ok(Self { text: text.to_owned(), glob, about })
    }

    /// Whether this path is meant.
    pub fn matches(&self, path: &[u8]) -> bool {
        let subject = match self.about {
            About::Path => path,
            About::Name => path.rsplit(|byte| *byte == b'/').next().unwrap_or(path),
        };
        fast_glob::glob_match(&self.glob, subject)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::new(pattern).expect("a pattern").matches(path.as_bytes())
    }

    #[test]
    fn a_name_is_meant_in_any_directory_and_a_path_only_where_it_says() {
        assert!(matches("*.call", "spool/outgoing/1.call") && matches("*.call", "1.call"));
        assert!(matches("spool/outgoing/*", "spool/outgoing/1.call"));
        assert!(!matches("spool/outgoing/*", "spool/outgoing/sub/1.call"));
        assert!(matches("spool/outgoing/", "spool/outgoing/sub/1.call"));
        assert!(!matches("spool/outgoing/", "spool/outgoing"));
        assert!(!matches("outgoing/*", "spool/outgoing/1.call"), "a path begins at the working directory");
        assert!(matches("**/outgoing/*", "spool/outgoing/1.call"));
        assert!(matches("/*.conf", "pjsip.conf") && !matches("/*.conf", "sub/pjsip.conf"));
        assert!(matches("*.{wav,gsm}", "voicemail/a.gsm") && !matches("*.{wav,gsm}", "a.txt"));
    }

    #[test]
    fn a_name_that_is_no_utf_8_is_matched_too() {
        assert!(Pattern::new("*.call").expect("a pattern").matches(b"out/\xff\xfe.call"));
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        for (text, said) in [
            ("", "is empty"),
            ("/", "is empty"),
            ("!*.conf", "begins with !"),
            ("../other", "leads out"),
            ("a{b", "is no pattern"),
            ("a[b", "is no pattern"),
        ] {
            let refused = Pattern::new(text).expect_err(text);
            assert!(refused.starts_with(said), "{text}: {refused}");
        }
    }
}
