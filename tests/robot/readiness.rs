//! `check` on real files: addresses of the primary in the working directory, certificates that openssl made, fail2ban's
//! own reader. Nothing is started but a TLS server on loopback.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::lab::process::{Running, have};
use crate::lab::robot::Robot;
use crate::lab::{free_port, wait_until};

const HOSTS: &str = "primary: { node: pbx-a, address: 203.0.113.1 }\n\
                     backup: { node: pbx-b, address: 198.51.100.20, listen_address: 127.0.0.1 }\n";

/// A robot of this node that asks nobody far away.
fn robot(node: &str, hosts: &str, more: &str) -> Robot {
    let port = free_port();
    Robot::new(&format!(
        "node: {node}\n{hosts}monitor: {{ timeout: 100ms, checks: {{ web: {{ http: \"https://pbx.lab.test:@PORT@/\" }} }} }}\n\
         internet: {{ need: 1, targets: [\"tcp://127.0.0.1:{port}\"] }}\n\
         pbx: {{ working_dir: \"@DIR@/work\", probe: \"sip:127.0.0.1:{port}\", {more} driver: {{ command: {{ passive: [/bin/true], reload: [/bin/true] }} }} }}\n"
    ).replace("@PORT@", &port.to_string()))
}

/// `level text` of what is found about one thing; the robot's own directory is `DIR`, the synced one in it `TREE`.
fn found(robot: &Robot, about: &str) -> Vec<String> {
    let output = robot.cli(&["check", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("check prints JSON: {}", String::from_utf8_lossy(&output.stderr)));
    let dir = robot.path("").display().to_string();
    let one = |finding: &Value| {
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        assert!(text("level") == "ok" || text("level") == "skipped" || !text("hint").is_empty(), "{finding:#}");
        let line = format!("{} {} | {}", text("level"), text("text"), text("hint"));
        (text("about") == about).then(|| line.replace(&format!("{dir}work"), "TREE").replace(&dir, "DIR/"))
    };
    report["findings"].as_array().into_iter().flatten().filter_map(one).collect()
}

#[test]
fn check_names_file_and_line_of_each_address_of_the_primary() {
    let robot = robot("pbx-b", HOSTS, "");
    let write = |name: &str, text: &str| fs::write(robot.path("work").join(name), text).expect("written");
    write("a.conf", "[t]\nexternal_media_address=198.51.100.20\nlocal_net=203.0.113.10/32\n");
    assert_eq!(found(&robot, "host in tree").len(), 1);
    assert!(found(&robot, "host in tree")[0].starts_with("ok none of 1 files names pbx-a (203.0.113.1, pbx-a)"));
    write("pjsip.conf", "[t]\ntype=transport\n;bind=203.0.113.1\nexternal_media_address=203.0.113.1\nmatch=pbx-a\n");
    write("z.conf", "bind=203.0.113.1 ; the lab's, pbx-failover: allow\n");
    let told = found(&robot, "host in tree");
    assert!(told.len() == 2, "{told:#?}");
    let announced = "problem TREE/pjsip.conf:4: external_media_address names 203.0.113.1, which is pbx-a's: ";
    assert!(told[0].starts_with(announced) && told[0].contains("audio is one-way"), "{told:#?}");
    assert!(told[1].starts_with("warning TREE/pjsip.conf:5: pbx-a is pbx-a's"), "{told:#?}");
    assert!(told[0].contains("a file of each host outside the synced tree"), "{told:#?}");
    assert!(!robot.cli(&["check"]).status.success());
}

/// A certificate and its key, as PEM files `NAME.pem` and `NAME.key`.
fn certificate(dir: &Path, name: &str, days: &str, host: &str) {
    let made = Command::new("openssl")
        .current_dir(dir)
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=test -days".split(' '))
        .args([days, "-addext", &format!("subjectAltName=DNS:{host}")])
        .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")])
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn check_tells_a_certificate_that_ends_soon_and_one_for_another_name() {
    if !have(&["openssl"]) {
        return;
    }
    let hosts = HOSTS.replace("203.0.113.1", "127.0.0.1");
    let robot = robot("pbx-b", &hosts, "certificates: [\"@DIR@/other.pem\", \"@DIR@/gone.pem\"],");
    let dir = robot.path("");
    certificate(&dir, "good", "90", "pbx.lab.test");
    certificate(&dir, "soon", "5", "*.lab.test");
    certificate(&dir, "other", "90", "pbx.example.com");
    let at = |name: &str| dir.join(name).display().to_string();
    fs::write(robot.path("work/pjsip.conf"), format!("[tls]\ncert_file={} ; ours\n", at("good.pem"))).expect("written");
    fs::write(robot.path("work/http.conf"), format!("[general]\ntlscertfile = {}\n", at("soon.pem"))).expect("written");
    fs::write(robot.path("work/tls.cfg"), format!("[server:default]\ncertificate = {}\n", at("other.key")))
        .expect("written");
    let told = found(&robot, "certificate");
    let has = |start: &str, part: &str| told.iter().any(|line| line.starts_with(start) && line.contains(part));
    assert!(has("problem DIR/other.pem", "certificate is for pbx.example.com, not for pbx.lab.test"), "{told:#?}");
    assert!(has("problem DIR/gone.pem", "without it the PBX takes no phone over TLS"), "{told:#?}");
    assert!(has("ok DIR/good.pem (named at TREE/pjsip.conf:2)", "is for pbx.lab.test, ends on "), "{told:#?}");
    assert!(has("warning DIR/soon.pem (named at TREE/http.conf:2)", "in 4 days | renew it"), "{told:#?}");
    assert!(has("warning DIR/other.key (named at TREE/tls.cfg:2)", "holds no certificate"), "{told:#?}");
    assert!(has("skipped that of pbx-a for pbx.lab.test", "was not seen"), "{told:#?}");
}

#[test]
fn check_looks_at_the_certificate_that_the_primary_shows() {
    if !have(&["openssl"]) {
        return;
    }
    let robot = robot("pbx-b", &HOSTS.replace("203.0.113.1", "127.0.0.1"), "");
    let dir = robot.path("");
    certificate(&dir, "soon", "5", "pbx.lab.test");
    let text = fs::read_to_string(robot.config()).expect("configuration");
    let (_, rest) = text.split_once("https://pbx.lab.test:").expect("the check's URL");
    let port = rest.split('/').next().expect("a port").to_owned();
    let file = |name: &str| dir.join(name).display().to_string();
    let (cert, key) = (file("soon.pem"), file("soon.key"));
    let argv = ["openssl", "s_server", "-accept", &format!("127.0.0.1:{port}"), "-cert", &cert, "-key", &key, "-www"];
    let _server = Running::start(&argv, &robot.path("server.log"));
    let mut told = Vec::new();
    wait_until("the server is there", Duration::from_secs(20), || {
        told = found(&robot, "certificate");
        told.iter().any(|line| !line.starts_with("skipped"))
    });
    let start = format!("warning that of pbx-a for pbx.lab.test:{port} ends on ");
    assert!(told.len() == 1 && told[0].starts_with(&start) && told[0].contains("in 4 days"), "{told:#?}");
}

/// What is told of fail2ban whose `jail.local` is this, on this host of the pair.
fn banned(node: &str, jail: &str) -> Vec<String> {
    let mut robot = robot(node, HOSTS, "");
    let dir = robot.path("fail2ban");
    let copied = Command::new("cp").arg("-r").arg("/etc/fail2ban").arg(&dir).status().expect("cp runs");
    assert!(copied.success());
    let log = robot.path("log");
    fs::write(&log, "").expect("written");
    // Debian turns the jail of sshd on, and its log may not be there.
    let _ = fs::remove_dir_all(dir.join("jail.d"));
    fs::write(dir.join("jail.local"), jail.replace("@LOG@", &log.display().to_string())).expect("written");
    let bin = robot.path("bin");
    fs::create_dir(&bin).expect("made");
    let script = format!("#!/bin/sh\nexec /usr/bin/fail2ban-client -c {} \"$@\"\n", dir.display());
    fs::write(bin.join("fail2ban-client"), script).expect("written");
    let made = Command::new("chmod").arg("755").arg(bin.join("fail2ban-client")).status().expect("chmod runs");
    assert!(made.success());
    let path = std::env::var("PATH").unwrap_or_default();
    robot = robot.inside(vec!["env".to_owned(), format!("PATH={}:{path}", bin.display())]);
    found(&robot, "fail2ban")
}

#[test]
fn check_prints_the_line_that_fail2ban_lacks() {
    if !have(&["fail2ban-client"]) {
        return;
    }
    let on = "enabled = true\nlogpath = @LOG@\n";
    // The line that is printed is what fail2ban's own reader merged: the default, and what the jail adds.
    let jail =
        format!("[DEFAULT]\nignoreip = 127.0.0.1/8 ::1\n[asterisk]\n{on}ignoreip = %(known/ignoreip)s 192.0.2.0/24\n");
    let told = banned("pbx-a", &jail);
    let line =
        "write `ignoreip = 127.0.0.1/8 ::1 192.0.2.0/24 198.51.100.20` into [asterisk] of /etc/fail2ban/jail.local";
    assert!(told.len() == 1 && told[0].starts_with("problem jail asterisk may ban 198.51.100.20: "), "{told:#?}");
    assert!(told[0].contains(line), "{told:#?}");
    let told = banned("pbx-b", &jail);
    assert!(told.len() == 1 && told[0].starts_with("warning jail asterisk may ban 203.0.113.1: "), "{told:#?}");
    // With that line nothing is left to say.
    let good = jail.replace("192.0.2.0/24", "192.0.2.0/24 198.51.100.0/24");
    let told = banned("pbx-a", &good);
    assert!(told.len() == 1 && told[0].starts_with("ok jail asterisk never bans 198.51.100.20"), "{told:#?}");
    let told = banned("pbx-b", &format!("[DEFAULT]\nignoreself = false\nignoreip = 203.0.113.1\n[freeswitch]\n{on}"));
    assert!(
        told.len() == 1 && told[0].starts_with("problem jail freeswitch may ban 127.0.0.1: the robot's own"),
        "{told:#?}"
    );
    let told = banned("pbx-b", "");
    assert_eq!(told, ["ok no jail that is on has the name of a PBX | "]);
}

/// The commands of the shipped unit under this key, for a fail2ban whose own place these arguments name.
fn orders(key: &str, place: &[&str]) -> Vec<Vec<String>> {
    let unit = include_str!("../../systemd/pbx-failover-fail2ban-grace@.service");
    let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let order = |line: &str| {
        let mut words = line.trim_start_matches('-').split(' ').map(|word| word.replace("%i", "asterisk"));
        let program = words.next().expect("a program");
        [program].into_iter().chain(place.iter().map(|&word| word.to_owned())).chain(words).collect()
    };
    lines.map(order).collect()
}

#[test]
fn the_grace_of_a_jail_bans_nobody_and_leaves_the_jail_as_it_was() {
    if !have(&["fail2ban-server", "fail2ban-client", "unshare"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let copied = Command::new("cp").args(["-r", "/etc/fail2ban", &at("conf")]).status().expect("cp runs");
    assert!(copied.success());
    let _ = fs::remove_dir_all(at("conf/jail.d"));
    // It bans into a file: the machine's firewall is not touched, and a namespace holds what would.
    let action = format!("[Definition]\nactionban = echo <ip> >> {}\n", at("bans"));
    fs::write(at("conf/action.d/told.conf"), action).expect("written");
    fs::write(at("conf/fail2ban.local"), "[DEFAULT]\ndbfile = :memory:\n").expect("written");
    let jail = "[asterisk]\nenabled = true\nbackend = polling\nmaxretry = 3\naction = told\nignoreip = 127.0.0.1/8\n";
    fs::write(at("conf/jail.local"), format!("{jail}logpath = {}\n", at("log"))).expect("written");
    fs::write(at("log"), "").expect("written");
    let (conf, socket, pid, own_log) = (at("conf"), at("sock"), at("pid"), at("f2b.log"));
    let place = ["-c", &conf, "-s", &socket, "-p", &pid];
    let mut argv = vec!["unshare", "-n", "fail2ban-server"];
    argv.extend(place);
    argv.extend(["--logtarget", &own_log, "-f", "start"]);
    let _server = Running::start(&argv, &dir.path().join("server.log"));
    let ask = |words: &[&str]| {
        let output = Command::new("fail2ban-client").args(place).args(words).output().expect("it runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let patience = Duration::from_secs(20);
    wait_until("the jail is on", patience, || ask(&["status", "asterisk"]).contains("Banned IP list"));
    let before = ask(&["get", "asterisk", "ignoreip"]);
    let failing = |address: &str| {
        let now = Command::new("date").arg("+%Y-%m-%d %H:%M:%S").output().expect("date runs").stdout;
        let now = String::from_utf8_lossy(&now).trim().to_owned();
        let line = format!(
            "[{now}] NOTICE[1] chan_sip.c: Registration from '<sip:1@x>' failed for '{address}:5060' - Wrong password\n"
        );
        let log = fs::read_to_string(at("log")).expect("the log");
        fs::write(at("log"), log + &line.repeat(4)).expect("written");
    };
    let run = |key: &str| {
        for order in orders(key, &place) {
            let end = Command::new(&order[0]).args(&order[1..]).output().expect("it runs");
            assert!(end.status.success(), "{order:?}: {}", String::from_utf8_lossy(&end.stderr));
        }
    };
    let bans = || fs::read_to_string(at("bans")).unwrap_or_default();
    let passed_over =
        |address: &str| fs::read_to_string(&own_log).unwrap_or_default().contains(&format!("Ignore {address}"));
    run("ExecStartPre");
    failing("192.0.2.77");
    failing("2001:db8::77");
    wait_until("the office is passed over", patience, || passed_over("192.0.2.77") && passed_over("2001:db8::77"));
    run("ExecStopPost");
    assert_eq!(ask(&["get", "asterisk", "ignoreip"]), before);
    // Afterwards nothing of the grace is counted, and an attacker is banned as ever.
    failing("192.0.2.78");
    wait_until("an attacker is banned", patience, || bans().contains("192.0.2.78"));
    assert_eq!(bans(), "192.0.2.78\n");
}
