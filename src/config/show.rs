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
    let settings = settle(merged.clone(), around, None)?;
    Ok(rows(&merged, &settings))
}

/// In the order of the example.
fn rows(layer: &Layer, settings: &Settings) -> Vec<ShownSetting> {
    fn from<T>(given: Option<&Given<T>>) -> String {
        given.map_or_else(|| "default".to_owned(), |given| Source::to_string(&given.source))
    }
    let Settings { name, log, log_format, user, coordinate, resume, bind, port, .. } = settings;
    let Settings { http_port, mdns, peers, output, buffer_ms, trim_ms, .. } = settings;
    let Settings { state_dir, cache_dir, cache_mb, socket, .. } = settings;
    let person = user.as_ref();
    let display = person.and_then(|person| person.display.clone());
    let path = |path: &Path| path.display().to_string();
    let row = |key, value, source| ShownSetting { key, value, source };
    vec![
        row("node.name", name.clone(), from(layer.name.as_ref())),
        row("log.filter", log.clone(), from(layer.log.as_ref())),
        row("log.format", log_format.as_str().to_owned(), from(layer.log_format.as_ref())),
        row(
            "user.name",
            person.map(|person| person.name.clone()).unwrap_or_default(),
            from(layer.user.as_ref()),
        ),
        row("user.display", display.unwrap_or_default(), from(layer.display.as_ref())),
        row("room.coordinate", word_of(*coordinate).to_owned(), from(layer.coordinate.as_ref())),
        row("room.resume", resume.to_string(), from(layer.resume.as_ref())),
        row(
            "network.bind",
            bind.map(|ip| ip.to_string()).unwrap_or_default(),
            from(layer.bind.as_ref()),
        ),
        row("network.port", port.number().to_string(), from(layer.port.as_ref())),
        row("network.http_port", http_port.to_string(), from(layer.http_port.as_ref())),
        row("network.mdns", mdns.to_string(), from(layer.mdns.as_ref())),
        row("network.peers", peers.join(", "), from(layer.peers.as_ref())),
        row("audio.output", output.clone(), from(layer.output.as_ref())),
        row("audio.buffer_ms", buffer_ms.to_string(), from(layer.buffer_ms.as_ref())),
        row("audio.trim_ms", trim_ms.to_string(), from(layer.trim_ms.as_ref())),
        row("storage.state_dir", path(state_dir), from(layer.state_dir.as_ref())),
        row("storage.cache_dir", path(cache_dir), from(layer.cache_dir.as_ref())),
        row("storage.cache_mb", cache_mb.to_string(), from(layer.cache_mb.as_ref())),
        row("api.socket", path(socket), from(layer.socket.as_ref())),
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
        let keys: Vec<&str> = shown.iter().map(|setting| setting.key).collect();
        let places = keys.iter().map(|key| {
            let (section, key) = key.split_once('.').expect("a section");
            let begins = EXAMPLE.find(&format!("\n[{section}]")).expect("a section of the example");
            begins + EXAMPLE[begins..].find(&format!("\n#{key} = ")).expect("a key of it")
        });
        assert!(places.is_sorted());
        let sections = ["node", "log", "user", "room", "network", "audio", "storage", "api"];
        let known = sections.map(|s| file::expected_keys(&format!("[{s}]\nzzz = 1")).len());
        assert_eq!(keys.len(), known.iter().sum::<usize>());
    }
}
