//! The SIP messages of `tests/data/sip`, with what the manifest says of each.
//!
//! It reads no SIP. The messages of RFC 4475 are not kept in the repository; where they are absent it says so loudly,
//! and under `CI` it fails.

use std::path::{Path, PathBuf};

/// What the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request in a datagram.
    Request,
    /// An answer in a datagram.
    Response,
    /// Bytes of a connection.
    Stream,
    /// No SIP.
    Noise,
}

/// One entry of the manifest with its bytes.
#[derive(Debug)]
pub struct Sample {
    /// Its path below `tests/data/sip`.
    pub name: String,
    /// What the bytes are.
    pub kind: Kind,
    /// Whether the grammar allows it.
    pub well_formed: bool,
    /// What a server may do with it: one of `serve`, `silence`, `read` or a status code.
    pub verdicts: Vec<String>,
    /// The bytes.
    pub bytes: Vec<u8>,
    facts: Vec<(String, String)>,
}

impl Sample {
    /// What a reader must find under this name, where the manifest tells.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether this is one of the verdicts.
    pub fn may(&self, verdict: &str) -> bool {
        self.verdicts.iter().any(|v| v == verdict)
    }
}

/// The folder of the corpus.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sip")
}

/// Where the messages of RFC 4475 lie: `SIP_TORTURE_DIR`, else beside the project.
fn torture_folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/rfc4475");
    let folder = std::env::var_os("SIP_TORTURE_DIR").map_or(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "no messages of RFC 4475: set SIP_TORTURE_DIR to their folder");
    eprintln!("SKIPPED: the messages of RFC 4475: set SIP_TORTURE_DIR to their folder");
    None
}

/// Every message that the manifest names, in its order.
pub fn samples() -> Vec<Sample> {
    let manifest = std::fs::read_to_string(folder().join("manifest.txt")).expect("the manifest");
    let torture = torture_folder();
    let lines = manifest.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(|line| sample(line, torture.as_deref())).collect()
}

/// The bytes of every message, for `mutate`.
pub fn seeds() -> Vec<Vec<u8>> {
    samples().into_iter().map(|sample| sample.bytes).collect()
}

/// Reads one line; `None` where its file is absent and may be.
fn sample(line: &str, torture: Option<&Path>) -> Option<Sample> {
    let (left, why) = line.split_once(" -- ").unwrap_or_else(|| panic!("no source: {line}"));
    assert!(why.len() > 10, "no source: {line}");
    let mut words = left.split_whitespace();
    let mut word = || words.next().unwrap_or_else(|| panic!("too short: {line}"));
    let name = word().to_owned();
    let kind = match word() {
        "request" => Kind::Request,
        "response" => Kind::Response,
        "stream" => Kind::Stream,
        "noise" => Kind::Noise,
        other => panic!("no kind is called {other}: {line}"),
    };
    let well_formed = match word() {
        "well" => true,
        "ill" => false,
        other => panic!("no form is called {other}: {line}"),
    };
    let verdicts: Vec<String> = word().split(',').map(str::to_owned).collect();
    for verdict in &verdicts {
        let is_code = verdict.parse().is_ok_and(|code: u16| (200..700).contains(&code));
        assert!(is_code || matches!(verdict.as_str(), "serve" | "silence" | "read"), "no verdict is {verdict}: {line}");
    }
    let fact = |word: &str| {
        let (key, value) = word.split_once('=').unwrap_or_else(|| panic!("{word} is no fact: {line}"));
        (key.to_owned(), value.to_owned())
    };
    let facts = words.map(fact).collect();
    let path = match name.strip_prefix("rfc4475/") {
        Some(file) => torture?.join(file),
        None => folder().join(&name),
    };
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Some(Sample { name, kind, well_formed, verdicts, bytes, facts })
}
