//! What happens in the demo, and what must come of it: the only file that decides that it went well.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use super::scene::{PHONES, Scene};
use super::stage::{LOOK_EVERY, READY_MAX, Stage};
use super::{AfterStory, Mood, STORY_MAX, Teller, Told};
use crate::host::tls;
use crate::units::operator::{Command, Reply};
use crate::units::{PlanKind, State, StepState, Verdict};

/// How long a takeover may take here.
const TAKEOVER_MAX: Duration = Duration::from_secs(10);
/// How long a failback may take here.
const FAILBACK_MAX: Duration = Duration::from_secs(10);
/// How much of the robot's log is shown when something did not happen.
const LOG_LINES: usize = 15;

/// What a takeover is for, in the order of the summary.
const MOMENTS: [&str; 7] = ["verdict", "serving", "DNS", "ActionURL", "trunk", "first phone", "last phone"];

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything happened.
    Well,
    /// Somebody interrupted it.
    Interrupted,
}

/// Plays it, and tells it as it happens.
///
/// # Errors
/// What did not happen, or what this host lacks.
pub async fn run(after: AfterStory, tell: Teller<'_>) -> Result<Ending, String> {
    tls::install_provider();
    let interrupted = interruption().map_err(|error| format!("signals cannot be heard: {error}"))?;
    tokio::pin!(interrupted);
    let scene = Arc::new(Scene::set()?);
    let stage = tokio::select! {
        stage = Stage::build(Arc::clone(&scene)) => stage?,
        () = &mut interrupted => return Ok(Ending::Interrupted),
    };
    let mut story = Story { tell, stage, killed_at: None, reached: [None; MOMENTS.len()] };
    let played = tokio::select! {
        played = timeout(STORY_MAX, story.play()) => played,
        () = &mut interrupted => return Ok(Ending::Interrupted),
    };
    match played {
        Ok(Ok(())) => {}
        Ok(Err(why)) => return Err(format!("{why}{}", log_end(&scene))),
        Err(_) => return Err(format!("the story was not over within {STORY_MAX:?}{}", log_end(&scene))),
    }
    if after == AfterStory::Stay {
        tokio::select! {
            stayed = story.stay() => stayed?,
            () = &mut interrupted => {}
        }
    }
    Ok(Ending::Well)
}

fn interruption() -> std::io::Result<impl Future<Output = ()>> {
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // The terminal is closed.
    let mut hup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = hup.recv() => {}
        }
    })
}

fn log_end(scene: &Scene) -> String {
    let text = std::fs::read_to_string(scene.log("robot")).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    if end.is_empty() { String::new() } else { format!("\nthe end of the robot's log:\n{end}") }
}

struct Story<'a> {
    tell: Teller<'a>,
    stage: Stage,
    killed_at: Option<Instant>,
    /// How long after the kill each of the [`MOMENTS`] was.
    reached: [Option<Duration>; MOMENTS.len()],
}

impl Story<'_> {
    async fn play(&mut self) -> Result<(), String> {
        let (primary, backup) = (self.stage.scene.primary.ip(), self.stage.scene.backup.ip());
        self.say("demo", Mood::Chapter, "all is well")?;
        let said = format!(
            "primary {} (web {}, SIP {}), backup {backup}, name server {}, provider {}",
            primary,
            self.stage.scene.web.port(),
            self.stage.scene.primary.port(),
            self.stage.scene.dns,
            self.stage.scene.provider
        );
        self.say("demo", Mood::Plain, said)?;
        self.until("the robot is armed, phones and trunk are at the primary", READY_MAX, |stage| {
            let armed = stage.is_armed() && stage.verdict() == Some(Verdict::PrimaryUp);
            armed && stage.all_phones_at(primary) && stage.trunk_is_at(primary) && stage.dns_says(primary)
        })
        .await?;
        self.say("robot", Mood::Good, "armed: it would take over now")?;

        self.say("demo", Mood::Chapter, "the primary dies")?;
        self.kill_primary()?;
        self.until("the backup serves", TAKEOVER_MAX, |stage| stage.state() == Some(State::Active)).await?;
        self.until("each step, each phone, the trunk, DNS and the ActionURL", TAKEOVER_MAX, |stage| {
            stage.plan_is_over(PlanKind::Takeover)
                && stage.all_phones_at(backup)
                && stage.trunk_is_at(backup)
                && stage.dns_says(backup)
                && stage.was_told("/update?", &backup.to_string())
                && stage.was_told("/page", "")
        })
        .await?;
        self.steps_are_good(PlanKind::Takeover)?;
        let outage = self.outage()?;

        self.say("demo", Mood::Chapter, "a person gives the service back: pbx-failover failback")?;
        let command = Command::Failback { wait: false, cut_calls: false, undo: false };
        self.stage.forget_trunk();
        let asked = Instant::now();
        match self.stage.watch.client().post(&command, "the primary is repaired").await {
            Ok(Reply::Accepted(_)) => {}
            Ok(Reply::Refused(why)) => return Err(format!("the failback was refused: {why}")),
            Err(error) => return Err(format!("the failback was not heard: {error}")),
        }
        self.until("the primary serves again, and all are at home", FAILBACK_MAX, |stage| {
            stage.state() == Some(State::Standby)
                && stage.plan_is_over(PlanKind::Failback)
                && stage.all_phones_at(primary)
                && stage.trunk_is_at(primary)
                && !stage.trunk_was_at(backup)
                && stage.dns_says(primary)
                && stage.was_told("/update?", &primary.to_string())
        })
        .await?;
        self.steps_are_good(PlanKind::Failback)?;
        if TcpStream::connect(self.stage.scene.backup).await.is_ok() {
            return Err("the backup's PBX still listens after the failback".to_owned());
        }
        let home = self.stage.last_phone().saturating_duration_since(asked);

        self.say("demo", Mood::Chapter, "summary")?;
        self.say("demo", Mood::Good, format!("takeover: {outage}"))?;
        self.say("demo", Mood::Good, format!("failback: last phone at home {} after it was asked for", seconds(home)))?;
        self.say("demo", Mood::Good, "DNS, ActionURL and trunk followed both ways; each step was proved")
    }

    /// Goes on telling, for whoever tries the other commands.
    async fn stay(&mut self) -> Result<(), String> {
        let config = self.stage.scene.config().display().to_string();
        let pid = self.stage.primary_id().unwrap_or_default();
        self.say("demo", Mood::Chapter, "it stays until you end it with Ctrl-C; try, in another terminal:")?;
        let exe = std::env::current_exe().map_or_else(|_| "pbx-failover".to_owned(), |exe| exe.display().to_string());
        for line in [
            format!("{exe} --config {config} status"),
            format!("{exe} --config {config} explain"),
            format!("kill -9 {pid}"),
            format!("{exe} --config {config} failback"),
        ] {
            self.say("demo", Mood::Command, line)?;
        }
        loop {
            self.look().await?;
            sleep(LOOK_EVERY).await;
        }
    }

    fn kill_primary(&mut self) -> Result<(), String> {
        self.killed_at = Some(Instant::now());
        let Some(pid) = self.stage.kill_primary() else { return Err("there is no primary to kill".to_owned()) };
        self.say("demo", Mood::Bad, format!("SIGKILL to the primary (process {pid}): web server and PBX are gone"))
    }

    /// Looks at everything until it is so, telling what changes.
    async fn until(&mut self, what: &str, limit: Duration, is_so: impl Fn(&Stage) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        loop {
            self.look().await?;
            self.note_reached();
            if is_so(&self.stage) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("did not happen within {limit:?}: {what}"));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&mut self) -> Result<(), String> {
        for told in self.stage.look().await {
            self.tell(told)?;
        }
        Ok(())
    }

    fn tell(&mut self, told: Told) -> Result<(), String> {
        (self.tell)(told).map_err(|error| format!("nobody reads this any more: {error}"))
    }

    fn say(&mut self, who: &'static str, mood: Mood, what: impl Into<String>) -> Result<(), String> {
        let told = self.stage.told(who, mood, what);
        self.tell(told)
    }

    fn steps_are_good(&self, kind: PlanKind) -> Result<(), String> {
        let steps = self.stage.plan(kind).map(|plan| plan.steps.as_slice()).unwrap_or_default();
        match steps.iter().find(|step| !matches!(step.state, StepState::Done | StepState::Skipped)) {
            Some(step) => Err(format!("the step {} of the {kind} is {}", step.name, step.state.name())),
            None => Ok(()),
        }
    }

    /// Notes when each thing that a takeover is for was seen first.
    fn note_reached(&mut self) {
        let (Some(killed_at), backup) = (self.killed_at, self.stage.scene.backup.ip()) else { return };
        let phones = self.stage.phones_at(backup);
        let is_so = [
            self.stage.verdict() == Some(Verdict::PrimaryDead),
            self.stage.state() == Some(State::Active),
            self.stage.dns_says(backup),
            self.stage.was_told("/update?", &backup.to_string()),
            self.stage.trunk_is_at(backup),
            phones > 0,
            phones == PHONES.len(),
        ];
        for (reached, is_so) in self.reached.iter_mut().zip(is_so) {
            if is_so && reached.is_none() {
                *reached = Some(killed_at.elapsed());
            }
        }
    }

    /// The outage as the phones saw it, and what led to its end.
    fn outage(&self) -> Result<String, String> {
        let mut told = Vec::new();
        for (what, reached) in MOMENTS.iter().zip(self.reached) {
            let after = reached.ok_or_else(|| format!("it was not seen when it came to this: {what}"))?;
            told.push(format!("{what} {}", seconds(after)));
        }
        let last = self.reached.last().copied().flatten().unwrap_or_default();
        Ok(format!("without telephone for {}; after the kill: {}", seconds(last), told.join(", ")))
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
