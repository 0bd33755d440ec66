//! The rules themselves: each takes files and gives back its faults, so that each can be shown to fail.

use std::fmt;

use crate::source::{NamedPath, Source, mask};

/// One breach of a rule: where, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// What to do.
    pub advice: String,
}

impl Fault {
    /// A fault at a line of a file.
    pub fn new(path: &str, line: usize, advice: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, advice: advice.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.advice)
    }
}

/// Who may import whom. What is not named here may not be imported.
const LAYERS: [(&str, &[&str]); 18] = [
    ("wire", &[]),
    ("units", &[]),
    ("decision", &["units"]),
    ("takeover", &["units"]),
    ("data", &["units"]),
    ("engine", &["units", "decision", "takeover"]),
    ("primary", &["units"]),
    ("ports", &["units"]),
    ("config", &["units", "data", "ports"]),
    ("host", &["units", "ports", "config"]),
    ("sip", &["units", "ports", "config", "host"]),
    // Of `decision` both use one function without state: whether a beat that came over the wire is believed.
    ("adapters", &["units", "decision", "data", "ports", "config", "host", "sip", "wire"]),
    ("control", &["units", "decision", "ports", "config", "host", "wire"]),
    ("store", &["units", "primary", "ports", "config", "host"]),
    (
        "daemon",
        &[
            "units", "decision", "takeover", "data", "engine", "primary", "ports", "config", "host", "sip", "adapters",
            "control", "store",
        ],
    ),
    ("demo", &["units", "ports", "config", "host", "sip", "adapters", "control", "daemon"]),
    (
        "cli",
        &[
            "units", "decision", "takeover", "data", "engine", "primary", "ports", "config", "host", "adapters",
            "control", "store", "daemon", "demo",
        ],
    ),
    ("main", &["cli"]),
];

/// The model check of the engine plays the primary as well, with the real guard and agent.
const MODEL: (&str, &str) = ("src/engine/tests/model/", "primary");

/// The layers that decide, and the one that reads formats: no clock, no socket, no file, no task.
const PURE: [&str; 7] = ["wire", "units", "decision", "takeover", "data", "engine", "primary"];

/// What a pure layer may not name. Address types of `std::net` are words, not sockets.
const IMPURE: [(&str, &str); 15] = [
    ("tokio", "tasks and sockets belong to the daemon and the adapters"),
    ("reqwest", "requests belong to the adapters"),
    ("rusqlite", "the database belongs to the store"),
    ("rustix", "system calls belong to host"),
    ("std::fs", "files belong to the adapters and the store"),
    ("std::io", "files and sockets belong to the adapters and the store"),
    ("std::env", "the environment belongs to config and cli"),
    ("std::process", "processes belong to host"),
    ("std::thread", "threads belong to the daemon and the store"),
    ("std::net", "sockets belong to the adapters"),
    ("std::time::Instant", "take `now: Now` as an argument"),
    ("std::time::SystemTime", "take `now: Now` as an argument"),
    ("Timestamp::now", "take `now: Now` as an argument"),
    ("jiff::Timestamp::now", "take `now: Now` as an argument"),
    ("Ulid::new", "take the new id as an argument: it holds the time and a random number"),
];

/// Types of `std::net` that are values.
const NET_WORDS: [&str; 6] = ["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4", "SocketAddrV6"];

/// Holds the layers, and adapters apart from one another.
pub fn layering(files: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|f| f.is_product()) {
        let module = file.module();
        let Some(layer) = module.first() else { continue };
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| name == layer) else {
            faults.push(Fault::new(
                &file.path,
                1,
                format!("no layer is called {layer}: add it to LAYERS in tests/tidy"),
            ));
            continue;
        };
        for path in file.paths().iter().filter(|p| p.segments[0] == "crate") {
            let Some(target) = path.segments.get(1) else { continue };
            if target == layer {
                faults.extend(foreign_adapter(&module, path).map(|other| {
                    let advice = format!("adapters do not know each other: move what is shared with {other} to host");
                    Fault::new(&file.path, path.line, advice)
                }));
            } else if LAYERS.iter().any(|(name, _)| name == target)
                && !allowed.contains(&target.as_str())
                && !(file.path.starts_with(MODEL.0) && target == MODEL.1)
            {
                let advice = format!("{layer} may not import {target}: it may import {}", list(allowed));
                faults.push(Fault::new(&file.path, path.line, advice));
            }
        }
    }
    faults
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

/// The other adapter that a file of one adapter names. `src/adapters/mod.rs` is the registry and names all.
fn foreign_adapter<'a>(module: &[String], path: &'a NamedPath) -> Option<&'a str> {
    let own = module.get(1)?;
    let other = path.segments.get(2)?;
    let is_module = other.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    (module[0] == "adapters" && is_module && other != own).then_some(other)
}

/// Holds the engine and what it stands on free of I/O and clocks.
pub fn purity(files: &[Source]) -> Vec<Fault> {
    let pure = |file: &&Source| file.is_product() && file.module().first().is_some_and(|m| PURE.contains(&m.as_str()));
    let mut faults = Vec::new();
    for file in files.iter().filter(pure) {
        for path in file.paths() {
            let text = path.text();
            let is_word = path.segments.get(2).is_some_and(|s| NET_WORDS.contains(&s.as_str()));
            let named = |banned: &str| text == banned || text.starts_with(&format!("{banned}::"));
            if let Some((banned, advice)) = IMPURE.iter().find(|(banned, _)| named(banned))
                && !(*banned == "std::net" && is_word)
            {
                faults.push(Fault::new(&file.path, path.line, format!("no {banned} in a pure layer: {advice}")));
            }
        }
    }
    faults
}

/// Every Rust file says what it owns.
pub fn opening(files: &[Source]) -> Vec<Fault> {
    let good = |file: &Source| file.text.starts_with("//! ");
    files
        .iter()
        .filter(|f| f.is_rust() && !good(f))
        .map(|f| Fault::new(&f.path, 1, "open the file with `//!`: what it owns, what it does not, where to read next"))
        .collect()
}

/// Most lines of code in a file of the product: comments, blank lines and the tests at its end do not count.
pub const CODE_LINES_MAX: usize = 500;

/// Most lines in a file of tests, all of them counted.
pub const TEST_LINES_MAX: usize = 1_000;

/// Files stay small enough to be read at once.
pub fn length(files: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|f| f.is_rust()) {
        let is_test = !file.is_product() || file.path.ends_with("/tests.rs");
        let (lines, most) = if is_test {
            (file.text.lines().count(), TEST_LINES_MAX)
        } else {
            (code_lines(&file.text), CODE_LINES_MAX)
        };
        if lines > most {
            faults.push(Fault::new(
                &file.path,
                most,
                format!("{lines} lines, at most {most}: look for a seam and split it"),
            ));
        }
    }
    faults
}

fn code_lines(text: &str) -> usize {
    let product = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    mask(product).lines().filter(|line| !line.trim().is_empty()).count()
}

/// Code that says "later", or was left from looking for a fault.
const UNFINISHED: [&str; 5] = ["todo!(", "unimplemented!(", "dbg!(", "#[ignore", "FIXME"];

/// How a test is marked that another one runs as a process of its own.
const CHILD: [&str; 2] = ["#[ignore = \"a child of ", "#[ignore = \"the child of "];

/// Nothing unfinished is committed.
pub fn finished(files: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|f| f.is_rust()) {
        for (number, line) in mask(&file.text).lines().enumerate() {
            let is_child = file.text.lines().nth(number).is_some_and(|line| CHILD.iter().any(|c| line.contains(c)));
            for word in UNFINISHED.iter().filter(|word| line.contains(*word) && !is_child) {
                faults.push(Fault::new(
                    &file.path,
                    number + 1,
                    format!("`{word}` is not committed: finish it or leave it out"),
                ));
            }
        }
    }
    faults
}

/// No file knows the machine that it was written on.
pub fn portable(files: &[Source]) -> Vec<Fault> {
    // Put together here, so that this file does not name them itself.
    let folders = ["work", "root", "home", "tmp/wt", "Users"].map(|folder| format!("/{folder}/"));
    let mut faults = Vec::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            for folder in folders.iter().filter(|folder| names_folder(line, folder)) {
                let advice = format!("{folder} is a folder of one machine: use a relative path or a temporary folder");
                faults.push(Fault::new(&file.path, number + 1, advice));
            }
        }
    }
    faults
}

/// Whether the line holds the folder at the beginning of a path, not inside a longer one or a URL.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/}".contains(c))
    })
}

/// What may lie at the top of the repository.
const TOP: [&str; 18] = [
    ".ci",
    ".config",
    ".deny.toml",
    ".gitattributes",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "clippy.toml",
    "docs",
    "failover.yaml.example",
    "rustfmt.toml",
    "src",
    "systemd",
    "tests",
];

/// The top of the repository stays a table of contents.
pub fn top_level(names: &[String]) -> Vec<Fault> {
    let strange = names.iter().filter(|name| !TOP.contains(&name.as_str()));
    strange
        .map(|name| Fault::new(name, 1, "does not belong at the top: move it, or add it to TOP in tests/tidy"))
        .collect()
}

/// Links between the project's own pages lead somewhere, and README leads to every page.
pub fn links(files: &[Source], exists: &dyn Fn(&str) -> bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut from_readme = Vec::new();
    for file in files.iter().filter(|f| f.is_page()) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (number, line) in file.text.lines().enumerate() {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let target = target.split('#').next().unwrap_or_default();
                if target.is_empty() || target.contains(':') {
                    continue;
                }
                let target = resolve_link(folder, target);
                if !exists(&target) {
                    faults.push(Fault::new(
                        &file.path,
                        number + 1,
                        format!("the link to {target} leads nowhere: mend it"),
                    ));
                }
                from_readme.extend((file.path == "README.md").then_some(target));
            }
        }
    }
    let pages = files.iter().filter(|f| f.path.starts_with("docs/") && f.is_page());
    let unlinked = pages.filter(|page| !from_readme.contains(&page.path));
    faults.extend(unlinked.map(|page| Fault::new(&page.path, 1, "README.md does not lead here: link it")));
    faults
}

fn resolve_link(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The manifest forbids `unsafe`, takes everything from crates.io, and each dependency has its reason written down.
pub fn manifest(cargo_toml: &str, cargo_lock: &str, dependencies_md: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !cargo_toml.lines().any(|line| line.trim() == "unsafe_code = \"forbid\"") {
        faults.push(Fault::new("Cargo.toml", 1, "write `unsafe_code = \"forbid\"` under [lints.rust]"));
    }
    for (number, line) in cargo_lock.lines().enumerate().filter(|(_, line)| line.starts_with("source = ")) {
        if line != "source = \"registry+https://github.com/rust-lang/crates.io-index\"" {
            faults.push(Fault::new("Cargo.lock", number + 1, "take the crate from crates.io"));
        }
    }
    let mut section = "";
    for (number, line) in cargo_toml.lines().enumerate() {
        if line.starts_with('[') {
            section = line.trim();
        } else if let Some((name, _)) = line.split_once(" = ")
            && matches!(section, "[dependencies]" | "[dev-dependencies]")
            && !dependencies_md.contains(&format!("`{name}`"))
        {
            faults.push(Fault::new(
                "Cargo.toml",
                number + 1,
                format!("say in docs/dependencies.md what `{name}` is here for"),
            ));
        }
    }
    faults
}

/// Which of the packages (name, licence expression) `allowed` does not cover.
pub fn licences(packages: &[(String, String)], allowed: &[String]) -> Vec<Fault> {
    let refused = packages.iter().filter(|(_, expression)| !covers(expression, allowed));
    let advice = |expression: &str| {
        format!("its licence, {expression}, is not in .deny.toml: decide, then add it or drop the crate")
    };
    refused.map(|(name, expression)| Fault::new(name, 1, advice(expression))).collect()
}

/// Whether an SPDX expression is satisfied by the allowed licences. `A/B` is the old way to write `A OR B`.
fn covers(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words: Vec<&str> = expression.split_whitespace().rev().collect();
    any_of(&mut words, allowed)
}

/// `AND` binds stronger than `OR`. Words come from the end of the list.
fn any_of(words: &mut Vec<&str>, allowed: &[String]) -> bool {
    let mut good = all_of(words, allowed);
    while words.last() == Some(&"OR") {
        words.pop();
        good |= all_of(words, allowed);
    }
    good
}

fn all_of(words: &mut Vec<&str>, allowed: &[String]) -> bool {
    let mut good = one(words, allowed);
    while words.last() == Some(&"AND") {
        words.pop();
        good &= one(words, allowed);
    }
    good
}

fn one(words: &mut Vec<&str>, allowed: &[String]) -> bool {
    match words.pop() {
        Some("(") => {
            let good = any_of(words, allowed);
            words.pop();
            good
        }
        Some(name) if words.last() == Some(&"WITH") => {
            words.pop();
            let exception = words.pop().unwrap_or_default();
            allowed.contains(&format!("{name} WITH {exception}"))
        }
        Some(name) => allowed.iter().any(|a| a == name),
        None => false,
    }
}
