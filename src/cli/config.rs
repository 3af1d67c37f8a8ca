//! `groovebox config`: what the settings are, where each comes from, and whether a file is sound.
//! Asks no daemon: what is shown is what one would be told that is started now.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::failure::{Exit, Failure};
use super::screen::Look;
use super::session::{Format, print_json, print_lines};
use super::table::{Column, table, word};
use super::{Global, daemon};
use crate::audio::output::OutputChoice;
use crate::config::{self, Flags, Shown, ShownSetting};

#[derive(Subcommand, Debug)]
pub(super) enum ConfigVerb {
    /// Say whether a file makes sense
    Check {
        /// Which; otherwise the one that the daemon reads
        file: Option<PathBuf>,
    },
    /// Show every setting, and where it comes from
    Show {
        /// As the daemon would read this file
        #[arg(long = "config", value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Show which file the daemon reads
    Path,
    /// Write a file with every setting, its default and what it means
    Default,
}

pub(super) fn run(verb: ConfigVerb, global: Global) -> Result<ExitCode, Failure> {
    let format = Format::of(global.json);
    match verb {
        ConfigVerb::Check { file } => check(flags(file, global), format)?,
        ConfigVerb::Show { file } => show(flags(file, global), format)?,
        ConfigVerb::Path => path(&flags(None, global), format)?,
        ConfigVerb::Default if format == Format::Json => {
            print_json(&json!({ "text": config::EXAMPLE }))?;
        }
        ConfigVerb::Default => print_lines(&[config::EXAMPLE.trim_end().to_owned()])?,
    }
    Ok(Exit::Ok.into())
}

fn flags(file: Option<PathBuf>, global: Global) -> Flags {
    Flags { config: file, log: daemon::log(&global), socket: global.socket, ..Flags::default() }
}

fn check(flags: Flags, format: Format) -> Result<(), Failure> {
    let shown = sound(flags)?;
    let file = shown.file.display().to_string();
    if format == Format::Json {
        return print_json(&json!({ "file": file, "exists": shown.exists, "ok": true }));
    }
    let verdict = if shown.exists { "makes sense" } else { "is not there; the defaults hold" };
    print_lines(&[format!("{file} {verdict}")])
}

fn show(flags: Flags, format: Format) -> Result<(), Failure> {
    let shown = sound(flags)?;
    if format == Format::Json {
        let setting =
            |s: &ShownSetting| json!({ "key": s.key, "value": s.value, "source": s.source });
        let settings = shown.settings.iter().map(setting).collect::<Vec<_>>();
        let file = shown.file.display().to_string();
        return print_json(&json!({ "file": file, "exists": shown.exists, "settings": settings }));
    }
    let columns = [Column::Left("SETTING"), Column::Left("VALUE"), Column::Left("FROM")];
    let row = |s: &ShownSetting| vec![word(s.key), word(&s.value), word(&s.source)];
    print_lines(&table(&columns, shown.settings.iter().map(row).collect(), Look::of_stdout()))
}

fn path(flags: &Flags, format: Format) -> Result<(), Failure> {
    let (path, exists) = config::file(flags);
    let file = path.display().to_string();
    if format == Format::Json {
        return print_json(&json!({ "file": file, "exists": exists }));
    }
    if !exists {
        let folder = path.parent().unwrap_or(&path).display();
        eprintln!(
            "it is not there; `mkdir -p {folder} && groovebox config default > {file}` makes one to \
             begin with"
        );
    }
    print_lines(&[file])
}

/// The settings, if a daemon would take them. Before one is started, too: it does not know any
/// more where its output was named.
pub(super) fn sound(flags: Flags) -> Result<Shown, Failure> {
    let shown = config::show(flags)?;
    // What an output may be called is known to the part that opens it.
    let output = shown.settings.iter().find(|setting| setting.key == "audio.output");
    if let Some(output) = output
        && let Err(error) = output.value.parse::<OutputChoice>()
    {
        let ShownSetting { key, value, source } = output;
        return Err(Failure::Usage(format!("{source}: {key} = {value:?} cannot be used: {error}")));
    }
    Ok(shown)
}
