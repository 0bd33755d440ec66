//! Reaches into a tree name by name: no link is followed on the way, whoever puts one there meanwhile.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Whether what is missing on the way is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It is an error.
    Refuse,
    /// It is made, for its owner alone.
    Make,
}

/// Opens a directory that a person named; that one may be a link.
pub fn root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Opens the directory that `path` lies in, and gives its last name.
pub fn parent(root: impl AsFd, path: &[u8], missing: Missing) -> io::Result<(OwnedFd, &OsStr)> {
    let (way, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b""[..], path),
    };
    let odd = |part: &[u8]| part.is_empty() || part == b"." || part == b"..";
    if odd(name) {
        return Err(io::Error::other("it is no path below its directory"));
    }
    let mut dir = root.as_fd().try_clone_to_owned()?;
    for part in way.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        if odd(part) {
            return Err(io::Error::other("it leads out of its directory"));
        }
        dir = enter(&dir, OsStr::from_bytes(part), missing)?;
    }
    Ok((dir, OsStr::from_bytes(name)))
}

fn enter(dir: &OwnedFd, name: &OsStr, missing: Missing) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Err(Errno::NOENT) if missing == Missing::Make => {
            match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
        }
        Err(Errno::NOTDIR | Errno::LOOP) => Err(io::Error::other("something else lies where its directory was")),
        opened => Ok(opened?),
    }
}

/// What lies at a name; `None`: nothing.
pub fn stat(dir: impl AsFd, name: &OsStr) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a file to be read.
pub fn open(dir: impl AsFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(File::from(rustix::fs::openat(dir, name, flags, Mode::empty())?))
}

/// Makes a file that is not there yet, for its owner alone.
pub fn create(dir: impl AsFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?))
}

/// Removes a name, if it is there.
pub fn remove(dir: impl AsFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Where a link leads.
pub fn target(dir: impl AsFd, name: &OsStr) -> io::Result<Vec<u8>> {
    Ok(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_link_is_followed_on_the_way_and_no_path_leads_out() {
        let dir = tempfile::tempdir().expect("directory");
        let outside = tempfile::tempdir().expect("directory");
        fs::write(outside.path().join("f"), "theirs").expect("file");
        symlink(outside.path(), dir.path().join("out")).expect("link");
        symlink(outside.path().join("f"), dir.path().join("f")).expect("link");
        let top = root(dir.path()).expect("opened");
        for bad in [&b"out/f"[..], b"../x", b"a/../../x", b"a/..", b""] {
            assert!(parent(&top, bad, Missing::Make).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(open(&top, OsStr::new("f")).is_err());
        assert!(parent(&top, b"new/f", Missing::Refuse).is_err());
        let (made, name) = parent(&top, b"new/deep/f", Missing::Make).expect("made");
        assert!(create(&made, name).is_ok() && create(&made, name).is_err(), "never over another");
        assert!(dir.path().join("new/deep/f").is_file());
        assert_eq!(target(&top, OsStr::new("out")).expect("link"), outside.path().as_os_str().as_bytes());
    }
}
