//! Phones: sipp registers with digest, calls, and asks whether anybody answers REGISTER.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Running;

/// The programs that the rig needs, for [`super::have`].
pub const PROGRAMS: [&str; 1] = ["sipp"];

/// How long a phone waits for each answer before it gives up.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// A phone with its account.
#[derive(Clone)]
pub struct Phone {
    /// Its own address.
    pub local: IpAddr,
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
    /// Put before the program, to start it in a namespace: `Topology::exec`.
    pub prefix: Vec<String>,
    /// Speaks TCP instead of UDP.
    pub tcp: bool,
    /// Where it takes calls: the port in its Contact.
    pub port: u16,
}

impl Phone {
    /// A phone on loopback.
    pub fn new(user: &str, password: &str) -> Self {
        Self {
            local: IpAddr::from([127, 0, 0, 1]),
            user: user.to_owned(),
            password: password.to_owned(),
            prefix: Vec::new(),
            tcp: false,
            port: super::free_port(),
        }
    }

    /// The same in a namespace, at that address.
    pub fn inside(mut self, prefix: Vec<String>, local: IpAddr) -> Self {
        self.prefix = prefix;
        self.local = local;
        self
    }

    /// The same over TCP.
    pub fn over_tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// Registers for 300 s with digest. Gives the time that it took.
    ///
    /// # Errors
    /// What came instead of 401 and 200.
    pub fn register(&self, registrar: SocketAddr) -> Result<Duration, String> {
        self.registration(registrar, 300)
    }

    /// Gives its registration up.
    ///
    /// # Errors
    /// As [`Phone::register`].
    pub fn unregister(&self, registrar: SocketAddr) -> Result<Duration, String> {
        self.registration(registrar, 0)
    }

    /// Registers without credentials: the code of the answer, `None` when nobody answers for a second.
    pub fn knock(&self, registrar: SocketAddr) -> Option<u16> {
        let scenario =
            format!("<scenario name=\"knock\">{}<recv response=\"200\"/></scenario>", self.request(1, 0, ""));
        let (_, codes, _) = self.sipp(registrar, &scenario, Duration::from_secs(1));
        codes.first().copied()
    }

    /// Takes every call until it is dropped; [`Phone::register`] says where. UDP.
    pub fn answers_calls(&self, dir: &Path) -> Running {
        let mut argv = self.argv(None);
        argv.extend(["-sn", "uas", "-p", &self.port.to_string()].map(str::to_owned));
        start(&argv, &dir.join(format!("{}.uas", self.user)))
    }

    /// Calls `callee` through `server` and hangs up after `length`; the process ends with the call. UDP.
    pub fn call(&self, server: SocketAddr, callee: &str, length: Duration, dir: &Path) -> Running {
        let request = |method: &str, number: u32, to: &str, uri: &str| {
            format!(
                "<![CDATA[\n\
                 {method} {uri} SIP/2.0\n\
                 Via: SIP/2.0/[transport] [local_ip]:[local_port];rport;branch=[branch]\n\
                 Max-Forwards: 70\n\
                 From: <sip:{}@[remote_ip]>;tag=[pid]T[call_number]\n\
                 To: <sip:{callee}@[remote_ip]>{to}\n\
                 Call-ID: [call_id]\n\
                 CSeq: {number} {method}\n\
                 Contact: <sip:{}@[local_ip]:[local_port]>\n\
                 Content-Length: 0\n\n]]>",
                self.user, self.user
            )
        };
        let (first, peer) = (format!("sip:{callee}@[remote_ip]:[remote_port]"), "[peer_tag_param]");
        let scenario = format!(
            "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n<scenario name=\"call\">\
             <send retrans=\"500\">{}</send>\
             <recv response=\"100\" optional=\"true\"/><recv response=\"180\" optional=\"true\"/>\
             <recv response=\"200\" rrs=\"true\"/><send>{}</send><pause milliseconds=\"{}\"/>\
             <send retrans=\"500\">{}</send><recv response=\"200\"/></scenario>\n",
            request("INVITE", 1, "", &first),
            request("ACK", 1, peer, "[next_url]"),
            length.as_millis(),
            request("BYE", 2, peer, "[next_url]"),
        );
        let path = dir.join(format!("{}.call.xml", self.user));
        std::fs::write(&path, scenario).expect("scenario");
        let mut argv = self.argv(Some(server));
        argv.extend(["-sf".to_owned(), path.display().to_string()]);
        argv.extend(["-m", "1", "-p", &super::free_port().to_string()].map(str::to_owned));
        start(&argv, &dir.join(format!("{}.call", self.user)))
    }

    fn argv(&self, target: Option<SocketAddr>) -> Vec<String> {
        let mut argv = self.prefix.clone();
        argv.push("sipp".to_owned());
        argv.extend(target.map(|target| target.to_string()));
        argv.extend(["-i", &self.local.to_string(), "-t", "u1", "-nostdin"].map(str::to_owned));
        argv
    }

    fn registration(&self, registrar: SocketAddr, expires: u32) -> Result<Duration, String> {
        let digest = format!("[authentication username={} password={}]\n", self.user, self.password);
        let scenario = format!(
            "<scenario name=\"register\">{}<recv response=\"100\" optional=\"true\"/>\
             <recv response=\"401\" auth=\"true\"/>{}<recv response=\"100\" optional=\"true\"/>\
             <recv response=\"200\"/></scenario>",
            self.request(1, expires, ""),
            self.request(2, expires, &digest),
        );
        let start = Instant::now();
        let (done, codes, said) = self.sipp(registrar, &scenario, ANSWER_LIMIT);
        match (done, codes.as_slice()) {
            (true, _) => Ok(start.elapsed()),
            (false, []) => Err(format!("{registrar} did not answer REGISTER: {said}")),
            (false, codes) => Err(format!("{registrar} answered REGISTER with {codes:?}")),
        }
    }

    fn request(&self, number: u32, expires: u32, digest: &str) -> String {
        let Self { user, port, .. } = self;
        format!(
            "<send retrans=\"500\"><![CDATA[\n\
             REGISTER sip:[remote_ip]:[remote_port] SIP/2.0\n\
             Via: SIP/2.0/[transport] [local_ip]:[local_port];rport;branch=[branch]\n\
             Max-Forwards: 70\n\
             From: <sip:{user}@[remote_ip]>;tag=[pid]T[call_number]\n\
             To: <sip:{user}@[remote_ip]>\n\
             Call-ID: [call_id]\n\
             CSeq: {number} REGISTER\n\
             Contact: <sip:{user}@[local_ip]:{port}>\n\
             {digest}Expires: {expires}\n\
             User-Agent: sipp\n\
             Content-Length: 0\n\n]]></send>"
        )
    }

    /// Whether the scenario went through, the codes of all answers, and what sipp complained about.
    fn sipp(&self, target: SocketAddr, scenario: &str, limit: Duration) -> (bool, Vec<u16>, String) {
        let dir = tempfile::Builder::new().prefix("sipp").tempdir().expect("temporary directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let text = format!("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n{scenario}\n");
        std::fs::write(path("scenario.xml"), text).expect("scenario");
        let limit_ms = limit.as_millis().to_string();
        let mut argv = self.prefix.clone();
        argv.push("sipp".to_owned());
        argv.extend([target.to_string(), "-i".to_owned(), self.local.to_string()]);
        argv.extend(["-sf".to_owned(), path("scenario.xml"), "-message_file".to_owned(), path("messages")]);
        argv.extend(["-recv_timeout", &limit_ms, "-m", "1", "-nostdin", "-trace_msg"].map(str::to_owned));
        argv.extend(
            ["-p", &super::free_port().to_string(), "-t", if self.tcp { "t1" } else { "u1" }].map(str::to_owned),
        );
        let out = Command::new(&argv[0])
            .args(&argv[1..])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|e| panic!("cannot start {argv:?}: {e}"));
        let complaint = String::from_utf8_lossy(&out.stderr);
        let complaint = complaint.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("silence").to_owned();
        (out.status.success(), codes(Path::new(&path("messages"))), complaint)
    }
}

fn start(argv: &[String], log: &Path) -> Running {
    let argv: Vec<_> = argv.iter().map(String::as_str).collect();
    Running::start(&argv, log)
}

/// The status codes of all answers in sipp's message trace.
fn codes(trace: &Path) -> Vec<u16> {
    let text = std::fs::read(trace).unwrap_or_default();
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| line.strip_prefix("SIP/2.0 ")?.split(' ').next()?.parse().ok())
        .collect()
}
