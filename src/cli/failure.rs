//! What can go wrong on the command line, and the exit code of each.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::text::lasting;
use crate::api::Problem;
use crate::config::ConfigError;
use crate::wire::RefusalCode;

/// How a command ends. The one table of exit codes: `--help`, the manual pages and README.md
/// show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exit {
    /// Done.
    Ok = 0,
    /// Refused, or failed.
    Failed = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// No daemon answers.
    NoDaemon = 3,
    /// What was named does not exist.
    NotFound = 4,
    /// `groovebox doctor` found what keeps the music from playing.
    Unwell = 5,
}

impl Exit {
    /// By their numbers.
    pub(super) const ALL: [Exit; 6] =
        [Exit::Ok, Exit::Failed, Exit::Usage, Exit::NoDaemon, Exit::NotFound, Exit::Unwell];

    /// In a table's words.
    pub(super) fn meaning(self) -> &'static str {
        match self {
            Exit::Ok => "done",
            Exit::Failed => "refused, or failed",
            Exit::Usage => "wrong usage or configuration",
            Exit::NoDaemon => "no daemon answers, or not to you",
            Exit::NotFound => "what was named does not exist",
            Exit::Unwell => "`groovebox doctor` found something that fails",
        }
    }

    /// The table that `--help` ends with.
    pub(super) fn table() -> String {
        let row = |exit: Exit| format!("\n  {}  {}", exit as u8, exit.meaning());
        Exit::ALL.into_iter().fold("Exit codes:".to_owned(), |table, exit| table + &row(exit))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nobody listens.
    #[error("no daemon answers on {}; start it with `groovebox daemon`", .0.display())]
    NoDaemon(PathBuf),
    /// Somebody listens to others.
    #[error(
        "you may not talk to the daemon on {}; become a member of the group that owns it, for the \
         service by `sudo usermod -aG groovebox YOUR_NAME`, and log in anew",
        .0.display()
    )]
    NotAllowed(PathBuf),
    /// It listened and is gone.
    #[error("the daemon on {} stopped answering ({why}); see its log", path.display())]
    Lost {
        /// Where.
        path: PathBuf,
        /// What was seen.
        why: String,
    },
    /// The daemon says no.
    #[error("{}", .0.message)]
    Refused(Problem),
    /// The command line is well formed and makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The person was asked and does not mean it.
    #[error("nothing was done")]
    Declined,
    /// The settings make no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The reader of our output is gone, or the disk is full.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// The daemon or the demonstration failed.
    #[error("{}", with_causes(.0))]
    Program(anyhow::Error),
}

/// An error and what caused it; what it says itself of its cause is not said again.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

impl Failure {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Failure::NoDaemon(_) | Failure::NotAllowed(_) | Failure::Lost { .. } => Exit::NoDaemon,
            Failure::Refused(problem) if problem.code == RefusalCode::NotFound => Exit::NotFound,
            Failure::Usage(_) | Failure::Config(_) => Exit::Usage,
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
            Failure::Refused(_) | Failure::Declined | Failure::Output(_) | Failure::Program(_) => {
                Exit::Failed
            }
        }
    }

    /// Says it on standard error, and with `--json` a refusal on standard output too. A
    /// reader that went away (`| head`) is no failure worth a word.
    pub(super) fn tell(&self, json: bool) {
        if self.exit() == Exit::Ok {
            return;
        }
        let mut talk = format!("error: {self}\n");
        if let Failure::Refused(problem) = self {
            if !problem.hint.is_empty() {
                talk.push_str("hint: ");
                talk.push_str(&problem.hint);
                talk.push('\n');
            }
            if let Some(seconds) = problem.retry_after {
                talk.push_str("try again in ");
                talk.push_str(&soon(seconds));
                talk.push('\n');
            }
            if let (true, Ok(text)) = (json, serde_json::to_string(problem)) {
                let _nobody_may_listen = writeln!(io::stdout(), "{text}");
            }
        }
        let _nobody_may_listen = io::stderr().write_all(talk.as_bytes());
    }
}

/// A wait in seconds, never shorter than it is.
fn soon(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    let ms = (seconds.max(0.0) * 1000.0).ceil() as i64;
    if ms < 60_000 {
        return lasting(ms.saturating_add(999).max(1000));
    }
    lasting(ms.saturating_add(59_999))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_in_full() {
        let cases =
            [(0.2, "1 s"), (12.0, "12 s"), (59.5, "1 min"), (61.0, "2 min"), (300.0, "5 min")];
        for (seconds, text) in cases {
            assert_eq!(soon(seconds), text, "{seconds}");
        }
    }
}
