//! Reads a secret from where the configuration says that it lies, at the moment of use.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::config::Secret;

/// Largest secret that is read; a longer file is surely not one.
pub const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Reads it. Line ends at the end are cut.
///
/// # Errors
/// One line that names the place, never the content, and what to do.
pub fn read(secret: &Secret) -> Result<SecretString, String> {
    match secret {
        Secret::Plain(text) => Ok(SecretString::from(text.0.clone())),
        Secret::Env(name) => std::env::var(name)
            .map(SecretString::from)
            .map_err(|_| format!("the environment variable {name} is not set; set it where the robot is started")),
        Secret::File(path) => read_file(path),
        Secret::Credential(name) => read_file(&credential_path(name)?),
    }
}

fn credential_path(name: &str) -> Result<PathBuf, String> {
    let dir = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
        format!("credential {name}: not started by systemd with LoadCredential={name}:PATH; add it to the unit")
    })?;
    Ok(Path::new(&dir).join(name))
}

fn read_file(path: &Path) -> Result<SecretString, String> {
    let size = std::fs::metadata(path).map_err(|e| format!("cannot read the secret in {}: {e}", path.display()))?.len();
    if size > SECRET_BYTES_MAX {
        return Err(format!("{} has {size} bytes: not a secret", path.display()));
    }
    let text =
        std::fs::read_to_string(path).map_err(|e| format!("cannot read the secret in {}: {e}", path.display()))?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(format!("the secret in {} is empty", path.display()));
    }
    Ok(SecretString::from(text.to_owned()))
}
