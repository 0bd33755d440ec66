//! Names that sync tools give to files that are not whole yet, or that two sides changed.
//!
//! Observed with rsync 3.2, lsyncd 2.2, Syncthing 1.19, unison 2.52, csync2 2.0; Dropbox by its manual. A name that a
//! person could have chosen too is not taken for a tool's: it would hold a takeover for ever.

/// Who writes such names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tool {
    /// rsync, and what runs it or writes like it: lsyncd, csync2.
    Rsync,
    /// Syncthing.
    Syncthing,
    /// unison.
    Unison,
    /// Dropbox.
    Dropbox,
}

impl Tool {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsync => "rsync",
            Self::Syncthing => "Syncthing",
            Self::Unison => "unison",
            Self::Dropbox => "Dropbox",
        }
    }
}

/// What a name says of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// It is being written, or was when its writer died.
    Temporary(Tool),
    /// Both sides changed the file, and this is one of the two.
    Conflict(Tool),
    /// It belongs to the tool: its notes, its wastebasket. Nothing of the PBX's.
    Own(Tool),
}

/// What the name of a file or directory says; `None`: it is the PBX's own.
pub fn foreign(name: &[u8]) -> Option<Foreign> {
    use Foreign::{Conflict, Own, Temporary};
    use Tool::{Dropbox, Rsync, Syncthing, Unison};
    match name {
        b".stfolder" | b".stversions" | b".stignore" => return Some(Own(Syncthing)),
        b".dropbox" | b".dropbox.cache" | b".dropbox.attr" => return Some(Own(Dropbox)),
        // Of --delay-updates, and of --partial-dir by its manual's name for it.
        b".~tmp~" | b".rsync-partial" | b".rsync-tmp" => return Some(Temporary(Rsync)),
        _ => {}
    }
    let inside = |start: &[u8], end: &[u8]| {
        name.len() > start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
    };
    if inside(b".syncthing.", b".tmp") || inside(b"~syncthing~", b".tmp") {
        return Some(Temporary(Syncthing));
    }
    if inside(b".unison.", b".unison.tmp") {
        return Some(Temporary(Unison));
    }
    if is_rsync_temporary(name) {
        return Some(Temporary(Rsync));
    }
    if let Some(at) = find(name, b".sync-conflict-")
        && is_syncthing_stamp(&name[at + b".sync-conflict-".len()..])
    {
        return Some(Conflict(Syncthing));
    }
    if let Some(at) = find(name, b" (conflict_on_")
        && name[at..].contains(&b')')
    {
        return Some(Conflict(Unison));
    }
    if find(name, b"'s conflicted copy ").is_some() || find(name, b" (conflicted copy ").is_some() {
        return Some(Conflict(Dropbox));
    }
    None
}

/// The name of the file that a temporary name is for; `None`: it is no temporary name of a single file. Of rsync's it may
/// lack the point that the file's name begins with: rsync writes only one.
pub fn original(name: &[u8]) -> Option<&[u8]> {
    if let Some(Foreign::Temporary(tool)) = foreign(name) {
        let inside = |start: &[u8], end: &[u8]| name.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
        return match tool {
            Tool::Rsync => is_rsync_temporary(name).then(|| &name[1..name.len() - 7]),
            Tool::Syncthing => inside(b".syncthing.", b".tmp").or_else(|| inside(b"~syncthing~", b".tmp")),
            // A digest in hexadecimal, and the point before it.
            Tool::Unison => {
                inside(b".unison.", b".unison.tmp").and_then(|rest| rest.get(..rest.len().checked_sub(33)?))
            }
            Tool::Dropbox => None,
        };
    }
    None
}

/// `.NAME.XXXXXX` with six letters and digits by chance. Six small letters are a word (`.pjsip.backup`), six digits a
/// date: one in two hundred of rsync's own names is passed over for that.
fn is_rsync_temporary(name: &[u8]) -> bool {
    let Some((rest, tail)) = name.split_at_checked(name.len().wrapping_sub(6)) else { return false };
    let Some(inner) = rest.strip_prefix(b".").and_then(|rest| rest.strip_suffix(b".")) else { return false };
    let by_chance = tail.iter().all(u8::is_ascii_alphanumeric)
        && !tail.iter().all(u8::is_ascii_lowercase)
        && !tail.iter().all(u8::is_ascii_digit);
    !inner.is_empty() && by_chance
}

/// `YYYYMMDD-HHMMSS-ABCDEFG`, and the extension if any.
fn is_syncthing_stamp(rest: &[u8]) -> bool {
    let part = |from: usize, to: usize, good: fn(&u8) -> bool| rest.get(from..to).is_some_and(|p| p.iter().all(good));
    part(0, 8, u8::is_ascii_digit) && part(9, 15, u8::is_ascii_digit) && rest[8] == b'-'
}

fn find(name: &[u8], wanted: &[u8]) -> Option<usize> {
    name.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::Foreign::{Conflict, Own, Temporary};
    use super::Tool::{Dropbox, Rsync, Syncthing, Unison};
    use super::*;

    #[test]
    fn the_names_that_the_tools_were_seen_to_write_are_known() {
        for (name, what) in [
            (".pjsip.conf.aB3xYz", Temporary(Rsync)),
            (".x.AAAAAA", Temporary(Rsync)),
            (".~tmp~", Temporary(Rsync)),
            (".syncthing.pjsip.conf.tmp", Temporary(Syncthing)),
            (".unison.pjsip.conf.0123456789abcdef0123456789abcdef.unison.tmp", Temporary(Unison)),
            ("a.sync-conflict-20261120-101112-ABCDEFG.conf", Conflict(Syncthing)),
            ("a.sync-conflict-20261120-101112-ABCDEFG", Conflict(Syncthing)),
            ("a (conflict_on_2026-11-20).conf", Conflict(Unison)),
            ("a (conflict_on_2026-11-20 #2).conf", Conflict(Unison)),
            ("a (pbx-a's conflicted copy 2026-11-20).conf", Conflict(Dropbox)),
            (".stversions", Own(Syncthing)),
        ] {
            assert_eq!(foreign(name.as_bytes()), Some(what), "{name}");
        }
    }

    #[test]
    fn a_temporary_name_tells_whose_it_is() {
        for (name, of) in [
            ("..pbx-failover-heartbeat.aB3xYz", Some(".pbx-failover-heartbeat")),
            (".syncthing..pbx-failover-heartbeat.tmp", Some(".pbx-failover-heartbeat")),
            (".unison.a.conf.0123456789abcdef0123456789abcdef.unison.tmp", Some("a.conf")),
            (".~tmp~", None),
            (".rsync-partial", None),
            ("a.conf", None),
        ] {
            assert_eq!(original(name.as_bytes()), of.map(str::as_bytes), "{name}");
        }
    }

    #[test]
    fn names_that_a_person_chooses_are_the_pbxs_own() {
        for name in [
            "pjsip.conf",
            ".pjsip.backup",
            ".cdr.202611",
            ".hidden",
            "..ABCDEF",
            "pjsip.conf.aB3xYz",
            "sync-conflict-notes.txt",
            "a.sync-conflict-2026.conf",
            "msg0000.wav",
            ".unison.tmp",
            "",
            "ABCDEF",
            ".ABCDEF",
        ] {
            assert_eq!(foreign(name.as_bytes()), None, "{name}");
        }
        assert_eq!(foreign(b"\xff\xfe"), None);
    }
}
