//! What was changed on the backup is at home after a failback, carried by real rsync over a real sshd: byte for byte, both
//! where both sides changed it, and whatever is killed meanwhile.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::dns::Kind;
use crate::lab::robot::step;
use crate::lab::scene::possible;
use crate::lab::small::{Ground, Small};
use crate::lab::sshd::Sshd;
use crate::lab::wait_until;

/// A look at the robot's own pace, a failback, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A scene in which the backup serves; both sides had the same before.
struct Office {
    // Ended in this order.
    small: Small,
    ground: Ground,
    home: Sshd,
}

impl Office {
    fn serving(edit: impl Fn(String) -> String) -> Option<Self> {
        if !possible() || !Sshd::possible() {
            return None;
        }
        let (ground, home) = (Ground::new(Kind::Bind), Sshd::start());
        let to = format!("failback: {{ return_to: {}, ", home.yaml());
        let small = Small::on(&ground, |yaml| edit(yaml.replace("failback: {", &to)));
        let mut office = Self { small, ground, home };
        for (path, text) in [("pjsip.conf", "[100]\ntype=endpoint\n"), ("cdr/Master.csv", "1\n"), ("old", "1\n")] {
            write(&office.here(path), text);
        }
        let same = Command::new("cp").arg("-a").arg(office.here(".")).arg(office.there(".")).status();
        assert!(same.expect("cp").success());
        office.small.robot.start();
        office.small.robot.wait_armed();
        office.ground.web.kill();
        office.small.robot.wait_served();
        Some(office)
    }

    fn here(&self, path: impl AsRef<OsStr>) -> PathBuf {
        self.small.robot.path("work").join(path.as_ref())
    }

    fn there(&self, path: impl AsRef<OsStr>) -> PathBuf {
        self.home.path("work").join(path.as_ref())
    }

    fn primary_returns(&mut self) {
        self.ground.web.start();
        self.small.robot.wait("the primary is up", |status| status["verdict"] == "primary-up");
    }

    fn asked_for_failback(&self) {
        let (code, said) = self.small.robot.asked(&["failback"]);
        assert_eq!(code, 0, "{said}");
    }

    fn is_over(&self) -> Value {
        let over = |status: &Value| status["state"] == "standby" && status["plan"]["ended"].is_string();
        self.small.robot.wait_at_most("the failback is over", SOON * 2, over)
    }

    fn ledger(&self) -> Value {
        let output = self.small.robot.cli(&["ledger", "--json"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {said}"))
    }

    fn listed(&self) -> Vec<String> {
        let files = self.ledger()["files"].as_array().cloned().unwrap_or_default();
        let text = |file: &Value, key: &str| file[key].as_str().unwrap_or_default().to_owned();
        let dir = self.here("").display().to_string();
        let name = |file: &Value| text(file, "path").strip_prefix(&dir).map(str::to_owned);
        files.iter().map(|file| format!("{} {}", text(file, "change"), name(file).unwrap_or_default())).collect()
    }
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
    fs::write(path, text).expect("file");
}

fn bytes(n: usize, seed: u8) -> Vec<u8> {
    (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0] ^ seed).collect()
}

#[test]
fn what_was_written_here_is_at_home_and_what_both_sides_changed_stands_there_twice() {
    let Some(mut office) = Office::serving(|yaml| yaml) else { return };
    let odd = OsStr::from_bytes(b"voicemail/a\nb\xff \\#012.wav");
    write(&office.here("voicemail/default/100/INBOX/msg0000.wav"), bytes(200_000, 1));
    write(&office.here(odd), bytes(1000, 2));
    write(&office.here("#no remark"), "x");
    write(&office.here("cdr/Master.csv"), "1\n2\n");
    write(&office.here("pjsip.conf"), "[100]\ntype=endpoint\ncontext=ours\n");
    write(&office.there("pjsip.conf"), "[100]\ntype=endpoint\ncontext=theirs\n");
    write(&office.here("monitor/call.wav"), bytes(300_000, 3));
    write(&office.here("notes.txt"), "ours");
    std::os::unix::fs::symlink("/nowhere", office.there("notes.txt")).expect("a link of that name");
    fs::remove_file(office.here("old")).expect("removed");
    let seen = |status: &Value| status["ledger"]["files"] == 7 && status["ledger"]["removed"] == 1;
    let status = office.small.robot.wait_at_most("the ledger is told", SOON, seen);
    assert_eq!(status["ledger"]["phase"], "serving", "{status:#}");
    let told = String::from_utf8_lossy(&office.small.robot.cli(&["status"]).stdout).into_owned();
    assert!(told.contains("ledger: 7 files, "), "{told}");
    assert!(office.listed().contains(&"removed old".to_owned()), "{:?}", office.listed());
    let list = office.small.robot.cli(&["ledger", "--rsync", "--class", "voicemail"]).stdout;
    assert_eq!(list, b"voicemail/a\nb\xff \\#012.wav\0voicemail/default/100/INBOX/msg0000.wav\0");

    // Over a restart nothing of it is forgotten.
    office.small.robot.kill();
    write(&office.here("voicemail/later.wav"), bytes(10, 4));
    assert_eq!(office.ledger()["ledger"]["files"], 8, "also without a daemon");
    office.small.robot.start();
    office.primary_returns();
    let preview = String::from_utf8_lossy(&office.small.robot.cli(&["failback", "--dry-run"]).stdout).into_owned();
    let words = ["voicemail 3 files 201 kB", "recording 1 file 300 kB", "assumed"].map(|words| preview.contains(words));
    assert_eq!(words, [true; 3], "{preview}");
    office.asked_for_failback();
    let status = office.is_over();
    for name in ["voicemail/default/100/INBOX/msg0000.wav", "voicemail/later.wav", "monitor/call.wav", "#no remark"] {
        assert_eq!(fs::read(office.there(name)).ok(), fs::read(office.here(name)).ok(), "{name}");
    }
    assert_eq!(fs::read(office.there(odd)).ok(), fs::read(office.here(odd)).ok());
    assert_eq!(fs::read_to_string(office.there("cdr/Master.csv")).expect("file"), "1\n2\n");
    assert_eq!(fs::read_to_string(office.there("old")).expect("nothing is deleted at home"), "1\n");
    let theirs = fs::read_to_string(office.there("pjsip.conf")).expect("file");
    assert!(theirs.contains("theirs"), "{theirs}");
    let whole = office.ledger();
    let twice: Vec<_> = whole["kept_twice"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let [notes, line] = twice[..] else { panic!("two are kept twice: {twice:?}") };
    let (_, beside) = notes.split_once(" -> ").expect("its name at home");
    assert_eq!(fs::read_to_string(office.there(beside)).expect("ours"), "ours");
    assert_eq!(fs::read_link(office.there("notes.txt")).expect("theirs"), Path::new("/nowhere"));
    let (_, name) = line.split_once(" -> ").expect("its name at home");
    assert!(name.starts_with("pjsip.conf.from-pbx-b-"), "{line}");
    assert!(fs::read_to_string(office.there(name)).expect("ours").contains("ours"));
    assert_eq!(
        (&whole["ledger"]["ended"], whole["files"].as_array().map(Vec::len)),
        (&true.into(), Some(1)),
        "what was removed here is listed only"
    );
    assert!(status["ledger"].is_null(), "it has ended: {status:#}");
    let proof = step(&status, "return_data")["proof"].to_string();
    assert!(proof.contains("2 kept twice there: notes.txt.from-pbx-b-") && proof.contains("read back"), "{proof}");
    let rest = step(&status, "return_rest")["proof"].to_string();
    assert!(rest.contains("1 files, 300 kB at home"), "{rest}");
    assert!(office.small.robot.history_text().contains(name), "in the history too");
    let left: Vec<_> =
        fs::read_dir(office.there("")).expect("listed").flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.as_bytes().starts_with(b".")), "nothing half is left: {left:?}");
}

#[test]
fn large_recordings_keep_no_phone_waiting() {
    const LARGE: u64 = 5_000_000_000;
    let Some(mut office) = Office::serving(|yaml| yaml) else { return };
    write(&office.here("voicemail/a.wav"), bytes(1000, 1));
    // Sparse: five GB to rsync and to its digests, and no disk.
    write(&office.here("monitor/long.wav"), "RIFF");
    let file = fs::File::options().append(true).open(office.here("monitor/long.wav")).expect("file");
    file.set_len(LARGE).expect("length");
    let seen = |status: &Value| status["ledger"]["files"] == 2;
    office.small.robot.wait_at_most("the ledger is told", SOON, seen);
    office.primary_returns();
    office.asked_for_failback();
    let began = Instant::now();
    let status = office.small.robot.wait_at_most("the primary serves", SOON, |status| status["state"] == "standby");
    let took = began.elapsed();
    let rest = step(&status, "return_rest");
    assert_eq!(rest["state"], "running", "{status:#}");
    let without: u64 = ["stop_accepting", "return_delta", "hand_over", "primary_serves"]
        .iter()
        .map(|name| step(&status, name)["elapsed_ms"].as_u64().unwrap_or_default())
        .sum();
    eprintln!(
        "failback {took:?}, without telephone {without} ms, return_delta {}",
        step(&status, "return_delta")["elapsed_ms"]
    );
    assert!(without < 20_000, "{status:#}");
    assert!(fs::read(office.there("voicemail/a.wav")).is_ok());
    assert_eq!(status["ledger"]["bytes"], LARGE, "{status:#}");
    // Killed in the midst of it, by hand and by a crash, it goes on.
    office.small.robot.kill();
    office.small.robot.start();
    let status = office.small.robot.wait("it goes on", |status| step(status, "return_rest")["state"] == "running");
    assert_eq!(status["state"], "standby");
}

#[test]
fn each_trouble_on_the_way_home_is_one_line_and_a_failback_goes_on_once_it_is_mended() {
    let Some(mut office) = Office::serving(|yaml| yaml) else { return };
    let way_home = |office: &Office| {
        let checked = String::from_utf8_lossy(&office.small.robot.cli(&["check"]).stdout).into_owned();
        checked.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let is_open = format!("ok way home root@127.0.0.1:{} can be read", office.there("").display());
    assert!(way_home(&office).contains(&is_open), "{}", way_home(&office));
    write(&office.here("voicemail/a.wav"), bytes(300_000, 1));
    // What was written a moment ago is no reason to wait in this scene: sync.settle is 0.
    office.small.robot.wait_at_most("the ledger is told", SOON, |status| status["ledger"]["files"] == 1);
    office.primary_returns();
    let (known, authorized) = (office.home.path("known"), office.home.path("authorized"));
    let (was_known, was_authorized) = [&known, &authorized].map(|file| fs::read_to_string(file).expect("text")).into();
    let (halts, goes_on) = (["failback"], ["continue"]);
    let mut asked = &halts;
    let mut halts_with = |office: &Office, words: &str| {
        let (code, said) = office.small.robot.asked(asked);
        assert_eq!(code, 0, "{words}: {said}");
        asked = &goes_on;
        let halted = |status: &Value| {
            status["state"] == "halted" && step(status, "return_data")["error"].to_string().contains(words)
        };
        let status = office.small.robot.wait_at_most(words, SOON, halted);
        let error = step(&status, "return_data")["error"].to_string();
        assert!(!error.contains("\\n") && error.contains("; "), "{error}");
        assert!(office.small.pbx.serves(), "phones are served all the while");
    };
    fs::write(&known, "").expect("written");
    halts_with(&office, "its host key is not known; write it into known_hosts");
    assert!(way_home(&office).contains("its host key is not known"), "{}", way_home(&office));
    fs::write(&known, was_known).expect("written");
    fs::write(&authorized, "").expect("written");
    halts_with(&office, "ssh: permission denied; see that ssh_key stands in authorized_keys there");
    fs::write(&authorized, format!("command=\"exec /nowhere/rsync\" {was_authorized}")).expect("written");
    halts_with(&office, "rsync is not installed there; install rsync at the primary");
    fs::write(&authorized, was_authorized).expect("written");
    office.home.stop();
    halts_with(&office, "nobody answers at its ssh port");
    office.home.on_small_disk(100_000);
    halts_with(&office, "the disk there is full; make room at the primary");
    assert!(office.ledger()["files"].as_array().is_some_and(|files| files.len() == 1), "nothing is forgotten");
    office.home.stop();
    office.home.again();
    let (code, said) = office.small.robot.asked(&goes_on);
    assert_eq!(code, 0, "{said}");
    office.is_over();
    assert_eq!(fs::read(office.there("voicemail/a.wav")).ok(), fs::read(office.here("voicemail/a.wav")).ok());
    let mut said = office.small.robot.log() + &office.small.robot.history_text();
    said += &office.small.robot.status().to_string();
    assert!(!said.contains("PRIVATE KEY"), "no key is seen");
}

#[test]
fn what_could_not_be_carried_waits_visibly_with_the_sync_stopped_and_a_command_carries_it() {
    let command = |word: &str| format!("[/bin/sh, -c, \"echo {word} >>@DIR@/sync\"]");
    let sync = format!("sync: {{ settle: 0s, stop: {}, start: {} }}", command("stop"), command("start"));
    let Some(mut office) = Office::serving(|yaml| yaml.replace("sync: { settle: 0s }", &sync)) else { return };
    let sync = |office: &Office| fs::read_to_string(office.small.robot.path("sync")).unwrap_or_default();
    write(&office.here("monitor/call.wav"), bytes(100_000, 1));
    office.small.robot.wait_at_most("the ledger is told", SOON, |status| status["ledger"]["files"] == 1);
    let (code, said) = carried(&office);
    assert!(code == 1 && said.contains("this node serves"), "{said}");
    office.primary_returns();
    office.home.stop();
    office.asked_for_failback();
    let waits = |status: &Value| {
        status["state"] == "standby" && status["ledger"]["trouble"].to_string().contains("nobody answers")
    };
    let status = office.small.robot.wait_at_most("it says what waits, and why", SOON, waits);
    assert_eq!((&status["ledger"]["phase"], &status["ledger"]["files"]), (&"home".into(), &1.into()));
    assert_eq!(sync(&office), "stop\n", "a sync that deletes would take away what is not at home yet");
    let told = String::from_utf8_lossy(&office.small.robot.cli(&["status"]).stdout).into_owned();
    assert!(told.contains("ledger --carry"), "{told}");
    // What comes by the sync from home from now on is none of it.
    write(&office.here("from-home"), "x");
    office.small.robot.stop();
    let (code, said) = carried(&office);
    assert!(code == 1 && said.contains("nobody answers at its ssh port"), "{said}");
    office.home.again();
    let (code, said) = carried(&office);
    assert!(code == 0 && said.contains("1 files, 100 kB at home"), "{said}");
    assert_eq!(fs::read(office.there("monitor/call.wav")).ok(), fs::read(office.here("monitor/call.wav")).ok());
    assert!(!office.there("from-home").exists());
    office.small.robot.start();
    let status = office.is_over();
    assert_eq!(step(&status, "return_rest")["state"], "done", "{status:#}");
    assert!(status["ledger"].is_null());
    assert_eq!((step(&status, "start_sync")["state"].as_str(), sync(&office)), (Some("done"), "stop\nstart\n".into()));
}

fn carried(office: &Office) -> (i32, String) {
    let output = office.small.robot.cli(&["ledger", "--carry"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), said)
}

/// Stands before rsync: at the n-th call it kills the robot before it or behind it, or rsync itself in the midst of it.
const EXECUTIONER: &str = r#"#!/bin/sh
n=$(cat @DIR@/calls 2>/dev/null || echo 0)
n=$((n + 1))
echo "$n" >@DIR@/calls
act=none
[ "$n" != "$(cat @DIR@/at)" ] || act=$(cat @DIR@/act)
[ "$act" != before ] || kill -s KILL "$(cat @DIR@/robot)"
if [ "$act" = rsync ]; then
  /usr/bin/rsync "$@" &
  sleep 0.03
  kill -s KILL $!
  wait $!
  exit 137
fi
/usr/bin/rsync "$@"
code=$?
[ "$act" != behind ] || kill -s KILL "$(cat @DIR@/robot)"
exit $code
"#;

#[test]
fn killed_at_any_call_of_rsync_nothing_is_lost_and_the_way_home_goes_on() {
    use std::os::unix::fs::PermissionsExt as _;
    // Its PBX is stopped until then: a database of it is replaced in the delta.
    let stopped = |yaml: String| yaml.replace("failback: {", "failback: { start_primary: [/bin/true],");
    let Some(mut office) = Office::serving(stopped) else { return };
    let dir = tempfile::tempdir().expect("directory");
    let file = |name: &str| dir.path().join(name);
    write(&file("bin/rsync"), EXECUTIONER.replace("@DIR@", &dir.path().display().to_string()));
    fs::set_permissions(file("bin/rsync"), fs::Permissions::from_mode(0o755)).expect("mode");
    let path = format!("PATH={}:{}", file("bin").display(), std::env::var("PATH").unwrap_or_default());
    office.small.robot.under(&["env", &path]);
    office.small.robot.stop();
    office.small.robot.start();
    let (mut at, mut deaths, began) = (1, 0, Instant::now());
    loop {
        let act = ["before", "rsync", "behind"][at / 2 % 3];
        eprintln!("{:?} call {at}: {act}", began.elapsed());
        write(&office.here(format!("voicemail/{at}.wav")), bytes(50_000, 1));
        write(&office.here("cdr/Master.csv"), "1\n".repeat(at + 1));
        write(&office.here("cdr/calls.sqlite3"), bytes(20_000 + at, 2));
        write(&office.here(format!("monitor/{at}.wav")), bytes(90_000, 3));
        write(&file("calls"), "0");
        write(&file("at"), at.to_string());
        write(&file("act"), act);
        write(&file("robot"), office.small.robot.process().pid().to_string());
        office.primary_returns();
        office.asked_for_failback();
        let over = |status: &Value| status["state"] == "standby" && status["plan"]["ended"].is_string();
        let mut dead = false;
        wait_until("the robot dies or finishes", SOON * 2, || {
            dead = office.small.robot.has_ended();
            dead || office.small.robot.try_status().is_some_and(|status| over(&status))
        });
        let reached = fs::read_to_string(file("calls"))
            .is_ok_and(|calls| calls.trim().parse::<usize>().is_ok_and(|calls| calls >= at));
        if dead {
            deaths += 1;
            office.small.robot.kill();
            office.small.robot.start();
        }
        let status = office.is_over();
        assert!(status["ledger"].is_null(), "{act} at {at}: {status:#}");
        for name in [
            format!("voicemail/{at}.wav"),
            "cdr/Master.csv".into(),
            "cdr/calls.sqlite3".into(),
            format!("monitor/{at}.wav"),
        ] {
            assert_eq!(fs::read(office.there(&name)).ok(), fs::read(office.here(&name)).ok(), "{name}: {act} at {at}");
        }
        assert_eq!(office.ledger()["kept_twice"].as_array().map(Vec::len), Some(0), "{act} at {at}");
        if !reached {
            break;
        }
        at += 2;
        office.small.robot.wait_armed();
        office.ground.web.kill();
        office.small.robot.wait_served();
    }
    assert!(at > 9 && deaths >= 3, "{deaths} deaths in {at} failbacks");
}

#[test]
fn a_command_is_told_of_what_waits_and_of_the_pass() {
    // A call is recorded while the first pass is under way; nothing comes after the delta that could carry it.
    let script = "[ $PBX_FAILOVER_PASS = delta ] || echo RIFF >$PBX_FAILOVER_WORKING_DIR/monitor/late.wav; printf '%s ' \"$PBX_FAILOVER_PASS\" >>@DIR@/ran; tr '\\0' ',' <\"$PBX_FAILOVER_LIST\" >>@DIR@/ran; echo >>@DIR@/ran";
    let command =
        format!("failback: {{ return_data: [sh, -c, \"{}\"], ", script.replace('\\', "\\\\").replace('"', "\\\""));
    let keep = |yaml: String| {
        let from = yaml.find("failback: {").expect("the section");
        let rest = yaml[from..].find("drain:").expect("its first own key") + from;
        yaml[..from].to_owned() + &command + &yaml[rest..]
    };
    let Some(mut office) = Office::serving(keep) else { return };
    write(&office.here("voicemail/a.wav"), "RIFF");
    write(&office.here("monitor/call.wav"), "RIFF");
    office.small.robot.wait_at_most("the ledger is told", SOON, |status| status["ledger"]["files"] == 2);
    office.primary_returns();
    office.asked_for_failback();
    let status = office.is_over();
    let ran = fs::read_to_string(office.small.robot.path("ran")).expect("it ran");
    assert_eq!(ran, "first monitor/call.wav,voicemail/a.wav,\ndelta monitor/late.wav,\n");
    assert_eq!(step(&status, "return_rest")["state"], "skipped");
    wait_until("the ledger ends: the command carried all of it", SOON, || office.ledger()["ledger"]["ended"] == true);
}
