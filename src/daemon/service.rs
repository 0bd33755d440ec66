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

/// Writes history into the log, so that who reads only the journal learns what the other commands say.
pub fn log(event: &HistoryEvent) {
    let (state, what, because) = (event.state.name(), event.what.as_str(), event.because.as_str());
    match (weight(&event.kind), event.row) {
        (Weight::Transition, Some(row)) => tracing::info!(row, state, what, because, "transition"),
        (Weight::Trouble, _) => tracing::warn!(kind = event.kind, state, what, because, "noted"),
        (Weight::Transition | Weight::News, _) => tracing::info!(kind = event.kind, state, what, because, "noted"),
        (Weight::Detail, _) => tracing::debug!(kind = event.kind, state, what, because, "noted"),
    }
}

/// How loud an event of history is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// A row of the state table.
    Transition,
    /// Somebody should look; the end of it is as loud, so that the two are found together.
    Trouble,
    /// What a person did, what a plan did, what is known now.
    News,
    /// The daemon has a line of its own for it.
    Detail,
}

/// By its kind; one that nobody thought of is not hidden.
fn weight(kind: &str) -> Weight {
    match kind {
        "transition" => Weight::Transition,
        "blocked" | "clock" | "disarmed" | "passive" | "peer" | "stall" | "store" => Weight::Trouble,
        "config" | "start" => Weight::Detail,
        _ => Weight::News,
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::units::State;

    /// Where the lines of a log go.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The line that an event leaves in a log without `-v`.
    fn line(kind: &str, what: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .with_max_level(tracing::Level::INFO);
        let event = HistoryEvent {
            at: jiff::Timestamp::UNIX_EPOCH,
            kind: kind.to_owned(),
            state: State::Standby,
            row: None,
            what: what.to_owned(),
            because: "stop it".to_owned(),
        };
        tracing::subscriber::with_default(subscriber.finish(), || log(&event));
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_is_told_and_stands_in_history_stands_in_the_log_too() {
        let told = line("passive", "its PBX is not passive: trunk-up");
        assert!(told.contains("WARN") && told.contains("trunk-up") && told.contains("stop it"), "{told}");
        for kind in ["step", "operator", "epoch", "verdict", "pause", "one of a later version"] {
            assert!(line(kind, "so it is").contains("so it is"), "{kind}");
        }
        assert_eq!(line("config", "new settings are in force"), "", "the daemon says it itself");
    }
}
