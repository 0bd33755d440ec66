//! The snippets of docs/dns.md and the script of docs/pbx-drivers.md, given to real servers: with them and no more the
//! robot's proofs pass.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::lab::http::{Receiver, Reply};
use crate::lab::kamailio::{Kamailio, Setup};
use crate::lab::robot::Robot;
use crate::lab::{Running, free_port, have, wait_until};

const DRIVERS: &str = include_str!("../../docs/pbx-drivers.md");
const PAGE: &str = include_str!("../../docs/dns.md");
const SECRET: &str = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U=";

/// The block of the page in this language, with the secret and the zone's file filled in.
fn snippet(language: &str, zone_file: &Path) -> String {
    let (_, rest) = PAGE.split_once(&format!("```{language}\n")).expect("the page has the snippet");
    let (text, _) = rest.split_once("```").expect("the snippet ends");
    let file = zone_file.display().to_string();
    let text = text.replace("SECRET", SECRET);
    text.replace("/var/lib/bind/example.com.zone", &file).replace("/var/lib/knot/example.com.zone", &file)
}

fn zone(dir: &Path) -> std::path::PathBuf {
    let file = dir.join("example.com.zone");
    let text = "$ORIGIN example.com.\n$TTL 60\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\n\
                pbx 30 IN A 203.0.113.10\npbx 30 IN AAAA 2001:db8:a::10\n\
                _sip._udp 30 IN SRV 10 10 5060 pbx-a\npbx-a IN A 203.0.113.10\npbx-b IN A 198.51.100.20\n";
    fs::write(&file, text).expect("zone");
    file
}

/// Starts a server, then asks `check` and moves the records by a takeover.
fn proves(dir: &Path, argv: &[&str], port: u16) {
    let _server = Running::start(argv, &dir.join("log"));
    let master = SocketAddr::from(([127, 0, 0, 1], port));
    wait_until("the name server answers", Duration::from_secs(20), || !dig(master, "example.com", "SOA").is_empty());
    let web = Receiver::plain(&[Reply::Status(200)]);
    let (_, rest) = PAGE.split_once("```yaml\n").expect("the page has the settings");
    let (dns, _) = rest.split_once("```").expect("the settings end");
    let dns = dns
        .replace("192.0.2.53:53", &format!("\"{master}\""))
        .replace("      ttl: 30\n", "      ttl: 30\n      verify: [\"@M@\"]\n");
    let dns = dns.replace("@M@", &master.to_string()).replace("/etc/pbx-failover", "@DIR@");
    // Loopback stands for the primary's host; what DNS says of it stays as the page has it.
    let mut robot = Robot::new(&format!(
        "node: pbx-b\nprimary: {{ node: pbx-a, address: 127.0.0.1 }}\nbackup: {{ node: pbx-b, address: 127.0.0.2 }}\n\
         monitor: {{ interval: 200ms, rise: 1, checks: {{ web: {{ tcp: {port} }} }} }}\n\
         internet: {{ need: 1, targets: [\"tcp://127.0.0.1:{port}\"] }}\n\
         takeover: {{ hold_down: 0s, startup_grace: 0s }}\nsync: {{ settle: 0s }}\n\
         epoch: {{ store: dns, record: _pbx-failover.pbx.example.com }}\n\
         pbx: {{ working_dir: @DIR@/work, driver: {{ command: {{ passive: [/bin/true], reload: [/bin/true] }} }} }}\n{dns}",
        port = web.port
    ));
    robot.secret("tsig.key", SECRET);
    let report: Value = serde_json::from_slice(&robot.cli(&["check", "--json"]).stdout).expect("check prints JSON");
    let level = |about: &str, text: &str| {
        let findings = report["findings"].as_array().into_iter().flatten();
        let mut found =
            findings.filter(|f| f["about"] == about && f["text"].as_str().is_some_and(|t| t.contains(text)));
        found.next().map(|f| f["level"].clone())
    };
    assert_eq!(level("epoch store", "compares and swaps"), Some("ok".into()), "{report:#}");
    assert_eq!(level("dns", "point at the primary"), Some("ok".into()), "{report:#}");
    robot.start();
    robot.wait_armed();
    let (code, said) = robot.asked(&["takeover", "--primary-is-stopped"]);
    assert_eq!(code, 0, "{said}");
    wait_until("the epoch is claimed", Duration::from_secs(20), || {
        dig(master, "_pbx-failover.pbx.example.com", "TXT").contains("holder=pbx-b")
    });
    robot.stop();
    // The PBX of this test never answers, so the records stay; that the key may move them is asked of the server itself.
    let script = format!(
        "server 127.0.0.1 {port}\nzone example.com\nupdate delete pbx.example.com. A\nupdate add pbx.example.com. 30 A 198.51.100.20\n\
         update delete pbx.example.com. AAAA\nupdate delete _sip._udp.example.com. SRV\n\
         update add _sip._udp.example.com. 30 SRV 10 10 5060 pbx-b.example.com.\nsend\n"
    );
    fs::write(dir.join("script"), script).expect("script");
    let unsigned = Command::new("nsupdate").arg("-v").arg(dir.join("script")).output().expect("nsupdate");
    assert!(!unsigned.status.success(), "the server takes updates from anybody");
    let key = format!("hmac-sha256:failover-key:{SECRET}");
    let output = Command::new("nsupdate").args(["-v", "-y", &key]).arg(dir.join("script")).output().expect("nsupdate");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(dig(master, "pbx.example.com", "A").trim(), "198.51.100.20");
    assert_eq!(dig(master, "pbx.example.com", "AAAA").trim(), "");
    assert_eq!(dig(master, "_sip._udp.example.com", "SRV").trim(), "10 10 5060 pbx-b.example.com.");
}

fn dig(master: SocketAddr, name: &str, rtype: &str) -> String {
    let port = master.port().to_string();
    let arguments = ["@127.0.0.1", "-p", &port, "+short", "+tcp", "+norecurse", "+tries=1", "+time=2", name, rtype];
    let output = Command::new("dig").args(arguments).output().expect("dig");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter(|line| !line.starts_with(';')).fold(String::new(), |all, line| all + line + "\n")
}

#[test]
fn the_snippet_for_bind_is_enough() {
    if !have(&["named", "nsupdate", "dig", "setpriv"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (port, work) = (free_port(), dir.path().display());
    let options = format!(
        "options {{ directory \"{work}\"; pid-file \"{work}/pid\"; session-keyfile \"{work}/session.key\"; listen-on port {port} \
         {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no; notify no; }};\ncontrols {{ }};\n"
    );
    let config = dir.path().join("named.conf");
    fs::write(&config, options + &snippet("bind", &zone(dir.path()))).expect("configuration");
    proves(dir.path(), &["/usr/sbin/named", "-g", "-c", &config.display().to_string()], port);
}

#[test]
fn the_snippet_for_knot_is_enough() {
    if !have(&["knotd", "nsupdate", "dig", "setpriv"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (port, work) = (free_port(), dir.path().display());
    let server = format!(
        "server:\n    rundir: \"{work}\"\n    listen: 127.0.0.1@{port}\nlog:\n  - target: stdout\n    any: info\ndatabase:\n    storage: \"{work}\"\n"
    );
    let config = dir.path().join("knot.conf");
    fs::write(&config, server + &snippet("knot", &zone(dir.path()))).expect("configuration");
    proves(dir.path(), &["/usr/sbin/knotd", "-c", &config.display().to_string()], port);
}

#[test]
fn the_snippet_for_powerdns_is_enough() {
    if !have(&["pdns_server", "pdnsutil", "sqlite3", "nsupdate", "dig", "setpriv"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (port, work) = (free_port(), dir.path().display());
    let own = snippet("pdns", dir.path()).replace("198.51.100.20/32", "127.0.0.0/8");
    let config = format!(
        "launch=gsqlite3\ngsqlite3-database={work}/db.sqlite\nlocal-address=127.0.0.1\nlocal-port={port}\nsocket-dir={work}\n\
         config-dir={work}\ncache-ttl=0\nquery-cache-ttl=0\nnegquery-cache-ttl=0\n{own}"
    );
    fs::write(dir.path().join("pdns.conf"), config).expect("configuration");
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().expect("the program starts");
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let database = dir.path().join("db.sqlite").display().to_string();
    run("sqlite3", &[&database, ".read /usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql"]);
    let (config, file) = (format!("--config-dir={work}"), zone(dir.path()).display().to_string());
    run("pdnsutil", &[&config, "load-zone", "example.com", &file]);
    for line in snippet("shell", dir.path()).lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        run(words[0], &[&[config.as_str()], &words[1..]].concat());
    }
    proves(dir.path(), &["/usr/sbin/pdns_server", &config, "--guardian=no", "--daemon=no", "--disable-syslog"], port);
}

/// A stand-in for systemctl drives the rig; everything else is the page's own.
#[test]
fn the_script_for_kamailio_does_what_the_driver_asks() {
    if !have(&["kamailio", "kamcmd", "ps", "setpriv"]) {
        return;
    }
    let at = || SocketAddr::from(([127, 0, 0, 1], free_port()));
    let provider = Kamailio::started(Setup::at(at()).account("carrier-user", "carrier-pw"));
    let setup = Setup::at(at()).account("100", "pw100");
    let pbx = Kamailio::new(setup.trunk("carrier", provider.address(), "carrier-user", "carrier-pw"));
    let (_, rest) = DRIVERS.split_once("```bash\n").expect("the page has the script");
    let (script, _) = rest.split_once("```").expect("the script ends");
    let rig = pbx.path("pbx.sh").display().to_string();
    let systemctl = format!(
        "systemctl() {{ case $1 in restart) sh {rig} reload;; stop) sh {rig} passive;; is-active) echo active;; esac; }}"
    );
    let control = format!("kamcmd() {{ command kamcmd -s unixs:{} \"$@\"; }}", pbx.path("ctl").display());
    let script = script.replace("set -eu\n", &format!("set -eu\n{systemctl}\n{control}\n"));
    fs::write(pbx.path("page.sh"), script).expect("script");
    let verb = |name: &str| {
        let said = pbx.path("said");
        let out = fs::File::create(&said).expect("output file");
        let status = Command::new("sh").arg(pbx.path("page.sh")).arg(name).stdout(out).status().expect("sh runs");
        let said = fs::read_to_string(said).expect("output");
        assert!(status.success(), "{name}: {status}: {said}");
        said.lines().last().unwrap_or_default().to_owned()
    };
    let status = || serde_json::from_str::<Value>(&verb("status")).expect("status prints JSON");
    assert_eq!(status()["serving"], false);
    verb("start");
    assert_eq!(status()["serving"], true);
    for _ in 0..2 {
        verb("trunks-on");
        wait_until("the trunk is up", Duration::from_secs(20), || status()["trunks"][0]["state"] == "up");
        assert_eq!(provider.contacts("carrier-user").len(), 1);
        verb("trunks-off");
        wait_until("the provider has no contact", Duration::from_secs(5), || {
            provider.contacts("carrier-user").is_empty()
        });
        assert_ne!(status()["trunks"][0]["state"], "up");
    }
    verb("stop");
    verb("trunks-off");
    assert_eq!(status()["serving"], false);
}
