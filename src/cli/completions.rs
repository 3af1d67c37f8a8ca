//! `groovebox completions`: what a shell needs to complete commands and flags.

use std::io::{self, Write};

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};
use serde_json::json;

use super::Arguments;
use super::failure::{Exit, Failure};
use super::session::{Format, print_json};

#[derive(Args, Debug)]
pub(super) struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs, format: Format) -> Result<Exit, Failure> {
    let script = script(args.shell);
    match format {
        Format::Json => {
            print_json(&json!({ "shell": args.shell.to_string(), "script": script }))?;
        }
        Format::Text => io::stdout().write_all(script.as_bytes())?,
    }
    Ok(Exit::Ok)
}

pub(super) fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    generate(shell, &mut Arguments::command(), "groovebox", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
