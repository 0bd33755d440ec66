//! The survival PBX as a running thing: its thread, its sockets, its accounts and what it keeps on disk.
//!
//! It listens from [`Service::start`] to [`Service::stop`] and at no other time. Orders reach it through a channel; its
//! thread is its own, so that neither the robot's decisions nor the phones wait for each other.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, LocalSet, spawn_blocking, spawn_local};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;

use super::accounts::{self, Broken, Loaded};
use super::keep::Keeper;
use super::registrar::Limits;
use super::sockets::{Datagrams, Exchange};
use super::switchboard::{Counts, Setting, Switchboard};
use crate::config::{Builtin, SipTransport};
use crate::host::{clock, tls};
use crate::units::TrunkStatus;

/// How often the accounts' files are looked at, and how long a change must have settled.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often changed bindings are written.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// Orders that wait.
const ORDERS_MAX: usize = 16;
/// How long trunks may take to be given up.
pub const RELEASE_LIMIT: Duration = Duration::from_secs(5);
/// How often a wait looks again.
const PAUSE: Duration = Duration::from_millis(50);
/// Room for datagrams that wait: a storm of phones comes faster than it is served. The system may allow less.
const SOCKET_BUFFER_BYTES: usize = 8 << 20;
/// Connections that wait to be taken: phones come all at once. The system may allow less.
const BACKLOG: u32 = 4096;

/// What it needs to begin.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The driver's settings.
    pub settings: Builtin,
    /// The accounts' file.
    pub accounts: PathBuf,
    /// Where bindings are kept.
    pub keep: PathBuf,
    /// The address that providers and phones know this host by.
    pub reachable: IpAddr,
    /// How long after its start no failed password counts.
    pub grace: Duration,
}

/// What it tells of itself.
#[derive(Debug, Clone)]
pub struct View {
    /// Accounts that can register.
    pub phones: usize,
    /// Contacts that are registered.
    pub registrations: usize,
    /// The trunks with what happened to each last.
    pub trunks: Vec<(TrunkStatus, String)>,
    /// What came so far.
    pub counts: Counts,
    /// Sources that are not listened to now.
    pub blocked: usize,
    /// Why the accounts in use are not those on disk.
    pub trouble: Option<String>,
}

#[derive(Debug)]
enum Order {
    View(oneshot::Sender<View>),
    RegisterTrunks,
    ReleaseTrunks(oneshot::Sender<Result<(), String>>),
    Bound(String, oneshot::Sender<Vec<(String, String)>>),
    Stop,
}

/// A running survival PBX.
#[derive(Debug)]
pub struct Service {
    handle: Handle,
    /// There until it is stopped.
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A way to speak to a running survival PBX.
#[derive(Debug, Clone)]
pub struct Handle {
    orders: mpsc::Sender<Order>,
}

impl Service {
    /// Listens, loads the accounts, remembers the bindings.
    ///
    /// # Errors
    /// One line: what it cannot listen at or read, and what to do.
    pub async fn start(plan: Plan) -> Result<Self, String> {
        let (orders, heard) = mpsc::channel(ORDERS_MAX);
        let (started, outcome) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("builtin".to_owned())
            .spawn(move || live(plan, started, heard))
            .map_err(|e| format!("no thread for the built-in PBX: {e}"))?;
        outcome.await.unwrap_or_else(|_| Err("the built-in PBX ended at its start".to_owned()))?;
        Ok(Self { handle: Handle { orders }, thread: Some(thread) })
    }

    /// A way to speak to it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops it; when this returns, nothing listens any more.
    pub async fn stop(mut self) {
        let _ = self.handle.orders.send(Order::Stop).await;
        let thread = self.thread.take();
        let _ = spawn_blocking(move || thread.map(std::thread::JoinHandle::join)).await;
    }
}

/// One that nobody stopped ends all the same, and has written what it keeps when it is gone.
impl Drop for Service {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take()
            && self.handle.orders.try_send(Order::Stop).is_ok()
        {
            let _ = thread.join();
        }
    }
}

impl Handle {
    /// What it tells; `None` when it has ended.
    pub async fn view(&self) -> Option<View> {
        let (answer, view) = oneshot::channel();
        self.orders.send(Order::View(answer)).await.ok()?;
        view.await.ok()
    }

    /// The contacts of an address of record.
    pub async fn contacts(&self, record: &str) -> Vec<String> {
        self.bound(record).await.into_iter().map(|(contact, _)| contact).collect()
    }

    /// The contacts of an address of record, each with the Call-ID of the registration that bound it.
    pub async fn bound(&self, record: &str) -> Vec<(String, String)> {
        let (answer, contacts) = oneshot::channel();
        let _ = self.orders.send(Order::Bound(record.to_owned(), answer)).await;
        contacts.await.unwrap_or_default()
    }

    /// Begins to register its trunks.
    pub async fn register_trunks(&self) {
        let _ = self.orders.send(Order::RegisterTrunks).await;
    }

    /// Gives the trunks up.
    ///
    /// # Errors
    /// Which provider may still hold our contact, and why.
    pub async fn release_trunks(&self) -> Result<(), String> {
        let (answer, outcome) = oneshot::channel();
        let _ = self.orders.send(Order::ReleaseTrunks(answer)).await;
        outcome.await.unwrap_or_else(|_| Err("the built-in PBX ended meanwhile".to_owned()))
    }
}

fn live(plan: Plan, started: oneshot::Sender<Result<(), String>>, orders: mpsc::Receiver<Order>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(format!("the system gives no event queue: {error}")))),
    };
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        match Living::begin(plan).await {
            Ok(living) => {
                // Nobody waits any more when the start was given up.
                if started.send(Ok(())).is_ok() {
                    living.serve(orders).await;
                }
            }
            Err(why) => drop(started.send(Err(why))),
        }
    });
    // The sockets first; then a name that is still looked up is not waited for: the system may take half a minute.
    drop(local);
    runtime.shutdown_background();
}

struct Living {
    plan: Plan,
    exchange: Rc<Exchange>,
    keeper: Keeper,
    loaded: Arc<Loaded>,
    /// The files as they were read last, whether they were taken or not.
    read: Vec<accounts::Watched>,
    trouble: Option<String>,
    changing: Changing,
    /// Each reads a socket or keeps time, for ever.
    tasks: JoinSet<()>,
}

/// Whether a change of the files was seen that may not be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changing {
    No,
    /// Seen at the last look. A sync tool may take a file away for a moment, so it is read at the next.
    Seen,
}

impl Living {
    async fn begin(plan: Plan) -> Result<Self, String> {
        let path = plan.accounts.clone();
        let loaded = spawn_blocking(move || accounts::load(&path, None));
        let loaded = loaded.await.map_err(|_| "reading the accounts ended badly".to_owned())?;
        let (loaded, trouble) = match loaded {
            Ok(loaded) => (loaded, None),
            // Nothing is there that it could be compared with: some phones are better than none.
            Err(broken) => {
                let why = broken.to_string();
                tracing::warn!(why, "the accounts look broken; what could be read is served");
                (broken.rest, Some(why))
            }
        };
        if loaded.accounts.phones().is_empty() {
            let why = trouble.unwrap_or_else(|| "no endpoint with auth and aors is in it".to_owned());
            let key = "pbx.driver.builtin.accounts";
            return Err(format!("{} has no phone: {why}; correct the file, or {key}", plan.accounts.display()));
        }
        let loaded = Arc::new(loaded);
        let mut datagrams = Vec::new();
        let mut listeners = Vec::new();
        let tls = plan.settings.tls.as_ref().map(acceptor).transpose()?;
        for listen in &plan.settings.listen {
            match listen.transport {
                SipTransport::Udp => datagrams.push(udp(listen.address)?),
                SipTransport::Tcp => listeners.push((tcp(listen.address)?, None)),
                SipTransport::Tls => listeners.push((tcp(listen.address)?, tls.clone())),
            }
        }
        let locals: Vec<SocketAddr> = datagrams.iter().filter_map(|socket| socket.local_addr().ok()).collect();
        let now = clock::now();
        let of_family = |peer: SocketAddr| locals.iter().position(|local| local.is_ipv4() == peer.is_ipv4());
        let (keeper, bindings) = Keeper::open(plan.keep.clone(), now, plan.settings.max_expires, of_family);
        let setting = Setting {
            limits: Limits { min: plan.settings.min_expires, max: plan.settings.max_expires },
            realm: plan.settings.realm.clone(),
            reachable: plan
                .settings
                .listen
                .iter()
                .map(|listen| {
                    (listen.transport, SocketAddr::new(own(plan.reachable, listen.address), listen.address.port()))
                })
                .collect(),
            datagrams: locals.into_iter().enumerate().collect(),
            seed: seed()?,
            grace: plan.grace,
        };
        let mut board = Switchboard::new(setting, Arc::clone(&loaded), now.boot);
        board.registrar().bindings = bindings;
        let exchange = Exchange::new(board, datagrams);
        let mut tasks = JoinSet::new();
        exchange.read_datagrams(&mut tasks);
        tasks.spawn_local(Rc::clone(&exchange).keep_time());
        for (listener, tls) in listeners {
            tasks.spawn_local(Rc::clone(&exchange).accept(listener, tls));
        }
        tracing::info!(phones = loaded.accounts.phones().len(), "the built-in PBX listens");
        let read = loaded.files.clone();
        Ok(Self { plan, exchange, keeper, loaded, read, trouble, changing: Changing::No, tasks })
    }

    async fn serve(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut look_at = Instant::now() + LOOK_EVERY;
        let mut keep_at = Instant::now() + KEEP_EVERY;
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::View(answer)) => drop(answer.send(self.view())),
                    Some(Order::RegisterTrunks) => self.exchange.with(|board, now| ((), board.register_trunks(now))),
                    Some(Order::Bound(record, answer)) => drop(answer.send(self.bound(&record))),
                    Some(Order::ReleaseTrunks(answer)) => drop(spawn_local(release(Rc::clone(&self.exchange), answer))),
                    Some(Order::Stop) | None => break,
                },
                Some(_) = self.tasks.join_next() => {
                    // Better nobody than somebody who looks alive and hears only half of the phones.
                    tracing::error!("a part of the built-in PBX ended by a mistake of ours; all of it ends");
                    break;
                }
                () = tokio::time::sleep_until(look_at) => {
                    self.look().await;
                    look_at = Instant::now() + LOOK_EVERY;
                }
                () = tokio::time::sleep_until(keep_at) => {
                    self.keep().await;
                    keep_at = Instant::now() + KEEP_EVERY;
                }
            }
        }
        self.keep().await;
        tracing::info!("the built-in PBX no longer listens");
    }

    fn bound(&self, record: &str) -> Vec<(String, String)> {
        self.exchange.with(|board, now| {
            let bound = board.registrar().bindings.of(record, now);
            let contacts = bound.map(|binding| (binding.uri.to_string(), binding.call_id.to_string())).collect();
            (contacts, Vec::new())
        })
    }

    fn view(&self) -> View {
        let trouble = self.trouble.clone();
        self.exchange.with(|board, now| {
            let trunks = board.trunks().map(|trunk| (trunk.status(now), trunk.said().to_owned())).collect();
            let view = View {
                phones: self.loaded.accounts.phones().len(),
                registrations: board.registrations(),
                trunks,
                counts: board.counts(),
                blocked: board.blocked(now),
                trouble,
            };
            (view, Vec::new())
        })
    }

    /// Takes changed accounts, once they have settled; broken ones leave those in use.
    async fn look(&mut self) {
        let (path, read, before) = (self.plan.accounts.clone(), self.read.clone(), Arc::clone(&self.loaded));
        if !spawn_blocking(move || accounts::changed(&read)).await.unwrap_or(false) {
            return;
        }
        if self.changing == Changing::No {
            self.changing = Changing::Seen;
            return;
        }
        self.changing = Changing::No;
        let Ok(outcome) = spawn_blocking(move || accounts::load(&path, Some(&before))).await else { return };
        match outcome {
            Ok(loaded) => {
                tracing::info!(phones = loaded.accounts.phones().len(), "the accounts changed and were read");
                self.read.clone_from(&loaded.files);
                self.trouble = None;
                self.loaded = Arc::new(loaded);
                let accounts = Arc::clone(&self.loaded);
                self.exchange.with(|board, now| ((), board.load(accounts, now)));
            }
            Err(broken) => {
                let why = broken.to_string();
                if self.trouble.as_ref() != Some(&why) {
                    tracing::warn!(why, "the accounts look broken; those in use stay");
                }
                let Broken { rest } = *broken;
                (self.read, self.trouble) = (rest.files, Some(why));
            }
        }
    }

    async fn keep(&mut self) {
        let changed = self.exchange.take_changed();
        if changed.is_empty() {
            return;
        }
        let now = clock::now();
        let keeper = &mut self.keeper;
        let change =
            self.exchange.with(|board, _| (keeper.changes(&board.registrar().bindings, changed, now), Vec::new()));
        if let Ok(Err(error)) = spawn_blocking(move || change.write()).await {
            tracing::warn!(%error, "where phones are registered cannot be written; they come back by themselves");
        }
    }
}

async fn release(exchange: Rc<Exchange>, answer: oneshot::Sender<Result<(), String>>) {
    let deadline = Instant::now() + RELEASE_LIMIT;
    exchange.with(|board, now| ((), board.release_trunks(now)));
    loop {
        let held: Vec<String> = exchange.with(|board, now| {
            let held = board.trunks().filter_map(|trunk| match trunk.released(now) {
                Some(Ok(())) => None,
                Some(Err(why)) => Some(format!("{}: {why}", trunk.account().name)),
                None => Some(format!("{}: its provider does not answer", trunk.account().name)),
            });
            (held.collect(), Vec::new())
        });
        let over = exchange.with(|board, now| (board.trunks().all(|trunk| trunk.released(now).is_some()), Vec::new()));
        if over || Instant::now() >= deadline {
            return drop(answer.send(if held.is_empty() { Ok(()) } else { Err(held.join("; ")) }));
        }
        sleep(PAUSE).await;
    }
}

/// Whether all of these places are free: each is taken for a moment.
///
/// # Errors
/// One line: which is not, and what to do.
pub fn can_listen(settings: &Builtin) -> Result<(), String> {
    for listen in &settings.listen {
        match listen.transport {
            SipTransport::Udp => drop(udp(listen.address)?),
            SipTransport::Tcp | SipTransport::Tls => drop(tcp(listen.address)?),
        }
    }
    settings.tls.as_ref().map_or(Ok(()), |files| acceptor(files).map(drop))
}

/// The address of ours that others know: what we listen at, unless that is every address.
fn own(reachable: IpAddr, listen: SocketAddr) -> IpAddr {
    if listen.ip().is_unspecified() { reachable } else { listen.ip() }
}

fn trouble(what: &str, address: SocketAddr, error: &std::io::Error) -> String {
    let advice = match error.kind() {
        std::io::ErrorKind::AddrInUse => "stop what listens there, or change pbx.driver.builtin.listen",
        std::io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
        std::io::ErrorKind::AddrNotAvailable => "this host has no such address: change pbx.driver.builtin.listen",
        _ => "see pbx.driver.builtin.listen",
    };
    format!("cannot listen at {what}://{address}: {error}; {advice}")
}

fn udp(address: SocketAddr) -> Result<Datagrams, String> {
    let bind = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
        keep_to_family(&socket, address)?;
        rustix::net::bind(&socket, &address)?;
        // What the system does not give is not needed.
        let _ = sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES);
        Datagrams::new(UdpSocket::from_std(socket.into())?)
    };
    bind().map_err(|error: io::Error| trouble("udp", address, &error))
}

fn tcp(address: SocketAddr) -> Result<TcpListener, String> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        keep_to_family(&socket, address)?;
        // Connections of the time before a restart do not hold the port.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|error: io::Error| trouble("tcp", address, &error))
}

/// `[::]` is every IPv6 address and no IPv4 address: both kinds can be listened at beside each other, and an IPv4 phone
/// is known by its own address.
fn keep_to_family(socket: impl AsFd, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(socket, true)?;
    }
    Ok(())
}

fn acceptor(files: &crate::config::CertificateFiles) -> Result<TlsAcceptor, String> {
    tls::server("pbx.driver.builtin.tls", files).map(TlsAcceptor::from)
}

fn seed() -> Result<[u8; 32], String> {
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(seed)
}
