//! Many phones at once: one sipp registers them all with digest, at a rate, and counts.
//!
//! Retransmissions follow RFC 3261 (500 ms, doubled). One phone is in [`super::sipp`].

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::suite::Suite;

/// User and password of so many accounts: `u00000` with `pw00000`, and so on.
pub fn accounts(count: usize) -> Vec<(String, String)> {
    (0..count).map(|n| (format!("u{n:05}"), format!("pw{n:05}"))).collect()
}

/// Phones that register once each, in the order of their accounts.
pub struct Crowd<'a> {
    accounts: &'a [(String, String)],
    program: Vec<String>,
    local: SocketAddr,
    rate: u32,
    registrations: usize,
}

impl<'a> Crowd<'a> {
    /// One phone for each account, a hundred a second. They have one address, and keep it when they register again.
    pub fn new(accounts: &'a [(String, String)]) -> Self {
        Self {
            accounts,
            program: vec!["sipp".to_owned()],
            local: SocketAddr::from(([127, 0, 0, 1], super::free_port())),
            rate: 100,
            registrations: accounts.len(),
        }
    }

    /// So many begin in a second.
    pub fn at_rate(mut self, each_second: u32) -> Self {
        self.rate = each_second;
        self
    }

    /// So many registrations; when there are more than accounts, these are gone through again.
    pub fn registrations(mut self, count: usize) -> Self {
        self.registrations = count;
        self
    }

    /// By the newer sipp, which answers a challenge of SHA-256 and whose clock steps by 1 ms.
    pub fn modern(mut self, suite: &Suite) -> Self {
        self.program = suite.program("usr/bin/sipp");
        self
    }

    /// Registers them all, and gives up what is not answered after `limit`.
    pub fn register(&self, registrar: SocketAddr, limit: Duration) -> Outcome {
        let dir = tempfile::Builder::new().prefix("crowd").tempdir().expect("temporary directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut table = String::from("SEQUENTIAL\n");
        for (user, password) in self.accounts {
            // sipp cannot put a column inside of `[authentication …]`: the column is the whole.
            let _ = writeln!(table, "{user};[authentication username={user} password={password}];");
        }
        std::fs::write(path("accounts.csv"), table).expect("accounts");
        std::fs::write(path("scenario.xml"), scenario()).expect("scenario");
        let mut argv = self.program.clone();
        argv.push(registrar.to_string());
        for (option, value) in [
            ("-sf", path("scenario.xml")),
            ("-inf", path("accounts.csv")),
            ("-i", self.local.ip().to_string()),
            ("-p", self.local.port().to_string()),
            ("-t", "u1".to_owned()),
            ("-m", self.registrations.to_string()),
            ("-r", self.rate.to_string()),
            ("-l", self.registrations.to_string()), // all may be under way at once
            ("-recv_timeout", limit.as_millis().to_string()),
            ("-stf", path("counts.csv")),
            ("-fd", "1".to_owned()),
            ("-rtt_freq", "1000".to_owned()),
            ("-timer_resol", "1".to_owned()),
            ("-buff_size", "4000000".to_owned()), // a burst of answers must find room
        ] {
            argv.extend([option.to_owned(), value]);
        }
        argv.extend(["-trace_stat", "-trace_rtt", "-nostdin"].map(str::to_owned));
        let out = Command::new(&argv[0])
            .args(&argv[1..])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .output()
            .unwrap_or_else(|e| panic!("cannot start {argv:?}: {e}"));
        let counts = std::fs::read_to_string(path("counts.csv")).unwrap_or_default();
        assert!(!counts.is_empty(), "sipp counted nothing: {}", String::from_utf8_lossy(&out.stderr));
        let times = std::fs::read_dir(dir.path()).expect("directory").flatten();
        let times = times.filter(|file| file.file_name().to_string_lossy().ends_with("_rtt.csv"));
        let times = times.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect::<String>();
        Outcome::read(&counts, &times)
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Phones with a 200.
    pub registered: u64,
    /// Phones with anything else, or with nothing.
    pub failed: u64,
    /// Requests that were sent again.
    pub retransmissions: u64,
    /// How long all took, seconds.
    pub seconds: f64,
    /// How many were registered after so many seconds, each second.
    pub progress: Vec<(f64, u64)>,
    /// How long each request with credentials waited for its 200, ms, sorted. The clock of Debian's own sipp steps by 4 ms.
    pub waits_ms: Vec<f64>,
}

impl Outcome {
    /// Registrations a second.
    pub fn rate(&self) -> f64 {
        let registered = u32::try_from(self.registered).expect("fewer than 2^32 phones");
        f64::from(registered) / self.seconds.max(1e-3)
    }

    /// So many per mille waited no longer than this, ms.
    pub fn wait_ms(&self, per_mille: usize) -> f64 {
        let last = self.waits_ms.len().saturating_sub(1);
        self.waits_ms.get((self.waits_ms.len() * per_mille / 1_000).min(last)).copied().unwrap_or(f64::NAN)
    }

    /// When so many per mille of all phones were registered, to the second; `None`: never.
    pub fn after_s(&self, per_mille: u64) -> Option<f64> {
        let enough = (self.registered + self.failed) * per_mille / 1_000;
        self.progress.iter().find(|(_, registered)| *registered >= enough).map(|(seconds, _)| *seconds)
    }

    /// All were registered, and nothing was sent twice.
    pub fn is_clean(&self) -> bool {
        self.registered > 0 && self.failed == 0 && self.retransmissions == 0
    }

    /// From sipp's two tables. In that of counts each line is a second, with the totals so far.
    fn read(counts: &str, times: &str) -> Self {
        let mut lines = counts.lines().map(|line| line.split(';').collect::<Vec<_>>());
        let head = lines.next().unwrap_or_default();
        let column = |line: &[&str], name: &str| {
            let at = head.iter().position(|title| *title == name).expect("a column of sipp's table");
            line.get(at).copied().unwrap_or_default().to_owned()
        };
        let count = |line: &[&str], name: &str| column(line, name).parse().unwrap_or(0);
        // `2026-11-20\t10:00:00.000000\t1795672706.997057`
        let moment = |line: &[&str], name: &str| {
            column(line, name).split_whitespace().last().and_then(|seconds| seconds.parse::<f64>().ok()).unwrap_or(0.0)
        };
        let lines: Vec<_> = lines.collect();
        let since = |line: &Vec<&str>| moment(line, "CurrentTime") - moment(line, "StartTime");
        let progress: Vec<_> = lines.iter().map(|line| (since(line), count(line, "SuccessfulCall(C)"))).collect();
        let last = lines.last().cloned().unwrap_or_default();
        // `date;milliseconds;name of the timer`
        let wait = |line: &str| {
            let mut fields = line.split(';').skip(1);
            let ms = fields.next()?.parse::<f64>().ok()?;
            (fields.next()?.trim() == "2").then_some(ms)
        };
        let mut waits_ms: Vec<_> = times.lines().filter_map(wait).collect();
        waits_ms.sort_by(f64::total_cmp);
        Self {
            registered: count(&last, "SuccessfulCall(C)"),
            failed: count(&last, "FailedCall(C)"),
            retransmissions: count(&last, "Retransmissions(C)"),
            seconds: since(&last),
            progress,
            waits_ms,
        }
    }
}

/// REGISTER, 401, REGISTER with credentials, 200.
fn scenario() -> String {
    let request = |number: u32, digest: &str, timer: u32| {
        format!(
            "<send retrans=\"500\" start_rtd=\"{timer}\"><![CDATA[\n\
             REGISTER sip:[remote_ip]:[remote_port] SIP/2.0\n\
             Via: SIP/2.0/[transport] [local_ip]:[local_port];rport;branch=[branch]\n\
             Max-Forwards: 70\n\
             From: <sip:[field0]@[remote_ip]>;tag=[pid]T[call_number]\n\
             To: <sip:[field0]@[remote_ip]>\n\
             Call-ID: [call_id]\n\
             CSeq: {number} REGISTER\n\
             Contact: <sip:[field0]@[local_ip]:[local_port]>\n\
             {digest}Expires: 300\n\
             User-Agent: sipp\n\
             Content-Length: 0\n\n]]></send>"
        )
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n<scenario name=\"register\">{}\
         <recv response=\"100\" optional=\"true\"/><recv response=\"401\" auth=\"true\" rtd=\"1\"/>{}\
         <recv response=\"100\" optional=\"true\"/><recv response=\"200\" rtd=\"2\"/></scenario>\n",
        request(1, "", 1),
        request(2, "[field1]\n", 2),
    )
}
