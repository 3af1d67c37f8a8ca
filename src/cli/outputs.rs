//! `groovebox outputs`: where this device's sound can go.

use super::failure::Failure;
use super::screen::Look;
use super::session::Session;
use super::table::{Column, table, word};
use crate::api::OutputInfo;

pub(super) async fn run(session: &mut Session) -> Result<(), Failure> {
    session.show("/outputs", |outputs: &Vec<OutputInfo>, look| lines(outputs, look)).await
}

pub(super) fn lines(outputs: &[OutputInfo], look: Look) -> Vec<String> {
    let columns =
        [Column::Left("OUTPUT"), Column::Left("NAME"), Column::Left("DETAILS"), Column::Left("")];
    let row = |output: &OutputInfo| {
        vec![
            word(&output.id),
            word(&output.name),
            word(&output.details),
            word(if output.default { "default" } else { "" }),
        ]
    };
    table(&columns, outputs.iter().map(row).collect(), look)
}
