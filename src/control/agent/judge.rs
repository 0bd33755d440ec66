//! Who speaks at the door, and whether it was said before.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::{constant_time, digest};
use axum::http::StatusCode;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use crate::config::Secret;
use crate::decision::beats::{self, Disbelief, Expected, Freshness};
use crate::host::{clock, secret};
use crate::units::beat::{Ordered, Speaker};
use crate::units::{Beat, Heard, NodeName, Now};
use crate::wire::sealed::{self, BadSeal, Purpose};

/// Why something that was sent is not taken.
#[derive(Debug)]
pub enum Refusal {
    /// It did not come whole.
    Body(StatusCode, String),
    /// Its seal is not ours.
    Seal(BadSeal),
    /// It was well sealed.
    Disbelief(Disbelief),
    /// An order from before the door's start, by its own stamp: which numbers were heard then is not known any more.
    BeforeTheStart,
}

/// What is numbered together. Beats and orders leave the asker side by side, and one must not make the other look old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    /// Beats.
    Beats,
    /// Orders: one that takes a stop back ends every earlier one that is still on its way.
    Orders,
}

/// Knows the token, who may ask, and the highest number of each.
pub struct Judge {
    secret: Secret,
    last: Mutex<SecretString>,
    asked_by: NodeName,
    heard: Mutex<BTreeMap<(Space, Speaker), u64>>,
    /// On the clock since boot: the wall clock of a host that has just started may be set right by hours.
    opened: Duration,
}

impl Judge {
    /// Reads the token once, so that a door without one never opens.
    pub fn new(secret: Secret, asked_by: NodeName) -> Result<Self, String> {
        let last = secret::read(&secret).map_err(|why| format!("agent.token: {why}; `pbx-failover keys` makes one"))?;
        let opened = clock::now().boot;
        Ok(Self { secret, last: Mutex::new(last), asked_by, heard: Mutex::default(), opened })
    }

    /// The token as it stands now; when it cannot be read, the last one that could.
    pub fn token(&self) -> SecretString {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(token) = secret::read(&self.secret) {
            *last = token;
        }
        last.clone()
    }

    /// Compares in constant time; digests, so that the length is not told either.
    pub fn knows_the_token(&self, told: &str) -> bool {
        let ours = self.token();
        let [told, ours] = [told, ours.expose_secret()].map(|text| digest::digest(&digest::SHA256, text.as_bytes()));
        constant_time::verify_slices_are_equal(told.as_ref(), ours.as_ref()).is_ok()
    }

    /// A beat that asks for ours.
    pub fn beat(&self, sealed: &str) -> Result<Heard, Refusal> {
        let token = self.token();
        let text = sealed::open(sealed, Purpose::BeatQuestion, token.expose_secret()).map_err(Refusal::Seal)?;
        let beat = beats::read(text).map_err(Refusal::Disbelief)?;
        self.believe(beat, Space::Beats)
    }

    /// An order.
    pub fn order<T: DeserializeOwned>(&self, sealed: &str, purpose: Purpose) -> Result<Ordered<T>, Refusal> {
        let token = self.token();
        let text = sealed::open(sealed, purpose, token.expose_secret()).map_err(Refusal::Seal)?;
        let Ordered { beat, order } = beats::read_order(text).map_err(Refusal::Disbelief)?;
        let heard = self.believe(beat, Space::Orders)?;
        Ok(Ordered { beat: heard.beat, order })
    }

    fn believe(&self, beat: Beat, space: Space) -> Result<Heard, Refusal> {
        let Now { boot, wall: now } = clock::now();
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let freshness = Freshness::Rising { heard: heard.get(&(space, beat.speaker)).copied() };
        let expected = Expected { node: &self.asked_by, freshness, asked: now, came: now };
        let believed = beats::believe(beat, &expected).map_err(Refusal::Disbelief)?;
        // The highest number ends with the process, so an order that was heard before could be said once more. An old
        // beat does no harm: it is shown until the next one comes, a moment later.
        let opened = now.checked_sub(boot.saturating_sub(self.opened)).unwrap_or(Timestamp::MIN);
        if space == Space::Orders && believed.beat.time < opened {
            return Err(Refusal::BeforeTheStart);
        }
        heard.insert((space, believed.beat.speaker), believed.beat.sequence);
        Ok(believed)
    }
}
