//! What FreeSWITCH's gateways mean as trunks, and how they are made to register and to stop.
//!
//! A gateway goes about this by itself, once a second; we only push it, and see what came of it. `xmlstatus` tells no SIP
//! code, so a refusal and a provider that is ill look the same: both count as a refusal, because whoever insists is
//! banned.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::session::{Esl, Session, Trouble};
use crate::adapters::pbx::judge_trunks;
use crate::adapters::pbx::registrar::PAUSE;
use crate::config::Trunk;
use crate::units::{StepOutcome, TrunkKind, TrunkState, TrunkStatus};
use crate::wire::esl::{self, Gateway, GatewayState};

/// A trunk as it is seen.
#[derive(Debug)]
pub struct Seen {
    /// For the status.
    pub status: TrunkStatus,
    said: String,
    gateway: Option<Gateway>,
}

impl Seen {
    /// Whether its provider may send calls here: it is registered, or its REGISTER or its end is under way.
    pub fn may_be_registered(&self) -> bool {
        self.gateway.as_ref().is_some_and(|gateway| {
            matches!(
                gateway.state,
                GatewayState::Reged | GatewayState::Register | GatewayState::Trying | GatewayState::Unregister
            )
        })
    }
}

/// Each trunk's gateway.
pub async fn look(session: &mut Session, trunks: &[Trunk]) -> Result<Vec<Seen>, Trouble> {
    let mut seen = Vec::new();
    for Trunk { name, kind, .. } in trunks {
        let gateway = esl::gateway(&session.api(&format!("sofia xmlstatus gateway {name}")).await?);
        let (state, said) = meaning(name, *kind, gateway.as_ref());
        seen.push(Seen { status: TrunkStatus::new(name.clone(), state, None), said, gateway });
    }
    Ok(seen)
}

fn meaning(name: &str, kind: TrunkKind, gateway: Option<&Gateway>) -> (TrunkState, String) {
    let Some(Gateway { state, word, answers, retry, .. }) = gateway else {
        return (
            TrunkState::Down,
            format!("there is no gateway {name}: name it as its file does, and see that its profile runs"),
        );
    };
    let retry = if retry.is_empty() { String::new() } else { format!(", asks again: {retry}") };
    let said = format!("{word}{retry}");
    match (state, kind, answers) {
        (GatewayState::Reged, _, _) => (TrunkState::Up, said),
        (GatewayState::NoReg, TrunkKind::Register, _) => {
            let cure = "it does not register (register=false), or was unregistered by a version that cannot take that back: \
                        `killgw`, then `rescan`";
            (TrunkState::Down, format!("{word}: {cure}"))
        }
        (GatewayState::NoReg, _, Some(true)) => (TrunkState::Up, "its OPTIONS are answered".to_owned()),
        (GatewayState::NoReg, _, Some(false)) => (TrunkState::Down, "its OPTIONS are not answered".to_owned()),
        (GatewayState::NoReg, _, None) => (TrunkState::Unknown, "nothing asks it: set ping in its file".to_owned()),
        (GatewayState::Unreged | GatewayState::Trying | GatewayState::Register | GatewayState::Expired, ..) => {
            (TrunkState::Trying, said)
        }
        (GatewayState::Failed | GatewayState::FailWait, ..) => (TrunkState::Rejected, said),
        (GatewayState::Down | GatewayState::Timeout | GatewayState::Unregister, ..) => (TrunkState::Down, said),
        (GatewayState::Other, ..) => (TrunkState::Unknown, said),
    }
}

fn judge(trunks: &[Trunk], seen: &[Seen]) -> StepOutcome {
    let statuses: Vec<_> = seen.iter().map(|seen| seen.status.clone()).collect();
    judge_trunks(trunks, &statuses, |at| seen.get(at).map(|seen| seen.said.as_str()), "name its gateway in pbx.trunks")
}

/// Is every required trunk up?
pub async fn up(esl: &Esl, trunks: &[Trunk]) -> Result<StepOutcome, StepOutcome> {
    if trunks.is_empty() {
        return Ok(StepOutcome::done("no trunk in pbx.trunks: FreeSWITCH registers its gateways by itself"));
    }
    Ok(judge(trunks, &look(&mut esl.open().await?, trunks).await?))
}

/// Makes those register that do not, and waits until every required one is up.
pub async fn register(
    esl: &Esl,
    trunks: &[Trunk],
    profiles: &[String],
    limit: Duration,
) -> Result<StepOutcome, StepOutcome> {
    let mut session = esl.open().await?;
    if trunks.is_empty() {
        for profile in profiles {
            session.obeyed(&format!("sofia profile {profile} register all"), "+OK").await?;
        }
        return Ok(StepOutcome::done(
            "all gateways were asked to register; name them in pbx.trunks to see them proved",
        ));
    }
    let seen = look(&mut session, trunks).await?;
    for Seen { status, gateway, .. } in &seen {
        // One that is registered would do it again; one without a registration cannot.
        let Some(gateway) = gateway else { continue };
        if esl::is_name(&gateway.profile) && !matches!(gateway.state, GatewayState::Reged | GatewayState::NoReg) {
            let command = format!("sofia profile {} register {}", gateway.profile, status.name);
            session.obeyed(&command, "+OK").await?;
        }
    }
    let deadline = Instant::now() + limit;
    loop {
        let seen = look(&mut session, trunks).await?;
        match judge(trunks, &seen) {
            StepOutcome::Done(proof) => return Ok(StepOutcome::Done(proof)),
            // Only what is on its way may change by itself.
            other if Instant::now() >= deadline || !seen.iter().any(is_under_way) => return Ok(other),
            _ => sleep(PAUSE).await,
        }
    }
}

fn is_under_way(seen: &Seen) -> bool {
    seen.status.state == TrunkState::Trying
}

/// Gives all registrations up, and waits until no trunk is registered.
pub async fn unregister(
    esl: &Esl,
    trunks: &[Trunk],
    profiles: &[String],
    limit: Duration,
) -> Result<StepOutcome, StepOutcome> {
    let mut session = esl.open().await?;
    for profile in profiles {
        let answer = session.api(&format!("sofia profile {profile} unregister all")).await?;
        // A profile that does not run has no gateway that is registered.
        if !answer.contains("+OK") && !answer.contains("Invalid Profile") {
            let line = answer.trim().chars().filter(|c| !c.is_control()).take(120).collect::<String>();
            return Err(StepOutcome::Failed(format!(
                "`sofia profile {profile} unregister all` was answered \"{line}\""
            )));
        }
    }
    let deadline = Instant::now() + limit;
    loop {
        let seen = look(&mut session, trunks).await?;
        let Some(held) = seen.iter().find(|seen| seen.may_be_registered()) else {
            return Ok(StepOutcome::done(
                "all gateways were told to unregister; a provider that challenges may keep them",
            ));
        };
        if Instant::now() >= deadline {
            return Ok(StepOutcome::Failed(format!("trunk {} is {} after {limit:?}", held.status.name, held.said)));
        }
        sleep(PAUSE).await;
    }
}
