//! `groovebox version`: of this program, and of the daemon if one answers.

use hyper::Method;
use serde_json::json;

use super::client::Patience;
use super::failure::Failure;
use super::session::{Format, Session, print_json, print_lines, understand};
use crate::api::Versions;

pub(super) async fn run(session: &mut Session) -> Result<(), Failure> {
    let own = env!("CARGO_PKG_VERSION");
    let asked = session.client.send(Method::GET, "/version", None, Patience::Short).await;
    let daemon: Option<Versions> = match asked {
        Ok(answer) => Some(understand(answer)?),
        Err(Failure::NoDaemon(_) | Failure::NotAllowed(_)) => None,
        Err(failure) => return Err(failure),
    };
    if session.format == Format::Json {
        return print_json(&json!({ "program": own, "daemon": daemon }));
    }
    let running = match daemon {
        Some(daemon) => format!("daemon    {} (API v{})", daemon.version, daemon.api),
        None => "daemon    none answers".to_owned(),
    };
    print_lines(&[format!("groovebox {own}"), running])
}
