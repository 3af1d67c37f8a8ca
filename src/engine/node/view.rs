//! What front ends see of a node.

use super::{LocalTime, Node, NodeId, Report, Room, RoomTime, Span};
use crate::engine::election::Election;
use crate::engine::room::Member;
use crate::engine::status::{
    MemberStatus, NodeStatus, PeerStatus, RoomInReach, RoomStatus, Status, SyncStatus, TermStatus,
};
use crate::wire::message::OutputState;

/// What can be looked at without drawing a picture.
impl Node {
    /// The room it is in: state and log.
    #[must_use]
    pub fn room(&self) -> Option<&Room> {
        self.room.as_ref()
    }

    /// Who coordinates that room, as this node sees it.
    #[must_use]
    pub fn election(&self) -> Option<&Election> {
        self.election.as_ref()
    }
}

impl Node {
    /// An immutable picture of everything, made anew at each call.
    #[must_use]
    pub fn status(&self, now: LocalTime) -> Status {
        let settled = self.settled(now);
        let queue = settled.map(|(state, _)| state.queue_status()).unwrap_or_default();
        Status {
            node: self.node_status(now),
            room: self.room_status(),
            members: self.member_statuses(now),
            playback: self.playback_status(now),
            queue,
            votes: Vec::new(),
            rooms: self.rooms_in_reach(),
            peers: self.peer_statuses(),
        }
    }

    fn node_status(&self, now: LocalTime) -> NodeStatus {
        NodeStatus {
            id: self.me.to_string(),
            name: self.name.clone(),
            version: self.version.clone(),
            uptime_s: u64::try_from((now - self.started).0 / 1_000_000_000).unwrap_or(0),
            // The driver knows it, and fills it in.
            port: 0,
            disk: self.disk,
            disk_notice: self.disk_notice.clone(),
            outdated: self.outdated_notice(),
            twin: self.twin(now).map(|address| address.to_string()),
            wifi_power_save: self.wifi_power_save(),
        }
    }

    fn room_status(&self) -> Option<RoomStatus> {
        let (room, election) = (self.room.as_ref()?, self.election.as_ref()?);
        let (state, term) = (room.state(), election.term());
        Some(RoomStatus {
            id: room.id().to_string(),
            name: state.name().to_owned(),
            code: state.code().to_owned(),
            locked: false,
            coordinator: election.coordinator().map(|node| node.to_string()),
            term: TermStatus { n: term.n, node: term.node.to_string(), boot: term.boot },
            owner: None,
            dj: None,
            settings: serde_json::Value::Object(serde_json::Map::new()),
            log_idx: room.log().last_idx(),
            durable_idx: self.replication.safe.1,
            state_hash: crate::base::ids::hex(&self.state_hash(room)),
        })
    }

    /// The hash of the state, made once for each entry: a long queue takes milliseconds, and a
    /// picture is drawn several times a second.
    pub(super) fn state_hash(&self, room: &Room) -> [u8; 16] {
        let place = (room.id(), room.log().chain());
        match self.hashed.get() {
            Some((at, hash)) if at == place => hash,
            _ => {
                let hash = room.state().hash();
                self.hashed.set(Some((place, hash)));
                hash
            }
        }
    }

    fn member_statuses(&self, now: LocalTime) -> Vec<MemberStatus> {
        let Some(room) = &self.room else { return Vec::new() };
        let mut members = room
            .state()
            .members()
            .iter()
            .map(|(n, m)| self.member_status(now, *n, m))
            .collect::<Vec<_>>();
        members.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        members
    }

    fn member_status(&self, now: LocalTime, node: NodeId, member: &Member) -> MemberStatus {
        let report = self.report_of(node);
        let heard = self.heard_at(now, node);
        MemberStatus {
            id: node.to_string(),
            name: member.name.clone(),
            kind: member.kind,
            user: member.user.map(|user| user.to_string()),
            role: "listener".into(),
            online: self.is_present(node),
            joined_at: millis(member.joined_at),
            last_active: heard.map(millis),
            volume: member.volume,
            muted: member.muted,
            output: report.map_or(OutputState::None, |report| report.output.clone()),
            quality: report.map_or("good", quality).into(),
            sync: report.map(sync_status),
        }
    }

    fn report_of(&self, node: NodeId) -> Option<&Report> {
        if node == self.me {
            return Some(&self.report);
        }
        self.peers.get(&node)?.report.as_ref().map(|(report, _)| report)
    }

    fn heard_at(&self, now: LocalTime, node: NodeId) -> Option<RoomTime> {
        if node == self.me {
            return Some(self.room_now(now));
        }
        let (_, at) = self.peers.get(&node)?.report.as_ref()?;
        Some(self.room_now(*at))
    }

    fn rooms_in_reach(&self) -> Vec<RoomInReach> {
        let own = self.shown_card.iter();
        let others = self.membership.rooms().into_iter();
        own.chain(others.filter(|card| Some(card.id) != self.room_id()))
            .map(|card| RoomInReach {
                id: card.id.to_string(),
                name: card.name.clone(),
                code: card.code.clone(),
                locked: card.locked,
                devices: card.devices,
                playing: card.playing.clone(),
                joined: Some(card.id) == self.room_id(),
            })
            .collect()
    }

    fn peer_statuses(&self) -> Vec<PeerStatus> {
        self.membership
            .peers()
            .map(|peer| PeerStatus {
                id: peer.node.to_string(),
                name: peer.name.to_owned(),
                address: peer.address.map(|address| address.to_string()),
                connected: peer.connected,
                room: peer.room.map(|card| card.code.clone()),
                // The driver counts bytes; it fills these in.
                sent_bytes: 0,
                received_bytes: 0,
            })
            .collect()
    }
}

/// By the round trip: above 500 ms weak, above 1 s excluded; jitter above 200 ms is weak too.
fn quality(report: &Report) -> &'static str {
    if report.rtt_avg_us > 1e6 {
        "excluded"
    } else if report.rtt_avg_us > 5e5 || report.jitter_us > 2e5 {
        "weak"
    } else {
        "good"
    }
}

fn sync_status(report: &Report) -> SyncStatus {
    SyncStatus {
        state: report.state,
        offset_us: report.offset_us.into(),
        error_us: report.error_us.into(),
        asymmetry_us: report.asymmetry_us.into(),
        rtt_us: report.rtt_us.into(),
        rtt_avg_us: report.rtt_avg_us.into(),
        jitter_us: report.jitter_us.into(),
        drift_ppm: report.drift_ppm.into(),
        dac_ppm: report.dac_ppm.into(),
        correction_ppm: report.correction_ppm.into(),
        buffer_ms: report.buffer_ms.into(),
        underruns: report.underruns,
    }
}

fn millis(at: RoomTime) -> i64 {
    Span(at.0).as_millis()
}
