//! What `check` finds of the sync between the hosts: whether it brings files here, and whether a takeover can stop it.

use crate::config::Config;
use crate::ports::SyncFence;
use crate::units::SyncLook;
use crate::units::finding::Finding;

use super::papers::Serves;
use crate::daemon::sync::with_what_waits;

const ABOUT: &str = "sync";

/// Looks; changes nothing.
pub async fn look(config: &Config, sync: &dyn SyncFence, serves: Serves) -> Vec<Finding> {
    let seen = with_what_waits(config, sync.look().await).await;
    let mut found = findings(&seen, serves);
    found.extend(sync.findings().await);
    if !sync.is_configured() && config.sync.stop.is_empty() {
        let text = "nothing stops the sync at a takeover: a primary that comes back may put old files over new ones";
        let todo = "name what brings files here in sync.fence, or write its stop as sync.stop";
        found.push(Finding::warning(ABOUT, text, todo));
    }
    found
}

fn findings(look: &SyncLook, serves: Serves) -> Vec<Finding> {
    let runs = look.runs.iter().map(|seen| match serves {
        Serves::Yes => Finding::warning(ABOUT, format!("{seen} while this node serves"), "see what starts it"),
        Serves::No => Finding::ok(ABOUT, seen.clone()),
    });
    let rests = look.rests.iter().map(|seen| match serves {
        Serves::Yes => Finding::ok(ABOUT, seen.clone()),
        Serves::No => Finding::warning(ABOUT, seen.clone(), rests_todo(look)),
    });
    let unknown = look.unknown.iter().map(|why| {
        Finding::problem(ABOUT, why.clone(), "mend what the line names: a takeover could not prove that it is stopped")
    });
    let unseen = look.unseen.iter().map(|why| {
        Finding::warning(ABOUT, why.clone(), "a sync that nothing in sync.fence names could go on after a takeover")
    });
    runs.chain(rests).chain(unknown).chain(unseen).collect()
}

fn rests_todo(look: &SyncLook) -> String {
    match &look.waits {
        Some(waits) => format!("do not start it, it may delete here: {waits}"),
        None => "start it: the data on this node grows old".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::finding::Level;

    #[test]
    fn what_runs_is_well_while_this_node_watches_and_a_warning_while_it_serves() {
        let look = SyncLook {
            runs: vec!["lsyncd.service is active".into()],
            rests: vec!["Syncthing's folder pbx is paused".into()],
            unknown: vec!["there is no unit b.service".into()],
            unseen: vec!["only this user's processes are seen".into()],
            waits: None,
        };
        let levels = |serves| findings(&look, serves).iter().map(|finding| finding.level).collect::<Vec<_>>();
        assert_eq!(levels(Serves::No), [Level::Ok, Level::Warning, Level::Problem, Level::Warning]);
        assert_eq!(levels(Serves::Yes), [Level::Warning, Level::Ok, Level::Problem, Level::Warning]);
    }
}
