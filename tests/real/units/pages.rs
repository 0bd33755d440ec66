//! The pages of docs/recipes on machines: their files and commands as they stand there, with the lab's names and
//! addresses in place of theirs. Each page's own test is beside this file.

use std::path::Path;

use crate::lab::dns;
use crate::lab::netns::Host;
use crate::lab::nspawn::Machine;
use crate::lab::wait_until;

use super::machines::{PATIENCE, World, install, node, secret, wait_status};

/// Where the program's folder `systemd` lies on a machine, as in a clone.
const CLONE: &str = "/srv/clone";

/// The blocks of a page in this language, with the lab's names and addresses in place of the page's.
pub fn blocks(page: &str, language: &str) -> Vec<String> {
    let start = format!("```{language}\n");
    let blocks = page.split(&start).skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(of_the_lab).collect()
}

fn of_the_lab(text: &str) -> String {
    let [primary, backup] = [Host::Primary, Host::Backup].map(|host| host.address().to_string());
    [
        ("203.0.113.10", primary.as_str()),
        ("198.51.100.20", &backup),
        ("192.0.2.53", "10.77.1.1"),
        ("pbx.example.com", "pbx.lab.test"),
        ("zone: example.com", "zone: lab.test"),
        ("sip.example.net", "10.77.1.5"),
        ("123456", "office"),
        ("failover-key", dns::KEY),
    ]
    .iter()
    .fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
}

/// The block in which this stands.
pub fn block<'a>(blocks: &'a [String], words: &str) -> &'a str {
    let mut found = blocks.iter().filter(|block| block.contains(words));
    let block = found.next().unwrap_or_else(|| panic!("no block of the page has {words}"));
    assert!(found.next().is_none(), "several blocks of the page have {words}");
    block
}

/// Runs the commands of a block one after the other; `apt-get` has been here.
pub fn type_in(machine: &Machine, commands: &str) {
    let lines = commands.replace("\\\n", " ");
    for line in lines.lines().map(|line| line.trim().trim_start_matches("$ ")).filter(|line| !line.contains("apt-get"))
    {
        let line = line.trim_start_matches("sudo ");
        machine.must(&["sh", "-ec", &format!("cd {CLONE}; {line}")]);
    }
}

/// The robot as README says, with this section `pbx` of a page, and the others of the page of Asterisk.
pub fn with_robot(world: &World, machine: &Machine, host: Host, pbx: &str) {
    install(machine, "pbx-failover.service", "/usr/lib/systemd/system/pbx-failover.service");
    install(machine, "pbx-failover.sysusers.conf", "/usr/lib/sysusers.d/pbx-failover.conf");
    install(machine, "50-pbx-failover.rules", "/etc/polkit-1/rules.d/50-pbx-failover.rules");
    machine.must(&["systemd-sysusers"]);
    // Faster than its defaults, among targets that are there, and without mail.
    let fast = "interval: 200ms, fast_interval: 100ms, timeout: 2s, checks:";
    let others = blocks(include_str!("../../../docs/recipes/asterisk.md"), "yaml").concat();
    let lines = |text: &str, wanted: &dyn Fn(&str) -> bool| {
        text.lines().filter(|line| wanted(line)).fold(String::new(), |text, line| text + line + "\n")
    };
    let others = lines(&others, &|line| !["pbx:", "notify:", " "].iter().any(|start| line.starts_with(start)));
    let others = others.replace("monitor: { checks:", &format!("monitor: {{ {fast}"));
    let door = "token: { file: /etc/pbx-failover/agent.token }";
    let more = format!(
        "node: {}\npage: \"\"\nsync: {{ settle: 0s }}\ntakeover: {{ hold_down: 0s, startup_grace: 0s, hold_off: 1s }}\n\
         internet: {{ need: 2, targets: [\"tcp://10.77.1.2:80\", \"tcp://10.77.1.3:80\"] }}\n\
         agent: {{ {door}, tls: {{ certificate: /etc/pbx-failover/agent.crt, key: /etc/pbx-failover/agent.key }} }}\n\
         peer: {{ url: \"https://{}:8471\", {door}, certificate: {{ file: /etc/pbx-failover/agent.crt }} }}\n",
        node(host),
        Host::Primary.address()
    );
    for (name, text) in
        [("tsig.key", dns::SECRET), ("ami.secret", "of the lab"), ("failover.yaml", &format!("{others}{pbx}{more}"))]
    {
        secret(machine, &format!("/etc/pbx-failover/{name}"), text);
    }
    for (name, text) in world.papers.files() {
        secret(machine, &format!("/etc/pbx-failover/{name}"), text);
    }
    machine.must(&["systemctl", "daemon-reload"]);
}

/// The commands of docs/systemd.md that give the primary its guard, for this unit.
pub fn with_guard(machine: &Machine, unit: &str) {
    let blocks = blocks(include_str!("../../../docs/systemd.md"), "console");
    let commands = block(&blocks, "pbx-failover-guard.conf").replace("pbx.service", unit);
    // The file in the clone keeps its name.
    type_in(machine, &commands.replace(&format!("systemd/{unit}.d/pbx"), "systemd/pbx.service.d/pbx"));
}

/// A machine in the place of `host` with the clone's folder `systemd`; off.
pub fn machine(world: &World, host: Host) -> Machine {
    let clone = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    world.machine(host).binds(&clone, &format!("{CLONE}/systemd"))
}

/// Names the PBX's unit in the rule.
pub const RENAME: &str = "sed -i 's/\"pbx.service\"/\"UNIT\"/' /etc/polkit-1/rules.d/50-pbx-failover.rules";

/// `check`, as the page runs it; it finds no problem.
pub fn checked(machine: &Machine) -> String {
    let (_, said) = machine.exec(&["runuser", "-u", "pbx-failover", "--", "pbx-failover", "check"]);
    assert!(!said.contains("PROBLEM"), "{said}");
    said
}

/// Somebody starts the primary's PBX, which its guard holds back, and asks for the failback as soon as it is taken.
pub fn fails_back(primary: &Machine, backup: &Machine, unit: &str) {
    primary.must(&["systemctl", "start", unit]);
    assert!(!primary.active(unit));
    wait_until("the failback is taken", PATIENCE, || {
        backup.exec(&["pbx-failover", "failback", "--yes", "--no-watch", "--reason", "the page"]).0
    });
    wait_status(backup, "given back", |status| status["state"] == "standby");
}
