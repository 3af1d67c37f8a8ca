//! How much a node remembers: all that could grow, by name. A daemon runs for months; the
//! simulator lets a week go by and looks whether any of it goes on growing.

use super::Node;
use crate::engine::election::Election;
use crate::engine::room::Room;
use crate::wire::codec;

/// A name, and how many of it are held; bytes where the name says so.
pub type Size = (&'static str, usize);

impl Node {
    /// Everything that grows while a node runs. Encodes the state: not for every second.
    #[must_use]
    pub fn sizes(&self) -> Vec<Size> {
        let room = self.room.as_ref().map(room_sizes).unwrap_or_default();
        let election = self.election.as_ref().map_or(0, Election::size);
        let ready = self.peers.values().map(|peer| peer.ready.len()).sum();
        let own = [
            ("outbox", self.replication.outbox.len()),
            ("operations covered by a state", self.replication.covered.len()),
            ("entries not acknowledged", self.replication.n_waiting()),
            ("members followed up", self.replication.progress.len()),
            ("operations left out", self.replication.dropped.len()),
            ("people who wait", self.requests.len()),
            ("election", election),
            ("book of peers", self.membership.size()),
            ("peers", self.peers.len()),
            ("at the door", self.door.size()),
            ("segments ready at peers", ready),
            ("transfer", self.transfer.size()),
            ("friends", self.friends.size()),
            ("playback", self.playback.size()),
            ("clock", self.clock.size()),
            ("losses of the lead", self.condition.n_flaps()),
            ("rooms left", self.terms_left.len() + self.unheard.len()),
            ("outputs", self.outputs.len()),
        ];
        room.into_iter().chain(own).collect()
    }
}

fn room_sizes(room: &Room) -> Vec<Size> {
    let state = codec::encode_state(room.state()).map_or(0, |bytes| bytes.len());
    vec![
        ("entries in memory", room.log().entries().count()),
        ("bytes of their bodies", room.log().body_bytes()),
        ("states to wind back to", room.n_checkpoints()),
        ("members", room.state().members().len()),
        ("queue", room.state().queue().len()),
        ("bytes of the state", state),
    ]
}
