//! Walks working directories in the order of [`crate::data::compare`], one entry at a time.
//!
//! Somebody else writes into them at the same time, and not only friends: no link is followed, not even one that takes a
//! directory's place meanwhile, and what vanishes under the walk is passed over. Memory is bounded by the largest single
//! directory and the depth, not by the number of files.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use crate::data::manifest::{About, Kind};

/// Deeper directories are not looked into: each level holds a descriptor open.
pub const DEPTH_MAX: usize = 64;

/// What one walk tells, as it goes.
pub trait Visitor {
    /// An entry that is no directory. `Break` ends the walk.
    fn file(&mut self, entry: &Entry<'_>) -> ControlFlow<()>;

    /// A directory below a working directory, before what it holds.
    fn directory(&mut self, entry: &Entry<'_>) -> Descend {
        let _ = entry;
        Descend::Into
    }

    /// Something that could not be looked at; `path` is empty for a working directory itself.
    fn trouble(&mut self, dir: usize, path: &[u8], why: &str);
}

/// Whether what a directory holds is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descend {
    /// Yes.
    Into,
    /// No.
    Past,
    /// No, and the walk ends.
    Stop,
}

/// One entry, while the walk stands at it.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Which of the working directories.
    pub dir: usize,
    /// Its path below that.
    pub path: &'a [u8],
    /// What the file system says of it.
    pub about: About,
    /// When anything about it last changed, its name too: seconds and nanoseconds. Nobody can set it back.
    pub changed: (i64, u32),
    /// Device and number: the same for hard links.
    pub identity: (u64, u64),
    /// User and group.
    pub owner: (u32, u32),
    parent: &'a OwnedFd,
    siblings: &'a Names,
}

impl Entry<'_> {
    /// Its name.
    pub fn name(&self) -> &[u8] {
        name_of(self.path)
    }

    /// The directory that it lies in.
    pub fn parent(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }

    /// Opens the file that the walk stands at; an error if a link or something else has taken its place.
    pub fn open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(self.parent, self.name(), flags, Mode::empty())?;
        Ok(File::from(file))
    }

    /// Where a link leads.
    pub fn target(&self) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(self.parent, self.name(), Vec::new())?.into_bytes())
    }

    /// Whether it lies on another file system than the directory that it lies in.
    pub fn begins_a_file_system(&self) -> bool {
        rustix::fs::fstat(self.parent).is_ok_and(|parent| {
            let (major, minor) = (rustix::fs::major(parent.st_dev), rustix::fs::minor(parent.st_dev));
            self.identity.0 != device(major, minor)
        })
    }

    /// Whether its directory held this name too when it was read.
    pub fn has_sibling(&self, name: &[u8]) -> bool {
        self.siblings.holds(name)
    }
}

fn device(major: u32, minor: u32) -> u64 {
    u64::from(major) << 32 | u64::from(minor)
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// The names of one directory, sorted, in one piece of memory.
#[derive(Debug, Default)]
struct Names {
    bytes: Vec<u8>,
    /// Where each begins and ends.
    places: Vec<(u32, u32)>,
}

impl Names {
    fn push(&mut self, name: &[u8]) -> Result<(), &'static str> {
        let end = |bytes: &Vec<u8>| u32::try_from(bytes.len()).map_err(|_| "more names than can be held");
        let begin = end(&self.bytes)?;
        self.bytes.extend_from_slice(name);
        self.places.push((begin, end(&self.bytes)?));
        Ok(())
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.places.sort_unstable_by(|one, other| slice(bytes, *one).cmp(slice(bytes, *other)));
    }

    fn at(&self, index: usize) -> Option<&[u8]> {
        self.places.get(index).map(|place| slice(&self.bytes, *place))
    }

    fn holds(&self, name: &[u8]) -> bool {
        self.places.binary_search_by(|place| slice(&self.bytes, *place).cmp(name)).is_ok()
    }
}

fn slice(bytes: &[u8], (begin, end): (u32, u32)) -> &[u8] {
    &bytes[begin as usize..end as usize]
}

struct Level {
    fd: OwnedFd,
    names: Names,
    next: usize,
    /// How long the path of the directory is.
    path: usize,
}

/// Walks them all, in their order.
pub fn walk(dirs: &[PathBuf], visitor: &mut impl Visitor) {
    for (index, dir) in dirs.iter().enumerate() {
        if walk_one(index, dir, visitor).is_break() {
            return;
        }
    }
}

fn walk_one(dir: usize, root: &Path, visitor: &mut impl Visitor) -> ControlFlow<()> {
    let mut levels: Vec<Level> = Vec::new();
    let mut path: Vec<u8> = Vec::new();
    // The working directory itself may be a link: a person wrote it.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, root, flags, Mode::empty()).and_then(|fd| level(fd, 0)) {
        Ok(level) => levels.push(level),
        Err(error) => visitor.trouble(dir, b"", &io::Error::from(error).to_string()),
    }
    while let Some(top) = levels.last_mut() {
        path.truncate(top.path);
        let Some(name) = top.names.at(top.next) else {
            levels.pop();
            continue;
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        top.next += 1;
        let entry = match entry(dir, &path, &top.fd, &top.names) {
            Ok(entry) => entry,
            Err(Errno::NOENT) => continue,
            Err(error) => {
                visitor.trouble(dir, &path, &io::Error::from(error).to_string());
                continue;
            }
        };
        if entry.about.kind != Kind::Directory {
            visitor.file(&entry)?;
            continue;
        }
        match visitor.directory(&entry) {
            Descend::Into => {}
            Descend::Past => continue,
            Descend::Stop => return ControlFlow::Break(()),
        }
        let depth = levels.len();
        if depth >= DEPTH_MAX {
            visitor.trouble(dir, &path, &format!("lies deeper than {DEPTH_MAX} directories: not looked at"));
            continue;
        }
        let flags = flags | OFlags::NOFOLLOW;
        let opened = rustix::fs::openat(&levels[depth - 1].fd, name_of(&path), flags, Mode::empty());
        match opened.and_then(|fd| level(fd, path.len())) {
            Ok(level) => levels.push(level),
            // It vanished, or something else took its place.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => visitor.trouble(dir, &path, &io::Error::from(error).to_string()),
        }
    }
    ControlFlow::Continue(())
}

fn level(fd: OwnedFd, path: usize) -> Result<Level, Errno> {
    let mut names = Names::default();
    for entry in Dir::read_from(&fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name).map_err(|_| Errno::OVERFLOW)?;
        }
    }
    names.sort();
    Ok(Level { fd, names, next: 0, path })
}

fn entry<'a>(dir: usize, path: &'a [u8], parent: &'a OwnedFd, siblings: &'a Names) -> Result<Entry<'a>, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let told = rustix::fs::statx(parent, name_of(path), flags, StatxFlags::BASIC_STATS)?;
    let kind = match FileType::from_raw_mode(told.stx_mode.into()) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    };
    let (modified, changed) = (told.stx_mtime, told.stx_ctime);
    Ok(Entry {
        dir,
        path,
        about: About {
            kind,
            size: told.stx_size,
            modified: (modified.tv_sec, modified.tv_nsec),
            mode: u32::from(told.stx_mode) & 0o7777,
        },
        changed: (changed.tv_sec, changed.tv_nsec),
        identity: (device(told.stx_dev_major, told.stx_dev_minor), told.stx_ino),
        owner: (told.stx_uid, told.stx_gid),
        parent,
        siblings,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::data::{compare, shown};

    #[derive(Default)]
    struct Seen {
        lines: Vec<String>,
        paths: Vec<Vec<u8>>,
        troubles: Vec<String>,
    }

    impl Visitor for Seen {
        fn file(&mut self, entry: &Entry<'_>) -> ControlFlow<()> {
            let kind = entry.about.kind;
            self.lines.push(format!("{} {kind:?} {}", shown(entry.path), entry.about.size));
            self.paths.push(entry.path.to_vec());
            ControlFlow::Continue(())
        }

        fn directory(&mut self, entry: &Entry<'_>) -> Descend {
            self.paths.push(entry.path.to_vec());
            if entry.name() == b"past" { Descend::Past } else { Descend::Into }
        }

        fn trouble(&mut self, dir: usize, path: &[u8], why: &str) {
            self.troubles.push(format!("{dir} {}: {why}", shown(path)));
        }
    }

    #[test]
    fn every_file_is_met_once_in_order_and_no_link_is_followed() {
        let dir = tempfile::tempdir().expect("directory");
        let outside = tempfile::tempdir().expect("directory");
        fs::write(outside.path().join("secret"), "x").expect("file");
        let root = dir.path();
        for sub in ["a/b", "a-b", "past", "empty"] {
            fs::create_dir_all(root.join(sub)).expect("directory");
        }
        for file in ["a/b/c", "a/z", "a-b/x", "a.conf", "past/y"] {
            fs::write(root.join(file), file).expect("file");
        }
        fs::write(root.join(std::ffi::OsStr::from_bytes(b"bad\xff\nname")), "").expect("file");
        symlink(outside.path(), root.join("out")).expect("link");
        symlink("nowhere", root.join("dangling")).expect("link");
        rustix::fs::mkfifoat(CWD, root.join("pipe"), Mode::RUSR).expect("pipe");
        let mut seen = Seen::default();
        walk(&[root.to_owned(), root.join("missing")], &mut seen);
        let link = outside.path().as_os_str().len();
        assert_eq!(
            seen.lines,
            [
                "a/b/c File 5".to_owned(),
                "a/z File 3".to_owned(),
                "a-b/x File 5".to_owned(),
                "a.conf File 6".to_owned(),
                "bad%FF%0Aname File 0".to_owned(),
                "dangling Link 7".to_owned(),
                format!("out Link {link}"),
                "pipe Other 0".to_owned(),
            ]
        );
        assert!(seen.paths.is_sorted_by(|one, other| compare(one, other).is_lt()), "the order of lists");
        assert_eq!(seen.troubles.len(), 1, "{:?}", seen.troubles);
        assert!(seen.troubles[0].starts_with("1 : No such file"), "{:?}", seen.troubles);
    }

    #[test]
    fn a_tree_without_end_is_told_and_not_followed() {
        let dir = tempfile::tempdir().expect("directory");
        let deep: PathBuf = std::iter::repeat_n("d", DEPTH_MAX + 3).collect();
        fs::create_dir_all(dir.path().join(deep)).expect("directories");
        let mut seen = Seen::default();
        walk(&[dir.path().to_owned()], &mut seen);
        assert!(seen.troubles[0].contains("deeper than 64 directories"), "{:?}", seen.troubles);
    }

    /// Opens the first file after a link took its place.
    struct Swapped<'a>(&'a Path, Option<io::Result<File>>);

    impl Visitor for Swapped<'_> {
        fn file(&mut self, entry: &Entry<'_>) -> ControlFlow<()> {
            fs::remove_file(self.0.join("f")).expect("removed");
            symlink("/etc/passwd", self.0.join("f")).expect("link");
            self.1 = Some(entry.open());
            assert!(entry.has_sibling(b"f") && !entry.has_sibling(b"g"));
            ControlFlow::Break(())
        }

        fn trouble(&mut self, _: usize, _: &[u8], why: &str) {
            panic!("{why}");
        }
    }

    #[test]
    fn a_link_that_takes_a_files_place_is_not_opened() {
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join("f"), "mine").expect("file");
        let mut swapped = Swapped(dir.path(), None);
        walk(&[dir.path().to_owned()], &mut swapped);
        assert!(swapped.1.expect("one file").is_err(), "followed");
    }

    #[test]
    fn a_file_system_begins_where_another_one_is_mounted() {
        struct Begins(Vec<Vec<u8>>);
        impl Visitor for Begins {
            fn file(&mut self, _: &Entry<'_>) -> ControlFlow<()> {
                ControlFlow::Continue(())
            }

            fn directory(&mut self, entry: &Entry<'_>) -> Descend {
                if entry.begins_a_file_system() {
                    self.0.push(entry.path.to_vec());
                }
                Descend::Past
            }

            fn trouble(&mut self, _: usize, _: &[u8], _: &str) {}
        }
        let mut begins = Begins(Vec::new());
        walk(&[PathBuf::from("/dev")], &mut begins);
        assert!(begins.0.contains(&b"shm".to_vec()) && !begins.0.contains(&b"fd".to_vec()), "{:?}", begins.0);
    }
}
