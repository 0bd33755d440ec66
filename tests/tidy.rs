//! Holds the project's habits by reading its source tree: who imports whom, what stays free of I/O, what is written down.
//!
//! The rules lie in `tidy/rules.rs`; here each is asked of the tree, and of bad samples, because a rule that cannot
//! fail holds nothing.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use rules::Fault;
use source::Source;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("cannot read {path}: {e}"))
}

/// Every text file of the repository; what is built, or is no text, is left out.
fn tree() -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository").map(|e| e.expect("an entry").path()) {
            let path = entry.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
            if matches!(path.as_str(), ".git" | "target") || entry.is_symlink() {
                continue;
            }
            if entry.is_dir() {
                folders.push(entry);
            } else if let Ok(text) = fs::read_to_string(&entry) {
                found.push(Source { path, text });
            }
        }
    }
    assert!(found.len() > 30, "only {} files found: is this the repository?", found.len());
    found
}

#[track_caller]
fn none(faults: &[Fault]) {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "\n{}\n", lines.join("\n"));
}

/// Where the rule saw faults in made-up files.
fn lines(faults: &[Fault]) -> Vec<(&str, usize)> {
    faults.iter().map(|f| (f.path.as_str(), f.line)).collect()
}

#[test]
fn each_layer_imports_only_what_lies_below_it() {
    none(&rules::layering(&tree()));
}

#[test]
fn an_import_from_above_or_beside_is_seen() {
    let bad = [
        Source::new("src/units/a.rs", "//! x\nuse crate::engine::E;"),
        Source::new("src/decision/a.rs", "//! x\nuse crate::units::{Verdict, State};\nuse crate::takeover::T;"),
        Source::new("src/adapters/dns/wire.rs", "//! x\nuse crate::adapters::pbx::P;"),
        Source::new("src/adapters/dns/mod.rs", "//! x\nfn f() { super::courier::send() }"),
        Source::new("src/store/mod.rs", "//! x\nuse super::control;\nmod tests { use super::super::adapters::X; }"),
        Source::new("src/main.rs", "//! x\nfn main() { pbx_failover::daemon::run() }"),
        Source::new("src/manager/mod.rs", "//! x"),
    ];
    let want = [
        ("src/units/a.rs", 2),
        ("src/decision/a.rs", 3),
        ("src/adapters/dns/wire.rs", 2),
        ("src/adapters/dns/mod.rs", 2),
        ("src/store/mod.rs", 2),
        ("src/store/mod.rs", 3),
        ("src/main.rs", 2),
        ("src/manager/mod.rs", 1),
    ];
    assert_eq!(lines(&rules::layering(&bad)), want);
}

#[test]
fn an_import_from_below_is_let_pass() {
    let good = [
        Source::new(
            "src/adapters/mod.rs",
            "//! x [`crate::daemon`]\npub use self::dns::D;\nuse crate::adapters::pbx::P;",
        ),
        Source::new("src/adapters/dns/wire.rs", "//! x\nuse super::rrset::R;\nuse crate::{config::Dns, units::Mode};"),
        Source::new("src/daemon/mod.rs", "//! x\nuse crate::{adapters::dns, store, engine};"),
    ];
    none(&rules::layering(&good));
}

#[test]
fn what_decides_touches_nothing() {
    none(&rules::purity(&tree()));
}

#[test]
fn a_clock_or_a_socket_in_the_engine_is_seen() {
    let bad = [
        Source::new("src/engine/a.rs", "//! x\nuse std::time::{Duration, Instant};\nuse tokio::sync::mpsc;"),
        Source::new("src/units/a.rs", "//! x\nuse std::net::{IpAddr, TcpStream};\nfn f() { Timestamp::now() }"),
        Source::new("src/takeover/a.rs", "//! x\nfn f() { std::fs::read(p); Ulid::new(); }"),
    ];
    let want = [
        ("src/engine/a.rs", 2),
        ("src/engine/a.rs", 3),
        ("src/units/a.rs", 2),
        ("src/units/a.rs", 3),
        ("src/takeover/a.rs", 2),
        ("src/takeover/a.rs", 2),
    ];
    assert_eq!(lines(&rules::purity(&bad)), want);
    none(&rules::purity(&[Source::new("src/daemon/a.rs", "use tokio::time::Instant;")]));
}

#[test]
fn every_file_says_what_it_owns() {
    none(&rules::opening(&tree()));
}

#[test]
fn a_file_without_an_opening_is_seen() {
    let files = [Source::new("src/a.rs", "use std::fmt;\n//! late"), Source::new("docs/a.md", "# a")];
    assert_eq!(lines(&rules::opening(&files)), [("src/a.rs", 1)]);
}

#[test]
fn no_file_is_too_long_to_be_read_at_once() {
    none(&rules::length(&tree()));
}

#[test]
fn a_long_file_is_seen_and_comments_and_tests_do_not_count() {
    let code = "fn f() {}\n".repeat(rules::CODE_LINES_MAX);
    let test = "#[cfg(test)]\nmod tests {\n".to_owned() + &"// x\nfn t() {}\n".repeat(600) + "}\n";
    let fits = Source::new("src/a.rs", &format!("//! x\n\n/// y\n{code}\n{test}"));
    none(&rules::length(&[fits]));
    let long = Source::new("src/a.rs", &format!("//! x\n{code}fn one_more() {{}}\n"));
    let long_test = Source::new("tests/a.rs", &"\n".repeat(rules::TEST_LINES_MAX + 1));
    let want = [("src/a.rs", rules::CODE_LINES_MAX), ("tests/a.rs", rules::TEST_LINES_MAX)];
    assert_eq!(lines(&rules::length(&[long, long_test])), want);
}

#[test]
fn nothing_unfinished_is_committed() {
    none(&rules::finished(&tree()));
}

#[test]
fn unfinished_code_is_seen_but_not_its_name_in_a_comment() {
    let bad = "//! x\n// todo!() is not used here\nfn f() { todo!() }\n#[ignore]\nfn g() { dbg!(1); \"dbg!(\" }\n\
               #[ignore = \"a child of x\"]\nfn c() {}\n#[ignore = \"slow\"]\nfn s() {}";
    assert_eq!(
        lines(&rules::finished(&[Source::new("src/a.rs", bad)])),
        [("src/a.rs", 3), ("src/a.rs", 4), ("src/a.rs", 5), ("src/a.rs", 8)]
    );
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    none(&rules::portable(&tree()));
}

#[test]
fn a_folder_of_one_machine_is_seen_and_a_url_is_not() {
    let folder = format!("/{}/", "home");
    let text = format!("a\ncd {folder}me\nhttps://example.com{folder}x\nsrc{folder}y\n");
    assert_eq!(lines(&rules::portable(&[Source::new("docs/a.md", &text)])), [("docs/a.md", 2)]);
}

#[test]
fn the_top_of_the_repository_is_a_table_of_contents() {
    let entries = fs::read_dir(root()).expect("the repository").map(|e| e.expect("an entry").file_name());
    let names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    let kept: Vec<String> = names.into_iter().filter(|name| !matches!(name.as_str(), ".git" | "target")).collect();
    none(&rules::top_level(&kept));
    assert_eq!(lines(&rules::top_level(&["src".into(), "scratch".into()])), [("scratch", 1)]);
}

#[test]
fn every_page_is_linked_and_every_link_leads_somewhere() {
    none(&rules::links(&tree(), &|path| root().join(path).exists()));
}

#[test]
fn a_dead_link_and_an_unlinked_page_are_seen() {
    let files = [
        Source::new("README.md", "# x\n[a](docs/a.md#top) [b](docs/gone.md) [c](https://example.com)"),
        Source::new("docs/a.md", "[up](../README.md) [top](#top)"),
        Source::new("docs/b.md", "# lonely"),
    ];
    let exists = |path: &str| files.iter().any(|f| f.path == path);
    assert_eq!(lines(&rules::links(&files, &exists)), [("README.md", 2), ("docs/b.md", 1)]);
}

#[test]
fn the_manifest_forbids_unsafe_and_explains_its_dependencies() {
    none(&rules::manifest(&read("Cargo.toml"), &read("Cargo.lock"), &read("docs/dependencies.md")));
}

#[test]
fn a_lax_manifest_is_seen() {
    let toml = "[dependencies]\nserde = \"1\"\nodd = \"1\"\n[features]\nx = []\n";
    let lock = "name = \"odd\"\nsource = \"git+https://example.com/odd\"\n";
    let faults = rules::manifest(toml, lock, "`serde` is for reading");
    assert_eq!(lines(&faults), [("Cargo.toml", 1), ("Cargo.lock", 2), ("Cargo.toml", 3)]);
}

#[test]
fn every_licence_in_the_tree_is_allowed() {
    none(&rules::licences(&packages(), &allowed_licences()));
}

#[test]
fn a_licence_that_is_not_allowed_is_seen() {
    let allowed = ["MIT".into(), "ISC".into()];
    let package = |expression: &str| vec![("x".to_owned(), expression.to_owned())];
    for good in ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "ISC AND (Apache-2.0 OR MIT)", "(MIT) AND ISC"] {
        none(&rules::licences(&package(good), &allowed));
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "ISC AND (Apache-2.0 OR BSL-1.0)", "MIT WITH Strange", ""] {
        assert_eq!(rules::licences(&package(bad), &allowed).len(), 1, "{bad}");
    }
}

/// The licences that `.deny.toml` allows.
fn allowed_licences() -> Vec<String> {
    let text = read(".deny.toml");
    let (_, list) = text.split_once("\nallow = [").expect(".deny.toml has a list `allow`");
    let (list, _) = list.split_once("\n]").expect("the list ends");
    list.lines().filter_map(|line| line.trim().strip_prefix('"')?.split('"').next().map(str::to_owned)).collect()
}

/// Name and licence of every crate that is built into the program or its tests.
fn packages() -> Vec<(String, String)> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", &target])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();

    let mut edges: HashMap<String, Vec<String>> = HashMap::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        edges.insert(text(&node["id"]), list(&node["deps"]).iter().map(|dep| text(&dep["pkg"])).collect());
    }
    let mut reached = HashSet::new();
    let mut waiting = vec![text(&metadata["resolve"]["root"])];
    while let Some(id) = waiting.pop() {
        if reached.insert(id.clone()) {
            waiting.extend(edges.remove(&id).unwrap_or_default());
        }
    }
    let all = list(&metadata["packages"]);
    let used = all.iter().filter(|package| reached.contains(&text(&package["id"])));
    let found: Vec<_> = used.map(|package| (text(&package["name"]), text(&package["license"]))).collect();
    assert!(found.len() > 100, "only {} packages found", found.len());
    found
}

#[test]
fn scripts_may_be_run_as_they_are() {
    use std::os::unix::fs::PermissionsExt;
    for script in ["tests/run", ".ci/run"] {
        let mode = fs::metadata(root().join(script)).expect("the script").permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{script}: chmod +x it");
        assert!(read(script).contains("set -euo pipefail"), "{script}: open it with set -euo pipefail");
        assert!(Path::new("/bin/bash").exists(), "no bash here");
    }
}
