//! One listed file of a working directory, looked at or opened without following any link on the way to it.
//!
//! Whoever may write there may put a link in the place of a file or of a directory after it was listed. The working
//! directory itself may be a link: a person wrote it. A whole tree is walked by `adapters/data/walk`.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

/// A file, as the file system tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Bytes.
    pub size: u64,
    /// Date of its content: seconds and nanoseconds.
    pub modified: (i64, u32),
    /// Permission bits.
    pub mode: u32,
    /// When anything about it last changed: seconds and nanoseconds.
    pub changed: (i64, u32),
}

/// What stands there now; `None`: no file does, though its working directory can be opened.
///
/// # Errors
/// It could not be looked at: whether it is there is not known.
pub fn seen(root: &Path, path: &[u8]) -> io::Result<Option<Seen>> {
    let Some((parent, name)) = parent(root, path)? else { return Ok(None) };
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let told = match rustix::fs::statx(&parent, name, flags, StatxFlags::BASIC_STATS) {
        Ok(told) => told,
        Err(error) if is_gone(error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if FileType::from_raw_mode(told.stx_mode.into()) != FileType::RegularFile {
        return Ok(None);
    }
    Ok(Some(Seen {
        size: told.stx_size,
        modified: (told.stx_mtime.tv_sec, told.stx_mtime.tv_nsec),
        mode: u32::from(told.stx_mode) & 0o7777,
        changed: (told.stx_ctime.tv_sec, told.stx_ctime.tv_nsec),
    }))
}

/// Whether a file of this size and this date stands there still.
pub fn is_still(root: &Path, path: &[u8], size: u64, modified: (i64, u32)) -> bool {
    let seen = seen(root, path).ok().flatten();
    seen.is_some_and(|now| (now.size, now.modified) == (size, modified))
}

/// Opens it for reading; `None` as [`seen`].
///
/// # Errors
/// It cannot be read.
pub fn open(root: &Path, path: &[u8]) -> io::Result<Option<File>> {
    let Some((parent, name)) = parent(root, path)? else { return Ok(None) };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
        Ok(file) => {
            let file = File::from(file);
            Ok(file.metadata()?.is_file().then_some(file))
        }
        Err(error) if is_gone(error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The directory that holds it, reached through directories only, and its name there.
fn parent<'a>(root: &Path, path: &'a [u8]) -> io::Result<Option<(OwnedFd, &'a [u8])>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(CWD, root, flags, Mode::empty())?;
    let mut parts = path.split(|byte| *byte == b'/');
    let name = parts.next_back().unwrap_or_default();
    // No list of ours has such a path.
    if [b"".as_slice(), b".", b".."].contains(&name) {
        return Err(Errno::INVAL.into());
    }
    for part in parts {
        if [b"".as_slice(), b".", b".."].contains(&part) {
            return Err(Errno::INVAL.into());
        }
        at = match rustix::fs::openat(&at, part, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(below) => below,
            Err(error) if is_gone(error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
    }
    Ok(Some((at, name)))
}

/// A link or something else in its place counts as gone, as it does for a walk.
fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_in_the_place_of_a_file_or_of_a_directory_is_no_file() {
        let (dir, outside) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
        let root = dir.path();
        fs::create_dir(root.join("a")).expect("directory");
        fs::write(root.join("a/f"), "mine").expect("file");
        fs::write(outside.path().join("f"), "not mine").expect("file");
        assert!(seen(root, b"a/f").expect("looked").is_some_and(|seen| seen.size == 4));
        assert!(open(root, b"a/f").expect("opened").is_some());
        let dated = seen(root, b"a/f").expect("looked").map_or((0, 0), |seen| seen.modified);
        let stills = [(4, dated), (5, dated), (4, (dated.0, dated.1 ^ 1))];
        assert_eq!(stills.map(|(size, at)| is_still(root, b"a/f", size, at)), [true, false, false]);
        symlink(outside.path().join("f"), root.join("link")).expect("link");
        symlink(outside.path(), root.join("b")).expect("link");
        for path in [&b"link"[..], b"b/f", b"a/missing", b"missing/f", b"a/f/x", b"a"] {
            assert!(seen(root, path).expect("looked").is_none(), "{}", String::from_utf8_lossy(path));
            assert!(open(root, path).expect("looked").is_none(), "{}", String::from_utf8_lossy(path));
        }
        assert!(open(root, b"a/../../f").is_err(), "nothing leads out of it");
    }

    #[test]
    fn a_working_directory_that_cannot_be_opened_says_nothing_of_its_files() {
        let dir = tempfile::tempdir().expect("directory");
        let missing = dir.path().join("missing");
        assert!(seen(&missing, b"f").is_err() && open(&missing, b"f").is_err());
    }
}
