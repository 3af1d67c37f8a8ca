//! `groovebox top`: the room on a full screen, with keys for the common acts.
//!
//! | file | what |
//! |---|---|
//! | this one | the terminal, keys, and what they ask of the daemon |
//! | `view` | one picture of it |
//!
//! The terminal is put back however this ends: by a key, a signal, an error or a panic.

mod view;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crossterm::event::{
    Event as Input, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
};
use futures_util::StreamExt;
use hyper::Method;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::client::{Client, Patience};
use super::failure::Failure;
use super::screen::{Look, is_terminal};
use super::session::{Session, understand};
use super::watch::Picture;
use crate::api::Event;
use crate::engine::Status;
use crate::engine::status::{ChatStatus, VoteStatus};

/// Between two points of the plots.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Points kept: as many as the widest terminal shows.
const SAMPLES: usize = 300;

/// Lines of the chat kept.
const CHAT: usize = 100;

/// How loud one press of a key makes it.
const VOLUME_STEP: i8 = 5;

/// Requests under way at most; whoever leans on a key is not served faster.
const PENDING: usize = 4;

/// All that is shown.
#[derive(Default)]
struct Top {
    status: Status,
    chat: VecDeque<ChatStatus>,
    /// Playout errors of each device, µs, the latest last; none where nothing was known.
    offsets: BTreeMap<String, VecDeque<Option<f64>>>,
    /// What became of the last key.
    told: String,
}

/// What a key means.
#[derive(Clone, PartialEq, Debug)]
enum Act {
    Quit,
    Ask {
        path: &'static str,
        body: Value,
    },
    /// There is nothing to do, and why.
    Tell(&'static str),
    Nothing,
}

pub(super) async fn run(session: &mut Session) -> Result<(), Failure> {
    if !is_terminal() {
        let what = "this fills a terminal, and there is none; `groovebox watch` goes into a pipe";
        return Err(Failure::Usage(what.to_owned()));
    }
    // Before the screen is taken: a daemon that is not there is told on a plain line.
    let mut follower = session.client.follow().await?;
    let mut terminal = ratatui::try_init()?;
    let _restore = Restore;
    let mut keys = EventStream::new();
    let mut terminated = signal(SignalKind::terminate())?;
    let (mut interrupted, mut hung_up) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
    let (replies, mut answered) = mpsc::channel(PENDING);
    let mut tick = tokio::time::interval(SAMPLE_EVERY);
    let (mut top, mut picture) = (Top::default(), Picture::default());
    loop {
        tokio::select! {
            event = follower.next() => top.take(event?, &mut picture, session).await?,
            key = keys.next() => match key {
                Some(Ok(Input::Key(key))) => match act(key, &top.status.votes) {
                    Act::Quit => return Ok(()),
                    Act::Ask { path, body } => ask(&session.client, &replies, path, body),
                    Act::Tell(text) => text.clone_into(&mut top.told),
                    Act::Nothing => continue,
                },
                // Another size, above all.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            },
            told = answered.recv() => top.told = told.unwrap_or_default(),
            _ = terminated.recv() => return Ok(()),
            _ = interrupted.recv() => return Ok(()),
            _ = hung_up.recv() => return Ok(()),
            _ = tick.tick() => top.sample(),
        }
        terminal.draw(|frame| view::draw(frame, &top, Look::of_stdout().colour))?;
    }
}

/// Puts the terminal back.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

impl Top {
    async fn take(
        &mut self,
        event: Event,
        picture: &mut Picture,
        session: &Session,
    ) -> Result<(), Failure> {
        if let Event::Chat { line, .. } = event {
            self.hear(line);
            return Ok(());
        }
        let anew = matches!(event, Event::Snapshot { .. });
        let room = |status: &Status| status.room.as_ref().map(|room| room.id.clone());
        let before = room(&self.status);
        self.status = picture.apply(event)?;
        let now = room(&self.status);
        if anew || now != before {
            self.chat.clear();
            if now.is_some() {
                let said: Vec<ChatStatus> = understand(session.get("/chat?last=100").await?)?;
                for line in said {
                    self.hear(line);
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self, line: ChatStatus) {
        if self.chat.iter().any(|known| known.id == line.id) {
            return;
        }
        self.chat.push_back(line);
        if self.chat.len() > CHAT {
            self.chat.pop_front();
        }
    }

    /// One more point of each plot.
    fn sample(&mut self) {
        let members = &self.status.members;
        self.offsets.retain(|id, _| members.iter().any(|member| member.id == *id));
        for member in members {
            let known = member.sync.as_ref().filter(|_| member.online).map(|sync| sync.offset_us);
            let points = self.offsets.entry(member.id.clone()).or_default();
            points.push_back(known);
            if points.len() > SAMPLES {
                points.pop_front();
            }
        }
    }
}

fn act(key: KeyEvent, votes: &[VoteStatus]) -> Act {
    if key.kind == KeyEventKind::Release {
        return Act::Nothing;
    }
    let ask = |path, body| Act::Ask { path, body };
    match key.code {
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => Act::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Act::Quit,
        KeyCode::Char(' ') => ask("/toggle", json!({})),
        KeyCode::Char('n') => ask("/next", json!({})),
        KeyCode::Char('+' | '=') => ask("/volume", json!({ "change": VOLUME_STEP })),
        KeyCode::Char('-') => ask("/volume", json!({ "change": -VOLUME_STEP })),
        KeyCode::Char('v') => vote("yes", votes),
        KeyCode::Char('x') => vote("no", votes),
        _ => Act::Nothing,
    }
}

/// Yes or no to the first vote that takes it and has not got it.
fn vote(choice: &str, votes: &[VoteStatus]) -> Act {
    let mut answerable = votes.iter().filter(|vote| vote.kind != "election");
    match answerable.find(|vote| vote.may_vote && vote.my_vote.is_none()) {
        Some(vote) => {
            Act::Ask { path: "/votes/ballot", body: json!({ "choice": choice, "in": vote.kind }) }
        }
        None if votes.iter().any(|vote| vote.kind == "election") => {
            Act::Tell("an election is voted on with a name: `groovebox vote NAME`")
        }
        None => Act::Tell("there is no vote that waits for you"),
    }
}

/// Asks without waiting: the picture goes on.
fn ask(client: &Client, replies: &mpsc::Sender<String>, path: &'static str, body: Value) {
    // Its place for the answer is taken before, which bounds how many are under way.
    let Ok(place) = replies.clone().try_reserve_owned() else { return };
    let client = client.clone();
    tokio::spawn(async move {
        let answer = client.send(Method::POST, path, Some(body), Patience::Short).await;
        place.send(answer.map_or_else(|failure| told(&failure), |_| String::new()));
    });
}

fn told(failure: &Failure) -> String {
    match failure.hint() {
        "" => failure.to_string(),
        hint => format!("{failure}; {hint}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sample;

    fn press(code: KeyCode) -> Act {
        act(KeyEvent::new(code, KeyModifiers::NONE), &sample::votes())
    }

    #[test]
    fn keys_are_what_the_last_line_says() {
        let ask = |path, body| Act::Ask { path, body };
        for (key, expected) in [
            (' ', ask("/toggle", json!({}))),
            ('n', ask("/next", json!({}))),
            ('+', ask("/volume", json!({ "change": 5 }))),
            ('-', ask("/volume", json!({ "change": -5 }))),
            ('v', ask("/votes/ballot", json!({ "choice": "yes", "in": "mutiny" }))),
            ('x', ask("/votes/ballot", json!({ "choice": "no", "in": "mutiny" }))),
            ('q', Act::Quit),
            ('z', Act::Nothing),
        ] {
            assert_eq!(press(KeyCode::Char(key)), expected, "{key}");
        }
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(act(interrupt, &[]), Act::Quit);
    }

    #[test]
    fn a_vote_that_has_been_answered_is_not_answered_again() {
        let mut votes = sample::votes();
        votes[1].my_vote = Some("yes".to_owned());
        assert!(matches!(vote("no", &votes), Act::Tell(text) if text.contains("a name")));
        assert!(matches!(vote("yes", &[]), Act::Tell(_)));
    }

    #[test]
    fn plots_and_chat_are_bounded_and_follow_the_room() {
        let mut top = Top { status: sample::status(), ..Top::default() };
        for _ in 0..2 * SAMPLES {
            top.sample();
        }
        assert_eq!(top.offsets.len(), 3);
        assert!(top.offsets.values().all(|points| points.len() == SAMPLES));
        assert_eq!(top.offsets[&"c3".repeat(32)].back(), Some(&None), "it is away");
        top.status.members.truncate(1);
        top.sample();
        assert_eq!(top.offsets.len(), 1);
        for n in 0..3 * CHAT {
            let line = ChatStatus { id: (n / 2).to_string(), ..ChatStatus::default() };
            top.hear(line);
        }
        assert_eq!(top.chat.len(), CHAT, "each once");
    }
}
