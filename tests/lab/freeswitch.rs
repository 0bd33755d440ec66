//! A stand-in for FreeSWITCH: its event socket and one SIP port, which run while a file exists.
//!
//! No reachable suite has the real one. Its answers are written from the source of `mod_event_socket` and `mod_sofia`, those
//! of `show`, `reloadxml` and `global_getvar` from documentation only; no test that uses this shows that the real one gives
//! them so.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::free_port;

/// How it behaves at its event socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// As it should.
    Well,
    /// It takes a connection and says nothing.
    Silent,
    /// It never answers commands that hold this text.
    HangsAt(&'static str),
    /// It says this instead of its greeting.
    Says(&'static str),
    /// It lets nobody do anything.
    Denies,
    /// It knows no command.
    Bare,
}

/// What it is made of; tests look at it and change it.
#[derive(Debug)]
pub struct State {
    /// How it behaves.
    pub manner: Manner,
    /// Its password.
    pub password: String,
    /// Whether it is on standby.
    pub standby: bool,
    /// Its profiles, and whether each runs.
    pub profiles: BTreeMap<String, bool>,
    /// Its gateways, all in the profile `external`: the states still to be told, the last one for ever.
    pub gateways: BTreeMap<String, Vec<&'static str>>,
    /// What a gateway tells once it was asked to register.
    pub registering: Vec<&'static str>,
    /// Whether it forgets to give gateways up when it is told to.
    pub keeps_registered: bool,
    /// Calls that are up.
    pub calls: u32,
    /// The answer to `global_getvar db_dir`.
    pub db_dir: String,
    /// Every command that was obeyed, without `api`.
    pub commands: Vec<String>,
    /// What was sent as a password.
    pub passwords: Vec<String>,
}

/// A FreeSWITCH that is not one.
pub struct FreeSwitch {
    /// Its event socket.
    pub esl: SocketAddr,
    /// Its SIP port.
    pub sip: SocketAddr,
    run: PathBuf,
    bound: PathBuf,
    state: Arc<Mutex<State>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FreeSwitch {
    /// One that does not run yet; its files lie in `dir`.
    pub fn new(dir: &Path) -> Self {
        let place = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let state = State {
            manner: Manner::Well,
            password: "a password of its own".to_owned(),
            standby: false,
            profiles: [("external", true), ("internal", true)].map(|(name, runs)| (name.to_owned(), runs)).into(),
            gateways: [("carrier".to_owned(), vec!["UNREGED"])].into(),
            registering: vec!["TRYING", "REGED"],
            keeps_registered: false,
            calls: 0,
            db_dir: "/var/lib/freeswitch/db".to_owned(),
            commands: Vec::new(),
            passwords: Vec::new(),
        };
        let mut made = Self {
            esl: place(),
            sip: place(),
            run: dir.join("run-freeswitch"),
            bound: dir.join("freeswitch-runs"),
            state: Arc::new(Mutex::new(state)),
            end: Arc::new(AtomicBool::new(false)),
            thread: None,
        };
        let [run, bound] = [made.run.clone(), made.bound.clone()];
        let (esl, sip, state, end) = (made.esl, made.sip, Arc::clone(&made.state), Arc::clone(&made.end));
        made.thread = Some(std::thread::spawn(move || live(esl, sip, [&run, &bound], &state, &end)));
        made
    }

    /// The shell command that starts it.
    pub fn start_command(&self) -> String {
        let [run, bound] = [self.run.display(), self.bound.display()];
        format!("touch '{run}'; while ! test -e '{bound}'; do sleep 0.01; done")
    }

    /// The shell command that stops it.
    pub fn stop_command(&self) -> String {
        let [run, bound] = [self.run.display(), self.bound.display()];
        format!("rm -f '{run}'; while test -e '{bound}'; do sleep 0.01; done")
    }

    /// What it is made of, now.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of it panics")
    }

    /// The commands since the last time that were not questions.
    pub fn acts(&self) -> Vec<String> {
        let all = std::mem::take(&mut self.state().commands);
        let is_question = |c: &String| ["show ", "sofia xmlstatus ", "global_getvar "].iter().any(|q| c.starts_with(q));
        all.into_iter().filter(|command| !is_question(command)).collect()
    }
}

impl Drop for FreeSwitch {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Its life: sockets are there while it runs.
fn live(esl: SocketAddr, sip: SocketAddr, [run, bound]: [&Path; 2], state: &Arc<Mutex<State>>, end: &AtomicBool) {
    const PACE: Duration = Duration::from_millis(5);
    let mut sockets: Option<(TcpListener, UdpSocket)> = None;
    while !end.load(Ordering::Relaxed) {
        match (run.exists(), sockets.is_some()) {
            (true, false) => {
                let listener = TcpListener::bind(esl).expect("its event socket");
                let phone = UdpSocket::bind(sip).expect("its SIP port");
                listener.set_nonblocking(true).expect("nonblocking");
                phone.set_nonblocking(true).expect("nonblocking");
                sockets = Some((listener, phone));
                std::fs::write(bound, "").expect("its mark");
            }
            (false, true) => {
                sockets = None;
                let _ = std::fs::remove_file(bound);
            }
            _ => {}
        }
        if let Some((listener, phone)) = &sockets {
            if let Ok((stream, _)) = listener.accept() {
                let state = Arc::clone(state);
                std::thread::spawn(move || drop(converse(stream, &state)));
            }
            answer_phone(phone, state);
        }
        std::thread::sleep(PACE);
    }
}

/// A REGISTER without Contact: `sofia_reg_handle_sip_i_register` answers 400, unless the profile is on standby.
fn answer_phone(phone: &UdpSocket, state: &Mutex<State>) {
    let mut datagram = [0; 4096];
    let Ok((length, from)) = phone.recv_from(&mut datagram) else { return };
    let question = String::from_utf8_lossy(&datagram[..length]).into_owned();
    let kept = |line: &&str| ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|h| line.starts_with(h));
    let headers: Vec<_> = question.lines().filter(kept).collect();
    let standby = state.lock().expect("state").standby;
    let status = if standby { "503 System Paused" } else { "400 Missing Contact Header" };
    let answer = format!("SIP/2.0 {status}\r\n{}\r\nContent-Length: 0\r\n\r\n", headers.join("\r\n"));
    let _ = phone.send_to(answer.as_bytes(), from);
}

fn converse(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let manner = state.lock().expect("state").manner.clone();
    match manner {
        Manner::Silent => {
            // Until the other side gives up.
            while stream.read(&mut [0; 64])? > 0 {}
            return Ok(());
        }
        Manner::Says(text) => return stream.write_all(text.as_bytes()),
        _ => stream.write_all(b"Content-Type: auth/request\n\n")?,
    }
    let password = command(&mut stream)?;
    let password = password.strip_prefix("auth ").unwrap_or_default().to_owned();
    let good = {
        let mut state = state.lock().expect("state");
        state.passwords.push(password.clone());
        password == state.password
    };
    let reply = if good { "+OK accepted" } else { "-ERR invalid" };
    stream.write_all(format!("Content-Type: command/reply\nReply-Text: {reply}\n\n").as_bytes())?;
    if !good {
        let bye = "Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n";
        let head = format!("Content-Type: text/disconnect-notice\nContent-Length: {}\n\n", bye.len());
        return stream.write_all((head + bye).as_bytes());
    }
    loop {
        let line = command(&mut stream)?;
        let asked = line.strip_prefix("api ").unwrap_or_default().to_owned();
        match manner {
            Manner::HangsAt(text) if asked.contains(text) => continue,
            Manner::Denies => {
                stream.write_all(b"Content-Type: command/reply\nReply-Text: -ERR permission denied\n\n")?;
                continue;
            }
            _ => {}
        }
        let answer = if manner == Manner::Bare {
            format!("-ERR {} Command not found!\n", asked.split(' ').next().unwrap_or_default())
        } else {
            state.lock().expect("state").answer(&asked)
        };
        stream.write_all(
            format!("Content-Type: api/response\nContent-Length: {}\n\n{answer}", answer.len()).as_bytes(),
        )?;
    }
}

/// One command: lines up to an empty one.
fn command(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\n\n") {
        let mut one = [0];
        if stream.read(&mut one)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        bytes.push(one[0]);
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

impl State {
    fn answer(&mut self, asked: &str) -> String {
        self.commands.push(asked.to_owned());
        match asked.split(' ').collect::<Vec<_>>().as_slice() {
            ["reloadxml"] => "+OK [Success]\n".to_owned(),
            ["show", "calls", "count"] => format!("\n{} total.\n", self.calls),
            ["show", "registrations", "count"] => "\n3 total.\n".to_owned(),
            ["global_getvar", "db_dir"] => self.db_dir.clone(),
            ["global_getvar", name] => format!("/var/lib/freeswitch/{name}"),
            ["sofia", "global", "standby", word] => {
                self.standby = *word == "on";
                format!("+OK Global standby {word}")
            }
            ["sofia", "xmlstatus", "profile", name] => match self.profiles.get(*name) {
                Some(true) => {
                    format!("<?xml version=\"1.0\"?>\n<profile>\n  <profile-info>\n    <name>{name}</name>\n")
                }
                _ => "Invalid Profile!\n".to_owned(),
            },
            ["sofia", "xmlstatus", "gateway", name] => self.gateway(name),
            ["sofia", "profile", name, "start"] => match self.profiles.get_mut(*name) {
                Some(runs) => {
                    *runs = true;
                    format!("Reload XML [Success]\n{name} started successfully\n")
                }
                None => format!("Reload XML [Success]\nFailure starting {name}\n"),
            },
            ["sofia", "profile", name, ..] if self.profiles.get(*name) != Some(&true) => {
                format!("Invalid Profile [{name}]")
            }
            ["sofia", "profile", _, "rescan"] => "Reload XML [Success]\n+OK scan complete\n".to_owned(),
            ["sofia", "profile", "external", verb @ ("register" | "unregister"), which] => self.push(verb, which),
            ["sofia", "profile", _, "register" | "unregister", "all"] => "+OK\n".to_owned(),
            _ => "-ERR Usage: siptrace <on|off>|capture <on|off>|watchdog <on|off>|debug <sla|presence|none".to_owned(),
        }
    }

    fn push(&mut self, verb: &str, which: &str) -> String {
        let registering = self.registering.clone();
        let mut known = false;
        for (_, states) in self.gateways.iter_mut().filter(|(name, _)| which == "all" || which == name.as_str()) {
            known = true;
            if verb == "unregister" && self.keeps_registered {
                continue;
            }
            *states = if verb == "register" { registering.clone() } else { vec!["UNREGISTER", "DOWN"] };
        }
        if known { "+OK\n" } else { "Invalid gateway!\n" }.to_owned()
    }

    fn gateway(&mut self, name: &str) -> String {
        let Some(states) = self.gateways.get_mut(name) else { return "Invalid Gateway!\n".to_owned() };
        let state = if states.len() > 1 { states.remove(0) } else { states[0] };
        let retry = if state == "FAIL_WAIT" { "    <retry>28s</retry>\n" } else { "" };
        format!(
            "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n  <gateway>\n    <name>{name}</name>\n    \
             <profile>external</profile>\n    <password>yes</password>\n    <pingfreq>0</pingfreq>\n    \
             <state>{state}</state>\n    <status>UP</status>\n{retry}  </gateway>\n"
        )
    }
}
