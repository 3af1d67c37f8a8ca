//! What follows when the disk takes nothing: the music plays on, what happens is kept in memory
//! and by the others, and this device does not count among those that have written.

use super::{LocalTime, Node, NodeId, Notice};
use crate::engine::status::DiskState;

impl Node {
    /// Whether the disk takes entries.
    pub(super) fn disk_takes(&self) -> bool {
        self.disk == DiskState::Ok
    }

    /// Whether an entry must be on this device's disk before it is acknowledged. Where the disk
    /// takes nothing others have to do, and with nobody there the memory: the status says so,
    /// and the room does not stop for it. A slow disk of a device that is alone is waited for.
    pub(super) fn must_write(&self, alone: bool) -> bool {
        match self.disk {
            DiskState::Ok => true,
            DiskState::Slow => alone,
            DiskState::Full | DiskState::Failed => false,
        }
    }

    pub(super) fn disk_reported(&mut self, now: LocalTime, disk: DiskState) {
        if disk == self.disk {
            return;
        }
        let wrote = self.writes();
        self.disk = disk;
        self.tell(Notice::Disk(disk));
        // What waited for this disk need not wait any longer.
        self.acknowledge();
        self.tell_if_writes(now, wrote);
    }

    pub(super) fn peer_disk_reported(&mut self, from: NodeId, writes: bool) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.writes = writes;
            self.acknowledge();
        }
    }

    /// Whether a member counts among those that have written.
    pub(super) fn counts(&self, node: &NodeId) -> bool {
        self.peers.get(node).is_none_or(|peer| peer.writes)
    }
}
