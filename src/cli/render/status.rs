//! `status` as text: where we stand, who serves, whether we could take over, and what each of these rests on.

use super::{Lines, Page, Tone, cell, counted, one_line, others, plan, span, widest};
use crate::units::DataLook;
use crate::units::data::{HeldBack, Outcome, size};
use crate::units::snapshot::{Armed, Check, Epoch, Internet, Pair, Passive, Pbx, Status, SyncStatus};
use crate::units::{State, TrunkState, Verdict};

/// Widest name column: longer names push their line, not every line.
const NAME_COLUMNS_MAX: usize = 24;

/// The whole answer.
pub fn render(status: &Status, page: &Page) -> String {
    let mut lines = Lines::default();
    for (number, pair) in status.pairs.iter().enumerate() {
        if number > 0 {
            lines.line("");
        }
        if status.pairs.len() > 1 {
            lines.line(&page.paint.word(Tone::Head, &one_line(&pair.name)));
        }
        pair_lines(pair, page, &mut lines);
    }
    lines.finish()
}

fn pair_lines(pair: &Pair, page: &Page, lines: &mut Lines) {
    let state = pair.state.name();
    let degraded = if pair.degraded { ", degraded" } else { "" };
    let head = format!("{} ({}): ", pair.node, one_line(&pair.role));
    let since = format!("{degraded} since {}", page.moment(pair.state_since));
    lines.line(&format!("{head}{}{since}", page.paint.word(state_tone(pair), state)));
    if let Some(epoch) = &pair.epoch {
        lines.line(&service(epoch, page));
        if let Some(error) = &epoch.error {
            lines.beside(&page.paint.word(Tone::Warn, "epoch: "), 7, error);
        }
    }
    if let Some(duty) = &pair.duty {
        others::duty(duty, page, lines);
    }
    if let Some(verdict) = pair.verdict {
        let because = pair.verdict_because.as_deref().unwrap_or_default();
        let word = page.paint.word(verdict_tone(verdict), verdict.name());
        lines.beside(&format!("verdict {word}: "), 10 + verdict.name().len(), because);
    }
    if let Some(until) = pair.hold_down_until {
        lines.line(&format!("hold-down until {}", page.second(until)));
    }
    if let Some(readiness) = &pair.armed {
        armed(readiness, pair.state, page, lines);
    }
    if let Some(until) = pair.paused_until {
        lines.line(&format!("paused until {}", page.moment(until)));
    }
    for alarm in &pair.alarms {
        let (tone, how) =
            if alarm.acknowledged { (Tone::Warn, "acknowledged") } else { (Tone::Bad, "silence it with `ack`") };
        let text = format!("{}: {} (since {}, {how})", alarm.name, alarm.text, page.moment(alarm.since));
        lines.beside(&page.paint.word(tone, "ALARM "), 6, &text);
    }
    checks(&pair.checks, page, lines);
    if let Some(there) = &pair.internet {
        internet(there, page, lines);
    }
    if let Some(witness) = &pair.witness {
        others::witness(witness, page, lines);
    }
    if let Some(here) = &pair.pbx {
        pbx(here, pair.passive.as_ref(), page, lines);
    }
    if let Some(look) = &pair.data {
        data(look, page, lines);
    }
    if let Some(seen) = &pair.sync {
        sync(seen, page, lines);
    }
    if let Some(ledger) = &pair.ledger {
        let tone = if ledger.trouble.is_some() { Tone::Warn } else { Tone::Plain };
        lines.beside(&format!("{}: ", page.paint.word(tone, "ledger")), 8, &one_line(&ledger.line_to_do()));
    }
    held_back(&pair.held_back, lines);
    if let Some(peer) = &pair.peer {
        others::peer(peer, page, lines);
    }
    names(pair, page, lines);
    if let Some(running) = &pair.plan {
        lines.line("");
        plan::steps(running, page, lines);
    }
    if pair.queued_deliveries > 0 {
        lines.line("");
        lines.line(&format!("{} to be delivered", counted(pair.queued_deliveries as usize, "message")));
    }
}

/// Who holds the service: `service held by pbx-b since 10:02 (turn 7)`.
pub fn service(epoch: &Epoch, page: &Page) -> String {
    match (&epoch.holder, epoch.number) {
        (Some(holder), Some(number)) => {
            let since = epoch.since.map(|at| format!(" since {}", page.moment(at))).unwrap_or_default();
            format!("service held by {holder}{since} (turn {number})")
        }
        _ if epoch.error.is_some() => format!("who holds the service is not known (store {})", one_line(&epoch.store)),
        _ => "no takeover was ever made: the service was never claimed".to_owned(),
    }
}

fn state_tone(pair: &Pair) -> Tone {
    match pair.state {
        State::Halted => Tone::Bad,
        State::Active if pair.degraded => Tone::Warn,
        State::Standby | State::Active => Tone::Good,
        State::Suspect | State::TakingOver | State::FailingBack => Tone::Warn,
    }
}

fn verdict_tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::PrimaryUp => Tone::Good,
        Verdict::Unsure | Verdict::HalfDead => Tone::Warn,
        Verdict::PrimaryDead | Verdict::SiteCut | Verdict::PathCut | Verdict::WeAreCutOff => Tone::Bad,
    }
}

fn armed(armed: &Armed, state: State, page: &Page, lines: &mut Lines) {
    // While this node serves, or is about to, there is nothing to be armed for.
    let watches = matches!(state, State::Standby | State::Suspect);
    if armed.ok {
        if watches {
            lines.line(&format!("{}: a takeover could happen now", page.paint.word(Tone::Good, "armed")));
        }
        return;
    }
    let tone = if watches { Tone::Bad } else { Tone::Plain };
    lines.beside(&format!("{}: ", page.paint.word(tone, "not armed")), 11, &armed.because.join("; "));
}

fn checks(checks: &[Check], page: &Page, lines: &mut Lines) {
    if checks.is_empty() {
        return;
    }
    lines.line("");
    lines.line(&page.paint.word(Tone::Head, "checks of the primary"));
    let (name, kind) = (
        widest(checks.iter().map(|c| c.name.as_str()), NAME_COLUMNS_MAX),
        widest(checks.iter().map(|c| c.kind.as_str()), NAME_COLUMNS_MAX),
    );
    for check in checks {
        let tone = match check.verdict.as_str() {
            "up" => Tone::Good,
            "down" => Tone::Bad,
            _ => Tone::Warn,
        };
        let head = format!(
            "  {}  {}  {}  ",
            cell(page.paint, Tone::Plain, &one_line(&check.name), name),
            cell(page.paint, Tone::Plain, &one_line(&check.kind), kind),
            cell(page.paint, tone, &one_line(&check.verdict), 8)
        );
        let width = 16 + check.name.chars().count().max(name) + check.kind.chars().count().max(kind);
        lines.beside(&head, width, &check_text(check, page));
    }
}

fn check_text(check: &Check, page: &Page) -> String {
    let mut parts = Vec::new();
    match &check.last {
        None => parts.push("no result yet".to_owned()),
        Some(last) => {
            let what = last.seen.as_ref().or(last.error.as_ref()).unwrap_or(&last.result);
            parts.push(format!("{what}, {}, {}", span(last.latency_ms), page.ago(last.at)));
            parts.extend(last.warning.as_ref().map(|warning| format!("warning: {warning}")));
        }
    }
    if check.verdict != "down" && check.fall.now > 0 {
        parts.push(format!("{} of {} failures that mean down", check.fall.now, check.fall.need));
    }
    if check.verdict == "down" && check.rise.now > 0 {
        parts.push(format!("{} of {} answers that mean up", check.rise.now, check.rise.need));
    }
    parts.extend(check.decides.then(|| "decides".to_owned()));
    parts.join("; ")
}

fn internet(internet: &Internet, page: &Page, lines: &mut Lines) {
    let up = internet.targets.iter().filter(|target| target.verdict == "up").count();
    let (tone, word) = if internet.ok { (Tone::Good, "there") } else { (Tone::Bad, "NOT there") };
    lines.line("");
    let head = page.paint.word(Tone::Head, "Internet");
    let word = page.paint.word(tone, word);
    lines.line(&format!("{head} {word}: {up} of {} answer, {} needed", internet.targets.len(), internet.need));
    let quiet = internet.targets.iter().filter(|target| target.verdict != "up");
    for target in quiet {
        let error = target.last.as_ref().and_then(|last| last.error.as_deref()).unwrap_or("no result yet");
        lines.text(2, &format!("{} {}: {error}", target.name, target.verdict));
    }
}

fn pbx(pbx: &Pbx, watched: Option<&Passive>, page: &Page, lines: &mut Lines) {
    lines.line("");
    let not_passive = watched.filter(|watched| !watched.ok);
    let serving = match (pbx.serving, not_passive) {
        // Its unit may be stopped, and a PBX run beside it.
        (_, Some(_)) => page.paint.word(Tone::Bad, "NOT passive"),
        (Some(true), None) => "serves".to_owned(),
        // What its driver says of the unit is no look at what else may run.
        (Some(false), None) if watched.is_some_and(|watched| watched.old) => "passive by its driver's word".to_owned(),
        (Some(false), None) => "passive".to_owned(),
        (None, None) => "not known".to_owned(),
    };
    let count = |n: Option<u32>, what| n.map(|n| format!(", {}", counted(n as usize, what))).unwrap_or_default();
    let expected = pbx.expected_registrations.map(|n| format!(" of {n} that the primary had")).unwrap_or_default();
    let expected = if pbx.serving == Some(true) { expected } else { String::new() };
    let counts = count(pbx.registrations, "phone") + &expected + &count(pbx.calls, "call");
    let head = page.paint.word(Tone::Head, "PBX here");
    lines.line(&format!("{head} ({}): {serving}{counts}", one_line(&pbx.driver)));
    if let Some(watched) = not_passive {
        signs(watched, page, lines);
    }
    if let Some(why) = watched.filter(|watched| watched.old).and_then(|watched| watched.unseen.first()) {
        lines.text(2, why);
    }
    if let Some(error) = &pbx.error {
        lines.text(2, error);
    }
    for trunk in &pbx.trunks {
        let (tone, word) = match trunk.state {
            TrunkState::Up => (Tone::Good, "up"),
            TrunkState::Trying => (Tone::Warn, "trying"),
            TrunkState::Rejected => (Tone::Bad, "rejected"),
            TrunkState::Down => (Tone::Bad, "down"),
            TrunkState::Unknown => (Tone::Warn, "not known"),
        };
        // Trunks of a passive PBX are down, as they should be.
        let tone = if pbx.serving == Some(true) { tone } else { Tone::Plain };
        let code = trunk.sip_code.map(|code| format!(", SIP {code}")).unwrap_or_default();
        let required = if trunk.required { ", required" } else { "" };
        let word = page.paint.word(tone, word);
        lines.line(&format!("  trunk {}: {word}{code}{required}", one_line(&trunk.name)));
        for more in [trunk.said.clone(), trunk.held_elsewhere(), trunk.moved.clone()].into_iter().flatten() {
            lines.text(4, &more);
        }
    }
}

fn data(look: &DataLook, page: &Page, lines: &mut Lines) {
    let (tone, word) = match (look.outcome, look.trouble_since) {
        (_, Some(_)) => (Tone::Bad, "NOT well"),
        (Outcome::Go, None) => (Tone::Good, "well"),
        _ if look.is_under_way() => (Tone::Plain, "being written"),
        _ => (Tone::Warn, "usable"),
    };
    lines.line("");
    let newest = look.newest.as_ref().map(|newest| format!(", changed {}", page.ago(newest.at))).unwrap_or_default();
    let beat = look.beat_age_s.map(|age| format!(", heartbeat {age} s old")).unwrap_or_default();
    let head = page.paint.word(Tone::Head, "working directory");
    let vouched = look.vouched.as_ref().map(|vouched| format!(", {}", vouched.text())).unwrap_or_default();
    let files = counted(usize::try_from(look.files).unwrap_or(usize::MAX), "file");
    let head_word = format!("{head} {}: ", page.paint.word(tone, word));
    lines.beside(&head_word, 20 + word.len(), &format!("{files}, {}{newest}{beat}{vouched}", size(look.bytes)));
    if let Some(since) = look.trouble_since {
        let loaded = match look.outcome {
            Outcome::Hold => "nothing would be loaded",
            Outcome::LastGood => "its last good snapshot would be loaded",
            Outcome::Go | Outcome::GoWithWarning => "it would be loaded all the same",
        };
        lines.text(2, &format!("does not pass its gate since {}: {loaded}", page.moment(since)));
    }
    if let Some(kept) = &look.snapshots {
        let good = kept.good.as_ref().map(|good| format!("last good snapshot of {}", page.moment(good.at)));
        let good = good.unwrap_or_else(|| "no good snapshot is kept".to_owned());
        let room = if kept.bytes > 0 { format!(", {} kept ({})", kept.kept, size(kept.bytes)) } else { String::new() };
        lines.text(2, &format!("{good}{room}"));
        if let Some(dir) = &kept.unwritable {
            lines.text(4, &format!("it would not be put in place: the robot may not write into {dir}"));
        }
    }
    for reason in &look.reasons {
        lines.text(2, &reason.text);
        lines.text(4, &reason.todo);
    }
}

fn sync(seen: &SyncStatus, page: &Page, lines: &mut Lines) {
    let (tone, word) = match (seen.ok, seen.should_run) {
        (true, true) => (Tone::Good, "runs"),
        (true, false) => (Tone::Good, "rests while this node serves"),
        (false, true) => (Tone::Bad, "RESTS"),
        (false, false) => (Tone::Bad, "RUNS while this node serves"),
    };
    let since = seen.since.map(|at| format!(", since {}", page.moment(at))).unwrap_or_default();
    let head = format!("{} {}{since}", page.paint.word(Tone::Head, "sync"), page.paint.word(tone, word));
    lines.line("");
    lines.line(&head);
    for text in [&seen.runs, &seen.rests, &seen.unknown].into_iter().flatten() {
        lines.text(2, text);
    }
}

fn held_back(held: &[HeldBack], lines: &mut Lines) {
    for held in held {
        let files = counted(usize::try_from(held.files).unwrap_or(usize::MAX), "file");
        let named = if held.first.is_empty() { String::new() } else { format!(": {}", held.first.join(", ")) };
        lines.line("");
        lines.text(0, &format!("{files} moved aside in held-back/{}{named}", held.name));
        lines.text(2, &format!("`pbx-failover snapshots restore held-back/{}` puts them back", held.name));
    }
}

fn signs(watched: &Passive, page: &Page, lines: &mut Lines) {
    let since = watched.since.map(|at| format!(", since {}", page.moment(at))).unwrap_or_default();
    lines.text(2, &format!("although this node should be{since}"));
    for sign in &watched.signs {
        lines.text(4, &format!("{}: {}", sign.name, sign.text));
    }
    if let Some(todo) = &watched.todo {
        lines.text(4, &format!("unless somebody is testing it: {todo}"));
    }
}

fn names(pair: &Pair, page: &Page, lines: &mut Lines) {
    if pair.dns.is_empty() {
        return;
    }
    lines.line("");
    lines.line(&page.paint.word(Tone::Head, "DNS"));
    for record in &pair.dns {
        let expected = if record.expected.is_empty() { "absent".to_owned() } else { record.expected.join(", ") };
        lines.text(2, &format!("{} {}: {expected}", record.name, record.rtype));
        for seen in &record.seen {
            lines.text(4, seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{COLUMNS, Paint, sample};
    use super::*;

    #[test]
    fn all_is_well_is_told_on_one_page() {
        let text = render(&sample::status(sample::standby()), &sample::page(Paint::Plain));
        let want = "\
pbx-b (backup): standby since 2026-11-18 08:00
service held by pbx-a since 2026-11-18 07:59 (turn 6)
verdict primary-up: all votes are up
armed: a takeover could happen now

checks of the primary
  web  http  up        200 OK, 12 ms, 2 s ago; warning: certificate expires in 6
                       days
  sip  sip   up        no answer within 3s, 3 s, 1 s ago; 1 of 3 failures that
                       mean down; decides

Internet there: 2 of 3 answer, 2 needed
  tls://9.9.9.9:443 down: connection refused

PBX here (systemd): passive
";
        assert_eq!(text, want);
    }

    #[test]
    fn a_pbx_that_is_not_passive_is_told_with_each_sign_and_what_to_do() {
        let mut json = sample::standby();
        json["pairs"][0]["passive"] = serde_json::json!({
            "ok": false, "since": "2026-11-18T10:02:00Z", "todo": "`systemctl stop asterisk.service`",
            "signs": [{"name": "trunk-up", "text": "trunk carrier is registered from here"}]
        });
        let text = render(&sample::status(json), &sample::page(Paint::Plain));
        let want = "\
PBX here (systemd): NOT passive
  although this node should be, since 2026-11-18 10:02
    trunk-up: trunk carrier is registered from here
    unless somebody is testing it: `systemctl stop asterisk.service`
";
        assert!(text.ends_with(want), "{text}");
    }

    #[test]
    fn a_pbx_that_was_not_looked_at_for_long_is_passive_by_its_drivers_word_only() {
        let mut json = sample::standby();
        json["pairs"][0]["passive"] = serde_json::json!({"ok": true, "old": true, "unseen": ["the last look at it began 300 s ago; see the log"]});
        let text = render(&sample::status(json), &sample::page(Paint::Plain));
        let want = "\
PBX here (systemd): passive by its driver's word
  the last look at it began 300 s ago; see the log
";
        assert!(text.ends_with(want), "{text}");
    }

    #[test]
    fn the_working_directory_is_one_line_and_each_reason_two() {
        let mut json = sample::standby();
        json["pairs"][0]["data"] = serde_json::json!({
            "at": "2026-11-18T10:04:00Z", "took_ms": 3, "outcome": "go-with-warning", "files": 1200, "bytes": 56_000_000,
            "directories": 7, "trouble_since": "2026-11-18T10:02:00Z", "beat_age_s": 12,
            "reasons": [{"weight": "broken", "text": "pjsip.conf is empty", "todo": "mend it at the primary"}]
        });
        let text = render(&sample::status(json), &sample::page(Paint::Plain));
        let want = "\
working directory NOT well: 1200 files, 56 MB, heartbeat 12 s old
  does not pass its gate since 2026-11-18 10:02: it would be loaded all the same
  pjsip.conf is empty
    mend it at the primary
";
        assert!(text.ends_with(want), "{text}");
    }

    #[test]
    fn a_degraded_takeover_says_what_is_missing() {
        let text = render(&sample::status(sample::active()), &sample::page(Paint::Plain));
        let want_head = "\
pbx-b (backup): active, degraded since 10:02
service held by pbx-b since 10:02 (turn 7)
verdict primary-dead: all votes are down and the Internet answers
not armed: this node serves already
ALARM step-retries: register_trunks is tried again: 403 Forbidden (since 10:03,
      silence it with `ack`)
";
        let want_tail = "
PBX here (command): serves, 12 phones, 1 call
  trunk carrier: rejected, SIP 403, required

DNS
  pbx.example.com A: 198.51.100.20
    192.0.2.53:53: 198.51.100.20
    192.0.2.54:53: 203.0.113.10

takeover runs since 10:02: the primary is believed dead since 10:01
  done     confirm          40 ms  3 of 3 targets answer, 2 votes are down
  done     claim            12 ms  epoch 7 read back at 192.0.2.53
  skipped  fence                   not configured
  running  register_trunks  61 s   attempt 3: carrier: 403 Forbidden
  pending  notify

2 messages to be delivered
";
        assert!(text.starts_with(want_head), "{text}");
        assert!(text.ends_with(want_tail), "{text}");
    }

    #[test]
    fn what_a_provider_holds_of_others_is_told_below_its_trunk() {
        let mut json = sample::active();
        json["pairs"][0]["pbx"]["trunks"][0]["said"] = "403 Too many contacts".into();
        json["pairs"][0]["pbx"]["trunks"][0]["foreign"] =
            serde_json::json!([{"place": "203.0.113.10:5060", "expires_s": 3540}]);
        json["pairs"][0]["pbx"]["trunks"][0]["moved"] = "provider was told: 200 OK".into();
        let text = render(&sample::status(json), &sample::page(Paint::Plain));
        let want = "  trunk carrier: rejected, SIP 403, required
    403 Too many contacts
    its provider also holds 203.0.113.10:5060 (3540 s left): calls may go there
    until that ends
    provider was told: 200 OK
";
        assert!(text.contains(want), "{text}");
    }

    #[test]
    fn every_line_fits_a_phone_whatever_the_names() {
        let mut json = sample::active();
        json["pairs"][0]["verdict_because"] = "because ".repeat(40).into();
        json["pairs"][0]["checks"][0]["name"] = "a-check-with-a-very-long-name-indeed-so-long".into();
        json["pairs"][0]["epoch"]["error"] = "the master at 192.0.2.53 does not answer ".repeat(5).into();
        let text = render(&sample::status(json), &sample::page(Paint::Plain));
        for line in text.lines() {
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
    }

    #[test]
    fn colour_says_nothing_that_the_words_do_not() {
        let status = sample::status(sample::active());
        let plain = render(&status, &sample::page(Paint::Plain));
        let mut coloured = render(&status, &sample::page(Paint::Colour));
        assert_ne!(plain, coloured);
        for code in ["0", "1", "32", "33", "1;31"] {
            coloured = coloured.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(plain, coloured);
    }

    #[test]
    fn an_epoch_that_cannot_be_read_is_not_called_unclaimed() {
        let mut json = sample::standby();
        json["pairs"][0]["epoch"] = serde_json::json!({"store": "dns", "error": "192.0.2.53: no answer"});
        let text = render(&sample::status(json), &sample::page(Paint::Plain));
        assert!(text.contains("not known") && text.contains("epoch: 192.0.2.53: no answer"), "{text}");
        assert!(!text.contains("never claimed"), "{text}");
    }
}
