//! `pause`, `resume`, `toggle`, `stop`, `next`, `prev`: the buttons of a player. One file for
//! the six, since each is one word without arguments.

use serde_json::json;

use super::failure::Failure;
use super::session::Session;

/// A button.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transport {
    Pause,
    Resume,
    Toggle,
    Stop,
    Next,
    Prev,
}

pub(super) async fn run(button: Transport, session: &mut Session) -> Result<(), Failure> {
    let path = match button {
        Transport::Pause => "/pause",
        Transport::Resume => "/resume",
        Transport::Toggle => "/toggle",
        Transport::Stop => "/stop",
        Transport::Next => "/next",
        Transport::Prev => "/prev",
    };
    session.post(path, json!({})).await
}
