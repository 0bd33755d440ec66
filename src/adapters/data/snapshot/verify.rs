//! Reads a snapshot back: names what differs from its list, what is missing, and what is more.

use std::ops::ControlFlow;
use std::path::Path;

use super::copy::{self, Broke, Failed, Stop};
use super::listing::{Ahead, Reader};
use super::{TREE, Vault};
use crate::adapters::data::walk::{Descend, Entry, Visitor, walk};
use crate::data::manifest;
use crate::data::snapshot::Item;
use crate::data::survey::Few;
use crate::data::{compare, shown};

/// What a snapshot is found to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Files and links that are what the list says.
    pub good: u64,
    /// Whose content is another.
    pub differs: Few<String>,
    /// That are not there.
    pub missing: Few<String>,
    /// That the list does not have.
    pub more: Few<String>,
    /// That were left out when it was taken, with why.
    pub left_out: Vec<String>,
    /// The list itself is damaged.
    pub damaged: Option<String>,
}

impl Verified {
    /// Whether all is as it was taken.
    pub fn is_whole(&self) -> bool {
        self.damaged.is_none() && [&self.differs, &self.missing, &self.more].into_iter().all(Few::is_empty)
    }
}

impl Vault {
    /// Reads all of it back.
    ///
    /// # Errors
    /// It was called off, or there is no such snapshot.
    pub fn verify(&self, id: &str, stop: &Stop) -> Result<Verified, Failed> {
        let dir = self.there(id)?;
        let mut found = Verified::default();
        if let Err(why) = verify(&dir, &mut found, stop)? {
            found.damaged = Some(why);
        }
        Ok(found)
    }
}

fn verify(dir: &Path, found: &mut Verified, stop: &Stop) -> Result<Result<(), String>, Failed> {
    // Once to its end first: a list that was cut would make all that is behind it "more".
    let mut count = match Reader::open(dir) {
        Ok(reader) => reader,
        Err(why) => return Ok(Err(why)),
    };
    let mut dirs = 0;
    loop {
        match count.next() {
            Ok(Some(item)) => dirs = dirs.max(item.line.dir + 1),
            Ok(None) => break,
            Err(why) => return Ok(Err(why)),
        }
    }
    found.left_out = count.left_out().to_vec();
    let list = match Reader::open(dir).and_then(Ahead::new) {
        Ok(list) => list,
        Err(why) => return Ok(Err(why)),
    };
    let mut reading = Reading { list, found, stop, failed: None };
    let roots: Vec<_> = (0..dirs).map(|n| dir.join(TREE).join(n.to_string())).collect();
    walk(&roots, &mut reading);
    let rest = reading.missing_before(None);
    match reading.failed {
        Some(failed) => Err(failed),
        None => Ok(rest),
    }
}

struct Reading<'a> {
    list: Ahead,
    found: &'a mut Verified,
    stop: &'a Stop,
    failed: Option<Failed>,
}

impl Reading<'_> {
    /// Passes over what the list has before this entry; what should have been met is missing.
    fn missing_before(&mut self, entry: Option<&Entry<'_>>) -> Result<(), String> {
        while let Some(item) = self.list.peek() {
            let comes = entry
                .map(|entry| item.line.dir.cmp(&entry.dir).then_with(|| compare(&item.line.path, entry.path)))
                .is_none_or(std::cmp::Ordering::is_lt);
            if !comes {
                break;
            }
            if item.is_held() {
                self.found.missing.add(shown(&item.line.path));
            }
            self.list.pop()?;
        }
        Ok(())
    }

    fn one(&mut self, entry: &Entry<'_>) -> Result<(), Failed> {
        self.missing_before(Some(entry)).map_err(Failed::Trouble)?;
        let name = shown(entry.path);
        let item = self.list.peek().filter(|item| item.line.dir == entry.dir && item.line.path == entry.path);
        let Some(item) = item.filter(|item| item.is_held()).cloned() else {
            self.found.more.add(name);
            return Ok(());
        };
        self.list.pop().map_err(Failed::Trouble)?;
        match is_same(&item, entry, self.stop) {
            Err(Broke::CalledOff) => return Err(Failed::CalledOff),
            Ok(true) => self.found.good += 1,
            Ok(false) => self.found.differs.add(name),
            Err(Broke::Io(error)) => self.found.differs.add(format!("{name} ({error})")),
        }
        Ok(())
    }
}

fn is_same(item: &Item, entry: &Entry<'_>, stop: &Stop) -> Result<bool, Broke> {
    let kind = item.line.about.kind;
    if kind != entry.about.kind {
        return Ok(false);
    }
    let digest = match kind {
        manifest::Kind::Link => shown(&entry.target()?),
        _ => copy::digest(&mut entry.open()?, stop)?,
    };
    Ok(item.line.digest.as_deref() == Some(digest.as_str()))
}

impl Visitor for Reading<'_> {
    fn file(&mut self, entry: &Entry<'_>) -> ControlFlow<()> {
        if let Err(failed) = self.one(entry) {
            self.failed = Some(failed);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn directory(&mut self, _: &Entry<'_>) -> Descend {
        Descend::Into
    }

    // What cannot be looked at is not met, and so missing.
    fn trouble(&mut self, _: usize, _: &[u8], _: &str) {}
}
