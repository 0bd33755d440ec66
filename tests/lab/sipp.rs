//! Phones: sipp registers with digest, calls, and asks whether anybody answers REGISTER.
//!
//! Debian's own sipp knows MD5, UDP and TCP; [`Phone::modern`] is a newer one with SHA-256 and TLS.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Running;
use super::suite::Suite;

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
    /// The program.
    pub program: Vec<String>,
    /// How it speaks, as sipp calls it: `u1`, `t1` or `l1`.
    pub transport: &'static str,
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
            program: vec!["sipp".to_owned()],
            transport: "u1",
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
        self.transport = "t1";
        self
    }

    /// The same over TLS; for [`Phone::modern`] only. It trusts everybody.
    pub fn over_tls(mut self) -> Self {
        self.transport = "l1";
        self
    }

    /// The same over IPv6 loopback.
    pub fn over_ipv6(mut self) -> Self {
        self.local = IpAddr::V6(Ipv6Addr::LOCALHOST);
        self
    }

    /// The same by a newer sipp, which answers a challenge of SHA-256.
    pub fn modern(mut self, suite: &Suite) -> Self {
        self.program = suite.program("usr/bin/sipp");
        self
    }

    /// Registers for 300 s with digest. Gives the time that it took.
    ///
    /// # Errors
    /// What came instead of 401 and 200.
    pub fn register(&self, registrar: SocketAddr) -> Result<Duration, String> {
        self.send(registrar, &Wish::lasting(300)).map(|answer| answer.took)
    }

    /// Gives its registration up.
    ///
    /// # Errors
    /// As [`Phone::register`].
    pub fn unregister(&self, registrar: SocketAddr) -> Result<Duration, String> {
        self.send(registrar, &Wish::lasting(0)).map(|answer| answer.took)
    }

    /// Sends a REGISTER with digest, and gives the last answer.
    ///
    /// # Errors
    /// As [`Phone::register`].
    pub fn send(&self, registrar: SocketAddr, wish: &Wish) -> Result<Answer, String> {
        let digest = format!("[authentication username={} password={}]", self.user, self.password);
        let first = self.request(1, wish, "");
        let challenge = "<recv response=\"100\" optional=\"true\"/><recv response=\"401\" auth=\"true\"/>";
        let accepted = "<recv response=\"100\" optional=\"true\"/><recv response=\"200\"/>";
        let challenge = format!("{challenge}<pause milliseconds=\"{}\"/>", wish.after.as_millis());
        let answers = (2..2 + wish.times).map(|number| self.request(number, wish, &digest) + accepted);
        let scenario =
            format!("<scenario name=\"register\">{first}{challenge}{}</scenario>", answers.collect::<String>());
        let start = Instant::now();
        let heard = self.sipp(registrar, &scenario, ANSWER_LIMIT);
        match (heard.done, heard.codes().as_slice()) {
            (true, _) => Ok(Answer { took: start.elapsed(), text: heard.last_answer() }),
            (false, []) => Err(format!("{registrar} did not answer REGISTER: {}", heard.complaint)),
            (false, codes) => Err(format!("{registrar} answered REGISTER with {codes:?}{}", heard.stale())),
        }
    }

    /// Registers without credentials: the code of the answer, `None` when nobody answers for a second.
    pub fn knock(&self, registrar: SocketAddr) -> Option<u16> {
        let scenario = format!(
            "<scenario name=\"knock\">{}<recv response=\"200\"/></scenario>",
            self.request(1, &Wish::lasting(0), "")
        );
        self.sipp(registrar, &scenario, Duration::from_secs(1)).codes().first().copied()
    }

    /// Takes every call until it is dropped; [`Phone::register`] says where. UDP.
    pub fn answers_calls(&self, dir: &Path) -> Running {
        let mut argv = self.argv(None);
        argv.extend(["-sn", "uas", "-p", &self.port.to_string()].map(str::to_owned));
        start(&argv, &dir.join(format!("{}.uas", self.user)))
    }

    /// Takes every call until it is dropped, and sends back each word that it hears; all messages that come and go
    /// stand in the file that [`Phone::trace`] names. UDP.
    pub fn echoes_calls(&self, dir: &Path) -> Running {
        let mut argv = self.argv(None);
        let trace = self.trace(dir).display().to_string();
        argv.extend(["-sn", "uas", "-p", &self.port.to_string(), "-rtp_echo"].map(str::to_owned));
        argv.extend(["-trace_msg", "-message_file", &trace].map(str::to_owned));
        start(&argv, &dir.join(format!("{}.uas", self.user)))
    }

    /// Where [`Phone::echoes_calls`] writes.
    pub fn trace(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.messages", self.user))
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

    /// The same at a server that asks for the password and for a voice: it offers PCMU, and sends none.
    pub fn call_with_login(&self, server: SocketAddr, callee: &str, length: Duration, dir: &Path) -> Running {
        let user = &self.user;
        let head = |method: &str, number: u32, to: &str, uri: &str| {
            format!(
                "{method} {uri} SIP/2.0\n\
                 Via: SIP/2.0/[transport] [local_ip]:[local_port];rport;branch=[branch]\n\
                 Max-Forwards: 70\n\
                 From: <sip:{user}@[remote_ip]>;tag=[pid]T[call_number]\n\
                 To: <sip:{callee}@[remote_ip]>{to}\n\
                 Call-ID: [call_id]\n\
                 CSeq: {number} {method}\n\
                 Contact: <sip:{user}@[local_ip]:[local_port]>\n"
            )
        };
        let empty =
            |method, number, to, uri| format!("<![CDATA[\n{}Content-Length: 0\n\n]]>", head(method, number, to, uri));
        let invite = |number, digest: &str| {
            format!(
                "<![CDATA[\n{}{digest}Content-Type: application/sdp\nContent-Length: [len]\n\n\
                 v=0\no=- 1 1 IN IP4 [local_ip]\ns=-\nc=IN IP4 [local_ip]\nt=0 0\n\
                 m=audio [media_port] RTP/AVP 0\na=rtpmap:0 PCMU/8000\n]]>",
                head("INVITE", number, "", &format!("sip:{callee}@[remote_ip]:[remote_port]"))
            )
        };
        let digest = format!("[authentication username={user} password={}]\n", self.password);
        let (peer, first) = ("[peer_tag_param]", format!("sip:{callee}@[remote_ip]:[remote_port]"));
        let ringing =
            ["100", "180", "183"].map(|code| format!("<recv response=\"{code}\" optional=\"true\"/>")).concat();
        let scenario = format!(
            "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n<scenario name=\"call\">\
             <send retrans=\"500\">{}</send><recv response=\"401\" auth=\"true\"/><send>{}</send>\
             <send retrans=\"500\">{}</send>{ringing}<recv response=\"200\" rrs=\"true\"/><send>{}</send>\
             <pause milliseconds=\"{}\"/><send retrans=\"500\">{}</send><recv response=\"200\"/></scenario>\n",
            invite(1, ""),
            empty("ACK", 1, peer, &first),
            invite(2, &digest),
            empty("ACK", 2, peer, "[next_url]"),
            length.as_millis(),
            empty("BYE", 3, peer, "[next_url]"),
        );
        let path = dir.join(format!("{user}.call.xml"));
        std::fs::write(&path, scenario).expect("scenario");
        let mut argv = self.argv(Some(server));
        argv.extend(["-sf".to_owned(), path.display().to_string()]);
        argv.extend(["-m", "1", "-p", &super::free_port().to_string()].map(str::to_owned));
        start(&argv, &dir.join(format!("{user}.call")))
    }

    fn argv(&self, target: Option<SocketAddr>) -> Vec<String> {
        let mut argv = self.prefix.clone();
        argv.extend(self.program.iter().cloned());
        argv.extend(target.map(|target| target.to_string()));
        argv.extend(["-i", &self.local.to_string(), "-t", "u1", "-nostdin"].map(str::to_owned));
        argv
    }

    fn request(&self, number: u32, wish: &Wish, digest: &str) -> String {
        let Self { user, port, .. } = self;
        let (via, from, to, call, contact, length) = match wish.form {
            Form::Plain => ("Via", "From", "To", "Call-ID", "Contact", "Content-Length"),
            Form::Odd => ("v", "f", "t", "i", "m", "l"),
        };
        let mut lines = vec![
            "REGISTER sip:[remote_ip]:[remote_port] SIP/2.0".to_owned(),
            format!("{via}: SIP/2.0/[transport] [local_ip]:[local_port];rport;branch=[branch]"),
            "Max-Forwards: 70".to_owned(),
            format!("{from}: <sip:{user}@[remote_ip]>;tag=[pid]T[call_number]"),
            format!("{to}: <sip:{user}@[remote_ip]>"),
            format!("{call}: [call_id]"),
            format!("CSeq: {number} REGISTER"),
        ];
        let uri = format!("<sip:{user}@[local_ip]:{port}>");
        lines.extend(match (wish.whose, wish.form) {
            (Whose::Everybodys, _) => vec![format!("{contact}: *")],
            (Whose::Mine, Form::Plain) => vec![format!("{contact}: {uri}")],
            (Whose::Mine, Form::Odd) => vec![
                format!("{contact}: \"Desk, \\\"upper\\\" floor\" {uri};reg-id=1"),
                format!("[space];+sip.instance=\"{INSTANCE}\""),
                format!("[tab];expires={} , <sip:{user}@[local_ip]:{port};transport=tcp>;q=0.5", wish.expires_s),
                "k: path, outbound".to_owned(),
            ],
        });
        lines.extend((!digest.is_empty()).then(|| digest.to_owned()));
        lines.push(format!("Expires: {}", wish.expires_s));
        lines.push("User-Agent: sipp".to_owned());
        lines.push(format!("{length}: 0"));
        format!("<send retrans=\"500\"><![CDATA[\n{}\n\n]]></send>", lines.join("\n"))
    }

    fn sipp(&self, target: SocketAddr, scenario: &str, limit: Duration) -> Heard {
        let dir = tempfile::Builder::new().prefix("sipp").tempdir().expect("temporary directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let text = format!("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n{scenario}\n");
        std::fs::write(path("scenario.xml"), text).expect("scenario");
        let limit_ms = limit.as_millis().to_string();
        let mut argv = self.prefix.clone();
        argv.extend(self.program.iter().cloned());
        argv.extend([target.to_string(), "-i".to_owned(), self.local.to_string()]);
        argv.extend(["-sf".to_owned(), path("scenario.xml"), "-message_file".to_owned(), path("messages")]);
        argv.extend(["-recv_timeout", &limit_ms, "-m", "1", "-nostdin", "-trace_msg"].map(str::to_owned));
        argv.extend(["-p", &super::free_port().to_string(), "-t", self.transport].map(str::to_owned));
        // sipp takes blanks away from the beginning of a line, but not these.
        argv.extend(["-key", "space", " ", "-key", "tab", "\t"].map(str::to_owned));
        let out = Command::new(&argv[0])
            .args(&argv[1..])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|e| panic!("cannot start {argv:?}: {e}"));
        let complaint = String::from_utf8_lossy(&out.stderr);
        let complaint = complaint.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("silence").to_owned();
        let trace = std::fs::read(path("messages")).unwrap_or_default();
        Heard { done: out.status.success(), trace: String::from_utf8_lossy(&trace).into_owned(), complaint }
    }
}

/// What a REGISTER asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    expires_s: u32,
    whose: Whose,
    form: Form,
    times: u32,
    after: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Whose {
    Mine,
    Everybodys,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Plain,
    Odd,
}

impl Wish {
    /// To be registered for so long, seconds; 0 gives the registration up.
    pub fn lasting(expires_s: u32) -> Self {
        Self { expires_s, whose: Whose::Mine, form: Form::Plain, times: 1, after: Duration::ZERO }
    }

    /// To remove every contact of the account: `Contact: *`.
    pub fn remove_all() -> Self {
        Self { whose: Whose::Everybodys, ..Self::lasting(0) }
    }

    /// The same in the form that simple parsers choke on: compact header names, a folded Contact with a quoted name
    /// that holds a comma and quotes, `+sip.instance` and `reg-id`, and a second contact in the same line.
    pub fn oddly(mut self) -> Self {
        self.form = Form::Odd;
        self
    }

    /// The same so many times in one dialogue, each with the nonce of the first challenge.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// The same, answering the challenge so late.
    pub fn after(mut self, pause: Duration) -> Self {
        self.after = pause;
        self
    }
}

/// The URN of a phone's `+sip.instance` (RFC 5626).
pub const INSTANCE: &str = "<urn:uuid:00000000-0000-1000-8000-000A95A0E128>";

/// The last answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How long all took.
    pub took: Duration,
    /// The answer as it came.
    pub text: String,
}

/// What a run of sipp brought.
struct Heard {
    /// Whether the scenario went through.
    done: bool,
    /// All messages.
    trace: String,
    /// What sipp complained about.
    complaint: String,
}

impl Heard {
    /// The status codes of all answers.
    fn codes(&self) -> Vec<u16> {
        self.answers().filter_map(|answer| answer.strip_prefix("SIP/2.0 ")?.split(' ').next()?.parse().ok()).collect()
    }

    /// Whether any answer says that only the nonce was too old.
    fn stale(&self) -> &'static str {
        if self.answers().any(|answer| answer.contains("stale=true")) { ", stale=true" } else { "" }
    }

    fn last_answer(&self) -> String {
        self.answers().last().unwrap_or_default().to_owned()
    }

    /// All answers as they came: each follows a line such as `UDP message received [441] bytes:`. What sipp did not
    /// expect stands in its trace a second time, under another line.
    fn answers(&self) -> impl Iterator<Item = &str> {
        let received = self.trace.split("message received [").skip(1);
        received.filter_map(|rest| {
            let answer = rest.split_once("\n\n")?.1;
            Some(answer.split("\n-----").next().unwrap_or(answer).trim_end()).filter(|a| a.starts_with("SIP/2.0 "))
        })
    }
}

fn start(argv: &[String], log: &Path) -> Running {
    let argv: Vec<_> = argv.iter().map(String::as_str).collect();
    Running::start(&argv, log)
}
