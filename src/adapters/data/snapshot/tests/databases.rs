//! Databases in a restore: a takeover leaves them alone, a person gets them as they were, and nobody vouches for them.
//!
//! The scene is that of the tests around it; what the way back does with them is `half`'s.

use super::half::{P1, take_over};
use super::*;

#[test]
fn a_database_of_any_name_that_changed_in_its_log_alone_is_not_the_same() {
    let rig = Rig::new();
    let open = rusqlite::Connection::open(rig.work("core-of-any-name")).expect("database");
    open.pragma_update(None, "journal_mode", "wal").expect("mode");
    open.execute_batch("CREATE TABLE core(row TEXT); PRAGMA wal_checkpoint(TRUNCATE)").expect("table");
    let id = rig.good().id;
    open.execute_batch("INSERT INTO core VALUES('since')").expect("row");
    let kept = rig.take(Kind::BeforeRestore).expect("taken").id;
    let restored = rig.restore_of(&id, &[], Some(&kept)).expect("restored");
    assert_eq!(restored.put.named, ["core-of-any-name"]);
    assert!(restored.aside.named.contains(&"core-of-any-name-wal".to_owned()), "{restored:?}");
}

#[test]
fn a_takeover_leaves_a_database_alone_of_which_it_has_a_whole_copy() {
    let rig = Rig::new();
    rig.write("etc/a.conf", "good");
    let add = |name: &str, row: &str| {
        let open = rusqlite::Connection::open(rig.work(name)).expect("database");
        open.execute_batch(&format!("CREATE TABLE IF NOT EXISTS astdb(key TEXT); INSERT INTO astdb VALUES('{row}')"))
            .expect("row");
    };
    let names = ["astdb.sqlite3", "core-of-any-name"];
    let add = |row: &str| names.iter().for_each(|name| add(name, row));
    add("good");
    let id = rig.good().id;
    add("a newer one");
    let all = || names.map(|name| fs::read(rig.work(name)).expect("database"));
    let newer = all();
    rig.write("etc/a.conf", "");
    assert_eq!(take_over(&rig, &id).put.named, ["etc/a.conf"]);
    assert!(all() == newer, "one bad file takes no data back");
    // A person gets what was asked for, and so does who has no whole copy of what lies there.
    assert_eq!(rig.restore(&id).expect("restored").put.named, names);
    let rig = Rig::new();
    rig.write("astdb.sqlite3", "SQLite format 3\0 and then nothing that it could read");
    fs::remove_file(rig.work("astdb.sqlite3")).expect("removed");
    drop(rusqlite::Connection::open(rig.work("astdb.sqlite3")).map(|open| open.execute_batch("CREATE TABLE a(b)")));
    let id = rig.good().id;
    rig.write("astdb.sqlite3", "SQLite format 3\0 and then nothing that it could read");
    assert_eq!(take_over(&rig, &id).put.named, ["astdb.sqlite3"]);
}

#[test]
fn a_restore_that_changes_a_database_is_not_of_configuration_alone() {
    let rig = Rig::new();
    rig.write("etc/a.conf", "good");
    rig.write("1.call", "the same");
    let id = rig.good().id;
    rig.write("etc/a.conf", "newer");
    let kept = rig.take(Kind::BeforeRestore).expect("taken").id;
    assert!(rig.vault.is_of_configuration_alone(&order(&id, Some(&kept), None)));
    assert!(!rig.vault.is_of_configuration_alone(&order(&id, None, None)), "nobody knows what it changed");
    rig.write("1.call", "another");
    let other = rig.take(Kind::Takeover(P1.into())).expect("taken").id;
    assert!(!rig.vault.is_of_configuration_alone(&order(&id, Some(&other), None)));
    fs::remove_file(rig.work("1.call")).expect("removed");
    rig.write("astdb.sqlite3", "one");
    let id = rig.good().id;
    assert!(!rig.vault.is_of_configuration_alone(&order(&id, Some(&kept), None)));
    let only = Restore { only: vec!["etc/a.conf".to_owned()], ..order(&id, Some(&kept), None) };
    assert!(rig.vault.is_of_configuration_alone(&only));
    // A database is one under the name of a file of configuration as well.
    fs::remove_file(rig.work("astdb.sqlite3")).expect("removed");
    drop(rusqlite::Connection::open(rig.work("etc/b.conf")).map(|open| open.execute_batch("CREATE TABLE a(b)")));
    let id = rig.good().id;
    assert!(!rig.vault.is_of_configuration_alone(&order(&id, Some(&kept), None)));
}

#[test]
fn a_database_that_is_moved_aside_lies_beside_its_own_log_and_no_older_one() {
    let rig = Rig::new();
    let take = |names: &[&str], text: &str| {
        let (mut aside, work) = (held::Aside::new(&rig.vault, "aside"), at::root(&rig.work("")).expect("opened"));
        for name in names {
            rig.write(name, text);
            aside.take(0, name.as_bytes(), &work, OsStr::new(name), &Stop::default()).expect("moved");
        }
    };
    take(&["astdb.sqlite3-wal"], "of another one");
    take(&["astdb.sqlite3", "astdb.sqlite3-wal"], "newer");
    for name in ["astdb.sqlite3", "astdb.sqlite3-wal"] {
        let held = rig.state(&format!("held-back/aside/tree-2/0/{name}"));
        assert_eq!(fs::read_to_string(held).expect("held"), "newer");
    }
}
