//! `groovebox user`: whose device this is.

use clap::Subcommand;

use super::failure::Failure;
use super::pair;
use super::session::Session;

#[derive(Subcommand, Debug)]
pub(super) enum UserVerb {
    /// Make a second device one of the same person's, who then has one vote on both
    Pair(pair::PairArgs),
}

pub(super) async fn run(verb: UserVerb, session: &mut Session) -> Result<(), Failure> {
    match verb {
        UserVerb::Pair(args) => pair::run(args, session).await,
    }
}
