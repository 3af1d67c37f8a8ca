//! `groovebox history`: what was played in the room.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;

use super::failure::Failure;
use super::screen::Look;
use super::session::Session;
use super::table::{Column, Tone, cell, table, word};
use super::text::{ago, clock};
use crate::engine::room::EndReason;
use crate::engine::status::HistoryStatus;

#[derive(Args, Debug)]
pub(super) struct HistoryArgs {
    /// How many of the latest
    #[arg(short, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(super) n: u16,
}

pub(super) async fn run(args: &HistoryArgs, session: &mut Session) -> Result<(), Failure> {
    let path = format!("/history?n={}", args.n);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    session.show(&path, |rows: &Vec<HistoryStatus>, look| lines(rows, now, look)).await
}

/// The oldest first, as one remembers an evening; `now` is Unix ms.
pub(super) fn lines(rows: &[HistoryStatus], now: i64, look: Look) -> Vec<String> {
    if rows.is_empty() {
        return vec!["nothing has been played to its end yet".to_owned()];
    }
    // Rooms without a DJ and without people have nothing to say there.
    let (has_djs, has_people) =
        (rows.iter().any(|row| row.dj.is_some()), rows.iter().any(|row| row.present > 0));
    let mut columns = vec![
        Column::Right("ENDED"),
        Column::Left("TRACK"),
        Column::Left("ARTIST"),
        Column::Right("LASTED"),
        Column::Left("END"),
        Column::Left("FROM"),
    ];
    columns.extend(has_djs.then_some(Column::Left("DJ")));
    columns.extend(has_people.then_some(Column::Right("PEOPLE")));
    let row = |row: &HistoryStatus| {
        let tone = match row.reason {
            EndReason::Finished => Tone::Plain,
            EndReason::Skipped | EndReason::Stopped => Tone::Weak,
            EndReason::Unavailable | EndReason::Failed => Tone::Bad,
        };
        let mut cells = vec![
            word(ago(now - row.ended_at)),
            word(&row.track.title),
            word(&row.track.artists),
            word(clock(row.lasted_ms)),
            cell(row.reason.as_str(), tone),
            word(&row.track.added_by),
        ];
        cells.extend(has_djs.then(|| word(row.dj.as_deref().unwrap_or("–"))));
        cells.extend(has_people.then(|| word(row.present.to_string())));
        cells
    };
    table(&columns, rows.iter().rev().map(row).collect(), look)
}
