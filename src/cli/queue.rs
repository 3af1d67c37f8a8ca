//! `groovebox queue`: what comes next.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;
use serde_json::json;

use super::client::Patience;
use super::failure::Failure;
use super::play::bring;
use super::room::IN_NO_ROOM;
use super::screen::Look;
use super::session::Session;
use super::table::{Column, Tone, cell, table, word};
use super::text::{clock, plain};
use super::watch::{View, WatchArgs, watch};
use crate::engine::Status;
use crate::engine::status::{FetchStatus, QueueStatus, TrackStatus};
use crate::wire::op::Repeat;

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct QueueArgs {
    #[command(flatten)]
    pub(super) watch: WatchArgs,
    #[command(subcommand)]
    pub(super) verb: Option<QueueVerb>,
}

#[derive(Subcommand, Debug)]
pub(super) enum QueueVerb {
    /// Show what comes next (the default)
    List(WatchArgs),
    /// Put files or folders at the end
    Add {
        /// Files (FLAC, WAV, AIFF, MP3, M4A, Ogg, Opus) or folders
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
    /// Put an entry elsewhere
    Move {
        /// Its number, as `queue list` shows it
        #[arg(value_name = "NUMBER")]
        entry: u64,
        /// Its place from then on: 1 plays next
        #[arg(value_name = "PLACE")]
        place: usize,
    },
    /// Be for an entry to come earlier among those of its person
    Up {
        /// Its number, as `queue list` shows it
        #[arg(value_name = "NUMBER")]
        entry: u64,
    },
    /// Be for it no longer
    Down {
        /// Its number, as `queue list` shows it
        #[arg(value_name = "NUMBER")]
        entry: u64,
    },
    /// Put what comes next in another order, once
    Shuffle,
    /// What comes again by itself: nothing, the track that plays, or the whole queue
    Repeat {
        #[arg(value_enum)]
        mode: Mode,
    },
}

/// What comes again by itself.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    Off,
    One,
    All,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Off => "off",
            Mode::One => "one",
            Mode::All => "all",
        }
    }
}

pub(super) async fn run(args: QueueArgs, session: &mut Session) -> Result<(), Failure> {
    match args.verb.unwrap_or(QueueVerb::List(args.watch)) {
        QueueVerb::List(WatchArgs { watch: true }) => {
            let json = |status: &Status| json!(status.queue);
            watch(session, View { json, lines: all, brief }).await
        }
        QueueVerb::List(_) => session.show_of_room(|status| json!(status.queue), all).await,
        QueueVerb::Add { paths } => bring(session, "/queue", paths).await,
        QueueVerb::Remove { entries } => {
            let entries: Vec<String> = entries.iter().map(u64::to_string).collect();
            let path = format!("/queue/{}", entries.join(","));
            session.order(Method::DELETE, &path, None, Patience::Short).await
        }
        QueueVerb::Move { entry, place } => {
            session.post("/queue/move", json!({ "entry": entry, "place": place })).await
        }
        QueueVerb::Up { entry } => session.post(&format!("/queue/{entry}/up"), json!({})).await,
        QueueVerb::Down { entry } => session.post(&format!("/queue/{entry}/down"), json!({})).await,
        QueueVerb::Shuffle => session.post("/queue/shuffle", json!({})).await,
        QueueVerb::Repeat { mode } => {
            session.post("/queue/repeat", json!({ "mode": mode.name() })).await
        }
        QueueVerb::Clear => session.order(Method::DELETE, "/queue", None, Patience::Short).await,
    }
}

/// The queue, and whether anything of it comes again.
pub(super) fn all(status: &Status, look: Look) -> Vec<String> {
    if status.room.is_none() {
        return vec![IN_NO_ROOM.to_owned()];
    }
    let mut lines = lines(&status.queue, &status.fetching, look);
    lines.extend(repeat_line(status.playback.repeat).map(str::to_owned));
    lines
}

/// `2 entries, next "Freddie Freeloader"`
fn brief(status: &Status) -> String {
    match &status.queue[..] {
        [] => "the queue is empty".to_owned(),
        [next] => plain(&format!("1 entry, {:?}", next.track.title)),
        [next, ..] => {
            plain(&format!("{} entries, next {:?}", status.queue.len(), next.track.title))
        }
    }
}

/// What a person should know of repetition, if there is any.
pub(super) fn repeat_line(repeat: Repeat) -> Option<&'static str> {
    match repeat {
        Repeat::Off => None,
        Repeat::One => Some("repeat: the track that plays"),
        Repeat::All => Some("repeat: the whole queue"),
    }
}

fn votes(entry: &QueueStatus) -> String {
    if entry.up_votes == 0 { String::new() } else { format!("+{}", entry.up_votes) }
}

/// How much of a track is here, while the rest is fetched.
pub(super) fn fetched(track: &TrackStatus, fetching: &[FetchStatus]) -> Option<String> {
    let fetch = fetching.iter().find(|fetch| fetch.id == track.id)?;
    Some(format!("{} % here", fetch.percent))
}

pub(super) fn lines(queue: &[QueueStatus], fetching: &[FetchStatus], look: Look) -> Vec<String> {
    if queue.is_empty() {
        return vec!["the queue is empty; `groovebox queue add FILE` fills it".to_owned()];
    }
    // Where nobody has voted there is nothing to say of votes.
    let has_votes = queue.iter().any(|entry| entry.up_votes > 0);
    let mut columns = vec![
        Column::Right("#"),
        Column::Left("NEXT"),
        Column::Left("ARTIST"),
        Column::Right("LENGTH"),
        Column::Left("FROM"),
    ];
    columns.extend(has_votes.then_some(Column::Right("VOTES")));
    let row = |entry: &QueueStatus| {
        let mut cells = vec![
            word(entry.id.to_string()),
            word(&entry.track.title),
            word(entry.track.artists.join(", ")),
            if entry.unavailable {
                cell("unavailable", Tone::Bad)
            } else {
                word(clock(entry.duration_ms))
            },
            word(match fetched(&entry.track, fetching) {
                Some(fetched) => format!("{}, {fetched}", entry.track.added_by),
                None => entry.track.added_by.clone(),
            }),
        ];
        cells.extend(has_votes.then(|| word(votes(entry))));
        cells
    };
    table(&columns, queue.iter().map(row).collect(), look)
}
