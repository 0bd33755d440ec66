//! Loading from disk: what stands around the file.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::{EXAMPLE, SHORT};
use pbx_failover::config::{CONFIG_BYTES_MAX, Loading, load};

/// A scratch directory with a configuration and a secret file.
struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        let scratch = Self { dir: tempfile::tempdir().expect("scratch directory") };
        scratch.put("tsig.key", b"c2VjcmV0\n", 0o600);
        fs::create_dir(scratch.at("pbx")).expect("working directory");
        scratch
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = self.at(name);
        fs::write(&path, content).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
        path
    }

    /// The shortest file, at home here.
    fn short(&self) -> String {
        let text = SHORT
            .replace("/etc/pbx-failover/tsig.key", self.at("tsig.key").to_str().expect("path"))
            .replace("/usr/local/pbx", self.at("pbx").to_str().expect("path"));
        format!("node: pbx-b\n{text}")
    }

    fn config(&self, text: &str) -> PathBuf {
        self.put("failover.yaml", text.as_bytes(), 0o644)
    }
}

fn refused(path: &Path) -> String {
    load(path, Loading::Online).expect_err("refused").to_string()
}

#[test]
fn the_shortest_file_loads_from_disk_with_its_secret_beside_it() {
    let scratch = Scratch::new();
    let loaded = load(&scratch.config(&scratch.short()), Loading::Online).expect("good");
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.path, scratch.at("failover.yaml"));
}

#[test]
fn the_example_loads_from_disk() {
    let scratch = Scratch::new();
    load(&scratch.config(EXAMPLE), Loading::Offline).expect("good");
}

#[test]
fn a_secret_that_everybody_may_read_is_refused() {
    let scratch = Scratch::new();
    let path = scratch.config(&scratch.short());
    scratch.put("tsig.key", b"c2VjcmV0\n", 0o644);
    for how in [Loading::Online, Loading::Offline] {
        let said = load(&path, how).expect_err("refused").to_string();
        assert!(said.contains(":8:") && said.contains("dns.updates[0].key.secret: everybody may read"), "{said}");
        assert!(said.contains("chmod 640"), "{said}");
    }
    scratch.put("tsig.key", b"c2VjcmV0\n", 0o640);
    load(&path, Loading::Online).expect("a group may read it");
}

#[test]
fn a_token_that_could_be_guessed_and_a_private_key_that_everybody_may_read_are_refused() {
    let scratch = Scratch::new();
    for name in ["agent.token", "agent.crt", "agent.key"] {
        scratch.put(name, b"long enough for a token", 0o640);
    }
    let at = |name: &str| scratch.at(name).display().to_string();
    let agent = format!(
        "agent: {{ token: {{ file: {} }}, tls: {{ certificate: {}, key: {} }} }}\n",
        at("agent.token"),
        at("agent.crt"),
        at("agent.key")
    );
    let path = scratch.config(&(scratch.short().replace("node: pbx-b\n", "node: pbx-a\n") + &agent));
    load(&path, Loading::Online).expect("the group may read them");
    scratch.put("agent.crt", b"a certificate is no secret", 0o644);
    load(&path, Loading::Online).expect("a certificate is no secret");
    for how in [Loading::Online, Loading::Offline] {
        scratch.put("agent.key", b"key", 0o644);
        let said = load(&path, how).expect_err("refused").to_string();
        assert!(
            said.contains("agent.tls.key: everybody may read")
                && said.contains(&format!("chmod 640 {}", at("agent.key"))),
            "{said}"
        );
        scratch.put("agent.key", b"key", 0o640);
        scratch.put("agent.token", b"fifteen bytes..\n", 0o640);
        let said = load(&path, how).expect_err("refused").to_string();
        assert!(said.contains("agent.token: is shorter than 16 bytes") && !said.contains("fifteen"), "{said}");
        scratch.put("agent.token", b"sixteen bytes...\n", 0o640);
        load(&path, how).expect("16 are enough");
    }
}

#[test]
fn an_observer_without_a_token_loads_with_a_warning_that_says_what_makes_it() {
    let scratch = Scratch::new();
    let path = scratch.config(&scratch.short().replace("node: pbx-b\n", "node: eyes\nrole: observer\n"));
    let warnings = load(&path, Loading::Online).expect("good").warnings;
    let said = warnings.iter().find(|remark| remark.key == "agent.token").expect("a warning").to_string();
    assert!(said.contains("`run` does not start") && said.contains("pbx-failover keys"), "{said}");
}

#[test]
fn a_plain_secret_in_a_file_that_everybody_may_read_is_refused() {
    let scratch = Scratch::new();
    let key = format!("{{ file: {} }}", scratch.at("tsig.key").display());
    let plain = scratch.short().replace(&key, "c2VjcmV0");
    let said = refused(&scratch.config(&plain));
    assert!(said.contains("dns.updates[0].key.secret: is a secret in a file that everybody may read"), "{said}");
    assert!(!said.contains("c2VjcmV0"), "{said}");
    load(&scratch.put("failover.yaml", plain.as_bytes(), 0o640), Loading::Online).expect("private now");

    let header = "action_urls: [{ name: n, events: [takeover], url: \"https://h/\", headers: { X-Api-Key: abc } }]";
    let with_header = format!("{}{header}\n", scratch.short());
    let said = refused(&scratch.config(&with_header));
    assert!(said.contains("action_urls[0].headers.X-Api-Key: is a secret in a file"), "{said}");
}

#[test]
fn a_configuration_that_everybody_may_write_is_refused() {
    let scratch = Scratch::new();
    let said = refused(&scratch.put("failover.yaml", scratch.short().as_bytes(), 0o666));
    assert!(said.contains("failover.yaml: can be written by everybody") && said.contains("chmod o-w"), "{said}");
}

#[test]
fn a_missing_secret_refuses_a_run_and_only_warns_a_look() {
    let scratch = Scratch::new();
    let path = scratch.config(&scratch.short());
    fs::remove_file(scratch.at("tsig.key")).expect("remove");
    let said = refused(&path);
    assert!(said.contains("key.secret: ") && said.contains("tsig.key does not exist"), "{said}");
    let warnings = load(&path, Loading::Offline).expect("offline").warnings;
    assert!(warnings.iter().any(|remark| remark.what.contains("tsig.key does not exist")), "{warnings:?}");
}

#[test]
fn secrets_and_files_that_only_the_other_host_uses_need_not_be_there() {
    let scratch = Scratch::new();
    let (none, no_program) = (scratch.at("none"), scratch.put("plain", b"no program", 0o644));
    let shared = format!(
        "{}agent: {{ token: {{ file: {n} }}, tls: {{ certificate: {n}, key: {n} }} }}\n\
         peer: {{ url: \"https://203.0.113.10:8471\", token: {{ file: {n} }}, certificate: {{ file: {n} }} }}\n\
         fence: {{ command: [{p}], read_back: {{ command: [{p}] }} }}\n\
         failback: {{ return_data: [{p}] }}\n",
        scratch.short(),
        n = none.display(),
        p = no_program.display()
    );
    let keys = |text: &str| -> Vec<String> {
        let refused = load(&scratch.config(text), Loading::Online).expect_err("refused");
        refused.remarks.into_iter().map(|remark| remark.key).collect()
    };
    assert_eq!(
        keys(&shared),
        ["peer.token", "peer.certificate.file", "fence.command", "fence.read_back.command", "failback.return_data"]
    );
    let on_primary = shared.replace("node: pbx-b\n", "node: pbx-a\n");
    assert_eq!(keys(&on_primary), ["agent.token", "agent.tls.certificate", "agent.tls.key"]);
    fs::remove_file(scratch.at("tsig.key")).expect("remove");
    let on_observer = shared.replace("node: pbx-b\n", "node: eyes\nrole: observer\n");
    assert_eq!(
        keys(&on_observer),
        ["agent.token", "agent.tls.certificate", "agent.tls.key"],
        "nor the key of the zone"
    );
    assert!(keys(&on_primary).contains(&"dns.updates[0].key.secret".to_owned()), "its guard asks the zone's master");
    let plain =
        on_observer.replace(&format!("token: {{ file: {} }}, certificate", none.display()), "token: abc, certificate");
    assert!(
        keys(&plain).contains(&"peer.token".to_owned()),
        "what is written in the file is there for everybody to read"
    );
}

#[test]
fn secrets_that_cannot_be_secrets_are_refused() {
    let scratch = Scratch::new();
    let path = scratch.config(&scratch.short());
    for (content, words) in [
        (&b""[..], "0 bytes"),
        (b"\n", "is empty"),
        (b"hunter2!\n", "is no base64"),
        (b"key \"k\" { secret \"c2VjcmV0\"; };", "a whole key clause"),
    ] {
        scratch.put("tsig.key", content, 0o600);
        let said = refused(&path);
        assert!(said.contains(words) && !said.contains("hunter2") && !said.contains("c2VjcmV0"), "{said}");
    }
    fs::remove_file(scratch.at("tsig.key")).expect("remove");
    fs::create_dir(scratch.at("tsig.key")).expect("directory");
    assert!(refused(&path).contains("tsig.key is no file"));
}

#[test]
fn secrets_in_the_environment_and_in_credentials_must_be_there_for_a_run() {
    let scratch = Scratch::new();
    let key = format!("{{ file: {} }}", scratch.at("tsig.key").display());
    let env = scratch.config(&scratch.short().replace(&key, "{ env: PBX_FAILOVER_TEST_UNSET }"));
    assert!(refused(&env).contains("the environment variable PBX_FAILOVER_TEST_UNSET is not set"));
    let credential = scratch.config(&scratch.short().replace(&key, "{ credential: tsig }"));
    assert!(refused(&credential).contains("LoadCredential=tsig:PATH"));
    load(&credential, Loading::Offline).expect("offline");
}

#[test]
fn a_configuration_in_the_working_directory_is_found_through_a_symbolic_link() {
    let scratch = Scratch::new();
    symlink(scratch.at("pbx"), scratch.at("link")).expect("link");
    let path = scratch.put("pbx/failover.yaml", scratch.short().as_bytes(), 0o600);
    assert!(refused(&path).contains("this file lies in"));
    assert!(refused(&scratch.at("link/failover.yaml")).contains("this file lies in"));
    let state = format!("{}state_dir: {}\n", scratch.short(), scratch.at("link/state").display());
    assert!(refused(&scratch.config(&state)).contains("state_dir: lies in the working directory"));
}

#[test]
fn what_the_file_points_at_is_looked_at() {
    let scratch = Scratch::new();
    scratch.put("plain", b"no program", 0o644);
    let text =
        scratch.short().replace("driver:", &format!("before_reload: [{}], driver:", scratch.at("plain").display()));
    assert!(refused(&scratch.config(&text)).contains("pbx.before_reload: "));
    let text = scratch.short().replace("http:", &format!("ca_file: {}, http:", scratch.at("ca.pem").display()));
    assert!(refused(&scratch.config(&text)).contains("monitor.checks.web.ca_file: "));
    let text =
        scratch.short().replace(scratch.at("pbx").to_str().expect("path"), scratch.at("none").to_str().expect("path"));
    let warnings = load(&scratch.config(&text), Loading::Online).expect("a warning only").warnings;
    assert!(warnings[0].to_string().contains("pbx.working_dir: "), "{warnings:?}");
    let text =
        scratch.short().replace(scratch.at("pbx").to_str().expect("path"), scratch.at("plain").to_str().expect("path"));
    assert!(refused(&scratch.config(&text)).contains("pbx.working_dir: is no directory"));
}

#[test]
fn a_file_that_cannot_be_one_is_refused_in_one_line() {
    let scratch = Scratch::new();
    let one_line = |path: &Path| {
        let said = refused(path);
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    assert!(one_line(&scratch.at("none.yaml")).contains("cannot be read"));
    assert!(one_line(scratch.dir.path()).contains("is no file"));
    let huge = vec![b'#'; usize::try_from(CONFIG_BYTES_MAX).expect("small") + 1];
    assert!(one_line(&scratch.put("huge.yaml", &huge, 0o600)).contains("larger than 1024 KiB"));
    let latin = scratch.put("latin.yaml", b"node: pbx-b\n# K\xf6ln\n", 0o600);
    assert!(one_line(&latin).contains("latin.yaml:2:4: is not UTF-8"));
    let utf16 = scratch.put("utf16.yaml", b"\xff\xfen\0o\0", 0o600);
    assert!(one_line(&utf16).contains("utf16.yaml:1:1: is not UTF-8"));
    let bom = format!("\u{feff}{}", scratch.short());
    load(&scratch.config(&bom), Loading::Online).expect("a byte order mark is harmless");
}
