//! A mail relay: aiosmtpd on loopback, plain, with STARTTLS or under TLS, with or without login.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::http::Authority;
use super::{Running, free_port, have, wait_until};

/// Debian's interpreter: the one that python3-aiosmtpd is installed for.
const PYTHON: &str = "/usr/bin/python3";

/// How the relay behaves.
#[derive(Default)]
pub struct Relay<'a> {
    /// With STARTTLS, required, or TLS from the first byte; `None`: in the clear.
    pub tls: Option<(&'static str, &'a Authority)>,
    /// User name and password that it demands.
    pub login: Option<(&'static str, &'static str)>,
    /// Its answer to every mail, instead of accepting it.
    pub data: Option<&'static str>,
    /// Receivers that it does not know.
    pub refuse: &'static [&'static str],
    /// How long it thinks about each mail, seconds.
    pub slow_s: f64,
}

/// A mail as the relay took it.
pub struct Mail {
    /// Sender of the envelope.
    pub from: String,
    /// Receivers of the envelope.
    pub to: Vec<String>,
    /// Whether it came under TLS.
    pub tls: bool,
    /// Whether it came after a login.
    pub auth: bool,
    /// Header and body, byte for byte, as standard base64.
    raw: String,
}

impl Mail {
    /// What Python's own mail parser reads: headers and text as a person sees them.
    pub fn read(&self) -> serde_json::Value {
        let script = "import base64,email,email.policy,json,sys
m=email.message_from_bytes(base64.b64decode(sys.argv[1]),policy=email.policy.default)
print(json.dumps({'headers':[[k.lower(),str(v)] for k,v in m.items()],'defects':len(m.defects),'text':m.get_content()}))";
        let out = std::process::Command::new(PYTHON).args(["-c", script, &self.raw]).output().expect("python3");
        serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)))
    }
}

/// The running relay.
pub struct Sink {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    out: PathBuf,
    _running: Running,
    _dir: tempfile::TempDir,
}

impl Sink {
    /// Starts it; `None`, loudly, where aiosmtpd is not installed.
    pub fn start(relay: &Relay) -> Option<Self> {
        if !have(&["python3"]) || !has_aiosmtpd() {
            return None;
        }
        let dir = tempfile::tempdir().expect("temporary directory");
        let script = dir.path().join("sink.py");
        std::fs::write(&script, include_str!("sink.py")).expect("write");
        let (port, out) = (free_port(), dir.path().join("mails"));
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut options = serde_json::json!({"tls": "none", "refuse": relay.refuse, "slow": relay.slow_s});
        if let Some((kind, authority)) = relay.tls {
            options["tls"] = kind.into();
            options["certificate"] = path(authority.certificate()).into();
            options["key"] = path(authority.key()).into();
        }
        if let Some((user, password)) = relay.login {
            options["user"] = user.into();
            options["password"] = password.into();
        }
        if let Some(data) = relay.data {
            options["data"] = data.into();
        }
        let (script, out_text) = (path(script), path(out.clone()));
        let argv = [PYTHON, &script, &port.to_string(), &out_text, &options.to_string()];
        let running = Running::start(&argv, &dir.path().join("log"));
        wait_until("the mail relay is ready", Duration::from_secs(15), || running.said().contains("ready"));
        Some(Self { port, out, _running: running, _dir: dir })
    }

    /// The mails that it accepted, in order.
    pub fn mails(&self) -> Vec<Mail> {
        let text = std::fs::read_to_string(&self.out).unwrap_or_default();
        text.lines().map(|line| mail(&serde_json::from_str(line).expect("JSON"))).collect()
    }
}

fn mail(value: &serde_json::Value) -> Mail {
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    Mail {
        from: text(&value["from"]),
        to: value["to"].as_array().expect("list").iter().map(text).collect(),
        tls: value["tls"] == true,
        auth: value["auth"] == true,
        raw: text(&value["raw"]),
    }
}

fn has_aiosmtpd() -> bool {
    if Path::new("/usr/lib/python3/dist-packages/aiosmtpd").exists() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "python3-aiosmtpd is not installed; tests/run installs it");
    eprintln!("SKIPPED: python3-aiosmtpd is not installed; tests/run installs it");
    false
}
