//! The way home of what was changed on this node: rsync over ssh; checked values.

use std::path::PathBuf;

/// Where rsync carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnTo {
    /// `USER@HOST`, or `HOST`.
    pub host: String,
    /// The working directories there, in the order of those here.
    pub dirs: Vec<PathBuf>,
    /// The private key; `None`: what ssh finds by itself.
    pub ssh_key: Option<PathBuf>,
    /// The port of sshd there.
    pub port: u16,
    /// Who is known; `None`: what ssh reads by itself.
    pub known_hosts: Option<PathBuf>,
    /// So fast at most while phones are served, KiB a second; 0: as fast as it goes.
    pub max_kib_s: u32,
}
