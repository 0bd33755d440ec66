//! Some of what both sides have, by which the way home sees whether the disk there is the one that it was.
//!
//! What is done with it is `adapters/rsync`'s.

use std::collections::BTreeMap;

use super::Ledger;
use super::lists::Baseline;
use crate::data::family;

/// So many names of a working directory are asked for at most: a few of them may be gone there, all of them are not.
const NAMES_MAX: usize = 50;

/// Names spread over all that came by: each `step`-th of them.
#[derive(Debug)]
struct Spread {
    names: Vec<Vec<u8>>,
    step: usize,
    passed: usize,
}

impl Spread {
    fn add(&mut self, name: Vec<u8>) {
        if self.passed.is_multiple_of(self.step) {
            if self.names.len() == NAMES_MAX {
                let mut nth = 0..;
                self.names.retain(|_| nth.next().is_some_and(|nth: usize| nth.is_multiple_of(2)));
                self.step *= 2;
            }
            if self.passed.is_multiple_of(self.step) {
                self.names.push(name);
            }
        }
        self.passed += 1;
    }
}

impl Ledger {
    /// Some names of files that both sides have and that did not change here, for each working directory that has any.
    ///
    /// # Errors
    /// One line.
    pub fn both(&self) -> Result<BTreeMap<usize, Vec<Vec<u8>>>, String> {
        let mut both: BTreeMap<usize, Spread> = BTreeMap::new();
        if !self.dir.join("baseline").exists() {
            return Ok(BTreeMap::new());
        }
        let mut changed = self.entries()?.peekable();
        for known in Baseline::open(&self.dir)? {
            let line = known?.line;
            while changed.next_if(|entry| entry.as_ref().is_ok_and(|e| e.now.line.order(&line).is_lt())).is_some() {}
            let is_here = changed.peek().is_some_and(|e| e.as_ref().is_ok_and(|e| e.now.line.order(&line).is_eq()));
            // A log comes and goes.
            if !is_here && family::base(&line.path).is_none() {
                let spread = || Spread { names: Vec::new(), step: 1, passed: 0 };
                both.entry(line.dir).or_insert_with(spread).add(line.path);
            }
        }
        changed.find_map(Result::err).map_or(Ok(()), Err)?;
        Ok(both.into_iter().map(|(dir, spread)| (dir, spread.names)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_names_are_spread_over_all_of_them() {
        for count in [1_u8, 50, 51, 200, 255] {
            let mut spread = Spread { names: Vec::new(), step: 1, passed: 0 };
            (0..count).for_each(|n| spread.add(vec![n]));
            let (first, last) = (spread.names[0][0], spread.names[spread.names.len() - 1][0]);
            assert!(spread.names.len() <= NAMES_MAX && spread.names.len() >= NAMES_MAX.min(count.into()) / 2);
            assert!(first == 0 && usize::from(count - last) <= spread.step, "{count}: {:?}", spread.names);
        }
    }
}
