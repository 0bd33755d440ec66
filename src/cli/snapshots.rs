//! `snapshots`: lists what is kept of the working directory, reads it back, puts it in place.
//!
//! It needs no daemon: what is kept lies in `state_dir`, and only whether this node serves is asked of the daemon, or read
//! from the marker of a PBX that is meant to serve where none answers. The work itself is `adapters::data::snapshot`'s.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use super::args::{Snapshots, typed_reason};
use super::exit::{Exit, Trouble};
use super::render::{Lines, one_line};
use super::{Call, Stop};
use crate::adapters::data::snapshot::copy::{Failed, Stop as CallOff};
use crate::adapters::data::snapshot::held::{FOLDER, Moved, first};
use crate::adapters::data::snapshot::restore::{Order, Restored, Stage};
use crate::adapters::data::snapshot::take::{self, measure};
use crate::adapters::data::snapshot::verify::Verified;
use crate::adapters::data::snapshot::{Known, Lock, Vault, Work};
use crate::config::{self, Config, Loading, Role};
use crate::data::shown;
use crate::data::snapshot::{Kind, asked};
use crate::data::survey::Few;
use crate::units::State;
use crate::units::data::{HeldBack, size};

/// What `list` prints.
#[derive(Serialize)]
struct Listed {
    snapshots: Vec<One>,
    /// Those whose list does not read.
    damaged: Vec<Damaged>,
    bytes: u64,
    held_back: Vec<HeldBack>,
    /// A restore that was broken off in its midst.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken_off: Option<String>,
    /// The same for people.
    #[serde(skip)]
    half: Option<String>,
}

#[derive(Serialize)]
struct One {
    id: String,
    kind: &'static str,
    at: Timestamp,
    confirmed: Timestamp,
    files: u64,
    bytes: u64,
    left_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct Damaged {
    id: String,
    why: String,
}

/// What `verify` prints of one.
#[derive(Serialize)]
struct ReadBack {
    id: String,
    whole: bool,
    good: u64,
    differs: Names,
    missing: Names,
    more: Names,
    left_out: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<String>,
}

/// The first names, and how many there are.
#[derive(Serialize)]
struct Names {
    all: u64,
    first: Vec<String>,
}

/// What `restore` prints.
#[derive(Serialize)]
struct Put {
    id: String,
    /// The snapshot that holds what was there before.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    put: Names,
    same: u64,
    aside: Names,
    stayed: Names,
}

impl From<&Few<String>> for Names {
    fn from(few: &Few<String>) -> Self {
        Self { all: few.all, first: few.named.clone() }
    }
}

/// How a restore was asked for.
struct Asked {
    id: String,
    only: Vec<Vec<u8>>,
    to: Option<PathBuf>,
    yes: bool,
    reason: Option<String>,
    dry_run: bool,
}

fn failed(failed: &Failed) -> Trouble {
    let text = failed.to_string();
    let (what, hint) = text.split_once("; ").unwrap_or((&text, "`pbx-failover snapshots list` shows what is kept"));
    Trouble::new(Exit::Failed, what).hint(hint)
}

/// Keeps what is there in a snapshot, and gives its name.
fn keep_before(vault: &Vault, lock: &Lock, reason: &str, stop: &CallOff) -> Result<String, Failed> {
    let measured = measure(vault.subject(), stop)?;
    let before = take::Order { kind: Kind::BeforeRestore, reason: Some(reason.to_owned()) };
    let taken = vault.take(lock, &before, &measured, stop).map_err(|why| {
        Failed::Trouble(format!("what is there now could not be kept, so that nothing was changed: {why}"))
    })?;
    Ok(taken.id)
}

impl Call<'_> {
    /// Does what was asked.
    pub(super) fn snapshots(&mut self, what: Snapshots) -> Result<Exit, Stop> {
        let loaded = config::load(&self.global.config, Loading::Offline);
        let config = loaded.map_err(|refused| super::real::config_refused(&refused))?.config;
        let vault = Vault::new(&config);
        match what {
            Snapshots::List => self.list_snapshots(&vault),
            Snapshots::Verify { id } => self.verify_snapshots(&vault, id),
            Snapshots::Restore { id, paths, to, yes, reason, dry_run } => {
                let only = paths.iter().map(|path| asked(path.as_os_str().as_bytes())).collect::<Result<_, _>>();
                let only = only.map_err(|why| Trouble::new(Exit::Usage, why))?;
                let order = Asked { id, only, to, yes, reason, dry_run };
                if let Some(name) = order.id.strip_prefix("held-back/") {
                    return self.put_back(&vault, name, &order);
                }
                // Before anybody is asked: a path with a slip of the pen would restore less than was meant.
                let files = vault.count(&order.id, &order.only).map_err(|why| failed(&why))?;
                match &order.to {
                    Some(to) if order.dry_run => {
                        let would = format!("copies {files} files of {} to {}", order.id, to.display());
                        self.answer(&serde_json::json!({ "would": would }), || would.clone())?;
                        Ok(Exit::Done)
                    }
                    Some(to) => {
                        let put = vault.restore_to(&order.id, &order.only, to, &CallOff::default());
                        let put = put.map_err(|why| failed(&why).effect("what was copied until then lies there"))?;
                        let told = format!("{} files of {} copied to {}", put.put.all, order.id, to.display());
                        self.told(&order.id, None, &put, &Moved::default(), &told)
                    }
                    None => self.restore_in_place(&config, &vault, &order, files),
                }
            }
        }
    }

    fn list_snapshots(&mut self, vault: &Vault) -> Result<Exit, Stop> {
        let (known, odd) = vault.list();
        let held = vault.held().into_iter();
        let listed = Listed {
            snapshots: known.into_iter().map(One::from).collect(),
            damaged: odd.into_iter().map(|(id, why)| Damaged { id, why }).collect(),
            bytes: vault.bytes(),
            held_back: held
                .map(|held| HeldBack { name: held.name, files: held.files.all, first: held.files.named })
                .collect(),
            broken_off: vault
                .under_way()
                .ok()
                .flatten()
                .filter(|note| note.stage == Stage::Committing && !vault.is_at_work())
                .map(|note| note.order.id),
            half: vault.half_told(),
        };
        let page = self.console.page();
        self.answer(&listed, || {
            let mut lines = Lines::default();
            if listed.snapshots.is_empty() && listed.damaged.is_empty() {
                lines.text(0, "no snapshot is kept: one is taken once the working directory passes its gate");
            }
            for one in &listed.snapshots {
                lines.line(&one.id);
                let confirmed = match one.kind {
                    "last-good" => format!(", found so last {}", page.ago(one.confirmed)),
                    _ => String::new(),
                };
                let out = if one.left_out > 0 { format!(", {} left out", one.left_out) } else { String::new() };
                let reason = one.reason.as_deref().map(|why| format!(": {}", one_line(why))).unwrap_or_default();
                let (at, room) = (page.moment(one.at), size(one.bytes));
                lines.text(2, &format!("{} {at}, {} files, {room}{out}{confirmed}{reason}", one.kind, one.files));
            }
            for one in &listed.damaged {
                lines.line(&one.id);
                lines.text(2, &format!("damaged: {}", one.why));
            }
            if listed.bytes > 0 {
                lines.text(0, &format!("all of them take {}", size(listed.bytes)));
            }
            for held in &listed.held_back {
                lines.line(&format!("{FOLDER}/{}", held.name));
                let few = Few { named: held.first.clone(), all: held.files };
                lines.text(2, &format!("{} files moved aside: {}", held.files, first(&few)));
            }
            if let Some(half) = &listed.half {
                lines.text(0, half);
            }
            lines.finish().trim_end().to_owned()
        })?;
        Ok(Exit::Done)
    }

    fn verify_snapshots(&mut self, vault: &Vault, id: Option<String>) -> Result<Exit, Stop> {
        let ids = id.map_or_else(
            || {
                let (known, odd) = vault.list();
                known.into_iter().map(|one| one.id).chain(odd.into_iter().map(|(id, _)| id)).collect()
            },
            |id| vec![id],
        );
        let mut all = Vec::new();
        for id in ids {
            let found = vault.verify(&id, &CallOff::default()).map_err(|why| failed(&why))?;
            all.push(ReadBack::of(id, &found));
        }
        self.answer(&all, || {
            let mut lines = Lines::default();
            for one in &all {
                let word = if one.whole { "is whole" } else { "is DAMAGED" };
                lines.line(&format!("{} {word}: {} files are as they were copied", one.id, one.good));
                for (what, names) in [("differ", &one.differs), ("are missing", &one.missing), ("are more", &one.more)]
                {
                    if names.all > 0 {
                        let few = Few { named: names.first.clone(), all: names.all };
                        lines.text(2, &format!("{} {what}: {}", names.all, first(&few)));
                    }
                }
                one.damaged.iter().for_each(|why| lines.text(2, why));
                one.left_out.iter().for_each(|name| lines.text(2, &format!("left out when it was taken: {name}")));
            }
            if all.is_empty() {
                lines.text(0, "no snapshot is kept");
            }
            lines.finish().trim_end().to_owned()
        })?;
        Ok(if all.iter().all(|one| one.whole) { Exit::Done } else { Exit::Failed })
    }

    fn restore_in_place(&mut self, config: &Config, vault: &Vault, order: &Asked, files: u64) -> Result<Exit, Stop> {
        self.refuse_while_active(config)?;
        let (known, odd) = vault.list();
        let Some(one) = known.iter().find(|one| one.id == order.id) else {
            let odd = odd.into_iter().find(|(id, _)| *id == order.id);
            let why = odd.map_or_else(|| "there is no such snapshot".to_owned(), |(_, why)| why);
            return Err(failed(&Failed::Trouble(format!("{}: {why}", shown(order.id.as_bytes())))).into());
        };
        let dirs: Vec<_> = vault.subject().dirs.iter().map(|dir| dir.display().to_string()).collect();
        let would = format!(
            "puts what differs of {files} files of {} ({} files, taken {}) in place in {}; configuration that it does not have is moved aside; \
             what is there now is kept in a snapshot before",
            order.id,
            one.foot.measure.files,
            self.console.page().moment(one.head.at),
            dirs.join(", ")
        );
        let Some(reason) = self.agreed(order, &would)? else { return Ok(Exit::Done) };
        let stop = CallOff::default();
        let done = (|| {
            let lock = vault.lock_for(Work::PersonRestores, &stop)?;
            // It may have been a while since it was asked: a takeover that begins from here on waits for the lock.
            if let Err(refused) = self.refuse_while_active(config) {
                return Ok(Err(refused));
            }
            // Only what was there before the first of several tries is nobody else's copy.
            let pending = vault.under_way().ok().flatten().filter(|note| note.stage == Stage::Committing);
            let pending =
                pending.and_then(|note| note.order.kept).filter(|kept| known.iter().any(|one| one.id == *kept));
            let completed = match vault.complete(&lock, None, &stop) {
                Err(why) if order.only.is_empty() => Some(format!("what was broken off is not completed: {why}")),
                completed => completed?,
            };
            let taken = match pending {
                Some(_) => None,
                None => Some(keep_before(vault, &lock, &reason, &stop)?),
            };
            let is_pending = pending.is_some();
            let before = pending.or(taken.clone()).unwrap_or_default();
            let only = order.only.iter().map(|path| shown(path)).collect();
            let (aside, kept) = (format!("{before}.replaced"), Some(before.clone()));
            let restore = Order { id: order.id.clone(), only, aside, kept, plan: None, unless_changed: None };
            let mut refused = None;
            let restored = vault.restore_if(&lock, &restore, &stop, &mut || {
                self.refuse_while_active(config).map_err(|why| {
                    refused = Some(why);
                    Failed::CalledOff
                })
            });
            // A copy of what was not changed would only push another out.
            let is_nothing = restored.as_ref().map_or_else(|_| vault.broken_off().is_none(), Restored::is_nothing);
            if let Some(taken) = taken.filter(|_| is_nothing) {
                vault.discard(&lock, &taken);
            }
            if let Some(refused) = refused {
                return Ok(Err(refused));
            }
            let restored = restored?;
            vault.prune(&lock);
            let before = Some(before).filter(|_| is_pending || !is_nothing);
            Ok(Ok((completed, before, restored, restore.aside)))
        })();
        vault.hand_over();
        let (completed, before, restored, aside) = done.map_err(|why| failed(&why))??;
        if let Some(said) = &completed {
            self.console.say(&format!("note: {said}"));
        }
        let was = before.as_ref().map(|before| format!("; before it: {before}")).unwrap_or_default();
        let told = format!("{}{was}", restored.told(&order.id, &aside));
        self.note(vault, &told, &reason);
        self.told(&order.id, before, &restored, &Moved::default(), &told)
    }

    fn put_back(&mut self, vault: &Vault, name: &str, order: &Asked) -> Result<Exit, Stop> {
        if order.to.is_some() {
            let why = "what is held back goes where it was; `--to` is for snapshots";
            return Err(Trouble::new(Exit::Usage, why).hint("copy it from state_dir/held-back by hand").into());
        }
        let held = vault.held().into_iter().find(|held| held.name == name);
        let Some(held) = held else {
            return Err(failed(&Failed::Trouble(format!("nothing is held back as {}", shown(name.as_bytes())))).into());
        };
        let would = format!(
            "puts {} files back where they were ({}), over none that is there; a PBX that runs acts on them at once",
            held.files.all,
            first(&held.files)
        );
        let Some(reason) = self.agreed(order, &would)? else { return Ok(Exit::Done) };
        let moved = vault.put_back(name, &order.only).map_err(|why| failed(&why))?;
        let stayed = match moved.stayed.all {
            0 => String::new(),
            all => format!("; {all} stay held: {}", first(&moved.stayed)),
        };
        let told = format!("{} files put back{stayed}", moved.files.all);
        self.note(vault, &format!("held-back/{name}: {told}"), &reason);
        let exit = if moved.stayed.is_empty() { Exit::Done } else { Exit::Failed };
        let put = Restored { put: moved.files.clone(), ..Restored::default() };
        self.told(&order.id, None, &put, &moved, &told)?;
        Ok(exit)
    }

    /// For the history, which the daemon writes at its next look.
    fn note(&mut self, vault: &Vault, what: &str, reason: &str) {
        if let Err(error) = vault.note(what, reason) {
            self.console.say(&format!("note: it will not stand in the history: {error}"));
        }
        vault.hand_over();
    }

    fn told(
        &mut self,
        id: &str,
        before: Option<String>,
        put: &Restored,
        moved: &Moved,
        text: &str,
    ) -> Result<Exit, Stop> {
        let value = Put {
            id: id.to_owned(),
            before,
            put: (&put.put).into(),
            same: put.same,
            aside: (&put.aside).into(),
            stayed: (&moved.stayed).into(),
        };
        self.answer(&value, || one_line(text))?;
        Ok(Exit::Done)
    }

    /// Shows what would be done; the reason, once a person has agreed, and `None` where it was only to be shown.
    fn agreed(&mut self, order: &Asked, would: &str) -> Result<Option<String>, Stop> {
        if order.dry_run {
            let value = serde_json::json!({ "would": would });
            self.answer(&value, || would.to_owned())?;
            return Ok(None);
        }
        self.console.say(would);
        self.console
            .say("stop the sync first: one that goes both ways carries what is put in place to the living primary");
        let is_agreed = order.yes && order.reason.is_some();
        if !is_agreed && !self.console.can_ask() {
            let why = "`snapshots restore` changes the working directory and nobody can be asked: this is no terminal";
            let trouble = Trouble::new(Exit::Usage, why);
            return Err(trouble
                .hint("give --yes and --reason TEXT; --dry-run only shows it; --to DIR changes nothing")
                .into());
        }
        let reason = if let Some(reason) = &order.reason {
            reason.clone()
        } else {
            let typed = self.console.ask("why? (recorded)").unwrap_or_default();
            typed_reason(&typed).map_err(|why| Trouble::new(Exit::Usage, format!("no reason given: {why}")))?
        };
        if !order.yes && self.console.ask("snapshots restore: type yes to go on:").as_deref() != Some("yes") {
            let why = "snapshots restore was not agreed to; nothing was done";
            return Err(Trouble::new(Exit::Failed, why).into());
        }
        Ok(Some(reason))
    }

    /// A PBX that serves from the directory must not have it changed under it.
    fn refuse_while_active(&self, config: &Config) -> Result<(), Stop> {
        let hint = "`--to DIR` puts a copy elsewhere";
        let refuse = |why: String| Err(Trouble::new(Exit::Refused, why).hint(hint).into());
        if config.role != Role::Backup {
            return refuse(
                "this node is not the backup: its working directory is the one that the others are made from"
                    .to_owned(),
            );
        }
        match self.backend.status() {
            Ok(status) => {
                let pair = status.pairs.first();
                match pair.map(|pair| pair.state) {
                    None | Some(State::Standby | State::Suspect) => Ok(()),
                    Some(state) => refuse(format!("this node is {state}: its PBX may run from the working directory")),
                }
            }
            Err(trouble) if trouble.exit == Exit::NoDaemon => match crate::adapters::pbx::means_to_serve(config) {
                Ok(false) => Ok(()),
                Ok(true) => {
                    refuse("no daemon answers, and the PBX here is meant to serve (its marker says so)".to_owned())
                }
                Err(why) => refuse(format!("no daemon answers, and whether the PBX here serves is not known: {why}")),
            },
            Err(trouble) => Err(trouble.into()),
        }
    }
}

impl From<Known> for One {
    fn from(known: Known) -> Self {
        let plan = if let Kind::Takeover(plan) = &known.head.kind { Some(plan.clone()) } else { None };
        Self {
            kind: known.head.kind.name(),
            at: known.head.at,
            confirmed: known.confirmed,
            files: known.foot.measure.files,
            bytes: known.foot.measure.bytes,
            left_out: known.foot.left_out,
            plan,
            reason: known.head.reason,
            id: known.id,
        }
    }
}

impl ReadBack {
    fn of(id: String, found: &Verified) -> Self {
        Self {
            id,
            whole: found.is_whole(),
            good: found.good,
            differs: (&found.differs).into(),
            missing: (&found.missing).into(),
            more: (&found.more).into(),
            left_out: found.left_out.clone(),
            damaged: found.damaged.clone(),
        }
    }
}
