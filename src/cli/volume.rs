//! `groovebox volume`: show or set how loud a device or the room is.

use std::str::FromStr;

use clap::Args;
use serde_json::{Value, json};

use super::failure::Failure;
use super::screen::Look;
use super::session::Session;
use super::status;
use super::table::{Column, table, word};
use crate::engine::Status;
use crate::engine::status::MemberStatus;

#[derive(Args, Debug)]
pub(super) struct VolumeArgs {
    /// 0 to 100; +5 or -5 from what it is; nothing to show
    #[arg(allow_hyphen_values = true, value_name = "VOLUME|+N|-N")]
    pub(super) volume: Option<Loudness>,
    /// The device of this name instead of this one
    #[arg(long, value_name = "NAME", requires = "volume")]
    pub(super) member: Option<String>,
    /// All devices of the room, each relative to its own
    #[arg(long, conflicts_with = "member", requires = "volume")]
    pub(super) room: bool,
}

/// How loud.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Loudness {
    /// So much.
    To(u8),
    /// So much more, or less.
    By(i8),
}

impl FromStr for Loudness {
    type Err = String;

    fn from_str(text: &str) -> Result<Loudness, String> {
        let number = text.strip_suffix('%').unwrap_or(text);
        let relative = number.starts_with(['+', '-']);
        let value: i8 = number.parse().map_err(|_| wrong())?;
        match (relative, u8::try_from(value)) {
            (false, Ok(value @ 0..=100)) => Ok(Loudness::To(value)),
            (true, _) if (-100..=100).contains(&value) => Ok(Loudness::By(value)),
            _ => Err(wrong()),
        }
    }
}

fn wrong() -> String {
    "write 0 to 100, or +5 and -5 to change it".to_owned()
}

pub(super) async fn run(args: VolumeArgs, session: &mut Session) -> Result<(), Failure> {
    let Some(volume) = args.volume else {
        let all = |status: &Status, look| lines(&status.members, look);
        return session.show_of_room(|status| json!(status.members), all).await;
    };
    let mut body = match volume {
        Loudness::To(volume) => json!({ "volume": volume }),
        Loudness::By(change) => json!({ "change": change }),
    };
    if args.room {
        body["room"] = Value::Bool(true);
    }
    if let Some(member) = args.member {
        body["member"] = Value::String(member);
    }
    session.post("/volume", body).await
}

pub(super) fn lines(members: &[MemberStatus], look: Look) -> Vec<String> {
    let columns = [Column::Left("DEVICE"), Column::Right("VOLUME")];
    let row = |member: &MemberStatus| vec![word(&member.name), word(status::volume(member))];
    table(&columns, members.iter().map(row).collect(), look)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_makes_it_relative() {
        let cases = [
            ("0", Loudness::To(0)),
            ("100", Loudness::To(100)),
            ("80%", Loudness::To(80)),
            ("+5", Loudness::By(5)),
            ("-5", Loudness::By(-5)),
            ("-100", Loudness::By(-100)),
        ];
        for (text, volume) in cases {
            assert_eq!(text.parse(), Ok(volume), "{text}");
        }
        for text in ["", "101", "+101", "-101", "300", "loud", "%", "--5", "5.5"] {
            assert!(text.parse::<Loudness>().is_err(), "{text}");
        }
    }
}
