//! The robot's own places, which must not lie in what is synced.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::Build;
use crate::config::cursor::Cursor;
use crate::config::texts;

/// Longest path of a unix socket (`sun_path`, with its final zero).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Where the robot keeps and offers things.
pub struct Places {
    pub state_dir: PathBuf,
    pub control: PathBuf,
    pub page: Option<SocketAddr>,
}

/// Reads `state_dir`, `control`, `page`.
pub fn places<'a>(top: &Cursor<'a>, build: &mut Build<'a>) -> Option<Places> {
    let [state_dir, control] = ["state_dir", "control"].map(|name| {
        let at = top.key(name);
        let path = PathBuf::from(at.text()?);
        if path.is_relative() {
            at.error(&mut build.notes, "is no absolute path", "begin it with /");
        } else if path.file_name().is_none() {
            at.error(&mut build.notes, "is the whole file system", "write a path of its own");
        }
        Some(path)
    });
    let control_at = top.key("control");
    if let Some(control) = &control {
        if control.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            let what = format!("is longer than {SOCKET_PATH_BYTES_MAX} bytes, which no unix socket can be");
            control_at.error(&mut build.notes, what, "choose a shorter path");
        } else if control.file_name().is_some_and(|name| name == "active") {
            let fix = "choose another name, such as control.sock";
            control_at.error(&mut build.notes, "is the name of the marker file beside it", fix);
        }
    }
    let page_at = top.key("page");
    let page = match page_at.filled() {
        Some(text) => Some(page_at.take(&mut build.notes, texts::socket(text, None))?),
        None => None,
    };
    Some(Places { state_dir: state_dir?, control: control?, page })
}

/// Nothing of the robot's may lie in a working directory: it would be carried to the other host.
pub fn outside_working_dirs<'a>(top: &Cursor<'a>, dirs: &[PathBuf], build: &mut Build<'a>) {
    let inside = |path: &Path| dirs.iter().find(|dir| lies_in(path, dir));
    let dir_at = top.key("pbx").key("working_dir");
    if let Some(dir) = inside(build.file) {
        let what = format!("this file lies in {}, which is the same on both hosts", dir.display());
        dir_at.error(&mut build.notes, what, "move failover.yaml out of it, to /etc/pbx-failover");
    }
    for name in ["state_dir", "control"] {
        let at = top.key(name);
        let Some(path) = at.text().map(Path::new) else { continue };
        if let Some(dir) = inside(path) {
            let what = format!("lies in the working directory {}, which is the same on both hosts", dir.display());
            at.error(&mut build.notes, what, "choose a place outside of it");
        } else if name == "state_dir" && dirs.iter().any(|dir| lies_in(dir, path)) {
            at.error(&mut build.notes, "holds a working directory", "choose a directory of its own");
        }
    }
}

/// Whether `inner` lies in `outer`, as written or with symbolic links followed.
fn lies_in(inner: &Path, outer: &Path) -> bool {
    inner.starts_with(outer) || resolved(inner).starts_with(resolved(outer))
}

/// The path with the links of its existing part followed, and `.` and `..` in the rest taken literally.
fn resolved(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let Ok(real) = ancestor.canonicalize() {
            return path.strip_prefix(ancestor).map_or_else(|_| real.clone(), |rest| real.join(rest));
        }
    }
    path.to_owned()
}
