//! `groovebox mute`: silence a device, or let it sound again.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::failure::Failure;
use super::session::Session;

#[derive(Args, Debug)]
pub(super) struct MuteArgs {
    /// What to do
    #[arg(value_enum, default_value_t = Switch::On)]
    pub(super) switch: Switch,
    /// The device of this name instead of this one
    #[arg(long, value_name = "NAME")]
    pub(super) member: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Switch {
    /// Silence it
    On,
    /// Let it sound
    Off,
    /// The other of both
    Toggle,
}

pub(super) async fn run(args: MuteArgs, session: &mut Session) -> Result<(), Failure> {
    let mut body = match args.switch {
        Switch::On => json!({ "muted": true }),
        Switch::Off => json!({ "muted": false }),
        Switch::Toggle => json!({}),
    };
    if let Some(member) = args.member {
        body["member"] = Value::String(member);
    }
    session.post("/mute", body).await
}
