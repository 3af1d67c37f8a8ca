//! `groovebox user`: whose device this is.

use clap::Subcommand;
use hyper::Method;
use serde_json::{Value, json};

use super::client::Patience;
use super::confirm::{Unasked, confirm};
use super::failure::Failure;
use super::pair;
use super::screen::Look;
use super::session::{Format, Session, print_json, understand};
use super::table::clip;
use crate::engine::Status;
use crate::engine::status::PersonStatus;

#[derive(Subcommand, Debug)]
pub(super) enum UserVerb {
    /// Make a second device one of the same person's, who then has one vote on both
    Pair(pair::PairArgs),
    /// Say whose device this is; somebody new is given a key
    Set {
        /// What to call them: 2 to 32 letters, digits and - _ .
        name: String,
        /// How they want to be called, in any script; empty: by the name
        #[arg(long, value_name = "TEXT")]
        display: Option<String>,
    },
    /// Show whose device this is
    Show,
    /// Make it a speaker without a person; their key is deleted
    Forget {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn run(verb: UserVerb, session: &mut Session) -> Result<(), Failure> {
    match verb {
        UserVerb::Pair(args) => pair::run(args, session).await,
        UserVerb::Set { name, display } => {
            let mut body = json!({ "name": name });
            if let Some(display) = display {
                body["display"] = Value::String(display);
            }
            session.order(Method::PUT, "/user", Some(body), Patience::Short).await?;
            session.tell(&called(&session.status().await?));
            Ok(())
        }
        UserVerb::Show => show(session).await,
        UserVerb::Forget { yes } => {
            forgetting(session, yes).await?;
            session.order(Method::DELETE, "/user", None, Patience::Short).await?;
            session.tell("this device is a speaker without a person now");
            Ok(())
        }
    }
}

async fn show(session: &Session) -> Result<(), Failure> {
    if session.format == Format::Text {
        return session.show("/status", lines).await;
    }
    let answer = session.client.send(Method::GET, "/status", None, Patience::Short).await?;
    let status: Status = understand(answer)?;
    print_json(&serde_json::to_value(status.node.user).unwrap_or_default())
}

async fn forgetting(session: &Session, yes: bool) -> Result<(), Failure> {
    let status = session.status().await?;
    let Some(user) = status.node.user else { return Ok(()) };
    let told = format!(
        "{}'s key on this device is deleted. Unless another device of theirs has it, nobody can be \
         that person again: what they own or are, they lose.",
        user.name
    );
    confirm(&[told], "Delete it?", yes, Unasked::Nothing)
}

/// The person of this device as the room has them.
pub(super) fn person_of(status: &Status) -> Option<&PersonStatus> {
    let user = status.node.user.as_ref()?;
    status.people.iter().find(|person| person.id == user.id)
}

/// What became of a wish for a name.
fn called(status: &Status) -> String {
    let Some(user) = &status.node.user else { return "this device has no person".to_owned() };
    match person_of(status) {
        Some(person) if person.name != user.name => format!(
            "somebody else in this room is called {}; you are {} here",
            user.name, person.name
        ),
        _ => format!("this device is {}'s now", user.name),
    }
}

pub(super) fn lines(status: &Status, look: Look) -> Vec<String> {
    let Some(user) = &status.node.user else {
        return vec![format!(
            "{} is a speaker without a person; `groovebox user set NAME` gives it one",
            status.node.name
        )];
    };
    let mut rows = vec![("name", user.name.clone())];
    if !user.display.is_empty() && user.display != user.name {
        rows.push(("display", user.display.clone()));
    }
    if let Some(person) = person_of(status) {
        if person.name != user.name {
            rows.push(("called here", format!("{}: {} was taken", person.name, user.name)));
        }
        rows.push(("role", person.role.clone()));
        rows.push(("devices", person.devices.join(", ")));
    }
    rows.push(("id", user.id.clone()));
    rows.into_iter().map(|(name, value)| clip(&format!("{name:<12} {value}"), look)).collect()
}
