//! Real Asterisk: a registrar for phones and trunks, and a PBX that registers elsewhere.
//!
//! Its program comes from [`super::suite`]; its directory, addresses and accounts are its own, so that many run at once
//! and without root. It starts only what SIP registrations need. Under [`Setup::pjsip`] it reads files that a test
//! gives. Phones are in [`super::sipp`] and [`super::baresip`].

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::sip::{Algorithm, Binding, REALM, Trunk};
use super::suite::Suite;
use super::web::Papers;
use super::{Running, wait_until};

/// It boots in half a second; on a busy machine in several.
const BOOT_LIMIT: Duration = Duration::from_secs(30);

/// What registrations need, in an order that satisfies their dependencies; all else stays unloaded.
const MODULES: &[&str] = &[
    "res_timing_timerfd",
    "res_sorcery_config",
    "res_sorcery_memory",
    "res_sorcery_astdb",
    "res_pjproject",
    "res_pjsip",
    "res_pjsip_session",
    "res_pjsip_endpoint_identifier_user",
    "res_pjsip_endpoint_identifier_ip",
    "res_pjsip_authenticator_digest",
    "res_pjsip_outbound_authenticator_digest",
    "res_pjsip_outbound_registration",
    "res_pjsip_registrar",
    "res_pjsip_path",
    "res_pjsip_nat",
];

/// A shell's look at the state of the process `$p`: a dead one whom nobody has asked after is `Z`.
const STATE: &str = "[ -z \"$p\" ] || sed 's/.*) \\(.\\).*/\\1/' /proc/$p/stat 2>/dev/null";

/// What calls need beside that.
const CALL_MODULES: &[&str] = &[
    "res_pjsip_pubsub",
    "res_rtp_asterisk",
    "res_pjsip_sdp_rtp",
    "res_pjsip_caller_id",
    "codec_ulaw",
    "bridge_simple",
    "bridge_holding",
    "chan_pjsip",
    "app_dial",
    "pbx_config",
];

/// `modules.conf` of one that connects calls.
pub fn modules_for_calls() -> String {
    modules_conf(CALL_MODULES)
}

fn modules_conf(more: &[&str]) -> String {
    let load = MODULES.iter().chain(more).fold(String::new(), |text, module| format!("{text}load = {module}.so\n"));
    format!("[modules]\nautoload=no\n{load}")
}

/// What belongs to one host, below its configuration.
pub const PER_HOST: &str = "host.d";

/// The user of its manager, who may do what the driver asks for and nothing more.
pub const MANAGER: (&str, &str) = ("robot", "r0b0t pass");

/// Whether an Asterisk connects calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Calls {
    /// It only registers.
    None,
    /// `600` answers, and what else is dialled is a phone of that name.
    Connected,
    /// Also out over its trunks: `112`, and all that begins with 0. Their voices go through it.
    Outward,
}

/// What an Asterisk shall be.
pub struct Setup {
    suite: Suite,
    listen: SocketAddr,
    tls: Option<(SocketAddr, Papers)>,
    prefix: Vec<String>,
    accounts: Vec<(String, String)>,
    max_contacts: u32,
    trunks: Vec<Trunk>,
    algorithm: Algorithm,
    pjsip: Option<PathBuf>,
    manager: Option<SocketAddr>,
    manager_tls: Option<(SocketAddr, Papers)>,
    classes: &'static str,
    calls: Calls,
    per_host: Option<String>,
}

impl Setup {
    /// A registrar over UDP and TCP without accounts.
    pub fn at(suite: &Suite, listen: SocketAddr) -> Self {
        Self {
            suite: suite.clone(),
            listen,
            tls: None,
            prefix: Vec::new(),
            accounts: Vec::new(),
            max_contacts: 1,
            trunks: Vec::new(),
            algorithm: Algorithm::Md5,
            pjsip: None,
            manager: None,
            manager_tls: None,
            classes: "system",
            calls: Calls::None,
            per_host: None,
        }
    }

    /// With this account.
    pub fn account(mut self, user: &str, password: &str) -> Self {
        self.accounts.push((user.to_owned(), password.to_owned()));
        self
    }

    /// With so many contacts for each account; one more takes the place of the oldest.
    pub fn max_contacts(mut self, most: u32) -> Self {
        self.max_contacts = most;
        self
    }

    /// With no trunk so far.
    pub fn without_trunks(mut self) -> Self {
        self.trunks.clear();
        self
    }

    /// With a trunk to `provider`, which it registers as soon as it runs.
    pub fn trunk(mut self, name: &str, provider: SocketAddr, user: &str, password: &str) -> Self {
        self.trunks.push(Trunk::new(name, provider, user, password));
        self
    }

    /// With challenges of this algorithm. With SHA-256, which needs Asterisk 22.2, it answers both as a client.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Over TLS too.
    pub fn tls(mut self, listen: SocketAddr, papers: Papers) -> Self {
        self.tls = Some((listen, papers));
        self
    }

    /// With its manager interface, for [`MANAGER`].
    pub fn manager(mut self, listen: SocketAddr) -> Self {
        self.manager = Some(listen);
        self
    }

    /// And over TLS.
    pub fn manager_over_tls(mut self, listen: SocketAddr, papers: Papers) -> Self {
        self.manager_tls = Some((listen, papers));
        self
    }

    /// With other classes than `system` for [`MANAGER`], to read and to write.
    pub fn classes(mut self, classes: &'static str) -> Self {
        self.classes = classes;
        self
    }

    /// Connecting calls: `600` answers, and what else is dialled is a phone.
    pub fn calls(mut self) -> Self {
        self.calls = Calls::Connected;
        self
    }

    /// As [`Setup::calls`], and `112` and what begins with 0 go out over the last trunk.
    pub fn calls_out(mut self) -> Self {
        self.calls = Calls::Outward;
        self
    }

    /// With these lines of every transport in [`PER_HOST`], which its `pjsip.conf` includes and no sync carries.
    pub fn per_host(mut self, lines: &str) -> Self {
        self.per_host = Some(lines.to_owned());
        self
    }

    /// Started inside a namespace.
    pub fn inside(mut self, prefix: Vec<String>) -> Self {
        self.prefix = prefix;
        self
    }

    /// With the files of this directory for its `pjsip.conf` and what that includes, instead of accounts and trunks.
    /// Transports come from the rig: a file that brings its own is for a namespace.
    pub fn pjsip(mut self, dir: &Path) -> Self {
        self.pjsip = Some(dir.to_owned());
        self
    }
}

/// One Asterisk with its directory; killed when dropped.
pub struct Asterisk {
    setup: Setup,
    dir: tempfile::TempDir,
    running: Option<Running>,
}

impl Asterisk {
    /// Writes its configuration, starts it, and waits until it has fully booted.
    pub fn started(setup: Setup) -> Self {
        let mut asterisk = Self::prepared(setup);
        asterisk.start();
        asterisk
    }

    /// Writes its configuration, and leaves the start to [`Asterisk::start`] or to its commands.
    pub fn prepared(setup: Setup) -> Self {
        let dir = tempfile::Builder::new().prefix("ast").tempdir().expect("temporary directory");
        let asterisk = Self { setup, dir, running: None };
        for name in ["etc", "etc/host.d", "log", "spool", "run", "db", "keys"] {
            std::fs::create_dir(asterisk.path(name)).expect("directory");
        }
        asterisk.write_config();
        asterisk
    }

    /// The command that starts it as a unit does: it returns at once, and is well when it runs already.
    pub fn start_command(&self) -> String {
        let mut argv = vec!["setsid".to_owned()];
        argv.extend(self.setup.prefix.clone());
        argv.extend(self.program(&["-f", "-g", "-n"]));
        let (pid, console) = (self.path("pid").display().to_string(), self.path("console").display().to_string());
        let start = format!("{} >>{console} 2>&1 </dev/null & echo $! >{pid}", argv.join(" "));
        format!("p=$(cat {pid} 2>/dev/null); case $({STATE}) in ''|Z|X) {start} ;; esac")
    }

    /// The command that stops it as a unit does: with SIGTERM, and after a while with SIGKILL.
    pub fn stop_command(&self) -> String {
        format!(
            "p=$(cat {} 2>/dev/null); n=0; while case $({STATE}) in ''|Z|X) false ;; esac; do [ $n != 0 ] || kill $p; \
             n=$((n+1)); [ $n -lt 60 ] || kill -9 $p; sleep 0.05; done",
            self.path("pid").display()
        )
    }

    /// The command that succeeds while it runs.
    pub fn alive_command(&self) -> String {
        format!("p=$(cat {} 2>/dev/null); case $({STATE}) in ''|Z|X) false ;; esac", self.path("pid").display())
    }

    /// Takes over the configuration of another one, as a sync does: all but what belongs to one host.
    pub fn receive_from(&self, other: &Self) {
        for file in std::fs::read_dir(other.path("etc")).expect("its configuration").flatten() {
            if file.file_name() != PER_HOST {
                // A new file in the place of the old one, as rsync makes it.
                let (name, new) = (self.path("etc").join(file.file_name()), self.path("etc/.sync.abcdef"));
                std::fs::copy(file.path(), &new).expect("copied");
                std::fs::rename(&new, name).expect("renamed");
            }
        }
    }

    /// Sends a signal to what its command has started.
    pub fn signal_started(&self, name: &str) {
        let Ok(pid) = std::fs::read_to_string(self.path("pid")) else { return };
        let _ = Command::new("kill").args(["-s", name, pid.trim()]).stderr(Stdio::null()).status();
    }

    /// Its `pjsip.conf` anew, as an administrator or a sync writes it.
    pub fn pjsip_conf(&self) -> PathBuf {
        self.path("etc/pjsip.conf")
    }

    /// Where it listens over UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.setup.listen
    }

    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Running::pid)
    }

    /// Starts it again with what it kept on disk, its contacts among that.
    pub fn start(&mut self) {
        let mut argv = self.setup.prefix.clone();
        argv.extend(self.program(&["-f", "-g", "-n"]));
        let argv: Vec<_> = argv.iter().map(String::as_str).collect();
        let mut running = Running::start(&argv, &self.path("console"));
        wait_until("asterisk has booted", BOOT_LIMIT, || {
            assert!(running.exited().is_none(), "asterisk has ended: {}", running.said());
            self.cli("core waitfullybooted").contains("fully booted")
        });
        // It boots without a transport whose address is taken.
        let transports = self.cli("pjsip show transports");
        assert!(transports.contains(&self.setup.listen.to_string()), "{transports}{}", running.said());
        self.running = Some(running);
    }

    /// Gives its trunks up at their providers.
    pub fn unregister_trunks(&self) {
        self.cli("pjsip send unregister *all");
    }

    /// Stops it as an administrator does. It leaves its trunks registered at their providers.
    pub fn stop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        self.cli("core stop now");
        wait_until("asterisk has ended", BOOT_LIMIT, || running.exited().is_some());
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Reads its configuration again.
    pub fn reload(&self) {
        self.cli("module reload");
    }

    /// What a command of its console says; empty when it does not run.
    pub fn cli(&self, command: &str) -> String {
        let argv = self.program(&["-rx", command]);
        let out = Command::new(&argv[0]).args(&argv[1..]).stdin(Stdio::null()).output().expect("sh runs");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// The contacts of an account: where it would send calls to.
    pub fn contacts(&self, user: &str) -> Vec<String> {
        self.bindings(user).into_iter().map(|binding| binding.contact).collect()
    }

    /// What is registered for an account, from its own database: `pjsip show contacts` cuts long URIs.
    pub fn bindings(&self, user: &str) -> Vec<Binding> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        let now = i64::try_from(now).expect("a time of this age");
        let table = self.cli("database show registrar/contact");
        let mine = format!("/registrar/contact/{user};@");
        let rows = table.lines().filter(|line| line.starts_with(&mine)).filter_map(|line| line.split_once(": "));
        rows.filter_map(|(_, row)| serde_json::from_str::<Value>(row.trim()).ok())
            .map(|row| {
                // It keeps the separators of its own lists escaped.
                let text = |key: &str| row[key].as_str().unwrap_or_default().replace("^3B", ";");
                let until: i64 = text("expiration_time").parse().unwrap_or_default();
                Binding { contact: text("uri"), expires_s: until - now, user_agent: text("user_agent") }
            })
            .filter(|binding| binding.expires_s > 0)
            .collect()
    }

    /// What it thinks of its trunk: `Registered`, `Unregistered`, `Rejected`.
    pub fn trunk_state(&self, name: &str) -> String {
        let said = self.cli("pjsip show registrations");
        let line = said.lines().find(|line| line.trim_start().starts_with(&format!("{name}/")));
        line.and_then(|line| line.split_whitespace().nth(2)).unwrap_or_default().to_owned()
    }

    /// What it has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("console")).unwrap_or_default()
    }

    /// A file in its own directory; its configuration lies in `etc`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn program(&self, arguments: &[&str]) -> Vec<String> {
        let mut argv = self.setup.suite.program("usr/sbin/asterisk");
        argv.extend(["-C".to_owned(), self.path("asterisk.conf").display().to_string()]);
        argv.extend(arguments.iter().map(|&word| word.to_owned()));
        argv
    }

    fn write_config(&self) {
        let write = |name: &str, text: &str| std::fs::write(self.path("etc").join(name), text).expect("config");
        let (own, suite) = (|name: &str| self.path(name).display().to_string(), &self.setup.suite);
        let modules = ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib"]
            .map(|dir| suite.path(dir).join("asterisk/modules"));
        let modules = modules.iter().find(|dir| dir.exists()).expect("the modules lie beside the program");
        let directories = [
            ("astetcdir", own("etc")),
            ("astmoddir", modules.display().to_string()),
            ("astvarlibdir", own("spool")),
            ("astdbdir", own("db")),
            ("astkeydir", own("keys")),
            ("astdatadir", suite.path("usr/share/asterisk").display().to_string()),
            ("astspooldir", own("spool")),
            ("astrundir", own("run")),
            ("astlogdir", own("log")),
        ];
        let directories = directories.iter().fold(String::new(), |text, (key, dir)| format!("{text}{key} => {dir}\n"));
        // Beside the rest, which a sync may carry elsewhere.
        std::fs::write(self.path("asterisk.conf"), format!("[directories]\n{directories}")).expect("config");
        if let Some(lines) = &self.setup.per_host {
            std::fs::write(self.path("etc").join(PER_HOST).join("transport.conf"), lines).expect("config");
        }
        let calls: &[_] = if self.setup.calls == Calls::None { &[] } else { CALL_MODULES };
        write("modules.conf", &modules_conf(calls));
        self.write_manager();
        let out = match self.setup.trunks.last() {
            Some(Trunk { name, .. }) if self.setup.calls == Calls::Outward => {
                ["112", "_0."].map(|dialled| format!("exten = {dialled},1,Dial(PJSIP/${{EXTEN}}@{name})\n")).concat()
            }
            _ => String::new(),
        };
        let phones = "[phones]\nexten = 600,1,Answer()\n same = n,Wait(600)\nexten = _X.,1,Dial(PJSIP/${EXTEN})\n";
        write("extensions.conf", &format!("{phones}{out}"));
        write("logger.conf", "[general]\n[logfiles]\nconsole => notice,warning,error,security\n");
        match &self.setup.pjsip {
            None => write("pjsip.conf", &format!("{}{}", self.transports(), self.sections())),
            Some(given) => {
                for file in std::fs::read_dir(given).expect("the given directory").flatten() {
                    std::fs::copy(file.path(), self.path("etc").join(file.file_name())).expect("a given file");
                }
                let text = std::fs::read_to_string(self.path("etc/pjsip.conf")).expect("pjsip.conf among them");
                write("pjsip.conf", &format!("{}{text}", self.transports()));
            }
        }
    }

    fn write_manager(&self) {
        let Some(at) = self.setup.manager else { return };
        let tls = self.setup.manager_tls.as_ref().map(|(at, papers)| {
            let path = self.path("manager.pem");
            std::fs::write(&path, format!("{}{}", papers.certificate, papers.key)).expect("a file");
            format!("tlsenable=yes\ntlsbindaddr={at}\ntlscertfile={0}\ntlsprivatekey={0}\n", path.display())
        });
        let ((user, secret), classes) = (MANAGER, self.setup.classes);
        let text = format!(
            "[general]\nenabled=yes\nport={}\nbindaddr={}\n{}[{user}]\nsecret={secret}\nread={classes}\nwrite={classes}\n",
            at.port(),
            at.ip(),
            tls.unwrap_or_default()
        );
        std::fs::write(self.path("etc/manager.conf"), text).expect("config");
    }

    fn transports(&self) -> String {
        let at = self.setup.listen;
        let mut text = String::new();
        for protocol in ["udp", "tcp"] {
            let _ = writeln!(text, "[lab-{protocol}]\ntype=transport\nprotocol={protocol}\nbind={at}");
            if self.setup.per_host.is_some() {
                let _ = writeln!(text, "#include {PER_HOST}/transport.conf");
            }
        }
        if let Some((at, papers)) = &self.setup.tls {
            let files = [("cert.pem", &papers.certificate), ("key.pem", &papers.key)];
            let [certificate, key] = files.map(|(name, pem)| {
                std::fs::write(self.path(name), pem).expect("a file");
                self.path(name).display().to_string()
            });
            let _ = writeln!(
                text,
                "[lab-tls]\ntype=transport\nprotocol=tls\nbind={at}\ncert_file={certificate}\npriv_key_file={key}\n\
                 method=tlsv1_2"
            );
        }
        text
    }

    fn sections(&self) -> String {
        let Setup { accounts, trunks, max_contacts, algorithm, .. } = &self.setup;
        // Older than 22.2, it knows MD5 only and none of these words.
        let (both, mine) = if *algorithm == Algorithm::Sha256 {
            ("default_auth_algorithms_uac=MD5,SHA-256\n", "supported_algorithms_uas=SHA-256\n")
        } else {
            ("", "")
        };
        let mut text =
            format!("[global]\ntype=global\ndefault_realm={REALM}\ncontact_expiration_check_interval=1\n{both}");
        let auth = |user: &str, password: &str, more: &str| {
            // A `;` would begin a comment.
            let password = password.replace(';', "\\;");
            format!("type=auth\nauth_type=userpass\nusername={user}\npassword={password}\n{more}")
        };
        // Voices go through it, so that it is its address that counts.
        let through = if self.setup.calls == Calls::Outward { "direct_media=no\n" } else { "" };
        for (user, password) in accounts {
            let _ = write!(
                text,
                "[{user}]\ntype=endpoint\ncontext=phones\ndisallow=all\nallow=ulaw\n{through}auth={user}\naors={user}\n\
                 [{user}]\n{}\
                 [{user}]\ntype=aor\nmax_contacts={max_contacts}\nremove_existing=yes\nminimum_expiration=1\n",
                auth(user, password, mine)
            );
        }
        for Trunk { name, provider, user, password } in trunks {
            // Without the random delay, and it tries again whatever the provider says.
            let _ = write!(
                text,
                "[{name}]\ntype=registration\ntransport=lab-udp\noutbound_auth={name}\nserver_uri=sip:{provider}\n\
                 client_uri=sip:{user}@{provider}\ncontact_user={name}\nexpiration=300\nretry_interval=1\n\
                 max_random_initial_delay=0\nforbidden_retry_interval=1\nfatal_retry_interval=1\nmax_retries=10000\n\
                 auth_rejection_permanent=no\n[{name}]\n{}",
                auth(user, password, "")
            );
            if self.setup.calls == Calls::Outward {
                let _ = write!(
                    text,
                    "[{name}]\ntype=endpoint\ncontext=phones\ndisallow=all\nallow=ulaw\n{through}outbound_auth={name}\n\
                     aors={name}\n[{name}]\ntype=aor\ncontact=sip:{provider}\n\
                     [{name}]\ntype=identify\nendpoint={name}\nmatch={}\n",
                    provider.ip()
                );
            }
        }
        text
    }
}

impl Drop for Asterisk {
    fn drop(&mut self) {
        self.kill();
        self.signal_started("KILL");
    }
}
