//! `groovebox sync`: how well each device follows the room's clock.

use serde_json::Value;

use super::failure::Failure;
use super::live::{live_lines, state};
use super::session::{Format, Session};
use super::text::{plain, with_error};
use super::watch::{View, WatchArgs, watch};
use crate::api::MemberSync;
use crate::engine::Status;
use crate::engine::status::MemberStatus;

pub(super) async fn run(args: &WatchArgs, session: &mut Session) -> Result<(), Failure> {
    if args.watch {
        return watch(session, View { json, lines: live_lines, brief }).await;
    }
    match session.format {
        Format::Json => session.show("/sync", |_: &Value, _| Vec::new()).await,
        Format::Text => session.show("/status", live_lines).await,
    }
}

fn json(status: &Status) -> Value {
    serde_json::to_value(MemberSync::all(status)).unwrap_or(Value::Null)
}

/// `kitchen +12±18µs · porch away`
pub(super) fn brief(status: &Status) -> String {
    let of = |member: &MemberStatus| match &member.sync {
        Some(sync) if member.online && state(member).0 == "synced" => {
            format!("{} {}", member.name, with_error(sync.offset_us, sync.error_us))
        }
        _ => format!("{} {}", member.name, state(member).0),
    };
    plain(&status.members.iter().map(of).collect::<Vec<_>>().join(" · "))
}
