//! The checked configuration: what every other layer reads.
//!
//! Values of these types come from the loader only, which has already refused what cannot be (parse,
//! don't validate). Field names follow failover.yaml.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::asterisk::Asterisk;
use super::failback::ReturnTo;
use super::freeswitch::Freeswitch;
use super::kamailio::Kamailio;
use super::partners::{Agent, Fence, Peer, Witness};
use super::sync::Sync;
use super::trunk::Trunk;
pub use crate::units::policy::{DownWhen, HalfDead, SiteCut};
use crate::units::{CheckName, EventName, NodeName, Side};

/// The whole file.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it was read from.
    pub path: PathBuf,
    /// Its text, verbatim: frozen into a plan's journal. It may hold plain secrets: never print it.
    pub text: SourceText,
    /// This host's own name.
    pub node: NodeName,
    /// What this host does.
    pub role: Role,
    /// Which side this host is; an observer sees the primary as the backup does.
    pub side: Side,
    /// The primary.
    pub primary: Host,
    /// The backup.
    pub backup: Host,
    /// How the primary is watched.
    pub monitor: Monitor,
    /// Is the rest of the world there?
    pub internet: Internet,
    /// Who else sees the primary, or its site.
    pub witness: Witness,
    /// When to take over.
    pub takeover: Takeover,
    /// Who may serve.
    pub epoch: Epoch,
    /// How the primary is cut off.
    pub fence: Option<Fence>,
    /// The PBX on this node.
    pub pbx: Pbx,
    /// The synced directory.
    pub sync: Sync,
    /// The records that move.
    pub dns: Dns,
    /// The ActionURLs, in order.
    pub action_urls: Vec<ActionUrl>,
    /// Who is told.
    pub notify: Notify,
    /// What the primary's agent does.
    pub agent: Agent,
    /// Where the primary's agent is asked.
    pub peer: Option<Peer>,
    /// How service is given back.
    pub failback: Failback,
    /// Where the robot keeps its memory.
    pub state_dir: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// Where the read-only HTTP side listens; `None`: off.
    pub page: Option<SocketAddr>,
}

impl Config {
    /// The host of one side.
    pub fn host(&self, side: Side) -> &Host {
        match side {
            Side::Primary => &self.primary,
            Side::Backup => &self.backup,
        }
    }

    /// The marker file that says that this node serves: beside the control socket, on a file system that a reboot
    /// empties (`/run/pbx-failover/active` by default).
    pub fn marker(&self) -> PathBuf {
        self.control.with_file_name("active")
    }
}

/// What this host does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The robot: it watches the primary and takes over.
    Backup,
    /// The agent: it watches the epoch and steps down.
    Primary,
    /// It watches the primary from elsewhere, and tells its view.
    Observer,
}

impl Role {
    /// The name used in the configuration and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Primary => "primary",
            Self::Observer => "observer",
        }
    }
}

/// The file's text; its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceText(pub String);

impl fmt::Debug for SourceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

/// One of the two hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub node: NodeName,
    /// Its public addresses, at least one; the first is the one that is asked.
    pub addresses: Vec<IpAddr>,
    /// Where it listens, when NAT hides the public address.
    pub listen_address: Option<IpAddr>,
}

impl Host {
    /// Whether this is one of its addresses.
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address) || self.listen_address == Some(address)
    }

    /// The address that is asked.
    pub fn address(&self) -> IpAddr {
        self.addresses[0]
    }

    /// The address that its PBX listens at.
    pub fn listen(&self) -> IpAddr {
        self.listen_address.unwrap_or_else(|| self.address())
    }
}

/// A secret, where it lies: read at the moment of use, so that it can be changed without a restart.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// A file; trailing line ends are cut.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A systemd credential: a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// In the configuration itself.
    Plain(PlainSecret),
}

/// A secret's text; its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct PlainSecret(pub String);

impl fmt::Debug for PlainSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Credential(name) => write!(f, "credential {name}"),
            Self::Plain(_) => f.write_str("[secret]"),
        }
    }
}

/// How the primary is watched.
#[derive(Debug, Clone)]
pub struct Monitor {
    /// One failing vote, or all of them?
    pub down_when: DownWhen,
    /// What half a primary leads to.
    pub half_dead: HalfDead,
    /// What a silent site leads to.
    pub site_cut: SiteCut,
    /// The pause after a failing check's end.
    pub fast_interval: Duration,
    /// The checks, in the file's order; at least one votes.
    pub checks: Vec<Check>,
}

/// One check of the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: CheckName,
    /// What it asks.
    pub target: CheckTarget,
    /// From start to start while all is well.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Failures in a row that flip it to down.
    pub fall: NonZeroU32,
    /// Successes in a row that flip it to up.
    pub rise: NonZeroU32,
}

/// What a check asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckTarget {
    /// A web server, connected to at the primary's address under the URL's host name.
    Http {
        /// `http` or `https`.
        url: String,
        /// Good status codes.
        expect_status: RangeInclusive<u16>,
        /// A text that the body must hold; empty: any.
        expect_body: String,
        /// An own CA (PEM), beside the system's.
        ca_file: Option<PathBuf>,
    },
    /// SIP OPTIONS, sent to the primary's address.
    Sip {
        /// The host in the request URI.
        host: String,
        /// The port.
        port: u16,
        /// How it travels.
        transport: SipTransport,
        /// Further final codes that count as alive.
        alive: Vec<u16>,
    },
    /// A TCP connection to the primary's address.
    Tcp {
        /// The port.
        port: u16,
    },
    /// The heartbeat file's age.
    Heartbeat {
        /// The file.
        file: PathBuf,
        /// Older is stale.
        max_age: Duration,
    },
}

/// How SIP travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SipTransport {
    /// Datagrams, with retransmission (RFC 3261 §17).
    Udp,
    /// A stream.
    Tcp,
    /// A stream under TLS.
    Tls,
}

impl fmt::Display for SipTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        })
    }
}

/// The Internet quorum.
#[derive(Debug, Clone)]
pub struct Internet {
    /// How many must answer.
    pub need: NonZeroU32,
    /// Whom to ask; at least `need`.
    pub targets: Vec<InternetTarget>,
    /// From start to start.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// One Internet target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternetTarget {
    /// As written in the file.
    pub name: String,
    /// How it is asked.
    pub kind: InternetKind,
}

/// How an Internet target is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InternetKind {
    /// TLS handshake with a certificate that is checked, against the host or address written.
    Tls {
        /// Host or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A TCP connection.
    Tcp {
        /// Host or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A DNS question (`. NS`), any answer.
    Dns {
        /// Host or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// An HTTP(S) request, any answer below 500.
    Http {
        /// The URL.
        url: String,
    },
}

/// When to take over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    /// Act, or alert only.
    pub automatic: bool,
    /// Believe a bad verdict for so long before acting.
    pub hold_down: Duration,
    /// No takeover so soon after the robot's own start.
    pub startup_grace: Duration,
    /// No takeover so soon after the service was given back.
    pub hold_off: Duration,
}

/// Who may serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Epoch {
    /// A file on this node: no protection against a second server.
    Local,
    /// A TXT record in a zone that takes updates.
    Dns {
        /// The record's name, lower case, without the final dot.
        record: String,
        /// Index into `dns.updates` of the zone that holds it.
        update: usize,
    },
}

/// The PBX on this node.
#[derive(Debug, Clone)]
pub struct Pbx {
    /// The synced directories, at least one.
    pub working_dirs: Vec<PathBuf>,
    /// Run before `reload`; empty: nothing.
    pub before_reload: Vec<String>,
    /// Stop trying after so long, when the primary could serve.
    pub give_up_after: Duration,
    /// Which driver.
    pub driver: Driver,
    /// Our own registrar, asked after `accept_registrations`.
    pub probe: SipProbe,
    /// Certificates that it shows, beside those that its own settings name.
    pub certificates: Vec<PathBuf>,
    /// The trunks, in the file's order.
    pub trunks: Vec<Trunk>,
}

/// Where our own SIP request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SipProbe {
    /// Host or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How it travels.
    pub transport: SipTransport,
}

/// The driver of the PBX.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// Anything that runs as a unit: start is reload.
    Systemd {
        /// The unit.
        unit: String,
        /// How long its start may take.
        start_timeout: Duration,
    },
    /// One command per verb; an empty one is "nothing to do".
    Command(Box<CommandDriver>),
    /// The survival PBX inside the robot.
    Builtin(Box<Builtin>),
    /// Kamailio over JSON-RPC.
    Kamailio(Box<Kamailio>),
    /// Asterisk over AMI.
    Asterisk(Box<Asterisk>),
    /// FreeSWITCH over ESL.
    Freeswitch(Box<Freeswitch>),
}

/// The survival PBX inside the robot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builtin {
    /// Where it listens, at least one place.
    pub listen: Vec<Listen>,
    /// The accounts' file, as written: relative to the first working directory.
    pub accounts: PathBuf,
    /// The realm of accounts that name none; empty: that of the accounts' file.
    pub realm: String,
    /// The shortest registration.
    pub min_expires: Duration,
    /// The longest registration.
    pub max_expires: Duration,
    /// What it shows over TLS; there when it listens for TLS.
    pub tls: Option<CertificateFiles>,
}

/// One place to listen at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// How.
    pub transport: SipTransport,
    /// Address and port.
    pub address: SocketAddr,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, PEM.
    pub certificate: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
}

/// One command per verb, as argument lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandDriver {
    /// Stop serving.
    pub passive: Vec<String>,
    /// Run the working directory.
    pub reload: Vec<String>,
    /// Accept registrations.
    pub accept_registrations: Vec<String>,
    /// Register the trunks.
    pub register_trunks: Vec<String>,
    /// Print a status as JSON.
    pub status: Vec<String>,
    /// Exit 0 when no call is up.
    pub drain: Vec<String>,
    /// Give the trunks up.
    pub unregister_trunks: Vec<String>,
    /// Stop serving.
    pub stop_accepting: Vec<String>,
}

/// The records that move.
#[derive(Debug, Clone)]
pub struct Dns {
    /// Do they move at all?
    pub mode: DnsMode,
    /// One entry per zone and master.
    pub updates: Vec<DnsUpdate>,
}

/// Do the records move?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsMode {
    /// Replace their values.
    Replace,
    /// Static SRV records with both hosts; only the epoch record is written.
    StaticSrv,
    /// None.
    None,
}

/// One zone at its master.
#[derive(Debug, Clone)]
pub struct DnsUpdate {
    /// The master.
    pub server: SocketAddr,
    /// The zone, lower case, without the final dot.
    pub zone: String,
    /// The TSIG key.
    pub key: TsigKey,
    /// TTL of records that give none, seconds, never 0.
    pub ttl_s: NonZeroU32,
    /// What to do when a record is not what we last verified.
    pub if_changed: IfChanged,
    /// Servers to ask after an update; empty: every NS of the zone.
    pub verify: Vec<SocketAddr>,
    /// The RRsets, at most one of a name and type.
    pub records: Vec<DnsRecord>,
}

/// A TSIG key (RFC 8945).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TsigKey {
    /// Its name, which must match the server's exactly.
    pub name: String,
    /// Its algorithm.
    pub algorithm: TsigAlgorithm,
    /// Its secret, base64.
    pub secret: Secret,
}

/// A TSIG algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// HMAC-SHA-256.
    HmacSha256,
    /// HMAC-SHA-384.
    HmacSha384,
    /// HMAC-SHA-512.
    HmacSha512,
}

/// What to do when a record is not what we last verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfChanged {
    /// Leave it and say so.
    Stop,
    /// Overwrite it.
    Overwrite,
}

/// One RRset that moves. An empty list means that it does not exist while that side serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsRecord {
    /// Owner name, lower case, without the final dot.
    pub name: String,
    /// `A`, `AAAA`, `SRV`, `TXT`, `CNAME`.
    pub rtype: String,
    /// TTL, seconds.
    pub ttl_s: NonZeroU32,
    /// Values in presentation form while the primary serves.
    pub primary: Vec<String>,
    /// Values in presentation form while the backup serves.
    pub backup: Vec<String>,
}

impl DnsRecord {
    /// The values of one side.
    pub fn values(&self, side: Side) -> &[String] {
        match side {
            Side::Primary => &self.primary,
            Side::Backup => &self.backup,
        }
    }
}

/// One ActionURL, or a webhook: an HTTP request with templates in it.
///
/// Its `Debug` leaves out the URL's path and query, the headers' values and the body, which may hold tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct ActionUrl {
    /// Its name.
    pub name: String,
    /// When it fires.
    pub events: Vec<EventName>,
    /// The method.
    pub method: String,
    /// The URL, a template.
    pub url: String,
    /// Authentication.
    pub auth: Option<HttpAuth>,
    /// Additional headers; values are templates.
    pub headers: Vec<(String, String)>,
    /// How the body is written.
    pub encoding: Encoding,
    /// The body.
    pub body: Body,
    /// An own CA (PEM), beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Good status codes.
    pub expect_status: RangeInclusive<u16>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How often to try again.
    pub retries: u32,
}

impl fmt::Debug for ActionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActionUrl")
            .field("name", &self.name)
            .field("events", &self.events)
            .field("method", &self.method)
            .field("url", &without_path(&self.url))
            .field("auth", &self.auth)
            .field("headers", &self.headers.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("encoding", &self.encoding)
            .field("ca_file", &self.ca_file)
            .field("expect_status", &self.expect_status)
            .field("timeout", &self.timeout)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

/// `https://host` of a URL: what may be shown of one that may hold a token.
fn without_path(url: &str) -> &str {
    let host = url.find("://").map_or(0, |index| index + 3);
    url[host..].find(['/', '?', '#']).map_or(url, |end| &url[..host + end])
}

/// How a request authenticates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpAuth {
    /// RFC 7617.
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: Secret,
    },
    /// RFC 6750.
    Bearer(Secret),
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `application/json`.
    Json,
    /// `text/plain`.
    Text,
}

/// A request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// None.
    Empty,
    /// Names and template values, for `form` and `json`. Nested values are kept as JSON with templates in strings.
    Fields(serde_json::Map<String, serde_json::Value>),
    /// One template, for `text`.
    Text(String),
}

/// Who is told.
#[derive(Debug, Clone)]
pub struct Notify {
    /// By mail.
    pub email: Option<Email>,
    /// By HTTP.
    pub webhooks: Vec<ActionUrl>,
    /// By a command, which gets the variables as environment `PBX_FAILOVER_EVENT`, …
    pub command: Vec<String>,
    /// How often an unacknowledged alarm repeats.
    pub repeat: Duration,
    /// The outbound heartbeat.
    pub dead_man: Option<DeadMan>,
}

/// Mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    /// The relay's host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is secured.
    pub tls: MailTls,
    /// An own CA (PEM), beside the system's.
    pub ca_file: Option<PathBuf>,
    /// User name and password.
    pub login: Option<(String, Secret)>,
    /// Sender.
    pub from: String,
    /// Receivers, at least one.
    pub to: Vec<String>,
}

/// How mail is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// Plain, then STARTTLS, required.
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// None: refused with a login unless the relay is on loopback.
    None,
}

/// The outbound heartbeat, sent only while armed. Its URL is a secret in itself, and not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct DeadMan {
    /// Where to.
    pub url: String,
    /// How often.
    pub every: Duration,
}

impl fmt::Debug for DeadMan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadMan").field("url", &without_path(&self.url)).field("every", &self.every).finish()
    }
}

/// How service is given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failback {
    /// How long to wait for a moment without calls.
    pub drain: Duration,
    /// Lower the records' TTL first, and wait the old one out.
    pub lower_ttl_first: bool,
    /// Carries changed files home.
    pub return_data: Vec<String>,
    /// Carries what that left, once the primary serves.
    pub return_rest: Vec<String>,
    /// Carries them by rsync instead.
    pub return_to: Option<ReturnTo>,
    /// The bound of the last delta, while nobody serves.
    pub return_limit: Duration,
    /// Starts the primary; empty: a person does.
    pub start_primary: Vec<String>,
    /// How long the primary may take to serve before service is taken back.
    pub wait_for_primary: Duration,
}
