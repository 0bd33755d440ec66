//! A door on loopback with its papers and a clerk behind it, those who ask at it, and a stand-in that answers anything.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use pbx_failover::adapters::beat_file::BeatFile;
use pbx_failover::adapters::checks;
use pbx_failover::adapters::peer::Host;
use pbx_failover::config::{
    self, AgentDoor as DoorSettings, CertificateFiles, Config, Files, Peer, Secret, Surroundings,
};
use pbx_failover::control::DoorError;
use pbx_failover::control::agent::{AgentDesk, AgentDoor, Orders};
use pbx_failover::host::sequence::Sequence;
use pbx_failover::host::{pinned::Pinned, tls};
use pbx_failover::ports::{Answer, Probe};
use pbx_failover::units::beat::ViewTold;
use pbx_failover::units::{Beat, Heard, PlanId, StepOutcome, StopOrder};
use pbx_failover::wire::sealed::{self, Purpose};
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The token of both hosts.
pub const TOKEN: &str = "a token of the tests, long enough";

/// A self-signed certificate and its key, PEM.
pub struct Papers {
    pub certificate: String,
    pub key: String,
}

impl Papers {
    /// For these names, until the first day of a year.
    pub fn new(names: &[&str], until: i32) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).expect("names");
        params.not_before = rcgen::date_time_ymd(2010, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = rcgen::KeyPair::generate().expect("key");
        let certificate = params.self_signed(&key).expect("certificate");
        Self { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// As openssl would print it, by way of its own reading.
    pub fn fingerprint(&self) -> String {
        use rustls::pki_types::pem::PemObject;
        let der = rustls::pki_types::CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("PEM");
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
        let mut text = String::new();
        for byte in digest.as_ref() {
            write!(text, "{byte:02X}:").expect("a text grows");
        }
        text.trim_end_matches(':').to_owned()
    }
}

/// Whoever stands behind the door.
pub struct Clerk {
    pub heard: Mutex<Vec<Heard>>,
    pub orders: Mutex<Vec<StopOrder>>,
    pub stops: AtomicU32,
    /// Role and view that it tells.
    pub tells: Mutex<(String, Option<ViewTold>)>,
}

impl AgentDesk for Clerk {
    fn beat(&self, asker: Heard) -> Answer<'_, Beat> {
        self.heard.lock().unwrap().push(asker);
        let (role, view) = self.tells.lock().unwrap().clone();
        let node = "pbx-a".parse().expect("a name");
        Box::pin(async move { Beat { view, ..Beat::bare(node, &role, jiff::Timestamp::now()) } })
    }

    fn stop(&self, order: StopOrder) -> Answer<'_, StepOutcome> {
        self.orders.lock().unwrap().push(order);
        let count = self.stops.fetch_add(1, Ordering::Relaxed) + 1;
        Box::pin(async move { StepOutcome::done(format!("stopped {count}")) })
    }

    fn resume(&self, _plan: PlanId) -> Answer<'_, StepOutcome> {
        Box::pin(async { StepOutcome::done("resumed") })
    }
}

/// Two hosts in one folder: `agent.*` is the answering one's, `asker.token` and `pinned.crt` the other's.
pub struct Rig {
    pub dir: TempDir,
    pub papers: Papers,
    pub clerk: Arc<Clerk>,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(Papers::new(&["pbx-a", "127.0.0.1"], 2099))
    }

    pub fn with(papers: Papers) -> Self {
        tls::install_provider();
        let clerk = Clerk {
            heard: Mutex::default(),
            orders: Mutex::default(),
            stops: AtomicU32::new(0),
            tells: Mutex::new(("primary".to_owned(), None)),
        };
        let rig = Self { dir: tempfile::tempdir().expect("directory"), papers, clerk: Arc::new(clerk) };
        rig.write("agent.token", TOKEN);
        rig.write("asker.token", TOKEN);
        rig.write("agent.crt", &rig.papers.certificate);
        rig.write("pinned.crt", &rig.papers.certificate);
        rig.write("agent.key", &rig.papers.key);
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("file");
    }

    pub async fn bind(&self, orders: Orders) -> Result<AgentDoor, DoorError> {
        let door = DoorSettings {
            listen: "127.0.0.1:0".parse().expect("an address"),
            token: Secret::File(self.path("agent.token")),
            tls: CertificateFiles { certificate: self.path("agent.crt"), key: self.path("agent.key") },
        };
        let sequence = Arc::new(Sequence::open(&self.path("agent")));
        AgentDoor::bind(&door, "pbx-b".parse().expect("a name"), orders, sequence).await
    }

    /// Opens the door; where it listens.
    pub async fn open(&self, orders: Orders) -> SocketAddr {
        let door = self.bind(orders).await.expect("the door");
        let at = door.address().expect("address");
        tokio::spawn(door.serve(Arc::clone(&self.clerk) as _));
        at
    }

    pub fn peer(&self, at: SocketAddr) -> Peer {
        let token = Secret::File(self.path("asker.token"));
        Peer { url: format!("https://{at}"), token, certificate: Some(self.path("pinned.crt")) }
    }

    /// The asking host's settings.
    pub fn config(&self) -> Config {
        let working = self.path("working");
        std::fs::create_dir_all(&working).expect("directory");
        let text = "node: pbx-b\nprimary: { node: pbx-a, address: 203.0.113.10 }\n\
             backup: { node: pbx-b, address: 198.51.100.20 }\n\
             monitor: { checks: { sip: { sip: \"sip:pbx.example.com\" }, beat: { heartbeat: beat } } }\n\
             pbx: { working_dir: DIR, driver: { systemd: { unit: pbx.service } } }\n\
             epoch: { store: local }\n";
        let surroundings = Surroundings { host_name: "pbx-b".to_owned(), files: Files::Ignored };
        let text = text.replace("DIR", &working.display().to_string());
        config::parse(&text, Path::new("/etc/pbx-failover/failover.yaml"), &surroundings).expect("settings").config
    }

    pub fn asks(&self, at: SocketAddr) -> Host {
        Host::agent(&self.config(), &self.peer(at), Arc::new(Sequence::open(self.dir.path())))
    }

    pub fn asks_unpinned(&self, at: SocketAddr) -> Host {
        let peer = Peer { certificate: None, ..self.peer(at) };
        Host::agent(&self.config(), &peer, Arc::new(Sequence::open(self.dir.path())))
    }

    /// The heartbeat file as the primary writes it, and as the backup judges it.
    pub fn heartbeat(&self) -> (BeatFile, Box<dyn Probe>) {
        let config = self.config();
        let sequence = Arc::new(Sequence::open(&self.path("agent")));
        let file =
            BeatFile::new(&config, Secret::File(self.path("agent.token")), sequence).expect("a check asks for it");
        let token = Secret::File(self.path("asker.token"));
        let check = config.monitor.checks.iter().find(|check| check.name.0 == "beat").expect("the check");
        (file, checks::probe(check, &config.primary, Some(&token)).expect("a good check"))
    }

    /// What the primary tells.
    pub fn tells() -> Beat {
        Beat::bare("pbx-a".parse().expect("a name"), "primary", jiff::Timestamp::now())
    }

    /// What the backup tells.
    pub fn ours() -> Beat {
        Beat::bare("pbx-b".parse().expect("a name"), "backup", jiff::Timestamp::now())
    }

    /// A good question, put together by hand.
    pub fn question() -> Beat {
        Beat { sequence: 1_000, nonce: Some("ab".repeat(16)), ..Self::ours() }
    }

    pub fn sealed(beat: &Beat) -> String {
        sealed::seal(&serde_json::to_string(beat).expect("JSON"), Purpose::BeatQuestion, TOKEN)
    }

    /// Says this with the right token: status and body.
    pub async fn speaks(&self, at: SocketAddr, path: &str, body: &str) -> (u16, String) {
        self.speaks_bytes(at, path, body.as_bytes().to_vec()).await
    }

    pub async fn speaks_bytes(&self, at: SocketAddr, path: &str, body: Vec<u8>) -> (u16, String) {
        self.request(at, path, &format!("Bearer {TOKEN}"), body).await
    }

    /// Says this with any token.
    pub async fn says(&self, at: SocketAddr, path: &str, authorization: &str, body: &str) -> (u16, String) {
        self.request(at, path, authorization, body.as_bytes().to_vec()).await
    }

    async fn request(&self, at: SocketAddr, path: &str, authorization: &str, body: Vec<u8>) -> (u16, String) {
        let tls = Pinned::read(&self.path("agent.crt")).expect("certificate").client().expect("TLS");
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls).build().expect("client");
        let mut request = http.post(format!("https://{at}{path}")).body(body);
        if !authorization.is_empty() {
            request = request.header("authorization", authorization);
        }
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    }

    /// A stand-in with the right papers that answers each question by its nonce, with status and body.
    pub async fn answers(&self, answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> SocketAddr {
        let files = CertificateFiles { certificate: self.path("agent.crt"), key: self.path("agent.key") };
        let tls = TlsAcceptor::from(tls::server("test", &files).expect("papers"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let at = listener.local_addr().expect("address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = tls.accept(stream).await else { continue };
                let mut asked = Vec::new();
                while !String::from_utf8_lossy(&asked).contains("hmac-sha256:") {
                    let mut part = [0; 4096];
                    match stream.read(&mut part).await {
                        Ok(0) | Err(_) => break,
                        Ok(n) => asked.extend_from_slice(&part[..n]),
                    }
                }
                let asked = String::from_utf8_lossy(&asked).into_owned();
                let nonce = asked.split("\"nonce\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("");
                let (status, body) = answer(nonce);
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nlocation: https://{at}/\r\n\r\n");
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(body.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        at
    }
}

/// A connection under TLS that has said nothing yet.
pub async fn stranger(at: SocketAddr, papers: &Papers) -> TlsStream<TcpStream> {
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("crt");
    std::fs::write(&file, &papers.certificate).expect("file");
    let config = Pinned::read(&file).expect("certificate").client().expect("TLS");
    let stream = TcpStream::connect(at).await.expect("connection");
    TlsConnector::from(Arc::new(config)).connect(ServerName::from(at.ip()), stream).await.expect("TLS")
}
