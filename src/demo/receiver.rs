//! Takes ActionURLs and pages, as a provider and a pager would, and remembers them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{Method, Uri};
use tokio::net::TcpListener;
use tokio::time::Instant;

/// More messages than any demo sends.
const MESSAGES_MAX: usize = 1000;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Method and target: `POST /update?name=…`.
    pub line: String,
    /// The body.
    pub body: String,
    /// When.
    pub at: Instant,
}

/// What came so far.
#[derive(Debug, Clone, Default)]
pub struct Receiver(Arc<Mutex<Vec<Received>>>);

impl Receiver {
    /// Listens for ever.
    ///
    /// # Errors
    /// One line.
    pub async fn serve(self, address: SocketAddr) -> Result<(), String> {
        let listener = TcpListener::bind(address).await.map_err(|error| format!("{address}: {error}"))?;
        let router = Router::new().fallback(take).with_state(self);
        axum::serve(listener, router).await.map_err(|error| error.to_string())
    }

    /// The requests from the `from`th on.
    pub fn since(&self, from: usize) -> Vec<Received> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(from..).unwrap_or_default().to_vec()
    }
}

async fn take(State(receiver): State<Receiver>, method: Method, uri: Uri, body: String) -> &'static str {
    let mut all = receiver.0.lock().unwrap_or_else(PoisonError::into_inner);
    if all.len() < MESSAGES_MAX {
        all.push(Received { line: format!("{method} {uri}"), body, at: Instant::now() });
    }
    "thank you\n"
}
