//! Real Kamailio: the backup's PBX behind the driver `command`, a trunk provider, or the primary's SIP server.
//!
//! All three are one registrar; they differ in what is asked of them. The scripts that the driver runs lie in
//! `kamailio/pbx.sh`. A provider can be told to be slow, to refuse or to be silent while it runs: [`Manner`]. Phones
//! are in [`super::sipp`].

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::sip::{Algorithm, Binding, REALM, Trunk};

/// The programs that the rig needs, for [`super::have`].
pub const PROGRAMS: [&str; 3] = ["kamailio", "kamcmd", "ps"];

/// What a Kamailio shall be.
#[derive(Clone)]
pub struct Setup {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Listens over TCP too.
    pub tcp: bool,
    /// Put before the program, to start it in a namespace: `Topology::exec`.
    pub prefix: Vec<String>,
    /// User and password of each account.
    pub accounts: Vec<(String, String)>,
    /// The trunks that it registers elsewhere.
    pub trunks: Vec<Trunk>,
    /// How long its registrations at providers last.
    pub trunk_expires_s: u32,
    /// The realm of its challenges.
    pub realm: String,
    /// The algorithm of its challenges.
    pub algorithm: Algorithm,
    /// How long its nonces last.
    pub nonces: Nonces,
    /// Seconds until a failed registration at a provider is tried again; 0: never.
    pub trunk_retry_s: u32,
    /// Behind the gate of docs/recipes/kamailio.md.
    pub gate: Gate,
    /// JSON-RPC over HTTP too, at `/RPC`.
    pub http: bool,
    /// What db_text does with a file that changed (`db_mode`): 1 reads it again.
    pub db_mode: u8,
    /// How many processes serve UDP, and megabytes of shared memory.
    pub size: (u32, u32),
    /// What it does with a second contact of an account.
    pub second: Second,
    /// Who is answered OPTIONS.
    pub options: Options,
    /// How contacts may be removed.
    pub removal: Removal,
    /// Whether 112 and numbers that begin with 0 go out over its first trunk.
    pub calls_out: bool,
}

/// How a registrar lets contacts be removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    /// Each by its URI, and all at once.
    Each,
    /// All at once only, as where the contacts that it shows are not those that it keeps.
    AllOnly,
}

/// What a registrar does with a second contact of an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Second {
    /// Keeps both.
    Kept,
    /// Refuses it while the first is held.
    Refused,
    /// Lets it take the place of the first.
    Replaces,
}

/// Who is answered OPTIONS, as a provider that knows its customers by their address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Options {
    /// Everybody.
    All,
    /// This address; others are refused with 403.
    Only(IpAddr),
    /// This address; others hear nothing.
    SilentBut(IpAddr),
}

/// How the script stands to the gate of the recipe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// It has none.
    None,
    /// As the recipe says.
    Asked,
    /// The table is there, and nobody asks it.
    Forgotten,
}

/// How long a nonce is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nonces {
    /// For so many seconds; then the answer is a new one with `stale=true`.
    For(u32),
    /// For one request: the next is challenged anew.
    Once,
}

/// How a running registrar treats every REGISTER, before it looks at credentials.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// As it should.
    Serves,
    /// As it should, but so late; one at a time.
    Slow(Duration),
    /// With this code, and with this header line unless it is empty.
    Refuses(u16, &'static str),
    /// Not at all.
    Silent,
}

impl Setup {
    /// A UDP registrar without accounts.
    pub fn at(listen: SocketAddr) -> Self {
        Self {
            listen,
            tcp: false,
            prefix: Vec::new(),
            accounts: Vec::new(),
            trunks: Vec::new(),
            trunk_expires_s: 300,
            realm: REALM.to_owned(),
            algorithm: Algorithm::Md5,
            nonces: Nonces::For(300),
            trunk_retry_s: 2,
            gate: Gate::None,
            http: false,
            db_mode: 1,
            size: (1, 32),
            second: Second::Kept,
            options: Options::All,
            removal: Removal::Each,
            calls_out: false,
        }
    }

    /// With 112 and numbers that begin with 0 going out over its first trunk.
    pub fn calls_out(mut self) -> Self {
        self.calls_out = true;
        self
    }

    /// So letting contacts be removed.
    pub fn removal(mut self, removal: Removal) -> Self {
        self.removal = removal;
        self
    }

    /// So treating a second contact of an account.
    pub fn second(mut self, second: Second) -> Self {
        self.second = second;
        self
    }

    /// So answering OPTIONS.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// With this account.
    pub fn account(mut self, user: &str, password: &str) -> Self {
        self.accounts.push((user.to_owned(), password.to_owned()));
        self
    }

    /// With a trunk to `provider`.
    pub fn trunk(mut self, name: &str, provider: SocketAddr, user: &str, password: &str) -> Self {
        self.trunks.push(Trunk::new(name, provider, user, password));
        self
    }

    /// With registrations that are refreshed within so many seconds.
    pub fn trunks_expire(mut self, seconds: u32) -> Self {
        self.trunk_expires_s = seconds;
        self
    }

    /// With registrations that are disabled for good when one fails.
    pub fn trunks_never_retry(mut self) -> Self {
        self.trunk_retry_s = 0;
        self
    }

    /// With the gate of the recipe.
    pub fn gate(mut self, gate: Gate) -> Self {
        self.gate = gate;
        self
    }

    /// With JSON-RPC over HTTP at `/RPC`.
    pub fn with_http(mut self) -> Self {
        (self.http, self.tcp) = (true, true);
        self
    }

    /// With a db_text that keeps what it read first.
    pub fn keeps_tables(mut self) -> Self {
        self.db_mode = 0;
        self
    }

    /// Started inside a namespace.
    pub fn inside(mut self, prefix: Vec<String>) -> Self {
        self.prefix = prefix;
        self
    }

    /// With challenges of this algorithm.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// With this realm.
    pub fn realm(mut self, realm: &str) -> Self {
        realm.clone_into(&mut self.realm);
        self
    }

    /// With nonces that last so long.
    pub fn nonces(mut self, nonces: Nonces) -> Self {
        self.nonces = nonces;
        self
    }

    /// With so many processes for UDP and so much shared memory, MB.
    pub fn size(mut self, processes: u32, memory_mb: u32) -> Self {
        self.size = (processes, memory_mb);
        self
    }

    /// Over TCP too.
    pub fn with_tcp(mut self) -> Self {
        self.tcp = true;
        self
    }
}

/// One Kamailio with its directory; ended with all its children when dropped. New ones do not run.
pub struct Kamailio {
    setup: Setup,
    dir: tempfile::TempDir,
}

impl Kamailio {
    /// Writes its configuration, scripts and working directory; starts nothing.
    pub fn new(setup: Setup) -> Self {
        let dir = tempfile::Builder::new().prefix("kam").tempdir().expect("temporary directory");
        let kamailio = Self { setup, dir };
        for name in ["accounts", "trunks"] {
            std::fs::create_dir_all(kamailio.work_dir().join(name)).expect("working directory");
        }
        kamailio.write_work_dir();
        let fill = |text: &str| kamailio.fill(text);
        std::fs::write(kamailio.path("kamailio.cfg"), fill(include_str!("kamailio/kamailio.cfg"))).expect("config");
        std::fs::write(kamailio.path("pbx.sh"), fill(include_str!("kamailio/pbx.sh"))).expect("script");
        kamailio
    }

    /// Writes and starts one.
    pub fn started(setup: Setup) -> Self {
        let kamailio = Self::new(setup);
        kamailio.verb("reload");
        kamailio
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.setup.listen
    }

    /// The synced working directory: accounts and trunks.
    pub fn work_dir(&self) -> PathBuf {
        self.path("work")
    }

    /// Replaces the accounts in the working directory; takes effect at the next `reload`.
    pub fn sync_accounts(&mut self, accounts: &[(&str, &str)]) {
        self.setup.accounts = accounts.iter().map(|(u, p)| ((*u).to_owned(), (*p).to_owned())).collect();
        self.write_work_dir();
    }

    /// The command of a verb, for `pbx.driver.command`.
    pub fn command(&self, verb: &str) -> Vec<String> {
        vec!["sh".to_owned(), self.path("pbx.sh").display().to_string(), verb.to_owned()]
    }

    /// `{"command": {…}}` with every verb: a driver for failover.yaml, on one line.
    pub fn driver_yaml(&self) -> String {
        let verbs = [
            "passive",
            "reload",
            "accept_registrations",
            "register_trunks",
            "status",
            "drain",
            "unregister_trunks",
            "stop_accepting",
        ];
        let map: serde_json::Map<_, _> = verbs.iter().map(|v| ((*v).to_owned(), json!(self.command(v)))).collect();
        json!({ "command": map }).to_string()
    }

    /// Runs a verb's script; panics with what it said when it fails. Gives its last line.
    pub fn verb(&self, verb: &str) -> String {
        let argv = self.command(verb);
        // Its output goes to a file: a daemon that it starts would keep a pipe open.
        let said = self.path("verb.out");
        let out = std::fs::File::create(&said).expect("output file");
        let status =
            Command::new(&argv[0]).args(&argv[1..]).stdin(Stdio::null()).stdout(out).status().expect("sh runs");
        let said = std::fs::read_to_string(said).unwrap_or_default();
        assert!(status.success(), "kamailio {verb}: {status}: {said}{}", self.log());
        said.lines().last().unwrap_or_default().to_owned()
    }

    /// Starts it.
    pub fn start(&self) {
        self.verb("reload");
    }

    /// Stops it with all its children.
    pub fn stop(&self) {
        self.verb("passive");
    }

    /// Whether any of its processes lives.
    pub fn runs(&self) -> bool {
        self.verb("status").contains("\"serving\": true")
    }

    /// Sends a signal (`STOP`, `CONT`, `KILL`) to all its processes.
    pub fn signal(&self, name: &str) {
        let Ok(group) = std::fs::read_to_string(self.path("pgid")) else { return };
        let _ = Command::new("kill").args(["-s", name, "--", &format!("-{}", group.trim())]).status();
    }

    /// Sends a signal to its main process only, whose children then go on serving.
    pub fn signal_main(&self, name: &str) {
        let Ok(pid) = std::fs::read_to_string(self.path("pid")) else { return };
        let _ = Command::new("kill").args(["-s", name, pid.trim()]).status();
    }

    /// Asks over JSON-RPC; the socket is a file, so this works across network namespaces.
    pub fn rpc(&self, method: &str, params: &Value) -> Result<Value, String> {
        let own = tempfile::Builder::new().prefix("rpc").tempdir_in(self.dir.path()).map_err(|e| e.to_string())?;
        // The server answers to the client's own name: a socket that is not bound gets nothing.
        let socket = UnixDatagram::bind(own.path().join("s")).map_err(|e| e.to_string())?;
        socket.set_read_timeout(Some(Duration::from_secs(3))).map_err(|e| e.to_string())?;
        let question = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).to_string();
        socket
            .send_to(question.as_bytes(), self.path("rpc.sock"))
            .map_err(|e| format!("kamailio is not there: {e}"))?;
        let mut answer = vec![0; 256 * 1024];
        let size = socket.recv(&mut answer).map_err(|e| format!("kamailio does not answer: {e}"))?;
        let answer: Value = serde_json::from_slice(&answer[..size]).map_err(|e| e.to_string())?;
        match (answer.get("result"), answer.get("error")) {
            (Some(result), _) => Ok(result.clone()),
            (None, Some(error)) => Err(error.to_string()),
            _ => Err(answer.to_string()),
        }
    }

    /// From now on it treats every REGISTER so.
    pub fn behave(&self, manner: Manner) {
        let set = |verb: &str, params: Value| self.rpc(verb, &params).expect("kamailio runs");
        set("htable.flush", json!(["manner"]));
        match manner {
            Manner::Serves => Value::Null,
            Manner::Slow(late) => set("htable.seti", json!(["manner", "late_ms", late.as_millis()])),
            Manner::Silent => set("htable.seti", json!(["manner", "code", 0])),
            Manner::Refuses(code, header) => {
                set("htable.sets", json!(["manner", "header", header]));
                set("htable.seti", json!(["manner", "code", code]))
            }
        };
    }

    /// The contacts that are registered for an account: what a provider would send calls to.
    pub fn contacts(&self, user: &str) -> Vec<String> {
        self.bindings(user).into_iter().map(|binding| binding.contact).collect()
    }

    /// What is registered for an account.
    pub fn bindings(&self, user: &str) -> Vec<Binding> {
        let found = self.rpc("ul.lookup", &json!(["location", user])).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let binding = |contact: &Value| Binding {
            contact: text(&contact["Address"]),
            expires_s: contact["Expires"].as_i64().unwrap_or_default(),
            user_agent: text(&contact["User-Agent"]),
        };
        found["Contacts"].as_array().into_iter().flatten().map(|c| binding(&c["Contact"])).collect()
    }

    /// Its processes that live: the main one and its children.
    pub fn pids(&self) -> Vec<u32> {
        let group = std::fs::read_to_string(self.path("pgid")).unwrap_or_default();
        let out = Command::new("ps").args(["-o", "pid=", "-g", group.trim()]).output().expect("ps runs");
        String::from_utf8_lossy(&out.stdout).split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("kamailio.log")).unwrap_or_default()
    }

    /// A file in its own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_work_dir(&self) {
        let work = self.work_dir();
        write_accounts(&work.join("accounts"), &self.setup);
        write_trunks(&work.join("trunks"), &self.setup);
    }

    fn fill(&self, text: &str) -> String {
        let listen = self.setup.listen;
        let mut sockets = format!("listen=udp:{listen}");
        if self.setup.tcp {
            let _ = write!(sockets, "\nlisten=tcp:{listen}");
        }
        let names: Vec<_> = self.setup.trunks.iter().map(|t| t.name.as_str()).collect();
        let modules = ["/usr/lib/x86_64-linux-gnu/kamailio/modules/", "/usr/lib/aarch64-linux-gnu/kamailio/modules/"]
            .into_iter()
            .find(|dir| Path::new(dir).exists())
            .expect("kamailio is installed, so its modules are");
        let (expire_s, once) = match self.setup.nonces {
            Nonces::For(seconds) => (seconds, 0),
            Nonces::Once => (300, 1),
        };
        let [params, call, route] = gate_of_the_recipe();
        let (params, call, route) = match self.setup.gate {
            Gate::None => ("", "", ""),
            Gate::Asked => (params.as_str(), call.as_str(), route.as_str()),
            Gate::Forgotten => (params.as_str(), "", ""),
        };
        let (http_module, http_route) = if self.setup.http { (HTTP_MODULE, HTTP_ROUTE) } else { ("", "") };
        let options = match self.setup.options {
            Options::All => String::new(),
            Options::Only(known) => format!(
                "if (is_method(\"OPTIONS\") && $si != \"{known}\") {{ sl_send_reply(\"403\", \"Forbidden\"); exit; }}"
            ),
            Options::SilentBut(known) => format!("if (is_method(\"OPTIONS\") && $si != \"{known}\") {{ exit; }}"),
        };
        let (most, flags) = match self.setup.second {
            Second::Kept => (10, "0"),
            Second::Refused => (1, "0"),
            // Memory of the others is deleted (README of registrar, `save`).
            Second::Replaces => (1, "0x04"),
        };
        let out = self.setup.trunks.first().filter(|_| self.setup.calls_out).map_or_else(String::new, |trunk| {
            let to = format!("$ru = \"sip:\" + $rU + \"@{}\"", trunk.provider);
            format!("if (!has_totag() && $rU =~ \"^(0|112$)\") {{ {to}; t_relay(); exit; }}")
        });
        text.replace("@GATE_PARAMS@", params)
            .replace("@OUT@", &out)
            .replace("@OPTIONS@", &options)
            .replace("@REMOVAL@", match self.setup.removal {
                Removal::Each => "",
                Removal::AllOnly => {
                    "if ($hdr(Expires) == \"0\" && $hdr(Contact) != \"*\") { sl_send_reply(\"403\", \"Not So\"); exit; }"
                }
            })
            .replace("@CONTACTS_MAX@", &most.to_string())
            .replace("@SAVE_FLAGS@", flags)
            .replace("@GATE_CALL@", call)
            .replace("@GATE_ROUTE@", route)
            .replace("@TRANSPORT@", if self.setup.http { "5" } else { "4" })
            .replace("@HTTP_MODULE@", http_module)
            .replace("@HTTP_ROUTE@", http_route)
            .replace("@RETRY@", &self.setup.trunk_retry_s.to_string())
            .replace("@DB_MODE@", &self.setup.db_mode.to_string())
            .replace("@DIR@", &self.dir.path().display().to_string())
            .replace("@WORK@", &self.work_dir().display().to_string())
            .replace("@LISTEN@", &sockets)
            .replace("@TCP@", if self.setup.tcp { "" } else { "disable_tcp=yes" })
            .replace("@CONTACT@", &listen.to_string())
            .replace("@MODULES@", modules)
            .replace("@TRUNKS@", &names.join(" "))
            .replace("@PREFIX@", &self.setup.prefix.join(" "))
            .replace("@REALM@", &self.setup.realm)
            .replace("@ALGORITHM@", self.setup.algorithm.name())
            .replace("@NONCE_EXPIRE@", &expire_s.to_string())
            .replace("@NONCE_ONCE@", &once.to_string())
            .replace("@CHILDREN@", &self.setup.size.0.to_string())
            .replace("@MEMORY@", &self.setup.size.1.to_string())
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        self.signal("KILL");
    }
}

const HTTP_MODULE: &str = "loadmodule \"xhttp.so\"";

const HTTP_ROUTE: &str = "event_route[xhttp:request] {\n  if ($hu =~ \"^/RPC\") { jsonrpc_dispatch(); exit; }\n  \
                          xhttp_reply(\"404\", \"Not Found\", \"text/plain\", \"not here\");\n}";

/// The parameters, the call and the route of the gate, word for word as the recipe has them.
fn gate_of_the_recipe() -> [String; 3] {
    // The word of the per-host file comes first, as it does where that is included.
    let recipe = include_str!("../../docs/recipes/kamailio.md");
    let blocks: Vec<_> =
        recipe.split("```kamailio-gate\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let [word, params, call, route] = blocks.as_slice() else {
        panic!("the recipe has {} blocks of the gate", blocks.len())
    };
    [format!("{word}{params}"), (*call).to_owned(), (*route).to_owned()]
}

/// The table `htable` of db_text: one line a row, `:` between columns.
fn write_accounts(dir: &Path, setup: &Setup) {
    let head = "id(int,auto) key_name(string) key_type(int) value_type(int) key_value(string) expires(int) \n";
    let row = |(id, (user, password)): (usize, &(String, String))| {
        format!("{}:{}:0:0:{}:0\n", id + 1, escape(user), escape(password))
    };
    let rows = setup.accounts.iter().enumerate().map(row);
    write_table(dir, "htable", 2, &std::iter::once(head.to_owned()).chain(rows).collect::<String>());
}

/// The table `uacreg`.
fn write_trunks(dir: &Path, setup: &Setup) {
    let mut table = String::from(
        "id(int,auto) l_uuid(string) l_username(string) l_domain(string) r_username(string) r_domain(string) \
         realm(string) auth_username(string) auth_password(string) auth_ha1(string,null) auth_proxy(string) \
         expires(int) flags(int) reg_delay(int) contact_addr(string,null) socket(string,null) \n",
    );
    for (id, trunk) in (1..).zip(&setup.trunks) {
        let Trunk { name, provider, user, password } = trunk;
        let (host, proxy) = (provider.ip(), escape(&format!("sip:{provider}")));
        let expires = setup.trunk_expires_s;
        let (password, realm) = (escape(password), escape(&setup.realm));
        let _ = writeln!(
            table,
            "{id}:{name}:{name}:{host}:{user}:{host}:{realm}:{user}:{password}::{proxy}:{expires}:0:0::"
        );
    }
    write_table(dir, "uacreg", 5, &table);
}

fn write_table(dir: &Path, name: &str, version: u32, text: &str) {
    let versions = format!("id(int,auto) table_name(string) table_version(int) \n1:{name}:{version}\n");
    std::fs::write(dir.join(name), text).expect("a table");
    std::fs::write(dir.join("version"), versions).expect("table versions");
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace(':', "\\:")
}
