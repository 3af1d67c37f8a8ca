//! What front ends see of a node.

use super::{BlobHash, LocalTime, Node, NodeId, Quality, Report, Room, RoomTime, Span, UserId};
use crate::engine::election::Election;
use crate::engine::room::{ChatLine, Member, PastVote, Person, RoomState, Session, Verdict};
use crate::engine::status::{
    CandidateStatus, ChatStatus, DjStatus, FetchStatus, MemberStatus, NodeStatus, PastDjStatus,
    PastVoteStatus, PeerStatus, PersonStatus, RoomInReach, RoomStatus, Status, SyncStatus,
    TermStatus, UserStatus, VoteStatus,
};
use crate::wire::Refusal;
use crate::wire::message::OutputState;
use crate::wire::op::Choice;

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
        let state = settled.as_ref().map(|(state, at)| (&**state, *at));
        Status {
            node: self.node_status(now),
            room: state.and_then(|(state, at)| self.room_status(state, at)),
            members: self.member_statuses(now),
            playback: self.playback_status(now),
            queue: state.map(|(state, _)| state.queue_status()).unwrap_or_default(),
            fetching: self.fetch_statuses(),
            people: state.map(|(state, at)| Node::people_status(state, at)).unwrap_or_default(),
            votes: state.map(|(state, at)| self.vote_statuses(state, at)).unwrap_or_default(),
            rooms: self.rooms_in_reach(),
            peers: self.peer_statuses(),
        }
    }

    fn fetch_statuses(&self) -> Vec<FetchStatus> {
        let status =
            |(hash, percent): (&BlobHash, u8)| FetchStatus { id: hash.to_string(), percent };
        self.transfer.under_way().map(status).collect()
    }

    fn node_status(&self, now: LocalTime) -> NodeStatus {
        NodeStatus {
            id: self.me.to_string(),
            name: self.name.clone(),
            version: self.version.clone(),
            user: self.user.as_ref().map(|user| UserStatus {
                id: user.key.user_id().to_string(),
                name: user.name.clone(),
                display: user.display.clone(),
            }),
            uptime_s: u64::try_from((now - self.started).0 / 1_000_000_000).unwrap_or(0),
            // The driver knows it, and fills it in.
            port: 0,
            disk: self.disk,
            disk_notice: self.disk_notice.clone().or(self.playback.cache_trouble.clone()),
            outdated: self.outdated_notice(),
            twin: self.twin(now).map(|address| address.to_string()),
            wifi_power_save: self.wifi_power_save(),
        }
    }

    fn room_status(&self, state: &RoomState, at: RoomTime) -> Option<RoomStatus> {
        let (room, election) = (self.room.as_ref()?, self.election.as_ref()?);
        let term = election.term();
        let name = |user: UserId| state.person_name(&user);
        let acting = state.acting_owner(at).filter(|acting| Some(*acting) != state.owner());
        let settings = state.settings().list().into_iter();
        Some(RoomStatus {
            id: room.id().to_string(),
            name: state.name().to_owned(),
            code: state.code().to_owned(),
            locked: state.lock().is_some(),
            coordinator: election.coordinator().map(|node| node.to_string()),
            term: TermStatus { n: term.n, node: term.node.to_string(), boot: term.boot },
            owner: state.owner().map(name),
            acting_owner: acting.map(name),
            dj: state.dj().map(|dj| name(dj.user)),
            dj_since: state.dj().map(|dj| millis(dj.since)),
            settings: settings.map(|(key, value)| (key.to_owned(), value)).collect(),
            banned: state.banned().map(|(_, name)| name.to_owned()).collect(),
            muted: state.silenced().map(|(user, past)| muted_name(state, user, past)).collect(),
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

    fn people_status(state: &RoomState, at: RoomTime) -> Vec<PersonStatus> {
        let status = |(user, person): (&UserId, &Person)| {
            let devices = state.members().values().filter(|member| member.user == Some(*user));
            let cooldown = state.cooling_until(user, at).map(|until| (until - at).as_millis());
            PersonStatus {
                id: user.to_string(),
                name: person.name.clone(),
                display: person.display.clone(),
                role: role(state, Some(user)).into(),
                here: person.is_here(),
                muted: person.silenced,
                joined_at: millis(person.joined_at),
                last_active: millis(person.last_active),
                cooldown_ms: cooldown,
                devices: devices.map(|member| member.name.clone()).collect(),
            }
        };
        let mut people = state.people().iter().map(status).collect::<Vec<_>>();
        people.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        people
    }

    fn vote_statuses(&self, state: &RoomState, at: RoomTime) -> Vec<VoteStatus> {
        state.votes().map(|session| self.vote_status(state, at, session)).collect()
    }

    fn vote_status(&self, state: &RoomState, at: RoomTime, session: &Session) -> VoteStatus {
        let name = |user: &UserId| state.person_name(user);
        let me = self.user_id();
        let skipped = session.segment.and_then(|_| state.focus());
        let tally = session.tally().into_iter();
        let my_vote = me.and_then(|me| session.ballots.get(&me)).map(|choice| match choice {
            Choice::Yes => "yes".to_owned(),
            Choice::No => "no".to_owned(),
            Choice::For(user) => name(user),
        });
        let electorate = u32::try_from(session.electorate.len()).unwrap_or(u32::MAX);
        VoteStatus {
            id: format!("{:016x}", session.id.0),
            kind: session.kind.as_str().into(),
            caller: session.caller.as_ref().map(name),
            target: session
                .target
                .as_ref()
                .map(name)
                .or_else(|| skipped.map(|focus| focus.entry.track.title.clone())),
            votes_for: session.count(Choice::Yes),
            against: session.count(Choice::No),
            tally: tally
                .map(|(user, votes)| CandidateStatus { name: name(&user), votes })
                .collect(),
            required: session.required,
            electorate,
            opened_at: millis(session.opened_at),
            closes_at: millis(session.closes_at),
            closes_in_ms: (session.closes_at - at).as_millis().max(0),
            my_vote,
            may_vote: me.is_some_and(|me| session.electorate.contains(&me)),
        }
    }

    /// The DJ, and who was it before.
    ///
    /// # Errors
    ///
    /// When this device is in no room.
    pub fn dj_status(&self, now: LocalTime) -> Result<DjStatus, Refusal> {
        let (state, at) = self.settled(now).ok_or_else(Refusal::not_in_room)?;
        let ago = |then: RoomTime| (at - then).as_millis();
        let past = state.past_djs().rev().map(|past| PastDjStatus {
            name: past.name.clone(),
            from_ago_ms: ago(past.from),
            to_ago_ms: ago(past.to),
            reason: past.reason,
        });
        Ok(DjStatus {
            dj: state.dj().map(|dj| state.person_name(&dj.user)),
            for_ms: state.dj().map(|dj| ago(dj.since)),
            history: past.collect(),
        })
    }

    /// Votes that are over, the latest first.
    ///
    /// # Errors
    ///
    /// When this device is in no room.
    pub fn past_votes(&self, now: LocalTime) -> Result<Vec<PastVoteStatus>, Refusal> {
        let (state, at) = self.settled(now).ok_or_else(Refusal::not_in_room)?;
        let status = |past: &PastVote| PastVoteStatus {
            id: format!("{:016x}", past.id.0),
            kind: past.kind.as_str().into(),
            caller: past.caller.clone(),
            about: past.about.clone(),
            result: match past.verdict {
                Verdict::Passed => "passed",
                Verdict::Failed => "failed",
                Verdict::Elected(_) => "elected",
                Verdict::Moot => "moot",
            }
            .into(),
            votes_for: past.votes_for,
            against: past.votes_against,
            required: past.required,
            electorate: past.electorate,
            opened_ago_ms: (at - past.opened_at).as_millis(),
        };
        Ok(state.past_votes().rev().map(status).collect())
    }

    /// What was said in the room lately, oldest first. When by the wall the driver fills in.
    ///
    /// # Errors
    ///
    /// When this device is in no room.
    pub fn chat(&self, now: LocalTime) -> Result<Vec<ChatStatus>, Refusal> {
        let (state, at) = self.settled(now).ok_or_else(Refusal::not_in_room)?;
        let status = |line: &ChatLine| ChatStatus {
            id: ChatStatus::id(&line.op),
            name: line.name.clone(),
            user: line.user.to_string(),
            text: line.text.clone(),
            said_at: None,
            ago_ms: (at - line.at).as_millis(),
        };
        Ok(state.chat().map(status).collect())
    }

    fn member_status(&self, now: LocalTime, node: NodeId, member: &Member) -> MemberStatus {
        let state = self.room.as_ref().map(Room::state);
        let report = self.report_of(node);
        let heard = self.heard_at(now, node);
        MemberStatus {
            id: node.to_string(),
            name: member.name.clone(),
            kind: member.kind,
            user: member.user.and_then(|user| Some(state?.person_name(&user))),
            role: state.map_or("listener", |state| role(state, member.user.as_ref())).into(),
            online: self.is_present(node),
            joined_at: millis(member.joined_at),
            last_active: heard.map(millis),
            volume: member.volume,
            muted: member.muted,
            output: report.map_or(OutputState::None, |report| report.output.clone()),
            quality: self.quality_of(node).as_str().into(),
            sync: report.map(sync_status),
        }
    }

    fn quality_of(&self, node: NodeId) -> Quality {
        if node == self.me {
            return self.gauge.quality();
        }
        self.peers.get(&node).map_or(Quality::Good, |peer| peer.gauge.quality())
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
                in_reach: true,
            })
            .chain(self.rooms_out_of_reach())
            .collect()
    }

    /// Rooms that this device was in and nobody of which is here.
    fn rooms_out_of_reach(&self) -> impl Iterator<Item = RoomInReach> {
        let here = self.membership.rooms().into_iter().map(|card| card.id);
        let here = here.chain(self.room_id()).collect::<std::collections::BTreeSet<_>>();
        let absent = self.known_rooms.iter().filter(move |known| !here.contains(&known.id));
        absent.map(|known| RoomInReach {
            id: known.id.to_string(),
            name: known.name.clone(),
            code: known.code.clone(),
            locked: false,
            devices: 0,
            playing: None,
            joined: false,
            in_reach: false,
        })
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

/// What somebody is called who may not chat; whoever has left is called as they were.
fn muted_name(state: &RoomState, user: &UserId, past: &str) -> String {
    state.person(user).map_or_else(|| past.to_owned(), |person| person.name.clone())
}

/// owner > dj > listener > guest.
fn role(state: &RoomState, user: Option<&UserId>) -> &'static str {
    let is = |other: Option<UserId>| user.is_some() && other.as_ref() == user;
    let guest = user.and_then(|user| state.person(user)).is_some_and(Person::is_guest);
    if is(state.owner()) {
        "owner"
    } else if is(state.dj().map(|dj| dj.user)) {
        "dj"
    } else if guest {
        "guest"
    } else {
        "listener"
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
