//! Paths to questions, answers to HTTP.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde::{Deserialize, Serialize};

use super::ask::{self, BODY_BYTES_MAX, HistoryParameters, REQUEST_NAMES};
use super::desk::Desk;
use super::door::{Accept, Limited, Peer};
use crate::units::operator::Reply;
use crate::units::{PlanKind, Serving};

/// How long the daemon may take for an answer; its loop turns many times in this.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Everything that is not an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong.
    pub error: String,
    /// What to do.
    pub hint: String,
}

/// The reading half, for TCP.
pub fn reading(desk: Arc<dyn Desk>) -> Router {
    closed(readable()).with_state(desk)
}

/// All of it, for the unix socket.
pub fn all(desk: Arc<dyn Desk>) -> Router {
    let mut router = readable();
    for name in REQUEST_NAMES {
        let handler = move |state, peer, body| operate(name, state, peer, body);
        router = router.route(&format!("/v1/{name}"), post(handler));
    }
    closed(router).with_state(desk)
}

/// Answers for ever.
pub async fn serve(from: impl Accept, router: Router) {
    let service = router.into_make_service_with_connect_info::<Peer>();
    // It never ends: failed accepts are tried again.
    let _ = axum::serve(Limited::new(from), service).await;
}

type Ask = State<Arc<dyn Desk>>;

fn readable() -> Router<Arc<dyn Desk>> {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/explain", get(explain))
        .route("/v1/history", get(history))
        .route("/v1/plan/{plan}", get(preview))
        .route("/healthz", get(healthz))
        .route("/active", get(active))
}

/// One request for each connection, small bodies, and JSON for what does not exist.
fn closed(router: Router<Arc<dyn Desk>>) -> Router<Arc<dyn Desk>> {
    router
        .fallback(async || {
            problem(StatusCode::NOT_FOUND, "there is no such path", "GET /v1/status, /v1/explain, /v1/history, …")
        })
        .method_not_allowed_fallback(async || {
            problem(StatusCode::METHOD_NOT_ALLOWED, "not by this method", "GET to read, POST on the unix socket to act")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::map_response(async |mut response: Response| {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        }))
}

async fn status(State(desk): Ask) -> Response {
    within(desk.status()).await.map_or_else(busy, |status| Json(status).into_response())
}

async fn explain(State(desk): Ask) -> Response {
    within(desk.explain()).await.map_or_else(busy, |explanation| Json(explanation).into_response())
}

async fn history(State(desk): Ask, query: Result<Query<HistoryParameters>, QueryRejection>) -> Response {
    let query = match query.map_err(|rejected| rejected.body_text()).and_then(|Query(asked)| asked.query()) {
        Ok(query) => query,
        Err(why) => return problem(StatusCode::BAD_REQUEST, &why, "?since=TIME&limit=N&kind=KIND&order=newest|oldest"),
    };
    match within(desk.history(query)).await {
        None => busy(),
        Some(Ok(events)) => Json(events).into_response(),
        Some(Err(why)) => problem(StatusCode::SERVICE_UNAVAILABLE, &why, "see the log of the robot"),
    }
}

async fn preview(State(desk): Ask, Path(plan): Path<String>) -> Response {
    let plan = match plan.as_str() {
        "takeover" => PlanKind::Takeover,
        "failback" => PlanKind::Failback,
        _ => return problem(StatusCode::NOT_FOUND, "there is no such plan", "takeover or failback"),
    };
    match within(desk.preview(plan)).await {
        None => busy(),
        Some(Ok(preview)) => Json(preview).into_response(),
        Some(Err(why)) => problem(StatusCode::CONFLICT, &why, "ask /v1/explain"),
    }
}

async fn healthz(State(desk): Ask) -> Response {
    within(desk.alive()).await.map_or_else(busy, |()| "ok\n".into_response())
}

async fn active(State(desk): Ask) -> Response {
    match within(desk.serving()).await {
        Some(Serving::Yes) => "active\n".into_response(),
        Some(Serving::No) => (StatusCode::SERVICE_UNAVAILABLE, "not active\n").into_response(),
        Some(Serving::Unknown(_)) | None => (StatusCode::SERVICE_UNAVAILABLE, "not known\n").into_response(),
    }
}

async fn operate(
    name: &'static str,
    State(desk): Ask,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let request = match body {
        Ok(body) => ask::request(name, &body, peer.by),
        Err(rejected) => return problem(rejected.status(), &rejected.body_text(), "send a small JSON object"),
    };
    let request = match request {
        Ok(request) => request,
        Err(why) => return problem(StatusCode::BAD_REQUEST, &why, "nothing was done; correct the body"),
    };
    match within(desk.operate(request)).await {
        Some(reply @ Reply::Accepted(_)) => (StatusCode::ACCEPTED, Json(reply)).into_response(),
        Some(Reply::Refused(why)) => problem(StatusCode::CONFLICT, &why, "`pbx-failover explain` tells where we stand"),
        None => problem(
            StatusCode::GATEWAY_TIMEOUT,
            "the daemon did not answer in time: the command may have been accepted",
            "look at `pbx-failover status` before saying it again",
        ),
    }
}

async fn within<T>(answer: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(ANSWER_TIME_MAX, answer).await.ok()
}

fn busy() -> Response {
    problem(
        StatusCode::GATEWAY_TIMEOUT,
        "the daemon did not answer in time",
        "ask again; if it stays so, look at the log of the robot",
    )
}

fn problem(status: StatusCode, error: &str, hint: &str) -> Response {
    (status, Json(Problem { error: error.to_owned(), hint: hint.to_owned() })).into_response()
}
