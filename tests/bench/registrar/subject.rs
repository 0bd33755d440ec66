//! The registrars that are measured: how each is started, and what the kernel says of its processes.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use super::builtin::Builtin;
use crate::lab::asterisk::{self, Asterisk};
use crate::lab::free_port;
use crate::lab::kamailio::{self, Kamailio};
use crate::lab::sip::Algorithm;
use crate::lab::suite::Suite;

/// Kamailio's processes for UDP, and its shared memory, MB: two as on the machine's two cores, and enough for the storm.
const KAMAILIO_SIZE: (u32, u32) = (2, 256);

/// A registrar that can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The one inside the robot.
    Builtin,
    /// Kamailio.
    Kamailio,
    /// Asterisk 22.
    Asterisk,
}

impl Kind {
    /// All.
    pub const ALL: [Self; 3] = [Self::Kamailio, Self::Builtin, Self::Asterisk];

    /// Those that are measured unless the command line names others.
    pub const USUAL: &[Self] = &[Self::Kamailio, Self::Builtin];

    /// As the command line calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Kamailio => "kamailio",
            Self::Asterisk => "asterisk",
        }
    }

    /// As the tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Builtin => "built-in",
            Self::Kamailio => "Kamailio",
            Self::Asterisk => "Asterisk",
        }
    }

    /// Whether it is there.
    pub fn installed(self) -> bool {
        match self {
            Self::Kamailio => crate::lab::have(&kamailio::PROGRAMS),
            Self::Builtin | Self::Asterisk => true, // the latter lies beside sipp
        }
    }

    /// Whether it loads the accounts of the storm in less than minutes.
    pub fn loads_storm(self) -> bool {
        self != Self::Asterisk
    }

    /// Starts a new one with these accounts and no bindings.
    pub fn start(self, accounts: &[(String, String)], algorithm: Algorithm, suite: &Suite) -> Box<dyn Subject> {
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        match self {
            Self::Builtin => Box::new(Builtin::started(listen, accounts, algorithm)),
            Self::Kamailio => {
                let (processes, memory_mb) = KAMAILIO_SIZE;
                let setup = kamailio::Setup::at(listen).algorithm(algorithm).size(processes, memory_mb);
                Box::new(Kamailio::started(kamailio::Setup { accounts: accounts.to_vec(), ..setup }))
            }
            Self::Asterisk => {
                let setup = asterisk::Setup::at(suite, listen).algorithm(algorithm);
                let with = |setup: asterisk::Setup, (user, password): &(String, String)| setup.account(user, password);
                Box::new(Asterisk::started(accounts.iter().fold(setup, with)))
            }
        }
    }
}

/// A running registrar; ended when dropped.
pub trait Subject {
    /// As the tables call it.
    fn name(&self) -> &'static str;

    /// Where it listens over UDP.
    fn address(&self) -> SocketAddr;

    /// All its processes.
    fn pids(&self) -> Vec<u32>;

    /// What it says of those whom it does not serve; nothing when it does not say.
    fn counts(&self) -> String {
        String::new()
    }

    /// Processor time of all threads of all its processes so far, from the scheduler, which counts nanoseconds.
    fn cpu(&self) -> Duration {
        let tasks = self.pids().into_iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok()).flatten();
        let used = tasks.flatten().filter_map(|task| {
            let line = fs::read_to_string(task.path().join("schedstat")).ok()?;
            line.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(used.sum())
    }

    /// Its memory, bytes: of pages that its processes share, each has its part (PSS).
    fn memory(&self) -> f64 {
        let kb = self.pids().into_iter().filter_map(|pid| {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        });
        kb.sum::<f64>() * 1024.0
    }
}

impl Subject for Kamailio {
    fn name(&self) -> &'static str {
        Kind::Kamailio.name()
    }

    fn address(&self) -> SocketAddr {
        Self::address(self)
    }

    fn pids(&self) -> Vec<u32> {
        Self::pids(self)
    }
}

impl Subject for Asterisk {
    fn name(&self) -> &'static str {
        Kind::Asterisk.name()
    }

    fn address(&self) -> SocketAddr {
        Self::address(self)
    }

    fn pids(&self) -> Vec<u32> {
        self.pid().into_iter().collect()
    }
}
