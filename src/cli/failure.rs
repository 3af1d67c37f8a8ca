//! What can go wrong on the command line, and the exit code of each.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

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

    /// For programs, beside the codes of refusals.
    pub(super) fn code(self) -> &'static str {
        match self {
            Exit::Usage => "USAGE",
            Exit::NoDaemon => "NO_DAEMON",
            Exit::NotFound => "NOT_FOUND",
            Exit::Ok | Exit::Failed | Exit::Unwell => "FAILED",
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

/// A failure for programs: the shape of a refusal of the local interface, whose codes are told
/// as they are.
#[derive(Serialize)]
struct Told<'a> {
    code: &'a str,
    message: String,
    hint: &'a str,
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nobody listens.
    #[error("no daemon answers on {}", .0.display())]
    NoDaemon(PathBuf),
    /// Somebody listens to others.
    #[error("you may not talk to the daemon on {}", .0.display())]
    NotAllowed(PathBuf),
    /// It listened and is gone.
    #[error("the daemon on {} stopped answering ({why})", path.display())]
    Lost {
        /// Where.
        path: PathBuf,
        /// What was seen.
        why: String,
    },
    /// It said goodbye to whoever followed it.
    #[error("the daemon on {} stopped", .0.display())]
    Stopped(PathBuf),
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
    /// What to do next; empty where the sentence itself says it.
    pub(super) fn hint(&self) -> &str {
        match self {
            Failure::NoDaemon(_) => "start it with `groovebox daemon`",
            Failure::NotAllowed(_) => {
                "become a member of the group that owns it, for the service by `sudo usermod -aG \
                 groovebox YOUR_NAME`, and log in anew"
            }
            Failure::Lost { .. } => "see its log; `groovebox daemon` starts it again",
            Failure::Stopped(_) => "start it again with `groovebox daemon`",
            Failure::Refused(problem) => &problem.hint,
            // The others have theirs beside the place that is wrong.
            Failure::Config(error @ ConfigError::Read { .. }) => error.hint(),
            Failure::Usage(_)
            | Failure::Declined
            | Failure::Config(_)
            | Failure::Output(_)
            | Failure::Program(_) => "",
        }
    }

    pub(super) fn exit(&self) -> Exit {
        match self {
            Failure::NoDaemon(_)
            | Failure::NotAllowed(_)
            | Failure::Lost { .. }
            | Failure::Stopped(_) => Exit::NoDaemon,
            Failure::Refused(problem) if problem.code == RefusalCode::NotFound => Exit::NotFound,
            Failure::Usage(_) | Failure::Config(_) => Exit::Usage,
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
            Failure::Refused(_) | Failure::Declined | Failure::Output(_) | Failure::Program(_) => {
                Exit::Failed
            }
        }
    }

    /// Says it on standard error, and with `--json` on standard output too. A reader that went
    /// away (`| head`) is no failure worth a word.
    pub(super) fn tell(&self, json: bool) {
        if self.exit() == Exit::Ok {
            return;
        }
        let mut talk = format!("error: {self}\n");
        if !self.hint().is_empty() {
            talk.push_str("hint: ");
            talk.push_str(self.hint());
            talk.push('\n');
        }
        if let Failure::Refused(Problem { retry_after: Some(seconds), .. }) = self {
            talk.push_str("try again in ");
            talk.push_str(&soon(*seconds));
            talk.push('\n');
        }
        if let (true, Ok(text)) = (json, self.for_programs()) {
            let _nobody_may_listen = writeln!(io::stdout(), "{text}");
        }
        let _nobody_may_listen = io::stderr().write_all(talk.as_bytes());
    }

    fn for_programs(&self) -> serde_json::Result<String> {
        let told = |message, hint| Told { code: self.exit().code(), message, hint };
        match self {
            Failure::Refused(problem) => serde_json::to_string(problem),
            Failure::Config(error) => serde_json::to_string(&told(error.sentence(), error.hint())),
            _ => serde_json::to_string(&told(self.to_string(), self.hint())),
        }
    }
}

/// A command line that was not understood, for programs: the parser's first paragraph, and what
/// it says besides as the hint.
pub(super) fn misused(refused: &clap::Error) -> serde_json::Result<String> {
    let text = refused.to_string();
    let (first, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    let message = first.strip_prefix("error: ").unwrap_or(first).trim().to_owned();
    serde_json::to_string(&Told { code: Exit::Usage.code(), message, hint: rest.trim() })
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
    use crate::wire::Refusal;

    #[test]
    fn a_failure_is_told_to_programs_in_the_shape_of_a_refusal() {
        let refusal = Refusal::new(RefusalCode::NotInRoom, "in none", "join one");
        let value = serde_json::from_str(r#"{"type": "integer"}"#).map(|_: i32| ());
        let config = ConfigError::NoHome { what: "the state", flag: "--state-dir" };
        let cases = [
            (Failure::NoDaemon("/s".into()), "NO_DAEMON", "start it with `groovebox daemon`"),
            (Failure::Refused(refusal.into()), "NOT_IN_ROOM", "join one"),
            (Failure::Usage("name another".to_owned()), "USAGE", ""),
            (Failure::Config(config), "USAGE", ""),
            (Failure::Program(value.expect_err("no number").into()), "FAILED", ""),
        ];
        for (failure, code, hint) in cases {
            let text = failure.for_programs().expect("JSON");
            let told: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!((&told["code"], &told["hint"]), (&code.into(), &hint.into()), "{text}");
            assert!(!told["message"].as_str().expect("a sentence").is_empty(), "{text}");
        }
    }

    #[test]
    fn a_wait_is_told_in_full() {
        let cases =
            [(0.2, "1 s"), (12.0, "12 s"), (59.5, "1 min"), (61.0, "2 min"), (300.0, "5 min")];
        for (seconds, text) in cases {
            assert_eq!(soon(seconds), text, "{seconds}");
        }
    }
}
