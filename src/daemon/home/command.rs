//! The way home by the command `failback.return_data`: it is told what waits; what it carried is believed by its exit code.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{STRIKE_MIN, lists_max, on_disk};
use crate::adapters::data::ledger::Ledger;
use crate::adapters::rsync::is_as_seen;
use crate::config::Config;
use crate::data::ledger::Pass;
use crate::host::clock;
use crate::host::command::{self, CommandEnd};
use crate::units::StepOutcome;
use crate::units::data::size;

/// So many entries are struck off at once.
const SETTLED_MAX: usize = 50_000;

/// The list of what a command is to carry: names with a NUL behind each.
struct List {
    file: PathBuf,
    files: u64,
    bytes: u64,
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
            let text = format!("{} files, {}: {line}", list.files, size(list.bytes));
            match strike(config, ledger, pass, deadline).await {
                Ok(_) => StepOutcome::Done(text),
                Err(why) => StepOutcome::done(format!("{text}; WARNING: {why}")),
            }
        }
    }
}

/// What is left, by `failback.return_rest`; how many files.
pub async fn rest(config: &Config, ledger: &Arc<Ledger>, deadline: Instant) -> Result<u64, String> {
    let argv = &config.failback.return_rest;
    if argv.is_empty() {
        return Err(format!("nothing carries home what is left; {}", super::way_out(config)));
    }
    let list = list(config, ledger, Pass::Rest, deadline).await?;
    let left = deadline.saturating_duration_since(Instant::now());
    let end = run(config, argv, Pass::Rest, Some(&list), left).await;
    if !end.succeeded() {
        return Err(format!("failback.return_rest: {}", end.line()));
    }
    strike(config, ledger, Pass::Rest, deadline).await
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

async fn list(config: &Config, ledger: &Arc<Ledger>, pass: Pass, deadline: Instant) -> Result<List, String> {
    let (ledger, dirs, given) = (Arc::clone(ledger), config.pbx.working_dirs.clone(), given(config, pass));
    on_disk(lists_max(deadline), move || {
        let file = ledger.dir().join("list");
        let cannot = |error: std::io::Error| format!("cannot write {}: {error}", file.display());
        let mut out = std::io::BufWriter::new(std::fs::File::create(&file).map_err(cannot)?);
        let (mut files, mut bytes) = (0, 0_u64);
        let now_s = clock::now().wall.as_second();
        for entry in ledger.hold()? {
            let entry = entry?;
            if given.takes(&entry, now_s, 0) {
                files += 1;
                bytes = bytes.saturating_add(entry.now.line.about.size);
                out.write_all(&super::told::name(&dirs, &entry)).and_then(|()| out.write_all(&[0])).map_err(cannot)?;
            }
        }
        out.flush().map_err(cannot)?;
        Ok(List { file: file.clone(), files, bytes })
    })
    .await
}

/// Strikes off what the command was given and what is as it was then.
async fn strike(config: &Config, ledger: &Arc<Ledger>, pass: Pass, deadline: Instant) -> Result<u64, String> {
    let (ledger, dirs, given) = (Arc::clone(ledger), config.pbx.working_dirs.clone(), given(config, pass));
    on_disk(lists_max(deadline).max(STRIKE_MIN), move || {
        let now_s = clock::now().wall.as_second();
        // A look meanwhile may have listed what the command was not given.
        let entries = ledger.held()?;
        let (mut carried, mut all) = (Vec::new(), 0);
        for entry in entries {
            let entry = entry?;
            let root = dirs.get(entry.now.line.dir);
            if given.takes(&entry, now_s, 0) && root.is_some_and(|root| is_as_seen(root, &entry)) {
                all += 1;
                carried.push(entry);
            }
            if carried.len() >= SETTLED_MAX {
                ledger.settle(&std::mem::take(&mut carried), &[], &[], None)?;
            }
        }
        ledger.settle(&carried, &[], &[], None)?;
        Ok(all)
    })
    .await
}
