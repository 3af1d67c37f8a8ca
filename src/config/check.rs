//! Ranges and shapes of values. Each check takes a value with its source and says where the
//! wrong one was written.

use std::fmt::Display;
use std::ops::RangeInclusive;

use tracing_subscriber::EnvFilter;

use super::error::ConfigError;
use super::layer::Given;
use super::{BUFFER_MS, CACHE_MB, MAX_PEERS, Person, TRIM_MS};
use crate::base::limits::{MAX_NAME, MAX_USER_NAME, MIN_USER_NAME};
use crate::engine::room::{is_display_name, is_user_name};

/// A setting that is a whole number.
pub(super) struct Number {
    /// `section.key`
    pub(super) key: &'static str,
    range: RangeInclusive<i64>,
    /// With a blank before it; empty where it counts nothing.
    unit: &'static str,
}

const PORTS: RangeInclusive<i64> = 0..=65_535;

pub(super) const PORT: Number = Number { key: "network.port", range: PORTS, unit: "" };
pub(super) const HTTP_PORT: Number = Number { key: "network.http_port", range: PORTS, unit: "" };
pub(super) const BUFFER: Number = Number { key: "audio.buffer_ms", range: BUFFER_MS, unit: " ms" };
pub(super) const TRIM: Number = Number { key: "audio.trim_ms", range: TRIM_MS, unit: " ms" };
pub(super) const CACHE: Number = Number { key: "storage.cache_mb", range: CACHE_MB, unit: " MB" };

impl Number {
    pub(super) const ALL: [Number; 5] = [PORT, HTTP_PORT, BUFFER, TRIM, CACHE];

    fn allowed(&self) -> String {
        format!("{} to {}{}", self.range.start(), self.range.end(), self.unit)
    }

    pub(super) fn out_of_range(&self, given: &impl Display) -> String {
        format!("{} = {given} is out of its range, {}", self.key, self.allowed())
    }

    pub(super) fn no_number(&self, given: &impl Display) -> String {
        format!("{} = {given} is no whole number; it takes {}", self.key, self.allowed())
    }
}

/// A device's name: 1 to [`MAX_NAME`] characters, none of them a control character.
pub(super) fn name(given: Option<Given<String>>) -> Result<Option<String>, ConfigError> {
    let Some(given) = given else { return Ok(None) };
    let length = given.value.trim().chars().count();
    if length == 0 || length > MAX_NAME || given.value.chars().any(char::is_control) {
        let problem = format!(
            "node.name = {:?} is no name; a device is called by 1 to {MAX_NAME} printable characters",
            given.value
        );
        return Err(given.refuse(problem));
    }
    Ok(Some(given.value.trim().to_owned()))
}

/// A person: a name that a room can take, and how they want to be called.
pub(super) fn person(
    name: Option<Given<String>>,
    display: Option<Given<String>>,
) -> Result<Option<Person>, ConfigError> {
    let display = match display {
        Some(given) if !is_display_name(given.value.trim()) => {
            let problem = format!(
                "user.display = {:?} is no display name; it has 1 to {MAX_NAME} printable characters",
                given.value
            );
            return Err(given.refuse(problem));
        }
        Some(given) if name.is_none() => {
            let problem = "user.display without user.name; set the name of the person as well";
            return Err(given.refuse(problem.to_owned()));
        }
        given => given.map(|given| given.value.trim().to_owned()),
    };
    let Some(given) = name else { return Ok(None) };
    let name = given.value.trim().to_owned();
    if is_user_name(&name) {
        return Ok(Some(Person { name, display }));
    }
    let problem = format!(
        "user.name = {:?} is no name of a person, who is called by {MIN_USER_NAME} to {MAX_USER_NAME} letters, \
         digits and - _ .; a display name takes any script",
        given.value
    );
    Err(given.refuse(problem))
}

/// A number within its range.
pub(super) fn within<T: TryFrom<i64>>(
    given: Option<Given<i64>>,
    number: &Number,
) -> Result<Option<T>, ConfigError> {
    let Some(given) = given else { return Ok(None) };
    match T::try_from(given.value) {
        Ok(value) if number.range.contains(&given.value) => Ok(Some(value)),
        _ => Err(given.refuse(number.out_of_range(&given.value))),
    }
}

/// Addresses of peers: `host:port`, at most [`MAX_PEERS`].
pub(super) fn peers(given: Option<Given<Vec<String>>>) -> Result<Vec<String>, ConfigError> {
    let Some(given) = given else { return Ok(Vec::new()) };
    if given.value.len() > MAX_PEERS {
        let problem =
            format!("network.peers: {} are too many; name at most {MAX_PEERS}", given.value.len());
        return Err(given.refuse(problem));
    }
    if let Some(wrong) = given.value.iter().find(|peer| !is_host_and_port(peer)) {
        let problem = format!(
            "network.peers: {wrong:?} is no host:port; write for example 192.168.1.20:4766 or [fd00::20]:4766"
        );
        return Err(given.refuse(problem));
    }
    Ok(given.value)
}

/// A log filter that can be parsed.
pub(super) fn log(given: Option<Given<String>>) -> Result<Option<String>, ConfigError> {
    let Some(given) = given else { return Ok(None) };
    match EnvFilter::builder().parse(&given.value) {
        Ok(_) => Ok(Some(given.value)),
        Err(error) => {
            let problem = format!(
                "log.filter = {:?} is no filter of the log ({error}); write for example info or \
                 info,groovebox::net=debug",
                given.value
            );
            Err(given.refuse(problem))
        }
    }
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    let printable = host.chars().all(|c| !c.is_whitespace() && !c.is_control());
    let port = port.parse::<u16>().is_ok_and(|port| port != 0);
    !host.is_empty() && host.len() <= 255 && printable && !bare_v6 && port
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_host_and_a_port() {
        for fine in ["a:1", "10.0.0.1:4766", "[::1]:4766", "kitchen.local:65535"] {
            assert!(is_host_and_port(fine), "{fine}");
        }
        for wrong in ["", "a", ":1", "a:", "a:0", "a:65536", "::1:4766", "a b:1"] {
            assert!(!is_host_and_port(wrong), "{wrong}");
        }
    }
}
