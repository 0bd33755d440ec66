//! The door of the primary's agent and of an observer: HTTPS with the token, sealed beats and orders.
//!
//! It knows nothing of the agent: whoever answers implements [`AgentDesk`]. It proves who speaks: token, seal, protocol,
//! sender, clock, and that nothing is said twice. `listener` has the limits of a connection; how the other end speaks is
//! `adapters::peer`. Unlike the control socket this door is open to the world, so that its answers to strangers say
//! nothing of this host.

mod desk;
mod judge;
mod listener;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub use self::desk::AgentDesk;
use self::judge::{Judge, Refusal};
pub use self::listener::{AGENT_CONNECTIONS_MAX, HANDSHAKE_MAX};
use self::listener::{Caller, Secured};
use super::routes::{ANSWER_TIME_MAX, Problem};
use super::socket::DoorError;
use crate::config;
use crate::host::sequence::Sequence;
use crate::host::tls;
use crate::units::beat::{ORDER_TIME_MAX, OrderAnswer, Ordered};
use crate::units::{NodeName, StepOutcome};
use crate::wire::sealed::{self, Purpose, SEALED_BYTES_MAX};

/// Where the door is told of in the configuration.
const KEY: &str = "agent.tls";

/// Whether orders are taken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orders {
    /// As on the primary: it has a PBX that can be stopped.
    Taken,
    /// As on an observer.
    NotHere,
}

/// A door that is bound and not yet open.
pub struct AgentDoor {
    listener: TcpListener,
    tls: TlsAcceptor,
    judge: Judge,
    orders: Orders,
    sequence: Arc<Sequence>,
}

impl AgentDoor {
    /// Binds it. Only `asked_by` (the backup) is listened to; `sequence` numbers this host's beats.
    ///
    /// # Errors
    /// One line with what to do.
    pub async fn bind(
        door: &config::AgentDoor,
        asked_by: NodeName,
        orders: Orders,
        sequence: Arc<Sequence>,
    ) -> Result<Self, DoorError> {
        let tls = tls::server(KEY, &door.tls).map_err(DoorError::Unfit)?;
        let judge = Judge::new(door.token.clone(), asked_by).map_err(DoorError::Unfit)?;
        let listener = TcpListener::bind(door.listen)
            .await
            .map_err(|why| DoorError::System { at: format!("{} (`agent.listen`)", door.listen), why })?;
        Ok(Self { listener, tls: TlsAcceptor::from(tls), judge, orders, sequence })
    }

    /// Where it listens, with the port that the system chose for port 0.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers for ever; drop the future to stop.
    pub async fn serve(self, desk: Arc<dyn AgentDesk>) {
        let inside = Arc::new(Inside { judge: self.judge, desk, sequence: self.sequence });
        let router = router(inside, self.orders);
        let service = router.into_make_service_with_connect_info::<Caller>();
        // It never ends: failed accepts are tried again.
        let _ = axum::serve(Secured::new(self.listener, self.tls), service).await;
    }
}

struct Inside {
    judge: Judge,
    desk: Arc<dyn AgentDesk>,
    sequence: Arc<Sequence>,
}

type Within = State<Arc<Inside>>;
type Body = Result<Bytes, BytesRejection>;

fn router(inside: Arc<Inside>, orders: Orders) -> Router {
    let mut router = Router::new().route("/v1/beat", post(beat));
    if orders == Orders::Taken {
        router = router.route("/v1/stop", post(stop)).route("/v1/resume", post(resume));
    }
    router
        .fallback(async || problem(StatusCode::NOT_FOUND, "there is no such path here", "POST /v1/beat"))
        .method_not_allowed_fallback(async || {
            problem(StatusCode::METHOD_NOT_ALLOWED, "not by this method", "POST /v1/beat")
        })
        .layer(DefaultBodyLimit::max(SEALED_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&inside), token_first))
        .layer(middleware::map_response(async |mut response: Response| {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        }))
        .with_state(inside)
}

/// Whoever does not show the token learns nothing but that.
async fn token_first(
    State(inside): Within,
    ConnectInfo(caller): ConnectInfo<Caller>,
    request: Request,
    next: Next,
) -> Response {
    if !inside.judge.knows_the_token(bearer(request.headers())) {
        tracing::debug!(caller = caller.by, "a caller at the agent's door has no token or another one");
        let hint = "copy agent.token from the host that is asked to the host that asks";
        let mut response = problem(StatusCode::UNAUTHORIZED, "no token, or not this host's", hint);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    caller.has_shown_the_token();
    next.run(request).await
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1); empty: none.
fn bearer(headers: &HeaderMap) -> &str {
    let told = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match told.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => "",
    }
}

async fn beat(State(inside): Within, body: Body) -> Response {
    let heard = match text(body).and_then(|text| inside.judge.beat(&text)) {
        Ok(heard) => heard,
        Err(refusal) => return refused(&refusal),
    };
    let nonce = heard.beat.nonce.clone();
    let Ok(mut ours) = tokio::time::timeout(ANSWER_TIME_MAX, inside.desk.beat(heard)).await else {
        return problem(StatusCode::GATEWAY_TIMEOUT, "the agent did not answer in time", "ask again; see its log");
    };
    ours.nonce = nonce;
    ours.sequence = inside.sequence.next();
    told(&inside, &ours, Purpose::BeatAnswer)
}

async fn stop(State(inside): Within, body: Body) -> Response {
    let ordered = match order(&inside, body, Purpose::Stop) {
        Ok(ordered) => ordered,
        Err(refusal) => return refused(&refusal),
    };
    obeyed(&inside, ordered.beat.nonce, inside.desk.stop(ordered.order)).await
}

async fn resume(State(inside): Within, body: Body) -> Response {
    let ordered = match order(&inside, body, Purpose::Resume) {
        Ok(ordered) => ordered,
        Err(refusal) => return refused(&refusal),
    };
    obeyed(&inside, ordered.beat.nonce, inside.desk.resume(ordered.order)).await
}

fn order<T: DeserializeOwned>(inside: &Inside, body: Body, purpose: Purpose) -> Result<Ordered<T>, Refusal> {
    inside.judge.order(&text(body)?, purpose)
}

async fn obeyed(inside: &Inside, nonce: Option<String>, work: crate::ports::Answer<'_, StepOutcome>) -> Response {
    let outcome = tokio::time::timeout(ORDER_TIME_MAX, work).await.unwrap_or_else(|_| {
        StepOutcome::unknown(format!("the agent has not finished within {} s", ORDER_TIME_MAX.as_secs()))
    });
    told(inside, &OrderAnswer { nonce: nonce.unwrap_or_default(), outcome }, Purpose::OrderAnswer)
}

fn told(inside: &Inside, value: &impl serde::Serialize, purpose: Purpose) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => sealed::seal(&text, purpose, inside.judge.token().expose_secret()).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("no answer: {error}"), "report this"),
    }
}

fn text(body: Body) -> Result<String, Refusal> {
    let body = body.map_err(|rejected| Refusal::Body(rejected.status(), rejected.body_text()))?;
    String::from_utf8(body.into()).map_err(|_| Refusal::Body(StatusCode::BAD_REQUEST, "the body is no text".to_owned()))
}

fn refused(refusal: &Refusal) -> Response {
    let (status, error) = match refusal {
        Refusal::Body(status, why) => (*status, why.clone()),
        Refusal::Seal(why) => (StatusCode::FORBIDDEN, format!("what was sent is not believed: {why}")),
        Refusal::Disbelief(why) => {
            (StatusCode::CONFLICT, format!("what was sent is not believed: {}", why.as_the_teller_reads_it()))
        }
        // The asker takes a 503 for "not now", not for "never".
        Refusal::BeforeTheStart => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the order was written before this agent's start, by the two clocks, so it may be an old one; it is sent \
             again by itself; if that goes on, set both clocks by NTP"
                .to_owned(),
        ),
    };
    problem(status, &error, "nothing was done")
}

fn problem(status: StatusCode, error: &str, hint: &str) -> Response {
    (status, Json(Problem { error: error.to_owned(), hint: hint.to_owned() })).into_response()
}
