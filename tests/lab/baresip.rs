//! A real softphone without screen and sound: baresip registers, keeps its registration alive, and says how it stands.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::{Running, wait_until};

/// A port that is free together with the next, where baresip listens for TLS, and that the system gives to nobody who
/// asks for any port.
fn port_pair() -> u16 {
    let is_free =
        |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok();
    for number in 0_u32..100 {
        let draw = RandomState::new().hash_one(number) % 6_000;
        let port = 20_000 + 2 * u16::try_from(draw).expect("small");
        if is_free(port) && is_free(port + 1) {
            return port;
        }
    }
    panic!("no two free ports on loopback");
}

/// The programs that the rig needs, for [`super::have`].
pub const PROGRAMS: [&str; 1] = ["baresip"];

/// How long a phone may take to end, which is as long as it waits for the answer to its last REGISTER.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// How a phone reaches its registrar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS; it trusts everybody.
    Tls,
}

/// A phone with its account.
#[derive(Clone, Debug)]
pub struct Setup {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
    /// Its registrar: `ADDRESS:PORT` or a name.
    pub registrar: String,
    /// How it reaches it.
    pub over: Over,
    /// It registers for so long, and anew before the end, seconds.
    pub interval_s: u32,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The name server that it asks, when not the system's.
    pub dns: Option<SocketAddr>,
    /// Whether it says every message that comes and goes.
    pub traced: bool,
    /// The pitch that it sends in every call, Hz; it takes every call then.
    pub tone_hz: Option<u32>,
    /// Put before the program, to start it in a namespace.
    pub prefix: Vec<String>,
}

impl Setup {
    /// A phone on loopback over UDP that registers for a minute.
    pub fn new(user: &str, password: &str, registrar: &str) -> Self {
        Self {
            user: user.to_owned(),
            password: password.to_owned(),
            registrar: registrar.to_owned(),
            over: Over::Udp,
            interval_s: 60,
            listen: SocketAddr::from(([127, 0, 0, 1], port_pair())),
            dns: None,
            traced: false,
            tone_hz: None,
            prefix: Vec::new(),
        }
    }

    /// Over another transport.
    pub fn over(mut self, over: Over) -> Self {
        self.over = over;
        self
    }

    /// Registers for so long.
    pub fn interval(mut self, seconds: u32) -> Self {
        self.interval_s = seconds;
        self
    }

    /// Asks this name server.
    pub fn dns(mut self, server: SocketAddr) -> Self {
        self.dns = Some(server);
        self
    }

    /// Says every message, for [`Baresip::was_taken_by`].
    pub fn traced(mut self) -> Self {
        self.traced = true;
        self
    }

    /// Takes every call, and sends this pitch into it; for [`Baresip::dial`] and [`Baresip::hears`].
    pub fn sings(mut self, pitch_hz: u32) -> Self {
        self.tone_hz = Some(pitch_hz);
        self
    }

    /// In a namespace, at that address.
    pub fn inside(mut self, prefix: Vec<String>, address: IpAddr) -> Self {
        self.prefix = prefix;
        self.listen.set_ip(address);
        self
    }
}

/// A running phone; killed when dropped, so that its registration is left to expire.
pub struct Baresip {
    running: Running,
    prefix: Vec<String>,
    control: u16,
    dir: tempfile::TempDir,
}

impl Baresip {
    /// Starts it; it registers at once.
    pub fn started(setup: &Setup) -> Self {
        let dir = tempfile::Builder::new().prefix("bs").tempdir().expect("temporary directory");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("config");
        let modules = ["/usr/lib/baresip/modules", "/usr/lib64/baresip/modules"];
        let modules = modules.into_iter().find(|dir| std::path::Path::new(dir).exists());
        let modules = modules.expect("baresip is installed, so its modules are");
        let transport = match setup.over {
            Over::Udp => "udp",
            Over::Tcp => "tcp",
            Over::Tls => "tls",
        };
        let Setup { user, password, registrar, interval_s, listen, .. } = setup;
        let control = super::free_port();
        let sound = setup.tone_hz.map(|pitch_hz| {
            std::fs::write(dir.path().join("tone.wav"), tone(pitch_hz)).expect("a sound");
            let dir = dir.path().display();
            format!(
                "module aufile.so\nmodule aubridge.so\nmodule sndfile.so\nmodule ctrl_tcp.so\n\
                 ctrl_tcp_listen 127.0.0.1:{control}\naudio_source aufile,{dir}/tone.wav\n\
                 audio_player aubridge,out\naudio_alert aubridge,alert\nsnd_path {dir}\n"
            )
        });
        let answers = if setup.tone_hz.is_some() { ";answermode=auto" } else { "" };
        let dns = setup.dns.map(|server| format!("dns_server {server}\n")).unwrap_or_default();
        write(
            "config",
            &format!(
                "{dns}sip_listen {listen}\nmodule_path {modules}\nmodule g711.so\nmodule account.so\n\
                 module menu.so\n{}",
                sound.unwrap_or_default()
            ),
        );
        write(
            "accounts",
            &format!(
                "<sip:{user}@{registrar};transport={transport}>;auth_user={user};auth_pass={password};\
                 regint={interval_s}{answers}\n"
            ),
        );
        write("contacts", "");
        let mut argv = setup.prefix.clone();
        argv.extend(["baresip", "-f", &dir.path().display().to_string()].map(str::to_owned));
        argv.extend(setup.traced.then(|| "-s".to_owned()));
        let argv: Vec<_> = argv.iter().map(String::as_str).collect();
        let running = Running::start(&argv, &dir.path().join("said"));
        Self { running, prefix: setup.prefix.clone(), control, dir }
    }

    /// Dials, as its user does; [`Setup::sings`] says what it then sends.
    pub fn dial(&self, callee: &str) {
        self.command("dial", callee);
    }

    /// Ends its call.
    pub fn hang_up(&self) {
        self.command("hangup", "");
    }

    /// Whether this pitch, Hz, fills the last quarter of a second of a call that it has heard since then.
    pub fn hears(&self, pitch_hz: u32, since: SystemTime) -> bool {
        let files = std::fs::read_dir(self.dir.path()).expect("its directory").flatten();
        let heard = files.filter(|file| file.file_name().to_string_lossy().ends_with("-dec.wav"));
        let heard = heard.filter(|file| file.metadata().and_then(|data| data.created()).is_ok_and(|at| at > since));
        heard.filter_map(|file| std::fs::read(file.path()).ok()).any(|wav| is_pitch(&wav, pitch_hz))
    }

    /// Gives it a command of its menu; panics when it does not take it.
    fn command(&self, command: &str, params: &str) {
        let words = serde_json::json!({ "command": command, "params": params, "token": "t" }).to_string();
        let ask = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{}; printf '%s' '{}:{words},' >&3; timeout 1 cat <&3; true",
            self.control,
            words.len()
        );
        let mut argv = self.prefix.clone();
        argv.extend(["bash", "-c", &ask].map(str::to_owned));
        let out = Command::new(&argv[0]).args(&argv[1..]).output().expect("bash runs");
        let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(said.contains("\"ok\":true"), "{command} {params}: {said}\n{}", self.said());
    }

    /// The last thing that it heard from its registrar, `200 OK` among others, or why nothing came.
    pub fn state(&self) -> Option<String> {
        let said = self.running.said();
        said.lines().rev().find_map(|line| {
            // `100@192.0.2.9: {0/UDP/v4} 200 OK (server) [1 binding]`, or in red `reg: sip:100@192.0.2.9: 403 Forbidden ()`
            let heard = line.split_once("} ").filter(|(before, _)| before.contains(": {")).map(|(_, code)| code);
            let failed = line.split_once("reg: ").and_then(|(_, rest)| rest.split_once(": ")).map(|(_, why)| why);
            heard.or(failed).map(str::to_owned)
        })
    }

    /// Waits until it says that it is registered.
    pub fn wait_registered(&self, limit: Duration) {
        wait_until("the phone is registered", limit, || self.state().is_some_and(|state| state.starts_with("200 ")));
    }

    /// Whether a registrar that calls itself so has ever answered it with 200.
    pub fn was_taken_by(&self, server: &str) -> bool {
        let said = self.running.said();
        let answers = said.split("SIP/2.0 200 ").skip(1).filter_map(|rest| rest.split("\r\n\r\n").next());
        answers.flat_map(str::lines).any(|line| line.starts_with("Server: ") && line.contains(server))
    }

    /// All that it has said.
    pub fn said(&self) -> String {
        self.running.said()
    }

    /// Ends it as its user does: it gives its registration up.
    pub fn stop(mut self) -> String {
        self.running.signal("TERM");
        wait_until("the phone has ended", STOP_LIMIT, || self.running.exited().is_some());
        self.running.said()
    }
}

/// Samples a second, of G.711.
const RATE: u32 = 8000;

/// A sound of this pitch, of two minutes, as a WAV file.
fn tone(pitch_hz: u32) -> Vec<u8> {
    let data_len = RATE * 120 * 2;
    let words: [&[u8]; 12] = [
        b"RIFF",
        &(data_len + 36).to_le_bytes(),
        b"WAVEfmt ",
        &16_u32.to_le_bytes(),
        &1_u16.to_le_bytes(),
        &1_u16.to_le_bytes(),
        &RATE.to_le_bytes(),
        &(RATE * 2).to_le_bytes(),
        &2_u16.to_le_bytes(),
        &16_u16.to_le_bytes(),
        b"data",
        &data_len.to_le_bytes(),
    ];
    let mut wav = words.concat();
    for n in 0..data_len / 2 {
        #[allow(clippy::cast_possible_truncation)] // a sine times 8000
        let sample = (turn(pitch_hz, n).sin() * 8000.0) as i16;
        wav.extend(sample.to_le_bytes());
    }
    wav
}

fn turn(pitch_hz: u32, sample: u32) -> f64 {
    std::f64::consts::TAU * f64::from(pitch_hz) * f64::from(sample) / f64::from(RATE)
}

/// Whether nine tenths of the power of a WAV file's last quarter of a second are of this pitch (Goertzel's sum).
fn is_pitch(wav: &[u8], pitch_hz: u32) -> bool {
    let samples: Vec<f64> = wav
        .get(44..)
        .unwrap_or_default()
        .chunks_exact(2)
        .map(|b| f64::from(i16::from_le_bytes([b[0], b[1]])))
        .collect();
    let Some(last) = samples.len().checked_sub(2000).map(|from| &samples[from..]) else { return false };
    let power: f64 = last.iter().map(|sample| sample * sample).sum();
    let part = |of: fn(f64) -> f64| (0..).zip(last).map(|(n, sample)| sample * of(turn(pitch_hz, n))).sum::<f64>();
    let (cosine, sine) = (part(f64::cos), part(f64::sin));
    power > 0.0 && 2.0 * (cosine * cosine + sine * sine) / 2000.0 > 0.9 * power
}
