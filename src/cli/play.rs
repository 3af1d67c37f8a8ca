//! `groovebox play`: files and folders now, or go on.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::client::Patience;
use super::failure::Failure;
use super::session::Session;
use crate::api::Problem;
use crate::media::CHECK_THE_PATH;

#[derive(Args, Debug)]
pub(super) struct PlayArgs {
    /// Files (FLAC, WAV, AIFF, MP3, M4A, Ogg, Opus) or folders
    #[arg(value_name = "FILE|DIR")]
    pub(super) paths: Vec<PathBuf>,
}

pub(super) async fn run(args: PlayArgs, session: &mut Session) -> Result<(), Failure> {
    if args.paths.is_empty() {
        return session.post("/resume", json!({})).await;
    }
    bring(session, "/play", args.paths).await
}

/// Asks the daemon to take files and folders in.
pub(super) async fn bring(
    session: &Session,
    path: &str,
    files: Vec<PathBuf>,
) -> Result<(), Failure> {
    let are_seen_here = files.iter().all(|file| file.exists());
    let body = json!({ "paths": absolute(files)? });
    let ordered = session.order(Method::POST, path, Some(body), Patience::Files).await;
    ordered.map_err(|failure| if are_seen_here { unseen(failure) } else { failure })
}

/// What a person sees and the daemon does not is not misspelt.
fn unseen(failure: Failure) -> Failure {
    match failure {
        Failure::Refused(problem) if problem.hint == CHECK_THE_PATH => {
            let hint = "you see it and the daemon does not: as a system service it has a /tmp of \
                        its own and may not look into closed homes; put the music where everybody \
                        may read it, in /srv/music for example";
            Failure::Refused(Problem { hint: hint.into(), ..problem })
        }
        other => other,
    }
}

/// The daemon does not know where the person stands, so paths leave here complete.
pub(super) fn absolute(paths: Vec<PathBuf>) -> Result<Vec<Value>, Failure> {
    let complete = |path: PathBuf| {
        let wrong = |why: &str| Failure::Usage(format!("{}: {why}", path.display()));
        let whole = std::path::absolute(&path).map_err(|error| wrong(&error.to_string()))?;
        let text = whole.to_str().ok_or_else(|| wrong("the name is not UTF-8; rename it"))?;
        Ok(Value::from(text))
    };
    paths.into_iter().map(complete).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::RefusalCode;

    #[test]
    fn what_a_person_sees_and_the_daemon_does_not_is_not_called_misspelt() {
        let refused = |hint: &str| {
            let (code, message) = (RefusalCode::NotFound, "there is no file".into());
            Failure::Refused(Problem { code, message, hint: hint.into(), retry_after: None })
        };
        let hint = |failure| match failure {
            Failure::Refused(problem) => problem.hint,
            other => panic!("{other}"),
        };
        assert!(hint(unseen(refused(CHECK_THE_PATH))).contains("/tmp"));
        assert_eq!(hint(unseen(refused("name a folder with music"))), "name a folder with music");
    }
}
