//! The office: two hosts with the same PBX, whose working directory is copied from the primary to the backup; robot, agent
//! and guard; a provider, and a telephone behind it; phones at other places.
//!
//! Each host starts and stops its PBX through a unit, for which a program of the rigs answers in place of systemd; its
//! conditions are those of the shipped drop-ins. What a real systemd adds is in tests/real/units.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::lab::asterisk::{self, Asterisk, MANAGER};
use crate::lab::baresip::{self, Baresip};
use crate::lab::kamailio::{self, Gate, Kamailio};
use crate::lab::outside::{Outside, Settings, at};
use crate::lab::robot::{Robot, binary};
use crate::lab::sip::Binding;
use crate::lab::sipp::{self, Phone};
use crate::lab::sites::{Host, Line};
use crate::lab::suite::Suite;
use crate::lab::unit::Unit;
use crate::lab::{Running, have, wait_for, wait_until};

/// How long something is waited for that needs no phone's own time.
pub const SOON: Duration = Duration::from_secs(40);
/// A phone whose REGISTER met nobody waits for up to a minute before its next.
const PHONES: Duration = Duration::from_secs(100);
/// Phones register for so long.
const REGISTERED_S: u32 = 20;
/// Whenever each of them has registered last, there is a moment in which all have so long left.
const FRESH_S: i64 = 10;
/// Resolvers keep the PBX's address for so long.
const TTL_S: u32 = 5;

/// What the backup's PBX does while it is passive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passive {
    /// Nothing: it is stopped.
    Stopped,
    /// It runs from the boot on, and answers everybody with this code.
    Refuses(u16),
}

/// A PBX of a host.
pub trait Exchange {
    /// Starts it, with its trunks, as the primary's unit does; or as the backup's, whose robot looks after them.
    fn start_command(&self, host: Host) -> String;
    /// Stops it.
    fn stop_command(&self) -> String;
    /// Succeeds while it runs.
    fn alive_command(&self) -> String;
    /// The keys `working_dir` and `driver` of `pbx`.
    fn settings(&self) -> String;
    /// Copies another's working directory.
    fn receive_from(&self, other: &Self);
    /// Sends a signal to all of it.
    fn signal(&self, name: &str);
    /// Where calls to an account go.
    fn bindings(&self, user: &str) -> Vec<Binding>;
    /// What it does on the backup.
    fn passive(&self) -> Passive {
        Passive::Stopped
    }
}

impl Exchange for Asterisk {
    fn start_command(&self, _host: Host) -> String {
        Self::start_command(self)
    }

    fn stop_command(&self) -> String {
        Self::stop_command(self)
    }

    fn alive_command(&self) -> String {
        Self::alive_command(self)
    }

    fn settings(&self) -> String {
        let driver = format!("username: {}, password: {{ file: \"@DIR@/ami.secret\" }}, unit: pbx.service", MANAGER.0);
        format!("working_dir: {}, driver: {{ asterisk: {{ {driver} }} }}", self.path("etc").display())
    }

    fn receive_from(&self, other: &Self) {
        Self::receive_from(self, other);
    }

    fn signal(&self, name: &str) {
        self.signal_started(name);
    }

    fn bindings(&self, user: &str) -> Vec<Binding> {
        Self::bindings(self, user)
    }
}

/// Kamailio, stopped or behind the gate of the recipe while it is passive.
pub struct Kam {
    /// The PBX.
    pub pbx: Kamailio,
    passive: Passive,
    host: Host,
}

impl Exchange for Kam {
    fn start_command(&self, host: Host) -> String {
        let start = self.pbx.command("reload").join(" ");
        // Where no robot looks after them, its trunks come with its start.
        if host == Host::Primary {
            format!("{start}; {}", self.pbx.command("register_trunks").join(" "))
        } else {
            start
        }
    }

    fn stop_command(&self) -> String {
        self.pbx.command("passive").join(" ")
    }

    fn alive_command(&self) -> String {
        format!("{} | grep -q '\"serving\": true'", self.pbx.command("status").join(" "))
    }

    fn settings(&self) -> String {
        let passive = match (self.host, self.passive) {
            (Host::Backup, Passive::Refuses(_)) => "gate, reload: [htable.reload]",
            _ => "stopped",
        };
        let driver = format!(
            "jsonrpc: \"unix://{}\", unit: pbx.service, passive: {passive}",
            self.pbx.path("rpc.sock").display()
        );
        format!("working_dir: {}, driver: {{ kamailio: {{ {driver} }} }}", self.pbx.work_dir().display())
    }

    fn receive_from(&self, other: &Self) {
        for name in ["accounts/htable", "accounts/version", "trunks/uacreg", "trunks/version"] {
            std::fs::copy(other.pbx.work_dir().join(name), self.pbx.work_dir().join(name)).expect("copied");
        }
    }

    fn signal(&self, name: &str) {
        self.pbx.signal(name);
    }

    fn bindings(&self, user: &str) -> Vec<Binding> {
        self.pbx.bindings(user)
    }

    fn passive(&self) -> Passive {
        self.passive
    }
}

/// Both Kamailios of an office: the accounts stand in the primary's files only, and come to the backup by the copy.
pub fn kamailios(passive: Passive) -> impl Fn(&Outside, Host) -> Kam {
    move |_, host| {
        let setup = kamailio::Setup::at(at(host, 5060)).trunk("carrier", at(Host::Provider, 5060), "office", "pw");
        let setup = setup.calls_out();
        let setup = match (host, passive) {
            (Host::Primary, _) => setup.account("100", "pw100").account("101", "pw101"),
            (_, Passive::Stopped) => setup,
            (_, Passive::Refuses(_)) => setup.gate(Gate::Asked),
        };
        Kam { pbx: Kamailio::new(setup), passive, host }
    }
}

/// One of the office's hosts: its PBX, and the daemon beside it.
pub struct Side<E> {
    host: Host,
    /// The robot, or its agent.
    pub daemon: Robot,
    /// The PBX.
    pub pbx: E,
    dir: tempfile::TempDir,
    prefix: Vec<String>,
    settings: Settings,
}

impl<E: Exchange> Side<E> {
    fn new(outside: &Outside, host: Host, pbx: E, settings: Settings) -> Self {
        let dir = tempfile::Builder::new().prefix("host").tempdir().expect("temporary directory");
        let mut prefix = outside.net.exec(host);
        let path = std::env::var("PATH").unwrap_or_default();
        prefix.extend(["env".to_owned(), format!("PATH={}:{path}", dir.path().display())]);
        let daemon = outside.daemon(host, &settings, prefix.clone());
        daemon.secret("ami.secret", MANAGER.1);
        let condition = if host == Host::Primary {
            // As `ExecCondition=` of its unit.
            format!("{} --config {} guard >>{}/guard 2>&1", binary(), daemon.config().display(), dir.path().display())
        } else if pbx.passive() == Passive::Stopped {
            // As `ConditionPathExists=` of its unit.
            format!("[ -e {} ]", daemon.path("run/active").display())
        } else {
            "true".to_owned()
        };
        let start = format!("{condition} || exit 0; {}", pbx.start_command(host));
        Unit { start: &start, stop: &pbx.stop_command(), alive: &pbx.alive_command() }.write(dir.path());
        Self { host, daemon, pbx, dir, prefix, settings }
    }

    /// Somebody starts the unit; whether it then runs.
    pub fn start_unit(&self) -> bool {
        let program = self.dir.path().join("systemctl").display().to_string();
        let run = |verb: &str| {
            let mut argv = self.prefix.clone();
            argv.extend([&program, verb, "pbx.service"].map(str::to_owned));
            // Its output goes nowhere: a PBX that it starts would keep a pipe open.
            let mut command = std::process::Command::new(&argv[0]);
            command.args(&argv[1..]).stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
            assert!(command.status().expect("ip runs").success(), "systemctl {verb}");
        };
        run("start");
        self.runs()
    }

    /// Whether its PBX runs.
    pub fn runs(&self) -> bool {
        let alive = self.pbx.alive_command();
        std::process::Command::new("sh").args(["-c", &alive]).status().expect("sh runs").success()
    }

    /// What its unit was asked for.
    pub fn unit_calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.dir.path().join("state.calls")).unwrap_or_default();
        calls.lines().filter(|call| !call.starts_with("show")).map(str::to_owned).collect()
    }

    /// Waits until all phones are registered at the PBX here.
    pub fn wait_phones(&self, phones: &[Singer]) {
        self.wait_registered(phones, 1);
    }

    /// Waits until the next REGISTER of each phone is seconds away.
    pub fn wait_quiet(&self, phones: &[Singer]) {
        self.wait_registered(phones, FRESH_S);
    }

    fn wait_registered(&self, phones: &[Singer], left_s: i64) {
        let registered = |phone: &Singer| {
            let place = phone.place.address().to_string();
            let bindings = self.pbx.bindings(&phone.user);
            bindings.iter().any(|binding| binding.contact.contains(&place) && binding.expires_s >= left_s)
        };
        wait_for(PHONES, || {
            if phones.iter().all(registered) {
                return Ok(());
            }
            Err(|| {
                let phone = |phone: &Singer| {
                    let (user, heard) = (&phone.user, phone.phone.state());
                    format!("{user} has heard {heard:?} and is known by {:?}", self.pbx.bindings(user))
                };
                let all: Vec<_> = phones.iter().map(phone).collect();
                format!("not all registered at {:?} for {left_s} s:\n{}", self.host, all.join("\n"))
            })
        });
    }

    /// What a stranger's REGISTER hears on its own host.
    pub fn knocked(&self) -> Option<u16> {
        let phone = Phone::new("nobody", "").inside(self.prefix.clone(), self.host.address());
        phone.knock(at(self.host, 5060))
    }
}

/// Everything, running; the robot goes first, the network last.
pub struct Office<E> {
    /// The backup, with the robot.
    pub backup: Side<E>,
    /// The primary, with agent and guard.
    pub primary: Side<E>,
    /// Where both PBXs register.
    pub provider: Kamailio,
    /// A telephone behind the provider that sends back what it hears: 112, and 0123.
    pub abroad: Abroad,
    /// Network, DNS and web servers.
    pub outside: Outside,
}

/// A telephone with two numbers behind the provider.
pub struct Abroad {
    phone: Phone,
    _answers: Running,
    dir: tempfile::TempDir,
}

impl Abroad {
    /// At this provider, on its host.
    fn behind(provider: &Kamailio, outside: &Outside) -> Self {
        let dir = tempfile::Builder::new().prefix("abroad").tempdir().expect("temporary directory");
        let phone = |number: &str| {
            let mut phone =
                Phone::new(number, number).inside(outside.net.exec(Host::Provider), Host::Provider.address());
            phone.port = 5070;
            phone.register(provider.address()).expect("it is known to the provider");
            phone
        };
        let phone = [phone("112"), phone("0123")].into_iter().next().expect("two of them");
        let answers = phone.echoes_calls(dir.path());
        Self { phone, _answers: answers, dir }
    }

    /// The INVITEs that have come to a number, as they came.
    pub fn invites(&self, number: &str) -> Vec<String> {
        let bytes = std::fs::read(self.phone.trace(self.dir.path())).unwrap_or_default();
        let trace = String::from_utf8_lossy(&bytes).replace('\r', "");
        let messages = trace.split("message received [").skip(1).filter_map(|rest| Some(rest.split_once("\n\n")?.1));
        let first = format!("INVITE sip:{number}@");
        messages.filter(|message| message.starts_with(&first)).map(str::to_owned).collect()
    }
}

/// The value of a SIP header, or of a line of its SDP such as `c=`.
pub fn line<'a>(message: &'a str, start: &str) -> &'a str {
    message.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default().trim()
}

impl<E: Exchange> Office<E> {
    /// All of it, with the primary serving and the robot armed; `None`, said loudly, where that is not possible.
    /// `pbx` makes the PBX of a host, which does not run; `edit` changes the settings.
    pub fn open(pbx: impl Fn(&Outside, Host) -> E, edit: impl Fn(Settings) -> Settings) -> Option<Self> {
        if !have(&kamailio::PROGRAMS) || !have(&sipp::PROGRAMS) || !have(&baresip::PROGRAMS) {
            return None;
        }
        let outside = Outside::up()?;
        let provider = kamailio::Setup::at(at(Host::Provider, 5060)).inside(outside.net.exec(Host::Provider));
        let provider = provider.account("office", "pw").account("112", "112").account("0123", "0123");
        let provider = Kamailio::started(provider);
        let abroad = Abroad::behind(&provider, &outside);
        let side = |host| {
            let pbx = pbx(&outside, host);
            let trunks = "{ carrier: { kind: register, required: true } }";
            let mut settings = Settings::with(format!("{}, trunks: {trunks}", pbx.settings()));
            settings.ttl_s = TTL_S;
            settings.more += "failback: { drain: 5m, wait_for_primary: 60s }\n\
                 notify: { command: [sh, -c, 'echo \"$PBX_FAILOVER_EVENT: $PBX_FAILOVER_REASON\" >>@DIR@/told'] }\n";
            Side::new(&outside, host, pbx, edit(settings))
        };
        let mut office = Self { backup: side(Host::Backup), primary: side(Host::Primary), provider, abroad, outside };
        office.backup.pbx.receive_from(&office.primary.pbx);
        office.primary.daemon.start();
        assert!(office.primary.start_unit(), "the guard lets the primary start: {:?}", office.primary.unit_calls());
        office.wait_trunk_at(Host::Primary);
        let is_boot = office.backup.pbx.passive() != Passive::Stopped;
        assert_eq!(office.backup.start_unit(), is_boot, "whether the backup's PBX runs after a boot");
        office.backup.daemon.start();
        office.backup.daemon.wait_armed();
        office.backup.daemon.wait("the agent is heard", |pair| pair["peer"]["contact"] == "heard");
        Some(office)
    }

    /// The robot.
    pub fn robot(&self) -> &Robot {
        &self.backup.daemon
    }

    /// Changes the robot's settings while it runs.
    pub fn configure_backup(&mut self, edit: impl FnOnce(&mut Settings)) {
        let loaded = |robot: &Robot| robot.history().iter().filter(|event| event["kind"] == "config").count();
        let before = loaded(self.robot());
        edit(&mut self.backup.settings);
        self.backup.daemon.configure(&self.backup.settings.text(Host::Backup));
        self.backup.daemon.process().signal("HUP");
        wait_until("the settings are read", SOON, || loaded(self.robot()) > before);
    }

    /// The primary loses everything at once, and is silent.
    pub fn kill_primary(&mut self) {
        self.primary.pbx.signal("KILL");
        self.primary.daemon.kill();
        self.outside.web.kill();
        self.outside.net.cut(&[Line::Wire(Host::Primary)]);
    }

    /// The primary is there again, as after a boot: the guard keeps its PBX from starting.
    pub fn primary_returns(&mut self) {
        self.outside.net.cut(&[]);
        self.outside.web.start();
        self.primary.daemon.start();
        assert!(!self.primary.start_unit(), "the guard holds it back");
    }

    /// The primary dies; phones, trunk and voices go over the backup, and home again. `abroad` looks at what reached the
    /// telephone behind the provider meanwhile.
    pub fn goes_on_and_home(&mut self, abroad: impl FnOnce(&Self)) {
        let phones = [(Host::Router, "100", 440), (Host::Observer, "101", 1000)]
            .map(|(place, user, pitch_hz)| self.phone(place, user, pitch_hz));
        let [anna, bert] = &phones;
        self.primary.wait_phones(&phones);
        self.primary.wait_quiet(&phones);
        self.kill_primary();
        self.robot().wait_served();
        self.wait_trunk_at(Host::Backup);
        self.backup.wait_phones(&phones);
        anna.sings_with(bert);
        anna.phone.hang_up();
        bert.hears_itself_from("0123");
        bert.phone.hang_up();
        abroad(self);
        self.primary_returns();
        self.robot().wait("the primary is seen", |status| status["peer"]["contact"] == "heard");
        self.backup.wait_quiet(&phones);
        self.go_home();
        self.primary.wait_phones(&phones);
        bert.sings_with(anna);
    }

    /// A failback is asked for, and all goes home.
    pub fn go_home(&self) {
        let (code, said) = self.robot().asked(&["failback"]);
        assert_eq!(code, 0, "{said}");
        self.wait_home();
    }

    /// Waits until all is as it was at the beginning.
    pub fn wait_home(&self) {
        self.robot().wait_at_most("given back", SOON * 2, |status| status["state"] == "standby");
        assert!(self.primary.runs(), "{:?}", self.primary.unit_calls());
        let heard = match self.backup.pbx.passive() {
            Passive::Stopped => None,
            Passive::Refuses(code) => Some(code),
        };
        assert_eq!((self.backup.runs(), self.backup.knocked()), (heard.is_some(), heard), "the backup is passive");
        assert_eq!(self.outside.holder().as_deref(), Some("pbx-a"));
        assert_eq!(self.outside.dns.query("pbx.lab.test", "A"), [Host::Primary.address().to_string()]);
        self.wait_trunk_at(Host::Primary);
        let contacts = self.provider.contacts("office").join(" ");
        assert!(!contacts.contains(&Host::Backup.address().to_string()), "the backup gave its trunk up: {contacts}");
    }

    /// Waits until the provider would send calls to this host.
    pub fn wait_trunk_at(&self, host: Host) {
        wait_until(&format!("the trunk is registered from {host:?}"), SOON, || {
            let contacts = self.provider.contacts("office");
            contacts.iter().any(|contact| contact.contains(&format!("@{}", host.address())))
        });
    }

    /// A phone at a place, which finds its PBX by name and sings.
    pub fn phone(&self, place: Host, user: &str, pitch_hz: u32) -> Singer {
        let setup = baresip::Setup::new(user, &format!("pw{user}"), "pbx.lab.test")
            .interval(REGISTERED_S)
            .dns(at(Host::Master, 53))
            .inside(self.outside.net.exec(place), place.address())
            .sings(pitch_hz)
            .traced();
        Singer { phone: Baresip::started(&setup), user: user.to_owned(), pitch_hz, place }
    }

    /// What notifications have been sent, in order: event and reason.
    pub fn told(&self, event: &str) -> Vec<String> {
        let told = std::fs::read_to_string(self.robot().path("told")).unwrap_or_default();
        let start = format!("{event}: ");
        told.lines().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect()
    }

    /// A phone without an ear at some other place, for the call of a moment.
    pub fn caller(&self, user: &str) -> Phone {
        let place = Host::OtherTargets;
        Phone::new(user, &format!("pw{user}")).inside(self.outside.net.exec(place), place.address())
    }
}

/// A phone that sends a pitch into each of its calls.
pub struct Singer {
    /// The phone.
    pub phone: Baresip,
    /// Its account.
    pub user: String,
    pitch_hz: u32,
    place: Host,
}

impl Singer {
    /// Calls another, and waits until each hears the other's pitch.
    pub fn sings_with(&self, other: &Self) {
        let since = SystemTime::now();
        self.phone.dial(&other.user);
        for (one, pitch_hz) in [(self, other.pitch_hz), (other, self.pitch_hz)] {
            let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                wait_until("the other is heard", SOON, || one.phone.hears(pitch_hz, since));
            }));
            assert!(waited.is_ok(), "{} does not hear {pitch_hz} Hz\n{}", one.user, one.phone.said());
        }
    }

    /// Calls a number that sends back what it hears, and waits until it hears itself.
    pub fn hears_itself_from(&self, number: &str) {
        let since = SystemTime::now();
        self.phone.dial(number);
        wait_until("it hears its own voice", SOON, || self.phone.hears(self.pitch_hz, since));
    }
}

/// Both Asterisks of an office: the accounts stand in the primary's files only, and come to the backup by the copy.
pub fn asterisks(suite: &Suite) -> impl Fn(&Outside, Host) -> Asterisk + '_ {
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 5060));
    move |_, host| {
        let own = format!(
            "external_signaling_address={0}\nexternal_media_address={0}\nlocal_net=127.0.0.0/8\n",
            host.address()
        );
        let setup = asterisk::Setup::at(suite, everywhere).per_host(&own).calls_out();
        let setup = setup.manager(SocketAddr::from(([127, 0, 0, 1], 5038)));
        let setup = setup.trunk("carrier", at(Host::Provider, 5060), "office", "pw");
        let accounts = ["100", "101", "102"].map(|user| (user, format!("pw{user}")));
        let all = if host == Host::Primary { &accounts[..] } else { &[] };
        Asterisk::prepared(all.iter().fold(setup, |setup, (user, password)| setup.account(user, password)))
    }
}
