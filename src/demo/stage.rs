//! The world of the demo while it runs: its parts, and what was last seen of each.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::rr::RecordType;
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::dns::{Authority, Server, Zone};
use super::parts::{self, Part, Process};
use super::phones::{Phone, Phones};
use super::receiver::{Received, Receiver};
use super::scene::{PBX_NAME, PHONES, Scene, TRUNK_USER, ZONE};
use super::watch::{Said, Watch};
use super::{Mood, Told};
use crate::adapters::dns::wire;
use crate::adapters::pbx::builtin::{Handle, Service};
use crate::units::snapshot::Plan;
use crate::units::{PlanKind, State, StepState, Verdict};

/// How often everything is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long processes and phones may take to get ready.
pub const READY_MAX: Duration = Duration::from_secs(10);

/// The primary's process, which is killed and started again.
type PrimaryProcess = Arc<Mutex<Option<Process>>>;

/// Everything that stands for the world, and what was seen of it.
pub struct Stage {
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
    /// The robot's own words.
    pub watch: Watch,
    seen: Seen,
    /// The last, because its folder goes with it.
    pub scene: Arc<Scene>,
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
}

impl Stage {
    /// Starts all parts, the robot last but for the phones.
    ///
    /// # Errors
    /// What cannot be started, and why.
    pub async fn build(scene: Arc<Scene>) -> Result<Self, String> {
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

    /// Something that is so now.
    pub fn told(&self, who: &'static str, mood: Mood, what: impl Into<String>) -> Told {
        Told { at_ms: self.ms(Instant::now()), who, what: what.into(), mood }
    }

    /// Looks at everything once; gives what is new in the order in which it happened.
    pub async fn look(&mut self) -> Vec<Told> {
        let mut news = self.of_robot().await;
        news.extend(self.of_dns());
        news.extend(self.of_trunk().await);
        news.extend(self.of_phones());
        news.extend(self.of_receiver());
        news.sort_by_key(|told| told.at_ms);
        news
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

    /// The robot's state.
    pub fn state(&self) -> Option<State> {
        self.watch.pair.as_ref().map(|pair| pair.state)
    }

    /// What the robot thinks of the primary.
    pub fn verdict(&self) -> Option<Verdict> {
        self.watch.pair.as_ref().and_then(|pair| pair.verdict)
    }

    /// Whether the robot would take over.
    pub fn is_armed(&self) -> bool {
        self.watch.pair.as_ref().is_some_and(|pair| pair.armed.as_ref().is_some_and(|armed| armed.ok))
    }

    /// Whether every phone is registered there.
    pub fn all_phones_at(&self, address: IpAddr) -> bool {
        self.phones_at(address) == PHONES.len()
    }

    /// Whether the provider holds a contact there that was made since the last blow.
    pub fn trunk_is_at(&self, address: IpAddr) -> bool {
        let is_new = |call_id: &String| !self.seen.old_registrations.contains(call_id);
        self.seen.trunk.iter().any(|(uri, call_id)| uri.contains(&format!("@{address}:")) && is_new(call_id))
    }

    /// Whether the provider holds a contact there, however old.
    pub fn trunk_was_at(&self, address: IpAddr) -> bool {
        self.seen.trunk.iter().any(|(uri, _)| uri.contains(&format!("@{address}:")))
    }

    /// From now on only new registrations of the trunk count.
    pub fn forget_trunk(&mut self) {
        let held = self.seen.trunk.iter().map(|(_, call_id)| call_id.clone());
        self.seen.old_registrations.extend(held);
    }

    /// Whether the name of the PBX leads there and nowhere else.
    pub fn dns_says(&self, address: IpAddr) -> bool {
        self.seen.dns == [address.to_string()]
    }

    /// Whether an `ActionURL` with both pieces of text came.
    pub fn was_told(&self, target: &str, what: &str) -> bool {
        self.seen.received.iter().any(|line| line.contains(target) && line.contains(what))
    }

    /// How many phones are registered there.
    pub fn phones_at(&self, address: IpAddr) -> usize {
        self.seen.phones.iter().filter(|at| **at == Some(address)).count()
    }

    /// The plan of this kind, if it is the one that the robot shows.
    pub fn plan(&self, kind: PlanKind) -> Option<&Plan> {
        self.watch.pair.as_ref()?.plan.as_ref().filter(|plan| plan.name == kind)
    }

    /// Whether no step of that plan is still to come.
    pub fn plan_is_over(&self, kind: PlanKind) -> bool {
        let is_over = |state| !matches!(state, StepState::Pending | StepState::Running);
        self.plan(kind).is_some_and(|plan| plan.steps.iter().all(|step| is_over(step.state)))
    }

    /// The primary's process, while it runs.
    pub fn primary_id(&self) -> Option<u32> {
        lock(&self.primary).as_ref().map(Process::id)
    }

    /// Ends the primary at once; gives its process.
    pub fn kill_primary(&mut self) -> Option<u32> {
        self.forget_trunk();
        let process = lock(&self.primary).take()?;
        let id = process.id();
        drop(process);
        Some(id)
    }

    /// When the last phone registered where it is.
    pub fn last_phone(&self) -> Instant {
        self.phones.known().iter().filter_map(|phone| phone.since).max().unwrap_or(self.began)
    }
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
