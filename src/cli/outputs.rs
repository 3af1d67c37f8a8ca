//! `groovebox outputs`: where this device's sound can go, and whether it does.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::json;

use super::failure::Failure;
use super::screen::Look;
use super::session::{Format, Session, Talk, print_json, print_lines};
use super::table::{Column, table, word};
use crate::api::OutputInfo;
use crate::audio::output::{self, OutputChoice, OutputSettings};
use crate::audio::sink::SinkError;
use crate::audio::tone::{self, Part};
use crate::base::Span;
use crate::daemon::{self, clock};
use crate::wire::{Refusal, RefusalCode};

/// What about outputs.
#[derive(Debug, clap::Args)]
pub struct OutputsArgs {
    #[command(subcommand)]
    verb: Option<OutputsVerb>,
}

#[derive(Debug, clap::Subcommand)]
enum OutputsVerb {
    /// List them (the default); where no daemon runs, as one would find them
    List,
    /// Play a tone: left, right, then both; no daemon is needed
    Test(TestArgs),
}

#[derive(Debug, clap::Args)]
struct TestArgs {
    /// Which, as the list names it; none is the default output
    output: Option<String>,
    /// How long left, right and both sound, each
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=60))]
    seconds: u8,
}

/// What a test found, for programs.
#[derive(Serialize)]
struct Tested {
    output: String,
    rate: u32,
    period: usize,
    delay_ms: f64,
    missed_frames: u64,
    drift_ppm: f64,
}

pub(super) async fn run(args: OutputsArgs, session: &mut Session) -> Result<(), Failure> {
    match args.verb {
        None | Some(OutputsVerb::List) => list(session).await,
        Some(OutputsVerb::Test(args)) => test(&args, session),
    }
}

async fn list(session: &Session) -> Result<(), Failure> {
    let lines = |outputs: &Vec<OutputInfo>, look| lines(outputs, look);
    let Err(failure) = session.show("/outputs", lines).await else { return Ok(()) };
    if !matches!(failure, Failure::NoDaemon(_)) {
        return Err(failure);
    }
    // A card is chosen before the first start.
    let found = tokio::task::spawn_blocking(|| daemon::outputs(None)).await;
    let found = found.map_err(|error| Failure::Program(error.into()))?;
    let found = found.map_err(|refusal| Failure::Refused(refusal.into()))?;
    session.tell("no daemon answers; this is what one would find that is started here:");
    match session.format {
        Format::Json => print_json(&json!(found)),
        Format::Text => print_lines(&lines(&found, session.look)),
    }
}

fn test(args: &TestArgs, session: &Session) -> Result<(), Failure> {
    let name = args.output.as_deref().unwrap_or("default");
    let choice = name.parse::<OutputChoice>().map_err(|error| Failure::Usage(error.to_string()))?;
    if choice == OutputChoice::None {
        return Err(Failure::Usage("the output \"none\" makes no sound; name another".into()));
    }
    let is_silent = session.format == Format::Json || session.talk == Talk::Quiet;
    let say = |text: &str| {
        if !is_silent {
            let _nobody_may_listen = writeln!(io::stdout(), "{text}");
        }
    };
    let mut sink =
        output::sink(&OutputSettings { choice, ..OutputSettings::default() }, clock::now);
    let report = tone::play(
        sink.as_mut(),
        clock::now,
        Span::from_secs(i64::from(args.seconds)),
        &mut |format| {
            say(&format!("{name}: {} frames a second, {} at a time", format.rate, format.period));
        },
        &mut |part| {
            say(match part {
                Part::Left => "left",
                Part::Right => "right",
                Part::Both => "both",
            });
        },
    )
    .map_err(|error| refusal(name, &error))?;
    let delay_ms = report.delay.as_millis_f64();
    let tested = Tested {
        output: name.to_owned(),
        rate: report.format.rate,
        period: report.format.period,
        delay_ms,
        missed_frames: report.starved,
        drift_ppm: report.drift.0,
    };
    if session.format == Format::Json {
        let text =
            serde_json::to_string(&tested).map_err(|error| Failure::Program(error.into()))?;
        writeln!(io::stdout(), "{text}")?;
    }
    let missed = match report.starved {
        0 => "nothing was missed".to_owned(),
        frames => format!("{frames} frames came too late: this machine was busy"),
    };
    // A little below nothing is nothing, without a sign.
    let whole_ms = delay_ms.round() + 0.0;
    say(&format!("it sounds {whole_ms} ms after it is handed over; {missed}"));
    say("heard nothing? raise the volume of the system (alsamixer), or try another output");
    Ok(())
}

fn refusal(name: &str, error: &SinkError) -> Failure {
    let (code, hint) = match error {
        SinkError::Missing(_) => (RefusalCode::NotFound, "`groovebox outputs` lists what there is"),
        SinkError::Busy => (
            RefusalCode::UpdateFailed,
            "if GrooveBox plays there itself, stop the daemon for the test; else end the other program",
        ),
        SinkError::Failed(_) => (
            RefusalCode::UpdateFailed,
            "check the cable and the sound server, or try another output",
        ),
    };
    Failure::Refused(Refusal::new(code, format!("{name}: {error}"), hint).into())
}

pub(super) fn lines(outputs: &[OutputInfo], look: Look) -> Vec<String> {
    let columns = [Column::Left("OUTPUT"), Column::Left("NAME"), Column::Left("")];
    let row = |output: &OutputInfo| {
        vec![
            word(&output.id),
            word(&output.name),
            word(match (output.default, output.chosen) {
                (true, true) => "default, chosen",
                (true, false) => "default",
                (false, true) => "chosen",
                (false, false) => "",
            }),
        ]
    };
    table(&columns, outputs.iter().map(row).collect(), look)
}
