//! The fence: real commands that cut and tell, and a server that answers as a management controller does (Redfish).

use std::path::Path;
use std::time::{Duration, Instant};

use pbx_failover::adapters::fence;
use pbx_failover::config::{Files, Surroundings, parse};
use pbx_failover::ports::{Fence, FenceOrder, Power};
use pbx_failover::units::{Mode, PlanId, StepOutcome};

use crate::lab::free_port;
use crate::lab::http::{Authority, Receiver, Reply};

const PLAN: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const PASSWORD: &str = "calvin-S3CR3T";

/// The fence that stands in a file beside a pair.
fn fence_of(text: &str) -> Box<dyn Fence> {
    let text = format!(
        r#"
node: pbx-b
primary: {{ node: pbx-a, address: 203.0.113.10 }}
backup:  {{ node: pbx-b, address: 198.51.100.20 }}
monitor: {{ checks: {{ web: {{ http: "https://pbx.example.com/" }} }} }}
pbx:     {{ working_dir: /usr/local/pbx, driver: {{ systemd: {{ unit: pbx.service }} }} }}
{text}
"#
    );
    let surroundings = Surroundings { host_name: "pbx-b".to_owned(), files: Files::Ignored };
    let loaded = parse(&text, Path::new("/etc/pbx-failover/failover.yaml"), &surroundings);
    fence::fence(&loaded.unwrap_or_else(|refused| panic!("{refused}")).config).expect("a good fence")
}

fn order() -> FenceOrder {
    FenceOrder { plan: PlanId(PLAN.parse().expect("an id")), epoch: Some(7) }
}

async fn act(fence: &dyn Fence) -> StepOutcome {
    fence.fence(&order(), Mode::Act).await
}

async fn look(fence: &dyn Fence) -> StepOutcome {
    fence.fence(&order(), Mode::Look).await
}

#[track_caller]
fn done(outcome: &StepOutcome) -> &str {
    let StepOutcome::Done(text) = outcome else { panic!("not done: {outcome:?}") };
    text
}

#[track_caller]
fn failed(outcome: &StepOutcome) -> &str {
    let StepOutcome::Failed(text) = outcome else { panic!("not failed: {outcome:?}") };
    text
}

#[track_caller]
fn unknown(outcome: &StepOutcome) -> &str {
    let StepOutcome::Unknown(text) = outcome else { panic!("not unknown: {outcome:?}") };
    text
}

/// A script as a command in YAML.
fn sh(script: &str) -> String {
    serde_json::to_string(&["sh", "-c", script]).expect("JSON")
}

/// A fence by command; `cut` and `read` are scripts, `@` in them is the directory.
fn by_command(dir: &Path, cut: &str, read: &str, timeout: &str) -> Box<dyn Fence> {
    let [cut, read] = [cut, read].map(|script| sh(&script.replace('@', dir.to_str().expect("a plain path"))));
    fence_of(&format!("fence: {{ command: {cut}, read_back: {{ command: {read} }}, timeout: {timeout} }}"))
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("directory")
}

#[tokio::test]
async fn without_a_fence_there_is_nothing_to_do_and_nothing_to_ask() {
    let none = fence_of("");
    assert_eq!(done(&act(&*none).await), "not configured");
    assert_eq!(none.read_back().await, Power::NotAsked);
}

#[tokio::test]
async fn a_command_without_a_reading_is_believed_by_its_exit_code() {
    let fence = |script: &str| fence_of(&format!("fence: {{ command: {}, timeout: 300ms }}", sh(script)));
    assert_eq!(
        done(&act(&*fence("echo outlet 3 off")).await),
        "fence.command: exit 0: outlet 3 off, by its own word (no fence.read_back)"
    );
    assert_eq!(failed(&act(&*fence("echo no such outlet >&2; exit 3")).await), "fence.command: exit 3: no such outlet");
    assert!(unknown(&act(&*fence("sleep 30")).await).contains("still running at the time-out"), "it may have cut");
    assert!(unknown(&act(&*fence("kill -9 $$")).await).contains("ended by a signal"));
    let absent = fence_of("fence: { command: [/nonexistent/pdu] }");
    assert!(failed(&act(&*absent).await).contains("could not be started"));
    assert!(failed(&look(&*absent).await).contains("fence.read_back is not set"), "so it has to be cut");
}

#[tokio::test]
async fn it_is_read_back_until_it_is_off() {
    let dir = dir();
    // Off at the third reading after the cut.
    let fence = by_command(
        dir.path(),
        "touch @/cut",
        "test -e @/cut || exit 1; echo x >> @/readings; test $(wc -l < @/readings) -ge 3 && echo outlet is off",
        "10s",
    );
    assert!(failed(&look(&*fence).await).contains("pbx-a reads on"));
    assert!(matches!(fence.read_back().await, Power::On(_)));
    assert!(!dir.path().join("cut").exists(), "a look cuts nothing");
    let outcome = act(&*fence).await;
    assert_eq!(
        done(&outcome),
        "pbx-a reads off (fence.read_back: exit 0: outlet is off); fence.command: exit 0: nothing said"
    );
    assert_eq!(std::fs::read_to_string(dir.path().join("readings")).expect("readings").lines().count(), 3);
    assert!(done(&look(&*fence).await).starts_with("pbx-a reads off already"));
}

#[tokio::test]
async fn what_is_read_decides_whatever_the_cut_said() {
    let dir = dir();
    let start = Instant::now();
    let fence = by_command(dir.path(), "touch @/cut; sleep 30", "test -e @/cut", "500ms");
    assert!(done(&act(&*fence).await).starts_with("pbx-a reads off"), "it hung, and had cut");
    let fence = by_command(dir.path(), "exit 5", "exit 0", "500ms");
    assert!(done(&act(&*fence).await).contains("exit 5"), "it failed, and the host is off");
    let fence = by_command(dir.path(), "sleep 30", "exit 1", "300ms");
    assert!(unknown(&act(&*fence).await).contains("pbx-a still reads on after 300ms"), "it may yet cut");
    let fence = by_command(dir.path(), "exit 0", "exit 1", "300ms");
    assert!(failed(&act(&*fence).await).contains("pbx-a still reads on after 300ms"), "its word was not true");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_cut_that_did_not_happen_is_not_waited_for() {
    let start = Instant::now();
    let fence = by_command(dir().path(), "echo no such outlet >&2; exit 3", "exit 1", "60s");
    let outcome = act(&*fence).await;
    let said = failed(&outcome);
    assert!(said.contains("no such outlet") && said.contains("pbx-a reads on"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_reading_that_is_neither_on_nor_off_is_not_known() {
    let dir = dir();
    for read in ["exit 2", "exit 127", "kill -9 $$", "sleep 30"] {
        let fence = by_command(dir.path(), "exit 0", read, "300ms");
        assert!(unknown(&look(&*fence).await).starts_with("it is not known whether pbx-a is off"), "{read}");
        assert!(unknown(&act(&*fence).await).starts_with("it is not known whether pbx-a is off"), "{read}");
        assert!(matches!(fence.read_back().await, Power::Unknown(_)), "{read}");
    }
}

#[tokio::test]
async fn a_command_finds_the_pair_and_the_plan_in_its_environment() {
    let dir = dir();
    let fence = by_command(dir.path(), "env > @/env", "exit 0", "10s");
    done(&act(&*fence).await);
    let env = std::fs::read_to_string(dir.path().join("env")).expect("it ran");
    for line in [
        "PBX_FAILOVER_PRIMARY_NODE=pbx-a",
        "PBX_FAILOVER_PRIMARY_ADDRESS=203.0.113.10",
        "PBX_FAILOVER_NODE=pbx-b",
        "PBX_FAILOVER_EPOCH=7",
        "PBX_FAILOVER_ID=01ARZ3NDEKTSV4RRFFQ69G5FAV",
    ] {
        assert!(env.lines().any(|found| found == line), "{line}\n{env}");
    }
}

/// What a controller tells of a server, as iDRAC and iLO do: states and possible actions, with blanks or without.
fn system(power: &str) -> Reply {
    let body = format!(
        r##"{{"@odata.id": "/redfish/v1/Systems/1", "Status": {{"Health": "OK"}}, "PowerState": "{power}",
            "Actions": {{"#ComputerSystem.Reset": {{"ResetType@Redfish.AllowableValues": ["On", "ForceOff"]}}}}}}"##
    );
    Reply::Full(200, "Content-Type: application/json", body.into_bytes())
}

/// A fence by Redfish at `base`.
fn by_redfish(base: &str, ca_file: &str, timeout: &str) -> Box<dyn Fence> {
    let auth = format!("auth: {{ basic: {{ username: robot, password: {PASSWORD} }} }}");
    let of = format!("{auth}, ca_file: \"{ca_file}\", timeout: {timeout}");
    fence_of(&format!(
        "fence:
  http: {{ url: \"{base}/redfish/v1/Systems/1/Actions/ComputerSystem.Reset\", {of}, body: {{ ResetType: ForceOff }} }}
  read_back: {{ http: {{ url: \"{base}/redfish/v1/Systems/1\", {of}, expect_body: '\"PowerState\":\"Off\"' }} }}
  timeout: {timeout}
"
    ))
}

fn plain(receiver: &Receiver, timeout: &str) -> Box<dyn Fence> {
    by_redfish(&format!("http://127.0.0.1:{}", receiver.port), "", timeout)
}

#[tokio::test]
async fn redfish_cuts_over_tls_and_is_read_back_until_the_power_state_is_off() {
    let authority = Authority::new(&["127.0.0.1"]);
    let script = [Reply::Full(204, "X-Lab: 1", Vec::new()), system("On"), system("PoweringOff"), system("Off")];
    let receiver = Receiver::tls(&script, &authority);
    let base = format!("https://127.0.0.1:{}", receiver.port);
    let fence = by_redfish(&base, authority.ca_file().to_str().expect("a plain path"), "10s");
    let outcome = act(&*fence).await;
    assert_eq!(
        done(&outcome),
        format!("pbx-a reads off (fence.read_back: HTTP 200 from 127.0.0.1:{}); fence.http: HTTP 204", receiver.port)
    );
    let requests = receiver.received();
    let asked: Vec<_> = requests.iter().map(|r| (r.method.as_str(), r.target.as_str())).collect();
    let reading = ("GET", "/redfish/v1/Systems/1");
    assert_eq!(asked, [("POST", "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset"), reading, reading, reading]);
    assert_eq!(requests[0].body, br#"{"ResetType":"ForceOff"}"#);
    assert_eq!(requests[0].header("idempotency-key"), Some(format!("{PLAN}:fence")));
    assert_eq!(requests[1].header("idempotency-key"), None);
    assert!(requests.iter().all(|r| r.header("authorization").is_some_and(|value| value.starts_with("Basic "))));
    assert!(done(&look(&*fence).await).contains("reads off already"));
}

#[tokio::test]
async fn an_answer_that_was_lost_is_settled_by_what_is_read() {
    for lost in [Reply::Close, Reply::Hang, Reply::Status(502)] {
        let receiver = Receiver::plain(&[lost.clone(), system("Off")]);
        assert!(done(&act(&*plain(&receiver, "700ms")).await).starts_with("pbx-a reads off"));
        let receiver = Receiver::plain(&[lost, system("On")]);
        assert!(unknown(&act(&*plain(&receiver, "700ms")).await).contains("still reads on"), "it may yet cut");
    }
}

#[tokio::test]
async fn a_refusal_is_a_failure_that_shows_no_secret() {
    let receiver = Receiver::plain(&[Reply::Echo(401), system("On")]);
    let outcome = act(&*plain(&receiver, "30s")).await;
    let said = failed(&outcome);
    assert!(said.starts_with("fence.http: HTTP 401") && said.contains("check auth"), "{said}");
    assert!(!said.contains(PASSWORD) && !said.contains("ComputerSystem"), "{said}");
    let receiver = Receiver::plain(&[Reply::Status(409), system("Off")]);
    assert!(done(&act(&*plain(&receiver, "30s")).await).contains("HTTP 409"), "refused because it is off");
}

#[tokio::test]
async fn a_controller_that_is_not_there_fails_at_once() {
    let start = Instant::now();
    let fence = by_redfish(&format!("http://127.0.0.1:{}", free_port()), "", "30s");
    let outcome = act(&*fence).await;
    let said = failed(&outcome);
    assert!(said.contains("refused the connection") && said.contains("it is not known whether"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    unknown(&look(&*fence).await);
}

#[tokio::test]
async fn a_reading_that_says_nothing_whole_is_not_known() {
    for (what, reading) in [
        ("an error page", Reply::Status(500)),
        (
            "another's login page",
            Reply::Full(302, "Location: https://192.0.2.1/login", b"\"PowerState\":\"Off\"".to_vec()),
        ),
        ("a body without end", Reply::Endless(200)),
        ("no answer", Reply::Close),
    ] {
        let receiver = Receiver::plain(&[reading]);
        let power = plain(&receiver, "5s").read_back().await;
        assert!(matches!(power, Power::Unknown(_)), "{what}: {power:?}");
    }
}

#[tokio::test]
async fn a_request_may_name_the_pair_and_the_plan() {
    let receiver = Receiver::plain(&[Reply::Status(200)]);
    let url = format!("http://127.0.0.1:{}/stop/{{{{ primary_node }}}}?at={{{{ primary_address }}}}", receiver.port);
    let body = "{ id: \"{{ id }}\", turn: \"{{ epoch }}\" }";
    let fence = fence_of(&format!("fence: {{ http: {{ url: \"{url}\", body: {body} }} }}"));
    assert_eq!(done(&act(&*fence).await), "fence.http: HTTP 200, by its own word (no fence.read_back)");
    let [request] = &receiver.received()[..] else { panic!("not once") };
    assert_eq!(request.target, "/stop/pbx-a?at=203.0.113.10");
    assert_eq!(String::from_utf8_lossy(&request.body), format!(r#"{{"id":"{PLAN}","turn":"7"}}"#));
}
