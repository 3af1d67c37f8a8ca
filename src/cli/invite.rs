//! `groovebox invite`: lets somebody into the room without its password.

use clap::Args;
use hyper::Method;
use serde_json::json;

use super::client::Patience;
use super::failure::Failure;
use super::session::{Format, Session, print_json, print_lines};

#[derive(Args, Debug)]
pub(super) struct InviteArgs {
    /// How many devices may come in with it, 1 to 256
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    uses: u32,
    /// How long it lasts, 1 to 1440
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1440))]
    minutes: u32,
    /// The highest role of whoever comes in with it [default: your own]
    #[arg(long, value_parser = ["guest", "listener", "dj", "owner"])]
    role: Option<String>,
}

pub(super) async fn run(args: &InviteArgs, session: &mut Session) -> Result<(), Failure> {
    let InviteArgs { uses, minutes, role } = args;
    let body = json!({ "uses": uses, "minutes": minutes, "role": role });
    let (post, path) = (Method::POST, "/room/invite");
    let answer = session.client.send(post, path, Some(body), Patience::Short).await?;
    if session.format == Format::Json {
        return print_json(&answer);
    }
    let text = answer["message"].as_str().unwrap_or_default().to_owned();
    let devices = if *uses == 1 { "one device".to_owned() } else { format!("{uses} devices") };
    let rank = match role.as_deref() {
        Some(role @ ("guest" | "listener" | "dj")) => format!(" as {role}"),
        _ => String::new(),
    };
    session.tell(&format!(
        "{devices} can come in with it{rank} within {minutes} min: groovebox room join INVITE; it \
         works while this daemon runs"
    ));
    print_lines(&[text])
}
