//! Plans as text: the steps of one that runs, and the preview of one that is asked for.

use super::{Lines, Page, Tone, cell, one_line, span, widest};
use crate::cli::backend::Preview;
use crate::units::StepState;
use crate::units::snapshot::{Plan, PlanStep};

/// A plan and each of its steps.
pub fn steps(plan: &Plan, page: &Page, lines: &mut Lines) {
    let name = page.paint.word(Tone::Head, plan.name.name());
    let width = plan.name.name().len();
    let began = page.moment(plan.started);
    let (told, because) = match &plan.ended {
        Some(ended) => (format!(" of {began}: "), one_line(ended)),
        None => (format!(" runs since {began}: "), one_line(&plan.because)),
    };
    lines.beside(&format!("{name}{told}"), width + told.len(), &because);
    let names = widest(plan.steps.iter().map(|step| step.name.name()), usize::MAX);
    let times = widest(plan.steps.iter().map(time).collect::<Vec<_>>().iter().map(String::as_str), usize::MAX);
    for each in &plan.steps {
        let head = format!(
            "  {}  {:names$}  {:times$}  ",
            cell(page.paint, tone(each.state), each.state.name(), 7),
            each.name.name(),
            time(each)
        );
        lines.beside(&head, 13 + names + times, &told_of(each));
    }
}

/// One step as a line, for watching a plan go by.
pub fn step_line(step: &PlanStep) -> String {
    let mut lines = Lines::default();
    lines.beside(&format!("  {:7}  {:20}  ", step.state.name(), step.name.name()), 33, &told_of(step));
    lines.finish()
}

fn time(step: &PlanStep) -> String {
    step.elapsed_ms.filter(|_| step.attempt > 0).map(span).unwrap_or_default()
}

fn tone(state: StepState) -> Tone {
    match state {
        StepState::Done => Tone::Good,
        StepState::Failed => Tone::Bad,
        StepState::Unknown | StepState::Running => Tone::Warn,
        StepState::Pending | StepState::Skipped => Tone::Plain,
    }
}

fn told_of(step: &PlanStep) -> String {
    let attempt = (step.attempt > 1 && step.state != StepState::Done).then(|| format!("attempt {}", step.attempt));
    let text = if step.state == StepState::Done { &step.proof } else { &step.error };
    attempt.into_iter().chain(text.clone()).collect::<Vec<_>>().join(": ")
}

/// What a plan would do.
pub fn preview(preview: &Preview) -> String {
    let mut lines = Lines::default();
    lines.line(&format!("{} would do, in this order:", preview.plan));
    let names = widest(preview.steps.iter().map(|step| step.name.name()), usize::MAX);
    for (number, step) in preview.steps.iter().enumerate() {
        let time = step.seconds.map(|seconds| format!(" ({})", span(u64::from(seconds) * 1_000))).unwrap_or_default();
        let does = format!("{}{time}", step.does);
        lines.beside(&format!("  {:2}. {:names$}  ", number + 1, step.name.name()), 8 + names, &does);
    }
    if let Some(seconds) = preview.without_service_s {
        let carried = preview
            .carried_s
            .map(|carried| format!("; {} of it expected for the last of the data", span(u64::from(carried) * 1_000)));
        let most = span(u64::from(seconds) * 1_000);
        lines.line(&format!("about {most} without telephone{}", carried.unwrap_or_default()));
    }
    if !preview.stands_against.is_empty() {
        lines.beside("the robot by itself would not: ", 31, &preview.stands_against.join("; "));
    }
    if let Some(refused) = &preview.refused {
        lines.beside("without flags it would be refused now: ", 39, refused);
    }
    lines.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_numbers_its_steps_and_says_what_to_know_before() {
        let json = serde_json::json!({"plan": "failback", "steps": [
                {"name": "preflight", "does": "see that pbx-a answers"},
                {"name": "stop_accepting", "does": "stop pbx.service", "seconds": 5}],
            "without_service_s": 130, "stands_against": ["an observer sees it alive", "paused"]});
        let want = "\
failback would do, in this order:
   1. preflight       see that pbx-a answers
   2. stop_accepting  stop pbx.service (5 s)
about 2 min without telephone
the robot by itself would not: an observer sees it alive; paused
";
        assert_eq!(preview(&serde_json::from_value(json).unwrap()), want);
    }

    #[test]
    fn a_step_that_goes_by_is_one_line() {
        let step = serde_json::json!({"name": "claim", "state": "running", "attempt": 2, "error": "no answer"});
        let line = step_line(&serde_json::from_value(step).unwrap());
        assert_eq!(line, "  running  claim                 attempt 2: no answer\n");
    }
}
