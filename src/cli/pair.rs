//! `groovebox user pair`: one person on two devices, by comparing six digits.

use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde_json::json;

use super::client::Patience;
use super::failure::Failure;
use super::session::{Format, Session, print_json, understand};
use super::text::plain;
use crate::engine::status::PairingStatus;

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Args, Debug)]
pub(super) struct PairArgs {
    /// On the new device: the name of the one that has the person, or its host:port
    device: Option<String>,
    /// Say that the other device shows these six digits, too
    #[arg(long, value_name = "CODE", conflicts_with = "device")]
    confirm: Option<String>,
    /// Never mind
    #[arg(long, conflicts_with_all = ["device", "confirm"])]
    cancel: bool,
}

pub(super) async fn run(args: PairArgs, session: &mut Session) -> Result<(), Failure> {
    if args.cancel {
        return session.order(Method::DELETE, "/user/pair", None, Patience::Short).await;
    }
    if let Some(code) = args.confirm {
        return session.post("/user/pair/confirm", json!({ "code": code })).await;
    }
    let body = match args.device {
        Some(device) => json!({ "device": resolved(&device)? }),
        None => json!({}),
    };
    session.post("/user/pair", body).await?;
    let status = until(session, |status| status.state != "waiting" && status.state != "calling");
    let status = status.await?;
    let Some(code) = status.code.clone().filter(|_| status.state == "compare") else {
        return end(&status, session);
    };
    if session.format == Format::Json {
        return print_json(&serde_json::to_value(&status).unwrap_or_default());
    }
    ask(&status, &code, session).await
}

async fn ask(status: &PairingStatus, code: &str, session: &mut Session) -> Result<(), Failure> {
    let device = plain(status.device.as_deref().unwrap_or("the other device"));
    let spoken = format!("{} {}", &code[..3], &code[3..]);
    let can_ask = io::stdin().is_terminal() && io::stderr().is_terminal();
    let mut talk = io::stderr().lock();
    if !can_ask {
        writeln!(talk, "{device} must show {spoken}; then, on both devices within a minute:")?;
        writeln!(talk, "groovebox user pair --confirm {code}")?;
        return Ok(());
    }
    write!(talk, "{spoken}\nDoes {device} show the same digits? [y/N] ")?;
    talk.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        drop(talk);
        return session.order(Method::DELETE, "/user/pair", None, Patience::Short).await;
    }
    drop(talk);
    session.post("/user/pair/confirm", json!({ "code": code })).await?;
    let ended =
        until(session, |status| !["compare", "agreed"].contains(&status.state.as_str())).await?;
    if ended.state == "done" {
        session.tell(&format!("paired: this device and {device} are one person's, with one vote"));
    }
    end(&ended, session)
}

fn end(status: &PairingStatus, session: &Session) -> Result<(), Failure> {
    if session.format == Format::Json {
        print_json(&serde_json::to_value(status).unwrap_or_default())?;
    }
    if status.state == "done" {
        return Ok(());
    }
    let why = status.why.as_deref().unwrap_or("it was ended");
    Err(Failure::Program(anyhow::anyhow!("not paired: {why}")))
}

async fn until(
    session: &Session,
    is_it: impl Fn(&PairingStatus) -> bool,
) -> Result<PairingStatus, Failure> {
    loop {
        let answer = session.client.send(Method::GET, "/user/pair", None, Patience::Short).await?;
        let status: PairingStatus = understand(answer)?;
        if is_it(&status) {
            return Ok(status);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A host's name as its address: the daemon takes addresses and names of devices.
fn resolved(device: &str) -> Result<String, Failure> {
    let is_host = device.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !is_host || device.parse::<SocketAddr>().is_ok() {
        return Ok(device.to_owned());
    }
    let addresses = device.to_socket_addrs().map_err(|error| {
        Failure::Program(anyhow::anyhow!(
            "no address of {device} is known ({error}); check the spelling, or give its IP address"
        ))
    });
    let none = || Failure::Usage(format!("{device} has no address"));
    Ok(addresses?.next().ok_or_else(none)?.to_string())
}
