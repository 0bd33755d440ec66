//! The other host, witness and observers, and the primary's duty, as text.

use super::{Lines, Page, Tone, counted, one_line};
use crate::units::beat::{Beat, Duty};
use crate::units::snapshot::{DutyStatus, PeerStatus, Target, Witness};

/// What the primary's PBX may do.
pub fn duty(duty: &DutyStatus, page: &Page, lines: &mut Lines) {
    let (tone, what) = match duty.duty {
        Duty::Serve => (Tone::Good, "its PBX may serve"),
        Duty::WithoutTrunks => (Tone::Warn, "its PBX serves its phones without trunks"),
        Duty::Stop => (Tone::Warn, "its PBX must not serve"),
        Duty::AsItIs => (Tone::Warn, "its PBX stays as it is"),
    };
    lines.beside(&format!("{}: ", page.paint.word(tone, what)), what.len() + 2, &duty.because);
    if let Some(error) = &duty.error {
        lines.beside(&page.paint.word(Tone::Bad, "not so yet: "), 12, error);
    }
    if let Some(since) = duty.held_back_since {
        lines.line(&format!("kept from serving since {}: it is started as soon as it may serve", page.moment(since)));
    }
    if let Some(until) = duty.planned_stop_until {
        lines.line(&format!("its stop is announced until {}", page.moment(until)));
    }
}

/// Who else sees the primary, or its site.
pub fn witness(witness: &Witness, page: &Page, lines: &mut Lines) {
    lines.line("");
    lines.line(&page.paint.word(Tone::Head, "seen by others"));
    for (what, words, targets) in [
        ("primary's site", ["answers", "is silent", "could not be asked"], &witness.primary_site),
        ("observer", ["sees it alive", "does not see it alive", "gives no view"], &witness.observers),
    ] {
        for target in targets {
            one(what, words, target, page, lines);
        }
    }
}

fn one(what: &str, [up, down, unknown]: [&str; 3], target: &Target, page: &Page, lines: &mut Lines) {
    let (tone, word) = match target.verdict.as_str() {
        "up" => (Tone::Good, up),
        "down" => (Tone::Warn, down),
        "unknown" => (Tone::Bad, unknown),
        _ => (Tone::Warn, "gives no view"),
    };
    let last = target.last.as_ref();
    let why = last.and_then(|last| last.error.as_ref().or(last.seen.as_ref()));
    let why = why.map(|why| format!(": {}", one_line(why))).unwrap_or_default();
    lines.text(2, &format!("{what} {} {}{why}", one_line(&target.name), page.paint.word(tone, word)));
}

/// The other host, as it tells of itself.
pub fn peer(peer: &PeerStatus, page: &Page, lines: &mut Lines) {
    lines.line("");
    let node = peer.beat.as_ref().map_or("the other host", |beat| beat.node.as_str());
    let (tone, word) = match peer.contact.as_str() {
        "heard" => (Tone::Good, "heard"),
        "refused" => (Tone::Bad, "not believed"),
        "silent" => (Tone::Warn, "silent"),
        _ => (Tone::Plain, "not asked yet"),
    };
    let at = peer.at.map(|at| format!(", last heard {}", page.ago(at))).unwrap_or_default();
    lines.line(&format!("{} {}{at}", page.paint.word(Tone::Head, node), page.paint.word(tone, word)));
    if let Some(error) = &peer.error {
        lines.text(2, error);
    }
    if let Some(beat) = &peer.beat {
        told(beat, lines);
    }
    for trouble in &peer.troubles {
        lines.beside(&format!("  {}", page.paint.word(Tone::Bad, "TROUBLE ")), 10, trouble);
    }
}

fn told(beat: &Beat, lines: &mut Lines) {
    if let Some(pbx) = &beat.pbx {
        let condition = pbx.condition;
        let count = |n: Option<u32>, what| n.map(|n| format!(", {}", counted(n as usize, what))).unwrap_or_default();
        let counts = count(pbx.registrations, "phone") + &count(pbx.calls, "call");
        lines.text(2, &format!("its PBX ({}) {condition}{counts}", one_line(&pbx.driver)));
    }
    if let Some(duty) = &beat.duty {
        lines.text(2, &format!("may: {}, because {}", duty.duty.name(), one_line(&duty.because)));
    }
    if let Some(robot) = &beat.robot {
        let armed = if robot.disarmed_because.is_empty() {
            "armed".to_owned()
        } else {
            format!("not armed: {}", one_line(&robot.disarmed_because.join("; ")))
        };
        lines.text(2, &format!("robot in {}, verdict {}, {armed}", robot.state, robot.verdict));
    }
    lines.text(2, &format!("version {}, protocol {}", one_line(&beat.version), beat.protocol));
}
