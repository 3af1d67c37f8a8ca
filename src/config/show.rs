//! Every setting with where it comes from, for people.

use std::path::{Path, PathBuf};

use super::error::{ConfigError, Source};
use super::layer::{Given, Layer};
use super::{FileText, Flags, Settings, Surroundings, merge, paths, read_file, settle};
use crate::engine::election::Coordinate;

/// What a daemon that is started now would go by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// The file that it reads.
    pub file: PathBuf,
    /// Whether that is there.
    pub exists: bool,
    /// All settings, in the order of the example.
    pub settings: Vec<ShownSetting>,
}

/// One setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShownSetting {
    /// `section.key`.
    pub key: &'static str,
    /// As it would be written into the file; empty where the machine decides later.
    pub value: String,
    /// A flag, a variable, a line of the file, or `default`.
    pub source: String,
}

/// The file that a daemon with these flags reads, and whether it is there.
#[must_use]
pub fn file(flags: &Flags) -> (PathBuf, bool) {
    let env = |name: &str| std::env::var_os(name);
    let around = Surroundings::of_this_machine(&env);
    let path = paths::config_file(flags, &around).path().to_owned();
    let exists = path.exists();
    (path, exists)
}

/// Reads what [`load`](super::load) reads, and tells where each value comes from.
///
/// # Errors
///
/// As [`load`](super::load).
pub fn show(flags: Flags) -> Result<Shown, ConfigError> {
    let env = |name: &str| std::env::var_os(name);
    let around = Surroundings::of_this_machine(&env);
    let path = paths::config_file(&flags, &around);
    let text = read_file(&path)?;
    let file = text.as_deref().map(|text| FileText { path: path.path(), text });
    let settings = shown(flags, &around, file)?;
    Ok(Shown { file: path.path().to_owned(), exists: text.is_some(), settings })
}

fn shown(
    flags: Flags,
    around: &Surroundings<'_>,
    file: Option<FileText<'_>>,
) -> Result<Vec<ShownSetting>, ConfigError> {
    let merged = merge(flags, around, file)?;
    let sources = sources(&merged);
    let settings = settle(merged, around, None)?;
    let values = values(&settings);
    let row = |((key, value), (_, source))| ShownSetting { key, value, source };
    Ok(values.into_iter().zip(sources).map(row).collect())
}

fn values(settings: &Settings) -> Vec<(&'static str, String)> {
    let Settings { name, log, user, coordinate, resume, bind, port, .. } = settings;
    let Settings { http_port, mdns, peers, output, buffer_ms, trim_ms, .. } = settings;
    let Settings { state_dir, cache_dir, socket, .. } = settings;
    let person = user.as_ref();
    let display = person.and_then(|person| person.display.clone());
    let path = |path: &Path| path.display().to_string();
    vec![
        ("node.name", name.clone()),
        ("node.log", log.clone()),
        ("user.name", person.map(|person| person.name.clone()).unwrap_or_default()),
        ("user.display", display.unwrap_or_default()),
        ("room.coordinate", word_of(*coordinate).to_owned()),
        ("room.resume", resume.to_string()),
        ("network.bind", bind.map(|ip| ip.to_string()).unwrap_or_default()),
        ("network.port", port.number().to_string()),
        ("network.http_port", http_port.to_string()),
        ("network.mdns", mdns.to_string()),
        ("network.peers", peers.join(", ")),
        ("audio.output", output.clone()),
        ("audio.buffer_ms", buffer_ms.to_string()),
        ("audio.trim_ms", trim_ms.to_string()),
        ("storage.state_dir", path(state_dir)),
        ("storage.cache_dir", path(cache_dir)),
        ("api.socket", path(socket)),
    ]
}

/// In the order of [`values`].
fn sources(layer: &Layer) -> Vec<(&'static str, String)> {
    fn of<T>(given: Option<&Given<T>>) -> String {
        given.map_or_else(|| "default".to_owned(), |given| Source::to_string(&given.source))
    }
    vec![
        ("node.name", of(layer.name.as_ref())),
        ("node.log", of(layer.log.as_ref())),
        ("user.name", of(layer.user.as_ref())),
        ("user.display", of(layer.display.as_ref())),
        ("room.coordinate", of(layer.coordinate.as_ref())),
        ("room.resume", of(layer.resume.as_ref())),
        ("network.bind", of(layer.bind.as_ref())),
        ("network.port", of(layer.port.as_ref())),
        ("network.http_port", of(layer.http_port.as_ref())),
        ("network.mdns", of(layer.mdns.as_ref())),
        ("network.peers", of(layer.peers.as_ref())),
        ("audio.output", of(layer.output.as_ref())),
        ("audio.buffer_ms", of(layer.buffer_ms.as_ref())),
        ("audio.trim_ms", of(layer.trim_ms.as_ref())),
        ("storage.state_dir", of(layer.state_dir.as_ref())),
        ("storage.cache_dir", of(layer.cache_dir.as_ref())),
        ("api.socket", of(layer.socket.as_ref())),
    ]
}

fn word_of(coordinate: Coordinate) -> &'static str {
    match coordinate {
        Coordinate::Auto => "auto",
        Coordinate::Prefer => "prefer",
        Coordinate::Never => "never",
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::{EXAMPLE, file};
    use super::*;

    fn shown_with(text: &str) -> Vec<ShownSetting> {
        let env = |name: &str| (name == "GROOVEBOX_PORT").then(|| OsString::from("4800"));
        let around = Surroundings {
            env: &env,
            home: Some("/home/anna".into()),
            root: false,
            host_name: "kitchen".to_owned(),
        };
        let flags = Flags { output: Some("null".to_owned()), ..Flags::default() };
        let file = FileText { path: Path::new("/etc/g.toml"), text };
        shown(flags, &around, Some(file)).expect("sound")
    }

    #[test]
    fn every_setting_says_where_it_comes_from() {
        let shown = shown_with("[node]\n\nname = 'attic'\n");
        let of = |key: &str| {
            let setting = shown.iter().find(|setting| setting.key == key).expect("it is there");
            (setting.value.as_str(), setting.source.as_str())
        };
        assert_eq!(of("node.name"), ("attic", "/etc/g.toml:3"));
        assert_eq!(of("network.port"), ("4800", "GROOVEBOX_PORT"));
        assert_eq!(of("audio.output"), ("null", "--output"));
        assert_eq!(of("room.coordinate"), ("auto", "default"));
    }

    #[test]
    fn they_are_those_of_the_example_in_its_order() {
        let shown = shown_with("");
        let empty = Layer::default();
        let keys: Vec<&str> = shown.iter().map(|setting| setting.key).collect();
        assert_eq!(keys, sources(&empty).iter().map(|(key, _)| *key).collect::<Vec<_>>());
        let places = keys.iter().map(|key| {
            let (section, key) = key.split_once('.').expect("a section");
            let begins = EXAMPLE.find(&format!("[{section}]")).expect("a section of the example");
            begins + EXAMPLE[begins..].find(&format!("\n#{key} = ")).expect("a key of it")
        });
        assert!(places.is_sorted());
        let sections = ["node", "user", "room", "network", "audio", "storage", "api"];
        let known = sections.map(|s| file::expected_keys(&format!("[{s}]\nzzz = 1")).len());
        assert_eq!(keys.len(), known.iter().sum::<usize>());
    }
}
