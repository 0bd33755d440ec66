//! failover.yaml from the outside: what loads, what is refused, and with which words.
//!
//! `tests/config/malformed.txt` holds the mistakes, each a change of failover.yaml.example with the remarks that it
//! must cause and no others.

#[path = "config/defaults.rs"]
mod defaults;
#[path = "config/files.rs"]
mod files;
#[path = "config/hostile.rs"]
mod hostile;
#[path = "config/malformed.rs"]
mod malformed;
#[path = "config/meaning.rs"]
mod meaning;

use std::path::Path;

use pbx_failover::config::{Config, Files, Loaded, Refused, Surroundings, parse};

/// The example, as it is shipped.
pub const EXAMPLE: &str = include_str!("../failover.yaml.example");

/// The shortest file that works, on pbx-b.
pub const SHORT: &str = r#"
primary: { node: pbx-a, address: 203.0.113.10 }
backup:  { node: pbx-b, address: 198.51.100.20 }
monitor: { checks: { web: { http: "https://pbx.example.com/" }, sip: { sip: "sip:pbx.example.com" } } }
pbx:     { working_dir: /usr/local/pbx, driver: { systemd: { unit: pbx.service } } }
epoch:   { store: dns, record: _pbx-failover.pbx.example.com }
dns:     { updates: [{ server: 192.0.2.53, zone: example.com, key: { name: k, secret: { file: /etc/pbx-failover/tsig.key } }, records: [pbx.example.com] }] }
notify:  { email: { smtp: smtp.example.com, to: [me@example.com] } }
"#;

/// Checks a text without looking at any file.
pub fn read(text: &str) -> Result<Loaded, Refused> {
    let surroundings = Surroundings { host_name: "pbx-b".to_owned(), files: Files::Ignored };
    parse(text, Path::new("/etc/pbx-failover/failover.yaml"), &surroundings)
}

/// A text that must be good.
pub fn good(text: &str) -> Config {
    read(text).unwrap_or_else(|refused| panic!("refused:\n{refused}\n{text}")).config
}

/// The lines of a refusal.
pub fn refusal(text: &str) -> String {
    match read(text) {
        Ok(_) => panic!("not refused:\n{text}"),
        Err(refused) => refused.to_string(),
    }
}
