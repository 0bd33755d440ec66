//! Writes a small file of our own so that it is there whole or not at all, also after a power cut.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Writes it under another name beside it, to disk, and renames it; then the new name is on disk too. Only its owner may
/// read it. What root writes belongs to who owns the directory, since it must read it as well.
///
/// # Errors
/// The old one, if there was one, is still there; only where the directory could not be synced the new one may be.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("it has no directory"))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut file = tempfile::Builder::new().prefix(&format!(".{name}-")).tempfile_in(dir)?;
    file.write_all(bytes)?;
    give(file.as_file(), dir)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

/// Gives a file that root made to the owner of its directory, who must write it too; as anybody else it does nothing. What
/// has another name elsewhere stays root's: its owner-to-be may have put it there.
///
/// # Errors
/// It could not be given.
pub fn give(file: &File, dir: &Path) -> io::Result<()> {
    let (made, about) = (file.metadata()?, dir.metadata()?);
    let is_own = made.uid() == 0 && (made.is_dir() || (made.is_file() && made.nlink() == 1));
    if !rustix::process::geteuid().is_root() || !is_own {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, Some(about.uid()), Some(about.gid()))
}

/// Opens a file of the owner of its directory, or makes it, as it is; only its owner may read it. A link is not followed:
/// root would open what only root may.
///
/// # Errors
/// It could not be opened.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true).mode(0o600);
    let file = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
    give(&file, path.parent().unwrap_or(path))?;
    Ok(file)
}

/// The same, emptied.
///
/// # Errors
/// It could not be opened, or it has another name elsewhere.
pub fn create(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    if file.metadata()?.nlink() > 1 {
        return Err(io::Error::other("it has another name elsewhere"));
    }
    file.set_len(0)?;
    Ok(file)
}

/// Makes a directory and those above it, each of the owner of the one that it lies in.
///
/// # Errors
/// It could not be made.
pub fn create_dirs(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let Some(dir) = path.parent() else { return Ok(()) };
    create_dirs(dir)?;
    match std::fs::create_dir(path) {
        // Another was quicker.
        Err(_) if path.is_dir() => return Ok(()),
        made => made?,
    }
    give(&File::open(path)?, dir)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_lies_elsewhere_is_neither_opened_nor_emptied_nor_given_away() {
        let (dir, outside) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
        let (secret, link, twin) = (outside.path().join("secret"), dir.path().join("link"), dir.path().join("twin"));
        fs::write(&secret, "root's").expect("written");
        std::os::unix::fs::symlink(&secret, &link).expect("link");
        fs::hard_link(&secret, &twin).expect("link");
        assert!(open(&link).is_err() && create(&link).is_err() && create(&twin).is_err());
        assert_eq!(fs::read_to_string(&secret).expect("read"), "root's");
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(dir.path(), Some(65534), None).expect("given");
            drop(open(&twin).expect("opened"));
            drop(open(&dir.path().join("own")).expect("made"));
            let owner = |path: &Path| path.metadata().expect("there").uid();
            assert_eq!((owner(&secret), owner(&dir.path().join("own"))), (0, 65534));
        }
    }

    #[test]
    fn a_file_is_replaced_whole_or_stays_as_it_was() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("note");
        write_whole(&file, b"one").expect("written");
        write_whole(&file, b"another").expect("written");
        let mode = fs::metadata(&file).expect("there").permissions().mode() & 0o777;
        assert_eq!((fs::read(&file).expect("read"), mode), (b"another".to_vec(), 0o600));
        let taken = dir.path().join("taken");
        fs::create_dir(&taken).expect("directory");
        assert!(write_whole(&taken, b"x").is_err());
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 2, "nothing is left behind");
    }
}
