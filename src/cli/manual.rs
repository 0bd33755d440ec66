//! Shell completions and manual pages, made from the same types that read the command line.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;
use super::exit::{Exit, Trouble};

/// The completions for one shell.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pbx-failover", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The main manual page, as roff.
///
/// # Errors
/// None in practice: the page is written to memory.
pub fn page() -> Result<String, Trouble> {
    let mut roff = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut roff)
        .map_err(|error| Trouble::new(Exit::Failed, format!("could not write the manual page: {error}")))?;
    Ok(String::from_utf8_lossy(&roff).into_owned())
}

/// Every manual page, one for each command, into a folder that exists.
///
/// # Errors
/// The folder cannot be written.
pub fn write_all(dir: &Path) -> Result<(), Trouble> {
    clap_mangen::generate_to(Cli::command(), dir).map_err(|error| {
        Trouble::new(Exit::Failed, format!("could not write manual pages into {}: {error}", dir.display()))
            .hint("name a folder that exists and that you may write")
    })
}
