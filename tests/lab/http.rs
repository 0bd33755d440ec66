//! An HTTP receiver that records what arrives and answers by script, plain or under TLS; and a CA for TLS rigs.
//!
//! Std threads and a parser of its own, on purpose: it shows the bytes as they came, not as a library sees them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How long a connection may stay silent before the receiver leaves it.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A CA made for one test, and a server certificate signed by it.
pub struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    /// A CA and a certificate for `names` (host names or addresses).
    pub fn new(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let ca_key = KeyPair::generate().expect("key");
        let mut ca = CertificateParams::new(Vec::<String>::new()).expect("parameters");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).expect("certificate").pem();
        let key = KeyPair::generate().expect("key");
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let server = CertificateParams::new(names).expect("names");
        let server = server.signed_by(&key, &Issuer::new(ca, ca_key)).expect("certificate");
        let files = [("ca.pem", ca_pem), ("server.pem", server.pem()), ("server.key", key.serialize_pem())];
        for (name, pem) in files {
            std::fs::write(dir.path().join(name), pem).expect("write");
        }
        Self { dir }
    }

    /// The CA's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The server's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.dir.path().join("server.pem")
    }

    /// The server's key.
    pub fn key(&self) -> PathBuf {
        self.dir.path().join("server.key")
    }

    fn server_config(&self) -> Arc<rustls::ServerConfig> {
        let chain = CertificateDer::pem_file_iter(self.certificate()).expect("file");
        let chain: Vec<_> = chain.collect::<Result<_, _>>().expect("certificate");
        let key = PrivateKeyDer::from_pem_file(self.key()).expect("key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("pair");
        Arc::new(config)
    }
}

/// What the receiver does with one request.
#[derive(Clone)]
pub enum Reply {
    /// This status, with the body `answer`.
    Status(u16),
    /// This status, one more header line, and this body.
    Full(u16, &'static str, Vec<u8>),
    /// This status, and a body that repeats the whole request.
    Echo(u16),
    /// This status, and a body without end.
    Endless(u16),
    /// This status, after a while.
    Slow(Duration, u16),
    /// Nothing, until the client leaves.
    Hang,
    /// The end of the connection, without an answer.
    Close,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// `POST`.
    pub method: String,
    /// Path and query, as written.
    pub target: String,
    /// Names in lower case, with values byte for byte.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Received {
    /// The one header of this name; panics when it came twice.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut found = self.headers.iter().filter(|(n, _)| n == name);
        let value = found.next().map(|(_, value)| String::from_utf8(value.clone()).expect("UTF-8"));
        assert!(found.next().is_none(), "{name} came twice");
        value
    }
}

/// The receiver; it ends when dropped.
pub struct Receiver {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    requests: Arc<Mutex<Vec<Received>>>,
    over: Arc<AtomicBool>,
}

impl Receiver {
    /// Answers by `script`, one entry per request; the last one repeats.
    pub fn plain(script: &[Reply]) -> Self {
        Self::start(script, None)
    }

    /// The same under TLS, with the certificate of `authority`.
    pub fn tls(script: &[Reply], authority: &Authority) -> Self {
        Self::start(script, Some(authority.server_config()))
    }

    fn start(script: &[Reply], tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = listener.local_addr().expect("address").port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let (kept, ended, script) = (Arc::clone(&requests), Arc::clone(&over), script.to_vec());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let (kept, script, tls) = (Arc::clone(&kept), script.clone(), tls.clone());
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(SILENCE_MAX));
                    match tls {
                        None => serve(stream, &kept, &script),
                        Some(config) => {
                            let session = rustls::ServerConnection::new(config).expect("session");
                            serve(rustls::StreamOwned::new(session, stream), &kept, &script);
                        }
                    }
                });
            }
        });
        Self { port, requests, over }
    }

    /// Everything that arrived so far, in order.
    pub fn received(&self) -> Vec<Received> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets what arrived, and gives it.
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// One request per connection.
fn serve(mut stream: impl Read + Write, kept: &Mutex<Vec<Received>>, script: &[Reply]) {
    let Some((request, raw)) = read_request(&mut stream) else { return };
    let number = {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(request);
        kept.len() - 1
    };
    let _ = match script.get(number).or(script.last()).cloned().unwrap_or(Reply::Status(200)) {
        Reply::Status(status) => answer(&mut stream, status, "X-Lab: 1", b"answer\n"),
        Reply::Full(status, header, body) => answer(&mut stream, status, header, &body),
        Reply::Echo(status) => answer(&mut stream, status, "X-Lab: 1", &one_line(&raw)),
        Reply::Slow(wait, status) => {
            std::thread::sleep(wait);
            answer(&mut stream, status, "X-Lab: 1", b"answer\n")
        }
        Reply::Endless(status) => {
            let _ = write!(stream, "HTTP/1.1 {status} Lab\r\nContent-Length: 999999999999\r\n\r\n");
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
            Ok(())
        }
        Reply::Hang => stream.read(&mut [0]).map(drop),
        Reply::Close => Ok(()),
    };
}

/// A request on one line, so that a courier that shows an answer's first line shows all of it.
fn one_line(raw: &[u8]) -> Vec<u8> {
    raw.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect()
}

fn answer(stream: &mut impl Write, status: u16, header: &str, body: &[u8]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} Lab\r\n{header}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)?;
    stream.flush()
}

/// The first byte of a TLS handshake; a web server without TLS answers it as a bad request.
const TLS_HANDSHAKE: u8 = 0x16;

fn read_request(stream: &mut (impl Read + Write)) -> Option<(Received, Vec<u8>)> {
    let mut raw = Vec::new();
    let mut byte = [0_u8; 4096];
    let end = loop {
        if let Some(end) = raw.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        let n = stream.read(&mut byte).ok().filter(|n| *n > 0)?;
        raw.extend_from_slice(&byte[..n]);
        if raw[0] == TLS_HANDSHAKE {
            let _ = answer(stream, 400, "X-Lab: 1", b"bad request\n");
            return None;
        }
    };
    let mut lines = raw[..end].split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = String::from_utf8(lines.next()?.to_vec()).expect("request line");
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    assert_eq!((words.next(), words.next()), (Some("HTTP/1.1"), None), "{first}");
    let headers: Vec<_> = lines
        .map(|line| {
            let colon = line.iter().position(|b| *b == b':').expect("a header has a colon");
            let name = String::from_utf8(line[..colon].to_ascii_lowercase()).expect("header name");
            (name, line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..]).to_vec())
        })
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, n)| String::from_utf8_lossy(n).parse().expect("length"));
    while raw.len() < end + 4 + length {
        let n = stream.read(&mut byte).ok().filter(|n| *n > 0)?;
        raw.extend_from_slice(&byte[..n]);
    }
    let body = raw[end + 4..].to_vec();
    Some((Received { method, target, headers, body }, raw))
}
