//! The configuration file: its sections and keys, and errors that show the line.
//!
//! An empty text means "as if the line were not there", so that the commented example can
//! state a default that only the machine knows.

use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::FileText;
use super::check::Number;
use super::error::{ConfigError, Source};
use super::layer::{Given, Layer, bind, coordinate, log_format};

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Sections {
    node: Node,
    log: Log,
    user: User,
    room: Room,
    network: Network,
    audio: Audio,
    storage: Storage,
    api: Api,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Node {
    name: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Log {
    filter: Option<Spanned<String>>,
    format: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct User {
    name: Option<Spanned<String>>,
    display: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Room {
    coordinate: Option<Spanned<String>>,
    resume: Option<Spanned<bool>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Network {
    bind: Option<Spanned<String>>,
    port: Option<Spanned<i64>>,
    http_port: Option<Spanned<i64>>,
    mdns: Option<Spanned<bool>>,
    peers: Option<Spanned<Vec<String>>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Audio {
    output: Option<Spanned<String>>,
    buffer_ms: Option<Spanned<i64>>,
    trim_ms: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Storage {
    state_dir: Option<Spanned<PathBuf>>,
    cache_dir: Option<Spanned<PathBuf>>,
    cache_mb: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Api {
    socket: Option<Spanned<PathBuf>>,
}

/// What the file says.
pub(super) fn parse(file: FileText<'_>) -> Result<Layer, ConfigError> {
    let sections: Sections = toml::from_str(file.text).map_err(|error| explain(file, &error))?;
    let Sections { node, log, user, room, network, audio, storage, api } = sections;
    Ok(Layer {
        state_dir: storage.state_dir.and_then(|path| file.path(path)),
        cache_dir: storage.cache_dir.and_then(|path| file.path(path)),
        socket: api.socket.and_then(|path| file.path(path)),
        name: node.name.and_then(|text| file.text(text)),
        user: user.name.and_then(|text| file.text(text)),
        display: user.display.and_then(|text| file.text(text)),
        bind: bind(network.bind.and_then(|text| file.text(text)))?,
        port: network.port.map(|port| file.given(port)),
        http_port: network.http_port.map(|port| file.given(port)),
        output: audio.output.and_then(|text| file.text(text)),
        buffer_ms: audio.buffer_ms.map(|ms| file.given(ms)),
        trim_ms: audio.trim_ms.map(|ms| file.given(ms)),
        cache_mb: storage.cache_mb.map(|mb| file.given(mb)),
        resume: room.resume.map(|resume| file.given(resume)),
        mdns: network.mdns.map(|mdns| file.given(mdns)),
        peers: network.peers.map(|peers| file.given(peers)),
        coordinate: coordinate(room.coordinate.and_then(|text| file.text(text)))?,
        log: log.filter.and_then(|text| file.text(text)),
        log_format: log_format(log.format.and_then(|text| file.text(text)))?,
        record: None,
    })
}

impl FileText<'_> {
    fn given<T>(self, spanned: Spanned<T>) -> Given<T> {
        let source = self.source(&spanned.span());
        Given { value: spanned.into_inner(), source }
    }

    fn text(self, spanned: Spanned<String>) -> Option<Given<String>> {
        Some(self.given(spanned)).filter(|given| !given.value.is_empty())
    }

    fn path(self, spanned: Spanned<PathBuf>) -> Option<Given<PathBuf>> {
        let given = self.given(spanned);
        let directory = self.path.parent().unwrap_or(self.path);
        (!given.value.as_os_str().is_empty())
            .then(|| Given { value: directory.join(&given.value), source: given.source })
    }

    fn source(self, span: &Range<usize>) -> Source {
        Source::File { path: self.path.to_owned(), line: Place::of(self.text, span).line }
    }
}

/// Where in a text a span begins.
struct Place<'a> {
    /// Counts from 1.
    line: usize,
    /// The whole line.
    content: &'a str,
    /// Characters before the span in that line.
    before: usize,
    /// Characters of the span within that line, at least 1.
    marked: usize,
}

impl Place<'_> {
    fn of<'a>(text: &'a str, span: &Range<usize>) -> Place<'a> {
        let clip = |at: usize| (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
        let (start, end) = (clip(span.start).unwrap_or(0), clip(span.end).unwrap_or(0));
        let begins = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let content = text[begins..].lines().next().unwrap_or("");
        let ends = end.clamp(start, begins + content.len().max(start - begins));
        Place {
            line: text[..start].matches('\n').count() + 1,
            content,
            before: text[begins..start].chars().count(),
            marked: text[start..ends].chars().count().max(1),
        }
    }

    fn excerpt(&self) -> String {
        let gutter = " ".repeat(self.line.to_string().len());
        let (indent, carets) = (" ".repeat(self.before), "^".repeat(self.marked));
        format!("{gutter} |\n{} | {}\n{gutter} | {indent}{carets}", self.line, self.content)
    }
}

/// What was not understood, where, and what to write instead.
fn explain(file: FileText<'_>, error: &toml::de::Error) -> ConfigError {
    let span = error.span().unwrap_or(0..0);
    let place = Place::of(file.text, &span);
    let section = section_of(file.text, &span);
    let mistyped = || mistyped(error.message(), file.text.get(span.clone())?, section, &place);
    let (problem, hint) = match unknown_key(error.message()) {
        Some(unknown) => (unknown.problem(section), Some(unknown.hint(section))),
        None => (mistyped().unwrap_or_else(|| error.message().trim().to_owned()), None),
    };
    let excerpt = place.excerpt();
    ConfigError::File { place: Box::new(file.source(&span)), problem, excerpt, hint }
}

/// The header above a place.
fn section_of<'a>(text: &'a str, span: &Range<usize>) -> Option<&'a str> {
    let above = text.get(..span.start)?;
    let line = above.lines().rev().find(|line| line.trim_start().starts_with('['))?;
    let name = line.trim_start().strip_prefix('[')?.split(']').next()?;
    // At `[netwrk]` itself the place lies within the header, which then is no section above.
    (above.lines().last() != Some(line) || line.contains(']')).then_some(name.trim())
}

/// A value that its key does not take, where serde's words can be told in a person's.
fn mistyped(
    message: &str,
    given: &str,
    section: Option<&str>,
    place: &Place<'_>,
) -> Option<String> {
    if !message.starts_with("invalid type: ") && !message.starts_with("invalid value: ") {
        return None;
    }
    let (_, expected) = message.trim().rsplit_once(", expected ")?;
    let (key, _) = place.content.split_once('=')?;
    let key = match section {
        Some(section) => format!("{section}.{}", key.trim()),
        None => key.trim().to_owned(),
    };
    let given = given.lines().next().unwrap_or_default();
    let digits = given.trim_start_matches(['-', '+']);
    Some(match expected {
        "i64" => {
            let number = Number::ALL.into_iter().find(|number| number.key == key)?;
            // Whole, and longer than any number that is counted with.
            let is_whole = digits.chars().all(|c| c.is_ascii_digit() || c == '_');
            if is_whole { number.out_of_range(&given) } else { number.no_number(&given) }
        }
        "a boolean" => format!("{key} = {given} is neither true nor false"),
        "a string" | "path string" => format!("{key} = {given} is no text; write it in quotes"),
        "a sequence" => format!("{key} = {given} is no list; write [\"...\", ...]"),
        _ if expected.starts_with("struct ") => {
            format!("`{key}` is a section; write [{key}] above its settings")
        }
        _ => return None,
    })
}

/// A key that no struct has, as serde reports it.
struct UnknownKey {
    key: String,
    known: Vec<String>,
}

fn unknown_key(message: &str) -> Option<UnknownKey> {
    let (first, rest) = message.strip_prefix("unknown field `")?.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some(UnknownKey { key: first.to_owned(), known })
}

impl UnknownKey {
    fn problem(&self, section: Option<&str>) -> String {
        match section {
            Some(section) => format!("unknown key `{}` in [{section}]", self.key),
            None if self.home().is_some() => format!("key `{}` outside of a section", self.key),
            None => format!("unknown section [{}]", self.key),
        }
    }

    fn hint(&self, section: Option<&str>) -> String {
        let quoted = |name: &String| match section {
            Some(_) => format!("`{name}`"),
            None => format!("[{name}]"),
        };
        if let Some(home) = self.home() {
            return format!("`{}` belongs into [{home}]", self.key);
        }
        match self.known.iter().min_by_key(|known| distance(known, &self.key)) {
            Some(near) if distance(near, &self.key) <= 1 + near.len() / 4 => {
                format!("did you mean {}?", quoted(near))
            }
            _ => {
                let all: Vec<String> = self.known.iter().map(quoted).collect();
                format!("known are {}", all.join(", "))
            }
        }
    }

    /// The section in which the key would be right.
    fn home(&self) -> Option<String> {
        expected_keys("zzz = 1")
            .into_iter()
            .find(|section| expected_keys(&format!("[{section}]\nzzz = 1")).contains(&self.key))
    }
}

/// What could stand where `text` has the key `zzz`: asks the parser, so that there is no
/// second list of keys to keep.
pub(super) fn expected_keys(text: &str) -> Vec<String> {
    let error = toml::from_str::<Sections>(text).err();
    let unknown = error.and_then(|error| unknown_key(error.message()));
    unknown.map(|unknown| unknown.known).unwrap_or_default()
}

/// How many letters must be added, removed, replaced or swapped with their neighbour to make
/// `a` of `b` (Damerau and Levenshtein's distance, each letter moved at most once).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let same = usize::from(a[i - 1] != b[j - 1]);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                let swap = if swapped { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                (rows[i - 1][j - 1] + same)
                    .min(rows[i - 1][j] + 1)
                    .min(rows[i][j - 1] + 1)
                    .min(swap)
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("port", "prot"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("mdns", "mdns"), 0);
        assert_eq!(distance("buffer_ms", "bufer_m"), 2);
    }

    #[test]
    fn a_place_in_odd_text_is_found_without_a_panic() {
        let text = "a = \"ü\"\r\nb";
        for start in 0..text.len() + 3 {
            for end in 0..text.len() + 3 {
                let place = Place::of(text, &(start..end.max(start)));
                assert!(place.line >= 1 && place.marked >= 1);
            }
        }
        assert_eq!(Place::of("", &(0..0)).excerpt(), "  |\n1 | \n  | ^");
    }
}
