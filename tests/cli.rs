//! The command line as a person or a script meets it: exit codes, questions, refusals, what goes to which stream.
//!
//! The daemon is a stand-in here; the looks of each answer are tested beside its renderer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command as Process, Output, Stdio};
use std::rc::Rc;
use std::time::Duration;

use jiff::tz::TimeZone;
use pbx_failover::cli::args::Part;
use pbx_failover::cli::backend::{
    AfterStory, Backend, CheckOrder, CheckReport, Ending, FsmFormat, Global, GuardOrder, GuardReport, HistoryBounds,
    May, Preview, Teller, Told, Whole,
};
use pbx_failover::cli::console::Console;
use pbx_failover::cli::exit::{Exit, Trouble};
use pbx_failover::cli::render::{Page, Paint};
use pbx_failover::data::Class;
use pbx_failover::demo::Mood;
use pbx_failover::units::journal::HistoryEvent;
use pbx_failover::units::operator::{Command, Reply, Request};
use pbx_failover::units::snapshot::{Explanation, Status};
use pbx_failover::units::{DeliveryOutcome, PlanKind};
use serde_json::{Value, json};

/// A daemon that says what a test told it to, and remembers what it was asked.
#[derive(Default)]
struct World {
    /// Answers to `status`, the last one for ever. None at all: no daemon.
    statuses: RefCell<VecDeque<Value>>,
    preview_refused: RefCell<Option<String>>,
    reply: RefCell<Option<Result<Reply, Trouble>>>,
    report: RefCell<Value>,
    delivery: RefCell<Option<DeliveryOutcome>>,
    guard: RefCell<Option<Result<GuardReport, Trouble>>>,
    asked: RefCell<Vec<Request>>,
    called: RefCell<Vec<String>>,
}

fn no_daemon() -> Trouble {
    Trouble::new(Exit::NoDaemon, "no daemon answers at /run/pbx-failover/control.sock")
        .hint("start it: systemctl start pbx-failover")
}

struct Fake(Rc<World>, Global);

impl Fake {
    fn called(&self, what: impl Into<String>) {
        self.0.called.borrow_mut().push(what.into());
    }
}

impl Backend for Fake {
    fn guard(&self, order: GuardOrder) -> Result<GuardReport, Trouble> {
        self.called(format!("guard {order:?}"));
        let answer = self.0.guard.borrow().clone();
        answer.unwrap_or_else(|| Err(Trouble::new(Exit::ConfigRefused, "the file is refused")))
    }

    fn demo(&self, after: AfterStory, tell: Teller<'_>) -> Result<Ending, Trouble> {
        self.called(format!("demo {after:?}"));
        let told = Told { at_ms: 7, who: "robot", what: "armed".to_owned(), mood: Mood::Good };
        tell(told).map_err(|error| Trouble::new(Exit::Failed, error.to_string()))?;
        Ok(if after == AfterStory::Stay { Ending::Interrupted } else { Ending::Well })
    }

    fn ledger(&self, class: Option<Class>) -> Result<Whole, Trouble> {
        self.called(format!("ledger {class:?}"));
        Ok(Whole { ledger: None, files: Vec::new(), kept_twice: Vec::new() })
    }

    fn carry_ledger(&self) -> Result<String, Trouble> {
        self.called("carry".to_owned());
        Ok("carried".to_owned())
    }

    fn end_ledger(&self) -> Result<String, Trouble> {
        self.called("end".to_owned());
        Ok("ended".to_owned())
    }

    fn demo_part(&self, part: Part, file: &Path) -> Result<(), Trouble> {
        self.called(format!("demo-part {part:?} {}", file.display()));
        Ok(())
    }

    fn run(&self, file: &Path) -> Result<(), Trouble> {
        self.called(format!("run {}", file.display()));
        Ok(())
    }

    fn check(&self, order: CheckOrder) -> Result<CheckReport, Trouble> {
        self.called(format!("check {} {order:?}", self.1.config.display()));
        let report = self.0.report.borrow().clone();
        if report.is_null() {
            let mut trouble = Trouble::new(Exit::ConfigRefused, "failover.yaml:3:5: internet.need: 4 of 3 targets");
            trouble.errors.push("failover.yaml:9:1: epohc: no such key; did you mean epoch?".into());
            return Err(trouble);
        }
        Ok(serde_json::from_value(report).expect("a report"))
    }

    fn status(&self) -> Result<Status, Trouble> {
        let mut statuses = self.0.statuses.borrow_mut();
        let next = if statuses.len() > 1 { statuses.pop_front() } else { statuses.front().cloned() };
        next.map(|json| serde_json::from_value(json).expect("a status")).ok_or_else(no_daemon)
    }

    fn explain(&self) -> Result<Explanation, Trouble> {
        Ok(Explanation {
            answer: "the primary is up".into(),
            inputs: Vec::new(),
            blocks: Vec::new(),
            hints: Vec::new(),
        })
    }

    fn history(&self, order: HistoryBounds) -> Result<Vec<HistoryEvent>, Trouble> {
        self.called(format!("history since {:?} limit {}", order.since.map(|t| t.to_string()), order.limit));
        Ok(Vec::new())
    }

    fn preview(&self, plan: PlanKind) -> Result<Preview, Trouble> {
        let json = json!({"plan": plan, "steps": [{"name": "claim", "does": "take epoch 7"}]});
        let mut preview: Preview = serde_json::from_value(json).expect("a preview");
        preview.refused.clone_from(&self.0.preview_refused.borrow());
        Ok(preview)
    }

    fn operate(&self, request: &Request) -> Result<Reply, Trouble> {
        self.0.asked.borrow_mut().push(request.clone());
        self.0.reply.borrow().clone().unwrap_or_else(|| Ok(Reply::Accepted("takeover begins".into())))
    }

    fn test_notify(&self, name: &str) -> Result<DeliveryOutcome, Trouble> {
        self.called(format!("notify {name}"));
        Ok(self.0.delivery.borrow().clone().expect("an outcome"))
    }

    fn test_action_url(&self, name: &str) -> Result<DeliveryOutcome, Trouble> {
        self.called(format!("action-url {name}"));
        Ok(self.0.delivery.borrow().clone().expect("an outcome"))
    }

    fn fsm(&self, format: FsmFormat) -> Result<String, Trouble> {
        Ok(format!("{format:?}"))
    }

    fn schema(&self) -> Result<String, Trouble> {
        Ok("{}".into())
    }
}

/// A person at a terminal, or none.
#[derive(Default)]
struct Person {
    /// What the person types; `None`: no terminal.
    answers: Option<VecDeque<String>>,
    out: String,
    said: String,
    questions: Vec<String>,
    passed: Duration,
    reader_gone: bool,
}

impl Console for Person {
    fn out(&mut self, text: &str) -> io::Result<()> {
        if self.reader_gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.out += text.trim_end();
        self.out.push('\n');
        Ok(())
    }

    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out += &String::from_utf8_lossy(bytes);
        Ok(())
    }

    fn say(&mut self, text: &str) {
        self.said += text.trim_end();
        self.said.push('\n');
    }

    fn can_ask(&self) -> bool {
        self.answers.is_some()
    }

    fn ask(&mut self, question: &str) -> Option<String> {
        self.questions.push(question.to_owned());
        self.answers.as_mut()?.pop_front()
    }

    fn page(&self) -> Page {
        Page { now: "2026-11-20T10:05:00.4Z".parse().expect("a time"), zone: TimeZone::UTC, paint: Paint::Plain }
    }

    fn elapsed(&self) -> Duration {
        self.passed
    }

    fn wait(&mut self, time: Duration) {
        self.passed += time;
    }
}

fn call(world: &Rc<World>, person: &mut Person, line: &str) -> Exit {
    // A reason in quotes stays one word.
    let words = line.split('\'').enumerate().flat_map(|(i, part)| {
        if i % 2 == 1 { vec![part.to_owned()] } else { part.split_whitespace().map(str::to_owned).collect() }
    });
    let args = std::iter::once("pbx-failover".to_owned()).chain(words);
    let world = Rc::clone(world);
    pbx_failover::cli::run(args, person, &move |global| Box::new(Fake(Rc::clone(&world), global.clone())))
}

fn typing(answers: &[&str]) -> Person {
    Person { answers: Some(answers.iter().map(ToString::to_string).collect()), ..Person::default() }
}

fn status(state: &str, since: &str, plan: &Value) -> Value {
    let mut pair = json!({
        "name": "default", "node": "pbx-b", "role": "backup", "state": state, "state_since": since,
        "verdict": "primary-dead", "verdict_because": "all votes are down", "degraded": false,
        "armed": {"ok": true, "because": []}, "epoch": {"number": 7, "holder": "pbx-b", "store": "dns"},
        "checks": [], "internet": {"need": 1, "ok": true, "targets": []},
        "pbx": {"driver": "command", "trunks": []}, "dns": [], "alarms": [], "queued_deliveries": 0});
    if !plan.is_null() {
        pair["plan"] = plan.clone();
    }
    json!({"version": "0.1.0", "pairs": [pair]})
}

fn plan(kind: &str, id: &str, ended: Option<&str>, steps: &Value) -> Value {
    let mut plan =
        json!({"name": kind, "id": id, "because": "asked", "started": "2026-11-20T10:04:00Z", "steps": steps});
    if let Some(ended) = ended {
        plan["ended"] = ended.into();
    }
    plan
}

const OLD: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const NEW: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAW";

fn world(statuses: Vec<Value>) -> Rc<World> {
    Rc::new(World { statuses: RefCell::new(statuses.into()), ..World::default() })
}

/// Standby, then a takeover that serves on the third look.
fn takeover_that_works() -> Rc<World> {
    let claiming = json!([{"name": "claim", "state": "running", "attempt": 1}]);
    let claimed = json!([{"name": "claim", "state": "done", "attempt": 1, "proof": "epoch 7 read back"}]);
    world(vec![
        status("standby", "2026-11-20T09:00:00Z", &Value::Null),
        status("taking-over", "2026-11-20T10:05:01Z", &plan("takeover", NEW, None, &claiming)),
        status("taking-over", "2026-11-20T10:05:01Z", &plan("takeover", NEW, None, &claimed)),
        status("active", "2026-11-20T10:05:02Z", &plan("takeover", NEW, None, &claimed)),
    ])
}

#[test]
fn a_person_sees_the_plan_gives_a_reason_and_types_yes() {
    let world = takeover_that_works();
    let mut person = typing(&["power cut at the office", "yes"]);
    assert_eq!(call(&world, &mut person, "takeover"), Exit::Done);
    assert_eq!(person.questions, ["why? (recorded)", "takeover: type yes to go on:"]);
    assert!(person.said.contains("1. claim  take epoch 7"), "{}", person.said);
    assert_eq!(world.asked.borrow()[0].reason, "power cut at the office");
    assert_eq!(person.out, "pbx-b serves\n");
}

#[test]
fn whoever_does_not_type_yes_has_done_nothing() {
    for answers in [vec!["why not", "y"], vec!["why not", ""], vec!["why not"], vec!["why not", "YES"]] {
        let world = takeover_that_works();
        let mut person = typing(&answers);
        assert_eq!(call(&world, &mut person, "takeover"), Exit::Failed, "{answers:?}");
        assert!(person.said.contains("nothing was done"), "{}", person.said);
        assert!(world.asked.borrow().is_empty());
    }
    let world = takeover_that_works();
    assert_eq!(call(&world, &mut typing(&["", "yes"]), "takeover"), Exit::Usage);
    assert!(world.asked.borrow().is_empty());
}

#[test]
fn a_script_must_agree_in_its_flags() {
    for line in ["takeover", "failback", "continue", "abandon", "takeover --yes", "failback --reason 'home again'"] {
        let world = takeover_that_works();
        let mut person = Person::default();
        assert_eq!(call(&world, &mut person, line), Exit::Usage, "{line}");
        assert!(person.said.contains("hint: give --yes and --reason TEXT"), "{}", person.said);
        assert!(world.asked.borrow().is_empty(), "{line}");
    }
    let world = takeover_that_works();
    assert_eq!(call(&world, &mut Person::default(), "takeover --yes --reason 'planned'"), Exit::Done);
    assert_eq!(world.asked.borrow()[0].reason, "planned");
}

#[test]
fn flags_reach_the_daemon_as_they_were_given() {
    let world = takeover_that_works();
    let yes = "--yes --reason r --no-watch";
    for line in [
        "takeover --primary-is-stopped --without-claim",
        "failback --wait --cut-calls",
        "failback --undo",
        "continue --fenced-by-hand",
        "abandon --to PBX-A",
        "pause --for 2h",
        "unpause",
        "ack",
    ] {
        assert_eq!(call(&world, &mut Person::default(), &format!("{line} {yes}")), Exit::Done, "{line}");
    }
    let asked = world.asked.borrow();
    let commands: Vec<Command> = asked.iter().map(|request| request.command.clone()).collect();
    let want = [
        Command::Takeover { primary_is_stopped: true, although_cut_off: false, without_claim: true },
        Command::Failback { wait: true, cut_calls: true, undo: false },
        Command::Failback { wait: false, cut_calls: false, undo: true },
        Command::Continue { fenced_by_hand: true },
        Command::Abandon { to: Some("pbx-a".parse().expect("a name")) },
        Command::Pause { until: "2026-11-20T12:05:00Z".parse().expect("a time") },
        Command::Unpause,
        Command::Ack,
    ];
    assert_eq!(commands, want);
}

#[test]
fn maintenance_verbs_need_no_ceremony() {
    for line in ["pause --for 30m", "unpause", "ack"] {
        let world = takeover_that_works();
        assert_eq!(call(&world, &mut Person::default(), line), Exit::Done, "{line}");
        assert_eq!(world.asked.borrow()[0].reason, "no reason given", "{line}");
    }
}

#[test]
fn a_dry_run_prints_the_plan_and_asks_nobody() {
    let world = takeover_that_works();
    let mut person = Person::default();
    assert_eq!(call(&world, &mut person, "takeover --dry-run"), Exit::Done);
    assert!(person.out.starts_with("takeover would do, in this order:"), "{}", person.out);
    assert_eq!(call(&world, &mut person, "abandon --dry-run"), Exit::Done);
    assert!(world.asked.borrow().is_empty() && person.said.is_empty());

    let mut person = Person::default();
    *world.preview_refused.borrow_mut() = Some("the primary does not answer; use --wait".into());
    assert_eq!(call(&world, &mut person, "failback --dry-run --json"), Exit::Refused);
    let printed: Value = serde_json::from_str(&person.out).expect("JSON");
    assert_eq!(printed["refused"], "the primary does not answer; use --wait");
}

#[test]
fn what_a_host_cannot_do_is_one_line_that_says_where_to_give_it() {
    const WHERE: &str = "pbx-a runs no plan; give it on pbx-b";
    let on = |role: &str| {
        let mut told = status("standby", "2026-11-20T09:00:00Z", &Value::Null);
        told["pairs"][0]["role"] = role.into();
        let world = world(vec![told]);
        *world.preview_refused.borrow_mut() = Some(WHERE.into());
        *world.reply.borrow_mut() = Some(Ok(Reply::Accepted("done".into())));
        world
    };
    for (role, lines) in [
        (
            "primary",
            &["takeover", "takeover --primary-is-stopped", "failback", "failback --undo", "continue", "abandon"][..],
        ),
        ("observer", &["pause --for 1h", "unpause", "ack", "takeover", "failback --wait", "continue", "abandon"]),
    ] {
        for line in lines {
            let (world, mut person) = (on(role), Person::default());
            let acts = !matches!(*line, "pause --for 1h" | "unpause" | "ack");
            let agreed = if acts { " --yes --reason x" } else { "" };
            assert_eq!(call(&world, &mut person, &format!("{line}{agreed}")), Exit::Refused, "{role}: {line}");
            assert_eq!(
                (person.out.as_str(), person.said.as_str()),
                ("", &*format!("error: {WHERE}\n")),
                "{role}: {line}"
            );
            let mut person = Person::default();
            assert_eq!(call(&world, &mut person, &format!("{line} --dry-run")), Exit::Refused, "{role}: {line}");
            assert_eq!(person.out.trim_end(), WHERE, "{role}: {line}");
            assert!(world.asked.borrow().is_empty());
        }
    }
    // What an agent can do has another meaning there than on the backup.
    for (line, means) in [
        ("pause --for 1h", "announces that the PBX here is stopped until"),
        ("unpause", "takes the announced stop of the PBX here back"),
    ] {
        let (world, mut person) = (on("primary"), Person::default());
        assert_eq!(call(&world, &mut person, line), Exit::Done, "{line}");
        assert!(person.said.starts_with(means), "{line}: {}", person.said);
        assert_eq!(world.asked.borrow().len(), 1);
    }
}

#[test]
fn what_would_be_refused_is_not_asked_for() {
    let world = takeover_that_works();
    *world.preview_refused.borrow_mut() = Some("the primary does not answer; use --wait".into());
    let mut person = typing(&["r", "yes"]);
    assert_eq!(call(&world, &mut person, "failback"), Exit::Refused);
    assert!(person.said.ends_with("error: the primary does not answer; use --wait\n"), "{}", person.said);
    assert!(person.questions.is_empty() && world.asked.borrow().is_empty());

    // A flag may be just what overcomes the refusal: the daemon decides.
    let mut person = typing(&["r", "yes"]);
    assert_eq!(call(&world, &mut person, "failback --wait --no-watch"), Exit::Done);
    assert_eq!(world.asked.borrow().len(), 1);
}

#[test]
fn the_daemons_refusal_and_silence_have_their_own_exit_codes() {
    let world = takeover_that_works();
    *world.reply.borrow_mut() = Some(Ok(Reply::Refused("nothing is halted".into())));
    let mut person = Person::default();
    assert_eq!(call(&world, &mut person, "continue --yes --reason r"), Exit::Refused);
    assert!(person.said.contains("error: nothing is halted"), "{}", person.said);

    let late = Trouble::new(Exit::TimedOut, "the daemon did not answer within 10s").effect("unknown");
    *world.reply.borrow_mut() = Some(Err(late));
    assert_eq!(call(&world, &mut person, "continue --yes --reason r"), Exit::TimedOut);
    assert!(person.said.ends_with("effect: unknown\n"), "{}", person.said);

    let mut person = Person::default();
    for line in ["status", "takeover --yes --reason r", "pause --for 1h"] {
        assert_eq!(call(&Rc::new(World::default()), &mut person, line), Exit::NoDaemon, "{line}");
    }
    assert!(person.out.is_empty());
}

#[test]
fn a_plan_is_followed_step_by_step_and_each_is_said_once() {
    let world = takeover_that_works();
    let mut person = Person::default();
    assert_eq!(call(&world, &mut person, "takeover --yes --reason r --json"), Exit::Done);
    assert_eq!(person.said.matches("running  claim").count(), 1, "{}", person.said);
    assert_eq!(person.said.matches("done     claim                 epoch 7 read back").count(), 1, "{}", person.said);
    let printed: Value = serde_json::from_str(&person.out).expect("one JSON document");
    assert_eq!(printed["answer"], "accepted");
    assert_eq!((&printed["outcome"], &printed["state"]), (&json!("done"), &json!("active")));
}

#[test]
fn a_plan_that_halts_is_a_failure_that_names_its_step() {
    let steps = json!([{"name": "fence", "state": "unknown", "attempt": 1, "error": "redfish did not answer"}]);
    let world = world(vec![
        status("standby", "2026-11-20T09:00:00Z", &Value::Null),
        status("halted", "2026-11-20T10:05:02Z", &plan("takeover", NEW, None, &steps)),
    ]);
    let mut person = Person::default();
    assert_eq!(call(&world, &mut person, "takeover --yes --reason r"), Exit::Failed);
    assert!(person.said.contains("error: halted at step fence: redfish did not answer"), "{}", person.said);
}

#[test]
fn a_failback_ends_in_standby_or_with_service_taken_back() {
    let old = plan("takeover", OLD, Some("serving"), &json!([]));
    let active = status("active", "2026-11-20T09:00:00Z", &old);
    let running = status("failing-back", "2026-11-20T10:05:01Z", &plan("failback", NEW, None, &json!([])));
    let mut home = status("standby", "2026-11-20T10:06:00Z", &plan("failback", NEW, Some("handed back"), &json!([])));
    home["pairs"][0]["epoch"]["holder"] = "pbx-a".into();
    let mut person = Person::default();
    let good = world(vec![active.clone(), active.clone(), running.clone(), home]);
    assert_eq!(call(&good, &mut person, "failback --yes --reason r"), Exit::Done);
    assert_eq!(person.out, "pbx-b stands by; the service is held by pbx-a\n");

    let mut taken_back = plan("takeover", NEW, Some("done"), &json!([]));
    taken_back["because"] = "the primary did not come up in 90 s".into();
    let again = status("active", "2026-11-20T10:07:00Z", &taken_back);
    let bad = world(vec![active, running, again]);
    assert_eq!(call(&bad, &mut person, "failback --yes --reason r"), Exit::Failed);
    let said = "error: pbx-b took the service back and serves: the primary did not come up in 90 s";
    assert!(person.said.contains(said), "{}", person.said);
}

#[test]
fn patience_ends_but_the_plan_does_not() {
    let running = status("taking-over", "2026-11-20T10:05:01Z", &plan("takeover", NEW, None, &json!([])));
    let world = world(vec![status("standby", "2026-11-20T09:00:00Z", &Value::Null), running]);
    let mut person = Person::default();
    assert_eq!(call(&world, &mut person, "takeover --yes --reason r --timeout 3s"), Exit::TimedOut);
    assert!(person.said.contains("error: takeover has not ended after 3 s\neffect: unknown; the plan goes on"));
    assert!(person.passed >= Duration::from_secs(3) && person.passed < Duration::from_secs(4));
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let world = takeover_that_works();
    for line in ["status", "explain", "completions bash", "man", "--help", "fsm"] {
        let mut person = Person { reader_gone: true, ..Person::default() };
        assert_eq!(call(&world, &mut person, line), Exit::Done, "{line}");
        assert!(person.said.is_empty(), "{line}: {}", person.said);
    }
}

#[test]
fn every_answer_has_a_json_form() {
    let world = takeover_that_works();
    *world.report.borrow_mut() = json!({"findings": []});
    *world.delivery.borrow_mut() = Some(DeliveryOutcome::Accepted("250 queued".into()));
    for line in ["status", "explain", "history", "check", "test notify email", "pause --for 1h", "takeover --dry-run"] {
        let mut person = Person::default();
        assert_eq!(call(&world, &mut person, &format!("{line} --json")), Exit::Done, "{line}");
        serde_json::from_str::<Value>(&person.out).unwrap_or_else(|e| panic!("{line}: {e}: {}", person.out));
    }
}

#[test]
fn a_refused_configuration_tells_all_its_errors() {
    let world = Rc::new(World::default());
    let mut person = Person::default();
    assert_eq!(call(&world, &mut person, "check --offline --config x.yaml"), Exit::ConfigRefused);
    assert_eq!(person.said.matches("error: failover.yaml:").count(), 2, "{}", person.said);
    let order = CheckOrder { offline: true, accept_epoch_record: false };
    assert_eq!(*world.called.borrow(), [format!("check x.yaml {order:?}")]);
}

#[test]
fn check_fails_on_a_problem_and_not_on_a_warning() {
    for (level, exit) in
        [("ok", Exit::Done), ("warning", Exit::Done), ("skipped", Exit::Done), ("problem", Exit::Failed)]
    {
        let world = Rc::new(World::default());
        *world.report.borrow_mut() = json!({"findings": [{"level": level, "about": "dns", "text": "x"}]});
        assert_eq!(call(&world, &mut Person::default(), "check"), exit, "{level}");
    }
}

#[test]
fn a_test_message_that_is_not_accepted_fails() {
    let world = Rc::new(World::default());
    *world.delivery.borrow_mut() = Some(DeliveryOutcome::Retry("451 try later".into()));
    let mut person = Person::default();
    assert_eq!(call(&world, &mut person, "test action-url provider"), Exit::Failed);
    assert_eq!(person.said, "error: provider: 451 try later\n");
    assert_eq!(*world.called.borrow(), ["action-url provider"]);
}

#[test]
fn run_takes_its_file_before_the_flag_and_history_its_bounds() {
    let world = Rc::new(World::default());
    let mut person = Person::default();
    assert_eq!(call(&world, &mut person, "run a.yaml --config b.yaml"), Exit::Done);
    assert_eq!(call(&world, &mut person, "run --config b.yaml"), Exit::Done);
    assert_eq!(call(&world, &mut person, "history --since 2h --limit 7"), Exit::Done);
    let want = ["run a.yaml", "run b.yaml", "history since Some(\"2026-11-20T08:05:00.4Z\") limit 7"];
    assert_eq!(*world.called.borrow(), want);
}

// From here on: the program itself.

fn program(args: &[&str]) -> Output {
    let mut process = Process::new(env!("CARGO_BIN_EXE_pbx-failover"));
    process.args(args).env_remove("PBX_FAILOVER_CONFIG").env_remove("PBX_FAILOVER_CONTROL").stdin(Stdio::null());
    process.output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_wrong_command_line_exits_2_and_writes_only_to_stderr() {
    let wrong: [&[&str]; 12] = [
        &[],
        &["promote-everything"],
        &["status", "--colour"],
        &["pause"],
        &["pause", "--for", "15d"],
        &["pause", "--for", "-2h"],
        &["history", "--limit", "0"],
        &["failback", "--undo", "--wait"],
        &["takeover", "--yes", "--reason", ""],
        &["abandon", "--to", "no node"],
        &["fsm", "--format", "png"],
        &["takeover", "--no-watch", "--timeout", "3s"],
    ];
    for args in wrong {
        let output = program(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn help_lists_every_command_and_every_exit_code() {
    let output = program(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for command in [
        "run",
        "check",
        "status",
        "explain",
        "history",
        "takeover",
        "failback",
        "pause",
        "unpause",
        "continue",
        "abandon",
        "ack",
        "test",
        "fsm",
        "schema",
        "completions",
        "man",
    ] {
        assert!(help.lines().any(|line| line.trim_start().split(' ').next() == Some(command)), "{command}\n{help}");
    }
    assert!(help.contains(Exit::HELP), "{help}");
}

#[test]
fn completions_and_manual_pages_come_for_every_shell_and_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&program(&["completions", shell]).stdout);
        assert!(script.contains("primary-is-stopped"), "{shell}");
    }
    assert!(text(&program(&["man"]).stdout).contains(".TH pbx-failover 1"));
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().to_str().expect("a path");
    assert_eq!(program(&["man", path]).status.code(), Some(0));
    for page in ["pbx-failover.1", "pbx-failover-takeover.1", "pbx-failover-test-notify.1"] {
        assert!(dir.path().join(page).exists(), "{page}");
    }
    assert_eq!(program(&["man", "/nowhere/at/all"]).status.code(), Some(1));
}

#[test]
fn a_file_that_was_cut_keeps_nobody_from_the_daemon() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, socket) = (dir.path().join("failover.yaml"), dir.path().join("none.sock"));
    let cut = format!("control: {}\nnode: pbx-b\nmonitor: {{ checks: {{ web: {{ http: \"https://pbx", socket.display());
    std::fs::write(&file, cut).expect("written");
    let on_the_file = |args: &[&str]| {
        let output = program(&[args, &["--config", file.to_str().expect("a path")]].concat());
        (output.status.code(), text(&output.stderr))
    };
    let at = format!("no daemon answers at {}", socket.display());
    for args in ["status", "explain", "history", "takeover --dry-run", "ack --yes --reason test"] {
        let (code, said) = on_the_file(&args.split(' ').collect::<Vec<_>>());
        assert!(code == Some(4) && said.contains(&at), "{args}: {code:?} {said}");
        let notes: Vec<_> = said.lines().filter(|line| line.starts_with("note: ")).collect();
        assert!(notes.len() == 1 && notes[0].contains("`pbx-failover check`"), "{args}: {said}");
    }
    let (code, said) = on_the_file(&["status", "--control", "/nowhere/given.sock"]);
    assert!(code == Some(4) && said.contains("/nowhere/given.sock") && !said.contains("note: "), "{said}");
    for (args, exit) in [(&["check"][..], 3), (&["run"], 3), (&["test", "notify", "email"], 3), (&["guard"], 11)] {
        let (code, said) = on_the_file(args);
        assert!(code == Some(exit) && said.contains("not good YAML"), "{args:?}: {code:?} {said}");
    }
}

#[test]
fn the_program_bears_a_closed_pipe() {
    let mut child = Process::new(env!("CARGO_BIN_EXE_pbx-failover"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // The reader goes before the first byte: the script is larger than nothing, so that the write fails.
    drop(child.stdout.take());
    let status = child.wait().expect("its end");
    let mut said = String::new();
    child.stderr.take().expect("stderr").read_to_string(&mut said).expect("text");
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[test]
fn the_demo_is_told_as_text_or_json_and_an_interrupted_one_is_no_success() {
    let world = world(Vec::new());
    let mut person = typing(&[]);
    assert_eq!(call(&world, &mut person, "demo"), Exit::Done);
    assert_eq!(person.out, "  0.007  robot  armed\n");
    let mut script = Person::default();
    assert_eq!(call(&world, &mut script, "demo --json --keep"), Exit::Failed);
    assert_eq!(script.out, "{\"at_ms\":7,\"who\":\"robot\",\"what\":\"armed\",\"mood\":\"good\"}\n");
    assert_eq!(*world.called.borrow(), ["demo End", "demo Stay"]);
}

#[test]
fn a_retry_that_finds_nothing_to_start_tells_a_person_and_not_the_timers_journal() {
    let world = world(Vec::new());
    let because = "the PBX was not held back, so there is nothing to start".to_owned();
    let report = |may, start| GuardReport { may, because: because.clone(), start };
    let asked = |may, start, mut whom: Person| {
        *world.guard.borrow_mut() = Some(Ok(report(may, start)));
        call(&world, &mut whom, "guard --retry");
        whom.out
    };
    assert_eq!(asked(May::Serve, None, Person::default()), "");
    assert!(asked(May::Serve, None, typing(&[])).contains("nothing to start"));
    assert!(asked(May::Serve, Some("the PBX is started".to_owned()), Person::default()).contains("is started"));
    assert!(asked(May::NotServe, None, Person::default()).contains("must NOT serve"));
}

#[test]
fn the_guard_answers_with_its_own_exit_codes_and_a_refused_file_is_no_permission() {
    for (may, exit, word) in [
        (May::Serve, Exit::Done, "may serve: "),
        (May::NotServe, Exit::MustNotServe, "must NOT serve: "),
        (May::NotKnown, Exit::NotKnown, "could not be found out: "),
    ] {
        let world = world(Vec::new());
        let because = "service held by pbx-b (turn 7)".to_owned();
        *world.guard.borrow_mut() = Some(Ok(GuardReport { may, because, start: None }));
        let mut person = typing(&[]);
        assert_eq!(call(&world, &mut person, "guard"), exit);
        assert!(person.out.contains(word) && person.out.contains("held by pbx-b"), "{}", person.out);
    }
    let world = world(Vec::new());
    let mut person = typing(&[]);
    assert_eq!(call(&world, &mut person, "guard"), Exit::NotKnown);
    assert!(person.said.contains("the file is refused"), "{}", person.said);
    assert_eq!(call(&world, &mut person, "guard --force"), Exit::Usage, "a person's word has a reason");
    call(&world, &mut person, "guard --force --reason 'the other site burns'");
    call(&world, &mut person, "guard --retry");
    let called = world.called.borrow();
    assert_eq!(called[1..], ["guard Force(\"the other site burns\")", "guard Retry"]);
}
