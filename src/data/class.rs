//! What a file is: configuration, voicemail, a recording, a call record, or other.
//!
//! By rules, the first that fits counts: those of `failover.yaml`, then those for the PBXs that we know.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::pattern::Pattern;

/// What a file is to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Messages that callers left.
    Voicemail,
    /// Recorded calls.
    Recording,
    /// Records of calls, for bills and statistics.
    Cdr,
    /// What the PBX is told to do.
    Config,
    /// Anything else.
    Other,
}

impl Class {
    /// Every class, in the order in which they are shown.
    pub const ALL: [Self; 5] = [Self::Voicemail, Self::Recording, Self::Cdr, Self::Config, Self::Other];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Voicemail => "voicemail",
            Self::Recording => "recording",
            Self::Cdr => "cdr",
            Self::Config => "config",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where the PBXs that we know keep what: Asterisk and FreePBX (spool, monitor, cdr-csv), FreeSWITCH (storage,
/// recordings, cdr-csv), Vodia (recordings, cdr).
const KNOWN: [(Class, &[&str]); 4] = [
    (
        Class::Voicemail,
        // FreeSWITCH lists the messages in a database of its own: an older one would hide newer messages.
        &["**/voicemail/**", "voicemail/**", "**/mailbox/**", "**/voicemail*.{db,sqlite,sqlite3}"],
    ),
    (Class::Recording, &["**/monitor/**", "**/recordings/**", "**/recording/**", "**/meetme/**"]),
    (
        Class::Cdr,
        &["**/cdr-csv/**", "**/cdr-custom/**", "**/cel-custom/**", "**/cdr/**", "**/*cdr*.{csv,db,sqlite,sqlite3}"],
    ),
    (Class::Config, &["*.{conf,cfg,ini,xml,json,yaml,yml,toml,ael,lua,inc}"]),
];

/// The rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    rules: Vec<(Class, Pattern)>,
}

impl Default for Classes {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Classes {
    /// These rules first, then those for the PBXs that we know.
    pub fn new(own: Vec<(Class, Pattern)>) -> Self {
        let known = KNOWN.iter().flat_map(|(class, patterns)| {
            patterns.iter().filter_map(|pattern| Pattern::new(pattern).ok().map(|pattern| (*class, pattern)))
        });
        Self { rules: own.into_iter().chain(known).collect() }
    }

    /// What the file at this path is.
    pub fn of(&self, path: &[u8]) -> Class {
        let fits = self.rules.iter().find(|(_, pattern)| pattern.matches(path));
        fits.map_or(Class::Other, |(class, _)| *class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_rule_is_a_pattern() {
        let rules: usize = KNOWN.iter().map(|(_, patterns)| patterns.len()).sum();
        assert_eq!(Classes::default().rules.len(), rules);
    }

    #[test]
    fn the_files_of_the_pbxs_that_we_know_have_their_class() {
        let classes = Classes::default();
        for (path, class) in [
            ("spool/voicemail/default/100/INBOX/msg0000.wav", Class::Voicemail),
            ("voicemail/default/100/INBOX/msg0000.txt", Class::Voicemail),
            ("storage/voicemail/default/pbx/1000/msg_a.wav", Class::Voicemail),
            ("db/voicemail_default.db", Class::Voicemail),
            ("voicemail.sqlite3", Class::Voicemail),
            ("spool/monitor/2026/11/26/out-112.wav", Class::Recording),
            ("monitor/out-112.wav", Class::Recording),
            ("recordings/2026/a.wav", Class::Recording),
            ("log/cdr-csv/Master.csv", Class::Cdr),
            ("cdr-csv/Master.csv", Class::Cdr),
            ("db/asteriskcdrdb.sqlite3", Class::Cdr),
            ("etc/pjsip.endpoint.conf", Class::Config),
            ("directory/default/1000.xml", Class::Config),
            ("astdb.sqlite3", Class::Other),
            ("sounds/en/hello.gsm", Class::Other),
        ] {
            assert_eq!(classes.of(path.as_bytes()), class, "{path}");
        }
    }

    #[test]
    fn a_rule_of_the_file_comes_first() {
        let own = Pattern::new("prompts/*.xml").expect("a pattern");
        let classes = Classes::new(vec![(Class::Other, own)]);
        assert_eq!((classes.of(b"prompts/a.xml"), classes.of(b"a.xml")), (Class::Other, Class::Config));
    }
}
