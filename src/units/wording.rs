//! What a person is told at three in the morning: what happened, why, what is true now, what to do.
//!
//! Also the variables that ActionURLs may use. Nothing here knows how a message travels; the couriers in
//! [`crate::adapters`] do.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;

use super::operator::REASON_CHARS_MAX;
use super::{EventName, NodeName, Side, State, Step};

/// The ActionURL variables, in the order of the documentation.
pub const VARIABLES: [&str; 13] = [
    "event",
    "id",
    "epoch",
    "reason",
    "node",
    "primary_node",
    "backup_node",
    "primary_address",
    "backup_address",
    "active_address",
    "dns_name",
    "ttl",
    "time",
];

/// The texts of a message, which a template may use beside its variables: what a channel for people carries.
pub const TEXTS: [&str; 2] = ["subject", "text"];

/// Every name that a template may use.
pub fn template_names() -> impl Iterator<Item = &'static str> {
    VARIABLES.into_iter().chain(TEXTS)
}

/// The facts that a message is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The plan's id, or the event's own where no plan runs; the same over retries and restarts.
    pub id: String,
    /// The node that speaks.
    pub node: NodeName,
    /// The primary.
    pub primary_node: NodeName,
    /// The backup.
    pub backup_node: NodeName,
    /// Where the primary is reached.
    pub primary_address: IpAddr,
    /// Where the backup is reached.
    pub backup_address: IpAddr,
    /// Whose PBX serves once this event is true.
    pub active: Side,
    /// Where the robot stands.
    pub state: State,
    /// The turn, where one was read.
    pub epoch: Option<u64>,
    /// Why, in one line.
    pub because: String,
    /// The step in question, for [`EventName::StepRetries`] and [`EventName::Halted`].
    pub step: Option<Step>,
    /// Why this node would not take over by itself now; empty: it would.
    pub blocks: Vec<String>,
    /// The name that phones use: the first record that moves, or empty.
    pub dns_name: String,
    /// That record's TTL, seconds.
    pub ttl_s: Option<u32>,
    /// When, by the wall clock.
    pub when: Timestamp,
}

impl About {
    fn active_address(&self) -> IpAddr {
        match self.active {
            Side::Primary => self.primary_address,
            Side::Backup => self.backup_address,
        }
    }

    fn step_name(&self) -> &'static str {
        self.step.map_or("an unnamed step", Step::name)
    }
}

/// The variables of one message: each name of [`VARIABLES`], empty where nothing is known.
pub fn variables(event: EventName, about: &About) -> BTreeMap<String, String> {
    let values = [
        event.name().to_owned(),
        about.id.clone(),
        about.epoch.map(|number| number.to_string()).unwrap_or_default(),
        one_line(&about.because),
        about.node.to_string(),
        about.primary_node.to_string(),
        about.backup_node.to_string(),
        about.primary_address.to_string(),
        about.backup_address.to_string(),
        about.active_address().to_string(),
        about.dns_name.clone(),
        about.ttl_s.map(|ttl| ttl.to_string()).unwrap_or_default(),
        about.when.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    ];
    VARIABLES.iter().map(|name| (*name).to_owned()).zip(values).collect()
}

/// Subject and text of the message about `event`.
pub fn compose(event: EventName, about: &About) -> (String, String) {
    let Told { what, now, next } = tell(event, about);
    let because = match one_line(&about.because) {
        empty if empty.is_empty() => "no reason was recorded".to_owned(),
        because => because,
    };
    let turn = about.epoch.map(|number| format!(", turn {number}")).unwrap_or_default();
    let when = about.when.strftime("%Y-%m-%d %H:%M:%S UTC");
    let text = format!(
        "{}.\n\nWhy:  {because}\nNow:  {now}\nNext: {next}\n\n\
         From {} at {when}: state {}{turn}, event {event}, id {}\n",
        capital(&what),
        about.node,
        about.state,
        about.id
    );
    (format!("[pbx-failover] {what}"), text)
}

/// What is said: the first is also the subject.
struct Told {
    what: String,
    now: String,
    next: String,
}

fn tell(event: EventName, about: &About) -> Told {
    let About { node, primary_node: primary, backup_node: backup, .. } = about;
    let step = about.step_name();
    let (what, now, next) = match event {
        EventName::Takeover => (
            format!("{backup} serves the phones now, in place of {primary}"),
            format!("{backup} accepts registrations. {} Trunks and DNS go on in the background", phones_return(about)),
            format!(
                "see who is back with `pbx-failover status`. Nothing goes back by itself: keep the PBX on {primary} \
                 stopped while you repair it, then run `pbx-failover failback` on {backup}"
            ),
        ),
        EventName::Failback => (
            format!("{primary} serves the phones again, {backup} gave the service back"),
            format!("{backup} is passive and watches {primary}. {}", phones_return(about)),
            format!("see that the phones are back on {primary}; `pbx-failover status` on {backup} shows its checks"),
        ),
        EventName::PrimaryDown => (
            format!("{primary} does not answer as it should"),
            will_it_take_over(about),
            format!(
                "look after {primary}; `pbx-failover explain` on {backup} shows what it sees. To serve from {backup} \
                 at once: `pbx-failover takeover`. If this is planned work: `pbx-failover pause --for 2h`"
            ),
        ),
        EventName::PrimaryBack => (
            format!("{primary} answers again"),
            match about.active {
                Side::Primary => format!("{primary} serves; {backup} stays passive and watches"),
                Side::Backup => format!("{backup} still serves: nothing goes back by itself"),
            },
            match about.active {
                Side::Primary => "nothing; `pbx-failover history` tells how long it was away".to_owned(),
                Side::Backup => format!("when {primary} is well, run `pbx-failover failback` on {backup}"),
            },
        ),
        EventName::Disarmed => (
            format!("{node} could not take over now"),
            format!("if {primary} died now, nobody would take its place{}", listed(&about.blocks)),
            format!("remove what blocks it; `pbx-failover explain` on {node} names each reason"),
        ),
        EventName::Armed => (
            format!("{node} can take over again"),
            format!("if {primary} dies, {backup} takes its place by itself"),
            "nothing".to_owned(),
        ),
        EventName::StepRetries => (
            format!("{node} is held up at {step} and tries again"),
            format!("{}; it goes on trying by itself", serving(about)),
            format!("mend what the reason names; `pbx-failover status` on {node} shows each attempt"),
        ),
        EventName::StepGivenUp => (
            format!("{node} gave {step} up"),
            format!("{}; the rest of the plan goes on without it", serving(about)),
            format!("see to it by hand: `pbx-failover status` on {node} shows what {step} should have done"),
        ),
        EventName::BackupFailed => (
            format!("{backup} does not come up, and {primary} could serve"),
            format!("{backup} becomes passive and hands the service to {primary}"),
            format!(
                "see why the PBX on {backup} does not start; `pbx-failover history` on {backup} shows each attempt"
            ),
        ),
        EventName::TakenBack => (
            format!("{primary} did not come up, {backup} takes the service back"),
            format!("{backup} makes its PBX serve again"),
            format!(
                "see why {primary} does not serve, then run `pbx-failover failback` on {backup} again. \
                 Silence this with `pbx-failover ack`"
            ),
        ),
        EventName::Halted => (
            format!("{node} has halted at {step} and waits for a person"),
            format!("{}; nothing goes on until you decide", serving(about)),
            {
                let goes_on = match about.step {
                    Some(Step::Fence) => format!(
                        "make certain that {primary} is off, then run `pbx-failover continue --fenced-by-hand` on {node}"
                    ),
                    Some(Step::Drain) => format!(
                        "run `pbx-failover failback --cut-calls` on {node} to go on without waiting for calls, or \
                         `pbx-failover continue` to wait once more"
                    ),
                    _ => format!("mend what the reason names, then run `pbx-failover continue` on {node}"),
                };
                format!("{goes_on}; or give up with `pbx-failover abandon`. Silence this with `pbx-failover ack`")
            },
        ),
        EventName::BothMayServe => (
            both_may_serve(about),
            format!(
                "{backup} goes on serving. Phones may be split between the two, and calls between the halves may fail"
            ),
            format!(
                "either stop the PBX on {primary} now, or give the service back: run `pbx-failover failback` on \
                 {backup}. Silence this with `pbx-failover ack`"
            ),
        ),
        EventName::EpochTrouble => (
            format!("the record of who may serve is not as {node} knows it"),
            format!("{}; {node} follows the record and never guesses", serving(about)),
            format!(
                "`pbx-failover explain` on {node} shows what stands in the record and what was expected. Find out \
                 who changed it (a restored zone, a second robot, a cloned host); do not edit it by hand while a node \
                 serves. Silence this with `pbx-failover ack`"
            ),
        ),
        EventName::SteppedDown => (
            format!("{node} has stepped down: its PBX does not serve as before"),
            format!("{node} follows the epoch record; phones are served by whoever holds it, {backup} as a rule"),
            format!(
                "`pbx-failover status` on {node} and on {backup} shows who serves. {node} starts its PBX by itself once \
                 the service is given back: run `pbx-failover failback` on {backup}"
            ),
        ),
        EventName::ServesAgain => (
            format!("{node} may serve phones again"),
            format!("its agent starts the PBX on {node} if it had stopped it"),
            format!("see that the phones are back: `pbx-failover status` on {node}"),
        ),
        EventName::PeerTrouble => (
            format!("{node} and the other host do not agree"),
            "a takeover works all the same, but one of its safeguards may not".to_owned(),
            format!("mend what the reason names; `pbx-failover status` on {node} shows both hosts"),
        ),
        EventName::NotPassive => (
            format!("the PBX on {node} is not passive although {node} should be"),
            format!(
                "{node} serves nobody by its own will, and leaves the PBX alone: a person may be testing. Phones and \
                 providers that reach it are split between {primary} and {node}"
            ),
            format!("unless somebody is testing, stop it as the reason says; `pbx-failover status` on {node} shows it"),
        ),
        EventName::PassiveAgain => {
            (format!("the PBX on {node} is passive again"), serving(about), "nothing".to_owned())
        }
        EventName::DataTrouble => (
            format!("the working directory on {node} does not pass its gate"),
            format!("{}; a takeover works, with what the reason says", serving(about)),
            format!(
                "mend what the reason names, at {primary} or in the sync between the two; `pbx-failover explain` on \
                 {node} lists all of it"
            ),
        ),
        EventName::DataWell => {
            (format!("the working directory on {node} passes its gate again"), serving(about), "nothing".to_owned())
        }
        EventName::SyncTrouble => (
            format!("the sync to {node} does not do what it should"),
            serving(about),
            format!("do what the reason says; `pbx-failover status` on {node} shows what runs and what rests"),
        ),
        EventName::SyncWell => {
            (format!("the sync to {node} is as it should be again"), serving(about), "nothing".to_owned())
        }
        EventName::Drill => (
            format!("{node} rehearses a takeover of {primary}"),
            "this is a rehearsal: no phone, no record and no trunk is moved".to_owned(),
            "nothing; the result follows with the rehearsal's end".to_owned(),
        ),
        EventName::Test => (
            format!("test message from {node}"),
            "nothing happened: somebody ran `pbx-failover test`".to_owned(),
            "nothing; this channel works if you can read this".to_owned(),
        ),
    };
    Told { what, now, next }
}

fn will_it_take_over(about: &About) -> String {
    let backup = &about.backup_node;
    if about.state != State::Standby && about.state != State::Suspect {
        return serving(about);
    }
    if about.blocks.is_empty() {
        format!("phones may be without service. {backup} takes over by itself if this lasts")
    } else {
        format!("phones may be without service, and {backup} will NOT take over by itself{}", listed(&about.blocks))
    }
}

/// Who serves, as this robot's state has it.
fn serving(about: &About) -> String {
    let About { primary_node: primary, backup_node: backup, .. } = about;
    if about.node == *primary {
        let serves = if about.state == State::Active { "serves its phones" } else { "does NOT serve" };
        return format!("the PBX on {primary} {serves}");
    }
    match about.state {
        State::Standby | State::Suspect => format!("{backup} is passive; whether phones work depends on {primary}"),
        State::TakingOver => format!("{backup} is taking over; phones are NOT served yet"),
        State::Active => format!("{backup} serves the phones"),
        State::FailingBack => format!("the service is on its way from {backup} to {primary}; phones may be without it"),
        // A failback halts before its stop only there, and then this node's PBX was not touched.
        State::Halted if matches!(about.step, Some(Step::ReturnData | Step::Drain)) => {
            format!("{backup} still serves the phones")
        }
        State::Halted => "phones may be WITHOUT service".to_owned(),
    }
}

fn both_may_serve(about: &About) -> String {
    let About { node, primary_node: primary, backup_node: backup, .. } = about;
    if node == primary {
        return format!("{primary} serves although {backup} holds the service: both may serve phones");
    }
    format!("{primary} answers again while {backup} serves: both may serve phones")
}

fn phones_return(about: &About) -> String {
    match (about.dns_name.as_str(), about.ttl_s) {
        ("", _) => "Phones come back when they register anew.".to_owned(),
        (name, None) => format!("Phones come back as {name} moves to {}.", about.active_address()),
        (name, Some(ttl)) => {
            format!("Phones come back as {name} moves to {} (TTL {ttl} s).", about.active_address())
        }
    }
}

fn listed(reasons: &[String]) -> String {
    if reasons.is_empty() {
        return String::new();
    }
    format!(": {}", reasons.iter().map(|reason| one_line(reason)).collect::<Vec<_>>().join("; "))
}

fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_CHARS_MAX).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn capital(text: &str) -> String {
    // A node's name keeps its own spelling: `pbx-a` is not `Pbx-a`.
    text.strip_prefix("the ").map_or_else(|| text.to_owned(), |rest| format!("The {rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About {
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
            when: "2026-11-20T10:02:03.9Z".parse().unwrap(),
        }
    }

    #[test]
    fn the_variables_are_those_of_the_interface_and_no_others() {
        let values = variables(EventName::Takeover, &about());
        let names: Vec<_> = values.keys().map(String::as_str).collect();
        let mut wanted = VARIABLES;
        wanted.sort_unstable();
        assert_eq!(names, wanted);
        assert_eq!(values["event"], "takeover");
        assert_eq!(values["active_address"], "198.51.100.20");
        assert_eq!(values["reason"], "web refused 3 times");
        assert_eq!(values["time"], "2026-11-20T10:02:03Z");
        assert_eq!(values["ttl"], "30");
    }

    #[test]
    fn every_event_says_what_why_now_and_next_whatever_the_state() {
        for event in EventName::ALL {
            for state in State::ALL {
                let (subject, text) = compose(event, &About { state, ..about() });
                assert!(!subject.contains('\n') && subject.chars().count() < 100, "{subject}");
                for part in ["Why:  web refused 3 times\n", "Now:  ", "Next: ", "2026-11-20 10:02:03 UTC", "turn 7"] {
                    assert!(text.contains(part), "{event} in {state} lacks {part:?}:\n{text}");
                }
            }
        }
    }

    #[test]
    fn both_may_serve_names_both_nodes_and_the_way_out() {
        let (subject, text) = compose(EventName::BothMayServe, &about());
        assert_eq!(subject, "[pbx-failover] pbx-a answers again while pbx-b serves: both may serve phones");
        assert!(text.contains("`pbx-failover failback` on pbx-b"), "{text}");
        assert!(text.contains("`pbx-failover ack`"), "{text}");
    }

    #[test]
    fn a_dead_primary_that_nobody_will_replace_is_said_loudly() {
        let state = State::Suspect;
        let (_, calm) = compose(EventName::PrimaryDown, &About { state, ..about() });
        assert!(calm.contains("takes over by itself"), "{calm}");
        let blocks = vec!["paused until 11:00".to_owned()];
        let (_, loud) = compose(EventName::PrimaryDown, &About { state, blocks, ..about() });
        assert!(loud.contains("will NOT take over by itself: paused until 11:00"), "{loud}");
    }

    #[test]
    fn a_halt_at_the_fence_asks_for_proof_by_hand() {
        let (subject, text) = compose(EventName::Halted, &About { step: Some(Step::Fence), ..about() });
        assert!(subject.contains("halted at fence"), "{subject}");
        assert!(text.contains("continue --fenced-by-hand"), "{text}");
        let (_, text) = compose(EventName::Halted, &About { step: Some(Step::Drain), ..about() });
        assert!(text.contains("failback --cut-calls") && text.contains("continue"), "{text}");
    }

    #[test]
    fn a_reason_with_line_breaks_stays_one_line() {
        let because = "first\r\nBcc: x@example.net\u{7}".to_owned();
        let (_, text) = compose(EventName::Takeover, &About { because, ..about() });
        assert!(text.contains("Why:  first Bcc: x@example.net\nNow:"), "{text}");
    }
}
