//! What a node says of itself over mDNS: key=value strings of a DNS-SD TXT record (RFC 6763).
//! A hint only: everything is proven again over QUIC.

use crate::base::{NodeId, limits};

/// The version of the record.
const VERSION: &str = "1";

/// The service type, in DNS-SD notation.
pub const SERVICE: &str = "_groovebox._udp.local.";

/// A node that can be dialled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcement {
    /// Who.
    pub node: NodeId,
    /// The UDP port of its QUIC endpoint.
    pub port: u16,
    /// The room it is in: the first 8 hexadecimal digits of the id, name and code.
    pub room: Option<AnnouncedRoom>,
}

/// An open room as announced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnnouncedRoom {
    /// First 8 hexadecimal digits of its id.
    pub id_prefix: String,
    /// Its name, cut to fit a TXT string.
    pub name: String,
    /// Its code.
    pub code: String,
}

/// Bytes of a value: a TXT string has at most 255 (RFC 6763, section 6.1), its key included.
const MAX_TXT_VALUE: usize = 240;

/// A TXT record that is not ours, or not of a version we know.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnnounceError {
    /// A key is missing.
    #[error("TXT record without `{0}`")]
    Missing(&'static str),
    /// A value makes no sense.
    #[error("TXT record with a bad `{0}`")]
    Bad(&'static str),
    /// Another version of the record.
    #[error("TXT record of version {0}, known is {VERSION}")]
    Version(String),
}

impl Announcement {
    /// As TXT pairs.
    #[must_use]
    pub fn to_txt(&self) -> Vec<(String, String)> {
        let mut pairs = vec![
            ("v".into(), VERSION.into()),
            ("node".into(), self.node.to_string()),
            ("port".into(), self.port.to_string()),
        ];
        if let Some(room) = &self.room {
            pairs.push(("room".into(), room.id_prefix.clone()));
            pairs.push(("name".into(), within(&room.name, MAX_TXT_VALUE)));
            pairs.push(("code".into(), room.code.clone()));
        }
        pairs
    }

    /// From TXT pairs.
    ///
    /// # Errors
    ///
    /// When the version is unknown, or the node or port is missing or makes no sense.
    pub fn from_txt<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Announcement, AnnounceError> {
        let (mut version, mut node, mut port) = (None, None, None);
        let (mut id_prefix, mut name, mut code) = (None, None, None);
        for (key, value) in pairs {
            match key {
                "v" => version = Some(value),
                "node" => node = Some(value),
                "port" => port = Some(value),
                "room" => id_prefix = Some(value),
                "name" => name = Some(value),
                "code" => code = Some(value),
                _ => {}
            }
        }
        match version {
            Some(VERSION) => {}
            Some(other) => return Err(AnnounceError::Version(other.chars().take(8).collect())),
            None => return Err(AnnounceError::Missing("v")),
        }
        let node = node.ok_or(AnnounceError::Missing("node"))?;
        let node = node.parse().map_err(|_| AnnounceError::Bad("node"))?;
        let port = port.ok_or(AnnounceError::Missing("port"))?;
        let port = port.parse().ok().filter(|&p| p != 0).ok_or(AnnounceError::Bad("port"))?;
        let cut = |text: &str| text.chars().take(limits::MAX_NAME).collect::<String>();
        let room = id_prefix.zip(code).map(|(id, code)| AnnouncedRoom {
            id_prefix: cut(id),
            name: cut(name.unwrap_or_default()),
            code: cut(code),
        });
        Ok(Announcement { node, port, room })
    }
}

/// As much of `text` as fits into so many bytes.
fn within(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_still_fits_into_a_txt_string() {
        let name = "🎵".repeat(limits::MAX_NAME);
        let room = AnnouncedRoom { id_prefix: "1".into(), name, code: "GROOVE-7KQ4".into() };
        let announcement = Announcement { room: Some(room), ..announcement() };
        for (key, value) in announcement.to_txt() {
            assert!(key.len() + 1 + value.len() <= 255, "{key} is {} bytes", value.len());
        }
    }

    fn announcement() -> Announcement {
        Announcement {
            node: NodeId([7; 32]),
            port: 4766,
            room: Some(AnnouncedRoom {
                id_prefix: "0badcafe".into(),
                name: "Kitchen".into(),
                code: "GROOVE-7KQ4".into(),
            }),
        }
    }

    #[test]
    fn a_record_survives_its_text() {
        let txt = announcement().to_txt();
        let pairs = txt.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        assert_eq!(Announcement::from_txt(pairs), Ok(announcement()));
    }

    #[test]
    fn foreign_records_are_refused_with_their_reason() {
        let node = NodeId([7; 32]).to_string();
        let of = |pairs: &[(&str, &str)]| Announcement::from_txt(pairs.iter().copied());
        assert_eq!(of(&[]), Err(AnnounceError::Missing("v")));
        assert_eq!(of(&[("v", "9")]), Err(AnnounceError::Version("9".into())));
        assert_eq!(
            of(&[("v", "1"), ("node", "x"), ("port", "1")]),
            Err(AnnounceError::Bad("node"))
        );
        assert_eq!(
            of(&[("v", "1"), ("node", &node), ("port", "0")]),
            Err(AnnounceError::Bad("port"))
        );
    }
}
