//! `groovebox log`: what was done in the room, how safe it is, and what was left out when two
//! halves of the room met.

use clap::Args;
use comfy_table::Cell;

use super::failure::Failure;
use super::screen::Look;
use super::session::Session;
use super::table::{Column, Tone, cell, table, word};
use crate::engine::status::{DroppedStatus, LogEntryStatus, LogStatus, WaitingStatus};
use crate::wire::message::Level;

#[derive(Args, Debug)]
pub(super) struct LogArgs {
    /// How many entries; up to 20,000 are kept on disk
    #[arg(short = 'n', long = "last", value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(super) last: Option<u32>,
}

pub(super) async fn run(args: &LogArgs, session: &mut Session) -> Result<(), Failure> {
    session.status_in_room().await?;
    let path = args.last.map_or_else(|| "/log".into(), |last| format!("/log?last={last}"));
    session.show(&path, |log: &LogStatus, look| lines(log, look)).await
}

pub(super) fn lines(log: &LogStatus, look: Look) -> Vec<String> {
    if log.entries.is_empty() {
        return vec!["nothing has been done in this room yet".to_owned()];
    }
    let columns = [
        Column::Right("ENTRY"),
        Column::Right("TERM"),
        Column::Left("LEVEL"),
        Column::Left("WHAT"),
    ];
    let mut lines = table(&columns, log.entries.iter().map(entry).collect(), look);
    if !log.waiting.is_empty() {
        lines.push(String::new());
        lines.push("waiting for a coordinator:".to_owned());
        lines.extend(log.waiting.iter().map(waiting));
    }
    if !log.dropped.is_empty() {
        lines.push(String::new());
        lines.push("left out when two halves of the room met:".to_owned());
        lines.extend(log.dropped.iter().map(dropped));
    }
    lines
}

fn entry(entry: &LogEntryStatus) -> Vec<Cell> {
    let level = match entry.level {
        Level::Local => cell("local", Tone::Weak),
        Level::Replicated => cell("replicated", Tone::Plain),
        Level::Durable => cell("durable", Tone::Good),
    };
    let what = format!("{} {}", entry.author, entry.what);
    vec![word(entry.idx.to_string()), word(entry.term.n.to_string()), level, word(what)]
}

fn waiting(op: &WaitingStatus) -> String {
    super::text::plain(&format!("  {} {}", op.author, op.what))
}

fn dropped(op: &DroppedStatus) -> String {
    super::text::plain(&format!("  {} {}: {}", op.author, op.what, op.why))
}
