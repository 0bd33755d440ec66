//! What happens in the demo, and what must come of it: the only file that decides that it went well.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::rr::RecordType;
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::dns::{Authority, Server, Zone};
use super::parts::{self, Part, Process};
use super::phones::{Phone, Phones};
use super::receiver::{Received, Receiver};
use super::scene::{PBX_NAME, PHONES, Scene, TRUNK_USER, ZONE};
use super::watch::{Said, Watch};
use super::{AfterStory, Mood, STORY_MAX, Teller, Told};
use crate::adapters::dns::wire;
use crate::adapters::pbx::builtin::{Handle, Service};
use crate::host::tls;
use crate::units::operator::{Command, Reply};
use crate::units::{PlanKind, State, StepState, Verdict};

/// How often everything is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long processes and phones may take to get ready.
const READY_MAX: Duration = Duration::from_secs(10);
/// How long a takeover may take here.
const TAKEOVER_MAX: Duration = Duration::from_secs(10);
/// How long a failback may take here.
const FAILBACK_MAX: Duration = Duration::from_secs(10);
/// How much of the robot's log is shown when something did not happen.
const LOG_LINES: usize = 15;

/// What a takeover is for, in the order of the summary.
const MOMENTS: [&str; 7] = ["verdict", "serving", "DNS", "ActionURL", "trunk", "first phone", "last phone"];

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything happened.
    Well,
    /// Somebody interrupted it.
    Interrupted,
}

/// Plays it, and tells it as it happens.
///
/// # Errors
/// What did not happen, or what this host lacks.
pub async fn run(after: AfterStory, tell: Teller<'_>) -> Result<Ending, String> {
    tls::install_provider();
    let interrupted = interruption().map_err(|error| format!("signals cannot be heard: {error}"))?;
    tokio::pin!(interrupted);
    let scene = Arc::new(Scene::set()?);
    let mut stage = tokio::select! {
        stage = Stage::build(Arc::clone(&scene), tell) => stage?,
        () = &mut interrupted => return Ok(Ending::Interrupted),
    };
    let played = tokio::select! {
        played = timeout(STORY_MAX, stage.play()) => played,
        () = &mut interrupted => return Ok(Ending::Interrupted),
    };
    match played {
        Ok(Ok(())) => {}
        Ok(Err(why)) => return Err(format!("{why}{}", log_end(&scene))),
        Err(_) => return Err(format!("the story was not over within {STORY_MAX:?}{}", log_end(&scene))),
    }
    if after == AfterStory::Stay {
        tokio::select! {
            stayed = stage.stay() => stayed?,
            () = &mut interrupted => {}
        }
    }
    Ok(Ending::Well)
}

fn interruption() -> std::io::Result<impl Future<Output = ()>> {
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // The terminal is closed.
    let mut hup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = hup.recv() => {}
        }
    })
}

fn log_end(scene: &Scene) -> String {
    let text = std::fs::read_to_string(scene.log("robot")).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    if end.is_empty() { String::new() } else { format!("\nthe end of the robot's log:\n{end}") }
}

/// The primary's process, which is killed and started again.
type PrimaryProcess = Arc<Mutex<Option<Process>>>;

/// Everything that stands for the world, and what was seen of it.
struct Stage<'a> {
    tell: Teller<'a>,
    began: Instant,
    began_at: Timestamp,
    // Dropped with the stage: processes are killed, tasks ended.
    primary: PrimaryProcess,
    _robot: Process,
    _tasks: JoinSet<()>,
    provider: Handle,
    _provider: Service,
    zone: Arc<Mutex<Authority>>,
    phones: Phones,
    receiver: Receiver,
    watch: Watch,
    seen: Seen,
    /// The last, because its folder goes with it.
    scene: Arc<Scene>,
}

/// What was seen last, so that changes are told.
#[derive(Default)]
struct Seen {
    phones: [Option<IpAddr>; PHONES.len()],
    dns: Vec<String>,
    trunk: Vec<(String, String)>,
    /// Call-IDs of trunk registrations that were made before the last blow: they prove nothing any more.
    old_registrations: Vec<String>,
    received: Vec<String>,
    killed_at: Option<Instant>,
    /// How long after the kill each of the [`MOMENTS`] was.
    reached: [Option<Duration>; MOMENTS.len()],
}

impl<'a> Stage<'a> {
    async fn build(scene: Arc<Scene>, tell: Teller<'a>) -> Result<Self, String> {
        let (began, began_at) = (Instant::now(), Timestamp::now());
        let mut tasks = JoinSet::new();
        let zone = Zone::parse(ZONE, &scene.zone())?;
        let key = scene.key();
        let crate::config::Secret::Plain(secret) = &key.secret else { return Err("no key".to_owned()) };
        let signer = wire::signer(&key, &SecretString::from(secret.0.clone())).map_err(|fault| format!("{fault:?}"))?;
        let zone = Arc::new(Mutex::new(Authority::new(zone, vec![signer])));
        for address in [scene.dns, scene.other_dns] {
            let dns = Server::bind(address).await.map_err(|error| format!("name server {address}: {error}"))?;
            let served = Arc::clone(&zone);
            tasks.spawn(async move { dns.serve(served).await });
        }
        for address in scene.internet {
            let listener = TcpListener::bind(address).await.map_err(|error| format!("{address}: {error}"))?;
            tasks.spawn(async move {
                loop {
                    // A connection is an answer.
                    drop(listener.accept().await);
                }
            });
        }
        let keep = scene.folder().join("provider-bindings");
        let provider = Service::start(parts::plan(scene.provider, scene.provider_accounts(), keep)).await?;
        let receiver = Receiver::default();
        let serving = receiver.clone().serve(scene.receiver);
        tasks.spawn(async move { drop(serving.await) });
        let primary = PrimaryProcess::default();
        let bell = UnixListener::bind(scene.bell()).map_err(|error| format!("the demo's bell: {error}"))?;
        tasks.spawn(answer_bell(bell, Arc::clone(&scene), Arc::clone(&primary)));
        start_primary(&scene, &primary).await?;
        let watch = Watch::new(&scene.control(), began_at)?;
        let robot = Part::Robot.start(&scene.config(), &scene.log("robot"))?;
        let phones = Phones::default();
        for phone in Phone::all(&scene, &phones) {
            tasks.spawn(phone.live());
        }
        Ok(Self {
            began,
            began_at,
            tell,
            primary,
            _robot: robot,
            _tasks: tasks,
            provider: provider.handle(),
            _provider: provider,
            zone,
            phones,
            receiver,
            watch,
            seen: Seen::default(),
            scene,
        })
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    fn told(&self, who: &'static str, mood: Mood, what: impl Into<String>) -> Told {
        Told { at_ms: self.ms(Instant::now()), who, what: what.into(), mood }
    }

    fn tell(&mut self, told: Told) -> Result<(), String> {
        (self.tell)(told).map_err(|error| format!("nobody reads this any more: {error}"))
    }

    fn say(&mut self, who: &'static str, mood: Mood, what: impl Into<String>) -> Result<(), String> {
        let told = self.told(who, mood, what);
        self.tell(told)
    }

    async fn play(&mut self) -> Result<(), String> {
        let (primary, backup) = (self.scene.primary.ip(), self.scene.backup.ip());
        self.say("demo", Mood::Chapter, "all is well")?;
        let said = format!(
            "primary {} (web {}, SIP {}), backup {backup}, name server {}, provider {}",
            primary,
            self.scene.web.port(),
            self.scene.primary.port(),
            self.scene.dns,
            self.scene.provider
        );
        self.say("demo", Mood::Plain, said)?;
        self.until("the robot is armed, phones and trunk are at the primary", READY_MAX, |stage| {
            let armed =
                stage.watch.pair.as_ref().is_some_and(|pair| pair.armed.ok && pair.verdict == Verdict::PrimaryUp);
            armed && stage.all_phones_at(primary) && stage.trunk_is_at(primary) && stage.dns_says(primary)
        })
        .await?;
        self.say("robot", Mood::Good, "armed: it would take over now")?;

        self.say("demo", Mood::Chapter, "the primary dies")?;
        self.kill_primary()?;
        self.until("the backup serves", TAKEOVER_MAX, |stage| stage.state() == Some(State::Active)).await?;
        self.until("each step, each phone, the trunk, DNS and the ActionURL", TAKEOVER_MAX, |stage| {
            stage.plan_is_over(PlanKind::Takeover)
                && stage.all_phones_at(backup)
                && stage.trunk_is_at(backup)
                && stage.dns_says(backup)
                && stage.was_told("/update?", &backup.to_string())
                && stage.was_told("/page", "")
        })
        .await?;
        self.steps_are_good(PlanKind::Takeover)?;
        let outage = self.outage()?;

        self.say("demo", Mood::Chapter, "a person gives the service back: pbx-failover failback")?;
        let command = Command::Failback { wait: false, cut_calls: false, undo: false };
        self.forget_trunk();
        let asked = Instant::now();
        match self.watch.client().post(&command, "the primary is repaired").await {
            Ok(Reply::Accepted(_)) => {}
            Ok(Reply::Refused(why)) => return Err(format!("the failback was refused: {why}")),
            Err(error) => return Err(format!("the failback was not heard: {error}")),
        }
        self.until("the primary serves again, and all are at home", FAILBACK_MAX, |stage| {
            stage.state() == Some(State::Standby)
                && stage.plan_is_over(PlanKind::Failback)
                && stage.all_phones_at(primary)
                && stage.trunk_is_at(primary)
                && !stage.trunk_was_at(backup)
                && stage.dns_says(primary)
                && stage.was_told("/update?", &primary.to_string())
        })
        .await?;
        self.steps_are_good(PlanKind::Failback)?;
        if TcpStream::connect(self.scene.backup).await.is_ok() {
            return Err("the backup's PBX still listens after the failback".to_owned());
        }
        let home = self.last_phone().saturating_duration_since(asked);

        self.say("demo", Mood::Chapter, "summary")?;
        self.say("demo", Mood::Good, format!("takeover: {outage}"))?;
        self.say("demo", Mood::Good, format!("failback: last phone at home {} after it was asked for", seconds(home)))?;
        self.say("demo", Mood::Good, "DNS, ActionURL and trunk followed both ways; each step was proved")
    }

    /// Goes on telling, for whoever tries the other commands.
    async fn stay(&mut self) -> Result<(), String> {
        let config = self.scene.config().display().to_string();
        let pid = lock(&self.primary).as_ref().map(Process::id).unwrap_or_default();
        self.say("demo", Mood::Chapter, "it stays until you end it with Ctrl-C; try, in another terminal:")?;
        let exe = std::env::current_exe().map_or_else(|_| "pbx-failover".to_owned(), |exe| exe.display().to_string());
        for line in [
            format!("{exe} --config {config} status"),
            format!("{exe} --config {config} explain"),
            format!("kill -9 {pid}"),
            format!("{exe} --config {config} failback"),
        ] {
            self.say("demo", Mood::Command, line)?;
        }
        loop {
            self.look().await?;
            sleep(LOOK_EVERY).await;
        }
    }

    fn kill_primary(&mut self) -> Result<(), String> {
        let Some(process) = lock(&self.primary).take() else { return Err("there is no primary to kill".to_owned()) };
        let pid = process.id();
        self.forget_trunk();
        self.seen.killed_at = Some(Instant::now());
        drop(process);
        self.say("demo", Mood::Bad, format!("SIGKILL to the primary (process {pid}): web server and PBX are gone"))
    }

    /// Looks at everything until it is so, telling what changes.
    async fn until(&mut self, what: &str, limit: Duration, is_so: impl Fn(&Self) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        loop {
            self.look().await?;
            self.note_reached();
            if is_so(self) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("did not happen within {limit:?}: {what}"));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Looks at everything once, and tells what is new in the order in which it happened.
    async fn look(&mut self) -> Result<(), String> {
        let mut news = self.of_robot().await;
        news.extend(self.of_dns());
        news.extend(self.of_trunk().await);
        news.extend(self.of_phones());
        news.extend(self.of_receiver());
        news.sort_by_key(|told| told.at_ms);
        news.into_iter().try_for_each(|told| self.tell(told))
    }

    async fn of_robot(&mut self) -> Vec<Told> {
        let said = self.watch.look().await;
        let told = said.into_iter().map(|Said { at, mood, what }| {
            let since = at.and_then(|at| u64::try_from(at.duration_since(self.began_at).as_millis()).ok());
            Told { at_ms: since.unwrap_or_else(|| self.ms(Instant::now())), who: "robot", what, mood }
        });
        told.collect()
    }

    fn of_dns(&mut self) -> Option<Told> {
        let dns = lock(&self.zone).zone().texts(PBX_NAME, RecordType::A);
        let is_new = std::mem::replace(&mut self.seen.dns, dns) != self.seen.dns;
        is_new.then(|| self.told("dns", Mood::Good, format!("{PBX_NAME} is {}", self.named(&self.seen.dns.join(", ")))))
    }

    async fn of_trunk(&mut self) -> Option<Told> {
        let trunk = self.provider.bound(TRUNK_USER).await;
        if std::mem::replace(&mut self.seen.trunk, trunk) == self.seen.trunk {
            return None;
        }
        let contact = |(uri, call_id): &(String, String)| {
            let left = if self.seen.old_registrations.contains(call_id) { ", left over until it expires" } else { "" };
            format!("{}{left}", self.named(uri))
        };
        let contacts: Vec<_> = self.seen.trunk.iter().map(contact).collect();
        let said = if contacts.is_empty() { "nobody".to_owned() } else { contacts.join(" and ") };
        Some(self.told("trunk", Mood::Good, format!("the provider sends calls to {said}")))
    }

    /// Those that came to the same place since the last look are told together.
    fn of_phones(&mut self) -> Vec<Told> {
        let known = self.phones.known();
        let changed = |number: &usize| known[*number].at != self.seen.phones[*number];
        let mut changed: Vec<usize> = (0..known.len()).filter(changed).collect();
        changed.sort_by_key(|number| (known[*number].at, known[*number].since));
        let mut news = Vec::new();
        for group in changed.chunk_by(|one, other| known[*one].at == known[*other].at) {
            let names: Vec<_> = group.iter().map(|number| PHONES[*number]).collect();
            let last = group.last().and_then(|number| known[*number].since);
            let (mood, what) = match known[group[0]].at {
                Some(at) => (Mood::Good, format!("{} registered at {}", names.join(" "), self.named(&at.to_string()))),
                None => (Mood::Bad, format!("{} reach nobody", names.join(" "))),
            };
            news.push(Told { at_ms: self.ms(last.unwrap_or(self.began)), who: "phone", what, mood });
        }
        self.seen.phones = known.map(|phone| phone.at);
        news
    }

    fn of_receiver(&mut self) -> Vec<Told> {
        let mut news = Vec::new();
        for Received { line, body, at } in self.receiver.since(self.seen.received.len()) {
            let who = if line.contains("/page") { "pager" } else { "url" };
            let what = format!("{line} {body}");
            self.seen.received.push(what.clone());
            news.push(Told { at_ms: self.ms(at), who, what, mood: Mood::Good });
        }
        news
    }

    /// An address, or what holds one, with the name of its host behind.
    fn named(&self, text: &str) -> String {
        let is = |address: IpAddr| text.contains(&address.to_string());
        let name = match (is(self.scene.primary.ip()), is(self.scene.backup.ip())) {
            (true, _) => " (the primary)",
            (_, true) => " (the backup)",
            _ => "",
        };
        format!("{text}{name}")
    }

    fn state(&self) -> Option<State> {
        self.watch.pair.as_ref().map(|pair| pair.state)
    }

    fn all_phones_at(&self, address: IpAddr) -> bool {
        self.seen.phones.iter().all(|at| *at == Some(address))
    }

    /// Whether the provider holds a contact there that was made since the last blow.
    fn trunk_is_at(&self, address: IpAddr) -> bool {
        let is_new = |call_id: &String| !self.seen.old_registrations.contains(call_id);
        self.seen.trunk.iter().any(|(uri, call_id)| uri.contains(&format!("@{address}:")) && is_new(call_id))
    }

    fn trunk_was_at(&self, address: IpAddr) -> bool {
        self.seen.trunk.iter().any(|(uri, _)| uri.contains(&format!("@{address}:")))
    }

    /// From now on only new registrations of the trunk count.
    fn forget_trunk(&mut self) {
        let held = self.seen.trunk.iter().map(|(_, call_id)| call_id.clone());
        self.seen.old_registrations.extend(held);
    }

    fn dns_says(&self, address: IpAddr) -> bool {
        self.seen.dns == [address.to_string()]
    }

    fn was_told(&self, target: &str, what: &str) -> bool {
        self.seen.received.iter().any(|line| line.contains(target) && line.contains(what))
    }

    fn plan_is_over(&self, kind: PlanKind) -> bool {
        let plan = self.watch.pair.as_ref().and_then(|pair| pair.plan.as_ref()).filter(|plan| plan.name == kind);
        plan.is_some_and(|plan| {
            plan.steps.iter().all(|step| !matches!(step.state, StepState::Pending | StepState::Running))
        })
    }

    fn steps_are_good(&self, kind: PlanKind) -> Result<(), String> {
        let plan = self.watch.pair.as_ref().and_then(|pair| pair.plan.as_ref()).filter(|plan| plan.name == kind);
        let steps = plan.map(|plan| plan.steps.as_slice()).unwrap_or_default();
        match steps.iter().find(|step| !matches!(step.state, StepState::Done | StepState::Skipped)) {
            Some(step) => Err(format!("the step {} of the {kind} is {}", step.name, step.state.name())),
            None => Ok(()),
        }
    }

    fn last_phone(&self) -> Instant {
        self.phones.known().iter().filter_map(|phone| phone.since).max().unwrap_or(self.began)
    }

    /// Notes when each thing that a takeover is for was seen first.
    fn note_reached(&mut self) {
        let (Some(killed_at), backup) = (self.seen.killed_at, self.scene.backup.ip()) else { return };
        let phones = self.seen.phones.iter().filter(|at| **at == Some(backup)).count();
        let is_dead = self.watch.pair.as_ref().is_some_and(|pair| pair.verdict == Verdict::PrimaryDead);
        let is_so = [
            is_dead,
            self.state() == Some(State::Active),
            self.dns_says(backup),
            self.was_told("/update?", &backup.to_string()),
            self.trunk_is_at(backup),
            phones > 0,
            phones == PHONES.len(),
        ];
        for (reached, is_so) in self.seen.reached.iter_mut().zip(is_so) {
            if is_so && reached.is_none() {
                *reached = Some(killed_at.elapsed());
            }
        }
    }

    /// The outage as the phones saw it, and what led to its end.
    fn outage(&self) -> Result<String, String> {
        let mut told = Vec::new();
        for (what, reached) in MOMENTS.iter().zip(self.seen.reached) {
            let after = reached.ok_or_else(|| format!("it was not seen when it came to this: {what}"))?;
            told.push(format!("{what} {}", seconds(after)));
        }
        let last = self.seen.reached.last().copied().flatten().unwrap_or_default();
        Ok(format!("without telephone for {}; after the kill: {}", seconds(last), told.join(", ")))
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the primary, and waits until it serves.
async fn start_primary(scene: &Scene, primary: &PrimaryProcess) -> Result<(), String> {
    let process = Part::Primary.start(&scene.primary_file(), &scene.log("primary"))?;
    *lock(primary) = Some(process);
    let serves = async |address: SocketAddr| {
        while TcpStream::connect(address).await.is_err() {
            sleep(LOOK_EVERY).await;
        }
    };
    let both = async {
        serves(scene.web).await;
        serves(scene.primary).await;
    };
    timeout(READY_MAX, both).await.map_err(|_| {
        let log = std::fs::read_to_string(scene.log("primary")).unwrap_or_default();
        format!("the primary does not serve within {READY_MAX:?}: {log}")
    })
}

/// The robot's own command `failback.start_primary` rings here.
async fn answer_bell(bell: UnixListener, scene: Arc<Scene>, primary: PrimaryProcess) {
    while let Ok((mut ringing, _)) = bell.accept().await {
        let answer = match start_primary(&scene, &primary).await {
            Ok(()) => "started".to_owned(),
            Err(why) => why,
        };
        let _ = tokio::io::AsyncWriteExt::write_all(&mut ringing, answer.as_bytes()).await;
    }
}
