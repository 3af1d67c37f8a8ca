//! `--watch`: show again whenever something changes.
//!
//! On a terminal the lines are drawn in place; into a file or a pipe goes one line per
//! change; with `--json` one JSON value per line.

use clap::Args;
use serde_json::Value;

use super::failure::Failure;
use super::screen::{Look, Screen, is_terminal};
use super::session::{Format, Session, print_json, print_lines, understand};
use crate::api::Event;
use crate::engine::Status;

/// Whether to stay.
#[derive(Args, Debug)]
pub(super) struct WatchArgs {
    /// Stay and show every change
    #[arg(short, long)]
    pub(super) watch: bool,
}

/// One thing seen in three ways.
#[derive(Clone, Copy)]
pub(super) struct View {
    /// For programs.
    pub(super) json: fn(&Status) -> Value,
    /// For people.
    pub(super) lines: fn(&Status, Look) -> Vec<String>,
    /// For people, in one line.
    pub(super) brief: fn(&Status) -> String,
}

/// The status as told by events.
#[derive(Default)]
pub(super) struct Picture {
    parts: serde_json::Map<String, Value>,
}

impl Picture {
    /// The status after this event.
    pub(super) fn apply(&mut self, event: Event) -> Result<Status, Failure> {
        match event {
            Event::Snapshot { status, .. } => {
                if let Ok(Value::Object(parts)) = serde_json::to_value(&*status) {
                    self.parts = parts;
                }
                Ok(*status)
            }
            Event::Delta { changed, .. } => {
                self.parts.extend(changed);
                understand(Value::Object(self.parts.clone()))
            }
            // What is said is no part of it.
            Event::Chat { .. } => understand(Value::Object(self.parts.clone())),
        }
    }
}

/// Shows until the person has seen enough; that the daemon stops is a failure.
pub(super) async fn watch(session: &Session, view: View) -> Result<(), Failure> {
    let mut follower = session.client.follow().await?;
    let (mut picture, mut screen) = (Picture::default(), Screen::default());
    let mut last = String::new();
    loop {
        let status = picture.apply(follower.next().await?)?;
        match session.format {
            Format::Json => {
                let value = (view.json)(&status);
                if replace(&mut last, value.to_string()) {
                    print_json(&value)?;
                }
            }
            Format::Text if is_terminal() => {
                screen.draw(&(view.lines)(&status, Look::of_stdout()))?;
            }
            Format::Text => {
                if replace(&mut last, (view.brief)(&status)) {
                    print_lines(std::slice::from_ref(&last))?;
                }
            }
        }
    }
}

/// Whether it is another text than before.
fn replace(last: &mut String, text: String) -> bool {
    let other = *last != text;
    *last = text;
    other
}
