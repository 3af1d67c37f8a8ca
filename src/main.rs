//! The one binary: the command line, with the daemon plugged in.

use std::process::ExitCode;

use groovebox::cli::{self, Programs};

fn main() -> ExitCode {
    cli::run(Programs { daemon: |settings| Ok(groovebox::daemon::run(&settings)?) })
}
