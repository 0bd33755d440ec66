//! The program's door: hands the command line to `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pbx_failover::cli::main()
}
