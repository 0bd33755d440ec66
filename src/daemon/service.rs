//! What systemd and the log are told.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use sd_notify::NotifyState;

use crate::units::journal::HistoryEvent;

/// Tells systemd; without systemd this does nothing.
pub fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}

/// As [`tell`], for the loop: what systemd does not take at once is dropped, because a manager that hangs must not hang
/// the robot. Both kinds that are told so are said again soon.
pub fn mention(state: &NotifyState<'_>) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let send = || {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let to = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        socket.send_to_addr(state.to_string().as_bytes(), &to)
    };
    if let Err::<usize, std::io::Error>(error) = send() {
        tracing::debug!(%error, "systemd could not be told");
    }
}

/// Tells systemd that the settings are being read again; its protocol wants the monotonic clock, not the boot clock.
pub fn reloading() {
    let now = NotifyState::monotonic_usec_now();
    if let Ok(now) = now {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// Writes history into the log: one `info` line for each transition, with its row and reason.
pub fn log(event: &HistoryEvent) {
    let (state, what, because) = (event.state.name(), event.what.as_str(), event.because.as_str());
    match (event.kind.as_str(), event.row) {
        ("transition", Some(row)) => tracing::info!(row, state, what, because, "transition"),
        ("disarmed" | "stall" | "blocked" | "store", _) => {
            tracing::warn!(kind = event.kind, state, what, because, "noted");
        }
        _ => tracing::debug!(kind = event.kind, state, what, because, "noted"),
    }
}

/// Starts the log: the journal under systemd, else lines (or JSON) on stderr.
pub fn start_log(json: bool, verbose: u8) {
    use tracing_subscriber::prelude::*;
    let level = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::new(format!("warn,pbx_failover={level}"));
    let registry = tracing_subscriber::registry().with(filter);
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let done = match tracing_journald::layer() {
        Ok(journal) if under_systemd => registry.with(journal).try_init(),
        _ if json => registry.with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr)).try_init(),
        _ => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
            let lines = tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(std::io::stderr);
            registry.with(lines).try_init()
        }
    };
    // A second start in one process (a test) keeps the first log.
    let _ = done;
}
