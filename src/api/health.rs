//! What this device's machine offers: the facts that no status of a room has, and that
//! `groovebox doctor` judges.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::engine::status::PowerSave;

/// What a daemon goes by, and what its machine offers it. What the system does not tell is null.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Health {
    /// The file of settings that was read; null if there was none.
    pub config: Option<PathBuf>,
    /// Where key, room and queue are kept.
    pub state: Space,
    /// Where music is kept.
    pub cache: Space,
    /// The one address to use; null is every address.
    pub bind: Option<IpAddr>,
    /// UDP port that the settings ask for; 0 lets the system choose.
    pub port: u16,
    /// Whether another port will do.
    pub port_required: bool,
    /// Whether it announces itself and looks for others by mDNS.
    pub mdns: bool,
    /// Devices that the settings name.
    pub peers: Vec<String>,
    /// Where the sound goes, as the settings say it.
    pub output: String,
    /// Audio handed to the device ahead of its sounding, ms.
    pub buffer_ms: u32,
    /// What sound cards are playing at the moment, whoever plays.
    pub cards: Vec<CardFormat>,
    /// Whether a thread may have real-time priority.
    pub realtime: bool,
    /// The interface of the default route.
    pub interface: Option<String>,
    /// Whether that is a cable rather than a radio.
    pub wired: Option<bool>,
    /// Whether its radio sleeps between packets.
    pub power_save: Option<PowerSave>,
    /// Whether the wall clock follows a time server.
    pub wall_clock_synced: Option<bool>,
    /// What the kernel counts time by.
    pub clock_source: Option<String>,
    /// Whether heat slows the processor down.
    pub throttled: Option<bool>,
}

/// A directory and the space below it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Space {
    /// Which.
    pub path: PathBuf,
    /// Bytes that this user may still write.
    pub free_bytes: Option<u64>,
    /// Why nothing can be written there, or the directory cannot be made; null if it can.
    #[serde(default)]
    pub obstacle: Option<String>,
}

/// What a sound card plays.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CardFormat {
    /// The card's name, as in `hw:CARD=NAME`.
    pub card: String,
    /// Frames a second.
    pub rate: u32,
    /// Channels.
    pub channels: u16,
    /// Sample format as ALSA calls it: `S16_LE`, `S32_LE`.
    pub sample: String,
}
