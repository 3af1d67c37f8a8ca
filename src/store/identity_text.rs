//! `identity.txt`: the key, the start counter and the room once more, as text beside `node.db`.
//! A damaged database then costs a device neither its name in the room nor its place.
//!
//! Written at every start, before the device speaks, so that its counter is never behind one
//! that was used: a number used twice would name two operations.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{SavedUser, StoreError, boot_file};
use crate::base::ids::hex;

/// Longer is not ours: a key is 166 digits, a name at most 256 bytes.
const MAX_LEN: u64 = 4096;

/// What a person reads who opens it.
const HEAD: &str = "\
# The identity of this GrooveBox device, in case node.db is damaged. Whoever has this file can
# pass for the device: show it to nobody. Written by GrooveBox at every start.
";

/// What the file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct IdentityText {
    pub key: Vec<u8>,
    pub boot: u32,
    /// As [`node.db`](super::node_file) has it.
    pub intent: String,
    /// The person's key, name and display name.
    pub user: Option<SavedUser>,
}

impl IdentityText {
    /// None where there is no such file, or not all of it.
    pub fn read(state_dir: &Path) -> Option<IdentityText> {
        let file = path(state_dir);
        if fs::metadata(&file).ok()?.len() > MAX_LEN {
            return None;
        }
        let text = fs::read_to_string(file).ok()?;
        let (body, check) = text.trim_end().rsplit_once("\ncheck ")?;
        if check != checksum(body) {
            return None;
        }
        let value = |name: &str| body.lines().find_map(|line| line.strip_prefix(name));
        Some(IdentityText {
            key: unhex(value("key ")?)?,
            boot: value("boot ")?.parse().ok()?,
            intent: value("room ")?.to_owned(),
            user: value("user ").and_then(unhex).map(|key| SavedUser {
                key,
                name: value("user-name ").unwrap_or_default().to_owned(),
                display: value("user-display ").unwrap_or_default().to_owned(),
            }),
        })
    }

    /// Written as a whole or not at all, and synced. Where that fails the old file is removed,
    /// unless the counter is noted elsewhere: one that is behind is worse than none.
    pub fn write(&self, state_dir: &Path) -> Result<(), StoreError> {
        let written = self.replace(state_dir);
        if written.is_err() && boot_file::read(state_dir, &self.key) != Some(self.boot) {
            let _ = fs::remove_file(path(state_dir));
        }
        written
    }

    fn replace(&self, state_dir: &Path) -> Result<(), StoreError> {
        let (new, file) = (state_dir.join("identity.txt.new"), path(state_dir));
        let user = self.user.as_ref().map_or_else(String::new, |user| {
            let (key, name, display) = (hex(&user.key), &user.name, &user.display);
            format!("\nuser {key}\nuser-name {name}\nuser-display {display}")
        });
        let (key, boot, room) = (hex(&self.key), self.boot, &self.intent);
        let body = format!("{HEAD}key {key}\nboot {boot}\nroom {room}{user}");
        let text = format!("{body}\ncheck {}\n", checksum(&body));
        let write = || {
            // A file left over may have been readable by others.
            let _ = fs::remove_file(&new);
            let mut options = OpenOptions::new();
            let mut out = options.write(true).create_new(true).mode(0o600).open(&new)?;
            out.write_all(text.as_bytes())?;
            out.sync_all()?;
            fs::rename(&new, &file)?;
            File::open(state_dir)?.sync_all()
        };
        write().map_err(|source| StoreError::Io { doing: "write", path: file.clone(), source })
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("identity.txt")
}

fn checksum(body: &str) -> String {
    hex(&blake3::hash(body.as_bytes()).as_bytes()[..8])
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    let digits = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
    digits.map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}
