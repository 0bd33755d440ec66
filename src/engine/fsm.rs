//! Draws the state table: as text, Mermaid or Graphviz. README's picture is compared with it in a test.

use std::fmt::Write as _;

use crate::takeover::table as plans;
use crate::units::State;

use super::ignored::IGNORED;
use super::table::{Guard, ROWS, Row};

/// How the table is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Every row with its number, guard and reason; the plans; the ignored pairs.
    Text,
    /// A Mermaid state diagram: one arrow for each pair of states.
    Mermaid,
    /// A Graphviz digraph.
    Dot,
}

/// The table, drawn.
pub fn draw(format: Format) -> String {
    match format {
        Format::Text => text(),
        Format::Mermaid => mermaid(),
        Format::Dot => dot(),
    }
}

fn label(row: &Row) -> String {
    match row.guard {
        Guard::Always => row.on.name().to_owned(),
        guard => format!("{} [{}]", row.on.name(), guard.name()),
    }
}

fn text() -> String {
    let mut out = String::new();
    for state in State::ALL {
        let _ = writeln!(out, "{state}");
        for row in ROWS.iter().filter(|r| r.from == state) {
            let _ = writeln!(out, "  {:>2}  {} -> {}: {}", row.number, label(row), row.to, row.because);
        }
    }
    out.push('\n');
    out.push_str(&plans::describe());
    out.push_str("\nignored\n");
    for pair in IGNORED {
        let states: Vec<_> = pair.states.iter().map(|s| s.name()).collect();
        let triggers: Vec<_> = pair.triggers.iter().map(|t| t.name()).collect();
        let _ = writeln!(out, "  {} / {}: {}", states.join(", "), triggers.join(", "), pair.because);
    }
    out
}

/// The arrows between different states, each with the rows that make it.
fn arrows() -> Vec<(State, State, Vec<&'static Row>)> {
    let mut arrows: Vec<(State, State, Vec<&Row>)> = Vec::new();
    for row in ROWS.iter().filter(|r| r.from != r.to) {
        match arrows.iter_mut().find(|(from, to, _)| (*from, *to) == (row.from, row.to)) {
            Some((.., rows)) => rows.push(row),
            None => arrows.push((row.from, row.to, vec![row])),
        }
    }
    arrows
}

fn mermaid() -> String {
    let id = |state: State| state.name().replace('-', "_");
    let mut out = String::from("stateDiagram-v2\n    [*] --> standby\n");
    for (from, to, rows) in arrows() {
        let labels: Vec<_> =
            rows.iter().map(|row| format!("{} {}", row.number, row.on.name().replace(':', ""))).collect();
        let _ = writeln!(out, "    {} --> {}: {}", id(from), id(to), labels.join(", "));
    }
    out
}

fn dot() -> String {
    let mut out = String::from("digraph pbx_failover {\n    rankdir=LR;\n    node [shape=box, style=rounded];\n");
    for (from, to, rows) in arrows() {
        let labels: Vec<_> = rows.iter().map(|row| format!("{} {}", row.number, label(row))).collect();
        let _ = writeln!(out, "    \"{from}\" -> \"{to}\" [label=\"{}\"];", labels.join("\\n"));
    }
    out.push_str("}\n");
    out
}

impl Guard {
    /// What must hold, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::MayAct => "may act",
            Self::MayNotAct => "may not act",
            Self::NothingClaimed => "nothing claimed",
            Self::BeforeClaimUnasked => "before claim, not asked",
            Self::BeforeClaimForbidden => "before claim, not asked, not allowed",
            Self::AfterClaimUnsaid => "after claim, once",
            Self::Claimed => "claimed",
            Self::WaitsForClaimAndWithout => "claim waits, --without-claim",
            Self::NotRetreating => "before hand-over, not retreating",
            Self::NotAlarmed => "once",
            Self::MayServeUnalarmed => "once, its PBX may serve",
            Self::BothAlarmed => "alarm stands",
            Self::NotSaid => "once, after a while",
            Self::ClaimWrittenAndIdle => "our claim was written",
            Self::UnprovedAndWithout => "interrupted by a restart, --without-claim",
            Self::Unproved => "not proved since the start",
            Self::WaitsForEpoch => "interrupted by a restart",
            Self::NoPlan => "no plan runs",
            Self::InBackground => "the plan has served",
            Self::InTakeover => "takeover plan",
            Self::InFailback => "failback plan",
            Self::InWithdraw => "withdraw plan",
            Self::CutsCalls => "--cut-calls",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_the_text_and_every_arrow_in_both_pictures() {
        let text = draw(Format::Text);
        assert!(ROWS.iter().all(|r| text.contains(r.because)));
        let (mermaid, dot) = (draw(Format::Mermaid), draw(Format::Dot));
        for row in ROWS.iter().filter(|r| r.from != r.to) {
            assert!(mermaid.contains(&format!("{} {}", row.number, row.on.name().replace(':', ""))), "{}", row.number);
            assert!(dot.contains(&format!("{} {}", row.number, row.on.name())), "{}", row.number);
        }
    }
}
