//! `groovebox play`: files and folders now, or go on.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::client::Patience;
use super::failure::Failure;
use super::session::Session;

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
    let body = json!({ "paths": absolute(args.paths)? });
    session.order(Method::POST, "/play", Some(body), Patience::Files).await
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
