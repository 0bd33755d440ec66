//! The way home by the command `failback.return_data`: it is told what waits; what it carried is believed by its exit code.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pieces::Pieces;
use super::{STRIKE_MIN, Sum, lists_max};
use crate::adapters::data::ledger::Ledger;
use crate::config::Config;
use crate::data::ledger::{Entry, Pass};
use crate::host::command::{self, CommandEnd};
use crate::host::file::create;
use crate::host::{disk, here};
use crate::units::StepOutcome;
use crate::units::data::size;

/// So many entries are struck off at once.
const SETTLED_MAX: usize = 50_000;

/// The list of what a command is to carry: names with a NUL behind each.
struct List {
    file: PathBuf,
    files: u64,
    bytes: u64,
    vanished: u64,
    unread: u64,
    unread_named: Option<String>,
}

/// One pass; without a ledger the command runs all the same, and is told of no list.
pub async fn pass(
    config: &Config,
    ledger: &Arc<Ledger>,
    pass: Pass,
    no_ledger: Option<String>,
    deadline: Instant,
) -> StepOutcome {
    let argv = &config.failback.return_data;
    if argv.is_empty() {
        return StepOutcome::done("failback.return_to is not set");
    }
    let list = match no_ledger {
        Some(why) => Err(why),
        None => list(config, ledger, pass, deadline).await,
    };
    let end = run(config, argv, pass, list.as_ref().ok(), deadline.saturating_duration_since(Instant::now())).await;
    let line = format!("failback.return_data: {}", end.line());
    match (end, list) {
        (CommandEnd::TimedOut, _) => StepOutcome::Unknown(line),
        (end, _) if !end.succeeded() => StepOutcome::Failed(line),
        (_, Err(why)) => StepOutcome::done(format!("{line}; WARNING: {why}")),
        (_, Ok(list)) => {
            let mut text = format!("{} files, {}: {line}", list.files, size(list.bytes));
            if let Some(named) = &list.unread_named {
                let _ = write!(text, "; {} wait that cannot be read here, as {named}", list.unread);
            }
            match strike(config, ledger, deadline).await {
                Ok(_) => StepOutcome::Done(text),
                Err(why) => StepOutcome::done(format!("{text}; WARNING: {why}")),
            }
        }
    }
}

/// What is left, by `failback.return_rest`.
pub async fn rest(config: &Config, ledger: &Arc<Ledger>, deadline: Instant, sum: &mut Sum) -> Result<(), String> {
    let argv = &config.failback.return_rest;
    if argv.is_empty() {
        return Err(format!("nothing carries home what is left; {}", super::way_out(config)));
    }
    let list = list(config, ledger, Pass::Rest, deadline).await?;
    (sum.vanished, sum.unread) = (list.vanished, list.unread);
    sum.unread_named.clone_from(&list.unread_named);
    let left = deadline.saturating_duration_since(Instant::now());
    let end = run(config, argv, Pass::Rest, Some(&list), left).await;
    if !end.succeeded() {
        return Err(format!("failback.return_rest: {}", end.line()));
    }
    let (files, bytes) = strike(config, ledger, deadline).await?;
    (sum.files, sum.bytes) = (sum.files + files, sum.bytes + bytes);
    Ok(())
}

async fn run(config: &Config, argv: &[String], pass: Pass, list: Option<&List>, limit: Duration) -> CommandEnd {
    let directories: Vec<_> = config.pbx.working_dirs.iter().map(|dir| dir.display().to_string()).collect();
    let mut env = vec![
        ("PBX_FAILOVER_NODE".to_owned(), config.node.to_string()),
        ("PBX_FAILOVER_PRIMARY".to_owned(), config.primary.address().to_string()),
        ("PBX_FAILOVER_WORKING_DIR".to_owned(), directories.join(":")),
        ("PBX_FAILOVER_PASS".to_owned(), pass.name().to_owned()),
    ];
    if let Some(list) = list {
        env.push(("PBX_FAILOVER_LIST".to_owned(), list.file.display().to_string()));
    }
    command::run(argv, &env, limit).await
}

/// Which pass's files a command is given: the first time all of them, as one that heeds no list carries all of them; in
/// the delta too where nothing comes after it.
fn given(config: &Config, pass: Pass) -> Pass {
    match pass {
        Pass::First => Pass::Rest,
        Pass::Delta if config.failback.return_rest.is_empty() => Pass::Rest,
        pass => pass,
    }
}

/// Each file as it is at this moment: what a look saw of it may be an hour old.
async fn list(config: &Config, ledger: &Arc<Ledger>, pass: Pass, deadline: Instant) -> Result<List, String> {
    let (config, ledger, given) = (config.clone(), Arc::clone(ledger), given(config, pass));
    disk::within(lists_max(deadline), move || {
        let file = ledger.dir().join("list");
        let cannot = |error: std::io::Error| format!("cannot write {}: {error}; see to state_dir", file.display());
        let mut out = std::io::BufWriter::new(create(&file).map_err(cannot)?);
        let mut pieces = Pieces::over(&config, &ledger, ledger.hold()?, given)?;
        let (mut files, mut bytes, mut known) = (0, 0, ledger.give()?);
        while let Some(piece) = pieces.next()? {
            files += piece.entries.len() as u64;
            bytes += super::bytes(&piece.entries);
            for entry in &piece.entries {
                let name = super::told::name(&config.pbx.working_dirs, entry);
                out.write_all(&name).and_then(|()| out.write_all(&[0])).map_err(cannot)?;
                known.add(&entry.write())?;
            }
        }
        known.finish()?;
        out.flush().map_err(cannot)?;
        let Pieces { vanished, unread, unread_named, .. } = pieces;
        Ok(List { file: file.clone(), files, bytes, vanished, unread, unread_named })
    })
    .await
}

/// Strikes off what the command was given and what is as it was then: how many files, and their bytes.
async fn strike(config: &Config, ledger: &Arc<Ledger>, deadline: Instant) -> Result<(u64, u64), String> {
    let (ledger, dirs) = (Arc::clone(ledger), config.pbx.working_dirs.clone());
    disk::within(lists_max(deadline).max(STRIKE_MIN), move || {
        // A look meanwhile may have listed what the command was not given.
        let (mut held, mut all, mut all_bytes) = (ledger.held()?, 0, 0);
        let (mut carried, mut listed) = (Vec::new(), Vec::new());
        for entry in ledger.given()? {
            let entry = entry?;
            let was = held.find(|was| was.as_ref().map_or(true, |was| was.order(&entry).is_ge())).transpose()?;
            if dirs.get(entry.now.line.dir).is_some_and(|root| is_still(root, &entry)) {
                (all, all_bytes) = (all + 1, all_bytes + entry.now.line.about.size);
                listed.extend(was.map(|was| was.now.line));
                carried.push(entry);
            }
            if carried.len() >= SETTLED_MAX {
                ledger.settle(&std::mem::take(&mut carried), &std::mem::take(&mut listed), &[], None)?;
            }
        }
        ledger.settle(&carried, &listed, &[], None)?;
        Ok((all, all_bytes))
    })
    .await
}

fn is_still(root: &Path, entry: &Entry) -> bool {
    let line = &entry.now.line;
    here::is_still(root, &line.path, line.about.size, line.about.modified)
}
