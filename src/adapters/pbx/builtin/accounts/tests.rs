//! Accounts from files on disk: the samples of `tests/data/pjsip`, and what goes wrong with files that are synced.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;

fn sample(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/data/pjsip", name, "pjsip.conf"].iter().collect()
}

fn good(path: &Path, before: Option<&Loaded>) -> Loaded {
    load(path, before).unwrap_or_else(|broken| panic!("{:?}", broken.rest.remarks))
}

/// A working directory with one `pjsip.conf`.
struct Site(TempDir);

impl Site {
    fn new(files: &[(&str, &str)]) -> Self {
        let site = Self(tempfile::tempdir().expect("a folder"));
        for (name, text) in files {
            site.write(name, text);
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().expect("a parent")).expect("a folder");
        fs::write(self.path(name), text).expect("a file");
    }

    fn load(&self, before: Option<&Loaded>) -> Result<Loaded, Box<Broken>> {
        load(&self.path("pjsip.conf"), before)
    }

    fn good(&self, before: Option<&Loaded>) -> Loaded {
        good(&self.path("pjsip.conf"), before)
    }

    /// What is said to be broken, without the folder's name.
    fn broken(&self, before: &Loaded) -> (Vec<String>, Loaded) {
        let broken = self.load(Some(before)).expect_err("it is broken");
        let told = self.told(&broken.rest);
        assert_eq!(self.untold(&broken.to_string()), told[0]);
        let graver = broken.rest.remarks.iter().filter(|r| r.weight == Weight::Broken).count();
        (told[..graver].to_vec(), broken.rest)
    }

    fn told(&self, loaded: &Loaded) -> Vec<String> {
        loaded.remarks.iter().map(|remark| self.untold(&remark.to_string())).collect()
    }

    fn untold(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// A phone as FreePBX would write it, in one piece.
fn phone(name: &str) -> String {
    format!(
        "[{name}]\ntype=endpoint\nauth={name}-auth\naors={name}\n\n[{name}-auth]\ntype=auth\nusername={name}\n\
         password=pass-{name}\n\n[{name}]\ntype=aor\nmax_contacts=1\n\n"
    )
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.accounts.phones().iter().map(|phone| phone.name.as_str()).collect()
}

fn secret(login: &Login, algorithm: Algorithm) -> String {
    match login.credentials.proof(algorithm) {
        Some(Proof::Password(text)) => format!("password {}", text.expose_secret()),
        Some(Proof::Ha1(text)) => format!("ha1 {}", text.expose_secret()),
        None => "none".to_owned(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn a_file_written_by_hand_gives_its_phones_and_its_trunks() {
    let loaded = good(&sample("plain"), None);
    assert_eq!(loaded.remarks, []);
    let accounts = &loaded.accounts;
    assert_eq!(names(&loaded), ["6001", "6002", "6003", "door"]);
    assert_eq!(accounts.default_realm(), "pbx.example.com");

    let reception = accounts.by_name("6001").expect("a phone");
    assert_eq!(reception.logins[0].username, "6001");
    assert_eq!(*reception.logins[0].algorithms, [Algorithm::Md5]);
    assert_eq!(secret(&reception.logins[0], Algorithm::Sha256), "password pass;word-6001");
    let seconds = |n| Some(Duration::from_secs(n));
    let aor = &reception.aors[0];
    assert_eq!((aor.max_contacts, aor.when_full), (1, WhenFull::RemoveExisting));
    assert_eq!(
        (aor.minimum_expiration, aor.default_expiration, aor.maximum_expiration),
        (seconds(60), seconds(120), seconds(300))
    );

    let desk = accounts.by_name("6002").expect("a phone");
    assert_eq!(desk.logins[0].username, "desk-6002");
    assert_eq!(secret(&desk.logins[0], Algorithm::Md5), "password \"quoted 6002\"", "quotes are part of a value");
    assert_eq!((desk.aors[0].max_contacts, desk.aors[0].default_expiration), (3, seconds(600)));

    let (by_aor, aor) = accounts.by_aor("warehouse").next().expect("an AOR");
    assert_eq!((by_aor.name.as_str(), aor.max_contacts), ("6003", 5));
    assert_eq!(by_aor.logins[0].realm.as_deref(), Some("warehouse.example.com"));
    assert!(by_aor.admits(ip("192.0.2.77")) && by_aor.admits(ip("2001:db8:6003::5")));
    assert!(!by_aor.admits(ip("203.0.113.1")));
    assert_eq!(accounts.by_aor("provider").count() + accounts.by_aor("gone").count(), 0);

    let door = accounts.by_name("door").expect("a phone");
    assert!(door.admits(ip("198.51.100.8")) && !door.admits(ip("198.51.100.9")));

    let trunks = accounts.trunks();
    assert_eq!(trunks.iter().map(|trunk| trunk.name.as_str()).collect::<Vec<_>>(), ["provider", "second"]);
    assert_eq!(trunks[0].expiration, Duration::from_secs(300));
    assert_eq!(trunks[0].contact_user.as_deref(), Some("15550100"));
    assert_eq!(secret(&trunks[0].logins[0], Algorithm::Md5), "password pass-provider");
    assert_eq!(trunks[1].server_uri, "sip:registrar.example.net;transport=tcp");
    assert_eq!(trunks[1].outbound_proxy.as_deref(), Some("sip:proxy.example.net;lr"));
    assert_eq!((trunks[1].expiration, trunks[1].retry_interval), (EXPIRATION_S, RETRY_S));
}

#[test]
fn a_trunk_speaks_as_its_transport_says() {
    let conf = |protocol: &str| {
        format!(
            "[t]\ntype=transport\nprotocol={protocol}\n[p]\ntype=registration\ntransport=t\n\
             server_uri=sip:provider.example.com\nclient_uri=sip:1@provider.example.com\n"
        )
    };
    let spoken = |protocol| {
        let loaded = Site::new(&[("pjsip.conf", &conf(protocol))]).load(None).unwrap_or_else(|broken| broken.rest);
        (loaded.accounts.trunks()[0].transport, loaded.remarks.len())
    };
    assert_eq!(spoken("TCP").0, Some(SipTransport::Tcp));
    assert_eq!(spoken("tls").0, Some(SipTransport::Tls));
    let (transport, remarks) = spoken("wss");
    assert!(transport.is_none() && remarks > spoken("udp").1);
}

const EXPIRATION_S: Duration = Duration::from_secs(3600);
const RETRY_S: Duration = Duration::from_secs(60);

#[test]
fn the_files_of_freepbx_are_read_with_their_additions() {
    let loaded = good(&sample("freepbx"), None);
    assert_eq!(loaded.remarks, []);
    assert_eq!(loaded.files.len(), 22);
    assert_eq!(names(&loaded), ["101", "102", "103", "104"]);
    let phone = |name| loaded.accounts.by_name(name).expect("a phone");
    assert_eq!(phone("101").logins[0].realm.as_deref(), Some("pbx.example.com"));
    assert_eq!(phone("102").aors[0].max_contacts, 3);
    assert!(!phone("103").admits(ip("203.0.113.1")) && phone("103").admits(ip("192.0.2.1")));
    assert_eq!(phone("104").aors[0].max_contacts, 4);
    assert_eq!(loaded.accounts.trunks().len(), 1);
    assert_eq!(loaded.accounts.trunks()[0].logins[0].username, "15550100");
}

#[test]
fn a_digest_serves_its_own_algorithm_and_a_password_serves_all() {
    let loaded = good(&sample("digests"), None);
    assert_eq!(loaded.remarks, []);
    let login = |name| &loaded.accounts.by_name(name).expect("a phone").logins[0];
    // md5("7001:asterisk:pass-7001"), sha256("7002:asterisk:pass-7002")
    assert_eq!(secret(login("7001"), Algorithm::Md5), "ha1 431c6d49f2a13949fd159b3e86ccbce1");
    assert_eq!(secret(login("7001"), Algorithm::Sha256), "none");
    assert_eq!(*login("7001").algorithms, [Algorithm::Md5]);
    assert_eq!(*login("7002").algorithms, [Algorithm::Sha256, Algorithm::Md5]);
    assert!(secret(login("7002"), Algorithm::Sha256).starts_with("ha1 852b81cf6811957b"));
    assert_eq!(*login("7003").algorithms, [Algorithm::Sha256]);
    assert_eq!(secret(login("7003"), Algorithm::Md5), "none");
    assert_eq!(*login("7004").algorithms, [Algorithm::Md5, Algorithm::Sha256]);
    assert_eq!(secret(login("7004"), Algorithm::Sha512_256), "password pass-7004");
}

#[test]
fn secrets_are_in_no_debug_text_and_in_no_remark() {
    for name in ["plain", "freepbx", "digests"] {
        let shown = format!("{:?}", good(&sample(name), None));
        assert!(!shown.contains("pass-") && !shown.contains("431c6d49f2a13949fd159b3e86ccbce1"), "{name}");
    }
    let text = "[a]\ntype=auth\nusername=a\nsecret-1\npassword_digest=secret-2:secret-3\nmd5_cred=secret-4\n[secret-5";
    let site = Site::new(&[("pjsip.conf", text)]);
    let broken = site.load(None).expect_err("it is cut");
    assert!(!format!("{broken:?} {:?}", site.told(&broken.rest)).contains("secret"), "{broken:?}");
}

#[test]
fn an_endpoint_that_looks_like_a_phone_and_is_none_is_remarked() {
    let text = "
[open]\ntype=endpoint\naors=open\n[open]\ntype=aor\nmax_contacts=1
[no-auth-there]\ntype=endpoint\nauth=gone\naors=open
[no-user]\ntype=endpoint\nauth=no-user\naors=open\n[no-user]\ntype=auth\npassword=x
[no-secret]\ntype=endpoint\nauth=no-secret\naors=open\n[no-secret]\ntype=auth\nusername=x
[no-aor]\ntype=endpoint\nauth=ok\n[ok]\ntype=auth\nusername=ok\npassword=x
[full]\ntype=endpoint\nauth=ok\naors=full,gone\n[full]\ntype=aor
[oauth]\ntype=endpoint\nauth=oauth\naors=open\n[oauth]\ntype=auth\nauth_type=google_oauth\nusername=x\npassword=x
[good]\ntype=endpoint\nauth=gone,ok\naors=open\n[good]\ntype=endpoint
[static]\ntype=endpoint\nauth=ok\naors=static\n[static]\ntype=aor\ncontact=sip:192.0.2.1
[untyped]\nauth=x
[half]\ntype=registration\nserver_uri=sip:example.com
";
    let site = Site::new(&[("pjsip.conf", text)]);
    let loaded = site.good(None);
    assert_eq!(names(&loaded), ["good"]);
    let told: Vec<String> =
        loaded.remarks.iter().map(|r| format!("{}: {}", r.line, r.what.replace(", which is not there", "!"))).collect();
    assert_eq!(
        told,
        [
            "2: [open] has no auth, so that anybody could register as it: it is no phone here",
            "8: [no-auth-there] names the auth gone!",
            "16: the auth [no-user] has no username",
            "23: the auth [no-secret] has neither a password nor a digest",
            "26: [no-aor] has an auth, but no AOR that takes a registration: it is no phone here",
            "33: [full] has an auth, but no AOR that takes a registration: it is no phone here",
            "33: [full] names the AOR gone!",
            "43: the auth [oauth] is of a kind that is not known here",
            "48: [good] names the auth gone!",
            "52: a second [good] of type endpoint: passed over",
            "61: [untyped] has no type",
            "63: the registration [half] lacks a server_uri or client_uri that begins with sip:",
        ]
    );
}

#[test]
fn phones_may_share_an_aor_and_one_may_have_several_logins() {
    let text = phone("1") + &phone("2") + "[3]\ntype=endpoint\nauth=1-auth,2-auth\naors=1, 2,1\n";
    let site = Site::new(&[("pjsip.conf", &text)]);
    let loaded = site.good(None);
    let of = |aor| loaded.accounts.by_aor(aor).map(|(phone, _)| phone.name.as_str()).collect::<Vec<_>>();
    assert_eq!((of("1"), of("2")), (vec!["1", "3"], vec!["2", "3"]));
    let third = loaded.accounts.by_name("3").expect("a phone");
    assert_eq!(third.logins.iter().map(|l| l.username.as_str()).collect::<Vec<_>>(), ["1", "2"]);
}

#[test]
fn sections_of_type_acl_hold_for_all() {
    let site = Site::new(&[("pjsip.conf", &(phone("1") + "[acl]\ntype=acl\ndeny=203.0.113.0/24\nacl=named\n"))]);
    let loaded = site.good(None);
    assert!(loaded.accounts.admits(ip("192.0.2.1")) && !loaded.accounts.admits(ip("203.0.113.1")));
    assert_eq!(loaded.remarks.len(), 1, "acl.conf is not read");
}

#[test]
fn includes_are_found_beside_the_first_file_by_pattern_by_link_and_by_the_primary_s_path() {
    let includes =
        "#include sub/a.conf\n#include \"ext.d/*.conf\"\n#include /etc/asterisk/c.conf\n#include link.conf\n";
    let site = Site::new(&[
        ("pjsip.conf", includes),
        ("sub/a.conf", "#include b.conf\n"),
        ("b.conf", &phone("b")),
        ("c.conf", &phone("c")),
        ("ext.d/1.conf", &phone("1")),
        ("ext.d/2.conf", &phone("2")),
        ("ext.d/.2.conf.Xy12ab", &phone("hidden")),
        ("ext.d/3.txt", &phone("text")),
        ("ext.d/2.sync-conflict-20261120-101010-ABCDEFG.conf", &phone("conflict")),
        ("real/d.conf", &phone("d")),
    ]);
    std::os::unix::fs::symlink("real/d.conf", site.path("link.conf")).expect("a link");
    let loaded = site.good(None);
    assert_eq!(names(&loaded), ["1", "2", "b", "c", "d"]);
    assert_eq!(loaded.remarks.len(), 1, "{:?}", loaded.remarks);
    assert!(loaded.remarks[0].what.contains("left out"), "{:?}", loaded.remarks);
}

#[test]
fn a_pipe_is_not_opened() {
    let site = Site::new(&[("pjsip.conf", &(phone("1") + "#include pipe.conf\n"))]);
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, site.path("pipe.conf"), rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
    let loaded = site.good(None);
    assert_eq!(site.told(&loaded), ["pjsip.conf:15: pipe.conf is not a regular file; name the file itself"]);
}

#[test]
fn a_change_of_any_file_is_seen_also_one_that_keeps_length_and_times() {
    let text = phone("1") + "#tryinclude later.conf\n#tryinclude d/*.conf\n";
    let site = Site::new(&[("pjsip.conf", &text), ("d/1.conf", "; nothing\n")]);
    let mut loaded = site.good(None);
    assert!(!changed(&loaded.files));
    let mut seen = |why: &str| {
        assert!(changed(&loaded.files), "{why}");
        loaded = site.good(Some(&loaded));
        assert!(!changed(&loaded.files), "{why}");
    };
    site.write("pjsip.conf", &text.replace("pass-1", "pass-2"));
    seen("another password");
    let modified = fs::metadata(site.path("pjsip.conf")).and_then(|m| m.modified()).expect("a time");
    site.write("copy", &text);
    let copy = fs::File::options().write(true).open(site.path("copy")).expect("a file");
    copy.set_modified(modified).expect("a time");
    fs::rename(site.path("copy"), site.path("pjsip.conf")).expect("a rename");
    seen("a renamed copy with the old time and length");
    site.write("later.conf", "; now\n");
    seen("a file that was not there");
    site.write("d/2.conf", "; new\n");
    seen("a name that fits a pattern");
    fs::remove_file(site.path("d/1.conf")).expect("a file");
    seen("a name that is gone");
}

#[test]
fn a_file_that_vanished_or_is_empty_or_cut_or_full_of_nuls_is_broken() {
    let second = phone("2") + &phone("3");
    let site = Site::new(&[("pjsip.conf", &(phone("1") + "#include second.conf\n")), ("second.conf", &second)]);
    let before = site.good(None);
    let spoil = |text: Option<&str>, want: &str| {
        match text {
            Some(text) => site.write("second.conf", text),
            None => fs::remove_file(site.path("second.conf")).expect("a file"),
        }
        let (told, rest) = site.broken(&before);
        assert!(told.iter().any(|told| told.contains(want)), "{want}: {told:?}");
        assert!(rest.accounts.by_name("1").is_some(), "what is left can be used: {want}");
        site.write("second.conf", &second);
        assert_eq!(names(&site.good(Some(&before))), ["1", "2", "3"]);
    };
    spoil(None, "second.conf was there and is not any more; copy it again");
    spoil(Some(""), "second.conf is empty and was not");
    spoil(Some(&second[..second.len() - 60]), "ends within a line");
    spoil(Some(&second.replace("type=auth\nusername=3\npassword=pass-3\n", "")), "the auth 3-auth, which is not there");
    spoil(Some(&second.replace("password=pass-3", "\0\0\0\0\0")), "holds NUL bytes");
    spoil(Some(&second.replace("password=pass-3\n", "")), "the auth [3-auth] has neither a password nor a digest");
    spoil(Some("; all gone\n"), "of 3 phones only 1 are left");

    fs::remove_file(site.path("pjsip.conf")).expect("a file");
    assert_eq!(site.broken(&before).0.len(), 2, "it is not there, and the phones are lost");
    assert!(changed(&before.files));
}

#[test]
fn each_cut_of_a_file_is_broken_or_loses_nothing() {
    let whole = phone("1") + &phone("2") + &phone("3");
    let site = Site::new(&[("pjsip.conf", &whole)]);
    let before = site.good(None);
    for at in 0..whole.len() {
        site.write("pjsip.conf", &whole[..at]);
        if let Ok(loaded) = site.load(Some(&before)) {
            // What remains: a cut at the end of a line, and what was lost with it is within the last phone.
            assert!(at == 0 || whole.as_bytes()[at - 1] == b'\n', "{at}");
            assert_eq!(names(&loaded)[..2], ["1", "2"], "{at}");
        }
    }
}

#[test]
fn without_accounts_in_use_a_file_is_taken_as_it_is() {
    let site =
        Site::new(&[("pjsip.conf", &(phone("1") + "#include gone.conf\n[2]\ntype=endpoint\nauth=gone\naors=1"))]);
    let loaded = site.good(None);
    assert_eq!(names(&loaded), ["1"]);
    assert_eq!(loaded.remarks.len(), 2, "{:?}", loaded.remarks);
    site.write("pjsip.conf", "");
    assert!(site.load(None).is_err(), "but not an empty one");
}

#[test]
fn a_loss_of_half_is_believed_and_a_loss_of_more_is_not() {
    let site = Site::new(&[("pjsip.conf", &(1..=4).map(|n| phone(&n.to_string())).collect::<String>())]);
    let before = site.good(None);
    site.write("pjsip.conf", &(phone("1") + &phone("2")));
    assert_eq!(names(&site.good(Some(&before))), ["1", "2"]);
    site.write("pjsip.conf", &phone("1"));
    let (told, rest) = site.broken(&before);
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("pjsip.conf: of 4 phones only 1 are left; "), "{told:?}");
    assert_eq!(names(&rest), ["1"]);
}

#[test]
fn an_endpoint_whose_auth_was_taken_out_on_purpose_is_not_broken() {
    let site = Site::new(&[("pjsip.conf", &(phone("1") + &phone("2") + &phone("3")))]);
    let before = site.good(None);
    site.write("pjsip.conf", &(phone("1") + &phone("2") + &phone("3").replace("auth=3-auth\n", "")));
    assert_eq!(names(&site.good(Some(&before))), ["1", "2"]);
}

/// The sections of a text, each with its lines.
fn split(text: &str) -> Vec<String> {
    let parts = text.split("\n[").enumerate();
    parts.map(|(n, part)| if n == 0 { format!("{part}\n") } else { format!("[{part}\n") }).collect()
}

/// Words of which accounts are made, in any order.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "[1]\n",
        "[2](1)\n",
        "[1](+)\n",
        "[t](!)\n",
        "type=endpoint\n",
        "type=auth\n",
        "type=aor\n",
        "type=identify\n",
        "type=registration\n",
        "type=acl\n",
        "type=global\n",
        "auth=1\n",
        "auth=,1,2,\n",
        "aors=1,2\n",
        "max_contacts=1\n",
        "max_contacts=99999999999\n",
        "username=u\n",
        "password=p\n",
        "password=\n",
        "password_digest=MD5:,:\n",
        "auth_type=md5\n",
        "supported_algorithms_uas=SHA-256,md5,x\n",
        "identify_by=ip\n",
        "match=::/0,!,/\n",
        "permit=1.2.3.4/33\n",
        "deny=0.0.0.0/0\n",
        "endpoint=1\n",
        "server_uri=sip:\n",
        "client_uri=SIP:x\n",
        "expiration=0\n",
        "default_realm=\n",
        "outbound_auth=1\n",
        "acl=x\n",
        "minimum_expiration=-1\n",
        "#include *\n",
        "#tryinclude ../?*/*\n",
    ]);
    prop::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_file_says_a_phone_has_a_login_with_an_algorithm_and_an_aor(text in words()) {
        let site = Site::new(&[("sub/pjsip.conf", &text)]);
        let loaded = load(&site.path("sub/pjsip.conf"), None).unwrap_or_else(|broken| broken.rest);
        for phone in loaded.accounts.phones() {
            prop_assert!(!phone.aors.is_empty() && !phone.logins.is_empty());
            prop_assert!(phone.logins.iter().all(|l| !l.algorithms.is_empty() && !l.username.is_empty()));
            prop_assert!(phone.aors.iter().all(|aor| aor.max_contacts > 0));
            prop_assert!(loaded.accounts.by_name(&phone.name).is_some());
            prop_assert!(loaded.accounts.by_aor(&phone.aors[0].name).any(|(found, _)| found == phone));
        }
        let is_broken = loaded.remarks.iter().any(|remark| remark.weight == Weight::Broken);
        prop_assert_eq!(load(&site.path("sub/pjsip.conf"), Some(&loaded)).is_err(), is_broken);
        prop_assert!(!changed(&loaded.files));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_sections_that_do_not_build_on_each_other_means_nothing(
        order in Just((0..10).collect::<Vec<usize>>()).prop_shuffle()
    ) {
        let text = format!(
            "{}{}{}[t]\ntype=registration\noutbound_auth=1-auth\nserver_uri=sip:a\nclient_uri=sip:b\n",
            phone("1"), phone("2"), phone("3")
        );
        let parts = split(&text);
        prop_assert_eq!(parts.len(), order.len());
        let shuffled: String = order.iter().map(|at| parts[*at].as_str()).collect();
        let (one, other) = (Site::new(&[("pjsip.conf", &text)]), Site::new(&[("pjsip.conf", &shuffled)]));
        let (one, other) = (one.good(None).accounts, other.good(None).accounts);
        prop_assert_eq!(one.phones().len(), 3);
        prop_assert_eq!(one.phones(), other.phones());
        prop_assert_eq!(one.trunks(), other.trunks());
        prop_assert_eq!(one.by_aor, other.by_aor);
    }
}

#[test]
fn each_of_many_phones_is_found() {
    let text: String = (0..15_000).map(|n| phone(&format!("{n:06}"))).collect();
    let site = Site::new(&[("pjsip.conf", &text)]);
    let loaded = site.good(None);
    assert_eq!(loaded.accounts.phones().len(), 15_000);
    assert_eq!(loaded.accounts.by_aor("014999").count(), 1);
}
