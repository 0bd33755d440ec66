//! What the file points at: secrets, certificates, directories, programs. Looks at files only, never at the network.
//!
//! A secret's content is looked at (is it there, is it base64?) and never kept or shown. Reading it for use is
//! `host::secret`'s.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::build::{Build, Outside, Use};
use super::cursor::Cursor;
use super::load::Files;
use super::model::Secret;
use super::remark::{Notes, Remark};

/// Read or write permission for everybody.
const OTHERS_MASK: u32 = 0o006;
/// Write permission for everybody.
const OTHERS_WRITE_MASK: u32 = 0o002;
/// Larger is no secret; as `host::secret` has it.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Looks at all of it and adds to the builder's notes.
pub fn look(build: &mut Build<'_>, files: Files) {
    let things = std::mem::take(&mut build.outside);
    let mut look = Look { notes: &mut build.notes, files };
    let file_mode = if files == Files::Ignored { None } else { mode(build.file) };
    if file_mode.is_some_and(|mode| mode & OTHERS_WRITE_MASK != 0) {
        let fix = format!("chmod o-w {}", build.file.display());
        let what = "can be written by everybody, and it names commands that the robot runs";
        look.notes.errors.push(Remark::about_file(what, fix));
    }
    let mut readable_said = false;
    for (at, thing) in &things {
        if matches!(thing, Outside::Secret(Secret::Plain(_), _) | Outside::PlainText)
            && file_mode.is_some_and(|mode| mode & OTHERS_MASK != 0)
            && !readable_said
        {
            let fix = format!("chmod 640 {}, or keep the secret in {{file: PATH}}", build.file.display());
            at.error(look.notes, "is a secret in a file that everybody may read", fix);
            readable_said = true;
        }
        look.at(at, thing);
    }
}

fn mode(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|meta| meta.permissions().mode())
}

struct Look<'n> {
    notes: &'n mut Notes,
    files: Files,
}

impl Look<'_> {
    fn at(&mut self, at: &Cursor<'_>, thing: &Outside) {
        match thing {
            Outside::Secret(Secret::Plain(text), Use::Tsig) => self.base64(at, &text.0),
            Outside::Secret(Secret::Plain(text), Use::EventSocket) => self.not_stock(at, &text.0),
            Outside::Secret(Secret::Plain(_), Use::Password) | Outside::PlainText => {}
            _ if self.files == Files::Ignored => {}
            Outside::Secret(Secret::File(path), usage) => self.secret_file(at, path, *usage),
            Outside::Secret(Secret::Env(name), usage) => match std::env::var(name) {
                Ok(text) if *usage == Use::Tsig => self.base64(at, &text),
                Ok(text) if *usage == Use::EventSocket => self.not_stock(at, &text),
                Ok(_) => {}
                Err(_) => self.absent(at, &format!("the environment variable {name} is not set"), "set it in the unit"),
            },
            Outside::Secret(Secret::Credential(name), usage) => {
                if let Some(dir) = std::env::var_os("CREDENTIALS_DIRECTORY") {
                    self.secret_file(at, &Path::new(&dir).join(name), *usage);
                } else {
                    let fix = format!("start the robot from its unit, with LoadCredential={name}:PATH");
                    self.absent(at, "no systemd credentials are there", &fix);
                }
            }
            Outside::Certificates(path) => match fs::metadata(path) {
                Ok(meta) if meta.is_file() => {}
                Ok(_) => at.error(self.notes, "is no file", "write the path of a PEM file"),
                Err(error) => self.absent(at, &said(path, &error), "write the path of a PEM file"),
            },
            Outside::WorkingDir(path) => match fs::metadata(path) {
                Ok(meta) if meta.is_dir() => {}
                Ok(_) => at.error(self.notes, "is no directory", "write the directory that is synced"),
                Err(error) => at.warn(self.notes, said(path, &error), "create it, and let the sync fill it"),
            },
            Outside::Program(path) => match fs::metadata(path) {
                Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => {}
                Ok(_) => at.error(self.notes, format!("{} cannot be run", path.display()), "chmod +x it"),
                Err(error) => at.warn(self.notes, said(path, &error), "install it before it is needed"),
            },
        }
    }

    /// Something is not there: an error where it must be, else a warning.
    fn absent(&mut self, at: &Cursor<'_>, what: &str, fix: &str) {
        if self.files == Files::MustBeThere {
            at.error(self.notes, what, fix);
        } else {
            at.warn(self.notes, what, fix);
        }
    }

    fn secret_file(&mut self, at: &Cursor<'_>, path: &Path, usage: Use) {
        let meta = match fs::metadata(path) {
            Ok(meta) => meta,
            Err(error) => return self.absent(at, &said(path, &error), "create it with the secret in it, mode 600"),
        };
        if !meta.is_file() {
            return at.error(self.notes, format!("{} is no file", path.display()), "write the path of a file");
        }
        if meta.permissions().mode() & OTHERS_MASK != 0 {
            let what = format!("everybody may read or write {}", path.display());
            at.error(self.notes, what, format!("chmod 600 {}", path.display()));
        }
        if meta.len() == 0 || meta.len() > SECRET_BYTES_MAX {
            let what = format!("{} has {} bytes: no secret", path.display(), meta.len());
            return at.error(self.notes, what, "write the secret into it");
        }
        match fs::read_to_string(path) {
            Ok(text) if text.trim_end_matches(['\n', '\r']).is_empty() => {
                at.error(self.notes, format!("{} is empty", path.display()), "write the secret into it");
            }
            Ok(text) if usage == Use::Tsig => self.base64(at, text.trim_end_matches(['\n', '\r'])),
            Ok(text) if usage == Use::EventSocket => self.not_stock(at, text.trim_end_matches(['\n', '\r'])),
            Ok(_) => {}
            Err(error) => self.absent(at, &said(path, &error), "let the robot's user read it"),
        }
    }

    /// Everybody who has read FreeSWITCH's documentation knows the password that it is delivered with.
    fn not_stock(&mut self, at: &Cursor<'_>, text: &str) {
        /// As `wire::esl` has it.
        const STOCK_PASSWORD: &str = "ClueCon";
        if text == STOCK_PASSWORD {
            let fix = "write another one into event_socket.conf.xml and here";
            at.error(self.notes, "is FreeSWITCH's stock password, which everybody knows", fix);
        }
    }

    fn base64(&mut self, at: &Cursor<'_>, text: &str) {
        if text.contains("secret") || text.contains('{') {
            let fix = "keep only the base64 text between the quotes after `secret`";
            at.error(self.notes, "holds a whole key clause, not its secret", fix);
        } else if !is_base64(text) {
            at.error(self.notes, "is no base64", "write the key's secret exactly as `tsig-keygen` printed it");
        }
    }
}

fn said(path: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!("{} does not exist", path.display()),
        ErrorKind::PermissionDenied => format!("{} may not be read by this user", path.display()),
        _ => format!("{} cannot be read: {error}", path.display()),
    }
}

/// RFC 4648 §4 with padding.
fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty()
        && text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}
