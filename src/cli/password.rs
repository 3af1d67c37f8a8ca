//! Where a password comes from: typed at a terminal without being shown, a file, or standard
//! input. Never the command line, which every program of the machine can read.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::failure::Failure;

/// What `--password` and its kin say.
#[derive(Args, Debug, Clone, Default)]
pub(super) struct PasswordArgs {
    /// Ask for a password; without a terminal, read it from standard input
    #[arg(long)]
    password: bool,
    /// Read the password from the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "password")]
    password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// The password, if there is to be one.
    pub(super) fn read(&self, twice: Twice) -> Result<Option<String>, Failure> {
        match &self.password_file {
            Some(path) => from_file(path).map(Some),
            None if self.password => asked(twice).map(Some),
            None => Ok(None),
        }
    }

    /// The password, asked for if nothing was said.
    pub(super) fn demand(&self, twice: Twice) -> Result<String, Failure> {
        match &self.password_file {
            Some(path) => from_file(path),
            None => asked(twice),
        }
    }
}

/// Whether a new password is typed again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Twice {
    /// It is new: a slip would lock everybody out.
    Yes,
    /// It is known.
    No,
}

fn from_file(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", path.display())))?;
    usable(text.lines().next().unwrap_or_default())
}

fn asked(twice: Twice) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        return usable(&line()?);
    }
    let password = prompt("Password: ")?;
    if twice == Twice::Yes && prompt("Again: ")? != password {
        return Err(Failure::Usage("the two are not the same".into()));
    }
    usable(&password)
}

fn prompt(text: &str) -> Result<String, Failure> {
    write!(io::stderr(), "{text}")?;
    io::stderr().flush()?;
    let silence = Silence::begin();
    let line = line();
    drop(silence);
    writeln!(io::stderr())?;
    line
}

fn line() -> Result<String, Failure> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => {
            Failure::Usage("the password is no UTF-8 text; choose another".into())
        }
        _ => Failure::Program(anyhow::anyhow!("cannot read the password: {error}")),
    })?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn usable(password: &str) -> Result<String, Failure> {
    if password.is_empty() {
        return Err(Failure::Usage(
            "no password was given; type it, or name a file: --password-file FILE".into(),
        ));
    }
    Ok(password.to_owned())
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silence(Option<Termios>);

impl Silence {
    fn begin() -> Silence {
        let Ok(before) = tcgetattr(io::stdin()) else { return Silence(None) };
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        let changed = tcsetattr(io::stdin(), OptionalActions::Flush, &quiet);
        Silence(changed.is_ok().then_some(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _the_terminal_may_be_gone = tcsetattr(io::stdin(), OptionalActions::Flush, before);
        }
    }
}
