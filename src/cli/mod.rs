//! The command line: one file per command, each a client of the local interface like any
//! other program. Data goes to standard output, talk to standard error.
//!
//! | file | what |
//! |---|---|
//! | this one | the verbs, and which function each is |
//! | `session` | what every command is handed: the connection and where to write |
//! | `client` | HTTP and live events over the Unix socket |
//! | `watch` | redraw while something changes |
//! | `confirm` | ask whether it is meant |
//! | `doctor` | what is wrong, and how to mend it |
//! | `top` | the room on a full screen |
//! | `feed` | `watch`: what happens, line by line |
//! | `live` | the table of synchronisation, also for the demonstration |
//! | `progress` | a line while something takes long |
//! | `screen`, `table`, `text` | terminal, columns, units |
//! | `completions`, `man` | for shells, for `man`: made from the declarations below |
//! | `failure` | what can go wrong, and the exit codes |
//!
//! Nothing here keeps state or decides anything about a room; `daemon` is handed over to the
//! [`Programs`] that `main` brings. `demo` starts daemons as a person would.

mod chat;
mod client;
mod completions;
mod config;
mod confirm;
mod daemon;
mod demo;
mod dj;
mod doctor;
mod failure;
mod feed;
mod friend;
mod history;
mod invite;
mod live;
mod log;
mod man;
mod mute;
mod outputs;
mod pair;
mod password;
mod peers;
mod play;
mod progress;
mod queue;
mod resync;
mod room;
mod rooms;
mod screen;
mod seek;
mod session;
mod status;
mod sync;
mod table;
mod text;
mod top;
mod transport;
mod user;
mod version;
mod volume;
mod vote;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::config::Settings;

use failure::{Exit, Failure};
use session::{Format, Session};
use transport::Transport;

/// What the command line starts but does not contain.
#[derive(Clone, Copy)]
pub struct Programs {
    /// Runs a daemon until it is told to stop.
    pub daemon: fn(Settings) -> anyhow::Result<()>,
}

/// One song, all speakers: turns the devices on one network into one loudspeaker.
#[derive(Parser, Debug)]
#[command(name = "groovebox", version, after_help = Exit::table())]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args, Debug)]
struct Global {
    /// The daemon's socket [default: `GROOVEBOX_SOCKET`, else the session's, else the system's]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Write JSON for programs
    #[arg(long, global = true)]
    json: bool,
    /// Answer once what was ordered would survive a power cut of the whole house
    #[arg(long, global = true)]
    durable: bool,
    /// Say more; twice, everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Say only what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Run the daemon on this device
    Daemon(daemon::DaemonArgs),
    /// Show the room, what plays, and the devices
    Status(watch::WatchArgs),
    /// Show how well each device follows the room's clock
    Sync(watch::WatchArgs),
    /// List the devices this one knows
    Peers(watch::WatchArgs),
    /// List the rooms in reach, and those that this device was in
    Rooms(watch::WatchArgs),
    /// Make an invite: who has it comes into the room without the password
    Invite(invite::InviteArgs),
    /// Create, join, lock, leave or show a room; its rules, and who is in it
    #[command(subcommand)]
    Room(room::RoomVerb),
    /// Show or say whose device this is
    #[command(subcommand)]
    User(user::UserVerb),
    /// Show who is DJ, or change it
    Dj(dj::DjArgs),
    /// Show, call and cast votes
    Vote(vote::VoteArgs),
    /// Show what happens in the room, line by line
    Watch,
    /// Show the room on a full screen, with keys for the common acts
    Top,
    /// Say something to the room, or read what was said
    Chat(chat::ChatArgs),
    /// Play files or folders now; without any, go on
    Play(play::PlayArgs),
    /// Pause
    Pause,
    /// Go on where it was paused, or begin with the queue
    Resume,
    /// Pause if it plays, else go on
    Toggle,
    /// Stop
    Stop,
    /// On to the next entry of the queue
    Next,
    /// Back to the beginning of the track, or to the one before
    Prev,
    /// Go to a place in the track
    Seek(seek::SeekArgs),
    /// Show or change what comes next
    Queue(queue::QueueArgs),
    /// Show or set how loud it is
    Volume(volume::VolumeArgs),
    /// Silence a device, or let it sound again
    Mute(mute::MuteArgs),
    /// Show what was played
    History(history::HistoryArgs),
    /// Show what was done in the room, and what was left out when two halves of it met
    Log(log::LogArgs),
    /// Give devices the coordinator's state anew
    Resync(resync::ResyncArgs),
    /// Friends: list, search, add, accept, reject, remove
    Friend {
        #[command(subcommand)]
        verb: Option<friend::FriendVerb>,
    },
    /// List where this device's sound can go, or try one
    Outputs(outputs::OutputsArgs),
    /// Say what is wrong with network, clock, sound or disk, and how to mend it
    Doctor(doctor::DoctorArgs),
    /// Settings: whether a file makes sense, what holds and why
    #[command(subcommand)]
    Config(config::ConfigVerb),
    /// Three daemons on this machine play a song together
    Demo(demo::DemoArgs),
    /// Write what a shell needs to complete commands and flags
    Completions(completions::CompletionsArgs),
    /// Write the manual pages
    Man(man::ManArgs),
    /// Show the versions of this program and of the daemon
    Version,
}

/// Understands the command line and does what it says.
#[must_use]
pub fn run(programs: Programs) -> ExitCode {
    run_with(std::env::args_os(), programs)
}

fn run_with(arguments: impl IntoIterator<Item = OsString>, programs: Programs) -> ExitCode {
    let arguments = arguments.into_iter().collect::<Vec<OsString>>();
    let arguments = match Arguments::try_parse_from(&arguments) {
        Ok(arguments) => arguments,
        Err(refused) => return say_usage(&refused, Format::of(asks_for_json(&arguments))),
    };
    let json = arguments.global.json;
    match dispatch(arguments, programs) {
        Ok(code) => code,
        Err(failure) => {
            failure.tell(json);
            failure.exit().into()
        }
    }
}

/// What was not understood as a whole may still say how it wants to be answered.
fn asks_for_json(arguments: &[OsString]) -> bool {
    arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json")
}

/// Help and version are no mistakes: they go to standard output and succeed.
fn say_usage(refused: &clap::Error, format: Format) -> ExitCode {
    let _the_reader_may_be_gone = refused.print();
    if !refused.use_stderr() {
        return Exit::Ok.into();
    }
    if let (Format::Json, Ok(text)) = (format, failure::misused(refused)) {
        let _nobody_may_listen = session::print_lines(&[text]);
    }
    Exit::Usage.into()
}

fn dispatch(arguments: Arguments, programs: Programs) -> Result<ExitCode, Failure> {
    let Arguments { global, verb } = arguments;
    match verb {
        Verb::Daemon(daemon) => daemon::run(daemon, global, programs),
        Verb::Demo(demo) => demo::run(&demo, &global),
        Verb::Config(verb) => config::run(verb, global),
        Verb::Completions(args) => Ok(completions::run(&args, Format::of(global.json))?.into()),
        Verb::Man(args) => Ok(man::run(&args, Format::of(global.json))?.into()),
        verb => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| Failure::Program(error.into()))?;
            let mut session = Session::new(&global);
            Ok(runtime.block_on(ask(verb, &mut session))?.into())
        }
    }
}

/// The commands that ask a daemon.
async fn ask(verb: Verb, session: &mut Session) -> Result<Exit, Failure> {
    let done = match verb {
        Verb::Doctor(args) => return doctor::run(args, session).await,
        Verb::Daemon(_) | Verb::Demo(_) | Verb::Config(_) | Verb::Completions(_) | Verb::Man(_) => {
            unreachable!("they are done already")
        }
        Verb::Status(args) => status::run(&args, session).await,
        Verb::Sync(args) => sync::run(&args, session).await,
        Verb::Peers(args) => peers::run(&args, session).await,
        Verb::Rooms(args) => rooms::run(&args, session).await,
        Verb::Room(verb) => room::run(verb, session).await,
        Verb::Invite(args) => invite::run(&args, session).await,
        Verb::User(verb) => user::run(verb, session).await,
        Verb::Dj(args) => dj::run(args, session).await,
        Verb::Vote(args) => vote::run(args, session).await,
        Verb::Chat(args) => chat::run(&args, session).await,
        Verb::Watch => feed::run(session).await,
        Verb::Top => top::run(session).await,
        Verb::Play(args) => play::run(args, session).await,
        Verb::Pause => transport::run(Transport::Pause, session).await,
        Verb::Resume => transport::run(Transport::Resume, session).await,
        Verb::Toggle => transport::run(Transport::Toggle, session).await,
        Verb::Stop => transport::run(Transport::Stop, session).await,
        Verb::Next => transport::run(Transport::Next, session).await,
        Verb::Prev => transport::run(Transport::Prev, session).await,
        Verb::Seek(args) => seek::run(&args, session).await,
        Verb::Queue(args) => queue::run(args, session).await,
        Verb::Volume(args) => volume::run(args, session).await,
        Verb::Mute(args) => mute::run(args, session).await,
        Verb::History(args) => history::run(&args, session).await,
        Verb::Log(args) => log::run(&args, session).await,
        Verb::Resync(args) => resync::run(args, session).await,
        Verb::Friend { verb } => friend::run(verb, session).await,
        Verb::Outputs(args) => outputs::run(args, session).await,
        Verb::Version => version::run(session).await,
    };
    done.map(|()| Exit::Ok)
}

#[cfg(test)]
mod tests;
