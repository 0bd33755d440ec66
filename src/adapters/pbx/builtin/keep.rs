//! Bindings on disk, so that a restart of the robot does not lose where the phones are.
//!
//! A journal of lines: each has an address of record and all its contacts, the last line of a record counts. It is
//! appended to once a second and written anew when most of it is history. It is not synced to the disk: after a power
//! cut the phones come back by themselves, and nothing else hangs on it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::bindings::{Binding, Bindings, Outbound};
use super::flow::{Flow, Origin};
use crate::config::SipTransport;
use crate::units::Now;

/// A file that is longer was not written by us: 200,000 accounts with some contacts each.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// So many lines of history are kept beside as many as there are records.
const HISTORY_MIN: usize = 10_000;
/// More lines than any file has.
const TO_BE_WRITTEN_ANEW: usize = usize::MAX;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
struct Line<'a> {
    record: Cow<'a, str>,
    contacts: Vec<Kept<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept<'a> {
    uri: Cow<'a, str>,
    call_id: Cow<'a, str>,
    cseq: u32,
    expires: Timestamp,
    peer: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    phone: Option<(Cow<'a, str>, u32)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    path: Vec<Cow<'a, str>>,
    udp: bool,
}

/// The file.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    lines: usize,
}

impl Keeper {
    /// Reads what was kept; `udp` finds the listener of a phone. What has expired, or lived on a connection, is left out.
    ///
    /// Nothing lasts longer than `longest` from now, wherever the clock of the day stood when it was written. A file that
    /// cannot be read is begun anew: the phones come back by themselves.
    pub fn open(
        path: PathBuf,
        now: Now,
        longest: Duration,
        udp: impl Fn(SocketAddr) -> Option<usize>,
    ) -> (Self, Bindings) {
        let mut bindings = Bindings::default();
        let mut keeper = Self { path, lines: 0 };
        match keeper.read() {
            Ok(lines) => {
                for (record, contacts) in lines {
                    bindings.set(
                        &record,
                        contacts.into_iter().filter_map(|kept| kept.binding(now, longest, &udp)).collect(),
                    );
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                keeper.lines = TO_BE_WRITTEN_ANEW;
                tracing::warn!(%error, "where phones were registered cannot be read; they come back by themselves");
            }
        }
        (keeper, bindings)
    }

    fn read(&mut self) -> io::Result<HashMap<String, Vec<Kept<'static>>>> {
        let file = File::open(&self.path)?;
        if file.metadata()?.len() > FILE_BYTES_MAX {
            return Err(io::Error::other("it is longer than it can be"));
        }
        let mut lines = HashMap::new();
        let mut is_damaged = false;
        for line in BufReader::new(file).lines() {
            self.lines += 1;
            match serde_json::from_str(&line?) {
                Ok(Line { record, contacts }) => drop(lines.insert(record.into_owned(), contacts)),
                Err(_) => is_damaged = true,
            }
        }
        if is_damaged {
            // The last line was cut where the robot was killed: what is appended would become a part of it.
            self.lines = TO_BE_WRITTEN_ANEW;
        }
        Ok(lines)
    }

    /// What is to be written after these records changed.
    pub fn changes(&mut self, bindings: &Bindings, changed: impl IntoIterator<Item = Arc<str>>, now: Now) -> Change {
        let mut text = Vec::new();
        let is_long = self.lines > HISTORY_MIN + 2 * bindings.count();
        if is_long {
            self.lines = 0;
            for (record, contacts) in bindings.iter() {
                self.line(&mut text, record, contacts.iter(), now);
            }
        } else {
            for record in changed {
                self.line(&mut text, &record, bindings.of(&record, now.boot), now);
            }
        }
        Change { path: self.path.clone(), text, anew: is_long }
    }

    fn line<'a>(&mut self, text: &mut Vec<u8>, record: &str, contacts: impl Iterator<Item = &'a Binding>, now: Now) {
        let line = Line { record: record.into(), contacts: contacts.map(|b| Kept::of(b, now)).collect() };
        if serde_json::to_writer(&mut *text, &line).is_ok() {
            text.push(b'\n');
            self.lines += 1;
        }
    }
}

/// Lines for the file.
#[derive(Debug)]
pub struct Change {
    path: PathBuf,
    text: Vec<u8>,
    anew: bool,
}

impl Change {
    /// Writes them. It blocks.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self) -> io::Result<()> {
        if self.text.is_empty() && !self.anew {
            return Ok(());
        }
        if self.anew {
            let beside = self.path.with_extension("new");
            open(&beside, OpenOptions::new().create(true).truncate(true).write(true))?.write_all(&self.text)?;
            return fs::rename(beside, &self.path);
        }
        open(&self.path, OpenOptions::new().create(true).append(true))?.write_all(&self.text)
    }
}

/// Phones' addresses are nobody else's business.
fn open(path: &Path, how: &mut OpenOptions) -> io::Result<File> {
    how.mode(0o600).open(path)
}

impl<'a> Kept<'a> {
    fn of(binding: &'a Binding, now: Now) -> Self {
        let left = SignedDuration::try_from(binding.expires_at.saturating_sub(now.boot)).unwrap_or_default();
        Self {
            uri: (&*binding.uri).into(),
            call_id: (&*binding.call_id).into(),
            cseq: binding.cseq,
            expires: now.wall.checked_add(left).unwrap_or(now.wall),
            peer: binding.origin.peer,
            phone: binding.outbound.as_ref().map(|phone| ((&*phone.instance).into(), phone.reg_id)),
            path: binding.path.iter().map(|hop| (&**hop).into()).collect(),
            udp: binding.origin.transport == SipTransport::Udp,
        }
    }

    fn binding(self, now: Now, longest: Duration, udp: impl Fn(SocketAddr) -> Option<usize>) -> Option<Binding> {
        let left = Duration::try_from(self.expires.duration_since(now.wall)).ok().filter(|left| !left.is_zero())?;
        // A connection has ended with the process that had it.
        let flow = Flow::Udp(self.udp.then(|| udp(self.peer)).flatten()?);
        Some(Binding {
            uri: self.uri.into(),
            call_id: self.call_id.into(),
            cseq: self.cseq,
            expires_at: now.boot + left.min(longest),
            outbound: self.phone.map(|(instance, reg_id)| Outbound { instance: instance.into(), reg_id }),
            path: self.path.into_iter().map(Into::into).collect(),
            origin: Origin { flow, peer: self.peer, ours: None, transport: SipTransport::Udp },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn now(boot_s: u64) -> Now {
        let wall = Timestamp::from_second(1_800_000_000 + i64::try_from(boot_s).expect("small")).expect("a time");
        Now { boot: Duration::from_secs(boot_s), wall }
    }

    fn binding(user: u32, expires_s: u64, transport: SipTransport) -> Binding {
        let peer: SocketAddr = "192.0.2.1:5062".parse().expect("an address");
        let flow = if transport == SipTransport::Udp { Flow::Udp(0) } else { Flow::Stream(9) };
        Binding {
            uri: format!("sip:{user}@192.0.2.1:5062").into(),
            call_id: "a\"b".into(),
            cseq: user,
            expires_at: Duration::from_secs(expires_s),
            outbound: Some(Outbound { instance: "<urn:uuid:0>".into(), reg_id: 1 }),
            path: Box::new(["<sip:edge.example.com;lr>".into()]),
            origin: Origin { flow, peer, ours: None, transport },
        }
    }

    #[test]
    fn what_was_kept_comes_back_after_a_reboot_unless_it_expired_or_lived_on_a_connection() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("bindings");
        let (mut keeper, mut bindings) = Keeper::open(path.clone(), now(100), HOUR, |_| Some(0));
        bindings.set("1", vec![binding(1, 200, SipTransport::Udp)]);
        bindings.set("2", vec![binding(2, 110, SipTransport::Udp), binding(3, 300, SipTransport::Tcp)]);
        bindings.set("gone", vec![binding(4, 300, SipTransport::Udp)]);
        let changed = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<_>>();
        keeper.changes(&bindings, changed(&["1", "2", "gone"]), now(100)).write().expect("written");
        bindings.set("gone", Vec::new());
        keeper.changes(&bindings, changed(&["gone"]), now(101)).write().expect("written");
        fs::write(&path, [fs::read(&path).expect("there").as_slice(), b"{\"record\":\"1\",\"cont"].concat())
            .expect("cut");

        let rebooted = Now { boot: Duration::from_secs(5), wall: now(120).wall };
        let (_, read) = Keeper::open(path.clone(), rebooted, HOUR, |_| Some(7));
        let found: Vec<_> = read.iter().collect();
        let mut expected = binding(1, 85, SipTransport::Udp);
        expected.origin.flow = Flow::Udp(7);
        assert_eq!(found, [("1", &[expected][..])]);
        let without_a_clock = Now { boot: Duration::from_secs(5), wall: Timestamp::UNIX_EPOCH };
        let (_, read) = Keeper::open(path, without_a_clock, HOUR, |_| Some(7));
        let latest = read.iter().flat_map(|(_, bindings)| bindings).map(|binding| binding.expires_at).max();
        assert_eq!(latest, Some(Duration::from_secs(5) + HOUR));
    }

    #[test]
    fn the_file_does_not_grow_with_history() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("bindings");
        let (mut keeper, mut bindings) = Keeper::open(path.clone(), now(0), HOUR, |_| Some(0));
        bindings.set("1", vec![binding(1, 1000, SipTransport::Udp)]);
        let mut longest = 0;
        for second in 0..10 {
            let renewals = std::iter::repeat_n(Arc::from("1"), 5000);
            keeper.changes(&bindings, renewals, now(second)).write().expect("written");
            longest = longest.max(fs::read_to_string(&path).expect("there").lines().count());
        }
        assert!((10_001..=20_000).contains(&longest), "{longest}");
        let (_, read) = Keeper::open(path, now(10), HOUR, |_| Some(0));
        assert_eq!(read.count(), 1);
    }

    #[test]
    fn what_is_written_after_a_cut_or_odd_file_can_be_read_again() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("bindings");
        for damaged in [&b"{\"record\":\"1\",\"cont"[..], b"\xff\xfe\n", b"[]\n{}\n"] {
            fs::write(&path, damaged).expect("written");
            let (mut keeper, mut bindings) = Keeper::open(path.clone(), now(0), HOUR, |_| Some(0));
            bindings.set("2", vec![binding(2, 100, SipTransport::Udp)]);
            keeper.changes(&bindings, [Arc::from("2")], now(0)).write().expect("written");
            let (_, read) = Keeper::open(path.clone(), now(1), HOUR, |_| Some(0));
            assert_eq!(read.count(), 1, "{}", String::from_utf8_lossy(damaged));
        }
    }

    #[test]
    fn a_file_of_something_else_is_passed_over() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("bindings");
        fs::write(&path, b"\xff\xfe\n[]\n{}\n").expect("written");
        let (mut keeper, bindings) = Keeper::open(path, now(0), HOUR, |_| Some(0));
        assert!(bindings.count() == 0);
        keeper.changes(&bindings, [Arc::from("1")], now(0)).write().expect("written");
    }
}
