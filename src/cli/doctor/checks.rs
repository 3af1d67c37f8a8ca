//! The checks. Each is a function from what is known to a finding, or to nothing where the
//! question makes no sense, and stands in the order in which a person would mend things: what
//! comes first may be the cause of what comes later.

use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;

use super::own;
use crate::api::{Health, Space};
use crate::audio::devices::NativeFormat;
use crate::cli::live::coordinator_name;
use crate::cli::text::{bytes, lasting, with_error};
use crate::engine::Status;
use crate::engine::status::{DiskState, PowerSave};
use crate::wire::Refusal;
use crate::wire::message::{OutputState, SyncState};

/// With less space than this the room's file cannot grow any more (bytes).
const STATE_LEAST: u64 = 10_000_000;

/// A day of a busy room, with what is kept besides, is less than this (bytes).
const STATE_ENOUGH: u64 = 100_000_000;

/// A single track may need this (bytes): ten minutes of FLAC at 48 kHz.
const CACHE_LEAST: u64 = 50_000_000;

/// An album of FLAC (bytes).
const CACHE_ENOUGH: u64 = 500_000_000;

/// Underruns that pass without a word: one an hour may be anything.
const UNDERRUNS_PER_HOUR: u64 = 1;

/// What the kernel counts time by where it trusts nothing better: each reading takes a
/// microsecond or more over a slow bus, or the resolution is that of the tick.
const SLOW_CLOCK_SOURCES: [&str; 4] = ["hpet", "acpi_pm", "pit", "jiffies"];

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// The music plays, and could be better.
    Warn,
    /// It keeps the music from playing.
    Fail,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        }
    }
}

/// What a check found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Finding {
    /// Which check.
    pub(super) check: &'static str,
    /// How bad it is.
    pub(super) verdict: Verdict,
    /// What was seen.
    pub(super) figure: String,
    /// What to do about it.
    pub(super) mend: Option<String>,
}

/// What became of the question to the daemon.
pub(super) enum Answer {
    /// It answered.
    Status(Box<Status>),
    /// Nobody listens there.
    Nobody(PathBuf),
    /// Somebody listens and does not answer, or not to us; why, and what to do if that is known.
    Trouble(String, String),
}

/// The port that a daemon would take.
pub(super) enum PortState {
    Free,
    Taken,
    /// With what the system says.
    Refused(String),
}

/// The output that a daemon would open.
pub(super) enum Sound {
    /// There is none to open: `null`, `none`, a file.
    NoCard,
    /// It opens.
    Opened(NativeFormat),
    /// It does not; why, and which devices there are.
    Failed(String, Vec<String>),
    /// The settings name none; why.
    NoOutput(String),
}

/// Everything that is known.
pub(super) struct Facts {
    pub(super) answer: Answer,
    /// Of this program.
    pub(super) version: &'static str,
    /// The file of settings as a daemon would read it now, or what is wrong with it.
    pub(super) settings: Result<Option<PathBuf>, String>,
    /// None where there is neither a daemon nor settings that make sense.
    pub(super) health: Option<Health>,
    /// Where no daemon answers.
    pub(super) port: Option<PortState>,
    /// Where no daemon answers.
    pub(super) sound: Option<Sound>,
    /// Node ids that were heard by mDNS, unless it is off.
    pub(super) announced: Option<Result<Vec<String>, String>>,
    /// Addresses of this machine that may be used, but for loopback.
    pub(super) addresses: Vec<IpAddr>,
}

impl Facts {
    fn status(&self) -> Option<&Status> {
        match &self.answer {
            Answer::Status(status) => Some(status),
            Answer::Nobody(_) | Answer::Trouble(..) => None,
        }
    }
}

/// All checks that make sense.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let checks: [fn(&Facts) -> Option<Finding>; 18] = [
        daemon,
        settings,
        network,
        wifi,
        port,
        mdns,
        peers,
        room,
        sync,
        output,
        rate,
        underruns,
        realtime,
        state_disk,
        cache_disk,
        wall_clock,
        clock_source,
        heat,
    ];
    checks.into_iter().filter_map(|check| check(facts)).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "a check ends in this, or has nothing to say")]
fn ok(check: &'static str, figure: impl Into<String>) -> Option<Finding> {
    Some(Finding { check, verdict: Verdict::Ok, figure: figure.into(), mend: None })
}

#[expect(clippy::unnecessary_wraps, reason = "a check ends in this, or has nothing to say")]
fn warn(
    check: &'static str,
    figure: impl Into<String>,
    mend: impl Into<String>,
) -> Option<Finding> {
    Some(Finding { check, verdict: Verdict::Warn, figure: figure.into(), mend: Some(mend.into()) })
}

fn fail(
    check: &'static str,
    figure: impl Into<String>,
    mend: impl Into<String>,
) -> Option<Finding> {
    Some(Finding { verdict: Verdict::Fail, ..warn(check, figure, mend)? })
}

fn daemon(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "daemon";
    let node = match &facts.answer {
        Answer::Status(status) => &status.node,
        Answer::Nobody(path) => {
            let figure = format!("none answers on {}", path.display());
            let mend = "start one: `groovebox daemon`, or `systemctl enable --now groovebox`; \
                        --socket names another place";
            return fail(CHECK, figure, mend);
        }
        Answer::Trouble(why, mend) if mend.is_empty() => {
            let mend = "its log says more: `journalctl -u groovebox`, or where it was started";
            return fail(CHECK, why.clone(), mend);
        }
        Answer::Trouble(why, mend) => return fail(CHECK, why.clone(), mend.clone()),
    };
    let up = lasting(i64::try_from(node.uptime_s.saturating_mul(1000)).unwrap_or(i64::MAX));
    let figure = format!("{} {}, up {up}", node.name, node.version);
    if let Some(outdated) = &node.outdated {
        return fail(CHECK, format!("{figure}; {outdated}"), "install the version of the others");
    }
    if let Some(twin) = &node.twin {
        let mend = "remove the state directory of the one that is the copy, and start it again";
        return fail(CHECK, format!("{figure}; {twin} uses the same identity"), mend);
    }
    if node.version == facts.version {
        return ok(CHECK, figure);
    }
    let mend = "start the daemon again, so that both are of one version";
    warn(CHECK, format!("{figure}; this program is {}", facts.version), mend)
}

fn settings(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "settings";
    match (&facts.settings, facts.status(), &facts.health) {
        // Another user's daemon reads another file: what it goes by is what counts.
        (_, Some(_), Some(health)) => match &health.config {
            Some(path) => ok(CHECK, path.display().to_string()),
            None => ok(CHECK, "the defaults; there is no file"),
        },
        (Ok(Some(path)), ..) => ok(CHECK, format!("{} makes sense", path.display())),
        (Ok(None), ..) => ok(CHECK, "the defaults; there is no file"),
        (Err(why), ..) => {
            fail(CHECK, why.clone(), "mend that line; `groovebox config check` looks again")
        }
    }
}

fn network(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "network";
    let health = facts.health.as_ref()?;
    if health.bind.is_some_and(|bind| bind.is_loopback()) {
        return ok(CHECK, "this machine only, by the settings");
    }
    let Some(first) = facts.addresses.first() else {
        return match health.bind {
            Some(bind) => fail(
                CHECK,
                format!("{bind}, which the settings want, is no address of this device"),
                "`ip addr` shows them; without [network] bind all are used",
            ),
            None => fail(
                CHECK,
                "no address but this machine's own",
                "connect a cable or a Wi-Fi; `ip addr` shows the addresses",
            ),
        };
    };
    let others = facts.addresses.len() - 1;
    let more = if others == 0 { String::new() } else { format!(" and {others} more") };
    let by = match (&health.interface, health.wired) {
        (Some(name), Some(true)) => format!(" by cable ({name})"),
        (Some(name), Some(false)) => format!(" by Wi-Fi ({name})"),
        (Some(name), None) => format!(" ({name})"),
        (None, _) => String::new(),
    };
    let figure = format!("{first}{more}{by}");
    match facts.status().and_then(own).map(|member| &*member.quality) {
        Some("excluded") => fail(
            CHECK,
            format!("{figure}; answers take over a second, so the room does not wait for it"),
            "use a cable, or bring the device nearer to the access point",
        ),
        Some("weak") => warn(
            CHECK,
            format!("{figure}; answers are late"),
            "use a cable, or bring the device nearer to the access point",
        ),
        _ => ok(CHECK, figure),
    }
}

fn wifi(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "wifi";
    let health = facts.health.as_ref()?;
    let interface = health.interface.as_deref().unwrap_or("wlan0");
    match health.power_save? {
        PowerSave::Off => ok(CHECK, "the radio stays awake"),
        PowerSave::Unknown => ok(CHECK, "the radio does not tell whether it sleeps"),
        PowerSave::On => warn(
            CHECK,
            "the radio sleeps between packets: commands take effect late, and clocks agree less",
            format!("sudo iw dev {interface} set power_save off"),
        ),
    }
}

fn port(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "port";
    let health = facts.health.as_ref()?;
    let wanted = health.port;
    let find =
        format!("`ss -ulpn sport = :{wanted}` shows who has it; [network] port names another");
    if let Some(status) = facts.status() {
        let used = status.node.port;
        return if wanted == 0 || used == wanted {
            ok(CHECK, format!("UDP {used}"))
        } else {
            warn(CHECK, format!("UDP {used}, because {wanted} was taken"), find)
        };
    }
    match facts.port.as_ref()? {
        PortState::Free if wanted == 0 => ok(CHECK, "UDP, whichever is free"),
        PortState::Free => ok(CHECK, format!("UDP {wanted} is free")),
        PortState::Taken if health.port_required => {
            fail(CHECK, format!("UDP {wanted} is taken by another program"), find)
        }
        PortState::Taken => {
            warn(CHECK, format!("UDP {wanted} is taken, so another one would be used"), find)
        }
        PortState::Refused(why) => fail(
            CHECK,
            format!("UDP {wanted} cannot be used: {why}"),
            "[network] bind must be an address of this device, and port above 1023",
        ),
    }
}

fn mdns(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "mdns";
    let health = facts.health.as_ref()?;
    let heard = match facts.announced.as_ref() {
        Some(Ok(heard)) => heard,
        Some(Err(why)) => {
            let mend = "if avahi runs, `disallow-other-stacks=no` in /etc/avahi/avahi-daemon.conf; \
                        [network] peers works without mDNS";
            return fail(CHECK, format!("UDP 5353 cannot be shared: {why}"), mend);
        }
        None if has_company(facts) => return ok(CHECK, "off; others connect all the same"),
        None if health.peers.is_empty() => {
            let mend = "[network] mdns = true, or name a device in [network] peers";
            return warn(CHECK, "off, and no device is named: no other one is found", mend);
        }
        None => return ok(CHECK, format!("off; the settings name {} devices", health.peers.len())),
    };
    let Some(status) = facts.status() else {
        return ok(
            CHECK,
            match heard.len() {
                0 => "works; no device announces itself".to_owned(),
                n => format!("works; {n} announce themselves"),
            },
        );
    };
    let others: Vec<&String> = heard.iter().filter(|id| **id != status.node.id).collect();
    let is_connected = |id: &str| status.peers.iter().any(|peer| peer.id == id && peer.connected);
    let unreached = others.iter().filter(|id| !is_connected(id)).count();
    if unreached > 0 {
        let mend = format!(
            "let UDP {} through the firewalls of both devices, and switch off the access point's \
             client isolation",
            status.node.port
        );
        return warn(
            CHECK,
            format!("{unreached} of {} heard are not connected", others.len()),
            mend,
        );
    }
    if others.len() == heard.len() {
        let mend = "let UDP 5353 through the firewall; [network] peers works without mDNS";
        return warn(CHECK, "not even this device's own announcement is heard", mend);
    }
    ok(
        CHECK,
        match others.len() {
            0 => "works; no other device announces itself".to_owned(),
            n => format!("works; {n} others announce themselves"),
        },
    )
}

/// Whether some other device is connected, whoever named whom.
fn has_company(facts: &Facts) -> bool {
    facts.status().is_some_and(|status| status.peers.iter().any(|peer| peer.connected))
}

fn peers(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "peers";
    let status = facts.status()?;
    let connected = status.peers.iter().filter(|peer| peer.connected).count();
    let figure = format!("{connected} of {} known devices are connected", status.peers.len());
    match (status.peers.is_empty(), connected) {
        (true, _) => ok(CHECK, "no other device is known yet"),
        (false, 0) => warn(
            CHECK,
            figure,
            "are they on, and on this network? If so, name one: [network] peers = [\"host:4766\"]",
        ),
        (false, _) => ok(CHECK, figure),
    }
}

fn room(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "room";
    let status = facts.status()?;
    let Some(room) = &status.room else {
        let mend = Refusal::not_in_room().hint;
        return warn(CHECK, "in none, so nothing is heard here", mend);
    };
    let here = status.members.iter().filter(|member| member.online).count();
    let figure =
        format!("{} ({}), {here} of {} devices", room.name, room.code, status.members.len());
    match coordinator_name(status) {
        Some(name) => ok(CHECK, format!("{figure}, coordinator {name}")),
        None => fail(
            CHECK,
            format!("{figure}, no coordinator"),
            "it takes a second or two; if it stays, what is said of the network is the cause",
        ),
    }
}

fn sync(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "sync";
    let status = facts.status()?;
    status.room.as_ref()?;
    let Some(sync) = own(status).and_then(|member| member.sync.as_ref()) else {
        return ok(CHECK, "not measured yet");
    };
    let figure = format!(
        "{}, rtt {}, jitter {}",
        with_error(sync.offset_us, sync.error_us),
        crate::cli::text::short_time(sync.rtt_us),
        crate::cli::text::short_time(sync.jitter_us)
    );
    match sync.state {
        SyncState::Synced => ok(CHECK, figure),
        SyncState::Syncing => {
            warn(CHECK, format!("{figure}; not synced yet"), "wait for some seconds, look again")
        }
        SyncState::OutOfSync => warn(
            CHECK,
            format!("{figure}; out of sync"),
            "`groovebox sync --watch` shows how it goes on; a cable helps, and [audio] buffer_ms",
        ),
    }
}

fn output(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "output";
    const LISTED: &str = "`groovebox outputs` lists what there is; [audio] output names one";
    let health = facts.health.as_ref()?;
    let name = &health.output;
    if let Some(status) = facts.status() {
        return match &own(status)?.output {
            OutputState::Ok => ok(CHECK, format!("{name} works")),
            OutputState::None if name == "none" => ok(CHECK, "none, by the settings"),
            OutputState::None => warn(CHECK, format!("{name}: no loudspeaker"), LISTED),
            OutputState::Busy => fail(
                CHECK,
                format!("{name} is in use by another program"),
                "end that program (`fuser -v /dev/snd/*`), or name another output",
            ),
            OutputState::Failed(why) => fail(CHECK, format!("{name}: {why}"), LISTED),
        };
    }
    match facts.sound.as_ref()? {
        Sound::NoCard => ok(CHECK, format!("{name}, which needs no sound card")),
        Sound::Opened(_) => ok(CHECK, format!("{name} opens")),
        Sound::NoOutput(why) => fail(CHECK, why.clone(), LISTED),
        Sound::Failed(why, others) if others.is_empty() => fail(
            CHECK,
            format!("{name}: {why}; this machine has no other"),
            "is the sound card plugged in, and are you in the group `audio`? --output null plays \
             to nowhere",
        ),
        Sound::Failed(why, others) => {
            fail(CHECK, format!("{name}: {why}"), format!("there are: {}", others.join(", ")))
        }
    }
}

fn rate(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "rate";
    if let Some(Sound::Opened(format)) = &facts.sound {
        return ok(
            CHECK,
            format!("{} Hz, {} channels, {}", format.rate, format.channels, format.sample),
        );
    }
    let health = facts.health.as_ref()?;
    facts.status()?;
    let card = health.cards.first()?;
    let all = health.cards.iter().map(|card| format!("{} {} Hz", card.card, card.rate));
    let all = all.collect::<Vec<_>>().join(", ");
    if health.cards.iter().any(|card| card.rate < 44_100) {
        let mend = "choose the card's device of a higher rate: `groovebox outputs`";
        return warn(CHECK, format!("{all}: the treble is lost"), mend);
    }
    ok(CHECK, format!("{all}, {} channels, {}", card.channels, card.sample))
}

fn underruns(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "underruns";
    let status = facts.status()?;
    let count = own(status)?.sync.as_ref()?.underruns;
    let hours = status.node.uptime_s.div_ceil(3600).max(1);
    let buffer = facts.health.as_ref().map_or(0, |health| health.buffer_ms);
    let figure = format!("{count} since the start, buffer {buffer} ms");
    if u64::from(count) <= UNDERRUNS_PER_HOUR.saturating_mul(hours) {
        return ok(CHECK, figure);
    }
    warn(
        CHECK,
        figure,
        "raise [audio] buffer_ms, and let the sound threads have real-time priority",
    )
}

fn realtime(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "realtime";
    if facts.health.as_ref()?.realtime {
        return ok(CHECK, "the sound threads may have real-time priority");
    }
    warn(
        CHECK,
        "the sound threads run at ordinary priority: a busy machine is heard",
        "systemd: LimitRTPRIO=20 in the unit; else `@audio - rtprio 20` in \
         /etc/security/limits.d/audio.conf, and be in the group `audio`",
    )
}

fn state_disk(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "state disk";
    let space = &facts.health.as_ref()?.state;
    let path = space.path.display();
    match facts.status().map(|status| status.node.disk) {
        Some(DiskState::Failed) => fail(
            CHECK,
            format!("{path}: the disk reports errors"),
            "the log says which; replace the card or disk, the others have the room",
        ),
        Some(DiskState::Full) => fail(CHECK, format!("{path}: full"), "make space there"),
        Some(DiskState::Slow) => warn(
            CHECK,
            format!("{path}: slower than what happens"),
            "a worn card? [storage] state_dir names another place",
        ),
        _ => disk(CHECK, "state_dir", space, STATE_LEAST..STATE_ENOUGH),
    }
}

fn cache_disk(facts: &Facts) -> Option<Finding> {
    disk("cache disk", "cache_dir", &facts.health.as_ref()?.cache, CACHE_LEAST..CACHE_ENOUGH)
}

/// `key` is that of `[storage]`; the range goes from what is the least to what is enough.
fn disk(check: &'static str, key: &str, space: &Space, little: Range<u64>) -> Option<Finding> {
    let path = space.path.display();
    if let Some(why) = &space.obstacle {
        let mend =
            format!("let the daemon's user write there, or name another place: [storage] {key}");
        return fail(check, format!("{path} cannot be used: {why}"), mend);
    }
    let Some(free) = space.free_bytes else {
        let mend = "the directory must exist, and its user be able to write there";
        return warn(check, format!("{path}: its free space is not known"), mend);
    };
    let figure = format!("{} free in {path}", bytes(free));
    match free {
        free if free < little.start => fail(check, figure, "make space there"),
        free if free < little.end => warn(check, figure, "make space there"),
        _ => ok(check, figure),
    }
}

fn wall_clock(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "wall clock";
    if facts.health.as_ref()?.wall_clock_synced? {
        return ok(CHECK, "follows a time server");
    }
    warn(
        CHECK,
        "follows no time server: the music is in sync all the same, but times in history and chat \
         may be wrong, and [room] resume does not work",
        "sudo timedatectl set-ntp true",
    )
}

fn clock_source(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "clock source";
    let source = facts.health.as_ref()?.clock_source.as_ref()?;
    // Whatever is not known to be slow is taken for good: boards have clocks of many names.
    if !SLOW_CLOCK_SOURCES.contains(&source.as_str()) {
        return ok(CHECK, source.clone());
    }
    warn(
        CHECK,
        format!("{source}: slow to read, so times are less exact"),
        "`dmesg | grep -i clocksource` says why the kernel left a better one",
    )
}

fn heat(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "heat";
    if facts.health.as_ref()?.throttled? {
        return warn(CHECK, "the processor is so hot that it is slowed down", "give it some air");
    }
    ok(CHECK, "the processor runs at full speed")
}
