//! Another host of ours, asked over HTTPS: the primary's agent ([`ports::Peer`]), and an observer ([`ports::Probe`]).
//!
//! Token, certificate and client are taken anew for each question, so that a file that was exchanged counts at once, and
//! no answer depends on an earlier one. `wire` carries one question; whether an answer is believed says
//! [`decision::beats`](crate::decision::beats). The other end is `control::agent`.

mod observer;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use rustls::pki_types::UnixTime;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

pub use self::observer::{Observer, VIEW_AGE_MAX};
use self::wire::NoAnswer;
use crate::config::{Config, Secret};
use crate::decision::beats::{self, Expected, Freshness};
use crate::host::pinned::Pinned;
use crate::host::sequence::Sequence;
use crate::host::{clock, secret};
use crate::ports::{self, Answer};
use crate::units::beat::{ORDER_ANSWER_MAX, OrderAnswer, Ordered};
use crate::units::finding::Finding;
use crate::units::{Beat, NodeName, PeerReading, PlanId, StepOutcome, StopOrder};
use crate::wire::sealed::{self, Purpose};

/// A beat must be answered within.
pub const BEAT_TIME_MAX: Duration = Duration::from_secs(5);

/// Another host of ours.
pub struct Host {
    url: String,
    token: Secret,
    certificate: Option<PathBuf>,
    expects: Expects,
    node: NodeName,
    role: &'static str,
    sequence: Arc<Sequence>,
    /// One question at a time: two that overtake each other would look replayed to the other end.
    asking: [tokio::sync::Mutex<()>; 2],
}

/// Who shall answer.
#[derive(Debug, Clone)]
enum Expects {
    /// This node.
    Node(NodeName),
    /// Any observer: its name stands nowhere in our settings.
    Observer,
}

impl Host {
    /// The primary's agent.
    pub fn agent(config: &Config, peer: &crate::config::Peer, sequence: Arc<Sequence>) -> Self {
        Self::new(config, peer, Expects::Node(config.primary.node.clone()), sequence)
    }

    fn new(config: &Config, peer: &crate::config::Peer, expects: Expects, sequence: Arc<Sequence>) -> Self {
        Self {
            url: peer.url.clone(),
            token: peer.token.clone(),
            certificate: peer.certificate.clone(),
            expects,
            node: config.node.clone(),
            role: config.role.name(),
            sequence,
            asking: Default::default(),
        }
    }

    /// Who is meant, in a line for people.
    fn whom(&self) -> String {
        match &self.expects {
            Expects::Node(node) => format!("{node} ({})", self.url),
            Expects::Observer => self.url.clone(),
        }
    }

    fn token(&self) -> Result<SecretString, NoAnswer> {
        secret::read(&self.token).map_err(|why| NoAnswer::NotSent(format!("token: {why}")))
    }

    fn bare(&self) -> Beat {
        let speaker = self.sequence.speaker();
        Beat { speaker, ..Beat::bare(self.node.clone(), self.role, clock::now().wall) }
    }

    async fn beat(&self, ours: &Beat) -> Result<PeerReading, NoAnswer> {
        let _one_at_a_time = self.asking[0].lock().await;
        let token = self.token()?;
        let nonce = nonce()?;
        let asked = clock::now().wall;
        let sequence = self.sequence.next();
        let question = Beat {
            nonce: Some(nonce.clone()),
            sequence,
            speaker: self.sequence.speaker(),
            time: asked,
            ..ours.clone()
        };
        let sent = sealed::seal(&json(&question)?, Purpose::BeatQuestion, token.expose_secret());
        let answer = self.post("/v1/beat", &token, sent, BEAT_TIME_MAX).await?;
        let came = clock::now().wall;
        let text = opened(&answer, Purpose::BeatAnswer, &token)?;
        let disbelieved = |why: beats::Disbelief| NoAnswer::Refused(format!("its beat is not believed: {why}"));
        let beat = beats::read(text).map_err(disbelieved)?;
        let node = match &self.expects {
            Expects::Node(node) => node.clone(),
            Expects::Observer if beat.role == observer::ROLE => beat.node.clone(),
            Expects::Observer => return Err(observer::is_none(&beat)),
        };
        let expected = Expected { node: &node, freshness: Freshness::Nonce(&nonce), asked, came };
        beats::believe(beat, &expected).map(|heard| PeerReading::Heard(Box::new(heard))).map_err(disbelieved)
    }

    async fn order<T: Serialize>(&self, path: &str, purpose: Purpose, order: T) -> Result<StepOutcome, NoAnswer> {
        let _one_at_a_time = self.asking[1].lock().await;
        let token = self.token()?;
        let nonce = nonce()?;
        let beat = Beat { nonce: Some(nonce.clone()), sequence: self.sequence.next(), ..self.bare() };
        let sent = sealed::seal(&json(&Ordered { beat, order })?, purpose, token.expose_secret());
        let answer = self.post(path, &token, sent, ORDER_ANSWER_MAX).await?;
        // From here on it may have been obeyed.
        let unsure = |why: NoAnswer| NoAnswer::Silent(format!("{why}; the order may have been obeyed"));
        let text = opened(&answer, Purpose::OrderAnswer, &token).map_err(unsure)?;
        let answer: OrderAnswer = serde_json::from_str(text)
            .map_err(|error| unsure(NoAnswer::Refused(format!("its answer cannot be read ({error})"))))?;
        if answer.nonce != nonce {
            return Err(unsure(NoAnswer::Refused("an old answer was sent again: somebody replays it".to_owned())));
        }
        Ok(answer.outcome)
    }

    async fn told(&self, path: &str, purpose: Purpose, order: impl Serialize) -> StepOutcome {
        let whom = self.whom();
        match self.order(path, purpose, order).await {
            Ok(outcome) => outcome,
            Err(NoAnswer::NotSent(why) | NoAnswer::Refused(why)) => StepOutcome::failed(format!("{whom}: {why}")),
            Err(NoAnswer::Silent(why)) => StepOutcome::unknown(format!("{whom}: {why}")),
        }
    }

    async fn post(&self, path: &str, token: &SecretString, body: String, limit: Duration) -> Result<String, NoAnswer> {
        wire::post(&format!("{}{path}", self.url), self.certificate.as_deref(), token, body, limit).await
    }

    /// What can be said of it before the bad day, besides its answer: its certificate and the token.
    pub fn findings(&self, about: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(path) = &self.certificate {
            match Pinned::read(path) {
                Err(why) => findings.push(Finding::problem(about, why, "see `certificate`")),
                Ok(pinned) => findings.extend(pinned.remark(UnixTime::now()).map(|remark| {
                    let hint = "it is taken all the same; `pbx-failover keys --replace` on that host makes a new one";
                    Finding::warning(about, format!("its {remark}"), hint)
                })),
            }
        }
        if self.token().is_ok_and(|token| token.expose_secret().len() < TOKEN_BYTES_FEW) {
            let text = format!("the token has fewer than {TOKEN_BYTES_FEW} characters: it can be guessed");
            findings.push(Finding::warning(about, text, "`pbx-failover keys` makes a good one"));
        }
        findings
    }
}

/// A shorter token may be found by trying: the heartbeat file lets everybody who reads it try.
const TOKEN_BYTES_FEW: usize = 20;

impl ports::Peer for Host {
    fn exchange<'a>(&'a self, ours: &'a Beat) -> Answer<'a, PeerReading> {
        Box::pin(async move {
            match self.beat(ours).await {
                Ok(reading) => reading,
                Err(NoAnswer::NotSent(why) | NoAnswer::Silent(why)) => PeerReading::Silent(why),
                Err(NoAnswer::Refused(why)) => PeerReading::Refused(why),
            }
        })
    }

    fn stop<'a>(&'a self, order: &'a StopOrder) -> Answer<'a, StepOutcome> {
        Box::pin(self.told("/v1/stop", Purpose::Stop, order))
    }

    fn resume(&self, plan: PlanId) -> Answer<'_, StepOutcome> {
        Box::pin(self.told("/v1/resume", Purpose::Resume, plan))
    }
}

fn opened<'a>(sealed: &'a str, purpose: Purpose, token: &SecretString) -> Result<&'a str, NoAnswer> {
    sealed::open(sealed, purpose, token.expose_secret())
        .map_err(|why| NoAnswer::Refused(format!("its answer is not believed: {why}; see the url, and both tokens")))
}

/// 128 random bits.
fn nonce() -> Result<String, NoAnswer> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| NoAnswer::NotSent("the system gives no random numbers".to_owned()))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

fn json(value: &impl Serialize) -> Result<String, NoAnswer> {
    serde_json::to_string(value).map_err(|error| NoAnswer::NotSent(format!("our beat has no JSON form: {error}")))
}
