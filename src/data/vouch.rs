//! A state of the files of configuration as one digest, so that the primary can vouch for states that it had and the
//! backup sees whether its own files are one of them.
//!
//! A sync that dies between two files leaves a tree that is quiet, well-formed and without a temporary name: only who had
//! the files before can tell that it is a mixture. Modification times are left out, since not every tool keeps them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::units::tree::{Likeness, STATES_MAX, TreeState, TreeTold};

/// The digest of one content.
pub type Content = [u8; 32];

/// So many states of the primary's are remembered here: it may change often while a slow sync carries one of them.
const KNOWN_MAX: usize = 64;

/// An agent that has just started has no state to tell yet; one that tells none for longer does not vouch.
const SILENT_AFTER: SignedDuration = SignedDuration::from_secs(300);

/// All files of configuration that one look saw, as one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// How many.
    pub files: u64,
    /// Hexadecimal.
    pub digest: String,
}

/// Makes a [`Tree`] while a walk goes.
#[derive(Debug, Clone, Default)]
pub struct TreeHasher {
    hasher: blake3::Hasher,
    files: u64,
}

impl TreeHasher {
    /// One file more; in the order of a walk, which is the same on every host.
    pub fn add(&mut self, dir: usize, path: &[u8], content: &Content) {
        self.files += 1;
        // With their lengths, so that no two lists of files are the same bytes.
        self.hasher.update(&(dir as u64).to_le_bytes());
        self.hasher.update(&(path.len() as u64).to_le_bytes());
        self.hasher.update(path);
        self.hasher.update(content);
    }

    /// All of them.
    pub fn end(&self) -> Tree {
        Tree { files: self.files, digest: self.hasher.finalize().to_hex().to_string() }
    }
}

/// The digest of a content; `size` is that of the whole file where only its beginning is given.
pub fn content(size: u64, beginning: &[u8]) -> Content {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&size.to_le_bytes());
    hasher.update(beginning);
    *hasher.finalize().as_bytes()
}

/// What the rules of looking come to, short: they are compared, never read.
pub fn rules(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

/// What the primary's agent vouches for: what two looks in a row saw, after nothing had changed for a while.
///
/// Two equal looks prove that the files stood so at the moment between them, although a look itself takes time.
#[derive(Debug, Clone)]
pub struct Voucher {
    rules: String,
    last: Option<(Tree, Timestamp)>,
    states: Vec<TreeState>,
}

/// What became of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vouched {
    /// A state that was not vouched for before.
    News,
    /// The newest one, again.
    Again,
    /// Not yet: something changes.
    NotYet,
}

impl Voucher {
    /// One that has seen nothing.
    pub fn new(rules: String) -> Self {
        Self { rules, last: None, states: Vec::new() }
    }

    /// A look that ended `now`. `tree`: what it saw, where it could read everything; `touched`: when a file of configuration
    /// was last written there; `settle`: so long nothing may have been, else its writer is between two files.
    pub fn seen(
        &mut self,
        tree: Option<&Tree>,
        touched: Option<Timestamp>,
        settle: Duration,
        now: Timestamp,
    ) -> Vouched {
        let before = std::mem::replace(&mut self.last, tree.map(|tree| (tree.clone(), now)));
        let Some(tree) = tree else { return Vouched::NotYet };
        let quiet = touched.is_none_or(|at| {
            let age = now.duration_since(at);
            // A time ahead of the clock was written by another clock: it says nothing.
            age < SignedDuration::ZERO || age >= SignedDuration::try_from(settle).unwrap_or(SignedDuration::MAX)
        });
        let Some((_, at)) = before.filter(|(before, _)| before == tree && quiet) else { return Vouched::NotYet };
        let state = TreeState { at, files: tree.files, digest: tree.digest.clone() };
        if let Some(newest) = self.states.first_mut().filter(|newest| newest.digest == state.digest) {
            newest.at = at;
            return Vouched::Again;
        }
        self.states.retain(|known| known.digest != state.digest);
        self.states.insert(0, state);
        self.states.truncate(STATES_MAX);
        Vouched::News
    }

    /// What is told of it; `None`: nothing was vouched for yet, or not everything could be read: what the files became
    /// meanwhile is not known, and an older state would make the backup's newer files look like a mixture.
    pub fn told(&self) -> Option<TreeTold> {
        (self.last.is_some() && !self.states.is_empty())
            .then(|| TreeTold { rules: self.rules.clone(), states: self.states.clone() })
    }
}

/// What the backup knows of the states that the primary vouched for; kept over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The rules of this host.
    rules: String,
    /// The primary's, where they are others.
    #[serde(default)]
    others: Option<String>,
    /// The newest first.
    states: Vec<TreeState>,
    /// When the last beat was written that told of any.
    told: Option<Timestamp>,
    /// When ours were last equal to one of them; `None`: never, so that a difference says nothing.
    equal: Option<Timestamp>,
    /// Since when they are unequal to all of them.
    #[serde(default)]
    unequal: Option<Timestamp>,
}

/// Whether something came that should outlive a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Yes.
    Some,
    /// No.
    None,
}

impl Known {
    /// What is known at first.
    pub fn new(rules: String) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Whether this was kept under the same rules.
    pub fn is_about(&self, rules: &str) -> bool {
        self.rules == rules
    }

    /// A beat that was written at `written` and tells this, if anything.
    pub fn hear(&mut self, written: Timestamp, told: Option<&TreeTold>) -> News {
        let Some(told) = told else {
            let silent = self.told.is_some_and(|last| written.duration_since(last) > SILENT_AFTER);
            if !silent {
                return News::None;
            }
            *self = Self::new(std::mem::take(&mut self.rules));
            return News::Some;
        };
        self.told = self.told.max(Some(written));
        if told.rules != self.rules {
            let is_news = self.others.as_ref() != Some(&told.rules);
            *self = Self {
                others: Some(told.rules.clone()),
                told: self.told,
                ..Self::new(std::mem::take(&mut self.rules))
            };
            return if is_news { News::Some } else { News::None };
        }
        self.others = None;
        let before = self.states.first().map(|state| state.digest.clone());
        // The oldest of them first, so that the newest stands first in the end.
        for state in told.states.iter().take(STATES_MAX).rev() {
            match self.states.iter_mut().find(|known| known.digest == state.digest) {
                Some(known) => known.at = known.at.max(state.at),
                None => self.states.push(state.clone()),
            }
        }
        self.states.sort_by_key(|state| std::cmp::Reverse(state.at));
        self.states.truncate(KNOWN_MAX);
        let after = self.states.first().map(|state| &state.digest);
        if before.as_ref() == after { News::None } else { News::Some }
    }

    /// How these files stand to that; `None`: nobody vouches, or they could not all be read.
    pub fn compare(&mut self, tree: Option<&Tree>, now: Timestamp) -> (Option<Likeness>, News) {
        if self.others.is_some() {
            return (Some(Likeness::OtherRules), News::None);
        }
        let Some(tree) = tree.filter(|_| !self.states.is_empty()) else { return (None, News::None) };
        let had = self.states.iter().find(|state| state.digest == tree.digest && state.files == tree.files);
        if let Some(state) = had {
            let at = state.at;
            let was_unequal = self.unequal.take().is_some();
            let first = self.equal.replace(now).is_none() || was_unequal;
            return (Some(Likeness::Equal { at }), if first { News::Some } else { News::None });
        }
        if self.equal.is_none() {
            return (Some(Likeness::NeverEqual), News::None);
        }
        // Not since their last change: a file that is written here alone would keep them under way for ever.
        let news = if self.unequal.is_none() { News::Some } else { News::None };
        let since = *self.unequal.get_or_insert(now);
        (Some(Likeness::Unequal { since }), news)
    }
}

#[cfg(test)]
mod tests;
