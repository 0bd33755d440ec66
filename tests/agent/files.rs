//! What `check --offline`, `check` and `status` say of the files that agent and observer stand on, by the real program: `run`
//! refuses nothing that they passed over in silence. What is in the files is `keys`'s.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use super::rig::Papers;

struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    /// With token, certificate and key.
    fn new() -> Self {
        let host = Self { dir: tempfile::tempdir().expect("directory") };
        let papers = Papers::new(&["pbx-a"], 2099);
        host.write("agent.token", super::TOKEN);
        host.write("agent.crt", &papers.certificate);
        host.write("agent.key", &papers.key);
        fs::create_dir(host.dir.path().join("pbx")).expect("directory");
        host
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::write(&path, text).expect("file");
        fs::set_permissions(path, fs::Permissions::from_mode(0o640)).expect("mode");
    }

    /// Writes the configuration of this host.
    fn is(&self, node: &str, agent: &str) {
        let text = "NODE\nprimary: { node: pbx-a, address: 127.0.0.1 }\nbackup: { node: pbx-b, address: 127.0.0.2 }\n\
             monitor: { checks: { sip: { sip: \"sip:pbx.example.com\" } } }\n\
             pbx: { working_dir: DIR/pbx, driver: { command: { passive: [/bin/true], reload: [/bin/true] } } }\n\
             epoch: { store: local }\nstate_dir: DIR/state\ncontrol: DIR/control.sock\nAGENT\n";
        let text =
            text.replace("NODE", node).replace("AGENT", agent).replace("DIR", &self.dir.path().display().to_string());
        self.write("failover.yaml", &text);
    }

    fn call(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pbx-failover"));
        command.args(words).arg("--config").arg(self.dir.path().join("failover.yaml"));
        command.output().expect("the program runs")
    }

    fn path(&self, name: &str) -> String {
        Path::new(self.dir.path()).join(name).display().to_string()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

const DOOR: &str = "agent: { listen: \"127.0.0.9:8471\", token: { file: DIR/agent.token }, \
    tls: { certificate: DIR/agent.crt, key: DIR/agent.key } }";

#[test]
fn what_run_refuses_is_a_problem_to_an_offline_check_and_names_the_file() {
    let host = Host::new();
    host.is("node: pbx-a", DOOR);
    let good = host.call(&["check", "--offline"]);
    assert!(good.status.success(), "{}", said(&good));
    let refused = |parts: &[&str]| {
        let checked = host.call(&["check", "--offline"]);
        assert_eq!(checked.status.code(), Some(1), "{}", said(&checked));
        // Long lines are broken between words.
        let text = said(&checked).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(parts.iter().all(|part| text.contains(part)), "{parts:?}: {text}");
        let ran = host.call(&["run"]);
        assert!(!ran.status.success(), "run refuses it too: {}", said(&ran));
    };
    fs::rename(host.path("agent.token"), host.path("away")).expect("away");
    refused(&["`run` refuses it", "agent.token: ", "pbx-failover keys"]);
    fs::rename(host.path("away"), host.path("agent.token")).expect("back");

    host.write("agent.key", &Papers::new(&["pbx-a"], 2099).key);
    refused(&["agent.crt", "agent.key", "do not serve"]);
    host.write("agent.key", "no key");
    refused(&["agent.key"]);

    host.is("node: pbx-c\nrole: observer", "");
    refused(&["agent.token is not set", "pbx-failover keys"]);
    assert_eq!(host.call(&["run"]).status.code(), Some(3), "systemd does not try that again and again");
}

#[test]
fn a_damaged_memory_is_named_with_what_mends_it_and_what_that_costs_by_every_command_that_meets_it() {
    let host = Host::new();
    host.is("node: pbx-a", DOOR);
    fs::create_dir(host.path("state")).expect("directory");
    host.write("state/primary.json", "{\"seen\": nul");
    for (words, code) in
        [(&["check", "--offline"][..], 1), (&["check"], 1), (&["status"], 4), (&["guard"], 11), (&["run"], 1)]
    {
        let output = host.call(words);
        let text = said(&output).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
        let file = host.path("state/primary.json");
        for part in [format!("{file} is damaged"), format!("mv {file} {file}.damaged"), "held back".to_owned()] {
            assert!(text.contains(&part), "{words:?}: {part}: {text}");
        }
    }
    fs::rename(host.path("state/primary.json"), host.path("state/primary.json.damaged")).expect("as it says");
    assert!(host.call(&["check", "--offline"]).status.success());
}
