//! `groovebox demo`: hands over to the demonstration.

use std::process::ExitCode;

use clap::Args;

use super::failure::Failure;
use super::screen::Look;
use super::{Global, Programs, daemon};

#[derive(Args, Debug)]
pub(super) struct DemoArgs {
    /// End by itself, with a summary
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
}

/// What the demonstration is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DemoOptions {
    /// How long it plays, 1 to 86,400 s; none is until Ctrl-C.
    pub seconds: Option<u64>,
    /// How its table should look.
    pub look: Look,
    /// Whether programs read it.
    pub json: bool,
    /// The daemons' log filter, if somebody asked for another one.
    pub log: Option<String>,
}

pub(super) fn run(
    args: &DemoArgs,
    global: &Global,
    programs: Programs,
) -> Result<ExitCode, Failure> {
    let options = DemoOptions {
        seconds: args.seconds,
        look: Look::of_stdout(),
        json: global.json,
        log: daemon::log(global),
    };
    (programs.demo)(options).map_err(Failure::Program)
}
