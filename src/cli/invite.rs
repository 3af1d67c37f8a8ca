//! `groovebox invite`: lets somebody into the room without its password.

use clap::Args;
use hyper::Method;
use serde_json::json;

use super::client::Patience;
use super::failure::Failure;
use super::session::{Format, Session, print_json, print_lines};

#[derive(Args, Debug)]
pub(super) struct InviteArgs {
    /// How many devices may come in with it
    #[arg(long, default_value_t = 1)]
    uses: u32,
    /// How long it lasts
    #[arg(long, default_value_t = 10)]
    minutes: u32,
}

pub(super) async fn run(args: &InviteArgs, session: &mut Session) -> Result<(), Failure> {
    let InviteArgs { uses, minutes } = args;
    let body = json!({ "uses": uses, "minutes": minutes });
    let (post, path) = (Method::POST, "/room/invite");
    let answer = session.client.send(post, path, Some(body), Patience::Short).await?;
    if session.format == Format::Json {
        return print_json(&answer);
    }
    let text = answer["message"].as_str().unwrap_or_default().to_owned();
    let devices = if *uses == 1 { "one device".to_owned() } else { format!("{uses} devices") };
    session.tell(&format!(
        "{devices} can come in with it within {minutes} min: groovebox room join INVITE; it works \
         while this daemon runs"
    ));
    print_lines(&[text])
}
