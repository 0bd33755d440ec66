//! Which file of the working directory a running Kamailio holds open, seen in `/proc`.
//!
//! A process that holds one (a SQLite database, a log) works on while the sync replaces the file under it, and never
//! sees the new one: then it must be stopped instead.

use std::io;
use std::path::{Path, PathBuf};

use crate::host::open_files;

/// The first file below `dirs` that one of these processes holds open, or has mapped.
///
/// # Errors
/// One line: what could not be looked at, and what to do.
pub fn look(pids: &[u32], dirs: &[PathBuf]) -> Result<Option<PathBuf>, String> {
    let dirs = open_files::real(dirs);
    for pid in pids {
        match open_files::held(Path::new(&format!("/proc/{pid}")), &dirs) {
            Ok(None) => {}
            Ok(held) => return Ok(held),
            // It has ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(format!(
                    "the open files of kamailio's process {pid} cannot be seen: {error}; let the robot run as \
                     kamailio's user or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, or write passive: stopped"
                ));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_open_is_seen_until_it_is_closed_also_through_a_link() {
        let dir = tempfile::tempdir().expect("directory");
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::create_dir(&real).expect("directory");
        std::os::unix::fs::symlink(&real, &link).expect("link");
        let us = [std::process::id()];
        let (dirs, elsewhere) = ([link.clone()], [dir.path().join("other")]);
        assert_eq!(look(&us, &dirs), Ok(None));
        let open = fs::File::create(link.join("db.sqlite")).expect("a file");
        let seen = real.canonicalize().expect("real path").join("db.sqlite");
        assert_eq!(look(&us, &dirs), Ok(Some(seen)));
        assert_eq!(look(&us, &elsewhere), Ok(None));
        drop(open);
        assert_eq!(look(&us, &dirs), Ok(None));
        assert_eq!(look(&[0x7fff_ffff], &dirs), Ok(None), "a process that has ended holds nothing");
    }
}
