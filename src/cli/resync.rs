//! `groovebox resync`: give devices the coordinator's state anew.

use clap::Args;
use serde_json::json;

use super::failure::Failure;
use super::session::Session;

#[derive(Args, Debug)]
pub(super) struct ResyncArgs {
    /// Only the device of this name
    pub(super) member: Option<String>,
}

pub(super) async fn run(args: ResyncArgs, session: &mut Session) -> Result<(), Failure> {
    let body = args.member.map_or_else(|| json!({}), |member| json!({ "member": member }));
    session.post("/resync", body).await
}
