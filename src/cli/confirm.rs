//! Asks a person whether they mean it, before something that cannot be taken back.

use std::io::{self, IsTerminal, Write};

use super::failure::Failure;
use super::text::plain;

/// What to do where nobody can be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unasked {
    /// Go on: whoever wrote the script meant it.
    GoOn,
    /// Nothing: `--yes` says that it is meant.
    Nothing,
}

/// Tells what would happen and asks, unless `yes` has been said. Fails unless it is meant.
pub(super) fn confirm(
    told: &[String],
    question: &str,
    yes: bool,
    unasked: Unasked,
) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let can_ask = io::stdin().is_terminal() && io::stderr().is_terminal();
    match (can_ask, unasked) {
        (false, Unasked::GoOn) => return Ok(()),
        (false, Unasked::Nothing) => {
            let what = "nobody can be asked whether this is meant; say so with --yes";
            return Err(Failure::Usage(what.to_owned()));
        }
        (true, _) => {}
    }
    let mut talk = io::stderr().lock();
    for line in told {
        writeln!(talk, "{}", plain(line))?;
    }
    write!(talk, "{question} [y/N] ")?;
    talk.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if is_yes(&answer) { Ok(()) } else { Err(Failure::Declined) }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(is_yes("y\n") && is_yes(" Yes \n"));
        for answer in ["", "\n", "n\n", "yep\n", "yes please\n"] {
            assert!(!is_yes(answer), "{answer:?}");
        }
    }
}
