//! The rest of the program as the command line reaches it: the daemon's control socket, the configuration, the daemon.
//!
//! Each call opens its own small runtime and ends with it, so that `completions` starts no thread.

use std::future::Future;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::args::{CONFIG_DEFAULT, Part};
use super::backend::{
    AfterStory, Backend, CheckOrder, CheckReport, Ending, Finding, FsmFormat, Global, GuardOrder, GuardReport,
    HistoryBounds, Level, Preview, Teller, Whole,
};
use super::exit::{Exit, Trouble};
use crate::config::{self, Config, Loading, Refused, Remark, tree};
use crate::control::client::{AskError, Client};
use crate::daemon::{self, Stopped, readiness};
use crate::data::Class;
use crate::demo;
use crate::engine::fsm;
use crate::units::journal::HistoryEvent;
use crate::units::operator::{Reply, Request};
use crate::units::snapshot::{Explanation, Status};
use crate::units::{DeliveryOutcome, PlanKind};

/// Where the control socket lies unless the configuration says otherwise.
const CONTROL_DEFAULT: &str = "/run/pbx-failover/control.sock";

/// The backend of this process.
pub fn connect(global: &Global) -> Box<dyn Backend> {
    Box::new(Real { global: global.clone() })
}

struct Real {
    global: Global,
}

/// The way to the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    /// Where it listens.
    socket: PathBuf,
    /// The configuration is refused, and the socket is what could be made out all the same.
    refused: Option<String>,
}

impl Real {
    /// The way to the daemon.
    ///
    /// A configuration that is being edited, or was cut, must not keep a person from the daemon that runs with the old
    /// one: of a refused file only the key `control` is read. Where a file was named and cannot be read at all, it is
    /// an error, so that a slip in its name never reaches another daemon.
    fn way(&self) -> Result<Way, Trouble> {
        if let Some(control) = &self.global.control {
            return Ok(Way { socket: control.clone(), refused: None });
        }
        let file = &self.global.config;
        let refused = match config::load(file, Loading::Offline) {
            Ok(loaded) => return Ok(Way { socket: loaded.config.control, refused: None }),
            Err(refused) => refused,
        };
        let written = match std::fs::read(file) {
            Ok(bytes) => written_control(&String::from_utf8_lossy(&bytes)),
            Err(_) if file == Path::new(CONFIG_DEFAULT) => None,
            Err(_) => {
                let trouble = config_refused(&refused);
                return Err(trouble.hint("name the daemon's file, or its socket with --control"));
            }
        };
        let socket = written.unwrap_or_else(|| CONTROL_DEFAULT.into());
        let note = format!(
            "{} cannot be used, see `pbx-failover check`; the daemon is asked at {}",
            file.display(),
            socket.display()
        );
        Ok(Way { socket, refused: Some(note) })
    }

    fn socket(&self) -> Result<PathBuf, Trouble> {
        self.way().map(|way| way.socket)
    }

    fn send(&self, channel: readiness::Channel, name: &str) -> Result<DeliveryOutcome, Trouble> {
        let loaded = config::load(&self.global.config, Loading::Online).map_err(|refused| config_refused(&refused))?;
        block_on(readiness::send_test(loaded.config, channel, name))?.map_err(|why| {
            Trouble::new(Exit::Failed, why).hint("`pbx-failover check --offline` shows what is configured")
        })
    }

    fn offline(&self) -> Result<Config, Trouble> {
        let loaded = config::load(&self.global.config, Loading::Offline).map_err(|refused| config_refused(&refused))?;
        Ok(loaded.config)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        let client = Client::new(&self.socket()?).map_err(|error| no_answer(&error))?;
        block_on(client.get(path))?.map_err(|error| no_answer(&error))
    }
}

/// The key `control` of a file that is refused: by its tree, or where there is none by its line.
fn written_control(text: &str) -> Option<PathBuf> {
    let value = match tree::parse(text) {
        Ok((root, _)) => control_in(root),
        Err(_) => text.lines().filter(|line| line.starts_with("control:")).find_map(|line| {
            let (line, _) = tree::parse(line).ok()?;
            control_in(line)
        }),
    };
    // A file that was cut within this line names the beginning of it.
    value.filter(|path| !CONTROL_DEFAULT.starts_with(path.as_str())).map(PathBuf::from)
}

fn control_in(root: tree::Node) -> Option<String> {
    let tree::Value::Map(entries) = root.value else { return None };
    let control = entries.into_iter().find(|entry| entry.key == "control")?;
    match control.value.value {
        tree::Value::Scalar { text, .. } if !text.is_empty() => Some(text),
        _ => None,
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| no_runtime(&error))?;
    let done = runtime.block_on(work);
    // A look at a file system that hangs must not keep the program from ending.
    runtime.shutdown_background();
    Ok(done)
}

fn no_runtime(error: &std::io::Error) -> Trouble {
    Trouble::new(Exit::Failed, format!("the system gives no event queue: {error}")).hint("see its limits (ulimit -n)")
}

pub(super) fn config_refused(refused: &Refused) -> Trouble {
    let mut trouble = Trouble::new(Exit::ConfigRefused, "");
    trouble.errors = refused.to_string().lines().map(str::to_owned).collect();
    trouble
}

/// One line, with what to do behind its last semicolon.
fn failed(why: &str) -> Trouble {
    let (what, hint) = why.rsplit_once("; ").unwrap_or((why, "`pbx-failover status` shows where we stand"));
    Trouble::new(Exit::Failed, what).hint(hint)
}

fn no_answer(error: &AskError) -> Trouble {
    let exit = match error {
        AskError::NoDaemon(_) => Exit::NoDaemon,
        AskError::TimedOut(_) => Exit::TimedOut,
        AskError::NotAllowed(_) | AskError::Told(..) | AskError::Garbled { .. } => Exit::Failed,
    };
    let text = error.to_string();
    let (what, hint) = text.split_once("; ").unwrap_or((&text, "`pbx-failover status` shows where we stand"));
    Trouble::new(exit, what).hint(hint)
}

fn stopped(stopped: &Stopped) -> Trouble {
    match stopped {
        Stopped::Config(refused) => config_refused(refused),
        Stopped::Cannot(why) => {
            let (what, hint) = why.split_once("; ").unwrap_or((why, "`journalctl -u pbx-failover` may say more"));
            Trouble::new(Exit::Failed, what).hint(hint)
        }
    }
}

impl Backend for Real {
    fn run(&self, file: &Path) -> Result<(), Trouble> {
        /// The loop and the sockets share two threads; whatever blocks has its own.
        const WORKERS: usize = 2;
        daemon::start_log(self.global.json, self.global.verbose);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
        let runtime = runtime.map_err(|error| no_runtime(&error))?;
        let ended = runtime.block_on(daemon::run(file)).map_err(|why| stopped(&why));
        runtime.shutdown_background();
        ended
    }

    fn demo(&self, after: AfterStory, tell: Teller<'_>) -> Result<Ending, Trouble> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| no_runtime(&error))?;
        let played = runtime.block_on(demo::run(after, tell));
        played.map_err(|why| {
            let (what, rest) = why.split_once('\n').unwrap_or((&why, ""));
            let trouble = Trouble::new(Exit::Failed, what);
            if rest.is_empty() { trouble } else { trouble.hint(rest) }
        })
    }

    fn demo_part(&self, part: Part, file: &Path) -> Result<(), Trouble> {
        daemon::start_log(false, self.global.verbose);
        let part = match part {
            Part::Robot => demo::parts::Part::Robot,
            Part::Primary => demo::parts::Part::Primary,
            Part::StartPrimary => demo::parts::Part::StartPrimary,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| no_runtime(&error))?;
        runtime.block_on(part.be(file)).map_err(|why| Trouble::new(Exit::Failed, why))
    }

    fn guard(&self, order: GuardOrder) -> Result<GuardReport, Trouble> {
        daemon::start_log(self.global.json, self.global.verbose);
        // Only the key of the epoch's zone is needed: another secret that is missing must not leave an office dark.
        let loaded = config::load(&self.global.config, Loading::Offline).map_err(|refused| config_refused(&refused))?;
        block_on(daemon::guard::ask(loaded.config, order))
    }

    fn check(&self, order: CheckOrder) -> Result<CheckReport, Trouble> {
        let how = if order.offline { Loading::Offline } else { Loading::Online };
        let loaded = config::load(&self.global.config, how).map_err(|refused| config_refused(&refused))?;
        let about = || "config".to_owned();
        let text = format!("{} is good", self.global.config.display());
        let mut findings = vec![Finding { level: Level::Ok, about: about(), text, hint: None }];
        let finding = |level, remark: &Remark| {
            let text = format!("{}:{}: {}: {}", remark.line, remark.column, remark.key, remark.what);
            Finding { level, about: about(), text, hint: Some(remark.fix.clone()) }
        };
        // What is not on this machine only warns one who looks; `run` refuses it.
        let refused = if order.offline { config::load(&self.global.config, Loading::Online).err() } else { None };
        let refused = refused.map(|refused| refused.remarks).unwrap_or_default();
        findings.extend(
            loaded.warnings.iter().filter(|remark| !refused.contains(remark)).map(|r| finding(Level::Warning, r)),
        );
        findings.extend(refused.iter().map(|remark| {
            let finding = finding(Level::Problem, remark);
            Finding { text: format!("`run` refuses it: {}", finding.text), ..finding }
        }));
        if order.offline {
            findings.extend(block_on(async { readiness::offline(loaded.config) })?);
        } else {
            if order.accept_epoch_record {
                findings.push(readiness::accept_epoch_record(&loaded.config));
            }
            findings.extend(block_on(readiness::prove(loaded.config))?);
        }
        Ok(CheckReport { findings })
    }

    fn about_the_way(&self) -> Option<String> {
        // One that cannot be found is told by the question itself.
        self.way().ok()?.refused
    }

    fn status(&self) -> Result<Status, Trouble> {
        self.get("/v1/status").map_err(|trouble| {
            if trouble.exit != Exit::NoDaemon {
                return trouble;
            }
            let loaded = config::load(&self.global.config, Loading::Offline).ok();
            let Some(found) = loaded.and_then(|loaded| readiness::damage(&loaded.config)) else { return trouble };
            // Why it does not run is worth more than how it would be started.
            let mut trouble = trouble;
            trouble.errors.push(format!("the agent cannot start: {}", found.text));
            Trouble { hint: found.hint, ..trouble }
        })
    }

    fn explain(&self) -> Result<Explanation, Trouble> {
        self.get("/v1/explain")
    }

    fn history(&self, bounds: HistoryBounds) -> Result<Vec<HistoryEvent>, Trouble> {
        let since = bounds.since.map(|since| format!("&since={since}")).unwrap_or_default();
        // The newest ones are wanted, and read from the oldest of them on.
        let mut events: Vec<HistoryEvent> =
            self.get(&format!("/v1/history?order=newest&limit={}{since}", bounds.limit))?;
        events.reverse();
        Ok(events)
    }

    fn ledger(&self, class: Option<Class>) -> Result<Whole, Trouble> {
        block_on(daemon::home::told::whole(&self.offline()?, class))?.map_err(|why| failed(&why))
    }

    fn carry_ledger(&self) -> Result<String, Trouble> {
        let config = self.offline()?;
        // Dropped, it ends its rsync too.
        let carried = block_on(async {
            tokio::select! {
                carried = daemon::home::carry(&config) => carried,
                _ = tokio::signal::ctrl_c() => Err("interrupted; what is at home is known, and `ledger --carry` goes on".to_owned()),
            }
        });
        carried?.map_err(|why| failed(&why))
    }

    fn end_ledger(&self) -> Result<String, Trouble> {
        block_on(daemon::home::told::end(&self.offline()?))?.map_err(|why| failed(&why))
    }

    fn preview(&self, plan: PlanKind) -> Result<Preview, Trouble> {
        self.get(&format!("/v1/plan/{plan}"))
    }

    fn operate(&self, request: &Request) -> Result<Reply, Trouble> {
        let client = Client::new(&self.socket()?).map_err(|error| no_answer(&error))?;
        block_on(client.post(&request.command, &request.reason))?.map_err(|error| no_answer(&error))
    }

    fn test_notify(&self, name: &str) -> Result<DeliveryOutcome, Trouble> {
        self.send(readiness::Channel::Notify, name)
    }

    fn test_action_url(&self, name: &str) -> Result<DeliveryOutcome, Trouble> {
        self.send(readiness::Channel::ActionUrl, name)
    }

    fn fsm(&self, format: FsmFormat) -> Result<String, Trouble> {
        Ok(fsm::draw(match format {
            FsmFormat::Text => fsm::Format::Text,
            FsmFormat::Mermaid => fsm::Format::Mermaid,
            FsmFormat::Dot => fsm::Format::Dot,
        }))
    }

    fn schema(&self) -> Result<String, Trouble> {
        super::json(&config::schema())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn real(file: &Path) -> Real {
        Real { global: Global { config: file.to_owned(), control: None, json: false, verbose: 0 } }
    }

    #[test]
    fn a_refused_file_still_leads_to_the_daemon_that_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("failover.yaml");
        std::fs::write(&file, "control: /run/other.sock\nbroken-by-an-edit: yes\n").unwrap();
        assert_eq!(real(&file).socket(), Ok("/run/other.sock".into()));
        std::fs::write(&file, "broken-by-an-edit: yes\n").unwrap();
        assert_eq!(real(&file).socket(), Ok(CONTROL_DEFAULT.into()));
        assert!(real(&file).about_the_way().is_some_and(|note| note.contains(CONTROL_DEFAULT)));
    }

    #[test]
    fn a_file_that_was_cut_anywhere_still_leads_to_the_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("failover.yaml");
        let cut = |text: &str| {
            std::fs::write(&file, text).unwrap();
            real(&file).socket().map_err(|trouble| trouble.to_string())
        };
        let quotes = "control: \"/run/other.sock\" # ours\nmonitor:\n  checks: { web: { http: \"https://pbx";
        assert_eq!(cut(quotes), Ok("/run/other.sock".into()));
        assert_eq!(cut("agent:\n  control: /run/no.sock\n  listen: \""), Ok(CONTROL_DEFAULT.into()));
        assert_eq!(cut("node: \"pbx-b\"\ncontrol: /run/pbx-fail"), Ok(CONTROL_DEFAULT.into()));
        assert_eq!(cut(""), Ok(CONTROL_DEFAULT.into()));
    }

    #[test]
    fn a_socket_that_is_given_needs_no_file() {
        let mut given = real(Path::new("/nowhere/failover.yaml"));
        given.global.control = Some("/run/given.sock".into());
        assert_eq!(given.socket(), Ok("/run/given.sock".into()));
        assert_eq!(given.about_the_way(), None);
    }

    #[test]
    fn a_slip_in_the_files_name_never_reaches_another_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let trouble = real(&dir.path().join("failovr.yaml")).socket().unwrap_err();
        assert_eq!(trouble.exit, Exit::ConfigRefused);
    }

    #[test]
    fn nobody_at_the_socket_is_exit_4_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("failover.yaml");
        std::fs::write(&file, format!("control: {}/none.sock\n", dir.path().display())).unwrap();
        let trouble = real(&file).status().unwrap_err();
        assert_eq!(trouble.exit, Exit::NoDaemon, "{trouble}");
        assert!(trouble.hint.is_some_and(|hint| hint.contains("systemctl start")));
    }
}
