//! The one snapshot that feeds `status`, `explain`, the page and metrics; its field names are a contract with scripts.
//!
//! What does not exist yet is absent, not null.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::data::HeldBack;
use super::names::RecordView;
use super::{
    Beat, DataLook, Duty, ForeignBinding, NodeName, PlanId, PlanKind, Sign, State, Step, StepState, TrunkKind,
    TrunkState, Verdict,
};

/// The answer to `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// One pair today; the list stays.
    pub pairs: Vec<Pair>,
}

/// One primary and its backup, as this node sees them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The pair's name.
    pub name: String,
    /// This node.
    pub node: NodeName,
    /// `backup`, `primary` or `observer`.
    pub role: String,
    /// Where the robot stands.
    pub state: State,
    /// Since when.
    pub state_since: Timestamp,
    /// What we believe about the primary; absent on the primary itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Why, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict_because: Option<String>,
    /// The primary's own state serves, but a background step did not succeed.
    pub degraded: bool,
    /// Could a takeover happen now? Only the backup takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub armed: Option<Armed>,
    /// Why no takeover would follow even if the present verdict lasts; empty: it would.
    #[serde(default)]
    pub stands_against: Vec<String>,
    /// Until when automatic takeovers are paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Timestamp>,
    /// Until when the hold-down runs, in Suspect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_down_until: Option<Timestamp>,
    /// On the primary: what its PBX may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duty: Option<DutyStatus>,
    /// Who holds the service; absent on an observer, which does not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The checks of the primary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// Is the rest of the world there?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internet: Option<Internet>,
    /// Who else sees the primary, or its site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<Witness>,
    /// The other host, as it tells of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerStatus>,
    /// The plan that runs, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// The PBX on this node; absent on an observer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pbx: Option<Pbx>,
    /// Whether that PBX is passive, while it should be; absent while it need not be, and before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive: Option<Passive>,
    /// The working directory, while this node watches; absent before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataLook>,
    /// The sync between the hosts; absent where nothing is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncStatus>,
    /// What was changed here and is not at home yet; absent: there is no ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<super::ledger::Ledger>,
    /// Files that a takeover or a restore moved aside, while any are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_back: Vec<HeldBack>,
    /// The records that move.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<RecordView>,
    /// Alarms that repeat until `ack`.
    pub alarms: Vec<Alarm>,
    /// Messages that wait in the queue.
    pub queued_deliveries: u32,
}

impl Pair {
    /// A pair of which nothing is known but who looks.
    pub fn bare(node: NodeName, role: &str, state: State, since: Timestamp) -> Self {
        Self {
            name: "default".to_owned(),
            node,
            role: role.to_owned(),
            state,
            state_since: since,
            verdict: None,
            verdict_because: None,
            degraded: false,
            armed: None,
            stands_against: Vec::new(),
            paused_until: None,
            hold_down_until: None,
            duty: None,
            epoch: None,
            checks: Vec::new(),
            internet: None,
            witness: None,
            peer: None,
            plan: None,
            pbx: None,
            passive: None,
            data: None,
            sync: None,
            ledger: None,
            held_back: Vec::new(),
            dns: Vec::new(),
            alarms: Vec::new(),
            queued_deliveries: 0,
        }
    }
}

/// The sync that brings files to this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncStatus {
    /// It should run (this node watches), or rest (this node serves).
    pub should_run: bool,
    /// It does as it should.
    pub ok: bool,
    /// Since when it does not, once people were told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What brings files here now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<String>,
    /// What is configured to bring files, and does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rests: Vec<String>,
    /// What could not be asked, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// Could a takeover happen now, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Armed {
    /// Yes or no.
    pub ok: bool,
    /// Each reason why not.
    pub because: Vec<String>,
}

/// The epoch as last read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// The turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Who holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<NodeName>,
    /// The plan that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<PlanId>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// `dns` or `local`.
    pub store: String,
    /// Why it could not be read, or what is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One check of the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// `http`, `sip`, `tcp`, `heartbeat`.
    pub kind: String,
    /// `up`, `down`, `no-view`, `untested`.
    pub verdict: String,
    /// Does it decide?
    pub decides: bool,
    /// Failures in a row, of how many that flip it.
    pub fall: Count,
    /// Successes in a row, of how many that flip it.
    pub rise: Count,
    /// The last result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastResult>,
}

/// So many, of so many needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// In a row now.
    pub now: u32,
    /// Needed to flip.
    pub need: u32,
}

/// A check's last result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastResult {
    /// When.
    pub at: Timestamp,
    /// `up`, `down`, `unknown`.
    pub result: String,
    /// How long it took.
    pub latency_ms: u64,
    /// What was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// What is wrong although it is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The Internet quorum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Internet {
    /// How many must answer.
    pub need: u32,
    /// Do so many answer?
    pub ok: bool,
    /// Each target.
    pub targets: Vec<Target>,
}

/// One Internet target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// As configured.
    pub name: String,
    /// `up`, `down`, `unknown` (this host could not ask it), `no-view`.
    pub verdict: String,
    /// The last result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastResult>,
}

/// Who else sees the primary, or its site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// What stands at the primary's site.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub primary_site: Vec<Target>,
    /// Robots elsewhere; `up`: it sees the primary alive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observers: Vec<Target>,
}

/// The other host, as it tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// `heard`, `silent`, `refused`, or `not-asked` yet.
    pub contact: String,
    /// Why not, where it is not `heard`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it told last, also when that was long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beat: Option<Beat>,
    /// When that was, by our clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Its clock minus ours, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_ms: Option<i64>,
    /// What is not as it should be, each in one line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
}

/// What the primary's PBX may do, by its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DutyStatus {
    /// Which.
    pub duty: Duty,
    /// Why, in one line.
    pub because: String,
    /// Whether the PBX does so.
    pub done: bool,
    /// Why it does not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Since when the PBX is kept from serving, to be started again once it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_back_since: Option<Timestamp>,
    /// Until when a person has announced that the PBX is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned_stop_until: Option<Timestamp>,
    /// For how long the epoch could not be read, seconds.
    pub epoch_unread_s: u64,
    /// Whether the epoch was read since the agent started; before that the PBX is left as it is.
    #[serde(default = "read_already")]
    pub epoch_was_read: bool,
}

/// What an older agent, which does not tell, is taken to have done.
fn read_already() -> bool {
    true
}

/// A plan and its steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Which table.
    pub name: PlanKind,
    /// Its id.
    pub id: PlanId,
    /// Why it runs.
    pub because: String,
    /// When it was opened.
    pub started: Timestamp,
    /// How it ended, once it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Its steps, in order.
    pub steps: Vec<PlanStep>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// The step.
    pub name: Step,
    /// Where it stands.
    pub state: StepState,
    /// How often it was tried.
    pub attempt: u32,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// From its beginning to its proof, or to now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elapsed_ms: Option<u64>,
    /// What proves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// Why it is not done, or was passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The PBX on this node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pbx {
    /// The driver's name.
    pub driver: String,
    /// Does it serve? Absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<bool>,
    /// Registered phones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registrations: Option<u32>,
    /// Phones that were registered at the primary when it was last well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_registrations: Option<u32>,
    /// Calls that are up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u32>,
    /// The trunks.
    pub trunks: Vec<Trunk>,
    /// Why the driver could not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Whether the PBX of a node that should be passive is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Passive {
    /// As far as it could be seen.
    pub ok: bool,
    /// Since when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What shows that it is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signs: Vec<PassiveSign>,
    /// What to do about it, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub todo: Option<String>,
    /// It was not looked at for so long that `ok` tells nothing of now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub old: bool,
    /// What could not be looked at, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<String>,
}

/// One sign that it is not passive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassiveSign {
    /// Which.
    pub name: Sign,
    /// What was seen, in one line.
    pub text: String,
}

/// One trunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trunk {
    /// Its name.
    pub name: String,
    /// How it reaches its provider.
    pub kind: TrunkKind,
    /// Where it stands.
    pub state: TrunkState,
    /// The provider's last SIP code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_code: Option<u16>,
    /// Must it be up?
    pub required: bool,
    /// What a person may want to know beside that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// What its provider holds of others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign: Vec<ForeignBinding>,
    /// How the message of the last plan stands that moves its numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<String>,
}

impl Trunk {
    /// What its provider holds of others, for people.
    pub fn held_elsewhere(&self) -> Option<String> {
        let places: Vec<_> = self.foreign.iter().map(ToString::to_string).collect();
        (!places.is_empty())
            .then(|| format!("its provider also holds {}: calls may go there until that ends", places.join(", ")))
    }
}

/// An alarm that repeats until somebody acknowledges it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// The event's name.
    pub name: String,
    /// What is wrong, in one line.
    pub text: String,
    /// Since when.
    pub since: Timestamp,
    /// Has somebody acknowledged it?
    pub acknowledged: bool,
}

/// The answer to `GET /v1/explain`: plain sentences, each with its input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// One sentence: will it, did it, why or why not.
    pub answer: String,
    /// Each input, in the order in which it weighs.
    pub inputs: Vec<String>,
    /// What blocks a takeover, if anything does.
    pub blocks: Vec<String>,
    /// What a person can do now.
    pub hints: Vec<String>,
}
