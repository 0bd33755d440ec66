//! The person's side: what is printed, asked and waited for, as a trait, so that tests can be the person.
//!
//! Data goes to stdout, everything else to stderr. Nothing here knows what is said.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::render::{Page, Paint};

/// Longest answer to a question that is read, bytes: more is no answer but a pasted file.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Whom the command line speaks to.
pub trait Console {
    /// Writes data to stdout.
    ///
    /// # Errors
    /// `BrokenPipe` when the reader has gone, which is no fault of ours.
    fn out(&mut self, text: &str) -> io::Result<()>;

    /// Writes bytes to stdout as they are: names need not be text.
    ///
    /// # Errors
    /// As [`Console::out`].
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Writes lines to stderr; nobody listening there is no error.
    fn say(&mut self, text: &str);

    /// Whether somebody can be asked: stdin and stderr are a terminal.
    fn can_ask(&self) -> bool;

    /// Asks on stderr; `None` at the end of input.
    fn ask(&mut self, question: &str) -> Option<String>;

    /// How stdout is laid out.
    fn page(&self) -> Page;

    /// Time since some fixed point.
    fn elapsed(&self) -> Duration;

    /// Lets time pass.
    fn wait(&mut self, time: Duration);
}

/// The real console.
pub struct Terminal {
    start: std::time::Instant,
}

impl Terminal {
    /// The process's own streams.
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Console for Terminal {
    fn out(&mut self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            stdout.write_all(b"\n")?;
        }
        stdout.flush()
    }

    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    fn say(&mut self, text: &str) {
        let mut stderr = io::stderr().lock();
        // Where stderr is closed there is nobody to tell.
        let _ = stderr.write_all(text.as_bytes());
        if !text.ends_with('\n') {
            let _ = stderr.write_all(b"\n");
        }
    }

    fn can_ask(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    fn ask(&mut self, question: &str) -> Option<String> {
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "{question} ");
        let _ = stderr.flush();
        let mut answer = String::new();
        match io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut answer) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(answer.trim().to_owned()),
        }
    }

    fn page(&self) -> Page {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let paint = if io::stdout().is_terminal() && !plain { Paint::Colour } else { Paint::Plain };
        Page { now: Timestamp::now(), zone: TimeZone::system(), paint }
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn wait(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}
