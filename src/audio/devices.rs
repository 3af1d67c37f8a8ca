//! The sound devices of this machine: listing them, finding the one that was asked for, and
//! looking at it closely.
//!
//! Listing opens no device: some cannot be opened twice, some plugins break when they are
//! opened in vain. Only the device that was asked for is opened.
//!
//! On Linux the host is ALSA, whose devices include the sound servers' own. A program that was
//! built with the features `pulseaudio` or `pipewire` also talks to those servers themselves;
//! their devices are called `pulseaudio:NAME` and `pipewire:NAME`, `default` being a name.

use cpal::traits::{DeviceTrait, HostTrait};
use cpal::{Device, Error, ErrorKind, Host, HostId};

use super::sink::SinkError;

/// A device that frames can be sent to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceInfo {
    /// What to write into the configuration; the same after a restart.
    pub id: String,
    /// For people.
    pub description: String,
    /// Whether it is what `default` means.
    pub is_default: bool,
}

/// What a device takes without converting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NativeFormat {
    /// Frames a second.
    pub rate: u32,
    /// Channels.
    pub channels: u16,
    /// Sample format, for people: `i16`, `f32`.
    pub sample: String,
}

/// All output devices; the default one first. Opens none.
///
/// # Errors
///
/// When there is no sound system.
pub fn list() -> Result<Vec<DeviceInfo>, SinkError> {
    let _complaints = Complaints::listen();
    let host = host()?;
    let default = host.default_output_device().and_then(|device| id(&device));
    let devices = host.devices().map_err(|e| failure(&e, None))?;
    let mut infos: Vec<DeviceInfo> = devices
        .filter(|device| cfg!(target_os = "linux") || device.supports_output())
        .filter_map(|device| info(&device, default.as_deref()))
        .collect();
    for server in server_ids().filter_map(|id| cpal::host_from_id(id).ok()) {
        let devices = server.devices().into_iter().flatten();
        let outputs = devices.filter(DeviceTrait::supports_output);
        infos.extend(outputs.filter_map(|device| info(&device, None)));
    }
    infos.sort_by_key(|info| !info.is_default);
    infos.dedup_by(|a, b| a.id == b.id);
    Ok(infos)
}

/// The id of the device with this id or description; `None` asks for the default one. Opens
/// nothing.
pub fn id_of(name: Option<&str>) -> Option<String> {
    let _complaints = Complaints::listen();
    find(name).ok().as_ref().and_then(id)
}

/// What a device takes without converting; `None` asks for the default device. Opens it.
///
/// # Errors
///
/// When there is no such device, or another program has it.
pub fn native(name: Option<&str>) -> Result<NativeFormat, SinkError> {
    let _complaints = Complaints::listen();
    let device = find(name)?;
    let config = device.default_output_config().map_err(|e| failure(&e, name))?;
    let rate = probe(&device).rate.unwrap_or(config.sample_rate());
    let sample = config.sample_format().to_string();
    Ok(NativeFormat { rate, channels: config.channels(), sample })
}

/// The device with this id or description; `None` asks for the default one. Opens nothing.
pub(super) fn find(name: Option<&str>) -> Result<Device, SinkError> {
    if let Some(device) = name.and_then(of_server) {
        return Ok(device);
    }
    if let Some(server) = name.and_then(unreached_server) {
        return Err(SinkError::Failed(format!(
            "this build of GrooveBox does not talk to {server}: build it with `--features \
             {server}`, or go through ALSA; `groovebox outputs` lists what there is"
        )));
    }
    let host = host()?;
    let found = match name {
        None => host.default_output_device(),
        Some(name) => find_named(&host, name).map_err(|e| failure(&e, Some(name)))?,
    };
    found.ok_or_else(|| SinkError::Missing(name.map(Into::into)))
}

/// The sound servers that can be talked to without ALSA, as their outputs' names begin.
const SERVERS: [&str; 2] = ["pulseaudio", "pipewire"];

/// The server in a name, if this program was built without it.
fn unreached_server(name: &str) -> Option<&'static str> {
    let (server, _) = name.split_once(':')?;
    let known = SERVERS.into_iter().find(|known| *known == server)?;
    server_ids().all(|id| id.to_string() != known).then_some(known)
}

/// Those that this program was built with.
fn server_ids() -> impl Iterator<Item = HostId> {
    cpal::ALL_HOSTS.iter().copied().filter(|id| is_server(*id))
}

fn is_server(id: HostId) -> bool {
    SERVERS.contains(&id.to_string().as_str())
}

/// The device of the server that a name begins with, if it has it. No other server is talked to:
/// that takes time, and may start one.
fn of_server(name: &str) -> Option<Device> {
    let (server, device) = name.split_once(':')?;
    let id = server_ids().find(|id| id.to_string() == server)?;
    let host = cpal::host_from_id(id).ok()?;
    match device {
        "default" => host.default_output_device(),
        device => find_named(&host, device).ok()?,
    }
}

fn find_named(host: &Host, name: &str) -> Result<Option<Device>, Error> {
    // Knows the short forms as well, such as `hw:1`.
    let by_id = host.device_by_id(&cpal::DeviceId::new(host.id(), name));
    if by_id.is_some() {
        return Ok(by_id);
    }
    let is_called = |device: &Device| {
        let described = device.description().ok();
        described.is_some_and(|d| d.name() == name || text_for_people(&d) == name)
    };
    Ok(host.devices()?.find(is_called))
}

fn host() -> Result<Host, SinkError> {
    let by_name = |name: &str| cpal::ALL_HOSTS.iter().copied().find(|id| id.name() == name);
    match by_name("ALSA").filter(|_| cfg!(target_os = "linux")) {
        Some(id) => cpal::host_from_id(id).map_err(|e| failure(&e, None)),
        None => Ok(cpal::default_host()),
    }
}

/// Its id, as it is written into a configuration.
pub(super) fn id(device: &Device) -> Option<String> {
    let id = device.id().ok()?;
    Some(if is_server(id.host()) { id.to_string() } else { id.id().to_owned() })
}

/// As [`DeviceInfo::description`] shows it.
fn text_for_people(described: &cpal::DeviceDescription) -> String {
    let lines: Vec<&str> = described.extended().collect();
    if lines.is_empty() { described.name().into() } else { lines.join(", ") }
}

fn info(device: &Device, default: Option<&str>) -> Option<DeviceInfo> {
    let id = id(device).filter(|id| is_worth_listing(id))?;
    let described = device.description().ok()?;
    let description = text_for_people(&described);
    let is_default = default == Some(id.as_str());
    // The direction is a hint that plugins may leave out; then they are listed.
    let input_only = described.direction() == cpal::DeviceDirection::Input;
    (!input_only).then_some(DeviceInfo { id, description, is_default })
}

/// ALSA names every converter, mixer and loudspeaker layout there could be. Shown are the
/// devices as such, the sound servers, and what the machine's owner has defined.
fn is_worth_listing(id: &str) -> bool {
    const PARTS: [&str; 17] = [
        "null",
        "samplerate",
        "lavrate",
        "speexrate",
        "speex",
        "upmix",
        "vdownmix",
        "jack",
        "oss",
        "dmix",
        "dsnoop",
        "iec958",
        "spdif",
        "modem",
        "phoneline",
        "usbstream",
        "cards",
    ];
    let (kind, card) = id.split_once(':').unwrap_or((id, ""));
    let is_layout = kind.starts_with("surround") || kind.starts_with("center_lfe");
    // The same card is also there by its name, which stays when cards are plugged in anew.
    let number = card.strip_prefix("CARD=").and_then(|rest| rest.split(',').next());
    let by_number = number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    !(PARTS.contains(&kind) || is_layout || by_number)
}

/// A sound library's error in this folder's words.
pub(super) fn failure(error: &Error, name: Option<&str>) -> SinkError {
    match error.kind() {
        ErrorKind::DeviceBusy => SinkError::Busy,
        ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable => {
            SinkError::Missing(name.map(Into::into))
        }
        ErrorKind::PermissionDenied => SinkError::Failed(
            "this user may not use it; on most systems the group `audio` may".into(),
        ),
        _ => SinkError::Failed(error.to_string()),
    }
}

/// What the library does not tell about a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Probe {
    /// The rate at which nothing is resampled behind our back.
    pub rate: Option<u32>,
    /// Whether a card stands behind it rather than a server. Only then may its thread have
    /// real-time priority: waiting for an ordinary process at that priority helps nobody.
    pub is_card: bool,
}

/// Rates in the order in which they are preferred.
#[cfg(target_os = "linux")]
const RATES: [u32; 9] = [48_000, 44_100, 96_000, 88_200, 192_000, 176_400, 32_000, 24_000, 22_050];

/// Looks behind ALSA's converters, which take any rate and answer for every card.
#[cfg(target_os = "linux")]
pub(super) fn probe(device: &Device) -> Probe {
    let by_server = device.id().is_ok_and(|id| is_server(id.host()));
    let Some(id) = id(device).filter(|_| !by_server) else { return Probe::default() };
    let Ok(pcm) = alsa::PCM::new(&id, alsa::Direction::Playback, true) else {
        return Probe::default();
    };
    let is_card = pcm.info().is_ok_and(|info| info.get_card() >= 0);
    let params = alsa::pcm::HwParams::any(&pcm).and_then(|params| {
        params.set_rate_resample(false)?;
        Ok(params)
    });
    let rate = params.ok().and_then(|p| RATES.into_iter().find(|rate| p.test_rate(*rate).is_ok()));
    Probe { rate, is_card }
}

/// Elsewhere the library's own answer is the native one.
#[cfg(not(target_os = "linux"))]
pub(super) fn probe(_: &Device) -> Probe {
    Probe::default()
}

/// Keeps what the sound library would write to standard error in this thread, and logs it
/// when dropped: half of it is about devices that nobody asked for.
pub(super) struct Complaints {
    #[cfg(target_os = "linux")]
    heard: Option<std::rc::Rc<std::cell::RefCell<alsa::Output>>>,
}

impl Complaints {
    #[cfg(target_os = "linux")]
    pub(super) fn listen() -> Complaints {
        Complaints { heard: alsa::Output::local_error_handler().ok() }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn listen() -> Complaints {
        Complaints {}
    }
}

#[cfg(target_os = "linux")]
impl Drop for Complaints {
    fn drop(&mut self) {
        let Some(heard) = self.heard.take() else { return };
        let text = heard.borrow().to_string();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            tracing::debug!(line, "the sound library complains");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converters_and_duplicates_are_not_listed() {
        for id in ["default", "pulse", "hw:CARD=PCH,DEV=0", "hdmi:CARD=PCH,DEV=1", "kitchen"] {
            assert!(is_worth_listing(id), "{id}");
        }
        for id in ["null", "surround51:CARD=PCH,DEV=0", "dmix:CARD=PCH,DEV=0", "hw:CARD=0,DEV=3"] {
            assert!(!is_worth_listing(id), "{id}");
        }
    }

    #[test]
    fn errors_tell_what_can_be_done() {
        let told = |kind: ErrorKind| failure(&kind.into(), Some("kitchen"));
        assert_eq!(told(ErrorKind::DeviceBusy), SinkError::Busy);
        let missing = SinkError::Missing(Some("kitchen".into()));
        assert_eq!(told(ErrorKind::DeviceNotAvailable), missing);
        assert!(told(ErrorKind::PermissionDenied).to_string().contains("`audio`"));
    }

    #[test]
    #[cfg(not(feature = "pulseaudio"))]
    fn a_server_that_this_build_does_not_talk_to_is_said_with_the_way_to_it() {
        let Err(SinkError::Failed(why)) = find(Some("pulseaudio:default")) else {
            panic!("it must be refused");
        };
        assert!(why.contains("--features pulseaudio"), "{why}");
    }
}
