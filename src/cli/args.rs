//! The command line as types: every command, flag and default, with its help text.
//!
//! Nothing is done here; `super` hands each command to where it is done.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::backend::FsmFormat;
use super::exit::Exit;
use crate::data::Class;
use crate::units::NodeName;
use crate::units::operator::{PAUSE_MAX, REASON_CHARS_MAX};

/// Where the configuration lies unless the command line or the environment says otherwise.
pub const CONFIG_DEFAULT: &str = "/etc/pbx-failover/failover.yaml";

/// Heads the flags that every command takes.
const EVERYWHERE: &str = "Options of every command";

/// Most lines of history at once: what the control socket gives out, and more than a person reads.
const HISTORY_LIMIT_MAX: i64 = 1_000;

/// Turns on a backup PBX when the primary dies, and proves every step.
#[derive(Debug, Parser)]
#[command(name = "pbx-failover", version, after_long_help = Exit::HELP, disable_help_subcommand = true)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every command takes.
#[derive(Debug, Args)]
pub struct GlobalArgs {
    /// The configuration file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "PBX_FAILOVER_CONFIG",
        hide_env_values = true,
        default_value = CONFIG_DEFAULT,
        help_heading = EVERYWHERE
    )]
    pub config: PathBuf,
    /// The daemon's control socket [default: what the configuration says]
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "PBX_FAILOVER_CONTROL",
        hide_env_values = true,
        help_heading = EVERYWHERE
    )]
    pub control: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub json: bool,
    /// Say more; twice for even more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = EVERYWHERE)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Be the daemon: watch the primary, and take over when it is dead
    Run {
        /// The configuration file, in place of --config
        file: Option<PathBuf>,
    },
    /// Show the whole story on this machine alone: a primary dies, the backup takes over, and gives back
    Demo {
        /// Leave it running afterwards, to try the other commands on it
        #[arg(long)]
        keep: bool,
    },
    /// A process of the demo
    #[command(hide = true)]
    DemoPart {
        /// What it is
        #[arg(value_enum)]
        part: Part,
        /// What it reads, or where it rings
        file: PathBuf,
    },
    /// Validate the configuration, then prove readiness against the real things
    Check {
        /// Look at the file only; ask nothing and nobody
        #[arg(long)]
        offline: bool,
        /// Accept a changed name of the epoch record
        #[arg(long)]
        accept_epoch_record: bool,
    },
    /// Show where we stand
    Status,
    /// Say why it did, or did not, take over: each input in a plain sentence
    Explain,
    /// Show what happened, when and why
    History {
        /// Nothing older: so long ago (2h, 7d), a day (2026-11-20) or a time (2026-11-20T10:00)
        #[arg(long, value_name = "WHEN", value_parser = Since::parse)]
        since: Option<Since>,
        /// At most so many lines, the newest
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=HISTORY_LIMIT_MAX))]
        limit: u32,
    },
    /// Show what was changed here while this node served and is not at home yet
    Ledger {
        /// Only files of this class
        #[arg(long, value_name = "CLASS", value_parser = class)]
        class: Option<Class>,
        /// Print their names with a NUL behind each, for `rsync --from0 --files-from=-`
        #[arg(long, conflicts_with = "json")]
        rsync: bool,
        /// Carry home what a failback has left
        #[arg(long, conflicts_with_all = ["class", "rsync", "end"])]
        carry: bool,
        /// End it: what waits in it is not carried any more
        #[arg(long, conflicts_with_all = ["class", "rsync"], requires = "yes")]
        end: bool,
        /// Do not ask
        #[arg(long, requires = "end")]
        yes: bool,
    },
    /// Make this node serve now
    Takeover {
        /// You saw to it that the primary's PBX is stopped
        #[arg(long)]
        primary_is_stopped: bool,
        /// Even though the Internet does not answer from here
        #[arg(long)]
        although_cut_off: bool,
        /// Even though the epoch cannot be claimed: nothing then keeps the primary from serving too
        #[arg(long)]
        without_claim: bool,
        /// How it is agreed to and watched.
        #[command(flatten)]
        consent: Consent,
    },
    /// Give the service back to the primary
    Failback {
        /// Wait for the primary to answer instead of refusing while it does not
        #[arg(long, conflicts_with = "undo")]
        wait: bool,
        /// Do not wait for a moment without calls
        #[arg(long, conflicts_with = "undo")]
        cut_calls: bool,
        /// Break off a failback and take service back
        #[arg(long)]
        undo: bool,
        /// How it is agreed to and watched.
        #[command(flatten)]
        consent: Consent,
    },
    /// No automatic takeover for a while (maintenance)
    Pause {
        /// For how long; a pause always has an end
        #[arg(long = "for", value_name = "DURATION", value_parser = pause_length)]
        length: Duration,
        /// How it is agreed to and watched.
        #[command(flatten)]
        consent: Consent,
    },
    /// End the pause
    Unpause {
        /// How it is agreed to and watched.
        #[command(flatten)]
        consent: Consent,
    },
    /// Go on with a halted plan: you proved the step that halted it
    Continue {
        /// You saw that the primary is off
        #[arg(long)]
        fenced_by_hand: bool,
        /// How it is agreed to and watched.
        #[command(flatten)]
        consent: Consent,
    },
    /// Give a halted plan up: stop the PBX here and hand the epoch over
    Abandon {
        /// The node that the epoch goes to [default: the primary]
        #[arg(long, value_name = "NODE")]
        to: Option<NodeName>,
        /// How it is agreed to and watched.
        #[command(flatten)]
        consent: Consent,
    },
    /// Silence the alarms that repeat
    Ack {
        /// How it is agreed to and watched.
        #[command(flatten)]
        consent: Consent,
    },
    /// On the primary: may this node serve? For `ExecCondition=` of its PBX unit
    Guard {
        /// Serve by a person's word, until another node claims the service again; wants --reason
        #[arg(long, requires = "reason", conflicts_with = "retry")]
        force: bool,
        /// Why; it is recorded
        #[arg(long, value_name = "TEXT", value_parser = reason, requires = "force")]
        reason: Option<String>,
        /// Start the PBX if it was held back and may serve now; for the timer
        #[arg(long)]
        retry: bool,
    },
    /// Send one message now, to see that it arrives
    Test {
        /// What is sent.
        #[command(subcommand)]
        what: Test,
    },
    /// Make the token and the certificate by which the hosts know each other, and say where they go
    Keys {
        /// The folder that they are written into
        #[arg(long, value_name = "DIR", default_value = super::keys::OUT_DEFAULT)]
        out: PathBuf,
        /// The host that shows the certificate: the primary, or an observer [default: this host]
        #[arg(long, value_name = "NODE")]
        name: Option<NodeName>,
        /// Replace what is there; the other host then needs the new ones too
        #[arg(long)]
        replace: bool,
    },
    /// List what is kept of the working directory, read it back, or put it in place; needs no daemon
    Snapshots {
        /// What to do [default: list]
        #[command(subcommand)]
        what: Option<Snapshots>,
    },
    /// Print the state table
    Fsm {
        /// How it is drawn
        #[arg(long, value_enum, default_value_t)]
        format: FsmFormat,
    },
    /// Print the JSON schema of the configuration
    Schema,
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write all of them into a folder
    Man {
        /// The folder
        dir: Option<PathBuf>,
    },
}

impl Verb {
    /// Whether it speaks to the daemon, and needs nothing else.
    pub fn asks_the_daemon(&self) -> bool {
        match self {
            Self::Status
            | Self::Explain
            | Self::History { .. }
            | Self::Takeover { .. }
            | Self::Failback { .. }
            | Self::Pause { .. }
            | Self::Unpause { .. }
            | Self::Continue { .. }
            | Self::Abandon { .. }
            | Self::Ack { .. } => true,
            Self::Run { .. }
            | Self::Demo { .. }
            | Self::DemoPart { .. }
            | Self::Check { .. }
            | Self::Ledger { .. }
            | Self::Guard { .. }
            | Self::Test { .. }
            | Self::Keys { .. }
            | Self::Snapshots { .. }
            | Self::Fsm { .. }
            | Self::Schema
            | Self::Completions { .. }
            | Self::Man { .. } => false,
        }
    }
}

/// The processes of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The robot
    Robot,
    /// The primary
    Primary,
    /// The robot's command that starts the primary
    StartPrimary,
}

/// What can be sent as a test.
#[derive(Debug, Subcommand)]
pub enum Test {
    /// A notification
    Notify {
        /// email, command, or the name of a webhook
        name: String,
    },
    /// An ActionURL
    ActionUrl {
        /// Its name in action_urls
        name: String,
    },
}

/// What can be done with snapshots.
#[derive(Debug, Subcommand)]
pub enum Snapshots {
    /// Name them, and what a takeover or a restore moved aside
    List,
    /// Read one back, or all: what differs, is missing, or is more
    Verify {
        /// Its name [default: all]
        id: Option<String>,
    },
    /// Put one in place of what lies in the working directory, or a copy of it elsewhere
    Restore {
        /// Its name; or held-back/NAME, which puts back what was moved aside and overwrites nothing
        id: String,
        /// Only these paths, below the working directory, and what lies below them
        paths: Vec<PathBuf>,
        /// Into this directory instead, which must be empty; the working directory stays as it is
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Why; it is recorded
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: Option<String>,
        /// Print what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// How an act is agreed to and watched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Consent {
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Why; it is recorded
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: Option<String>,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Return as soon as it is accepted, without watching it
    #[arg(long)]
    pub no_watch: bool,
    /// Watch for so long at most; the plan goes on all the same (exit code 6)
    #[arg(long, value_name = "DURATION", value_parser = positive, conflicts_with = "no_watch")]
    pub timeout: Option<Duration>,
}

/// The beginning of the wanted part of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// At this time.
    At(Timestamp),
}

impl Since {
    fn parse(text: &str) -> Result<Self, String> {
        let local = |civil: jiff::civil::DateTime| civil.to_zoned(TimeZone::system()).ok().map(|z| z.timestamp());
        positive(text)
            .map(Self::Ago)
            .ok()
            .or_else(|| text.parse().map(Self::At).ok())
            .or_else(|| text.parse::<jiff::civil::DateTime>().ok().and_then(local).map(Self::At))
            .ok_or_else(|| "write how long ago (2h, 7d), a day (2026-11-20) or a time (2026-11-20T10:00)".to_owned())
    }

    /// The moment, seen from `now`.
    pub fn moment(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(moment) => moment,
            Self::Ago(time) => now.checked_sub(time).unwrap_or(Timestamp::MIN),
        }
    }
}

/// A duration above zero: `90s`, `2h`, `1h 30m`, `7d`.
fn positive(text: &str) -> Result<Duration, String> {
    // Days have no fixed length for a calendar, but a person who says 7d means 168 hours.
    let days = text.strip_suffix('d').and_then(|days| days.trim().parse::<u32>().ok());
    let parsed = match days {
        Some(days) => Some(Duration::from_secs(u64::from(days) * 24 * 3600)),
        None => text.parse::<jiff::SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok()),
    };
    parsed.filter(|time| !time.is_zero()).ok_or_else(|| "write a duration above zero, as 90s, 30m, 2h".to_owned())
}

fn pause_length(text: &str) -> Result<Duration, String> {
    let days = PAUSE_MAX.as_secs() / (24 * 3600);
    let length = positive(text)?;
    if length < Duration::from_secs(1) {
        return Err("a pause lasts one second at least".to_owned());
    }
    if length > PAUSE_MAX {
        return Err(format!("a pause lasts {days} days at most; who needs more says so again"));
    }
    Ok(length)
}

fn class(text: &str) -> Result<Class, String> {
    let names = Class::ALL.map(Class::name);
    let found = Class::ALL.into_iter().find(|class| class.name() == text);
    found.ok_or_else(|| format!("write one of {}", names.join(", ")))
}

fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        0 => Err("say why in a few words".to_owned()),
        n if n > REASON_CHARS_MAX => Err(format!("say it in {REASON_CHARS_MAX} characters, not {n}")),
        _ if text.chars().any(char::is_control) => Err("say it in one line".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// A reason that was typed as an answer, by the same rules.
pub fn typed_reason(text: &str) -> Result<String, String> {
    reason(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [("90s", 90), ("2h", 7_200), ("1h 30m", 5_400), ("7d", 604_800), ("30 minutes", 1_800)] {
            assert_eq!(positive(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0s", "-2h", "2", "soon", "99999999999999999999h", "4294967296d"] {
            assert!(positive(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pause_has_an_end_within_two_weeks() {
        assert!(pause_length("14d").is_ok());
        assert!(pause_length("15d").is_err());
        assert!(pause_length("10ms").is_err());
    }

    #[test]
    fn history_begins_where_a_person_says() {
        let now: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        let from = |text: &str| Since::parse(text).unwrap().moment(now).to_string();
        assert_eq!(from("2h"), "2026-11-20T08:00:00Z");
        assert_eq!(from("2026-11-19T06:00:00+01:00"), "2026-11-19T05:00:00Z");
        assert!(Since::parse("2026-11-19").is_ok());
        assert!(Since::parse("2026-11-19T06:00").is_ok());
        assert!(Since::parse("yesterday").is_err());
    }

    #[test]
    fn a_reason_is_one_line_that_says_something() {
        assert_eq!(reason(" power cut "), Ok("power cut".to_owned()));
        for bad in ["", "  ", "a\nb", &"x".repeat(REASON_CHARS_MAX + 1)] {
            assert!(reason(bad).is_err(), "{bad:?}");
        }
    }
}
