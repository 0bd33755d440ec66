//! Goals: whether each was met, as lines of a table, and which were missed.

/// The goals, and whether each was met.
#[derive(Debug, Default)]
pub struct Goals {
    missed: Vec<String>,
}

impl Goals {
    /// Judges one: prints a line of a table, and remembers a miss.
    pub fn judge(&mut self, what: &str, goal: &str, measured: &str, met: Met) {
        let verdict = match met {
            Met::Yes => "met",
            Met::No => "**missed**",
        };
        println!("| {what} | {goal} | {measured} | {verdict} |");
        if met == Met::No {
            self.missed.push(format!("{what}: {measured}, the goal is {goal}"));
        }
    }

    /// What was missed.
    pub fn missed(&self) -> &[String] {
        &self.missed
    }
}

/// Whether a goal was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// It was.
    Yes,
    /// It was not.
    No,
}

/// A value below its limit meets a goal.
pub fn below(value: f64, limit: f64) -> Met {
    if value < limit { Met::Yes } else { Met::No }
}
