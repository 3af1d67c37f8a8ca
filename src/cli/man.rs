//! `groovebox man`: manual pages, one for the program and one for each of its commands, made
//! from the same declarations as `--help`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use serde_json::json;

use super::Arguments;
use super::failure::{Exit, Failure};
use super::session::{Format, print_json};

#[derive(Args, Debug)]
pub(super) struct ManArgs {
    /// Write a page for each command into this directory; otherwise the first to standard output
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A page and the file that it belongs into.
pub(super) struct Page {
    pub(super) name: String,
    pub(super) text: String,
}

pub(super) fn run(args: &ManArgs, format: Format) -> Result<Exit, Failure> {
    let pages = pages()?;
    match &args.out {
        Some(folder) => write(&pages, folder, format)?,
        None => show(&pages, format)?,
    }
    Ok(Exit::Ok)
}

fn show(pages: &[Page], format: Format) -> Result<(), Failure> {
    let Some(first) = pages.first() else { return Ok(()) };
    match format {
        Format::Json => print_json(&json!({ "name": first.name, "page": first.text })),
        Format::Text => Ok(io::stdout().write_all(first.text.as_bytes())?),
    }
}

fn write(pages: &[Page], folder: &Path, format: Format) -> Result<(), Failure> {
    let failed = |path: &Path, error: io::Error| {
        Failure::Program(anyhow::anyhow!(
            "cannot write {}: {error}; name another directory with --out",
            path.display()
        ))
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    for page in pages {
        let path = folder.join(&page.name);
        std::fs::write(&path, &page.text).map_err(|error| failed(&path, error))?;
    }
    if format == Format::Json {
        let names = pages.iter().map(|page| page.name.as_str()).collect::<Vec<_>>();
        return print_json(&json!({ "dir": folder.display().to_string(), "pages": names }));
    }
    let (count, folder) = (pages.len(), folder.display());
    let _nobody_may_listen = writeln!(io::stderr(), "{count} pages are in {folder}");
    Ok(())
}

/// All pages; the program's own comes first.
pub(super) fn pages() -> io::Result<Vec<Page>> {
    // The table of exit codes has a section of its own on every page.
    let mut program = Arguments::command().after_help(None::<&str>).disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    collect(&program, &mut pages)?;
    Ok(pages)
}

fn collect(command: &Command, pages: &mut Vec<Page>) -> io::Result<()> {
    let man = Man::new(command.clone()).manual("GrooveBox");
    let name = man.get_filename();
    let mut text = Vec::new();
    man.render(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned() + &exit_status();
    pages.push(Page { name, text });
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        collect(verb, pages)?;
    }
    Ok(())
}

/// The table of exit codes as a section of a page (`man(7)`).
fn exit_status() -> String {
    let row = |exit: Exit| {
        // A backtick would be shown as a quotation mark.
        format!(".TP\n\\fB{}\\fR\n{}\n", exit as u8, exit.meaning().replace('`', ""))
    };
    Exit::ALL.into_iter().fold(".SH \"EXIT STATUS\"\n".to_owned(), |text, exit| text + &row(exit))
}
