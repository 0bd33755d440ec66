//! What the pages say is true: the picture is the program's, every command line is one, every YAML loads, the table
//! of settings is the loader's own.
//!
//! `PBX_FAILOVER_WRITE_DOCS=1 cargo test --test readme` writes the generated parts anew. What the DNS snippets do at
//! real servers is in `tests/robot/docs.rs`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser as _;
use pbx_failover::cli::args::Cli;
use pbx_failover::config::{Files, Surroundings, parse, schema};
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("cannot read {path}: {e}"))
}

/// README and every page of `docs` and of its recipes, with their text.
fn pages() -> Vec<(String, String)> {
    let folder = |folder: &'static str| {
        let names = fs::read_dir(root().join(folder)).expect(folder).map(|e| e.expect("an entry").file_name());
        names.map(move |name| format!("{folder}/{}", name.to_string_lossy()))
    };
    let docs = folder("docs").chain(folder("docs/recipes"));
    let docs = docs.filter(|path| Path::new(path).extension().is_some_and(|end| end == "md"));
    let pages: Vec<_> =
        ["README.md".to_owned()].into_iter().chain(docs).map(|path| (path.clone(), read(&path))).collect();
    assert!(pages.len() > 5, "only {} pages found", pages.len());
    pages
}

/// The fenced blocks of a page in one language, without the indentation of the list that they stand in.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(bool, usize, String)> = None;
    for line in text.lines() {
        let plain = line.trim_start();
        match (plain.strip_prefix("```"), &mut open) {
            (Some(name), None) => open = Some((name == language, line.len() - plain.len(), String::new())),
            (Some(_), Some((wanted, _, block))) => {
                if *wanted {
                    found.push(std::mem::take(block));
                }
                open = None;
            }
            (None, Some((_, indent, block))) => {
                block.push_str(line.get(*indent..).unwrap_or_default());
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

#[test]
fn the_state_picture_is_the_programs_own() {
    let output = Command::new(env!("CARGO_BIN_EXE_pbx-failover")).args(["fsm", "--format", "mermaid"]).output();
    let drawn = String::from_utf8(output.expect("the program runs").stdout).expect("UTF-8");
    assert!(drawn.starts_with("stateDiagram-v2\n") && drawn.lines().count() > 10, "{drawn}");
    assert_eq!(blocks(&read("README.md"), "mermaid"), [drawn], "paste what `pbx-failover fsm --format mermaid` prints");
}

/// Every call of the program in a page: in backticks, after a prompt, or at the beginning of a line of a script.
fn calls(text: &str) -> Vec<String> {
    let mut calls: Vec<String> = Vec::new();
    // A span may be broken over two lines.
    let prose = text.replace('\n', " ");
    let prose = prose.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in prose.split("`pbx-failover ").skip(1) {
        calls.push(part.split('`').next().unwrap_or_default().to_owned());
    }
    let script = [blocks(text, "sh"), blocks(text, "console")].concat().concat();
    for line in script.lines() {
        let line = line.trim_start_matches("$ ").trim_start_matches("sudo ").trim_start_matches("-u pbx-failover ");
        calls.extend(line.strip_prefix("pbx-failover ").map(str::to_owned));
    }
    calls
}

/// What the command line says against a call; `None`: it would be obeyed.
fn refusal(call: &str) -> Option<String> {
    // `--reason "a b"` is one word.
    let mut words = vec!["pbx-failover".to_owned()];
    for (i, part) in call.split('#').next().unwrap_or_default().split('"').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    Cli::try_parse_from(words).err().filter(clap::Error::use_stderr).map(|error| error.to_string())
}

#[test]
fn every_command_line_in_the_pages_is_one() {
    let mut seen = 0;
    for (path, text) in pages() {
        for call in calls(&text) {
            seen += 1;
            assert_eq!(refusal(&call), None, "{path}: pbx-failover {call}");
        }
    }
    assert!(seen > 50, "only {seen} calls found");
}

#[test]
fn a_command_line_that_is_none_is_seen() {
    let page =
        "Run `pbx-failover explain\nnow` or:\n```sh\nsudo -u pbx-failover pbx-failover chekc\npbx-failover ack\n```\n";
    let calls = calls(page);
    assert_eq!(calls, ["explain now", "chekc", "ack"]);
    let bad: Vec<bool> = calls.iter().map(|call| refusal(call).is_some()).collect();
    assert_eq!(bad, [true, true, false]);
    assert_eq!(refusal("pause --for 2h --reason \"new router\""), None);
}

/// Messages and hints name commands too.
#[test]
fn every_command_line_that_the_program_names_is_one() {
    let mut folders = vec![root().join("src")];
    let mut seen = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("a folder of the source").map(|e| e.expect("an entry").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).expect("source").replace("\\\n", "");
                let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                let spans = text.split("`pbx-failover ").skip(1).filter_map(|part| part.split('`').next());
                seen.extend(spans.map(str::to_owned));
            }
        }
    }
    assert!(seen.len() > 10, "only {seen:?}");
    // `test` alone stands for both of its own.
    for call in seen.iter().filter(|call| *call != "test") {
        assert_eq!(refusal(call), None, "pbx-failover {call}");
    }
}

/// The shortest file, as the head of failover.yaml.example has it.
fn shortest() -> String {
    let example = read("failover.yaml.example");
    let lines = example.lines().filter_map(|line| line.strip_prefix("#   "));
    let lines =
        lines.filter(|line| line.split_once(':').is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase())));
    lines.fold(String::from("node: pbx-b\n"), |text, line| text + line + "\n")
}

/// A text cut at its top-level keys.
fn sections(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let key = line.split(':').next().unwrap_or_default();
        if !line.is_empty() && !line.starts_with([' ', '#', '-']) {
            found.push((key.to_owned(), String::new()));
        }
        if let Some((_, section)) = found.last_mut() {
            section.push_str(line);
            section.push('\n');
        }
    }
    found
}

/// A block of a page as a whole file: what it does not hold is taken from the shortest file.
fn whole(block: &str) -> String {
    let own = sections(block);
    let base = sections(&shortest());
    let missing = base.iter().filter(|(key, _)| !own.iter().any(|(other, _)| other == key));
    missing.chain(&own).map(|(_, section)| section.as_str()).collect()
}

fn config_refusal(text: &str) -> Option<String> {
    let surroundings = Surroundings { host_name: "pbx-b".to_owned(), files: Files::Ignored };
    parse(text, Path::new("/etc/pbx-failover/failover.yaml"), &surroundings).err().map(|refused| refused.to_string())
}

#[test]
fn every_yaml_in_the_pages_loads() {
    let mut seen = 0;
    for (path, text) in pages() {
        for block in blocks(&text, "yaml") {
            seen += 1;
            assert!(!sections(&block).is_empty(), "{path}: a block without a key at its beginning:\n{block}");
            let file = whole(&block);
            assert_eq!(config_refusal(&file), None, "{path}:\n{file}");
        }
    }
    assert!(seen >= 5, "only {seen} blocks found");
}

#[test]
fn a_yaml_that_does_not_load_is_seen() {
    assert_eq!(config_refusal(&whole("")), None);
    assert!(config_refusal(&whole("takeover: { hold_dwon: 10s }\n")).is_some_and(|said| said.contains("hold_down")));
}

/// Runs a script of a page; whether it succeeded, and all that it said.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("the program runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).trim_end().to_owned())
}

#[test]
fn every_script_in_the_pages_is_one() {
    let dir = tempfile::tempdir().expect("directory");
    let mut seen = 0;
    for (path, text) in pages() {
        for script in blocks(&text, "bash") {
            seen += 1;
            let file = dir.path().join("script");
            fs::write(&file, &script).expect("written");
            let (good, said) = run(Command::new("sh").arg("-n").arg(&file));
            assert!(good && script.starts_with("#!/bin/sh\n"), "{path}: {said}\n{script}");
        }
    }
    assert!(seen >= 3, "only {seen} scripts found");
}

/// The recipe's script, with a stand-in for the database's client: what counts here is which dump gets through.
#[test]
fn the_freepbx_recipe_restores_a_whole_dump_and_keeps_the_last_one_otherwise() {
    let dir = tempfile::tempdir().expect("directory");
    let path = |name: &str| dir.path().join(name);
    let scripts = blocks(&read("docs/recipes/freepbx.md"), "bash");
    let script = scripts.iter().find(|s| s.contains("/usr/local/sbin/freepbx-restore:")).expect("the script");
    fs::write(path("restore"), script).expect("written");
    fs::create_dir(path("bin")).expect("a folder");
    fs::write(path("bin/mysql"), "#!/bin/sh\ncat >\"$DATABASE.$1\"\n").expect("written");
    run(Command::new("chmod").arg("755").arg(path("bin/mysql")));
    let restore = || {
        let mut command = Command::new("sh");
        let programs = format!("{}:{}", path("bin").display(), std::env::var("PATH").unwrap_or_default());
        command.arg(path("restore")).env("PATH", programs).env("DATABASE", path("database"));
        command.env("FREEPBX_DUMP", dir.path()).env("FREEPBX_STAMP", path("stamp"));
        run(command.env("FREEPBX_ASTDB", path("astdb")))
    };
    let database = || fs::read_to_string(path("database.asterisk")).ok();
    let dump = |end: &str| fs::write(path("asterisk.sql"), format!("INSERT 100;\n{end}")).expect("written");

    dump("INSE");
    let (good, said) = restore();
    assert!(!good && said.ends_with("is not whole, and there is no older one here; see the sync"), "{said}");
    assert_eq!(database(), None, "half a dump is not begun");

    dump("-- Dump completed on 2026-11-20 10:00:00\n");
    fs::write(path("astdb.sqlite3"), "SQLite").expect("written");
    let (good, said) = restore();
    assert!(good && said.starts_with("restored the dump of 2"), "{said}");
    assert!(database().is_some_and(|text| text.contains("Dump completed")));
    assert_eq!(fs::read_to_string(path("astdb")).expect("restored"), "SQLite");

    dump("INSERT 200;\nINSE");
    let (good, said) = restore();
    assert!(good && said.starts_with("the dump is not whole; kept the database of 2"), "{said}");
    assert!(database().is_some_and(|text| text.contains("Dump completed")), "the last whole one stays");
}

#[test]
fn the_index_of_the_recipes_leads_to_each() {
    let index = read("docs/recipes/README.md");
    for (path, _) in pages() {
        let Some(name) = path.strip_prefix("docs/recipes/").filter(|name| *name != "README.md") else { continue };
        assert!(index.contains(&format!("]({name})")), "docs/recipes/README.md does not lead to {name}");
    }
}

const BEGIN: &str = "<!-- generated from the loader's own table; see tests/readme.rs -->\n";

#[test]
fn the_table_of_settings_is_the_loaders_own() {
    let path = root().join("docs/settings.md");
    let page = read("docs/settings.md");
    let (head, old) = page.split_once(BEGIN).expect("the page says where the generated part begins");
    let mut table = String::from("| key | default | meaning |\n| --- | --- | --- |\n");
    rows(&schema(), "", &mut table);
    assert!(table.lines().count() > 80, "{table}");
    if std::env::var_os("PBX_FAILOVER_WRITE_DOCS").is_some() {
        fs::write(path, format!("{head}{BEGIN}{table}")).expect("the page is written");
    } else {
        assert_eq!(old, table, "run PBX_FAILOVER_WRITE_DOCS=1 cargo test --test readme");
    }
}

/// One row for each key, in the order of the names.
fn rows(node: &Value, path: &str, table: &mut String) {
    let required = node["required"].as_array().cloned().unwrap_or_default();
    for (name, key) in node["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let default = match key.get("default") {
            Some(Value::String(text)) if text.is_empty() => "`\"\"`".to_owned(),
            Some(Value::String(text)) => format!("`{text}`"),
            Some(other) => format!("`{other}`"),
            None if required.contains(&Value::from(name.as_str())) => "must be given".to_owned(),
            None => String::new(),
        };
        let words = key["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
        let words = if words.is_empty() { String::new() } else { format!(" One of: {}.", words.join(", ")) };
        let meaning = key["description"].as_str().expect("every key is described").replace('|', "\\|");
        writeln!(table, "| `{path}` | {default} | {meaning}{words} |").expect("a text grows");
        below(key, &path, table);
    }
}

/// The keys inside a key: of a map, of each entry of a list or of a map of names, of one shape among several.
fn below(key: &Value, path: &str, table: &mut String) {
    rows(key, path, table);
    if let Some(items) = key.get("items") {
        below(items, &format!("{path}[]"), table);
    }
    if let Some(each) = key.get("additionalProperties").filter(|each| each.is_object()) {
        below(each, &format!("{path}.NAME"), table);
    }
    // Where a secret lies is the same everywhere, and told once in the page's head.
    let shapes = key["anyOf"].as_array().into_iter().flatten().filter(|shape| shape["title"].is_null());
    shapes.for_each(|shape| below(shape, path, table));
}

#[test]
fn every_key_and_command_of_later_work_is_named_as_such() {
    let page = read("docs/settings.md");
    let table = read("src/config/keys.rs");
    let later: BTreeSet<&str> = table.split("later(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(!later.is_empty(), "{later:?}");
    for key in later {
        assert!(page.contains(&format!("`{key}`")), "docs/settings.md does not name the later key {key}");
    }
    let said = config_refusal(&whole("epoch: { store: etcd }\n")).expect("refused");
    assert!(said.contains("not yet"), "{said}");
}
