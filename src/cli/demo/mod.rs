//! `groovebox demo`: three real daemons on this machine form a room and play the bundled
//! music, and what their outputs recorded is compared.
//!
//! | file | what |
//! |---|---|
//! | this one | the course of the demonstration |
//! | `stage` | the daemons as child processes, and that nothing of them stays behind |
//! | `verdict` | what the recordings say |
//!
//! The daemons are started and asked like any others; nothing here is known to them.

mod stage;
mod verdict;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::client::Patience;
use super::failure::{Exit, Failure};
use super::live::{headline, live_lines};
use super::screen::{Look, Screen, is_terminal};
use super::session::{print_json, print_lines, understand};
use super::{Global, daemon};
use crate::engine::Status;
use crate::engine::status::PlaybackState;
use crate::wire::message::SyncState;

use stage::{N_DAEMONS, Stage};
use verdict::Verdict;

/// From the start of the first daemon until all three are one room in sync.
const FORMING: Duration = Duration::from_secs(20);

/// How often the table is drawn.
const REDRAW: Duration = Duration::from_millis(500);

/// Lines into a file or a pipe are fewer.
const PLAIN_LINE: Duration = Duration::from_secs(2);

#[derive(Args, Debug)]
pub(super) struct DemoArgs {
    /// End by itself, with a summary
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(5..=86_400))]
    seconds: Option<u64>,
}

pub(super) fn run(args: &DemoArgs, global: &Global) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Program(error.into()))?;
    runtime.block_on(demonstrate(args, global))
}

async fn demonstrate(args: &DemoArgs, global: &Global) -> Result<ExitCode, Failure> {
    let mut stage = Stage::build(daemon::log(global))?;
    tell(global, &stage.announcement());
    let outcome = tokio::select! {
        outcome = perform(&mut stage, args, global) => outcome,
        () = interrupted() => Ok(()),
    };
    stage.clear().await;
    outcome?;
    let verdict = Verdict::of(&stage.recordings()?);
    if global.json {
        print_json(&verdict.json())?;
    } else {
        print_lines(&verdict.lines())?;
    }
    Ok(if verdict.is_good() { Exit::Ok.into() } else { Exit::Failed.into() })
}

/// Until the time is over, or for ever.
async fn perform(stage: &mut Stage, args: &DemoArgs, global: &Global) -> Result<(), Failure> {
    stage.start().await?;
    form(stage).await?;
    stage.order(Method::POST, "/play", Some(stage.music())).await?;
    let playing = show(stage, global);
    match args.seconds {
        // Over is over, whatever is being shown.
        Some(seconds) => timeout(Duration::from_secs(seconds), playing).await.unwrap_or(Ok(())),
        None => playing.await,
    }
}

/// Waits until all daemons are in one room and follow its clock.
async fn form(stage: &mut Stage) -> Result<(), Failure> {
    let deadline = Instant::now() + FORMING;
    loop {
        stage.check()?;
        let status = stage.status().await?;
        if in_sync(&status) == N_DAEMONS {
            return Ok(());
        }
        if Instant::now() > deadline {
            let text = format!(
                "only {} of {} daemons came together within {} s\n{}",
                in_sync(&status),
                N_DAEMONS,
                FORMING.as_secs(),
                stage.last_words()
            );
            return Err(Failure::Program(anyhow::anyhow!(text)));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn in_sync(status: &Status) -> usize {
    let synced = |state: SyncState| state == SyncState::Synced;
    let members = status.members.iter().filter(|member| member.online);
    members.filter(|m| m.sync.as_ref().is_some_and(|sync| synced(sync.state))).count()
}

/// Draws, and keeps the music going; ends only with an error.
async fn show(stage: &mut Stage, global: &Global) -> Result<(), Failure> {
    let mut screen = Screen::default();
    let mut ticks = interval(if is_terminal() { REDRAW } else { PLAIN_LINE });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        stage.check()?;
        let answer = stage.order(Method::GET, "/status", None).await?;
        let status: Status = understand(answer.clone())?;
        if global.json {
            print_json(&answer)?;
        } else if is_terminal() {
            screen.draw(&live_lines(&status, Look::of_stdout()))?;
        } else {
            print_lines(&[brief(&status)])?;
        }
        keep_going(stage, &status).await?;
    }
}

/// The song is added again in time to follow itself without a gap.
async fn keep_going(stage: &Stage, status: &Status) -> Result<(), Failure> {
    let verb = match status.playback.state {
        PlaybackState::Playing if status.queue.is_empty() => "/queue",
        PlaybackState::Stopped => "/play",
        _ => return Ok(()),
    };
    stage.order(Method::POST, verb, Some(stage.music())).await.map(|_| ())
}

/// `living-room −13 ± 97 µs`, for every device, in one line.
fn brief(status: &Status) -> String {
    let devices = status.members.iter().map(|member| {
        let sync = member.sync.clone().unwrap_or_default();
        format!("{} {:+.0} ± {:.0} µs", member.name, sync.offset_us, sync.error_us)
    });
    format!("{} | {}", headline(status), devices.collect::<Vec<_>>().join(", "))
}

fn tell(global: &Global, lines: &[String]) {
    if !global.quiet {
        for line in lines {
            eprintln!("{line}");
        }
    }
}

/// Ctrl-C, or whoever ends this process politely.
async fn interrupted() {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let mut waiting = kinds.map(|kind| {
        Box::pin(async move {
            match signal(kind) {
                Ok(mut stream) => {
                    stream.recv().await;
                }
                // Without the signal there is nothing to wait for.
                Err(_) => std::future::pending().await,
            }
        })
    });
    let [a, b, c] = &mut waiting;
    tokio::select! {
        () = a => {}
        () = b => {}
        () = c => {}
    }
}

/// The path of the music, as a request's body.
fn paths(path: &std::path::Path) -> Value {
    json!({ "paths": [path] })
}

/// Asks one daemon.
async fn ask(
    client: &super::client::Client,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<Value, Failure> {
    client.send(method, path, body, Patience::Short).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sample;

    #[test]
    fn a_line_for_a_pipe_names_every_device() {
        let line = brief(&sample::status());
        for name in ["kitchen", "living-room-left", "porch"] {
            assert!(line.contains(name), "{line}");
        }
    }

    #[test]
    fn only_devices_that_are_here_count_as_in_sync() {
        assert_eq!(in_sync(&sample::status()), 2);
    }
}
