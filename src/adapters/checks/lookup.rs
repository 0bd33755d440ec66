//! Names of Internet targets → addresses, by the system's resolver, at most one lookup of a name at a time.
//!
//! The system's resolver cannot be interrupted: a lookup that outlives its question is waited for by the next one
//! instead of being joined by a second, so that a dead resolver cannot fill the thread pool.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// How many addresses of a name are tried: the time-out is shared among them.
pub const ADDRESSES_MAX: usize = 4;

/// One name, or address, and port.
#[derive(Clone)]
pub struct Lookup(Arc<Inner>);

struct Inner {
    host: String,
    port: u16,
    running: Mutex<Option<JoinHandle<io::Result<Vec<SocketAddr>>>>>,
}

impl Lookup {
    /// `host` may be an address, an IPv6 one also in brackets.
    pub fn new(host: &str, port: u16) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Self(Arc::new(Inner { host, port, running: Mutex::default() }))
    }

    /// The addresses, at least one.
    ///
    /// # Errors
    /// One line that names the host.
    pub async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let Inner { host, port, running } = &*self.0;
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, *port)]);
        }
        let mut running = running.lock().await;
        let lookup = running.get_or_insert_with(|| {
            let asked = (host.clone(), *port);
            tokio::spawn(async move { Ok(tokio::net::lookup_host(asked).await?.take(ADDRESSES_MAX).collect()) })
        });
        let found = lookup.await;
        *running = None;
        match found {
            Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
            Ok(Ok(_)) => Err(format!("{host} has no address")),
            Ok(Err(error)) => Err(format!("{host} cannot be resolved: {error}")),
            Err(error) => Err(format!("{host} cannot be resolved: {error}")),
        }
    }
}

impl Resolve for Lookup {
    fn resolve(&self, _: Name) -> Resolving {
        let lookup = self.clone();
        Box::pin(async move { Ok(Box::new(lookup.addresses().await?.into_iter()) as Addrs) })
    }
}
