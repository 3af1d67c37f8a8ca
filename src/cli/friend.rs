//! `groovebox friend`: people whom one knows, whatever room they are in.

use clap::{Subcommand, ValueEnum};
use hyper::Method;
use serde_json::json;

use super::client::Patience;
use super::failure::Failure;
use super::screen::Look;
use super::session::Session;
use super::table::{Column, table, word};
use super::text::ago;
use crate::engine::status::{FoundStatus, FriendsStatus};

#[derive(Subcommand, Debug)]
pub(super) enum FriendVerb {
    /// List friends and open requests (the default)
    List,
    /// Look for people by name
    Search {
        /// What they are called, or how that begins
        name: String,
    },
    /// Ask somebody to be friends; a request to somebody absent waits
    Add {
        /// Whom
        name: String,
    },
    /// Say yes to somebody's request
    Accept {
        /// Whose
        name: String,
    },
    /// Say no to somebody's request
    Reject {
        /// Whose
        name: String,
    },
    /// End a friendship, or take a request back
    Remove {
        /// With whom
        name: String,
    },
    /// Say who may find you by name
    Discoverable {
        /// Who
        who: Who,
    },
}

/// Who may find a person by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Who {
    /// Whoever is connected
    Everyone,
    /// Whoever shares a room with you
    Rooms,
    /// Nobody
    Nobody,
}

pub(super) async fn run(verb: Option<FriendVerb>, session: &mut Session) -> Result<(), Failure> {
    match verb.unwrap_or(FriendVerb::List) {
        FriendVerb::List => session.show("/friends", lines).await,
        FriendVerb::Search { name } => {
            session.show(&format!("/friends/search?name={}", encoded(&name)), found).await
        }
        FriendVerb::Add { name } => say("/friends/requests", &name, session).await,
        FriendVerb::Accept { name } => say("/friends/accept", &name, session).await,
        FriendVerb::Reject { name } => say("/friends/reject", &name, session).await,
        FriendVerb::Remove { name } => say("/friends/remove", &name, session).await,
        FriendVerb::Discoverable { who } => {
            let who = match who {
                Who::Everyone => "everyone",
                Who::Rooms => "rooms",
                Who::Nobody => "nobody",
            };
            let body = Some(json!({ "discoverable": who }));
            session.order(Method::PATCH, "/friends", body, Patience::Short).await
        }
    }
}

async fn say(path: &str, who: &str, session: &mut Session) -> Result<(), Failure> {
    session.post(path, json!({ "who": who })).await
}

/// As it stands in an address.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let one = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(one).collect()
}

pub(super) fn lines(status: &FriendsStatus, look: Look) -> Vec<String> {
    let since = |since: u64| {
        let seconds = i64::try_from(status.now.saturating_sub(since)).unwrap_or(i64::MAX / 1000);
        ago(seconds.saturating_mul(1000))
    };
    let mut rows = Vec::new();
    for friend in &status.friends {
        let here = if friend.online { "friend, here" } else { "friend" };
        let cells = [word(&friend.name), word(&friend.display), word(here)];
        rows.push([&cells[..], &[word(since(friend.since))]].concat());
    }
    for request in &status.received {
        let cells = [word(&request.name), word(&request.display), word("asks you")];
        rows.push([&cells[..], &[word(since(request.since))]].concat());
    }
    for request in &status.sent {
        let what = if request.delivered { "asked" } else { "asked, waits for them" };
        let cells = [word(&request.name), word(&request.display), word(what)];
        rows.push([&cells[..], &[word(since(request.since))]].concat());
    }
    if rows.is_empty() {
        return vec![match status.discoverable {
            Some(_) => "no friends yet; `groovebox friend add NAME` asks somebody".to_owned(),
            None => "this device has no person; `groovebox user set NAME` gives it one".to_owned(),
        }];
    }
    let columns = ["NAME", "CALLED", "", "SINCE"].map(Column::Left);
    table(&columns, rows, look)
}

// `Session::show` hands over a reference to the whole.
#[expect(clippy::ptr_arg, reason = "the type that was understood")]
fn found(people: &Vec<FoundStatus>, look: Look) -> Vec<String> {
    if people.is_empty() {
        return vec!["nobody found who wants to be".to_owned()];
    }
    let row = |person: &FoundStatus| {
        let what = match (person.friend, person.online) {
            (true, _) => "friend",
            (false, true) => "here",
            (false, false) => "away",
        };
        let id = person.id.get(..8).unwrap_or_default();
        vec![word(&person.name), word(&person.display), word(what), word(id)]
    };
    let columns = ["NAME", "CALLED", "", "ID"].map(Column::Left);
    table(&columns, people.iter().map(row).collect(), look)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_script_can_be_searched_for() {
        assert_eq!(encoded("jo-1"), "jo-1");
        assert_eq!(encoded("jü&x"), "j%C3%BC%26x");
    }
}
