//! Settings: flags > `GROOVEBOX_*` > configuration file > defaults, resolved once into checked
//! types.
//!
//! | file | what |
//! |---|---|
//! | this one | [`Settings`], and the order of the layers |
//! | `layer` | one layer: what flags, variables or a file say, each value with its source |
//! | `file` | the TOML file: its keys, and errors with line, excerpt and hint |
//! | `paths` | where things live when nobody says |
//! | `show` | every setting with where it comes from |
//! | `check` | ranges and shapes |
//!
//! [`resolve`] is pure: flags, variables and the file's text are handed in. Only [`load`] looks
//! at the machine. Nothing here is re-read while a daemon runs, and nothing is created: who
//! needs a directory makes it.

mod check;
mod error;
mod file;
mod layer;
mod paths;
mod show;

use std::ffi::OsString;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use error::{ConfigError, Source};
pub use layer::Flags;
pub use paths::socket_candidates;
pub use show::{Shown, ShownSetting, file, show};

use crate::engine::election::Coordinate;
use layer::{Given, Layer};

/// The file that explains every setting and states its default.
pub const EXAMPLE: &str = include_str!("../../config/groovebox.toml");

/// UDP port of the QUIC endpoint unless told otherwise.
pub const DEFAULT_PORT: u16 = 4766;

/// TCP port of the web page unless told otherwise.
pub const DEFAULT_HTTP_PORT: u16 = 4766;

/// What `audio.buffer_ms` may be. Below it a busy machine runs dry, above it a pause is felt.
pub const BUFFER_MS: RangeInclusive<i64> = 20..=1000;

/// What `audio.trim_ms` may be: half a second covers television sets and Bluetooth.
pub const TRIM_MS: RangeInclusive<i64> = -500..=500;

/// What `storage.cache_mb` may be; 0 is a share of the disk.
pub const CACHE_MB: RangeInclusive<i64> = 0..=10_000_000;

/// Addresses of peers that may be named: more than a house has devices of one kind.
pub const MAX_PEERS: usize = 64;

/// Everything a daemon is told at its start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The file that was read, if there was one.
    pub config: Option<PathBuf>,
    /// What must survive: key, room, queue.
    pub state_dir: PathBuf,
    /// What may be lost: fetched audio.
    pub cache_dir: PathBuf,
    /// How much fetched audio is kept, MB; see [`CACHE_MB`]. Default 0: by the disk.
    pub cache_mb: u32,
    /// The Unix socket that people and programs talk to.
    pub socket: PathBuf,
    /// What this device is called, 1 to 64 characters. By default the host's name.
    pub name: String,
    /// The person whose device it is; none leaves that as it was.
    pub user: Option<Person>,
    /// The one address to use; none is every address of the machine.
    pub bind: Option<IpAddr>,
    /// UDP port of the QUIC endpoint.
    pub port: Port,
    /// TCP port of the web page. Checked, not yet listened on.
    pub http_port: u16,
    /// Where the sound goes, as it was written; `audio` knows what it means.
    pub output: String,
    /// Audio handed to the device ahead of its sounding, ms; see [`BUFFER_MS`]. More survives
    /// a busier machine, less reacts faster. Default 80.
    pub buffer_ms: u32,
    /// Added to the device's own latency, ms; see [`TRIM_MS`]. Positive if this device sounds
    /// late by that much. Default 0.
    pub trim_ms: i32,
    /// Whether the music goes on by itself after the whole house was dark for less than a
    /// minute. Default false: it waits, paused, where it stopped.
    pub resume: bool,
    /// Whether to announce and search on the network.
    pub mdns: bool,
    /// Peers to dial besides those found: `host:port`.
    pub peers: Vec<String>,
    /// Whether this device is to coordinate its room.
    pub coordinate: Coordinate,
    /// What is logged, in the syntax of `tracing_subscriber`'s `EnvFilter`.
    pub log: String,
    /// How it is written.
    pub log_format: LogFormat,
    /// Where the null output writes what it was given; for measurements.
    pub record: Option<PathBuf>,
}

/// How log lines are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// Lines for people; entries with fields where standard error is systemd's journal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<LogFormat, String> {
        let all = [LogFormat::Text, LogFormat::Json];
        let found = all.into_iter().find(|format| format.as_str() == text);
        found.ok_or_else(|| "write text or json".to_owned())
    }
}

/// A person as the settings name them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Person {
    /// What they ask to be called.
    pub name: String,
    /// As they want to be called; none leaves that as it was.
    pub display: Option<String>,
}

/// A port and how firmly it was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    /// Nobody asked: another one will do if this one is taken.
    Preferred(u16),
    /// Somebody asked: if it is taken, that is an error. 0 lets the system choose.
    Exactly(u16),
}

impl Port {
    /// The number.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Port::Preferred(number) | Port::Exactly(number) => number,
        }
    }
}

/// What the machine says about itself.
pub struct Surroundings<'a> {
    /// Looks up an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// The home directory, if there is one.
    pub home: Option<PathBuf>,
    /// Whether the process is the superuser's.
    pub root: bool,
    /// The host's name.
    pub host_name: String,
}

/// A configuration file that was read.
#[derive(Clone, Copy, Debug)]
pub struct FileText<'a> {
    /// Where it is; relative paths in it start at its directory.
    pub path: &'a Path,
    /// What it says.
    pub text: &'a str,
}

/// Reads the environment and the configuration file and resolves.
///
/// # Errors
///
/// A file that was asked for and cannot be read, or a value that makes no sense.
pub fn load(flags: Flags) -> Result<Settings, ConfigError> {
    let env = |name: &str| std::env::var_os(name);
    let around = Surroundings::of_this_machine(&env);
    let path = paths::config_file(&flags, &around);
    match read_file(&path)? {
        Some(text) => {
            let file = FileText { path: path.path(), text: &text };
            resolve(flags, &around, Some(file))
        }
        None => resolve(flags, &around, None),
    }
}

/// Merges the layers and checks the values.
///
/// # Errors
///
/// The first value that makes no sense, with its source.
pub fn resolve(
    flags: Flags,
    around: &Surroundings<'_>,
    file: Option<FileText<'_>>,
) -> Result<Settings, ConfigError> {
    let config = file.map(|file| file.path.to_owned());
    settle(merge(flags, around, file)?, around, config)
}

/// The layers, each over the one below.
fn merge(
    flags: Flags,
    around: &Surroundings<'_>,
    file: Option<FileText<'_>>,
) -> Result<Layer, ConfigError> {
    let from_file = match file {
        Some(file) => file::parse(file)?,
        None => Layer::default(),
    };
    Ok(Layer::from_flags(flags).or(Layer::from_env(around)?).or(from_file))
}

/// Checks what the layers say and fills in what none of them says.
fn settle(
    layer: Layer,
    around: &Surroundings<'_>,
    config: Option<PathBuf>,
) -> Result<Settings, ConfigError> {
    let plain = |given: Option<Given<PathBuf>>| given.map(|given| given.value);
    let state_dir = match plain(layer.state_dir) {
        Some(path) => path,
        None => paths::state_dir(around)?,
    };
    let cache_dir = match plain(layer.cache_dir) {
        Some(path) => path,
        None => paths::cache_dir(around)?,
    };
    Ok(Settings {
        config,
        socket: plain(layer.socket).unwrap_or_else(|| paths::socket(around, &state_dir)),
        state_dir,
        cache_dir,
        name: check::name(layer.name)?.unwrap_or_else(|| around.host_name.clone()),
        user: check::person(layer.user, layer.display)?,
        bind: layer.bind.map(|given| given.value),
        port: match check::within(layer.port, &check::PORT)? {
            Some(number) => Port::Exactly(number),
            None => Port::Preferred(DEFAULT_PORT),
        },
        http_port: check::within(layer.http_port, &check::HTTP_PORT)?.unwrap_or(DEFAULT_HTTP_PORT),
        output: layer.output.map_or_else(|| "default".to_owned(), |given| given.value),
        buffer_ms: check::within(layer.buffer_ms, &check::BUFFER)?.unwrap_or(80),
        trim_ms: check::within(layer.trim_ms, &check::TRIM)?.unwrap_or(0),
        cache_mb: check::within(layer.cache_mb, &check::CACHE)?.unwrap_or(0),
        resume: layer.resume.is_some_and(|given| given.value),
        mdns: layer.mdns.is_none_or(|given| given.value),
        peers: check::peers(layer.peers)?,
        coordinate: layer.coordinate.map_or(Coordinate::Auto, |given| given.value),
        log: check::log(layer.log)?.unwrap_or_else(|| "info".to_owned()),
        log_format: layer.log_format.map_or(LogFormat::Text, |given| given.value),
        record: plain(layer.record),
    })
}

/// The file's text; none if it does not exist and nobody asked for it by name.
fn read_file(path: &paths::ConfigFile) -> Result<Option<String>, ConfigError> {
    match (std::fs::read_to_string(path.path()), path) {
        (Ok(text), _) => Ok(Some(text)),
        (Err(error), paths::ConfigFile::Usual(_))
            if error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(None)
        }
        (Err(error), _) => Err(ConfigError::Read { path: path.path().to_owned(), error }),
    }
}

impl<'a> Surroundings<'a> {
    /// Looks at this machine.
    #[must_use]
    pub fn of_this_machine(env: &'a dyn Fn(&str) -> Option<OsString>) -> Surroundings<'a> {
        Surroundings {
            env,
            home: etcetera::home_dir().ok(),
            root: paths::is_root(),
            host_name: paths::host_name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn resolve_with(
        flags: Flags,
        variables: &[(&str, &str)],
        file: Option<&str>,
    ) -> Result<Settings, ConfigError> {
        let variables: BTreeMap<String, OsString> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
        let env = |name: &str| variables.get(name).cloned();
        let around = Surroundings {
            env: &env,
            home: Some("/home/anna".into()),
            root: false,
            host_name: "kitchen".to_owned(),
        };
        let path = Path::new("/etc/groovebox/groovebox.toml");
        resolve(flags, &around, file.map(|text| FileText { path, text }))
    }

    fn error_of(variables: &[(&str, &str)], file: Option<&str>) -> String {
        let flags = Flags::default();
        resolve_with(flags, variables, file).expect_err("must be refused").to_string()
    }

    /// The example with every setting made active.
    fn uncommented_example() -> String {
        let active = |line: &str| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase()) => {
                setting.to_owned()
            }
            _ => line.to_owned(),
        };
        EXAMPLE.lines().map(active).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn told_nothing_it_takes_the_documented_defaults() {
        let settings = resolve_with(Flags::default(), &[], None).expect("defaults are valid");
        assert_eq!(
            settings,
            Settings {
                config: None,
                state_dir: "/home/anna/.local/state/groovebox".into(),
                cache_dir: "/home/anna/.cache/groovebox".into(),
                socket: "/home/anna/.local/state/groovebox/groovebox.sock".into(),
                name: "kitchen".to_owned(),
                user: None,
                bind: None,
                port: Port::Preferred(4766),
                http_port: 4766,
                output: "default".to_owned(),
                buffer_ms: 80,
                trim_ms: 0,
                cache_mb: 0,
                resume: false,
                mdns: true,
                peers: Vec::new(),
                coordinate: Coordinate::Auto,
                log: "info".to_owned(),
                log_format: LogFormat::Text,
                record: None,
            }
        );
    }

    #[test]
    fn flags_beat_variables_beat_the_file_beats_defaults() {
        let file = Some("[network]\nport = 1\nhttp_port = 2\n[node]\nname = 'file'\n");
        let variables = [("GROOVEBOX_PORT", "3"), ("GROOVEBOX_NAME", "variable")];
        let flags = Flags { name: Some("flag".to_owned()), ..Flags::default() };
        let settings = resolve_with(flags, &variables, file).expect("valid");
        assert_eq!(settings.name, "flag");
        assert_eq!(settings.port, Port::Exactly(3));
        assert_eq!(settings.http_port, 2);
        assert_eq!(settings.buffer_ms, 80);
    }

    #[test]
    fn the_example_says_the_defaults() {
        let plain = resolve_with(Flags::default(), &[], None).expect("valid");
        let untouched = resolve_with(Flags::default(), &[], Some(EXAMPLE)).expect("valid");
        let all = resolve_with(Flags::default(), &[], Some(&uncommented_example())).expect("valid");
        let but_config = |settings: Settings| Settings { config: None, ..settings };
        assert_eq!(but_config(untouched), plain);
        assert_eq!(all.port, Port::Exactly(DEFAULT_PORT));
        assert_eq!(Settings { port: plain.port, ..but_config(all) }, plain);
    }

    #[test]
    fn the_example_has_every_key() {
        let example: toml::Table = toml::from_str(&uncommented_example()).expect("valid TOML");
        let sections: Vec<&String> = example.keys().collect();
        assert_eq!(sections.len(), file::expected_keys("zzz = 1").len());
        for section in sections {
            let mut keys: Vec<String> =
                example[section].as_table().expect("a section").keys().cloned().collect();
            let mut expected = file::expected_keys(&format!("[{section}]\nzzz = 1"));
            keys.sort();
            expected.sort();
            assert_eq!(keys, expected, "[{section}]");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_file_line_and_hint() {
        let text = error_of(&[], Some("[network]\nmdns = true\nprot = 4766\n"));
        assert_eq!(
            text,
            "/etc/groovebox/groovebox.toml:3: unknown key `prot` in [network]\n  |\n3 | prot = 4766\n  \
             | ^^^^\nhelp: did you mean `port`?"
        );
        let text = error_of(&[], Some("[netwrk]\nport = 1\n"));
        assert!(text.contains("unknown section [netwrk]"), "{text}");
        assert!(text.contains("did you mean [network]?"), "{text}");
        let text = error_of(&[], Some("[audio]\nquux = 1\n"));
        assert!(text.contains("help: known are `output`"), "{text}");
    }

    #[test]
    fn a_key_in_the_wrong_section_is_sent_to_the_right_one() {
        let text = error_of(&[], Some("port = 1\n"));
        assert!(text.contains("`port` belongs into [network]"), "{text}");
        let text = error_of(&[], Some("[audio]\nname = 'x'\n"));
        assert!(text.contains("`name` belongs into [node]"), "{text}");
    }

    #[test]
    fn a_wrong_value_names_where_it_came_from() {
        let text = error_of(&[("GROOVEBOX_PORT", "70000")], None);
        let expected = "GROOVEBOX_PORT: network.port = 70000 is out of its range, 0 to 65535";
        assert_eq!(text, expected);
        let text = error_of(&[("GROOVEBOX_TRIM_MS", "late")], None);
        let expected = "GROOVEBOX_TRIM_MS: audio.trim_ms = \"late\" is no whole number; it takes \
                        -500 to 500 ms";
        assert_eq!(text, expected);
        let text = error_of(&[], Some("[room]\ncoordinate = 'always'\n"));
        assert!(
            text.contains("groovebox.toml:2: room.coordinate = \"always\" is no way to coordinate"),
            "{text}"
        );
        let text = error_of(&[], Some("[log]\nformat = 'xml'\n"));
        assert!(
            text.contains("groovebox.toml:2: log.format = \"xml\" is no format of the log"),
            "{text}"
        );
        let text = error_of(&[("GROOVEBOX_LOG_FORMAT", "JSON")], None);
        assert!(text.starts_with("GROOVEBOX_LOG_FORMAT: log.format = \"JSON\""), "{text}");
        let text = error_of(&[("GROOVEBOX_MDNS", "maybe")], None);
        assert!(text.starts_with("GROOVEBOX_MDNS: network.mdns = \"maybe\""), "{text}");
        let text = error_of(&[], Some("[audio]\n\nbuffer_ms = 5\n"));
        assert!(text.starts_with("/etc/groovebox/groovebox.toml:3: audio.buffer_ms = 5 is"));
        assert!(text.ends_with("20 to 1000 ms"), "{text}");
        let flags = Flags { peers: vec!["nowhere".to_owned()], ..Flags::default() };
        let text = resolve_with(flags, &[], None).expect_err("no port").to_string();
        assert!(text.starts_with("--peer: network.peers: \"nowhere\" is no host:port"), "{text}");
    }

    #[test]
    fn a_person_is_named_by_flag_variable_or_file() {
        let person = |variables: &[(&str, &str)], file: Option<&str>| {
            resolve_with(Flags::default(), variables, file).expect("valid").user
        };
        let anna = |display: Option<&str>| {
            Some(Person { name: "anna".to_owned(), display: display.map(str::to_owned) })
        };
        let file = "[user]\nname = 'anna'\ndisplay = 'Änne'\n";
        assert_eq!(person(&[], Some(file)), anna(Some("Änne")));
        assert_eq!(person(&[("GROOVEBOX_USER", " anna ")], None), anna(None));
        let flags = Flags { user: Some("anna".to_owned()), ..Flags::default() };
        let settings = resolve_with(flags, &[("GROOVEBOX_USER", "ben")], None).expect("valid");
        assert_eq!(settings.user, anna(None));
        let text = error_of(&[("GROOVEBOX_USER", "Anna B")], None);
        assert!(
            text.starts_with("GROOVEBOX_USER: user.name = \"Anna B\" is no name of a person"),
            "{text}"
        );
        let text = error_of(&[], Some("[user]\ndisplay = 'Änne'\n"));
        assert!(text.contains("groovebox.toml:2: user.display without user.name"), "{text}");
    }

    #[test]
    fn values_of_the_wrong_type_and_broken_toml_show_their_line() {
        let text = error_of(&[], Some("[network]\nport = \"x\"\n"));
        assert!(text.contains("groovebox.toml:2:") && text.contains("port = \"x\""), "{text}");
        let text = error_of(&[], Some("[network\n"));
        assert!(text.contains("groovebox.toml:1:"), "{text}");
        let text = error_of(&[], Some("[network]\nbind = 'kitchen'\n"));
        assert!(
            text.contains("groovebox.toml:2: network.bind = \"kitchen\" is no IP address"),
            "{text}"
        );
    }

    #[test]
    fn a_value_of_the_wrong_type_or_range_is_told_with_its_key_and_what_it_takes() {
        let cases = [
            ("[network]\nport = 70000", "network.port = 70000 is out of its range, 0 to 65535"),
            ("[network]\nhttp_port = -1", "network.http_port = -1 is out of its range, 0 to 65535"),
            ("network.port = 'x'", "network.port = 'x' is no whole number; it takes 0 to 65535"),
            ("[audio]\ntrim_ms = 4.5", "audio.trim_ms = 4.5 is no whole number; it takes -500 to"),
            (
                "[audio]\nbuffer_ms = 99999999999999999999",
                "9999 is out of its range, 20 to 1000 ms",
            ),
            ("[network]\nmdns = 'yes'", "network.mdns = 'yes' is neither true nor false"),
            ("[node]\nname = 5", "node.name = 5 is no text; write it in quotes"),
            ("[api]\nsocket = true", "api.socket = true is no text; write it in quotes"),
            ("[network]\npeers = 'a:1'", "network.peers = 'a:1' is no list; write [\"...\", ...]"),
            ("network = 5", "`network` is a section; write [network] above its settings"),
        ];
        for (file, expected) in cases {
            let text = error_of(&[], Some(file));
            assert!(text.contains(expected), "{file}: {text}");
            for word in ["i64", "u16", "i128", "struct"] {
                assert!(!text.contains(word), "{file}: {text}");
            }
        }
    }

    #[test]
    fn limits_are_inclusive() {
        for (value, fine) in [(19, false), (20, true), (1000, true), (1001, false)] {
            let text = format!("[audio]\nbuffer_ms = {value}");
            assert_eq!(resolve_with(Flags::default(), &[], Some(&text)).is_ok(), fine, "{value}");
        }
        for (value, fine) in [(-501, false), (-500, true), (500, true), (501, false)] {
            let settings = [("GROOVEBOX_TRIM_MS", &*value.to_string())]
                .map(|pair| resolve_with(Flags::default(), &[pair], None));
            assert_eq!(settings[0].is_ok(), fine, "{value}");
        }
    }

    /// The files beside the example that show a device of real life.
    #[test]
    fn the_examples_of_real_life_are_valid_and_say_what_differs() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).expect("the folder") {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&path).expect("a text");
            let settings = resolve_with(Flags::default(), &[], Some(&text))
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let plain = resolve_with(Flags::default(), &[], None).expect("valid");
            let settings = Settings { config: None, ..settings };
            assert_eq!(settings == plain, text == EXAMPLE, "{}", path.display());
            seen += 1;
        }
        assert_eq!(seen, 3);
    }

    #[test]
    fn an_empty_variable_says_nothing() {
        let settings = resolve_with(Flags::default(), &[("GROOVEBOX_NAME", "")], None);
        assert_eq!(settings.expect("valid").name, "kitchen");
    }

    #[test]
    fn peers_come_from_a_list() {
        let variables = [("GROOVEBOX_PEERS", "10.0.0.2:4766, [fe80::1]:4766")];
        let settings = resolve_with(Flags::default(), &variables, None).expect("valid");
        assert_eq!(settings.peers, ["10.0.0.2:4766", "[fe80::1]:4766"]);
    }

    #[test]
    fn relative_paths_of_the_file_start_at_the_file() {
        let file = Some("[storage]\nstate_dir = 'state'\n");
        let settings = resolve_with(Flags::default(), &[], file).expect("valid");
        assert_eq!(settings.state_dir, Path::new("/etc/groovebox/state"));
    }

    #[test]
    fn a_file_asked_for_by_name_must_exist() {
        let flags = Flags { config: Some("/nonexistent/g.toml".into()), ..Flags::default() };
        let text = load(flags).expect_err("no such file").to_string();
        assert!(text.starts_with("cannot read /nonexistent/g.toml"), "{text}");
    }
}
