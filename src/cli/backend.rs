//! What the command line needs of the rest of the program: one trait, so that every command is tested without a daemon.
//!
//! The methods that speak to the daemon go over its control socket; the others work without one. Each returns within
//! a bounded time. A method never prints: what is to be said to people it returns.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::args::Part;
use super::exit::Trouble;
pub use crate::control::{Preview, PreviewStep};
pub use crate::daemon::guard::{GuardOrder, GuardReport, May};
pub use crate::daemon::home::told::Whole;
use crate::data::Class;
pub use crate::demo::{AfterStory, Ending, Teller, Told};
pub use crate::units::finding::{CheckReport, Finding, Level};
use crate::units::journal::HistoryEvent;
use crate::units::operator::{Reply, Request};
use crate::units::snapshot::{Explanation, Status};
use crate::units::{DeliveryOutcome, PlanKind};

/// What every command is told of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// The configuration file; it names the control socket.
    pub config: PathBuf,
    /// The control socket, where it was given: then the configuration is not read for it.
    pub control: Option<PathBuf>,
    /// Machine-readable output is wanted (for `run`: logs).
    pub json: bool,
    /// How often `-v` was given.
    pub verbose: u8,
}

/// How `check` is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckOrder {
    /// Only the file: ask nothing and nobody.
    pub offline: bool,
    /// Accept the configured name of the epoch record in place of the remembered one.
    pub accept_epoch_record: bool,
}

/// Which part of history is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryBounds {
    /// Nothing older.
    pub since: Option<Timestamp>,
    /// At most so many, the newest.
    pub limit: u32,
}

/// How the state table is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum FsmFormat {
    /// Rows with their numbers and reasons.
    #[default]
    Text,
    /// A Mermaid state diagram.
    Mermaid,
    /// A Graphviz digraph.
    Dot,
}

/// The rest of the program, as the command line sees it.
pub trait Backend {
    /// Is the daemon, until it is told to stop.
    fn run(&self, file: &Path) -> Result<(), Trouble>;

    /// Plays the demo, telling it as it happens.
    fn demo(&self, after: AfterStory, tell: Teller<'_>) -> Result<Ending, Trouble>;

    /// Is a process of the demo.
    fn demo_part(&self, part: Part, file: &Path) -> Result<(), Trouble>;

    /// Validates the configuration, then proves readiness against the real things. A refused file is `Err`.
    fn check(&self, order: CheckOrder) -> Result<CheckReport, Trouble>;

    /// On the primary: may this node serve?
    fn guard(&self, order: GuardOrder) -> Result<GuardReport, Trouble>;

    /// What a person must know of the way to the daemon before it is asked: that the configuration is refused, and
    /// which socket is asked all the same.
    fn about_the_way(&self) -> Option<String> {
        None
    }

    /// Where we stand.
    fn status(&self) -> Result<Status, Trouble>;

    /// Why, or why not.
    fn explain(&self) -> Result<Explanation, Trouble>;

    /// What happened, oldest first.
    fn history(&self, bounds: HistoryBounds) -> Result<Vec<HistoryEvent>, Trouble>;

    /// What was changed here and is not at home yet, only of this class; needs no daemon.
    fn ledger(&self, class: Option<Class>) -> Result<Whole, Trouble>;

    /// Carries home what a failback has left; what came of it, in one line.
    fn carry_ledger(&self) -> Result<String, Trouble>;

    /// Ends the ledger by a person's word.
    fn end_ledger(&self) -> Result<String, Trouble>;

    /// What a takeover or a failback would do now.
    fn preview(&self, plan: PlanKind) -> Result<Preview, Trouble>;

    /// Gives the daemon a command. An answer that did not come is `Exit::TimedOut`, since it may have been obeyed.
    fn operate(&self, request: &Request) -> Result<Reply, Trouble>;

    /// Sends a test message to one notification target now: `email`, `command` or a webhook's name.
    fn test_notify(&self, name: &str) -> Result<DeliveryOutcome, Trouble>;

    /// Fires one ActionURL now, with the event `test`.
    fn test_action_url(&self, name: &str) -> Result<DeliveryOutcome, Trouble>;

    /// The state table.
    fn fsm(&self, format: FsmFormat) -> Result<String, Trouble>;

    /// The JSON schema of the configuration.
    fn schema(&self) -> Result<String, Trouble>;
}
