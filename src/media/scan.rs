//! From a path that somebody named to the files to play, in the order a person expects.
//!
//! Goes by endings inside folders, because opening thousands of files takes seconds; a file
//! that is named itself is taken whatever its ending, and judged by its content at import.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::MediaError;
use crate::base::limits::{MAX_SCAN_DEPTH, MAX_SCAN_ENTRIES};

/// Endings of files that may be playable, lower case.
const ENDINGS: [&str; 13] = [
    "flac", "wav", "wave", "mp3", "m4a", "m4b", "mp4", "ogg", "oga", "opus", "aif", "aiff", "aifc",
];

/// The files at `path`: itself, or what a folder holds, recursively, in natural order, as far as
/// [`MAX_SCAN_ENTRIES`] goes. Hidden files are passed over.
///
/// # Errors
///
/// When there is nothing, nothing playable, or no permission.
pub fn scan(path: &Path) -> Result<Vec<PathBuf>, MediaError> {
    let about = fs::metadata(path).map_err(|e| MediaError::at(path, &e))?;
    if about.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    if !about.is_dir() {
        let found = "neither a file nor a folder".into();
        return Err(MediaError::Unsupported { name: path.display().to_string(), found });
    }
    let mut walk = Walk::default();
    // Only the folder that was named must be readable; one inside it may be private.
    let entries = walk.entries(path).map_err(|e| MediaError::at(path, &e))?;
    walk.visit(entries, 0);
    if walk.files.is_empty() {
        return Err(MediaError::NothingToPlay(path.display().to_string()));
    }
    Ok(walk.files)
}

#[derive(Default)]
struct Walk {
    files: Vec<PathBuf>,
    looked_at: usize,
    /// Real paths of folders entered, so that a link to a parent ends the walk.
    entered: BTreeSet<PathBuf>,
}

impl Walk {
    /// What a folder holds, in natural order; nothing if it was entered before.
    fn entries(&mut self, folder: &Path) -> std::io::Result<Vec<PathBuf>> {
        if !self.entered.insert(fs::canonicalize(folder)?) {
            return Ok(Vec::new());
        }
        let left = MAX_SCAN_ENTRIES.saturating_sub(self.looked_at);
        let mut entries: Vec<PathBuf> =
            fs::read_dir(folder)?.flatten().map(|entry| entry.path()).take(left).collect();
        self.looked_at += entries.len();
        entries.sort_by(|a, b| natural(&name(a), &name(b)));
        Ok(entries)
    }

    fn visit(&mut self, entries: Vec<PathBuf>, depth: usize) {
        for entry in entries {
            if name(&entry).starts_with('.') {
                continue;
            }
            if entry.is_dir() {
                if depth < MAX_SCAN_DEPTH
                    && let Ok(inside) = self.entries(&entry)
                {
                    self.visit(inside, depth + 1);
                }
            } else if looks_playable(&entry) && entry.is_file() {
                self.files.push(entry);
            }
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn looks_playable(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    ENDINGS.contains(&ending.as_str())
}

/// Orders "2 b" before "10 a" and ignores case: runs of digits compare as numbers.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    while !left.is_empty() && !right.is_empty() {
        let (digits_l, digits_r) = (digit_run(left), digit_run(right));
        let order = if digits_l > 0 && digits_r > 0 {
            compare_numbers(&left[..digits_l], &right[..digits_r])
        } else {
            first(left).cmp(&first(right))
        };
        if order != Ordering::Equal {
            return order;
        }
        left = &left[step(left, digits_l)..];
        right = &right[step(right, digits_r)..];
    }
    // "A" and "a", "01" and "1" are equal so far; any fixed order will do.
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

fn digit_run(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn first(text: &str) -> Option<char> {
    text.chars().next().and_then(|c| c.to_lowercase().next())
}

/// Bytes just compared: a whole number, or one character. Both texts may differ in this when
/// only one begins with a digit, but then they have differed already.
fn step(text: &str, digits: usize) -> usize {
    if digits > 0 { digits } else { text.chars().next().map_or(0, char::len_utf8) }
}

fn compare_numbers(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().expect("inside a folder")).expect("folder");
        fs::write(path, b"x").expect("file");
    }

    #[test]
    fn numbers_in_names_order_as_numbers() {
        let mut names = ["10 a", "9 a", "Intro", "1 b", "01 a", "9 B", "disc2", "disc10", "é", ""];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            ["", "01 a", "1 b", "9 a", "9 B", "10 a", "disc2", "disc10", "Intro", "é"]
        );
    }

    #[test]
    fn a_folder_gives_its_tracks_in_order_and_nothing_else() {
        let dir = tempfile::tempdir().expect("tempdir");
        for file in ["b/10.MP3", "b/2.m4a", "a.opus", "cover.jpg", ".hidden.mp3", "c/notes.txt"] {
            touch(&dir.path().join(file));
        }
        let found = scan(dir.path()).expect("has tracks");
        let names: Vec<_> =
            found.iter().map(|p| p.strip_prefix(dir.path()).expect("below").to_owned()).collect();
        assert_eq!(names, [Path::new("a.opus"), Path::new("b/2.m4a"), Path::new("b/10.MP3")]);
    }

    #[test]
    fn a_file_gives_itself_whatever_its_ending() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("song.xyz");
        touch(&file);
        assert_eq!(scan(&file), Ok(vec![file]));
    }

    #[test]
    fn what_is_not_there_or_empty_is_said() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert!(matches!(scan(&dir.path().join("no")), Err(MediaError::NotFound(_))));
        assert!(matches!(scan(dir.path()), Err(MediaError::NothingToPlay(_))));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_parent_ends() {
        let dir = tempfile::tempdir().expect("tempdir");
        touch(&dir.path().join("in/a.mp3"));
        std::os::unix::fs::symlink(dir.path(), dir.path().join("in/up")).expect("link");
        assert_eq!(scan(dir.path()).map(|files| files.len()), Ok(1));
    }
}
