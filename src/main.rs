//! The one binary: the command line, with the daemon and the demonstration plugged in.

use std::process::ExitCode;

use groovebox::cli::{self, Programs};

fn main() -> ExitCode {
    cli::run(Programs {
        daemon: |settings| Ok(groovebox::daemon::run(&settings)?),
        demo: |_| anyhow::bail!("not yet"),
    })
}
