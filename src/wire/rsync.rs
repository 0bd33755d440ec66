//! What rsync says: its lists of files, and its troubles in one line with what to do.
//!
//! Asked with `--out-format` and in the locale C; names are escaped as its manual says (`\#012`). Seen with rsync 3.2
//! and 3.5 over OpenSSH 9.2.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The format that [`listed`] reads; the clock must be UTC.
pub const LIST: &str = "%i %l %M %n";

/// Before a name in a list: one that begins with `#` or `;` would be a remark.
pub const NO_REMARK: &[u8] = b"./";

/// So long is `%i`.
const ITEM_BYTES: usize = 11;

/// The format that [`compared`] reads; with `-ii`, so that what is the same is named too.
pub const DIFFERENCE: &str = "%i %n";

/// How a file of ours stands at the far end, by digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// The same content.
    Same,
    /// Another content.
    Another,
    /// It is not there.
    Missing,
}

/// What stands at the far end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its path.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: ListedKind,
}

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedKind {
    /// A file.
    File {
        /// Bytes.
        size: u64,
        /// Date of its content, seconds.
        modified_s: i64,
    },
    /// A directory, a link, a pipe.
    Other,
}

/// Reads one line of a pull that only tells; `None` for a line that names nothing.
pub fn listed(line: &[u8]) -> Option<Listed> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let mut part = || parts.next();
    let item = part()?;
    if item.len() != ITEM_BYTES || !matches!(item[0], b'>' | b'c' | b'.') {
        return None;
    }
    let size = std::str::from_utf8(part()?).ok()?.parse().ok()?;
    let at = DateTime::strptime("%Y/%m/%d-%H:%M:%S", part()?).ok()?;
    let modified_s = at.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    let path = unescaped(part()?);
    if item.starts_with(b">f") {
        return Some(Listed { path, kind: ListedKind::File { size, modified_s } });
    }
    let path = path.strip_suffix(b"/").unwrap_or(&path).to_vec();
    Some(Listed { path, kind: ListedKind::Other })
}

/// Reads one line of a push that only tells; `None` for one that names no file.
pub fn compared(line: &[u8]) -> Option<(Vec<u8>, Compared)> {
    let (item, name) = line.split_at_checked(ITEM_BYTES)?;
    let compared = match item {
        [b'<', b'f', b'+', ..] => Compared::Missing,
        [b'<', b'f', ..] => Compared::Another,
        [b'.', b'f', ..] => Compared::Same,
        _ => return None,
    };
    Some((unescaped(name.strip_prefix(b" ")?), compared))
}

/// A name as it is.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.strip_prefix(b"#").and_then(|after| after.split_at_checked(3));
        let escaped = digits.filter(|_| *byte == b'\\').and_then(|(digits, after)| {
            let text = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
            Some((u8::from_str_radix(text, 8).ok()?, after))
        });
        let (byte, after) = escaped.unwrap_or((*byte, after));
        path.push(byte);
        rest = after;
    }
    path
}

/// Of the working directory itself; before rsync 3.2 without the role of who says it.
const NOWHERE: [&str; 4] = ["[Receiver] mkdir", "rsync: mkdir", "] change_dir", "rsync: change_dir"];
const NO_DIRECTORY: &str = "the directory there is missing";
const MAKE_IT: &str = "make it at the primary, or correct failback.return_to.dirs";
const NO_WAY_IN: &str = "the directory there is missing or may not be entered";
const SEE_TO_IT: &str = "see to it at the primary, or correct failback.return_to.dirs";

/// Words of rsync and ssh, and what they mean. The first that is found counts.
const TROUBLES: [(&str, &str, &str); 24] = [
    ("exec: rsync: not found", "rsync is not installed here", "install rsync on this node"),
    ("exec: ssh", "ssh is not installed here", "install openssh-client on this node"),
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key there is another than the one that is known",
        "see why, then write the new one into known_hosts",
    ),
    ("host key is known", "its host key is not known", "write it into known_hosts (ssh-keyscan, compared by hand)"),
    (
        "Host key verification failed",
        "its host key is not known",
        "write it into known_hosts (ssh-keyscan, compared by hand)",
    ),
    ("Permission denied (publickey", "ssh: permission denied", "see that ssh_key stands in authorized_keys there"),
    ("No such identity", "ssh: the key is not there", "see failback.return_to.ssh_key"),
    // Of the shell there; rsync's own word may be that the connection was lost.
    ("rsync: command not found", "rsync is not installed there", "install rsync at the primary"),
    ("rsync: not found", "rsync is not installed there", "install rsync at the primary"),
    ("/rsync: No such file", "rsync is not installed there", "install rsync at the primary"),
    ("remote command not found", "rsync is not installed there", "install rsync at the primary"),
    (NOWHERE[0], NO_DIRECTORY, MAKE_IT),
    (NOWHERE[1], NO_DIRECTORY, MAKE_IT),
    (NOWHERE[2], NO_WAY_IN, SEE_TO_IT),
    (NOWHERE[3], NO_WAY_IN, SEE_TO_IT),
    ("No space left on device", "the disk there is full", "make room at the primary"),
    ("Disk quota exceeded", "the quota there is used up", "make room at the primary"),
    ("Read-only file system", "the file system there is read-only", "see to the disk at the primary"),
    ("send_files failed to open", "a file cannot be read here", "see to its rights, or to the disk of this node"),
    ("Not a directory (20)", "a file there has the name of a directory here", "see which of the two it should be"),
    (
        "Too many levels of symbolic links (40)",
        "a link there stands for a directory and leads out of the working directory, which rsync 3.5 does not follow",
        "mount that directory there instead (`mount --bind`)",
    ),
    ("Permission denied (13)", "the user there may not write", "let that user write into the working directory there"),
    ("Could not resolve hostname", "its name is not known", "write its address into failback.return_to.rsync"),
    ("Connection refused", "nobody answers at its ssh port", "see that sshd runs there, and failback.return_to.port"),
];

/// How much of what was asked was done all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All but the files that were refused.
    AllButSome,
    /// Whatever came before it: a full disk ends it.
    UpToThere,
    /// Nothing that can be built upon.
    Nothing,
}

/// What an exit that is none of success leaves to build upon.
pub fn reach(code: Option<i32>, stderr: &str) -> Reach {
    // No file of it can be told from one that is missing.
    let is_nowhere = NOWHERE.iter().any(|words| stderr.contains(words));
    match code {
        Some(23) if !is_nowhere => Reach::AllButSome,
        Some(11) if !is_nowhere => Reach::UpToThere,
        _ => Reach::Nothing,
    }
}

/// What went wrong, in one line with what to do.
pub fn trouble(code: Option<i32>, stderr: &str) -> String {
    if let Some((_, what, todo)) = TROUBLES.iter().find(|(words, ..)| stderr.contains(words)) {
        return format!("{what}; {todo}");
    }
    let lost =
        ["connection unexpectedly closed", "Connection timed out", "timed out", "Broken pipe", "Connection reset"];
    if matches!(code, Some(12 | 30 | 35 | 255) | None)
        && (code.is_none() || lost.iter().any(|words| stderr.contains(words)))
    {
        return "the connection was lost; it goes on from there when it is tried again".to_owned();
    }
    let first = stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing said");
    let first: String = first.chars().filter(|c| !c.is_control()).take(200).collect();
    format!("rsync ended with {}: {first}; see `man rsync`, EXIT VALUES", code.unwrap_or(-1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_at_the_far_end_is_read_with_whatever_name() {
        let line = b">f+++++++++ 12 2026/11/26-20:00:00 #od\\#012d\\#377 \\#134#012 \"q";
        let file = listed(line).expect("a file");
        assert_eq!(file.kind, ListedKind::File { size: 12, modified_s: 1_795_723_200 });
        assert_eq!(file.path, b"#od\nd\xff \\#012 \"q");
        for (other, path) in [
            (&b"cd+++++++++ 0 2026/11/26-20:00:00 a/"[..], b"a"),
            (b"cL+++++++++ 11 2026/11/26-20:00:00 l", b"l"),
            (b"cS+++++++++ 0 2026/11/26-20:00:00 p", b"p"),
        ] {
            assert_eq!(listed(other), Some(Listed { path: path.to_vec(), kind: ListedKind::Other }));
        }
        for no_line in [&b"skipping non-regular file \"x\""[..], b"", b">f"] {
            assert_eq!(listed(no_line), None);
        }
    }

    #[test]
    fn only_what_is_named_as_the_same_is_the_same() {
        let said = |line: &[u8]| compared(line).map(|(path, how)| (String::from_utf8(path).expect("text"), how));
        assert_eq!(said(b"<fcsT...... a b"), Some(("a b".into(), Compared::Another)));
        assert_eq!(said(b"<f+++++++++ a/b"), Some(("a/b".into(), Compared::Missing)));
        assert_eq!(said(b".f...p..... a/b"), Some(("a/b".into(), Compared::Same)));
        assert_eq!(said(b".f           a"), Some((" a".into(), Compared::Same)));
        assert_eq!([said(b"cd+++++++++ a/"), said(b".d          a/"), said(b""), said(b".f")], [const { None }; 4]);
    }

    #[test]
    fn one_file_that_is_refused_there_ends_nothing_and_a_missing_directory_ends_all() {
        let refused = "rsync: [receiver] mkstemp \"/w/a/.b.x\" failed: Permission denied (13)";
        assert_eq!(reach(Some(23), refused), Reach::AllButSome);
        assert_eq!(reach(Some(23), "rsync: [sender] change_dir \"/w\" failed: No such file"), Reach::Nothing);
        for said in [
            "rsync: change_dir#1 \"/w\" failed: No such file or directory (2)",
            "rsync: change_dir \"/w\" failed: No such file or directory (2)",
            "rsync: mkdir \"/w\" failed: No such file or directory (2)",
            "rsync: [Receiver] mkdir \"/w\" failed: No such file or directory (2)",
            "rsync: [Receiver] change_dir#1 \"/w\" failed: No such file or directory (2)",
        ] {
            assert_eq!([reach(Some(23), said), reach(Some(11), said)], [Reach::Nothing; 2], "{said}");
            let told = trouble(Some(12), &format!("{said}\nrsync: connection unexpectedly closed (8 bytes) [sender]"));
            assert!(told.starts_with("the directory there is missing"), "{told}");
        }
        let below = "rsync: recv_generator: mkdir \"/w/a\" failed: Permission denied (13)";
        assert_eq!(reach(Some(23), below), Reach::AllButSome);
        assert_eq!(reach(Some(11), "write failed: No space left on device (28)"), Reach::UpToThere);
        assert_eq!([reach(Some(12), ""), reach(Some(255), ""), reach(None, "")], [Reach::Nothing; 3]);
    }

    #[test]
    fn each_trouble_is_one_line_with_what_to_do() {
        for (code, said, told) in [
            (
                255,
                "No ED25519 host key is known for [127.0.0.1]:2299 and you have requested strict checking.\nHost key verification failed.",
                "its host key is not known",
            ),
            (255, "root@127.0.0.1: Permission denied (publickey,keyboard-interactive).", "ssh: permission denied"),
            (
                127,
                "bash: line 1: rsync: command not found\nrsync error: remote command not found (code 127) at io.c(285)",
                "rsync is not installed there",
            ),
            (11, "rsync: [receiver] write failed on \"/x\": No space left on device (28)", "the disk there is full"),
            (
                12,
                "rsync: connection unexpectedly closed (12 bytes received so far) [sender]",
                "the connection was lost",
            ),
            (
                255,
                "Timeout, server 10.0.0.1 not responding.\nrsync: connection unexpectedly closed",
                "the connection was lost",
            ),
            (
                23,
                "rsync: [sender] send_files failed to open \"/w/a\": Permission denied (13)",
                "a file cannot be read here",
            ),
            (
                23,
                "rsync: [generator] recv_generator: failed to stat \"/w/vm/a\": Too many levels of symbolic links (40)",
                "a link there stands for a directory",
            ),
            (1, "rsync: --nonsense: unknown option", "rsync ended with 1: rsync: --nonsense"),
        ] {
            let line = trouble(Some(code), said);
            assert!(line.starts_with(told) && !line.contains('\n') && line.contains("; "), "{line}");
        }
        assert!(trouble(None, "").starts_with("the connection was lost"));
    }
}
