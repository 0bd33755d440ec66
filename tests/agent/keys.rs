//! `pbx-failover keys` as a person runs it: what it makes serves both hosts, and what it prints loads and hides nothing but
//! the secret.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use pbx_failover::config::{self, Config, Files, Surroundings};
use pbx_failover::control::agent::Orders;
use pbx_failover::ports::Peer as _;
use pbx_failover::units::PeerReading;
use serde_json::Value;

use super::rig::Rig;

const BASE: &str = "primary: { node: pbx-a, address: 203.0.113.10 }\n\
    backup: { node: pbx-b, address: 198.51.100.20 }\n\
    monitor: { checks: { sip: { sip: \"sip:pbx.example.com\" } } }\n\
    pbx: { working_dir: /usr/local/pbx, driver: { systemd: { unit: pbx.service } } }\n\
    epoch: { store: local }\n";

fn keys(config: &Path, out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pbx-failover"));
    command.arg("keys").arg("--config").arg(config).arg("--out").arg(out).args(more);
    command.output().expect("the program runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn settings(node: &str, more: &str) -> Config {
    let surroundings = Surroundings { host_name: node.to_owned(), files: Files::Ignored };
    let text = format!("node: {node}\n{BASE}{more}\n");
    let loaded = config::parse(&text, Path::new("/etc/pbx-failover/failover.yaml"), &surroundings);
    loaded.unwrap_or_else(|refused| panic!("{refused}\n{text}")).config
}

#[tokio::test]
async fn what_it_makes_opens_a_door_and_what_it_prints_loads_on_both_hosts() {
    let rig = Rig::new();
    let config = rig.dir.path().join("failover.yaml");
    fs::write(&config, format!("node: pbx-a\n{BASE}")).unwrap();
    let output = keys(&config, rig.dir.path(), &["--json"]);
    assert!(said(&output).contains("agent.token is there") && output.status.code() == Some(1), "{}", said(&output));
    let output = keys(&config, rig.dir.path(), &["--json", "--replace"]);
    assert!(output.status.success(), "{}", said(&output));
    let made: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let token = fs::read_to_string(rig.dir.path().join("agent.token")).unwrap();
    let key = fs::read_to_string(rig.dir.path().join("agent.key")).unwrap();
    assert!(!said(&output).contains(token.trim()) && !said(&output).contains(key.lines().nth(1).unwrap()));

    let text = |key: &str| made[key].as_str().expect("a text").to_owned();
    assert_eq!((text("node"), text("asked_by")), ("pbx-a".to_owned(), "pbx-b".to_owned()));
    let (here, there) = (settings("pbx-a", &text("yaml_here")), settings("pbx-b", &text("yaml_there")));
    assert!(here.agent.door.is_some());
    assert_eq!(there.peer.as_ref().map(|peer| peer.url.as_str()), Some("https://203.0.113.10:8471"));

    let at = rig.open(Orders::Taken).await;
    fs::copy(rig.dir.path().join("agent.token"), rig.dir.path().join("asker.token")).unwrap();
    fs::copy(rig.dir.path().join("agent.crt"), rig.dir.path().join("pinned.crt")).unwrap();
    let host = rig.asks(at);
    let reading = host.exchange(&Rig::ours()).await;
    assert!(matches!(reading, PeerReading::Heard(_)), "{reading:?}");
    assert!(host.findings("peer").is_empty(), "{:?}", host.findings("peer"));
    // Another program reads the certificate as we do.
    let openssl = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-subject", "-ext", "subjectAltName", "-in"])
        .arg(rig.dir.path().join("agent.crt"))
        .output();
    if let Ok(openssl) = openssl {
        let told = said(&openssl);
        for part in [text("certificate_sha256").as_str(), "pbx-a", "203.0.113.10"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    } else {
        eprintln!("SKIPPED: openssl is not installed");
    }
}

#[test]
fn an_observers_keys_lie_on_the_backup_beside_the_primarys() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("failover.yaml");
    fs::write(&config, format!("node: pbx-b\n{BASE}")).unwrap();
    let output = keys(&config, dir.path(), &["--name", "pbx-c", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let made: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let copies: Vec<_> = made["copies"].as_array().unwrap().iter().map(|copy| copy["to"].as_str().unwrap()).collect();
    assert!(copies[0].ends_with("pbx-c.token") && copies[1].ends_with("pbx-c.crt"), "{copies:?}");
    assert_eq!(settings("pbx-b", made["yaml_there"].as_str().unwrap()).witness.observers.len(), 1);
    assert!(settings("pbx-c", made["yaml_here"].as_str().unwrap()).agent.door.is_some());
}

#[test]
fn the_backup_is_asked_by_nobody_and_gets_no_keys() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("failover.yaml");
    fs::write(&config, format!("node: pbx-b\n{BASE}")).unwrap();
    let output = keys(&config, dir.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("give --name"), "{}", said(&output));
    assert!(!dir.path().join("agent.key").exists());
}

#[test]
fn without_a_configuration_it_goes_by_the_name_and_tells_a_person_where_each_file_goes() {
    let dir = tempfile::tempdir().unwrap();
    let output = keys(&dir.path().join("none.yaml"), &dir.path().join("new"), &["--name", "pbx-a"]);
    let told = said(&output);
    assert!(output.status.success(), "{told}");
    for part in ["made for pbx-a", "agent.token", "copy to the backup", "peer: {", "https://pbx-a:8471", "agent: {"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let token = fs::read_to_string(dir.path().join("new/agent.token")).unwrap();
    assert!(!told.contains(token.trim()));
    let output = keys(&dir.path().join("none.yaml"), Path::new("/proc/nowhere"), &["--name", "pbx-a"]);
    assert!(output.status.code() == Some(1) && said(&output).contains("--out"), "{}", said(&output));
}

#[test]
fn an_observer_whose_file_has_no_token_yet_gets_the_lines_of_an_observer() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("failover.yaml");
    fs::write(&config, format!("node: pbx-c\nrole: observer\n{BASE}")).unwrap();
    let output = keys(&config, dir.path(), &[]);
    let told = said(&output);
    assert!(output.status.success() && !told.contains("note:"), "{told}");
    for part in ["made for pbx-c", "copy to pbx-b", "pbx-c.token", "witness: { observers: [", "role: observer"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("peer: {"), "obeyed, it would take the primary's place on the backup: {told}");
}

#[test]
fn of_a_refused_configuration_the_names_count_and_what_was_assumed_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("failover.yaml");
    for (node, words, never) in [
        ("node: pbx-c\nrole: observer\n", "pbx-c is an observer", "peer: {"),
        ("node: pbx-a\n", "pbx-a is the primary", "witness: {"),
    ] {
        fs::write(&config, format!("{node}{BASE}monitr: 5\n")).unwrap();
        let output = keys(&config, dir.path(), &["--replace"]);
        let told = said(&output);
        assert!(output.status.success() && !told.contains(never), "{told}");
        let note = told.lines().find(|line| line.starts_with("note: ")).expect("a note");
        for part in [config.to_str().unwrap(), "monitr: unknown key", words] {
            assert!(note.contains(part), "{part}: {note}");
        }
    }
    // Nothing says which host this is: no keys are better than those of another's.
    fs::write(&config, format!("{BASE}monitr: 5\n")).unwrap();
    fs::remove_file(dir.path().join("agent.key")).unwrap();
    let output = keys(&config, dir.path(), &["--replace"]);
    assert!(output.status.code() == Some(1) && said(&output).contains("role: observer"), "{}", said(&output));
    assert!(!dir.path().join("agent.key").exists());
    // With no file at all the primary is assumed, and nothing that is on the backup already is overwritten.
    let output = keys(&dir.path().join("none.yaml"), &dir.path().join("new"), &["--name", "pbx-x"]);
    let told = said(&output);
    for part in ["none.yaml cannot be read", "assumed: pbx-x is the primary", "pbx-x.token"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}
