//! Speaks to people: reads the command line, prints answers, asks before it acts.
//!
//! It decides nothing about the service: the daemon does. `args` is the command line, `backend` what is needed of the
//! rest of the program (`real` is that, tests have a stand-in), `act` how a dangerous command is agreed to, `watch` how a plan is followed, `render` how
//! answers look.

mod act;
pub mod args;
pub mod backend;
pub mod console;
pub mod exit;
pub mod keys;
mod manual;
mod real;
pub mod render;
mod snapshots;
mod watch;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;

use self::args::{Cli, GlobalArgs, Test, Verb};
use self::backend::{AfterStory, Backend, CheckOrder, Ending, Global, GuardOrder, HistoryBounds, Level, May, Told};
use self::console::{Console, Terminal};
use self::exit::{Exit, Trouble};
use crate::host::keys::Old;
use crate::units::DeliveryOutcome;
use crate::units::operator::Command;

/// The program.
pub fn main() -> ExitCode {
    run(std::env::args_os(), &mut Terminal::new(), &real::connect).into()
}

/// One command line, with its console and with the way to the rest of the program.
pub fn run<A>(args: A, console: &mut dyn Console, connect: &dyn Fn(&Global) -> Box<dyn Backend>) -> Exit
where
    A: IntoIterator,
    A::Item: Into<OsString> + Clone,
{
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return told_by_clap(&error, console),
    };
    let GlobalArgs { config, control, json, verbose } = cli.global;
    let global = Global { config, control, json, verbose };
    let backend = connect(&global);
    match (Call { backend: backend.as_ref(), console: &mut *console, global: &global }).verb(cli.verb) {
        Ok(exit) => exit,
        Err(Stop::ReaderGone) => Exit::Done,
        Err(Stop::Trouble(trouble)) => {
            console.say(&trouble.to_string());
            trouble.exit
        }
    }
}

/// Help and version are data; usage errors are not.
fn told_by_clap(error: &clap::Error, console: &mut dyn Console) -> Exit {
    let text = error.render().to_string();
    if error.use_stderr() {
        console.say(&text);
        return Exit::Usage;
    }
    // A reader that has gone has read enough.
    let _ = console.out(&text);
    Exit::Done
}

/// Why a command ended early.
#[derive(Debug)]
enum Stop {
    /// Something went wrong.
    Trouble(Trouble),
    /// Whoever read our output has gone, as `head` does: no fault.
    ReaderGone,
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::ReaderGone;
        }
        Self::Trouble(Trouble::new(Exit::Failed, format!("could not write the answer: {error}")))
    }
}

/// One call of the program.
struct Call<'a> {
    backend: &'a dyn Backend,
    console: &'a mut dyn Console,
    global: &'a Global,
}

impl Call<'_> {
    fn verb(&mut self, verb: Verb) -> Result<Exit, Stop> {
        if verb.asks_the_daemon()
            && let Some(note) = self.backend.about_the_way()
        {
            self.console.say(&format!("note: {}", render::one_line(&note)));
        }
        match verb {
            Verb::Run { file } => self.backend.run(file.as_ref().unwrap_or(&self.global.config))?,
            Verb::Demo { keep } => return self.demo(if keep { AfterStory::Stay } else { AfterStory::End }),
            Verb::DemoPart { part, file } => self.backend.demo_part(part, &file)?,
            Verb::Check { offline, accept_epoch_record } => {
                let report = self.backend.check(CheckOrder { offline, accept_epoch_record })?;
                let page = self.console.page();
                self.answer(&report, || render::check::render(&report, &page))?;
                let bad = report.findings.iter().any(|finding| finding.level == Level::Problem);
                return Ok(if bad { Exit::Failed } else { Exit::Done });
            }
            Verb::Status => {
                let status = self.backend.status()?;
                let page = self.console.page();
                self.answer(&status, || render::status::render(&status, &page))?;
            }
            Verb::Explain => {
                let explanation = self.backend.explain()?;
                let page = self.console.page();
                self.answer(&explanation, || render::explain::render(&explanation, &page))?;
            }
            Verb::History { since, limit } => {
                let page = self.console.page();
                let since = since.map(|since| since.moment(page.now));
                let events = self.backend.history(HistoryBounds { since, limit })?;
                self.answer(&events, || render::history::render(&events, &page))?;
            }
            Verb::Ledger { carry: true, .. } => {
                self.console.say("carries home what is left; Ctrl-C ends it, and it goes on from there next time");
                let said = self.backend.carry_ledger()?;
                self.answer(&said, || said.clone())?;
            }
            Verb::Ledger { end: true, .. } => {
                let said = self.backend.end_ledger()?;
                self.answer(&said, || said.clone())?;
            }
            Verb::Ledger { class, rsync: true, .. } => {
                for file in self.backend.ledger(class)?.files.iter().filter(|file| !file.name.is_empty()) {
                    self.console.raw(&[&file.name[..], &[0]].concat())?;
                }
            }
            Verb::Ledger { class, .. } => {
                let whole = self.backend.ledger(class)?;
                let page = self.console.page();
                self.answer(&whole, || render::ledger::render(&whole, &page))?;
            }
            Verb::Takeover { primary_is_stopped, although_cut_off, without_claim, consent } => {
                return self.act(Command::Takeover { primary_is_stopped, although_cut_off, without_claim }, &consent);
            }
            Verb::Failback { wait, cut_calls, undo, consent } => {
                return self.act(Command::Failback { wait, cut_calls, undo }, &consent);
            }
            Verb::Pause { length, consent } => {
                let until = act::pause_end(self.console.page().now, length);
                return self.act(Command::Pause { until }, &consent);
            }
            Verb::Unpause { consent } => return self.act(Command::Unpause, &consent),
            Verb::Continue { fenced_by_hand, consent } => {
                return self.act(Command::Continue { fenced_by_hand }, &consent);
            }
            Verb::Abandon { to, consent } => return self.act(Command::Abandon { to }, &consent),
            Verb::Ack { consent } => return self.act(Command::Ack, &consent),
            Verb::Guard { force: _, reason, retry } => {
                let order = match (reason, retry) {
                    (Some(reason), _) => GuardOrder::Force(reason),
                    (None, true) => GuardOrder::Retry,
                    (None, false) => GuardOrder::Ask,
                };
                return self.guard(order);
            }
            Verb::Test { what: Test::Notify { name } } => {
                let outcome = self.backend.test_notify(&name)?;
                return self.delivered(&name, &outcome);
            }
            Verb::Test { what: Test::ActionUrl { name } } => {
                let outcome = self.backend.test_action_url(&name)?;
                return self.delivered(&name, &outcome);
            }
            Verb::Keys { out, name, replace } => {
                let old = if replace { Old::Replace } else { Old::Keep };
                let made = keys::make(&keys::Order { out, name, old }, &self.global.config)?;
                if let Some(note) = &made.note {
                    self.console.say(&format!("note: {note}"));
                }
                self.answer(&made, || keys::render(&made))?;
            }
            Verb::Snapshots { what } => return self.snapshots(what.unwrap_or(args::Snapshots::List)),
            Verb::Fsm { format } => self.console.out(&self.backend.fsm(format)?)?,
            Verb::Schema => self.console.out(&self.backend.schema()?)?,
            Verb::Completions { shell } => self.console.out(&manual::completions(shell))?,
            Verb::Man { dir: None } => self.console.out(&manual::page()?)?,
            Verb::Man { dir: Some(dir) } => manual::write_all(&dir)?,
        }
        Ok(Exit::Done)
    }

    /// Whatever goes wrong, the answer is that nothing is known: a PBX must not start on a misspelt setting.
    fn guard(&mut self, order: GuardOrder) -> Result<Exit, Stop> {
        let retry = order == GuardOrder::Retry;
        let report = match self.backend.guard(order) {
            Ok(report) => report,
            Err(trouble) => return Err(Trouble { exit: Exit::NotKnown, ..trouble }.into()),
        };
        let (exit, may) = match report.may {
            May::Serve => (Exit::Done, "may serve"),
            May::NotServe => (Exit::MustNotServe, "must NOT serve"),
            May::NotKnown => (Exit::NotKnown, "must not serve now, because it could not be found out"),
        };
        if retry && report.start.is_none() && report.may == May::Serve && !self.global.json && !self.console.can_ask() {
            // The timer hears this four times a minute for as long as all is well: no journal wants it.
            return Ok(exit);
        }
        let start = report.start.as_ref().map(|start| format!("\n{}", render::one_line(start))).unwrap_or_default();
        self.answer(&report, || format!("this node {may}: {}{start}", render::one_line(&report.because)))?;
        Ok(exit)
    }

    /// Plays the demo; each line is printed as it happens, with `--json` as one JSON object.
    fn demo(&mut self, after: AfterStory) -> Result<Exit, Stop> {
        let (json, page) = (self.global.json, self.console.page());
        let console = &mut *self.console;
        let mut reader_gone = false;
        let mut tell = |told: Told| {
            let line = if json { serde_json::to_string(&told)? } else { render::demo::render(&told, &page) };
            let told = console.out(&line);
            reader_gone |= told.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
            told
        };
        let ending = self.backend.demo(after, &mut tell);
        if reader_gone {
            return Err(Stop::ReaderGone);
        }
        Ok(match ending? {
            Ending::Well => Exit::Done,
            Ending::Interrupted => Exit::Failed,
        })
    }

    /// Prints an answer, as JSON if that is wanted.
    fn answer(&mut self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Stop> {
        let text = if self.global.json { json(value)? } else { text() };
        Ok(self.console.out(&text)?)
    }

    fn delivered(&mut self, name: &str, outcome: &DeliveryOutcome) -> Result<Exit, Stop> {
        let (text, exit) = match outcome {
            DeliveryOutcome::Accepted(proof) => (format!("{name}: accepted: {proof}"), Exit::Done),
            DeliveryOutcome::Retry(why) | DeliveryOutcome::Rejected(why) => {
                if !self.global.json {
                    return Err(Trouble::new(Exit::Failed, format!("{name}: {why}")).into());
                }
                (String::new(), Exit::Failed)
            }
        };
        self.answer(outcome, || render::one_line(&text))?;
        Ok(exit)
    }
}

fn json(value: &impl Serialize) -> Result<String, Trouble> {
    serde_json::to_string_pretty(value)
        .map_err(|error| Trouble::new(Exit::Failed, format!("the answer has no JSON form: {error}")))
}
