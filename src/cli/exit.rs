//! How the program ends: its exit codes, and trouble in the form that people can act on.
//!
//! Nothing here prints; `console` does.

use std::fmt;
use std::process::ExitCode;

/// The exit codes, which scripts rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line is wrong, or lacks what it needs where nobody can be asked.
    Usage = 2,
    /// The configuration is refused.
    ConfigRefused = 3,
    /// No daemon answers at the control socket.
    NoDaemon = 4,
    /// Refused in this state; the error says why.
    Refused = 5,
    /// Timed out: it may have happened, or may still happen.
    TimedOut = 6,
    /// `guard`: this node must not serve.
    MustNotServe = 10,
    /// `guard`: it could not be found out, so it must not now.
    NotKnown = 11,
}

impl Exit {
    /// The codes as the help text lists them.
    pub const HELP: &str = "\
Exit codes:
  0  done
  1  it failed
  2  usage
  3  the configuration is refused
  4  no daemon answers
  5  refused in this state; the error says why
  6  timed out: the outcome is unknown
  10  guard: this node must not serve
  11  guard: it could not be found out, so it must not now";
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What went wrong, what may have happened, where we stand, what to do; each a line without a full stop.
///
/// `Display` is the text for stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// How the program ends.
    pub exit: Exit,
    /// What failed. Several for a configuration, where all errors are told at once.
    pub errors: Vec<String>,
    /// What may have happened all the same.
    pub effect: Option<String>,
    /// Where we stand now.
    pub state: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl Trouble {
    /// Trouble with one error and no more.
    pub fn new(exit: Exit, error: impl Into<String>) -> Self {
        Self { exit, errors: vec![error.into()], effect: None, state: None, hint: None }
    }

    /// Adds what may have happened.
    #[must_use]
    pub fn effect(mut self, effect: impl Into<String>) -> Self {
        self.effect = Some(effect.into());
        self
    }

    /// Adds where we stand.
    #[must_use]
    pub fn state(mut self, state: impl Into<String>) -> Self {
        self.state = Some(state.into());
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |name: &'static str| move |text: &String| format!("{name}: {text}");
        let errors = self.errors.iter().map(named("error"));
        let rest = [("effect", &self.effect), ("state", &self.state), ("hint", &self.hint)];
        let rest = rest.into_iter().filter_map(|(name, text)| text.as_ref().map(named(name)));
        f.write_str(&errors.chain(rest).collect::<Vec<_>>().join("\n"))
    }
}

impl std::error::Error for Trouble {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_in_the_order_in_which_it_is_read() {
        let trouble = Trouble::new(Exit::Failed, "could not fence pbx-a: no answer within 5s")
            .hint("check that pbx-a is off")
            .effect("unknown; the power-off may have been carried out");
        let want = "error: could not fence pbx-a: no answer within 5s\n\
                    effect: unknown; the power-off may have been carried out\n\
                    hint: check that pbx-a is off";
        assert_eq!(trouble.to_string(), want);
    }

    #[test]
    fn the_help_text_lists_every_code() {
        let all = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::ConfigRefused,
            Exit::NoDaemon,
            Exit::Refused,
            Exit::TimedOut,
            Exit::MustNotServe,
            Exit::NotKnown,
        ];
        for exit in all {
            assert!(Exit::HELP.contains(&format!("\n  {}  ", exit as u8)), "{exit:?}");
        }
        assert_eq!(Exit::HELP.lines().count(), all.len() + 1);
    }
}
