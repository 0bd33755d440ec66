//! Writes a small file of our own so that it is there whole or not at all, also after a power cut.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

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

/// Gives a file that root made to the owner of its directory, who must write it too; as anybody else it does nothing.
///
/// # Errors
/// It could not be given.
pub fn give(file: &File, dir: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let about = dir.metadata()?;
    std::os::unix::fs::fchown(file, Some(about.uid()), Some(about.gid()))
}

/// An empty file of the owner of its directory.
///
/// # Errors
/// It could not be made.
pub fn create(path: &Path) -> io::Result<File> {
    let file = File::create(path)?;
    give(&file, path.parent().unwrap_or(path))?;
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
