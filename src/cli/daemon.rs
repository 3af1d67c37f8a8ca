//! `groovebox daemon`: resolves the settings and hands over to the daemon.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::config::sound;
use super::failure::{Exit, Failure};
use super::{Global, Programs};
use crate::config::{self, Flags, LogFormat};

#[derive(Args, Debug)]
pub(super) struct DaemonArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where key, room and queue are kept
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where fetched audio is kept
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// What this device is called [default: the host's name]
    #[arg(long)]
    name: Option<String>,
    /// The person whose device this is; a key is made for them if they have none here yet
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Use this address only
    #[arg(long, value_name = "ADDR")]
    bind: Option<IpAddr>,
    /// UDP port for other devices; 0 lets the system choose [default: 4766]
    #[arg(long)]
    port: Option<u16>,
    /// TCP port of the web page, which does not exist yet [default: 4766]
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,
    /// Where the sound goes: default, a device of `groovebox outputs`, null, `file:PATH`
    #[arg(long)]
    output: Option<String>,
    /// Neither announce this device nor look for others
    #[arg(long)]
    no_mdns: bool,
    /// Connect to this device besides those found; may be repeated; comes in place of the settings' `peers`
    #[arg(long = "peer", value_name = "HOST:PORT")]
    peers: Vec<String>,
    /// How log lines are written: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Where the null output writes what it was given
    #[arg(long, value_name = "FILE", hide = true)]
    record: Option<PathBuf>,
}

pub(super) fn run(
    args: DaemonArgs,
    global: Global,
    programs: Programs,
) -> Result<ExitCode, Failure> {
    let flags = flags(args, global);
    sound(flags.clone())?;
    let settings = config::load(flags)?;
    (programs.daemon)(settings).map_err(Failure::Program)?;
    Ok(Exit::Ok.into())
}

fn flags(args: DaemonArgs, global: Global) -> Flags {
    Flags {
        log: log(&global),
        log_format: args.log_format,
        config: args.config,
        state_dir: args.state_dir,
        cache_dir: args.cache_dir,
        socket: global.socket,
        name: args.name,
        user: args.user,
        bind: args.bind,
        port: args.port,
        http_port: args.http_port,
        output: args.output,
        mdns: args.no_mdns.then_some(false),
        peers: args.peers,
        record: args.record,
    }
}

/// The log filter that `-v` and `-q` mean; none if neither is there.
pub(super) fn log(global: &Global) -> Option<String> {
    let filter = match (global.quiet, global.verbose) {
        (true, _) => "warn",
        (false, 0) => return None,
        (false, 1) => "info,groovebox=debug",
        (false, _) => "info,groovebox=trace",
    };
    Some(filter.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Arguments, Verb};
    use super::*;

    fn flags_of(line: &str) -> Flags {
        let words = line.split_whitespace();
        let arguments = Arguments::try_parse_from(words).expect("well formed");
        let Verb::Daemon(args) = arguments.verb else { panic!("another verb") };
        flags(args, arguments.global)
    }

    #[test]
    fn every_flag_reaches_the_settings() {
        let flags = flags_of(
            "groovebox daemon --config c --state-dir s --cache-dir k --socket x --name n --user u \
             --bind 127.0.0.1 --port 0 --http-port 1 --output null --no-mdns --peer a:1 --peer b:2 \
             --record r --log-format json -v",
        );
        let expected = Flags {
            config: Some("c".into()),
            state_dir: Some("s".into()),
            cache_dir: Some("k".into()),
            socket: Some("x".into()),
            name: Some("n".to_owned()),
            user: Some("u".to_owned()),
            bind: Some(IpAddr::from([127, 0, 0, 1])),
            port: Some(0),
            http_port: Some(1),
            output: Some("null".to_owned()),
            mdns: Some(false),
            peers: vec!["a:1".to_owned(), "b:2".to_owned()],
            log: Some("info,groovebox=debug".to_owned()),
            log_format: Some(LogFormat::Json),
            record: Some("r".into()),
        };
        assert_eq!(flags, expected);
        assert_eq!(flags_of("groovebox daemon"), Flags::default());
    }
}
