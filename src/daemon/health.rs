//! What the machine offers a daemon, looked at once: for `GET /health`, and for `groovebox
//! doctor` where no daemon answers. Nothing is judged here.

use std::path::Path;
use std::{fs, io};

use rustix::fs::Access;

use super::{clock, fitness};
use crate::api::{CardFormat, Health, Space};
use crate::audio::realtime::{Promotion, promote};
use crate::config::{Port, Settings};
use crate::engine::status::PowerSave;

/// Cards and their outputs that are looked at: more than any machine has.
const MAX_CARDS: usize = 32;

/// Looks at the machine. Blocks for as long as its files take; opens no sound device.
#[must_use]
pub fn look(settings: &Settings) -> Health {
    let root = Path::new("/");
    let facts = fitness::facts(root, settings.coordinate);
    let interface = fitness::default_interface(root);
    Health {
        config: settings.config.clone(),
        state: space(&settings.state_dir),
        cache: space(&settings.cache_dir),
        bind: settings.bind,
        port: settings.port.number(),
        port_required: matches!(settings.port, Port::Exactly(_)),
        mdns: settings.mdns,
        peers: settings.peers.clone(),
        output: settings.output.clone(),
        buffer_ms: settings.buffer_ms,
        cards: cards(root),
        realtime: may_be_realtime(),
        power_save: interface
            .as_deref()
            .filter(|_| facts.wired == Some(false))
            .map(|interface| power_save(root, interface)),
        wired: facts.wired,
        interface,
        wall_clock_synced: clock::wall_is_synced(),
        clock_source: clock_source(root),
        throttled: facts.throttled,
    }
}

fn power_save(root: &Path, interface: &str) -> PowerSave {
    match fitness::power_save(root, interface) {
        Some(true) => PowerSave::On,
        Some(false) => PowerSave::Off,
        None => PowerSave::Unknown,
    }
}

/// A directory that is yet to be made has the space of the one that it will be made in, and can
/// be made if that one can be written to.
fn space(path: &Path) -> Space {
    // Of a relative path the last ancestor is empty, which is here.
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let free = rustix::fs::statvfs(there).ok();
    let free_bytes = free.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    Space { path: path.to_owned(), free_bytes, obstacle: obstacle(there) }
}

/// Why this user can make nothing in there, if that is so.
fn obstacle(there: &Path) -> Option<String> {
    if !there.is_dir() {
        return Some(format!("{} is no directory", there.display()));
    }
    let refused = rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK).err()?;
    Some(format!("{} may not be written to: {}", there.display(), io::Error::from(refused)))
}

/// Tried, not computed: limits, capabilities and control groups all have a say. In a thread of
/// its own, which ends with its priority.
fn may_be_realtime() -> bool {
    let tried = std::thread::Builder::new().name("priority".to_owned()).spawn(promote);
    let outcome = tried.ok().and_then(|thread| thread.join().ok());
    matches!(outcome, Some(Promotion::Promoted | Promotion::AlreadyRealtime))
}

fn clock_source(root: &Path) -> Option<String> {
    let path = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    let text = fs::read_to_string(root.join(path)).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// What ALSA's cards are playing: `/proc/asound/NAME/pcm*p/sub*/hw_params`, which says `closed`
/// where nothing plays. The cards' names are links to their numbers.
fn cards(root: &Path) -> Vec<CardFormat> {
    let folder = |path: &Path, keep: fn(&str) -> bool| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| keep(name)).take(MAX_CARDS).collect();
        names.sort();
        names
    };
    let asound = root.join("proc/asound");
    let is_output = |name: &str| name.starts_with("pcm") && name.ends_with('p');
    let mut playing = Vec::new();
    for card in folder(&asound, |_| true) {
        let card_folder = asound.join(&card);
        if !card_folder.is_symlink() {
            continue;
        }
        for output in folder(&card_folder, is_output) {
            for part in folder(&card_folder.join(&output), |name| name.starts_with("sub")) {
                let path = card_folder.join(&output).join(part).join("hw_params");
                let text = fs::read_to_string(path).unwrap_or_default();
                playing.extend(format_of(&card, &text));
            }
        }
    }
    playing.truncate(MAX_CARDS);
    playing
}

/// Lines of the form `rate: 48000 (48000/1)`.
fn format_of(card: &str, hw_params: &str) -> Option<CardFormat> {
    let value = |key: &str| {
        let line = hw_params.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        line?.split_whitespace().next()
    };
    Some(CardFormat {
        card: card.to_owned(),
        rate: value("rate")?.parse().ok()?,
        channels: value("channels")?.parse().ok()?,
        sample: value("format")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_that_play_are_told_with_their_format() {
        let root = tempfile::tempdir().expect("a directory");
        let card = root.path().join("proc/asound/card0");
        let write = |path: &str, text: &str| {
            let folder = card.join(path);
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join("hw_params"), text).expect("a file");
        };
        write("pcm0p/sub0", "access: MMAP\nformat: S32_LE\nchannels: 2\nrate: 44100 (44100/1)\n");
        write("pcm3p/sub0", "closed\n");
        write("pcm0c/sub0", "format: S16_LE\nchannels: 1\nrate: 8000 (8000/1)\n");
        std::os::unix::fs::symlink("card0", root.path().join("proc/asound/PCH")).expect("a link");
        let expected = CardFormat {
            card: "PCH".to_owned(),
            rate: 44_100,
            channels: 2,
            sample: "S32_LE".to_owned(),
        };
        assert_eq!(cards(root.path()), [expected]);
        assert_eq!(cards(&root.path().join("nowhere")), []);
        assert_eq!(format_of("x", "rate: fast\n"), None);
    }

    #[test]
    fn a_directory_yet_to_be_made_has_its_parents_space() {
        let root = tempfile::tempdir().expect("a directory");
        let there = space(root.path()).free_bytes.expect("a file system");
        let later = space(&root.path().join("a/b")).free_bytes.expect("a file system");
        // Others write meanwhile.
        assert!(there.abs_diff(later) < 1 << 32, "{there} and {later}");
    }

    #[test]
    fn what_keeps_a_directory_from_being_made_is_named() {
        let root = tempfile::tempdir().expect("a directory");
        assert_eq!(space(&root.path().join("a/b")).obstacle, None);
        let file = root.path().join("file");
        fs::write(&file, "").expect("a file");
        let expected = format!("{} is no directory", file.display());
        assert_eq!(space(&file.join("a/b")).obstacle, Some(expected));
    }
}
