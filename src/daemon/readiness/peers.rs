//! Our other hosts before the bad day: the primary's agent and the observers, each asked once.

use std::sync::Arc;

use crate::adapters::peer::{Host, Observer};
use crate::config::{self, Config};
use crate::decision::beats::{DRIFT_ALERT, DRIFT_WARN};
use crate::host::clock;
use crate::host::sequence::Sequence;
use crate::ports::{Peer as _, Probe as _};
use crate::units::beat::{PbxTold, Speaker};
use crate::units::finding::Finding;
use crate::units::{Beat, Heard, PeerReading, ProbeAnswer};

/// Asks each once, and looks at what it proves itself with; gives what the primary's agent told.
pub async fn ask(config: &Config, findings: &mut Vec<Finding>) -> Option<Heard> {
    let sequence = Arc::new(Sequence::of(Speaker::Check, &config.state_dir));
    let mut told = None;
    if let Some(at) = &config.peer {
        const ABOUT: &str = "peer";
        let host = Host::agent(config, at, Arc::clone(&sequence));
        let bare = Beat::bare(config.node.clone(), config.role.name(), clock::now().wall);
        let ours = Beat { settings: config::digests(config), ..bare };
        findings.push(match host.exchange(&ours).await {
            PeerReading::Heard(heard) => {
                let finding = agent(ABOUT, &heard);
                told = Some(*heard);
                finding
            }
            PeerReading::Silent(why) | PeerReading::Refused(why) => {
                let hint = "until it is heard, the primary cannot be asked to stop, and nobody sees what its PBX does";
                Finding::problem(ABOUT, format!("{}: {why}", at.url), hint)
            }
        });
        findings.extend(host.findings(ABOUT));
    }
    for at in &config.witness.observers {
        let about = format!("observer {}", at.url);
        let observer = Observer::new(config, at, Arc::clone(&sequence));
        findings.push(match observer.ask().await.answer {
            ProbeAnswer::Up { seen, warning: None } => Finding::ok(&about, format!("sees the primary alive: {seen}")),
            ProbeAnswer::Up { seen, warning: Some(warning) } => {
                Finding::warning(&about, format!("sees the primary alive: {seen}, but {warning}"), "see that host")
            }
            ProbeAnswer::Down(why) => Finding::warning(
                &about,
                format!("does not see the primary alive: {why}"),
                "see from that host what keeps its checks from the primary",
            ),
            ProbeAnswer::Unknown(why) => {
                Finding::problem(&about, why, "an observer without a view forbids no takeover")
            }
        });
        findings.extend(observer.findings(&about));
    }
    told
}

fn agent(about: &str, heard: &Heard) -> Finding {
    let beat = &heard.beat;
    let told = |pbx: &PbxTold| format!("its PBX {}", pbx.condition);
    let pbx = beat.pbx.as_ref().map_or_else(|| "it tells nothing of its PBX".to_owned(), told);
    let text = format!("{} tells (version {}): {pbx}", beat.node, beat.version);
    let drift = heard.drift.abs();
    let apart = format!("{text}, but {}", heard.clock());
    let hint = "set both clocks by NTP: beyond 300 s neither this host nor a name server believes what is signed";
    if drift > DRIFT_ALERT {
        Finding::problem(about, apart, hint)
    } else if drift > DRIFT_WARN {
        Finding::warning(about, apart, hint)
    } else {
        Finding::ok(about, text)
    }
}
