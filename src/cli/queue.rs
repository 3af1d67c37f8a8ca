//! `groovebox queue`: what comes next.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use super::client::Patience;
use super::failure::Failure;
use super::play::absolute;
use super::screen::Look;
use super::session::Session;
use super::table::{Column, table, word};
use super::text::clock;
use crate::engine::status::QueueStatus;

#[derive(Args, Debug)]
pub(super) struct QueueArgs {
    #[command(subcommand)]
    pub(super) verb: Option<QueueVerb>,
}

#[derive(Subcommand, Debug)]
pub(super) enum QueueVerb {
    /// Show what comes next (the default)
    List,
    /// Put files or folders at the end
    Add {
        /// Files (FLAC, WAV, MP3) or folders
        #[arg(value_name = "FILE|DIR", required = true)]
        paths: Vec<PathBuf>,
    },
    /// Take entries out
    Remove {
        /// Their numbers, as `queue list` shows them
        #[arg(value_name = "NUMBER", required = true)]
        entries: Vec<u64>,
    },
    /// Take all out
    Clear,
}

pub(super) async fn run(args: QueueArgs, session: &mut Session) -> Result<(), Failure> {
    match args.verb.unwrap_or(QueueVerb::List) {
        QueueVerb::List => {
            let all = |queue: &Vec<QueueStatus>, look| lines(queue, look);
            session.show("/queue", all).await
        }
        QueueVerb::Add { paths } => {
            let body = json!({ "paths": absolute(paths)? });
            session.order(Method::POST, "/queue", Some(body), Patience::Files).await
        }
        QueueVerb::Remove { entries } => {
            let entries: Vec<String> = entries.iter().map(u64::to_string).collect();
            let path = format!("/queue/{}", entries.join(","));
            session.order(Method::DELETE, &path, None, Patience::Short).await
        }
        QueueVerb::Clear => session.order(Method::DELETE, "/queue", None, Patience::Short).await,
    }
}

pub(super) fn lines(queue: &[QueueStatus], look: Look) -> Vec<String> {
    if queue.is_empty() {
        return vec!["the queue is empty; `groovebox queue add FILE` fills it".to_owned()];
    }
    let columns = [
        Column::Right("#"),
        Column::Left("NEXT"),
        Column::Left("ARTIST"),
        Column::Right("LENGTH"),
        Column::Left("FROM"),
    ];
    let row = |entry: &QueueStatus| {
        vec![
            word(entry.id.to_string()),
            word(&entry.track.title),
            word(entry.track.artists.join(", ")),
            word(clock(entry.duration_ms)),
            word(&entry.track.added_by),
        ]
    };
    table(&columns, queue.iter().map(row).collect(), look)
}
