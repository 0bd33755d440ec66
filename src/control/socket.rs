//! Binds the unix socket and the TCP page, and serves a desk on them.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::desk::Desk;
use super::routes;

/// Longest path of a socket: `sun_path` without its final NUL, unix(7).
const PATH_BYTES_MAX: usize = 107;

/// What is bound first, then renamed to its place: at no instant is the socket there with other permissions.
const NEW: &str = ".new";

/// Whoever listens at a socket that is in the way takes the connection in this time, or lives but hangs.
const LISTENER_ANSWERS: Duration = Duration::from_secs(1);

/// Why a socket could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// Somebody listens there.
    #[error("another process answers at {0}; stop it, or set another `control`")]
    InUse(PathBuf),
    /// Something else lies there.
    #[error("{0} is there and is no socket; move it away, or set another `control`")]
    NotASocket(PathBuf),
    /// The path does not fit.
    #[error("the path of the control socket is longer than {max} bytes: {0}; set a shorter `control`", max = PATH_BYTES_MAX - NEW.len())]
    TooLong(PathBuf),
    /// The agent's door has no token, certificate or key.
    #[error("{0}")]
    Unfit(String),
    /// The system says no.
    #[error("cannot listen at {at}: {why}")]
    System {
        /// Where.
        at: String,
        /// Why not.
        why: io::Error,
    },
}

/// The control socket, mode 0660, removed when dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    placed: Placed,
}

impl ControlSocket {
    /// Binds it. What a dead process left there is replaced; a living one's is not touched.
    ///
    /// # Errors
    /// One line with what to do.
    pub async fn bind(path: &Path) -> Result<Self, DoorError> {
        let mut new = path.as_os_str().to_owned();
        new.push(NEW);
        let new = PathBuf::from(new);
        if new.as_os_str().len() > PATH_BYTES_MAX {
            return Err(DoorError::TooLong(path.to_owned()));
        }
        let system = |why| DoorError::System { at: path.display().to_string(), why };
        if let Some(dir) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(system)?;
        }
        free(path).await?;
        free(&new).await?;
        match std::fs::remove_file(&new) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(system(why)),
            _ => {}
        }
        let listener = UnixListener::bind(&new).map_err(system)?;
        std::fs::set_permissions(&new, Permissions::from_mode(0o660)).map_err(system)?;
        std::fs::rename(&new, path).map_err(system)?;
        let file = std::fs::symlink_metadata(path).map_err(system)?;
        Ok(Self { listener, placed: Placed { path: path.to_owned(), file: (file.dev(), file.ino()) } })
    }

    /// Answers for ever; drop the future to stop.
    pub async fn serve(self, desk: Arc<dyn Desk>) {
        let _placed = self.placed;
        routes::serve(self.listener, routes::all(desk)).await;
    }
}

/// The reading half over TCP.
#[derive(Debug)]
pub struct Page {
    listener: TcpListener,
}

impl Page {
    /// Binds it.
    ///
    /// # Errors
    /// One line with what to do.
    pub async fn bind(address: SocketAddr) -> Result<Self, DoorError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|why| DoorError::System { at: format!("{address} (`page`, \"\" turns it off)"), why })?;
        Ok(Self { listener })
    }

    /// Where it listens, with the port that the system chose for port 0.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers for ever; drop the future to stop.
    pub async fn serve(self, desk: Arc<dyn Desk>) {
        routes::serve(self.listener, routes::reading(desk)).await;
    }
}

/// The socket's file, if it is still ours.
#[derive(Debug)]
struct Placed {
    path: PathBuf,
    file: (u64, u64),
}

impl Drop for Placed {
    fn drop(&mut self) {
        let there = std::fs::symlink_metadata(&self.path).map(|file| (file.dev(), file.ino()));
        if there.is_ok_and(|there| there == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Nobody listens there, and nothing but a socket is in the way.
async fn free(path: &Path) -> Result<(), DoorError> {
    let system = |why| DoorError::System { at: path.display().to_string(), why };
    match std::fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => {}
        Ok(_) => return Err(DoorError::NotASocket(path.to_owned())),
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(why) => return Err(system(why)),
    }
    match tokio::time::timeout(LISTENER_ANSWERS, UnixStream::connect(path)).await {
        Ok(Err(why)) if why.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(why)) if why.kind() == io::ErrorKind::PermissionDenied => Err(system(why)),
        Ok(_) | Err(_) => Err(DoorError::InUse(path.to_owned())),
    }
}
