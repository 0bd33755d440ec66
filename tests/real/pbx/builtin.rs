//! The driver `builtin` against the real world: its contract, its passive state, what `check` says of it, restarts.
//! Phones, trunks and names of providers are below.

mod names;
mod phones;
mod providers;
mod trunks;

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};

use pbx_failover::adapters::pbx::builtin::{Handle, Plan, Service, View};
use pbx_failover::adapters::pbx::{BuiltinPbx, Resident};
use pbx_failover::config::{Builtin, CertificateFiles, Listen};
use pbx_failover::units::TrunkStatus;
use pbx_failover::units::finding::{Finding, Level};

use super::*;
use crate::lab::web::Papers;

/// The built-in PBX with its directory: what it is told, and where its files are.
struct Own {
    plan: Plan,
    dir: tempfile::TempDir,
}

impl Own {
    /// Over UDP and TCP at one port of loopback, with these accounts and without a grace time.
    fn new(accounts: &str) -> Self {
        let address = loopback();
        let listen = [SipTransport::Udp, SipTransport::Tcp].map(|transport| Listen { transport, address });
        let dir = tempfile::tempdir().expect("directory");
        let plan = Plan {
            settings: Builtin {
                listen: listen.to_vec(),
                accounts: "pjsip.conf".into(),
                realm: String::new(),
                min_expires: Duration::from_secs(1),
                max_expires: Duration::from_secs(300),
                tls: None,
            },
            accounts: dir.path().join("pjsip.conf"),
            keep: dir.path().join("bindings"),
            reachable: address.ip(),
            grace: Duration::ZERO,
        };
        let own = Self { plan, dir };
        own.write(accounts);
        own
    }

    /// Listens there too.
    fn and_at(mut self, transport: SipTransport, address: SocketAddr) -> Self {
        self.plan.settings.listen.push(Listen { transport, address });
        self
    }

    /// Listens for TLS too; gives the address.
    fn and_tls(self, papers: &Papers) -> (Self, SocketAddr) {
        let address = loopback();
        let mut own = self.and_at(SipTransport::Tls, address);
        let write = |name: &str, text: &str| {
            let path = own.dir.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path
        };
        let files =
            CertificateFiles { certificate: write("pbx.pem", &papers.certificate), key: write("pbx.key", &papers.key) };
        own.plan.settings.tls = Some(files);
        (own, address)
    }

    /// The first place where it listens.
    fn address(&self) -> SocketAddr {
        self.plan.settings.listen[0].address
    }

    /// Replaces the accounts' file, as a sync tool does.
    fn write(&self, accounts: &str) {
        let beside = self.dir.path().join("new");
        std::fs::write(&beside, accounts).expect("accounts");
        std::fs::rename(beside, &self.plan.accounts).expect("accounts");
    }

    async fn start(&self) -> Service {
        Service::start(self.plan.clone()).await.expect("it starts")
    }

    fn driver(&self) -> BuiltinPbx {
        let site = site(&self.dir.path().join("run/active"), self.address(), &[]);
        BuiltinPbx::with(site, self.plan.clone(), Resident::default())
    }
}

/// The sections of a phone with one contact, which the next one takes away.
fn phone(user: &str, password: &str) -> String {
    phone_with(user, password, "", "max_contacts=1\nremove_existing=yes\n")
}

/// The same with these lines in its sections of type auth and aor.
fn phone_with(user: &str, password: &str, auth: &str, aor: &str) -> String {
    format!(
        "[{user}]\ntype=endpoint\nauth={user}\naors={user}\n\
         [{user}]\ntype=auth\nauth_type=userpass\nusername={user}\npassword={password}\n{auth}\
         [{user}]\ntype=aor\n{aor}"
    )
}

/// The sections of a trunk, with these lines in that of its registration. A `;` of a URI is to be written `\;`.
fn trunk(name: &str, server_uri: &str, user: &str, password: &str, more: &str) -> String {
    format!(
        "[{name}]\ntype=registration\noutbound_auth={name}\nserver_uri={server_uri}\n\
         client_uri=sip:{user}@provider.test\ncontact_user={name}\n{more}\
         [{name}]\ntype=auth\nauth_type=userpass\nusername={user}\npassword={password}\n"
    )
}

/// Waits until what it tells is so.
async fn seen(pbx: &Handle, what: &str, holds: impl Fn(&View) -> bool) -> View {
    until(what, async || Some(pbx.view().await.expect("it runs")).filter(|view| holds(view))).await
}

/// What it tells of a trunk.
#[track_caller]
fn told<'a>(view: &'a View, name: &str) -> (TrunkState, Option<u16>, &'a str) {
    let named = |(status, _): &&(TrunkStatus, String)| status.name == name;
    let (status, said) = view.trunks.iter().find(named).unwrap_or_else(|| panic!("no trunk {name} in {view:#?}"));
    (status.state, status.sip_code, said)
}

fn have_all() -> bool {
    have(&kamailio::PROGRAMS) && have(&sipp::PROGRAMS)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_builtin_keeps_the_contract_with_a_provider_and_a_phone() {
    let Some(backup) = Backup::new() else { return };
    let carrier = trunk("carrier", &format!("sip:{}", backup.provider.address()), "trunk1", "secret", "");
    let mut own = Own::new(&(phone("100", "pw100") + &carrier));
    for listen in &mut own.plan.settings.listen {
        listen.address = backup.pbx.address();
    }
    contract(&backup, &BuiltinPbx::with(backup.site(), own.plan.clone(), Resident::default())).await;
    assert_eq!(backup.provider.contacts("trunk1"), Vec::<String>::new(), "the trunk was given up at the provider");
}

/// Whether a datagram to this address is refused: nobody listens.
fn is_refused(address: SocketAddr) -> bool {
    let socket = UdpSocket::bind((address.ip(), 0)).expect("loopback");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a time-out");
    socket.connect(address).expect("connected");
    socket.send(b"\r\n\r\n").expect("sent");
    socket.recv(&mut [0; 16]).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[tokio::test(flavor = "multi_thread")]
async fn passive_means_that_no_port_is_open_and_no_connection_stays() {
    let (own, tls) = Own::new(&phone("100", "pw100")).and_tls(&Authority::new().good(&["127.0.0.1"]));
    let (at, pbx) = (own.address(), own.driver());
    let all_closed = || is_refused(at) && [at, tls].iter().all(|at| TcpStream::connect(at).is_err());
    assert!(all_closed(), "before it was ever asked to serve");
    for _ in 0..2 {
        done(pbx.reload(Mode::Act, Load::First).await);
        let open = [at, tls].map(|at| TcpStream::connect(at).expect("it listens"));
        assert!(!is_refused(at));
        done(pbx.stop_accepting().await);
        assert!(all_closed());
        for mut stream in open {
            stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
            let ended =
                stream.read(&mut [0; 16]).map_or_else(|e| e.kind() != std::io::ErrorKind::WouldBlock, |n| n == 0);
            assert!(ended, "a connection is closed with the stop");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_somebody_else_has_is_told_in_one_line_and_never_taken_for_ours() {
    if !have_all() {
        return;
    }
    let own = Own::new(&phone("100", "pw100"));
    let other = Kamailio::started(Setup::at(own.address()).account("100", "pw100"));
    let pbx = own.driver();
    let why = failed(pbx.reload(Mode::Act, Load::First).await);
    let line = format!(
        "cannot listen at udp://{}: Address already in use (os error 98); stop what listens there, or change \
         pbx.driver.builtin.listen",
        own.address()
    );
    assert_eq!(why, line);
    let found = pbx.findings().await;
    let (what, hint) = line.split_once("; ").expect("what to do");
    let told = |f: &Finding| f.level == Level::Problem && f.text == what && f.hint.as_deref() == Some(hint);
    assert!(found.iter().any(|f| f.about == "pbx listen" && told(f)), "{found:#?}");
    let why = failed(pbx.passive().await);
    assert!(why.contains("stop the other PBX that runs there"), "{why}");
    assert_eq!(pbx.status().await.serving, Serving::No);
    other.stop();
    done(pbx.passive().await);
    done(pbx.reload(Mode::Act, Load::First).await);
    Phone::new("100", "pw100").register(own.address()).expect("it serves once the port is free");
    // And beside one that has only the TCP port.
    done(pbx.stop_accepting().await);
    let taken = std::net::TcpListener::bind(own.address()).expect("free");
    let why = failed(pbx.reload(Mode::Act, Load::First).await);
    assert!(why.starts_with(&format!("cannot listen at tcp://{}: Address already in use", own.address())), "{why}");
    drop(taken);
}

fn texts(found: &[Finding], about: &str, level: Level) -> Vec<String> {
    found.iter().filter(|f| f.about == about && f.level == level).map(|f| f.text.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_is_red_because_nobody_can_call_and_names_file_and_line_of_what_is_wrong_with_the_accounts() {
    let carrier = trunk("carrier", "sip:127.0.0.1", "trunk1", "secret", "");
    let own = Own::new(&(phone("100", "pw100") + &carrier));
    let pbx = own.driver();
    let found = pbx.findings().await;
    let calls = texts(&found, "pbx calls", Level::Problem);
    assert!(calls.len() == 1 && calls[0].contains("connects no calls"), "{found:#?}");
    let path = own.plan.accounts.display();
    assert_eq!(texts(&found, "pbx accounts", Level::Ok), [format!("1 phones and 1 trunks in {path}")]);
    let at = own.address();
    assert_eq!(texts(&found, "pbx listen", Level::Ok), [format!("free: udp {at}, tcp {at}")]);
    assert_eq!(found.len(), 3, "{found:#?}");

    // A phone whose auth is missing, and no trunk of the name that is required.
    own.write(
        &(phone("100", "pw100") + "[200]\ntype=endpoint\nauth=nobody\naors=200\n[200]\ntype=aor\nmax_contacts=1\n"),
    );
    let found = pbx.findings().await;
    let warnings = texts(&found, "pbx accounts", Level::Warning);
    assert!(
        warnings.iter().any(|text| text.starts_with(&format!("{path}:14: ")) && text.contains("nobody")),
        "{found:#?}"
    );
    let problems = texts(&found, "pbx accounts", Level::Problem);
    assert!(problems.iter().any(|text| text.contains("the trunk carrier is required")), "{found:#?}");

    std::fs::remove_file(&own.plan.accounts).expect("it was there");
    let found = pbx.findings().await;
    let problems = texts(&found, "pbx accounts", Level::Problem);
    assert!(problems.iter().any(|text| text.contains(&path.to_string())), "{found:#?}");
    let why = failed(pbx.reload(Mode::Act, Load::First).await);
    assert!(why.contains(&path.to_string()) && why.contains("has no phone"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_phones_are_survives_a_restart_and_what_has_expired_does_not() {
    if !have_all() {
        return;
    }
    let own = Own::new(&["100", "200", "300"].map(|user| phone(user, "pw")).concat());
    let (first, gone, brief) = (Phone::new("100", "pw"), Phone::new("200", "pw"), Phone::new("300", "pw"));
    let pbx = own.start().await;
    for phone in [&first, &gone] {
        phone.register(own.address()).expect("it registers");
    }
    gone.unregister(own.address()).expect("it gives its registration up");
    brief.send(own.address(), &sipp::Wish::lasting(2)).expect("it registers for two seconds at most");
    let contact = format!("sip:100@127.0.0.1:{}", first.port);
    assert_eq!(pbx.handle().contacts("100").await, std::slice::from_ref(&contact));
    pbx.stop().await;
    assert_eq!(first.knock(own.address()), None);
    let pbx = own.start().await;
    assert_eq!(pbx.handle().contacts("100").await, [contact]);
    assert_eq!(pbx.handle().contacts("200").await, Vec::<String>::new());
    seen(&pbx.handle(), "the brief one has expired", |view| view.registrations == 1).await;
    assert_eq!(pbx.handle().contacts("300").await, Vec::<String>::new());
    first.register(own.address()).expect("it registers anew");
    pbx.stop().await;
}

/// A connection to it, for what no phone of the lab does.
fn connected(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_over_a_connection_is_answered_with_a_pong() {
    let own = Own::new(&phone("100", "pw100"));
    let pbx = own.start().await;
    let mut stream = connected(own.address());
    for sent in [&["\r\n\r\n"][..], &["\r\n", "\r\n"], &["\r", "\n\r", "\n"]] {
        for part in sent {
            stream.write_all(part.as_bytes()).expect("sent");
        }
        let mut pong = [0; 16];
        let length = stream.read(&mut pong).expect("a pong");
        assert_eq!(&pong[..length], b"\r\n", "after {sent:?}");
    }
    pbx.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_opens_connections_without_end_takes_them_from_nobody_else() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    if !have(&sipp::PROGRAMS) {
        return;
    }
    // Both ends of every connection are in this process.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("as many as may be");
    let (own, tls) = Own::new(&phone("100", "pw100")).and_tls(&Authority::new().good(&["127.0.0.1"]));
    let pbx = own.start().await;
    let is_closed = |mut stream: &TcpStream| {
        stream.set_nonblocking(true).expect("it is there");
        !stream.read(&mut [0; 1]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    // One address may have 1024, over TCP and TLS together; a handshake has some seconds.
    let open = |at| (0..600).map(move |_| TcpStream::connect(at).expect("the system takes it"));
    let greedy: Vec<_> = open(own.address()).chain(open(tls)).collect();
    let stay = || greedy.iter().filter(|stream| !is_closed(stream)).count();
    wait_until("what is too many is closed", SOON, || stay() <= 1_024);
    assert_eq!(stay(), 1_024);
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).expect("another address");
    let other = socket.connect(tls).await.expect("it listens").into_std().expect("a stream");
    Phone::new("100", "pw100").register(own.address()).expect("datagrams need no connection");
    assert!(!is_closed(&other));
    pbx.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_comes_from_the_address_that_was_asked_also_where_it_listens_at_every_one() {
    let mut own = Own::new(&phone("100", "pw100"));
    let port = own.address().port();
    let listen = |address: &str| Listen {
        transport: SipTransport::Udp,
        address: SocketAddr::new(address.parse().expect("an address"), port),
    };
    own.plan.settings.listen = vec![listen("0.0.0.0"), listen("::")];
    let pbx = own.start().await;
    for (asked, at) in [("127.0.0.12", "127.0.0.1:0"), ("127.9.8.7", "127.0.0.1:0"), ("::1", "[::1]:0")] {
        let phone = UdpSocket::bind(at).expect("a socket");
        phone.set_read_timeout(Some(SOON)).expect("a limit");
        let host = if asked.contains(':') { format!("[{asked}]") } else { asked.to_owned() };
        let question = format!(
            "OPTIONS sip:{host} SIP/2.0\r\nVia: SIP/2.0/UDP {};rport;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:{host}>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n\r\n",
            phone.local_addr().expect("an address")
        );
        let target: SocketAddr = format!("{host}:{port}").parse().expect("an address");
        phone.send_to(question.as_bytes(), target).expect("sent");
        let (length, from) = phone.recv_from(&mut [0; 4096]).expect("an answer");
        assert!(length > 100 && from == target, "{asked} was asked, {from} answered");
    }
    pbx.stop().await;
}
