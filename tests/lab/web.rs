//! Web servers and odd answers: a real nginx in its own directory, certificates of every kind, and raw sockets that
//! say what no proper server would.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::process::{Running, free_port, wait_until};

/// A certificate and its key, PEM.
pub struct Papers {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// A certificate authority of a test.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// A new one, known to nobody.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().expect("key");
        let pem = params.self_signed(&key).expect("certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Its certificate in a file of `dir`, for `ca_file`.
    pub fn file(&self, dir: &TempDir) -> PathBuf {
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, &self.pem).expect("file");
        path
    }

    /// A certificate for these names or addresses, good for years.
    pub fn good(&self, names: &[&str]) -> Papers {
        self.issue(names, 2099)
    }

    /// One that has expired at the beginning of 2020.
    pub fn expired(&self, names: &[&str]) -> Papers {
        self.issue(names, 2020)
    }

    fn issue(&self, names: &[&str], until: i32) -> Papers {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = rcgen::date_time_ymd(2010, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, &self.issuer).expect("certificate");
        Papers { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// What an nginx shall be.
pub struct Site {
    listen: SocketAddr,
    papers: Option<Papers>,
    prefix: Vec<String>,
}

impl Site {
    /// A plain one on a free port of loopback.
    pub fn new() -> Self {
        Self::on(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), free_port()))
    }

    /// A plain one at an address.
    pub fn on(listen: SocketAddr) -> Self {
        Self { listen, papers: None, prefix: Vec::new() }
    }

    /// Under TLS.
    pub fn tls(mut self, papers: Papers) -> Self {
        self.papers = Some(papers);
        self
    }

    /// Started by a command such as `ip netns exec NAME`.
    pub fn inside(mut self, prefix: &[&str]) -> Self {
        self.prefix = prefix.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> Web {
        let dir = tempfile::tempdir().expect("directory");
        let mut web = Web { dir, listen: self.listen, prefix: self.prefix, running: None };
        web.says("It works.");
        let tls = self.papers.map_or(String::new(), |papers| {
            std::fs::write(web.path("cert.pem"), papers.certificate).expect("file");
            std::fs::write(web.path("key.pem"), papers.key).expect("file");
            "ssl_certificate cert.pem; ssl_certificate_key key.pem;".to_owned()
        });
        let conf = CONF
            .replace("@LISTEN@", &format!("{}{}", self.listen, if tls.is_empty() { "" } else { " ssl" }))
            .replace("@TLS@", &tls)
            .replace("@DIR@", &web.dir.path().display().to_string());
        std::fs::write(web.path("nginx.conf"), conf).expect("file");
        web.start();
        web
    }
}

/// One process, so that a signal hits the whole server; everything it writes lies in its directory.
const CONF: &str = r#"
daemon off; master_process off; pid @DIR@/pid; error_log @DIR@/error.log;
events { worker_connections 256; }
http {
    log_format lab "$request_uri $status host=$http_host sni=$ssl_server_name";
    access_log @DIR@/access.log lab;
    client_body_temp_path @DIR@/t1; proxy_temp_path @DIR@/t2; fastcgi_temp_path @DIR@/t3;
    uwsgi_temp_path @DIR@/t4; scgi_temp_path @DIR@/t5;
    server {
        listen @LISTEN@; @TLS@ root @DIR@/www; default_type text/html;
        if (-f @DIR@/503) { return 503; }
        if (-f @DIR@/slow) { set $limit_rate 16; }
        location = /redirect { return 302 /redirected; }
        location = /teapot { return 418; }
    }
}
"#;

/// A running nginx; killed when dropped.
pub struct Web {
    dir: TempDir,
    /// Where it listens.
    pub listen: SocketAddr,
    prefix: Vec<String>,
    running: Option<Running>,
}

impl Web {
    /// What `/` says from now on.
    pub fn says(&self, body: &str) {
        std::fs::create_dir_all(self.path("www")).expect("directory");
        std::fs::write(self.path("www/index.html"), body).expect("file");
    }

    /// Answers 503 to everything from now on, or no more.
    pub fn unavailable(&self, yes: bool) {
        self.switch("503", yes);
    }

    /// Sends bodies at 16 bytes a second from now on, or no more.
    pub fn slow(&self, yes: bool) {
        self.switch("slow", yes);
    }

    /// Stops the process where it stands: connections are accepted by the kernel, nothing answers.
    pub fn hang(&self) {
        self.signal("STOP");
    }

    /// Lets it run again.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Starts it (again).
    pub fn start(&mut self) {
        self.running = None;
        let _ = std::fs::remove_file(self.path("pid"));
        let conf = self.path("nginx.conf");
        let prefix: Vec<&str> = self.prefix.iter().map(String::as_str).collect();
        let server = ["nginx", "-e", "/dev/null", "-c", conf.to_str().expect("path")];
        self.running = Some(Running::start_with(&[&prefix[..], &server].concat(), &self.path("log"), |command| {
            command.env("PATH", std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin");
        }));
        // It binds before it writes its pid.
        wait_until("nginx listens", Duration::from_secs(10), || {
            std::fs::metadata(self.path("pid")).is_ok_and(|file| file.len() > 0)
        });
    }

    /// The requests so far, at least `count`: `URI STATUS host=… sni=…`. nginx writes its log after the answer.
    pub fn requests(&self, count: usize) -> Vec<String> {
        let read = || std::fs::read_to_string(self.path("access.log")).unwrap_or_default();
        wait_until("the requests are in nginx's log", Duration::from_secs(5), || read().lines().count() >= count);
        read().lines().map(str::to_owned).collect()
    }

    fn switch(&self, name: &str, yes: bool) {
        if yes {
            std::fs::write(self.path(name), "").expect("file");
        } else {
            let _ = std::fs::remove_file(self.path(name));
        }
    }

    fn signal(&self, name: &str) {
        self.running.as_ref().expect("it runs").signal(name);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// A UDP socket that answers as a test wants.
pub struct RawUdp {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RawUdp {
    /// `answer` gets the number of the datagram (from 0) and its bytes, and gives the datagrams to send back.
    pub fn answering(mut answer: impl FnMut(usize, &[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let address = socket.local_addr().expect("address");
        socket.set_read_timeout(Some(POLL)).expect("timeout");
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (note, end) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut datagram = vec![0_u8; 65536];
            while !end.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut datagram) else { continue };
                let number = {
                    let mut seen = note.lock().expect("no panic holds it");
                    seen.push(datagram[..length].to_vec());
                    seen.len() - 1
                };
                for reply in answer(number, &datagram[..length]) {
                    let _ = socket.send_to(&reply, from);
                }
            }
        });
        Self { address, seen, stop, thread: Some(thread) }
    }

    /// The datagrams so far.
    pub fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().expect("no panic holds it").clone()
    }
}

/// How often a raw thread looks whether it shall end.
const POLL: Duration = Duration::from_millis(20);

impl Drop for RawUdp {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A TCP socket that serves as a test wants, one connection after the other.
pub struct RawTcp {
    /// Where it listens.
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RawTcp {
    /// `serve` gets each connection; reads on it end after 5 s.
    pub fn serving(mut serve: impl FnMut(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("address");
        listener.set_nonblocking(true).expect("nonblocking");
        let stop = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    std::thread::sleep(POLL);
                    continue;
                };
                stream.set_nonblocking(false).expect("blocking");
                stream.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
                serve(stream);
            }
        });
        Self { address, stop, thread: Some(thread) }
    }

    /// Says `bytes` to everybody who connects, after reading once, and hangs up.
    pub fn saying(bytes: &[u8]) -> Self {
        let bytes = bytes.to_vec();
        Self::serving(move |mut stream| {
            let mut asked = [0_u8; 4096];
            let _ = std::io::Read::read(&mut stream, &mut asked);
            let _ = stream.write_all(&bytes);
        })
    }
}

impl Drop for RawTcp {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
