//! What every command is handed: the connection, and where and how to write.

use std::io::{self, Write};
use std::path::PathBuf;

use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Global;
use super::client::{Client, Patience};
use super::failure::Failure;
use super::progress::while_reading;
use super::screen::Look;
use super::text::plain;
use crate::api::Skipped;
use crate::config::{Surroundings, socket_candidates};
use crate::engine::Status;
use crate::engine::status::OperationStatus;
use crate::wire::Refusal;
use crate::wire::message::Level;

/// One run of the program.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) look: Look,
    pub(super) format: Format,
    pub(super) talk: Talk,
    /// Orders are to be answered once they are durable.
    pub(super) durable: bool,
    /// The socket that was named, if one was.
    socket: Option<PathBuf>,
}

/// What standard output is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    /// A person.
    Text,
    /// A program.
    Json,
}

impl Format {
    pub(super) fn of(json: bool) -> Format {
        if json { Format::Json } else { Format::Text }
    }
}

/// How much is said besides the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Talk {
    /// Only what went wrong.
    Quiet,
    /// What a person would want to know.
    Normal,
}

/// What of a reply is told to people.
#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    skipped: Vec<Skipped>,
}

impl Session {
    pub(super) fn new(global: &Global) -> Session {
        let env = |name: &str| std::env::var_os(name);
        let around = Surroundings::of_this_machine(&env);
        Session {
            client: Client::new(socket_candidates(global.socket.clone(), &around)),
            look: Look::of_stdout(),
            format: Format::of(global.json),
            talk: if global.quiet { Talk::Quiet } else { Talk::Normal },
            durable: global.durable,
            socket: global.socket.clone(),
        }
    }

    /// The socket that was named, if one was.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        self.socket.clone()
    }

    /// Asks and shows: the answer itself to programs, lines to people.
    pub(super) async fn show<T: DeserializeOwned>(
        &self,
        path: &str,
        lines: impl FnOnce(&T, Look) -> Vec<String>,
    ) -> Result<(), Failure> {
        let answer = self.client.send(Method::GET, path, None, Patience::Short).await?;
        if self.format == Format::Json {
            return print_json(&answer);
        }
        print_lines(&lines(&understand(answer)?, self.look))
    }

    /// Shows something of the room; without one it is refused, whatever the format.
    pub(super) async fn show_of_room(
        &self,
        json: impl FnOnce(&Status) -> Value,
        lines: impl FnOnce(&Status, Look) -> Vec<String>,
    ) -> Result<(), Failure> {
        let status = self.status_in_room().await?;
        match self.format {
            Format::Json => print_json(&json(&status)),
            Format::Text => print_lines(&lines(&status, self.look)),
        }
    }

    /// Orders something and tells what became of it.
    pub(super) async fn order(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        patience: Patience,
    ) -> Result<(), Failure> {
        let asking = self.client.send(method, path, body, patience);
        let mut answer = match patience {
            Patience::Files => while_reading(&self.client, self.talk, asking).await?,
            Patience::Short | Patience::Door => asking.await?,
        };
        if self.durable {
            self.wait_durable(&mut answer).await?;
        }
        if self.format == Format::Json {
            return print_json(&answer);
        }
        let Reply { message, skipped } = understand(answer)?;
        for Skipped { path, problem } in &skipped {
            self.say(&format!("skipped {path}: {}", problem.message), Talk::Quiet);
        }
        if let Some(message) = message {
            self.say(&message, Talk::Normal);
        }
        Ok(())
    }

    /// Waits until what was ordered is durable, and puts into the answer how safe it is then.
    async fn wait_durable(&self, answer: &mut Value) -> Result<(), Failure> {
        let op = &answer["op"];
        let (Some(boot), Some(seq)) = (op["boot"].as_u64(), op["seq"].as_u64()) else {
            return Ok(());
        };
        let path = format!("/operations/{boot}/{seq}?level=durable");
        let operation = self.client.send(Method::GET, &path, None, Patience::Short).await?;
        let OperationStatus { idx, level } = understand(operation)?;
        answer["idx"] = idx.into();
        answer["level"] = serde_json::json!(level);
        let text = match (level, idx) {
            (Level::Durable, Some(idx)) => format!("durable, as entry {idx}"),
            (Level::Replicated, _) => {
                "not durable yet: a disk is slow; other devices have it".into()
            }
            _ => "not durable yet: `groovebox log` shows how safe it is".into(),
        };
        self.say(&text, Talk::Normal);
        Ok(())
    }

    /// Asks for something to look at.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.client.send(Method::GET, path, None, Patience::Short).await
    }

    /// Everything.
    pub(super) async fn status(&self) -> Result<Status, Failure> {
        understand(self.get("/status").await?)
    }

    /// Everything, where there is a room.
    pub(super) async fn status_in_room(&self) -> Result<Status, Failure> {
        let status = self.status().await?;
        match status.room {
            Some(_) => Ok(status),
            None => Err(Failure::Refused(Refusal::not_in_room().into())),
        }
    }

    /// What a person would want to know, besides the data.
    pub(super) fn tell(&self, text: &str) {
        self.say(text, Talk::Normal);
    }

    /// Posts an order that needs no files.
    pub(super) async fn post(&self, path: &str, body: Value) -> Result<(), Failure> {
        self.order(Method::POST, path, Some(body), Patience::Short).await
    }

    /// To standard error, unless the person asked for less.
    fn say(&self, text: &str, from: Talk) {
        if self.talk == Talk::Normal || from == Talk::Quiet {
            let _nobody_may_listen = writeln!(io::stderr(), "{}", plain(text));
        }
    }
}

pub(super) fn understand<T: DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| {
        let advice = "`groovebox version` shows whether the daemon's version differs";
        Failure::Program(anyhow::anyhow!(
            "the daemon's answer was not understood: {error}; {advice}"
        ))
    })
}

pub(super) fn print_json(value: &Value) -> Result<(), Failure> {
    print_lines(&[value.to_string()])
}

pub(super) fn print_lines(lines: &[String]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}
