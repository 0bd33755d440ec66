//! Snapshots on a real disk: damaged, restored, pruned, moved aside.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use proptest::prelude::*;

use super::held::held_in;
use super::restore::{Order as Restore, Stage, UnderWay};
use super::take::{Order, Taken, measure};
use super::*;
use crate::data::{Classes, Pattern, shown};
use jiff::Timestamp;

mod databases;
mod half;

struct Rig {
    dir: tempfile::TempDir,
    vault: Vault,
}

const CONF: &str = "[100]\ntype=endpoint\n";

impl Rig {
    fn new() -> Self {
        Self::with(3, u64::MAX)
    }

    fn with(keep: u32, bytes_max: u64) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let (work, state) = (dir.path().join("work"), dir.path().join("state"));
        fs::create_dir_all(work.join("etc")).expect("directory");
        fs::create_dir(&state).expect("directory");
        let ignore = vec![Pattern::new("log/").expect("a pattern")];
        let subject = Subject { dirs: vec![work], classes: Classes::default(), ignore };
        let vault = Vault::of(&state, subject, keep, bytes_max);
        Self { dir, vault }
    }

    fn work(&self, path: impl AsRef<OsStr>) -> PathBuf {
        self.dir.path().join("work").join(path.as_ref())
    }

    fn state(&self, path: &str) -> PathBuf {
        self.dir.path().join("state").join(path)
    }

    fn write(&self, path: impl AsRef<OsStr>, text: &str) {
        let path = self.work(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
        fs::write(path, text).expect("file");
    }

    fn take(&self, kind: Kind) -> Result<Taken, Failed> {
        let stop = Stop::default();
        let lock = self.vault.lock(&stop)?;
        let measured = measure(self.vault.subject(), &stop)?;
        self.vault.take(&lock, &Order { kind, reason: None }, &measured, &stop)
    }

    fn good(&self) -> Taken {
        self.take(Kind::LastGood).expect("taken")
    }

    fn restore(&self, id: &str) -> Result<restore::Restored, Failed> {
        let kept = self.take(Kind::BeforeRestore).expect("taken").id;
        let done = self.restore_of(id, &[], Some(&kept));
        fs::remove_dir_all(self.state("snapshots").join(kept)).expect("removed");
        done
    }

    fn restore_of(&self, id: &str, only: &[&str], kept: Option<&str>) -> Result<restore::Restored, Failed> {
        let stop = Stop::default();
        let lock = self.vault.lock(&stop)?;
        let only = only.iter().map(|&path| path.to_owned()).collect();
        let order = Restore {
            id: id.to_owned(),
            only,
            aside: "aside".to_owned(),
            kept: kept.map(str::to_owned),
            plan: None,
            unless_changed: None,
        };
        self.vault.restore(&lock, &order, &stop)
    }

    fn verified(&self, id: &str) -> verify::Verified {
        self.vault.verify(id, &Stop::default()).expect("verified")
    }

    /// Every name below a directory: mode, content or target.
    fn tree(&self, of: &str) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut folders = vec![self.dir.path().join(of)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("listed").map(|entry| entry.expect("entry").path()) {
                let name = shown(entry.strip_prefix(self.dir.path().join(of)).expect("below").as_os_str().as_bytes());
                let about = fs::symlink_metadata(&entry).expect("there");
                let text = if about.is_symlink() {
                    format!("-> {}", fs::read_link(&entry).expect("link").display())
                } else if about.is_dir() {
                    folders.push(entry);
                    format!("directory {:o}", about.mode() & 0o7777)
                } else {
                    let content = fs::read(&entry).expect("file");
                    format!("{:o} {} {}", about.mode() & 0o7777, about.mtime(), shown(&content))
                };
                all.insert(name, text);
            }
        }
        all
    }

    fn ids(&self) -> Vec<String> {
        self.vault.list().0.into_iter().map(|one| one.id).collect()
    }

    fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.state("snapshots")).expect("listed").flatten();
        let names = names.filter_map(|name| name.file_name().into_string().ok());
        names.filter(|name| name.starts_with('.') && name != ".lock").collect()
    }
}

#[test]
fn what_was_damaged_is_as_it_was_and_nothing_else_is_touched() {
    let rig = Rig::new();
    rig.write("etc/pjsip.conf", CONF);
    rig.write("etc/sub/deep.conf", "a");
    rig.write(OsStr::from_bytes(b"etc/a\nb\xff.conf"), "odd");
    rig.write("voicemail/default/100/msg.wav", "RIFF");
    rig.write("log/messages", "ours");
    symlink("pjsip.conf", rig.work("etc/link.conf")).expect("link");
    symlink("/etc/passwd", rig.work("out")).expect("link");
    fs::set_permissions(rig.work("etc/pjsip.conf"), fs::Permissions::from_mode(0o640)).expect("mode");
    let before = rig.tree("work");
    let taken = rig.good();
    assert_eq!((taken.foot.measure.files, taken.foot.left_out), (5, 0), "{taken:?}");
    let state = rig.tree("state");
    let tree = format!("snapshots/{}/tree/0", taken.id);
    assert_eq!(state.get(&format!("{tree}/out")).map(String::as_str), Some("-> /etc/passwd"), "a link stays one");
    assert!(!state.contains_key(&format!("{tree}/voicemail/default/100/msg.wav")), "only listed");
    assert!(state[&tree].ends_with("700") && state[&format!("{tree}/etc/pjsip.conf")].starts_with("600 "));

    fs::write(rig.work("etc/pjsip.conf"), "").expect("emptied");
    fs::remove_dir_all(rig.work("etc/sub")).expect("removed");
    fs::remove_file(rig.work("out")).expect("removed");
    fs::write(rig.work("out"), "a file in place of the link").expect("file");
    fs::set_permissions(rig.work(OsStr::from_bytes(b"etc/a\nb\xff.conf")), fs::Permissions::from_mode(0o600))
        .expect("mode");
    rig.write("etc/new.conf", "appeared");
    rig.write("sounds/new.gsm", "appeared too");
    rig.write("voicemail/default/100/msg2.wav", "RIFF2");
    let restored = rig.restore(&taken.id).expect("restored");
    assert_eq!(
        (restored.put.all, restored.same, restored.aside.named.as_slice()),
        (4, 1, &["etc/new.conf".to_owned()][..])
    );
    let mut after = rig.tree("work");
    for stays in ["sounds", "sounds/new.gsm", "voicemail/default/100/msg2.wav"] {
        assert!(after.remove(stays).is_some(), "{stays}");
    }
    assert_eq!(after, before);
    assert_eq!(held_in(&rig.state("")).len(), 1);
    assert!(rig.vault.under_way() == Ok(None));
    assert_eq!(rig.restore(&taken.id).expect("again").put.all, 0, "only what differs");
    // What was moved aside comes back, and never over another.
    rig.write("etc/new.conf", "another");
    let back = rig.vault.put_back("aside", &[]).expect("asked");
    assert_eq!((back.files.all, back.stayed.all), (0, 1), "{back:?}");
    fs::remove_file(rig.work("etc/new.conf")).expect("removed");
    assert_eq!(rig.vault.put_back("aside", &[]).expect("asked").files.all, 1);
    assert_eq!(fs::read_to_string(rig.work("etc/new.conf")).expect("back"), "appeared");
    assert_eq!(held_in(&rig.state("")), []);
}

#[test]
fn a_part_is_put_in_place_alone_and_a_path_that_is_not_there_is_said() {
    let rig = Rig::new();
    rig.write("etc/a.conf", "a");
    rig.write("db/b.conf", "b");
    let id = rig.good().id;
    fs::remove_dir_all(rig.work("etc")).expect("removed");
    fs::remove_dir_all(rig.work("db")).expect("removed");
    let refused = rig.restore_of(&id, &["nowhere"], None).expect_err("nothing there").to_string();
    assert!(refused.contains("holds none of these paths"), "{refused}");
    assert_eq!(rig.restore_of(&id, &["etc/a.conf"], None).expect("restored").put.all, 1);
    assert!(rig.work("etc/a.conf").exists() && !rig.work("db").exists());
    let paths = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
    assert_eq!(rig.vault.count(&id, &paths(&["db", "etc/a.conf"])), Ok(2));
    let refused = rig.vault.count(&id, &paths(&["db", "etc/b.conf"])).expect_err("one is not there").to_string();
    assert!(refused.contains("holds nothing at etc/b.conf"), "{refused}");
    for odd in ["nowhere", "", "../snapshots/x", &format!("../snapshots/{id}")] {
        assert!(rig.vault.count(odd, &[]).is_err_and(|why| why.to_string().contains("there is no snapshot")), "{odd}");
        assert!(rig.vault.verify(odd, &Stop::default()).is_err(), "{odd}");
    }
    let to = rig.dir.path().join("elsewhere");
    let stop = Stop::default();
    for inside in [rig.work("copy"), rig.state("snapshots/copy")] {
        let refused = rig.vault.restore_to(&id, &[], &inside, &stop).expect_err("inside").to_string();
        assert!(refused.contains("name a directory elsewhere"), "{refused}");
    }
    assert_eq!(rig.vault.restore_to(&id, &[b"db".to_vec()], &to, &stop).expect("copied").put.all, 1);
    assert_eq!(fs::read_to_string(to.join("db/b.conf")).expect("copied"), "b");
    assert!(rig.vault.restore_to(&id, &[], &to, &stop).is_err(), "not over something");
    assert!(!rig.work("db").exists());
}

#[test]
fn what_is_quiet_takes_the_room_of_one_and_what_changed_is_its_own() {
    let rig = Rig::new();
    rig.write("etc/a.conf", &CONF.repeat(1000));
    rig.write("etc/b.conf", "old");
    let first = rig.good();
    fs::write(rig.work("etc/b.conf"), "new").expect("written in place");
    let second = rig.good();
    assert_eq!((first.linked, second.linked), (0, 1));
    let room = rig.vault.bytes();
    assert!(room < 2 * 20_000, "{room}");
    for (id, text) in [(&first.id, "old"), (&second.id, "new")] {
        assert!(rig.verified(id).is_whole());
        let copy = rig.state(&format!("snapshots/{id}/tree/0/etc/b.conf"));
        assert_eq!(fs::read_to_string(copy).expect("copy"), text);
    }
    assert!(first.id != second.id, "two within a second");
    assert_eq!(
        fs::metadata(rig.work("etc/a.conf")).expect("there").nlink(),
        1,
        "never a link into the working directory"
    );
}

#[test]
fn a_snapshot_that_somebody_damaged_is_named_and_never_put_in_place() {
    let rig = Rig::new();
    for name in ["a", "b", "c"] {
        rig.write(format!("etc/{name}.conf"), name);
    }
    let id = rig.good().id;
    assert!(rig.verified(&id).is_whole());
    let tree = |name: &str| rig.state(&format!("snapshots/{id}/tree/0/etc/{name}"));
    fs::write(tree("a.conf"), "x").expect("damaged");
    fs::remove_file(tree("b.conf")).expect("removed");
    fs::write(tree("more"), "x").expect("added");
    let found = rig.verified(&id);
    assert_eq!(
        (found.good, found.differs.named, found.missing.named, found.more.named),
        (1, vec!["etc/a.conf".to_owned()], vec!["etc/b.conf".to_owned()], vec!["etc/more".to_owned()])
    );
    for name in ["a", "b", "c"] {
        rig.write(format!("etc/{name}.conf"), "emptied");
    }
    let before = rig.tree("work");
    let refused = rig.restore(&id).expect_err("damaged").to_string();
    assert!(refused.contains("the snapshot is damaged: etc/a.conf"), "{refused}");
    assert_eq!(rig.tree("work"), before, "nothing was changed, and nothing left behind");
    assert!(rig.vault.under_way() == Ok(None));
    let list = rig.state(&format!("snapshots/{id}/manifest"));
    let text = fs::read_to_string(&list).expect("list");
    for cut in [10, text.len() / 2, text.len() - 1] {
        fs::write(&list, &text[..cut]).expect("cut");
        assert_eq!(rig.ids(), [] as [&str; 0]);
        assert_eq!(rig.vault.list().1.len(), 1, "named");
        assert!(rig.verified(&id).damaged.is_some());
    }
    fs::write(&list, text.replacen("etc/c.conf", "etc/d.conf", 1)).expect("edited");
    assert!(rig.verified(&id).damaged.is_some());
}

#[test]
fn they_stay_within_their_number_and_room_and_what_a_killed_one_left_is_removed() {
    let rig = Rig::with(2, 45_000);
    let prune = || {
        let lock = rig.vault.lock(&Stop::default()).expect("lock");
        rig.vault.prune(&lock);
    };
    let mut all = Vec::new();
    for n in 0..3 {
        rig.write("etc/a.conf", &n.to_string());
        all.push(rig.good().id);
    }
    let takeover = rig.take(Kind::Takeover("P1".into())).expect("taken").id;
    fs::create_dir_all(rig.state("snapshots/.taking-x/tree")).expect("left behind");
    prune();
    assert_eq!(rig.ids(), [all[1].as_str(), &all[2], &takeover]);
    assert_eq!(rig.leftovers(), [] as [&str; 0]);
    // Each new one is large: only the newest fits beside what never goes.
    for n in 0..2 {
        rig.write("etc/a.conf", &n.to_string().repeat(30_000));
        all.push(rig.good().id);
    }
    prune();
    assert_eq!(rig.ids(), [takeover.as_str(), &all[4]]);
    rig.write("etc/b.conf", &"x".repeat(30_000));
    let refused = rig.take(Kind::LastGood).expect_err("too large").to_string();
    assert!(refused.contains("one would take 60 kB, and sync.snapshots_max is 45 kB"), "{refused}");
}

#[test]
fn one_that_is_of_no_moment_is_thrown_away() {
    let rig = Rig::new();
    rig.write("etc/a.conf", "a");
    let stop = Stop::default();
    let before = measure(rig.vault.subject(), &stop).expect("measured");
    rig.write("etc/b.conf", "b");
    let order = Order { kind: Kind::LastGood, reason: None };
    let lock = rig.vault.lock(&stop).expect("lock");
    let failed = rig.vault.take(&lock, &order, &before, &stop).expect_err("another moment");
    assert_eq!(failed, Failed::Moved("the working directory".into()));
    stop.call_off();
    assert_eq!(rig.vault.take(&lock, &order, &before, &stop), Err(Failed::CalledOff));
    assert_eq!((rig.ids().len(), rig.leftovers().len()), (0, 0));
    // A takeover waits for it to come to rest.
    let order = Order { kind: Kind::Takeover("P".into()), reason: None };
    assert!(rig.vault.take(&lock, &order, &before, &Stop::default()).is_ok());
}

#[test]
fn what_cannot_be_kept_first_is_moved_aside_before_it_is_replaced() {
    let rig = Rig::new();
    rig.write("etc/a.conf", "good");
    let id = rig.good().id;
    rig.write("etc/a.conf", "newer, and nobody has it");
    let restored = rig.restore_of(&id, &[], None).expect("restored");
    assert_eq!((restored.put.all, restored.aside.all), (1, 1));
    let aside = rig.state("held-back/aside/tree/0/etc/a.conf");
    assert_eq!(fs::read_to_string(aside).expect("kept"), "newer, and nobody has it");
    assert_eq!(fs::read_to_string(rig.work("etc/a.conf")).expect("put"), "good");
}

#[test]
fn a_database_comes_back_whole_and_no_log_of_another_is_applied_to_it() {
    let rig = Rig::new();
    rig.write("etc/a.conf", "a");
    let open = || {
        let open = rusqlite::Connection::open(rig.work("astdb.sqlite3")).expect("database");
        open.pragma_update(None, "journal_mode", "wal").expect("mode");
        open.execute_batch("CREATE TABLE IF NOT EXISTS astdb(key TEXT); INSERT INTO astdb VALUES('x')").expect("row");
        open
    };
    let rows = || -> i64 {
        let open = rusqlite::Connection::open(rig.work("astdb.sqlite3")).expect("database");
        open.query_row("SELECT count(*) FROM astdb", [], |row| row.get(0)).expect("counted")
    };
    let live = open();
    let id = rig.good().id;
    assert!(rig.verified(&id).is_whole());
    drop(live);
    // What came since lies in a log that a dead writer left.
    let live = open();
    let log = fs::read(rig.work("astdb.sqlite3-wal")).expect("log");
    drop(live);
    rig.write("astdb.sqlite3", "cut");
    fs::write(rig.work("astdb.sqlite3-wal"), log).expect("log");
    let restored = rig.restore(&id).expect("restored");
    assert_eq!(restored.put.named, ["astdb.sqlite3"]);
    assert!(restored.aside.named.contains(&"astdb.sqlite3-wal".to_owned()), "{restored:?}");
    assert_eq!(rows(), 1);
}

#[test]
fn spools_are_moved_aside_with_their_directories_left_and_come_back_once() {
    let rig = Rig::new();
    rig.write("spool/outgoing/1.call", "Channel: SIP/1");
    rig.write("spool/outgoing/sub/2.call", "Channel: SIP/2");
    rig.write("spool/outgoing/notes.txt", "stays");
    rig.write("etc/a.conf", "a");
    symlink("1.call", rig.work("spool/outgoing/3.call")).expect("link");
    let before = rig.tree("work");
    let patterns = [Pattern::new("*.call").expect("a pattern")];
    let hold = || rig.vault.hold_back(&patterns, "P1", &Stop::default());
    let moved = hold();
    assert_eq!((moved.files.all, moved.stayed.all), (3, 0), "{moved:?}");
    assert!(rig.work("spool/outgoing/sub").is_dir() && !rig.work("spool/outgoing/1.call").exists());
    assert_eq!(hold().files.all, 0);
    // One of the same name comes while it is held.
    rig.write("spool/outgoing/1.call", "Channel: SIP/9");
    assert_eq!(hold().files.all, 1);
    assert_eq!(held_in(&rig.state(""))[0].files.all, 4);
    // As after a kill between the copy and the removal: the same file in both places is one.
    let kept = rig.state("held-back/P1/tree/0/spool/outgoing/sub/2.call");
    fs::copy(&kept, rig.work("spool/outgoing/sub/2.call")).expect("copied");
    let time = fs::metadata(&kept).and_then(|about| about.modified()).expect("time");
    let copy = File::options().append(true).open(rig.work("spool/outgoing/sub/2.call")).expect("file");
    copy.set_modified(time).expect("time");
    assert_eq!(hold().files.all, 1);
    assert_eq!(held_in(&rig.state(""))[0].files.all, 4);
    let back = rig.vault.put_back("P1", &[]).expect("asked");
    assert_eq!((back.files.all, back.stayed.named.len()), (3, 1), "{back:?}");
    // The newest first; the other one comes once its place is free.
    assert!(rig.tree("work")["spool/outgoing/1.call"].ends_with("SIP/9"));
    fs::remove_file(rig.work("spool/outgoing/1.call")).expect("removed");
    assert_eq!(rig.vault.put_back("P1", &[]).expect("asked").files.all, 1);
    assert_eq!(rig.tree("work"), before);
    assert!(rig.vault.put_back("P1", &[]).is_err() && rig.vault.put_back("../work", &[]).is_err());
}

#[test]
fn what_the_snapshot_before_does_not_hold_is_moved_aside_instead_of_being_overwritten() {
    let rig = Rig::new();
    rig.write("etc/a.conf", "good");
    rig.write("etc/b.conf", "good");
    rig.write("astdb.sqlite3", "text");
    let id = rig.good().id;
    // No whole copy of this one can be made.
    rig.write("astdb.sqlite3", "SQLite format 3\0 and then nothing that it could read");
    rig.write("etc/a.conf", "newer");
    rig.write("etc/b.conf", "newer");
    let before = rig.take(Kind::BeforeRestore).expect("taken");
    assert_eq!(before.foot.left_out, 1, "{before:?}");
    rig.write("etc/b.conf", "newer than what is kept");
    let restored = rig.restore_of(&id, &[], Some(&before.id)).expect("restored");
    assert_eq!((restored.put.all, restored.aside.named), (3, vec!["astdb.sqlite3".into(), "etc/b.conf".into()]));
    let aside = rig.state("held-back/aside/tree/0/etc/b.conf");
    assert_eq!(fs::read_to_string(aside).expect("kept"), "newer than what is kept");
}

fn order(id: &str, kept: Option<&str>, plan: Option<&str>) -> Restore {
    let [kept, plan] = [kept, plan].map(|text| text.map(str::to_owned));
    Restore { id: id.to_owned(), only: Vec::new(), aside: "aside".to_owned(), kept, plan, unless_changed: None }
}

fn note(rig: &Rig, order: Restore, minutes: i64, stage: Stage) {
    let at = Some(Timestamp::now() - jiff::SignedDuration::from_mins(minutes));
    let text = serde_json::to_string(&UnderWay { order, at, stage, before: None, undoes: false }).expect("a note");
    fs::write(rig.state("restore-under-way"), text).expect("note");
}

#[test]
fn what_a_person_broke_off_is_completed_while_it_is_minutes_old_and_else_stays_noted() {
    let rig = Rig::new();
    rig.write("etc/a.conf", "good");
    let id = rig.good().id;
    let complete = |minutes, stage, plan: Option<&str>| {
        rig.write("etc/a.conf", "newer");
        note(&rig, order(&id, None, plan), minutes, stage);
        let lock = rig.vault.lock(&Stop::default()).expect("lock");
        let said = rig.vault.complete(&lock, Some("P1"), &Stop::default()).expect("no trouble").expect("a note");
        let is_half = rig.vault.half_done().is_some();
        assert_eq!(
            is_half,
            said.contains("it is over"),
            "whether the sync has brought all since, nobody knows: {said}"
        );
        (fs::read_to_string(rig.work("etc/a.conf")).expect("file"), said)
    };
    let (text, said) = complete(2, Stage::Committing, None);
    assert!(text == "good" && said.contains("is complete"), "{text} {said}");
    let (text, said) = complete(60 * 24 * 20, Stage::Committing, None);
    assert!(text == "newer" && said.contains("that a person broke off is not completed"), "{text} {said}");
    let (text, said) = complete(2, Stage::Staging, None);
    assert!(text == "newer" && said.contains("nothing had been changed"), "{text} {said}");
    let (text, _) = complete(60 * 24, Stage::Committing, Some("P1"));
    assert_eq!(text, "good", "its own");
    let (text, _) = complete(2, Stage::Committing, Some("P0"));
    assert_eq!(text, "newer", "another takeover's");
}

#[test]
fn half_a_restore_stays_noted_until_it_is_whole_or_undone() {
    let rig = Rig::new();
    rig.write("etc/a.conf", "good");
    rig.write("etc/b.conf", "good");
    let id = rig.good().id;
    rig.write("etc/a.conf", "newer");
    rig.write("etc/b.conf", "newer");
    rig.write("etc/new.conf", "newer");
    let before = rig.tree("work");
    let kept = rig.take(Kind::Takeover("P1".into())).expect("taken").id;
    let lock = rig.vault.lock(&Stop::default()).expect("lock");
    // A directory in the way of what is moved aside: it breaks off behind the first files.
    fs::create_dir_all(rig.state("held-back/aside/tree/0")).expect("directory");
    fs::write(rig.state("held-back/aside/tree/0/etc"), "in the way").expect("file");
    let stop = Stop::default();
    let broke = rig.vault.restore(&lock, &order(&id, Some(&kept), Some("P1")), &stop).expect_err("it breaks off");
    assert!(broke.to_string().contains("broke off in its midst") && stop.is_beyond(), "{broke}");
    assert_eq!(fs::read_to_string(rig.work("etc/b.conf")).expect("file"), "good", "half of it");
    assert!(rig.vault.half_done().is_some_and(|half| half.contains(&id)));
    // Nor does the next one get further, when not even the snapshot is whole any more.
    rig.write("etc/a.conf", "");
    fs::write(rig.state(&format!("snapshots/{id}/tree/0/etc/a.conf")), "x").expect("damaged");
    assert!(rig.vault.complete(&lock, Some("P1"), &Stop::default()).is_err());
    assert!(rig.vault.half_done().is_some(), "what could not even be staged is half done all the same");
    let said =
        rig.vault.undo(&lock, Some("P1"), &Stop::default()).expect_err("a.conf is nobody's copy, and cannot be moved");
    assert!(rig.vault.half_done().is_some(), "{said}");
    fs::remove_file(rig.state("held-back/aside/tree/0/etc")).expect("removed");
    let said = rig.vault.complete(&lock, Some("P1"), &Stop::default());
    assert!(said.as_ref().is_ok_and(|said| said.as_ref().is_some_and(|said| said.contains(&kept))), "{said:?}");
    assert_eq!((rig.tree("work"), rig.vault.half_done()), (before, None));
}

#[test]
fn a_restore_by_a_person_is_seen_while_it_holds_the_lock() {
    let rig = Rig::new();
    let held = rig.vault.lock_for(Work::PersonRestores, &Stop::default()).expect("lock");
    assert_eq!(rig.vault.half_done(), None, "nothing is changed yet");
    note(&rig, order("good-1", None, None), 0, Stage::Committing);
    let said = rig.vault.half_done().expect("it is at work");
    assert!(said.contains(&format!("process {}", std::process::id())), "{said}");
    drop(held);
    assert_eq!(rig.vault.half_done().as_deref(), Some("a restore of good-1 is half done"));
    fs::remove_file(rig.state("restore-under-way")).expect("removed");
    let _robot = rig.vault.lock(&Stop::default()).expect("lock");
    assert_eq!(rig.vault.half_done(), None, "one that only copies leaves no half");
}

/// What somebody does to a tree.
#[derive(Debug, Clone)]
enum Damage {
    Empty(usize),
    Remove(usize),
    Cut(usize),
    Rewrite(usize, String),
    Mode(usize, u32),
    Add(String),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<usize>().prop_map(Damage::Empty),
        any::<usize>().prop_map(Damage::Remove),
        any::<usize>().prop_map(Damage::Cut),
        (any::<usize>(), ".{0,40}").prop_map(|(n, text)| Damage::Rewrite(n, text)),
        (any::<usize>(), 0o400..0o1000_u32).prop_map(|(n, mode)| Damage::Mode(n, mode)),
        "[a-z]{1,5}".prop_map(Damage::Add),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_damaged_the_tree_is_as_it_was(
        names in proptest::collection::btree_set("[a-c]{1,2}(/[a-c]{1,2}){0,2}", 1..12),
        damages in proptest::collection::vec(damage(), 0..12),
    ) {
        let rig = Rig::new();
        let mut files = Vec::new();
        for name in names {
            let name = format!("etc/{name}.conf");
            rig.write(&name, &name.repeat(20));
            files.push(name);
        }
        let before = rig.tree("work");
        let id = rig.good().id;
        for damage in damages {
            let at = |n: usize| rig.work(&files[n % files.len()]);
            // One that was removed before is gone already.
            let _ = match damage {
                Damage::Empty(n) => fs::write(at(n), ""),
                Damage::Remove(n) => fs::remove_file(at(n)),
                Damage::Cut(n) => fs::read(at(n)).and_then(|text| fs::write(at(n), &text[..text.len() / 2])),
                Damage::Rewrite(n, text) => fs::write(at(n), text),
                Damage::Mode(n, mode) => fs::set_permissions(at(n), fs::Permissions::from_mode(mode)),
                Damage::Add(name) => fs::write(rig.work(format!("etc/{name}-new.conf")), "new"),
            };
        }
        rig.restore(&id).expect("restored");
        prop_assert_eq!(rig.tree("work"), before);
    }
}
