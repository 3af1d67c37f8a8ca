//! A line on standard error while something takes long, drawn in place. Only on a terminal:
//! in a file it would be litter.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::client::Client;
use super::session::{Talk, understand};
use super::text::{clip_to, lasting};
use crate::api::ImportProgress;

/// What is done by then needs no line.
const SILENT: Duration = Duration::from_millis(700);

/// How often the line is drawn anew.
const REDRAW: Duration = Duration::from_millis(500);

/// Waits for `work`; meanwhile tells how far the daemon has come with reading files.
pub(super) async fn while_reading<T>(
    client: &Client,
    talk: Talk,
    work: impl Future<Output = T>,
) -> T {
    if talk == Talk::Quiet || !io::stderr().is_terminal() {
        return work.await;
    }
    let begun = Instant::now();
    let first = tokio::time::Instant::now() + SILENT;
    let mut ticks = tokio::time::interval_at(first, REDRAW);
    let mut is_drawn = false;
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                if is_drawn {
                    draw("");
                }
                return done;
            }
            _ = ticks.tick() => {
                let progress = client.look("/imports").await;
                let progress = progress.and_then(|answer| understand(answer).ok());
                draw(&line(progress, begun.elapsed()));
                is_drawn = true;
            }
        }
    }
}

fn line(progress: Option<ImportProgress>, passed: Duration) -> String {
    let passed = lasting(i64::try_from(passed.as_millis()).unwrap_or(i64::MAX));
    match progress {
        Some(ImportProgress { files, done }) if files > 0 => {
            format!("reading files: {done} of {files}, {passed}")
        }
        _ => format!("reading files: {passed}"),
    }
}

/// Over what was drawn last; the cursor stays in the line, so that what comes next replaces it.
fn draw(text: &str) {
    let width = terminal_size::terminal_size_of(io::stderr()).map_or(80, |(width, _)| width.0);
    let text = clip_to(text, usize::from(width).saturating_sub(1));
    let _nobody_may_listen =
        write!(io::stderr(), "\r{text}\x1b[K").and_then(|()| io::stderr().flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_how_far_it_is_as_far_as_that_is_known() {
        let progress = |files, done| Some(ImportProgress { files, done });
        let passed = Duration::from_secs(12);
        assert_eq!(line(progress(240, 31), passed), "reading files: 31 of 240, 12 s");
        assert_eq!(line(progress(0, 0), passed), "reading files: 12 s");
        assert_eq!(line(None, passed), "reading files: 12 s");
    }
}
