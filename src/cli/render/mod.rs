//! Turns snapshots into text for people, on pages of 80 columns; pure functions, one file for each kind of answer.
//!
//! Colour repeats what a word says and never says anything alone. JSON is not made here: it is the snapshot itself.

pub mod check;
pub mod demo;
pub mod explain;
pub mod history;
pub mod ledger;
mod others;
pub mod plan;
pub mod status;

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Columns of a page: what a phone shows in landscape, and a pager anywhere.
pub const COLUMNS: usize = 80;

/// How and when a text is laid out.
#[derive(Debug, Clone)]
pub struct Page {
    /// Now, for "4 s ago".
    pub now: Timestamp,
    /// The reader's time zone.
    pub zone: TimeZone,
    /// Colour or none.
    pub paint: Paint,
}

/// Colour or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Plain text.
    Plain,
    /// ANSI colours.
    Colour,
}

/// What a word means, and so its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Needs a person.
    Bad,
    /// A heading.
    Head,
    /// Neither.
    Plain,
}

impl Paint {
    /// The word in its tone.
    pub fn word(self, tone: Tone, word: &str) -> String {
        let code = match (self, tone) {
            (Self::Plain, _) | (_, Tone::Plain) => return word.to_owned(),
            (_, Tone::Good) => "32",
            (_, Tone::Warn) => "33",
            (_, Tone::Bad) => "1;31",
            (_, Tone::Head) => "1",
        };
        format!("\x1b[{code}m{word}\x1b[0m")
    }
}

impl Page {
    /// A moment: the time alone on the same day, else with the date.
    pub fn moment(&self, at: Timestamp) -> String {
        let (at, now) = (at.to_zoned(self.zone.clone()), self.now.to_zoned(self.zone.clone()));
        let format = if at.date() == now.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
        at.strftime(format).to_string()
    }

    /// The time of day, to the second.
    pub fn second(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string()
    }

    /// The day.
    pub fn day(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%a %Y-%m-%d").to_string()
    }

    /// How long ago, coarsely; a moment that lies ahead (a stepped clock) is now.
    pub fn ago(&self, at: Timestamp) -> String {
        let seconds = u64::try_from(self.now.duration_since(at).as_secs()).unwrap_or(0);
        format!("{} ago", span(seconds.saturating_mul(1_000)))
    }
}

/// A time span, coarsely: `12 ms`, `1.4 s`, `3 min`, `5 h`, `2 d`.
pub fn span(ms: u64) -> String {
    const HOUR_MS: u64 = 3_600_000;
    match ms {
        0 => "0 s".to_owned(),
        1..1_000 => format!("{ms} ms"),
        1_000..10_000 if !ms.is_multiple_of(1_000) => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / HOUR_MS),
        _ => format!("{} d", ms / (24 * HOUR_MS)),
    }
}

/// Text from elsewhere as one line: no control characters reach the terminal.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A text that grows by lines of at most [`COLUMNS`].
#[derive(Debug, Default)]
pub struct Lines(String);

impl Lines {
    /// One line as it is.
    pub fn line(&mut self, text: &str) {
        let _ = writeln!(self.0, "{}", text.trim_end());
    }

    /// `head`, then `text` wrapped beside it, each further line below the first word of `text`.
    ///
    /// `width` is how many columns the head takes, since colour takes none.
    pub fn beside(&mut self, head: &str, width: usize, text: &str) {
        // A head that leaves no room has its text below it.
        let below = width + 20 > COLUMNS;
        let indent = if below { 4 } else { width };
        let mut line = head.to_owned();
        let mut used = if below { COLUMNS } else { width };
        let mut fresh = !below;
        for word in one_line(text).split_whitespace() {
            let length = word.chars().count();
            if !fresh && used + 1 + length > COLUMNS {
                self.line(&line);
                line = " ".repeat(indent);
                used = indent;
                fresh = true;
            }
            if !fresh {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += length;
            fresh = false;
        }
        self.line(&line);
    }

    /// `text` wrapped, indented by `indent`.
    pub fn text(&mut self, indent: usize, text: &str) {
        self.beside(&" ".repeat(indent), indent, text);
    }

    /// All of it.
    pub fn finish(self) -> String {
        self.0
    }
}

/// So many of something: `1 call`, `2 calls`.
pub fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// The word padded to `width` columns, painted.
pub fn cell(paint: Paint, tone: Tone, word: &str, width: usize) -> String {
    let pad = " ".repeat(width.saturating_sub(word.chars().count()));
    paint.word(tone, word) + &pad
}

/// The widest of some words, columns, at most `most`.
pub fn widest<'a>(words: impl IntoIterator<Item = &'a str>, most: usize) -> usize {
    words.into_iter().map(|word| word.chars().count()).max().unwrap_or(0).min(most)
}

#[cfg(test)]
mod sample {
    //! Snapshots for the tests of the renderers.

    use jiff::tz::TimeZone;

    use super::{Page, Paint};
    use crate::units::snapshot::Status;

    /// A page at 10:05 on the day of the samples.
    pub fn page(paint: Paint) -> Page {
        Page { now: "2026-11-20T10:05:00Z".parse().expect("a time"), zone: TimeZone::UTC, paint }
    }

    /// A status from JSON: the shape that the control socket answers with.
    pub fn status(json: serde_json::Value) -> Status {
        serde_json::from_value(json).expect("a status")
    }

    /// All is well.
    pub fn standby() -> serde_json::Value {
        serde_json::json!({"version": "0.1.0", "pairs": [{
            "name": "default", "node": "pbx-b", "role": "backup",
            "state": "standby", "state_since": "2026-11-18T08:00:00Z",
            "verdict": "primary-up", "verdict_because": "all votes are up", "degraded": false,
            "armed": {"ok": true, "because": []},
            "epoch": {"number": 6, "holder": "pbx-a", "since": "2026-11-18T07:59:00Z", "store": "dns"},
            "checks": [
                {"name": "web", "kind": "http", "verdict": "up", "decides": false,
                 "fall": {"now": 0, "need": 3}, "rise": {"now": 3, "need": 3},
                 "last": {"at": "2026-11-20T10:04:58Z", "result": "up", "latency_ms": 12, "seen": "200 OK",
                          "warning": "certificate expires in 6 days"}},
                {"name": "sip", "kind": "sip", "verdict": "up", "decides": true,
                 "fall": {"now": 1, "need": 3}, "rise": {"now": 0, "need": 3},
                 "last": {"at": "2026-11-20T10:04:59Z", "result": "down", "latency_ms": 3000,
                          "error": "no answer within 3s"}}],
            "internet": {"need": 2, "ok": true, "targets": [
                {"name": "tls://1.1.1.1:443", "verdict": "up"},
                {"name": "tls://8.8.8.8:443", "verdict": "up"},
                {"name": "tls://9.9.9.9:443", "verdict": "down",
                 "last": {"at": "2026-11-20T10:04:00Z", "result": "down", "latency_ms": 1, "error": "connection refused"}}]},
            "pbx": {"driver": "systemd", "serving": false, "trunks": []},
            "dns": [], "alarms": [], "queued_deliveries": 0}]})
    }

    /// After a takeover, with a trunk that the provider refuses.
    pub fn active() -> serde_json::Value {
        let mut status = standby();
        let pair = &mut status["pairs"][0];
        pair["state"] = "active".into();
        pair["state_since"] = "2026-11-20T10:02:03Z".into();
        pair["verdict"] = "primary-dead".into();
        pair["verdict_because"] = "all votes are down and the Internet answers".into();
        pair["degraded"] = true.into();
        pair["armed"] = serde_json::json!({"ok": false, "because": ["this node serves already"]});
        pair["epoch"] =
            serde_json::json!({"number": 7, "holder": "pbx-b", "since": "2026-11-20T10:02:00Z", "store": "dns"});
        pair["pbx"] = serde_json::json!({"driver": "command", "serving": true, "registrations": 12, "calls": 1, "trunks": [
            {"name": "carrier", "kind": "register", "state": "rejected", "sip_code": 403, "required": true}]});
        pair["plan"] = serde_json::json!({"name": "takeover", "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "because": "the primary is believed dead since 10:01", "started": "2026-11-20T10:02:00Z", "steps": [
            {"name": "confirm", "state": "done", "attempt": 1, "elapsed_ms": 40, "proof": "3 of 3 targets answer, 2 votes are down"},
            {"name": "claim", "state": "done", "attempt": 1, "elapsed_ms": 12, "proof": "epoch 7 read back at 192.0.2.53"},
            {"name": "fence", "state": "skipped", "attempt": 0, "error": "not configured"},
            {"name": "register_trunks", "state": "running", "attempt": 3, "elapsed_ms": 61000, "error": "carrier: 403 Forbidden"},
            {"name": "notify", "state": "pending", "attempt": 0}]});
        pair["dns"] = serde_json::json!([{"name": "pbx.example.com", "type": "A", "expected": ["198.51.100.20"],
            "seen": ["192.0.2.53:53: 198.51.100.20", "192.0.2.54:53: 203.0.113.10"]}]);
        pair["alarms"] = serde_json::json!([{"name": "step-retries", "text": "register_trunks is tried again: 403 Forbidden",
            "since": "2026-11-20T10:03:00Z", "acknowledged": false}]);
        pair["queued_deliveries"] = 2.into();
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_the_unit_a_person_would_use() {
        let cases = [
            (0, "0 s"),
            (12, "12 ms"),
            (1_400, "1.4 s"),
            (3_000, "3 s"),
            (61_500, "61 s"),
            (180_000, "3 min"),
            (18_000_000, "5 h"),
            (400_000_000, "4 d"),
        ];
        for (ms, want) in cases {
            assert_eq!(span(ms), want);
        }
    }

    #[test]
    fn a_moment_carries_its_date_only_on_another_day() {
        let page = sample::page(Paint::Plain);
        assert_eq!(page.moment("2026-11-20T10:02:00Z".parse().unwrap()), "10:02");
        assert_eq!(page.moment("2026-11-18T10:02:00Z".parse().unwrap()), "2026-11-18 10:02");
        assert_eq!(page.ago("2026-11-20T11:00:00Z".parse().unwrap()), "0 s ago");
    }

    #[test]
    fn text_wraps_beside_its_head() {
        let mut lines = Lines::default();
        lines.beside("head  ", 6, &"word ".repeat(20));
        let text = lines.finish();
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS));
        assert_eq!(text.lines().nth(1).unwrap().find("word"), Some(6));
    }

    #[test]
    fn a_word_longer_than_the_line_is_kept_whole() {
        let mut lines = Lines::default();
        lines.beside(&"h".repeat(70), 70, &"x".repeat(100));
        assert_eq!(lines.finish(), format!("{}\n    {}\n", "h".repeat(70), "x".repeat(100)));
    }

    #[test]
    fn no_control_character_of_another_host_reaches_the_terminal() {
        let mut lines = Lines::default();
        lines.text(2, "200 \x1b[2JOK\r\nX");
        assert_eq!(lines.finish(), "  200 [2JOK X\n");
    }
}
