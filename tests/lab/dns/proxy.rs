//! A DNS-aware TCP proxy that loses, delays or changes messages as a test's script says.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a proxy does with one request.
pub enum Reaction {
    /// Gives this answer.
    Answer(Vec<u8>),
    /// Gives this answer and ends the connection, whatever else was asked on it.
    LastAnswer(Vec<u8>),
    /// Ends the connection.
    Close,
    /// Says nothing more.
    Hang,
}

/// Hands a request to the server behind the proxy, and brings its answer.
pub type Forward<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;

type Script = dyn FnMut(&[u8], Forward<'_>) -> Reaction + Send;

/// A TCP proxy that understands DNS framing and reacts to each request as a script says.
pub struct Proxy {
    /// Where it listens.
    pub addr: SocketAddr,
    script: Arc<Mutex<Box<Script>>>,
    ended: Arc<AtomicBool>,
}

impl Proxy {
    /// Listens on loopback; forwards everything until told otherwise.
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let addr = listener.local_addr().expect("address");
        let script: Arc<Mutex<Box<Script>>> =
            Arc::new(Mutex::new(Box::new(|request, forward| Reaction::Answer(forward(request)))));
        let ended = Arc::new(AtomicBool::new(false));
        let proxy = Self { addr, script: script.clone(), ended: ended.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (script, ended) = (script.clone(), ended.clone());
                std::thread::spawn(move || serve(client, upstream, &script, &ended));
            }
        });
        proxy
    }

    /// From now on this happens to each request.
    pub fn react(&self, script: impl FnMut(&[u8], Forward<'_>) -> Reaction + Send + 'static) {
        *self.script.lock().expect("script") = Box::new(script);
    }

    /// This happens to the first `times` updates; everything else is forwarded.
    pub fn react_to_updates(
        &self,
        times: usize,
        mut script: impl FnMut(&[u8], Forward<'_>) -> Reaction + Send + 'static,
    ) {
        let mut left = times;
        self.react(move |request, forward| {
            if left > 0 && is_update(request) {
                left -= 1;
                script(request, forward)
            } else {
                Reaction::Answer(forward(request))
            }
        });
    }

    /// The answers to the first `times` updates are lost after the server applied them.
    pub fn lose_answers(&self, times: usize) {
        self.react_to_updates(times, |request, forward| {
            forward(request);
            Reaction::Close
        });
    }

    /// The first `times` updates are lost before they reach the server.
    pub fn lose_updates(&self, times: usize) {
        self.react_to_updates(times, |_, _| Reaction::Close);
    }

    /// Every answer comes so much later.
    pub fn delay(&self, by: Duration) {
        self.react(move |request, forward| {
            std::thread::sleep(by);
            Reaction::Answer(forward(request))
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
    }
}

/// Whether a request is an UPDATE (opcode 5).
pub fn is_update(request: &[u8]) -> bool {
    request.get(2).is_some_and(|flags| flags >> 3 & 0xf == 5)
}

fn serve(mut client: TcpStream, upstream: SocketAddr, script: &Mutex<Box<Script>>, ended: &AtomicBool) {
    while let Some(request) = read_frame(&mut client) {
        let forward = |request: &[u8]| {
            let mut server = TcpStream::connect(upstream).expect("the server behind the proxy");
            write_frame(&mut server, request);
            read_frame(&mut server).expect("the answer of the server behind the proxy")
        };
        let reaction = (script.lock().expect("script"))(&request, &forward);
        match reaction {
            Reaction::Answer(answer) => write_frame(&mut client, &answer),
            Reaction::LastAnswer(answer) => {
                write_frame(&mut client, &answer);
                return;
            }
            Reaction::Close => {
                let _ = client.shutdown(Shutdown::Both);
                return;
            }
            Reaction::Hang => {
                while !ended.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return;
            }
        }
    }
}

fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

fn write_frame(stream: &mut TcpStream, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("a DNS message");
    let _ = stream.write_all(&[&length.to_be_bytes(), bytes].concat());
}
