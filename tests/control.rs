//! The control socket and the page as a person, a script and a load balancer meet them.

#[path = "lab/mod.rs"]
mod lab;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pbx_failover::control::client::{AskError, Client};
use pbx_failover::control::{ControlSocket, Desk, DoorError, Page, Preview, PreviewStep};
use pbx_failover::ports::Answer;
use pbx_failover::units::journal::{HistoryEvent, HistoryQuery};
use pbx_failover::units::operator::{Command, Reply, Request};
use pbx_failover::units::snapshot::{Explanation, Status};
use pbx_failover::units::{PlanKind, Serving, State, Step};
use tempfile::TempDir;

struct Clerk {
    asked: Mutex<Vec<Request>>,
    serving: Serving,
}

impl Clerk {
    fn new(serving: Serving) -> Arc<Self> {
        Arc::new(Self { asked: Mutex::new(Vec::new()), serving })
    }
}

impl Desk for Clerk {
    fn status(&self) -> Answer<'_, Status> {
        Box::pin(async { Status { version: "0.1.0".into(), pairs: vec![] } })
    }

    fn explain(&self) -> Answer<'_, Explanation> {
        let answer = "no takeover: the primary is up".into();
        Box::pin(async { Explanation { answer, inputs: vec![], blocks: vec![], hints: vec![] } })
    }

    fn history(&self, query: HistoryQuery) -> Answer<'_, Result<Vec<HistoryEvent>, String>> {
        Box::pin(async move {
            if query.kind.as_deref() == Some("broken") {
                return Err("the store is damaged".into());
            }
            let line = |n: u32| HistoryEvent {
                at: jiff::Timestamp::UNIX_EPOCH,
                kind: "verdict".into(),
                state: State::Standby,
                row: None,
                what: n.to_string(),
                because: format!("{:?}", query.order),
            };
            Ok((0..query.limit).map(line).collect())
        })
    }

    fn preview(&self, plan: PlanKind) -> Answer<'_, Result<Preview, String>> {
        let step = PreviewStep { name: Step::Claim, does: "takes the epoch".into(), seconds: Some(1) };
        Box::pin(async move {
            Ok(Preview {
                plan,
                steps: vec![step],
                without_service_s: Some(40),
                carried_s: None,
                refused: None,
                stands_against: vec![],
            })
        })
    }

    fn operate(&self, request: Request) -> Answer<'_, Reply> {
        let refused = request.command == Command::Ack;
        self.asked.lock().unwrap().push(request);
        Box::pin(async move {
            if refused { Reply::Refused("no alarm repeats".into()) } else { Reply::Accepted("it begins".into()) }
        })
    }

    fn serving(&self) -> Answer<'_, Serving> {
        Box::pin(async { self.serving.clone() })
    }

    fn alive(&self) -> Answer<'_, ()> {
        Box::pin(async {})
    }
}

fn socket_in(dir: &TempDir) -> PathBuf {
    dir.path().join("run").join("control.sock")
}

async fn open(path: &Path, clerk: &Arc<Clerk>) -> tokio::task::JoinHandle<()> {
    let socket = ControlSocket::bind(path).await.unwrap();
    tokio::spawn(socket.serve(Arc::clone(clerk) as _))
}

#[tokio::test]
async fn a_person_asks_and_commands_and_is_recorded_by_uid() {
    let dir = TempDir::new().unwrap();
    let (path, clerk) = (socket_in(&dir), Clerk::new(Serving::No));
    open(&path, &clerk).await;
    let client = Client::new(&path).unwrap();
    assert_eq!(client.get::<Status>("/v1/status").await.unwrap().version, "0.1.0");
    assert!(client.get::<Explanation>("/v1/explain").await.unwrap().answer.contains("is up"));
    let lines: Vec<HistoryEvent> = client.get("/v1/history?limit=3&order=oldest").await.unwrap();
    assert_eq!((lines.len(), lines[0].because.as_str()), (3, "Oldest"));
    let preview: Preview = client.get("/v1/plan/failback").await.unwrap();
    assert_eq!((preview.plan, preview.steps[0].name), (PlanKind::Failback, Step::Claim));
    let told = client.get::<Vec<HistoryEvent>>("/v1/history?kind=broken").await.unwrap_err();
    assert!(matches!(&told, AskError::Told(error, _) if error.contains("damaged")), "{told}");
    let until = "2026-11-20T12:00:00Z".parse().unwrap();
    let commands = [
        Command::Takeover { primary_is_stopped: true, although_cut_off: false, without_claim: true },
        Command::Failback { wait: true, cut_calls: true, undo: false },
        Command::Pause { until },
        Command::Unpause,
        Command::Continue { fenced_by_hand: true },
        Command::Abandon { to: Some("pbx-a".parse().unwrap()) },
        Command::Abandon { to: None },
    ];
    for command in &commands {
        let reply = client.post(command, "a test").await.unwrap();
        assert_eq!(reply, Reply::Accepted("it begins".into()), "{command:?}");
    }
    let reply = client.post(&Command::Ack, "").await.unwrap();
    assert_eq!(reply, Reply::Refused("no alarm repeats".into()));
    let asked = clerk.asked.lock().unwrap();
    let by = format!("uid {}", rustix::process::geteuid().as_raw());
    for (request, command) in asked.iter().zip(&commands) {
        let expected = Request { command: command.clone(), reason: "a test".into(), by: by.clone() };
        assert_eq!(request, &expected);
    }
    assert_eq!(asked.len(), commands.len() + 1);
}

#[tokio::test]
async fn the_client_tells_nobody_there_from_not_allowed_from_not_known() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("control.sock");
    let client = Client::new(&path).unwrap();
    let told = client.get::<Status>("/v1/status").await.unwrap_err();
    assert_eq!(told, AskError::NoDaemon(path.clone()));
    let listener = UnixListener::bind(&path).unwrap();
    drop(listener);
    let told = client.post(&Command::Ack, "").await.unwrap_err();
    assert_eq!(told, AskError::NoDaemon(path.clone()), "a socket left by a dead process");
    std::fs::remove_file(&path).unwrap();
    // Takes the question, and dies.
    let listener = UnixListener::bind(&path).unwrap();
    let dying = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
    });
    let told = client.post(&Command::Unpause, "").await.unwrap_err();
    assert_eq!(told, AskError::TimedOut(path.clone()));
    dying.join().unwrap();
}

#[test]
fn somebody_outside_the_group_is_told_to_join_it() {
    if !rustix::process::geteuid().is_root() || !lab::have(&["setpriv"]) {
        eprintln!("SKIPPED: becoming nobody needs root");
        return;
    }
    let dir = TempDir::new().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("control.sock");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(open(&path, &Clerk::new(Serving::No)));
    // The child runs a copy that nobody may read and execute, wherever the build directory lies.
    let copy = dir.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    let end = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args(["--exact", "child_asks_as_nobody", "--ignored", "--nocapture"])
        .env("CONTROL_TEST_SOCKET", &path)
        .current_dir("/")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&end.stdout) + String::from_utf8_lossy(&end.stderr);
    assert!(end.status.success() && said.contains("join the group"), "{said}");
}

#[tokio::test]
#[ignore = "a child of somebody_outside_the_group_is_told_to_join_it"]
async fn child_asks_as_nobody() {
    let path = PathBuf::from(std::env::var_os("CONTROL_TEST_SOCKET").expect("run by another test of this file"));
    let told = Client::new(&path).unwrap().get::<Status>("/v1/status").await.unwrap_err();
    assert_eq!(told, AskError::NotAllowed(path));
    println!("{told}");
}

#[tokio::test]
async fn a_dead_ones_socket_is_replaced_and_a_living_ones_is_not() {
    let dir = TempDir::new().unwrap();
    let path = socket_in(&dir);
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    let serving = open(&path, &Clerk::new(Serving::No)).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let refused = ControlSocket::bind(&path).await.unwrap_err();
    assert!(matches!(refused, DoorError::InUse(_)), "{refused}");
    Client::new(&path).unwrap().get::<Status>("/v1/status").await.unwrap();
    serving.abort();
    let _ = serving.await;
    assert!(!path.exists(), "it is removed when the server ends");
    std::fs::write(&path, "a file of somebody").unwrap();
    let refused = ControlSocket::bind(&path).await.unwrap_err();
    assert!(matches!(refused, DoorError::NotASocket(_)), "{refused}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file of somebody");
    let long = dir.path().join("x".repeat(120));
    assert!(matches!(ControlSocket::bind(&long).await.unwrap_err(), DoorError::TooLong(_)));
}

#[tokio::test]
async fn the_page_reads_and_never_acts() {
    lab_tls();
    for (serving, code) in [(Serving::Yes, 200), (Serving::No, 503), (Serving::Unknown("?".into()), 503)] {
        let clerk = Clerk::new(serving);
        let page = Page::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let at = page.address().unwrap();
        tokio::spawn(page.serve(Arc::clone(&clerk) as _));
        let http = reqwest::Client::new();
        let get = async |path: &str| http.get(format!("http://{at}{path}")).send().await.unwrap().status().as_u16();
        assert_eq!(get("/active").await, code);
        assert_eq!(get("/healthz").await, 200);
        assert_eq!(get("/v1/status").await, 200);
        assert_eq!(get("/nowhere").await, 404);
        let answer = http.post(format!("http://{at}/v1/takeover")).body(r#"{"reason":"x"}"#).send().await.unwrap();
        assert_eq!(answer.status(), 404);
        assert!(clerk.asked.lock().unwrap().is_empty());
    }
}

fn lab_tls() {
    pbx_failover::host::tls::install_provider();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_at_the_real_socket_leaves_it_open() {
    use proptest::prelude::Rng;
    use proptest::test_runner::{RngAlgorithm, TestRng};
    let dir = TempDir::new().unwrap();
    let (path, clerk) = (socket_in(&dir), Clerk::new(Serving::No));
    open(&path, &clerk).await;
    let target = path.clone();
    let garbage = move || {
        let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let good = b"POST /v1/takeover HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{\"reason\":\"x\"}";
        let mut back = Vec::new();
        for round in 0..5_000_u64 {
            let mut bytes = good.to_vec();
            for _ in 0..=rng.next_u64() % 6 {
                let place = usize::try_from(rng.next_u64()).unwrap() % bytes.len();
                bytes[place] = rng.next_u64().to_le_bytes()[0];
            }
            if round % 5 == 0 {
                bytes.truncate(usize::try_from(rng.next_u64()).unwrap() % bytes.len());
            }
            let mut stream = UnixStream::connect(&target).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            if round % 7 != 0 {
                back.clear();
                if let Err(error) = stream.read_to_end(&mut back) {
                    assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "no answer and no end");
                }
            }
        }
    };
    tokio::task::spawn_blocking(garbage).await.unwrap();
    let client = Client::new(&path).unwrap();
    assert_eq!(client.get::<Status>("/v1/status").await.unwrap().version, "0.1.0");
    let asked = clerk.asked.lock().unwrap();
    assert!(asked.iter().all(|request| !request.reason.is_empty()), "{asked:?}");
}
