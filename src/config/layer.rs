//! One layer of settings: what flags, variables or a file say, each value with its source.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use super::check::{self, Number};
use super::error::{ConfigError, Source};
use super::{LogFormat, Surroundings};
use crate::engine::election::Coordinate;

/// What the command line says; none is not said.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--state-dir`
    pub state_dir: Option<PathBuf>,
    /// `--cache-dir`
    pub cache_dir: Option<PathBuf>,
    /// `--socket`
    pub socket: Option<PathBuf>,
    /// `--name`
    pub name: Option<String>,
    /// `--user`
    pub user: Option<String>,
    /// `--bind`
    pub bind: Option<IpAddr>,
    /// `--port`
    pub port: Option<u16>,
    /// `--http-port`
    pub http_port: Option<u16>,
    /// `--output`
    pub output: Option<String>,
    /// `--no-mdns` is `Some(false)`.
    pub mdns: Option<bool>,
    /// `--peer`, as often as wanted; any of them replaces the lists of the layers below.
    pub peers: Vec<String>,
    /// `-v` and `-q`
    pub log: Option<String>,
    /// `--log-format`
    pub log_format: Option<LogFormat>,
    /// `--record`
    pub record: Option<PathBuf>,
}

/// A value and where it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Given<T> {
    pub(super) value: T,
    pub(super) source: Source,
}

impl<T> Given<T> {
    pub(super) fn refuse(&self, problem: String) -> ConfigError {
        ConfigError::Value { place: Box::new(self.source.clone()), problem }
    }
}

/// One layer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Layer {
    pub(super) state_dir: Option<Given<PathBuf>>,
    pub(super) cache_dir: Option<Given<PathBuf>>,
    pub(super) socket: Option<Given<PathBuf>>,
    pub(super) name: Option<Given<String>>,
    pub(super) user: Option<Given<String>>,
    pub(super) display: Option<Given<String>>,
    pub(super) bind: Option<Given<IpAddr>>,
    pub(super) port: Option<Given<i64>>,
    pub(super) http_port: Option<Given<i64>>,
    pub(super) output: Option<Given<String>>,
    pub(super) buffer_ms: Option<Given<i64>>,
    pub(super) trim_ms: Option<Given<i64>>,
    pub(super) cache_mb: Option<Given<i64>>,
    pub(super) resume: Option<Given<bool>>,
    pub(super) mdns: Option<Given<bool>>,
    pub(super) peers: Option<Given<Vec<String>>>,
    pub(super) coordinate: Option<Given<Coordinate>>,
    pub(super) log: Option<Given<String>>,
    pub(super) log_format: Option<Given<LogFormat>>,
    pub(super) record: Option<Given<PathBuf>>,
}

impl Layer {
    /// This layer, and where it says nothing the one below.
    pub(super) fn or(self, below: Layer) -> Layer {
        Layer {
            state_dir: self.state_dir.or(below.state_dir),
            cache_dir: self.cache_dir.or(below.cache_dir),
            socket: self.socket.or(below.socket),
            name: self.name.or(below.name),
            user: self.user.or(below.user),
            display: self.display.or(below.display),
            bind: self.bind.or(below.bind),
            port: self.port.or(below.port),
            http_port: self.http_port.or(below.http_port),
            output: self.output.or(below.output),
            buffer_ms: self.buffer_ms.or(below.buffer_ms),
            trim_ms: self.trim_ms.or(below.trim_ms),
            cache_mb: self.cache_mb.or(below.cache_mb),
            resume: self.resume.or(below.resume),
            mdns: self.mdns.or(below.mdns),
            peers: self.peers.or(below.peers),
            coordinate: self.coordinate.or(below.coordinate),
            log: self.log.or(below.log),
            log_format: self.log_format.or(below.log_format),
            record: self.record.or(below.record),
        }
    }

    pub(super) fn from_flags(flags: Flags) -> Layer {
        fn flag<T>(name: &'static str, value: Option<T>) -> Option<Given<T>> {
            value.map(|value| Given { value, source: Source::Flag(name) })
        }
        let peers = Some(flags.peers).filter(|peers| !peers.is_empty());
        Layer {
            state_dir: flag("--state-dir", flags.state_dir),
            cache_dir: flag("--cache-dir", flags.cache_dir),
            socket: flag("--socket", flags.socket),
            name: flag("--name", flags.name),
            user: flag("--user", flags.user),
            display: None,
            bind: flag("--bind", flags.bind),
            port: flag("--port", flags.port.map(i64::from)),
            http_port: flag("--http-port", flags.http_port.map(i64::from)),
            output: flag("--output", flags.output),
            buffer_ms: None,
            trim_ms: None,
            cache_mb: None,
            resume: None,
            mdns: flag("--no-mdns", flags.mdns),
            peers: flag("--peer", peers),
            coordinate: None,
            log: flag("-v/-q", flags.log),
            log_format: flag("--log-format", flags.log_format),
            record: flag("--record", flags.record),
        }
    }

    pub(super) fn from_env(around: &Surroundings<'_>) -> Result<Layer, ConfigError> {
        let text = |name| variable(around, name).map(to_text).transpose();
        Ok(Layer {
            state_dir: variable(around, "GROOVEBOX_STATE_DIR").map(to_path),
            cache_dir: variable(around, "GROOVEBOX_CACHE_DIR").map(to_path),
            socket: variable(around, "GROOVEBOX_SOCKET").map(to_path),
            name: text("GROOVEBOX_NAME")?,
            user: text("GROOVEBOX_USER")?,
            display: text("GROOVEBOX_DISPLAY")?,
            bind: bind(text("GROOVEBOX_BIND")?)?,
            port: number(text("GROOVEBOX_PORT")?, &check::PORT)?,
            http_port: number(text("GROOVEBOX_HTTP_PORT")?, &check::HTTP_PORT)?,
            output: text("GROOVEBOX_OUTPUT")?,
            buffer_ms: number(text("GROOVEBOX_BUFFER_MS")?, &check::BUFFER)?,
            trim_ms: number(text("GROOVEBOX_TRIM_MS")?, &check::TRIM)?,
            cache_mb: number(text("GROOVEBOX_CACHE_MB")?, &check::CACHE)?,
            resume: to_bool(text("GROOVEBOX_RESUME")?, "room.resume")?,
            mdns: to_bool(text("GROOVEBOX_MDNS")?, "network.mdns")?,
            peers: text("GROOVEBOX_PEERS")?.map(to_list),
            coordinate: coordinate(text("GROOVEBOX_COORDINATE")?)?,
            log: text("GROOVEBOX_LOG")?,
            log_format: log_format(text("GROOVEBOX_LOG_FORMAT")?)?,
            record: variable(around, "GROOVEBOX_RECORD").map(to_path),
        })
    }
}

/// An empty variable is not said.
fn variable(around: &Surroundings<'_>, name: &'static str) -> Option<Given<OsString>> {
    let value = (around.env)(name).filter(|value| !value.is_empty())?;
    Some(Given { value, source: Source::Variable(name) })
}

fn to_path(given: Given<OsString>) -> Given<PathBuf> {
    Given { value: given.value.into(), source: given.source }
}

fn to_text(given: Given<OsString>) -> Result<Given<String>, ConfigError> {
    match given.value.to_str() {
        Some(text) => Ok(Given { value: text.to_owned(), source: given.source }),
        None => Err(given.refuse("its value is not UTF-8".to_owned())),
    }
}

/// Parses a text that says something; `what` completes "KEY = VALUE is no …".
fn parsed<T: std::str::FromStr>(
    given: Option<Given<String>>,
    key: &str,
    what: &str,
) -> Result<Option<Given<T>>, ConfigError> {
    let Some(given) = given else { return Ok(None) };
    match given.value.trim().parse() {
        Ok(value) => Ok(Some(Given { value, source: given.source })),
        Err(_) => Err(given.refuse(format!("{key} = {:?} is no {what}", given.value))),
    }
}

/// The one address to use.
pub(super) fn bind(given: Option<Given<String>>) -> Result<Option<Given<IpAddr>>, ConfigError> {
    let what =
        "IP address; write one that this device has, as 192.168.1.20 (`ip address` shows them)";
    parsed(given, "network.bind", what)
}

fn number(
    given: Option<Given<String>>,
    number: &Number,
) -> Result<Option<Given<i64>>, ConfigError> {
    let Some(given) = given else { return Ok(None) };
    match given.value.trim().parse() {
        Ok(value) => Ok(Some(Given { value, source: given.source })),
        Err(_) => Err(given.refuse(number.no_number(&format!("{:?}", given.value)))),
    }
}

/// Whether a device is to coordinate.
pub(super) fn coordinate(
    given: Option<Given<String>>,
) -> Result<Option<Given<Coordinate>>, ConfigError> {
    parsed(given, "room.coordinate", "way to coordinate; write auto, prefer or never")
}

/// How log lines are written.
pub(super) fn log_format(
    given: Option<Given<String>>,
) -> Result<Option<Given<LogFormat>>, ConfigError> {
    parsed(given, "log.format", "format of the log; write text or json")
}

fn to_bool(given: Option<Given<String>>, key: &str) -> Result<Option<Given<bool>>, ConfigError> {
    let Some(given) = given else { return Ok(None) };
    let value = match given.value.trim() {
        "1" | "true" | "yes" | "on" => true,
        "0" | "false" | "no" | "off" => false,
        other => {
            let problem =
                format!("{key} = {other:?} is neither true (yes, on, 1) nor false (no, off, 0)");
            return Err(given.refuse(problem));
        }
    };
    Ok(Some(Given { value, source: given.source }))
}

fn to_list(given: Given<String>) -> Given<Vec<String>> {
    let items = given.value.split(',').map(str::trim).filter(|item| !item.is_empty());
    Given { value: items.map(str::to_owned).collect(), source: given.source }
}
