//! Runs a configured command: bounded time, bounded output, its whole process group ended at the time-out.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// How much of each of stdout and stderr is kept; the rest is read and dropped.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandEnd {
    /// It exited by itself. `code` is `None` when a signal ended it.
    Exited {
        /// Exit code.
        code: Option<i32>,
        /// Standard output, lossy UTF-8, bounded.
        stdout: String,
        /// Standard error, lossy UTF-8, bounded.
        stderr: String,
    },
    /// It was still running at the time-out and was killed with its process group: it may have done its work.
    TimedOut,
    /// It could not be started.
    NotStarted(String),
}

impl CommandEnd {
    /// Whether it exited with 0.
    pub fn succeeded(&self) -> bool {
        matches!(self, Self::Exited { code: Some(0), .. })
    }

    /// One line for people: the exit code and the last line it said.
    pub fn line(&self) -> String {
        match self {
            Self::Exited { code, stdout, stderr } => {
                let said = [stderr, stdout]
                    .into_iter()
                    .find_map(|text| text.lines().rev().find(|line| !line.trim().is_empty()))
                    .unwrap_or("nothing said");
                let said: String = said.trim().chars().take(200).collect();
                code.map_or_else(|| format!("ended by a signal: {said}"), |code| format!("exit {code}: {said}"))
            }
            Self::TimedOut => "still running at the time-out, killed".to_owned(),
            Self::NotStarted(why) => format!("could not be started: {why}"),
        }
    }
}

/// Runs `argv` with `env` added to this process's environment, no standard input.
///
/// Output that its children keep open after it exited is not waited for.
pub async fn run(argv: &[String], env: &[(String, String)], limit: Duration) -> CommandEnd {
    let Some((program, arguments)) = argv.split_first() else {
        return CommandEnd::NotStarted("no command given".to_owned());
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(env.iter().map(|(k, v)| (k, v)))
        // A child that speaks to systemd must not speak for the robot.
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return CommandEnd::NotStarted(format!("{program}: {error}")),
    };
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let stdout = Tail::follow(child.stdout.take());
    let stderr = Tail::follow(child.stderr.take());
    match tokio::time::timeout(limit, child.wait()).await {
        Ok(Ok(status)) => {
            group.leave();
            CommandEnd::Exited { code: status.code(), stdout: stdout.text().await, stderr: stderr.text().await }
        }
        Ok(Err(error)) => CommandEnd::NotStarted(error.to_string()),
        Err(_) => {
            drop(group);
            // One that waits for a disk does not end at a signal: it is left to be reaped whenever it does.
            let _ = tokio::time::timeout(KILLED_ENDS, child.wait()).await;
            CommandEnd::TimedOut
        }
    }
}

/// The command's process group, ended when dropped: at the time-out, and when nobody waits for the answer any more.
struct Group(Option<Pid>);

impl Group {
    /// The command exited by itself: what it left running is meant to run on.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// How long the end of a command is waited for after its kill.
const KILLED_ENDS: Duration = Duration::from_secs(2);

/// How long output is waited for after the exit: a daemon that the command started may hold the pipe for ever.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);

/// What is kept of one pipe, readable also while somebody else still holds the pipe open.
struct Tail {
    kept: Arc<Mutex<Vec<u8>>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Tail {
    fn follow(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&kept);
        let reader = tokio::spawn(async move {
            let Some(mut pipe) = pipe else { return };
            let mut buffer = [0_u8; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
                let mut kept = into.lock().unwrap_or_else(PoisonError::into_inner);
                let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len()).min(n);
                kept.extend_from_slice(&buffer[..room]);
            }
        });
        Self { kept, reader }
    }

    async fn text(mut self) -> String {
        if tokio::time::timeout(OUTPUT_GRACE, &mut self.reader).await.is_err() {
            self.reader.abort();
        }
        String::from_utf8_lossy(&self.kept.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn the_exit_code_and_the_last_line_are_told() {
        let end = run(&sh("echo a; echo no such trunk >&2; exit 3"), &[], Duration::from_secs(5)).await;
        assert_eq!(end.line(), "exit 3: no such trunk");
    }

    #[tokio::test]
    async fn a_daemon_that_keeps_the_pipe_open_does_not_hold_us() {
        let end = run(&sh("sleep 30 & echo started"), &[], Duration::from_secs(5)).await;
        assert!(end.succeeded(), "{end:?}");
        assert!(end.line().contains("started"));
    }

    #[tokio::test]
    async fn a_command_that_nobody_waits_for_is_ended_with_its_children() {
        let dir = tempfile::tempdir().expect("directory");
        let child = dir.path().join("child");
        let script = format!("sleep 30 & echo $! > {}.new; mv {0}.new {0}; wait", child.display());
        let argv = sh(&script);
        let running = run(&argv, &[], Duration::from_secs(30));
        let started = async {
            while !child.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! { end = running => panic!("{end:?}"), () = started => {} }
        let child = std::fs::read_to_string(child).expect("the child's process id");
        let status = format!("/proc/{}/stat", child.trim());
        let gone = || {
            std::fs::read_to_string(&status).is_err()
                || std::fs::read_to_string(&status).unwrap_or_default().contains(" Z ")
        };
        for _ in 0..400 {
            if gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the child still runs");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_ended_with_its_children() {
        let end = run(&sh("sleep 30 & sleep 30"), &[], Duration::from_millis(50)).await;
        assert_eq!(end, CommandEnd::TimedOut);
    }
}
