//! `groovebox dj`: who has the music in hand, and who takes it.

use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::Failure;
use super::screen::Look;
use super::session::Session;
use super::table::{Column, table, word};
use super::text::{ago, lasting};
use crate::engine::room::DjEnd;
use crate::engine::status::{DjStatus, PastDjStatus};

#[derive(Args, Debug)]
pub(super) struct DjArgs {
    #[command(subcommand)]
    pub(super) verb: Option<DjVerb>,
}

#[derive(Subcommand, Debug)]
pub(super) enum DjVerb {
    /// Show who is DJ, and who was (the default)
    Show,
    /// Become DJ; succeeds while there is none
    Take,
    /// As DJ, hand over to somebody
    Give {
        /// To whom
        name: String,
    },
    /// As DJ, step down
    Drop,
    /// Have a DJ drawn among the people here
    Random,
    /// As owner, say who is DJ, in spite of a cool-down
    Appoint {
        /// Whom
        name: String,
    },
}

pub(super) async fn run(args: DjArgs, session: &mut Session) -> Result<(), Failure> {
    match args.verb.unwrap_or(DjVerb::Show) {
        DjVerb::Show => return session.show("/dj", lines).await,
        DjVerb::Take => session.post("/dj/take", json!({})).await?,
        DjVerb::Give { name } => session.post("/dj/give", json!({ "to": name })).await?,
        DjVerb::Drop => session.post("/dj/drop", json!({})).await?,
        DjVerb::Random => session.post("/dj/random", json!({})).await?,
        DjVerb::Appoint { name } => session.post("/dj/appoint", json!({ "to": name })).await?,
    }
    let room = session.status().await?.room;
    session.tell(&match room.and_then(|room| room.dj) {
        Some(dj) => format!("{dj} is DJ now"),
        None => "nobody is DJ now; `groovebox dj take` makes you it".to_owned(),
    });
    Ok(())
}

pub(super) fn lines(status: &DjStatus, look: Look) -> Vec<String> {
    let mut lines = vec![match (&status.dj, status.for_ms) {
        (Some(dj), Some(ms)) => format!("{dj} has been DJ for {}", lasting(ms)),
        (Some(dj), None) => format!("{dj} is DJ"),
        (None, _) => "nobody is DJ; `groovebox dj take` makes you it".to_owned(),
    }];
    if status.history.is_empty() {
        return lines;
    }
    lines.push(String::new());
    let columns = [
        Column::Left("BEFORE"),
        Column::Right("FOR"),
        Column::Right("UNTIL"),
        Column::Left("WHY NO LONGER"),
    ];
    let row = |past: &PastDjStatus| {
        vec![
            word(&past.name),
            word(lasting(past.from_ago_ms - past.to_ago_ms)),
            word(ago(past.to_ago_ms)),
            word(why(past.reason)),
        ]
    };
    lines.extend(table(&columns, status.history.iter().map(row).collect(), look));
    lines
}

/// Why somebody is DJ no longer.
pub(super) fn why(reason: DjEnd) -> &'static str {
    match reason {
        DjEnd::Mutiny => "a mutiny",
        DjEnd::Vote => "somebody else was elected",
        DjEnd::Voluntary => "stepped down or handed over",
        DjEnd::Disconnect => "went away",
        DjEnd::Owner => "the owner wanted another",
    }
}
