//! ActionURLs, webhooks, the command and the heartbeat, against a receiver that shows the bytes as they came.
//!
//! Mail lies in `mail`, the escaping laws in `escaping`.

mod escaping;
mod mail;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pbx_failover::adapters::courier;
use pbx_failover::adapters::courier::dead_man::beat;
use pbx_failover::config::{ActionUrl, Body, DeadMan, Encoding, HttpAuth, Notify, PlainSecret, Secret};
use pbx_failover::units::{Delivery, DeliveryOutcome, EventName, Side, State, Target, wording};

use crate::lab::free_port;
use crate::lab::http::{Authority, Receiver, Reply};

/// An ActionURL that listens to takeovers.
pub fn action(url: &str) -> ActionUrl {
    ActionUrl {
        name: "provider".into(),
        events: vec![EventName::Takeover],
        method: "POST".into(),
        url: url.into(),
        auth: None,
        headers: Vec::new(),
        encoding: Encoding::Json,
        body: Body::Empty,
        ca_file: None,
        expect_status: 200..=299,
        timeout: Duration::from_secs(5),
        retries: 0,
    }
}

/// Nobody.
pub fn nobody() -> Notify {
    Notify { email: None, webhooks: Vec::new(), command: Vec::new(), repeat: Duration::from_secs(900), dead_man: None }
}

/// The message about a takeover.
pub fn delivery(target: Target) -> Delivery {
    let about = wording::About {
        id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
        node: "pbx-b".parse().unwrap(),
        primary_node: "pbx-a".parse().unwrap(),
        backup_node: "pbx-b".parse().unwrap(),
        primary_address: "203.0.113.10".parse().unwrap(),
        backup_address: "198.51.100.20".parse().unwrap(),
        active: Side::Backup,
        state: State::Active,
        epoch: Some(7),
        because: "web refused 3 times".into(),
        step: None,
        blocks: Vec::new(),
        dns_name: "pbx.example.com".into(),
        ttl_s: Some(30),
        when: "2026-11-20T10:02:03Z".parse().unwrap(),
    };
    let (subject, text) = wording::compose(EventName::Takeover, &about);
    let variables = wording::variables(EventName::Takeover, &about);
    let key = format!("{}-{target}", about.id);
    Delivery { key, target, event: EventName::Takeover, subject, text, variables }
}

/// One attempt.
pub async fn fire(action: &ActionUrl) -> DeliveryOutcome {
    let couriers = courier::couriers_of(std::slice::from_ref(action), &nobody()).unwrap();
    let target = courier::action_url(&action.name);
    couriers[&target].deliver(&delivery(target.clone())).await
}

fn local(receiver: &Receiver, rest: &str) -> String {
    format!("http://127.0.0.1:{}{rest}", receiver.port)
}

fn retried(outcome: DeliveryOutcome) -> String {
    let DeliveryOutcome::Retry(line) = outcome else { panic!("not a retry: {outcome:?}") };
    assert!(!line.contains('\n') && line.len() < 400, "{line}");
    line
}

fn rejected(outcome: DeliveryOutcome) -> String {
    let DeliveryOutcome::Rejected(line) = outcome else { panic!("not rejected: {outcome:?}") };
    assert!(!line.contains('\n') && line.len() < 400, "{line}");
    line
}

fn plain(text: &str) -> Secret {
    Secret::Plain(PlainSecret(text.into()))
}

#[tokio::test]
async fn the_five_fields_arrive_as_configured() {
    let receiver = Receiver::plain(&[Reply::Status(204)]);
    let action = ActionUrl {
        method: "PUT".into(),
        headers: vec![("X-Event".into(), "{{ event }} of {{ node }}".into())],
        body: Body::Fields(
            serde_json::from_str(r#"{"id": "{{ id }}", "on": true, "to": ["{{ active_address }}"]}"#).unwrap(),
        ),
        ..action(&local(&receiver, "/update?name={{ dns_name }}"))
    };
    assert_eq!(fire(&action).await, DeliveryOutcome::Accepted("HTTP 204".into()));
    let [request] = &receiver.received()[..] else { panic!("not once") };
    assert_eq!((request.method.as_str(), request.target.as_str()), ("PUT", "/update?name=pbx.example.com"));
    assert_eq!(request.header("x-event").as_deref(), Some("takeover of pbx-b"));
    assert_eq!(request.header("content-type").as_deref(), Some("application/json"));
    assert_eq!(request.header("user-agent"), Some(format!("pbx-failover/{}", env!("CARGO_PKG_VERSION"))));
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&request.body).unwrap(),
        serde_json::json!({"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "on": true, "to": ["198.51.100.20"]})
    );
}

#[tokio::test]
async fn a_retry_bears_the_same_key_and_a_webhook_carries_subject_and_text() {
    let receiver = Receiver::plain(&[Reply::Status(503), Reply::Close, Reply::Status(200)]);
    let hook = ActionUrl {
        name: "chat".into(),
        events: Vec::new(),
        body: Body::Fields(serde_json::from_str(r#"{"text": "{{ subject }}\n{{ text }}"}"#).unwrap()),
        ..action(&local(&receiver, "/hook"))
    };
    let notify = Notify { webhooks: vec![hook], ..nobody() };
    let couriers = courier::couriers_of(&[], &notify).unwrap();
    let delivery = delivery(courier::webhook("chat"));
    let courier = &couriers[&delivery.target];
    let busy = retried(courier.deliver(&delivery).await);
    assert!(busy.starts_with("HTTP 503 from 127.0.0.1:") && busy.ends_with(": answer"), "{busy}");
    let closed = retried(courier.deliver(&delivery).await);
    assert!(closed.ends_with("closed the connection without an answer; it may have been carried out"), "{closed}");
    assert_eq!(courier.deliver(&delivery).await, DeliveryOutcome::Accepted("HTTP 200".into()));
    let requests = receiver.received();
    assert_eq!(requests.len(), 3);
    for request in requests {
        assert_eq!(request.header("idempotency-key").as_deref(), Some("01ARZ3NDEKTSV4RRFFQ69G5FAV-webhook:chat"));
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["text"], format!("{}\n{}", delivery.subject, delivery.text));
    }
}

#[tokio::test]
async fn each_answer_is_judged_by_whether_it_can_change() {
    for code in [401, 403, 404, 408, 409, 425, 429, 500, 503] {
        let receiver = Receiver::plain(&[Reply::Status(code)]);
        let line = retried(fire(&action(&local(&receiver, "/"))).await);
        assert!(line.starts_with(&format!("HTTP {code} from 127.0.0.1:")), "{line}");
    }
    for code in [400, 405, 410, 422] {
        let receiver = Receiver::plain(&[Reply::Status(code)]);
        rejected(fire(&action(&local(&receiver, "/"))).await);
    }
    let receiver = Receiver::plain(&[Reply::Status(200)]);
    let strict = ActionUrl { expect_status: 201..=201, ..action(&local(&receiver, "/")) };
    assert!(rejected(fire(&strict).await).contains("not in expect_status"));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_only_its_host_is_told() {
    let receiver =
        Receiver::plain(&[Reply::Full(302, "Location: https://other.example/?token=T0KENT0KEN", Vec::new())]);
    let line = rejected(fire(&action(&local(&receiver, "/"))).await);
    assert!(line.contains("(it points to other.example); redirects are not followed"), "{line}");
    assert!(!line.contains("T0KEN"), "{line}");
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn trouble_on_the_way_is_one_line_of_advice() {
    let closed = free_port();
    let line = retried(fire(&action(&format!("http://127.0.0.1:{closed}/?k=T0KENT0KEN"))).await);
    assert_eq!(
        line,
        format!("127.0.0.1:{closed} refused the connection; check that the server runs and the port is right")
    );

    let receiver = Receiver::plain(&[Reply::Hang]);
    let hanging = ActionUrl { timeout: Duration::from_millis(200), ..action(&local(&receiver, "/?k=T0KENT0KEN")) };
    let line = retried(fire(&hanging).await);
    assert_eq!(line, format!("127.0.0.1:{} did not answer within 200ms; it may have been carried out", receiver.port));

    // A label of 64 letters (RFC 1035 allows 63): the lookup fails here, without a question to anybody.
    let name = "a".repeat(64);
    let line = retried(fire(&action(&format!("http://{name}.test/T0KENT0KEN"))).await);
    assert!(line.starts_with(&format!("the name in {name}.test cannot be looked up")), "{line}");

    let receiver = Receiver::plain(&[Reply::Status(200)]);
    let line = retried(fire(&action(&format!("https://127.0.0.1:{}/T0KENT0KEN", receiver.port))).await);
    assert!(line.contains("does not speak TLS there") && !line.contains("T0KEN"), "{line}");
}

#[tokio::test]
async fn an_answer_without_end_is_read_only_so_far() {
    let receiver = Receiver::plain(&[Reply::Endless(500)]);
    let start = Instant::now();
    let line = retried(fire(&action(&local(&receiver, "/"))).await);
    assert!(start.elapsed() < Duration::from_secs(4) && line.len() < 250, "{line}");
}

#[tokio::test]
async fn the_own_ca_is_trusted_and_an_unknown_one_is_refused_with_advice() {
    let authority = Authority::new(&["127.0.0.1"]);
    let receiver = Receiver::tls(&[Reply::Status(200)], &authority);
    let url = format!("https://127.0.0.1:{}/", receiver.port);
    let line = retried(fire(&action(&url)).await);
    assert!(line.contains("CA that this host does not know; name the CA's PEM file in ca_file"), "{line}");
    let trusting = ActionUrl { ca_file: Some(authority.ca_file()), ..action(&url) };
    assert_eq!(fire(&trusting).await, DeliveryOutcome::Accepted("HTTP 200".into()));
    assert_eq!(receiver.received().len(), 1, "nothing may be sent to a server that is not trusted");

    let elsewhere = Authority::new(&["elsewhere.example"]);
    let receiver = Receiver::tls(&[Reply::Status(200)], &elsewhere);
    let url = format!("https://127.0.0.1:{}/", receiver.port);
    let line = retried(fire(&ActionUrl { ca_file: Some(elsewhere.ca_file()), ..action(&url) }).await);
    assert!(line.contains("is for another name"), "{line}");
}

#[tokio::test]
async fn a_secret_reaches_the_server_and_nobody_else() {
    let receiver = Receiver::plain(&[Reply::Echo(403)]);
    let secrets = [
        HttpAuth::Bearer(plain("b3arer-s3cret-w0rd")),
        HttpAuth::Basic { username: "robot".into(), password: plain("pa\"ss<w0rd>&x") },
    ];
    for auth in secrets {
        let action = ActionUrl {
            auth: Some(auth),
            headers: vec![("X-Api-Key".into(), "ap1keyap1key".into())],
            ..action(&local(&receiver, "/hooks/pathp4thtoken?why={{ reason }}"))
        };
        let shown = format!("{:?}", action.auth);
        assert!(!shown.contains("s3cret") && !shown.contains("w0rd"), "{shown}");
        let line = retried(fire(&action).await);
        assert!(line.contains("POST /hooks/[…]?why=web%20refused"), "the echo is not shown at all: {line}");
        let sent = receiver.take().pop().unwrap();
        let header = sent.header("authorization").unwrap();
        let (_, secret) = header.split_once(' ').unwrap();
        for word in ["s3cret", "arer-", "w0rd", "ap1key", "p4th", secret] {
            assert!(!line.contains(word), "{word} in {line}");
        }
    }
}

#[tokio::test]
async fn a_secret_is_read_at_the_moment_of_use_and_its_absence_names_the_file() {
    let receiver = Receiver::plain(&[Reply::Status(200)]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let action =
        ActionUrl { auth: Some(HttpAuth::Bearer(Secret::File(file.clone()))), ..action(&local(&receiver, "/")) };
    let couriers = courier::couriers_of(std::slice::from_ref(&action), &nobody()).unwrap();
    let delivery = delivery(courier::action_url("provider"));
    let courier = &couriers[&delivery.target];
    assert!(retried(courier.deliver(&delivery).await).contains(&file.display().to_string()));
    std::fs::write(&file, "two\nlines-s3cret\n").unwrap();
    let line = retried(courier.deliver(&delivery).await);
    assert!(line.contains("line break") && !line.contains("s3cret"), "{line}");
    std::fs::write(&file, "good\n").unwrap();
    assert_eq!(courier.deliver(&delivery).await, DeliveryOutcome::Accepted("HTTP 200".into()));
    assert_eq!(receiver.received()[0].header("authorization").as_deref(), Some("Bearer good"));
}

#[tokio::test]
async fn a_command_gets_every_variable_and_its_exit_code_counts() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("environment");
    let script = format!("env -0 > {}; echo 'no modem' >&2; exit $(cat {}/code)", out.display(), dir.path().display());
    let command = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let couriers = courier::couriers_of(&[], &Notify { command, ..nobody() }).unwrap();
    let mut delivery = delivery(courier::command());
    delivery.text.push_str("\0'; touch x; $(id)\n");
    std::fs::write(dir.path().join("code"), "0").unwrap();
    assert_eq!(couriers[&delivery.target].deliver(&delivery).await, DeliveryOutcome::Accepted("exit 0".into()));
    std::fs::write(dir.path().join("code"), "3").unwrap();
    let line = retried(couriers[&delivery.target].deliver(&delivery).await);
    assert_eq!(line, "notify.command: exit 3: no modem");
    let text = std::fs::read_to_string(&out).unwrap();
    let environment: BTreeMap<_, _> = text.split('\0').filter_map(|line| line.split_once('=')).collect();
    for (name, value) in &delivery.variables {
        assert_eq!(environment[format!("PBX_FAILOVER_{}", name.to_uppercase()).as_str()], value);
    }
    assert_eq!(environment["PBX_FAILOVER_SUBJECT"], delivery.subject);
    assert_eq!(environment["PBX_FAILOVER_TEXT"], delivery.text.replace('\0', "\u{fffd}"));
    assert_eq!(environment["PBX_FAILOVER_KEY"], delivery.key);
}

#[tokio::test]
async fn the_heartbeat_is_one_get_and_never_tells_its_url() {
    let receiver = Receiver::plain(&[Reply::Status(200), Reply::Status(404)]);
    let dead_man = DeadMan { url: local(&receiver, "/ping/T0KENT0KEN"), every: Duration::from_secs(60) };
    assert_eq!(beat(&dead_man).await, Ok(()));
    let fault = beat(&dead_man).await.unwrap_err();
    assert!(fault.starts_with("HTTP 404 from 127.0.0.1:") && !fault.contains("T0KEN"), "{fault}");
    let requests = receiver.received();
    assert_eq!(
        (requests.len(), requests[0].method.as_str(), requests[0].target.as_str()),
        (2, "GET", "/ping/T0KENT0KEN")
    );
    let port = free_port();
    let silent = DeadMan { url: format!("http://127.0.0.1:{port}/ping/T0KENT0KEN"), ..dead_man };
    let fault = beat(&silent).await.unwrap_err();
    assert!(fault.contains("refused the connection") && !fault.contains("T0KEN"), "{fault}");
}

#[test]
fn a_proxy_of_the_environment_is_not_used() {
    const CHILD: &str = "PBX_FAILOVER_LAB_CHILD";
    if std::env::var_os(CHILD).is_none() {
        // The environment of a running test cannot be changed safely: run this very test again in another one.
        let proxy = format!("http://127.0.0.1:{}", free_port());
        let name = "deliveries::a_proxy_of_the_environment_is_not_used";
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args([name, "--exact"]).env(CHILD, "1");
        for variable in ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            again.env(variable, &proxy);
        }
        let output = again.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let receiver = Receiver::plain(&[Reply::Status(200)]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(fire(&action(&local(&receiver, "/"))));
    assert_eq!(outcome, DeliveryOutcome::Accepted("HTTP 200".into()));
}

#[test]
fn an_event_goes_to_those_who_listen_and_to_every_channel() {
    let other = ActionUrl { name: "other".into(), events: vec![EventName::Failback], ..action("http://h.example/") };
    let actions = [action("http://h.example/"), other];
    let all = ActionUrl { name: "all".into(), events: Vec::new(), ..action("http://h.example/") };
    let some = ActionUrl { name: "some".into(), events: vec![EventName::Halted], ..action("http://h.example/") };
    let notify = Notify { webhooks: vec![all, some], command: vec!["true".into()], ..nobody() };
    let names = |event| courier::targets(&actions, &notify, event).into_iter().map(|t| t.0).collect::<Vec<_>>();
    assert_eq!(names(EventName::Takeover), ["action-url:provider", "webhook:all", "command"]);
    assert_eq!(names(EventName::Failback), ["action-url:other", "webhook:all", "command"]);
    assert_eq!(names(EventName::Halted), ["webhook:all", "webhook:some", "command"]);
    let couriers = courier::couriers_of(&actions, &notify).unwrap();
    for event in EventName::ALL {
        assert!(courier::targets(&actions, &notify, event).iter().all(|target| couriers.contains_key(target)));
    }
}

#[test]
fn a_bad_template_is_told_with_its_target_and_a_missing_ca_file_by_the_check() {
    let bad = action("http://h.example/{{ evnt }}");
    let fault = courier::couriers_of(std::slice::from_ref(&bad), &nobody()).err().unwrap();
    assert!(fault.starts_with("action-url:provider: url: {{ evnt }}: no variable is called evnt"), "{fault}");
    let bad =
        ActionUrl { ca_file: Some("/nowhere/ca.pem".into()), method: "TRACE".into(), ..action("http://h.example/") };
    let faults = courier::validate(&bad).unwrap_err();
    assert!(faults.len() == 2 && faults[1].starts_with("ca_file /nowhere/ca.pem: "), "{faults:?}");
}
