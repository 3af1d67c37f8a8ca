//! `groovebox chat`: say something to the room, and read what was said.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::json;

use super::failure::Failure;
use super::session::{Format, Session, print_json, print_lines, understand};
use super::text::{ago, plain};
use crate::api::Event;
use crate::engine::status::ChatStatus;

#[derive(Args, Debug)]
pub(super) struct ChatArgs {
    /// What to say, 1 to 500 characters; nothing to read what was said
    #[arg(value_name = "TEXT", conflicts_with_all = ["follow", "n"])]
    pub(super) text: Vec<String>,
    /// Stay and show what is said
    #[arg(short, long)]
    pub(super) follow: bool,
    /// How many of the latest lines to show
    #[arg(short, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(super) n: u16,
}

pub(super) async fn run(args: &ChatArgs, session: &mut Session) -> Result<(), Failure> {
    if !args.text.is_empty() {
        return session.post("/chat", json!({ "text": args.text.join(" ") })).await;
    }
    let path = format!("/chat?last={}", args.n);
    if args.follow {
        return follow(session, &path).await;
    }
    session.show(&path, |said: &Vec<ChatStatus>, _| lines(said)).await
}

/// The last lines, then each that is said. A line is shown once, also where the daemon has to
/// begin anew.
async fn follow(session: &Session, path: &str) -> Result<(), Failure> {
    let mut follower = session.client.follow().await?;
    let (mut shown, mut room) = (BTreeSet::new(), None);
    loop {
        let said = match follower.next().await? {
            Event::Chat { line, .. } => vec![line],
            Event::Snapshot { status, .. } => {
                room = status.room.map(|room| room.id);
                read(session, path, room.is_some()).await?
            }
            Event::Delta { changed, .. } => {
                let now_in = changed.get("room").map(|room| room["id"].as_str().map(str::to_owned));
                match now_in {
                    Some(now_in) if now_in != room => {
                        room = now_in;
                        read(session, path, room.is_some()).await?
                    }
                    _ => continue,
                }
            }
        };
        for line in said.into_iter().filter(|line| shown.insert(line.id.clone())) {
            match session.format {
                Format::Json => print_json(&serde_json::to_value(&line).unwrap_or_default())?,
                Format::Text => print_lines(&spoken(&line))?,
            }
        }
    }
}

async fn read(session: &Session, path: &str, in_room: bool) -> Result<Vec<ChatStatus>, Failure> {
    if in_room { understand(session.get(path).await?) } else { Ok(Vec::new()) }
}

fn lines(said: &[ChatStatus]) -> Vec<String> {
    if said.is_empty() {
        return vec!["nothing has been said yet; `groovebox chat TEXT` begins".to_owned()];
    }
    let dated = |line: &ChatStatus| {
        let mut lines = spoken(line);
        let when = ago(line.ago_ms);
        for (n, text) in lines.iter_mut().enumerate() {
            *text = format!("{:>10}  {text}", if n == 0 { &*when } else { "" });
        }
        lines
    };
    said.iter().flat_map(dated).collect()
}

/// `anna: who wants jazz?`, and further lines below.
pub(super) fn spoken(line: &ChatStatus) -> Vec<String> {
    let mut texts = line.text.lines();
    let first = format!("{}: {}", line.name, texts.next().unwrap_or_default());
    std::iter::once(first).chain(texts.map(|text| format!("  {text}"))).map(|l| plain(&l)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sample;

    #[test]
    fn what_was_said_is_told_with_its_age_and_cannot_command_the_terminal() {
        let mut said = sample::chat().lines;
        said[1].text = "me\n\x1b[2Jand her".to_owned();
        said[1].ago_ms = 720_000;
        assert_eq!(
            lines(&said),
            [
                "   0 s ago  anna: who wants jazz?",
                "12 min ago  ben: me",
                "              \u{fffd}[2Jand her",
            ]
        );
        assert_eq!(lines(&[]).len(), 1);
    }
}
