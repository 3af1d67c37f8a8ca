//! A status with something in every place, for the tests of those who show one.

use super::{CardFormat, ChatLog, Health, Space};
use crate::engine::Status;
use crate::engine::friends::Discoverable;
use crate::engine::room::{DjEnd, EndReason};
use crate::engine::status::{
    CandidateStatus, ChatStatus, DiskState, DjStatus, DroppedStatus, FriendRequestStatus,
    FriendStatus, FriendsStatus, HeardTrack, HistoryStatus, LogEntryStatus, LogStatus,
    MemberStatus, NodeStatus, PairingStatus, PastDjStatus, PastVoteStatus, PeerStatus,
    PersonStatus, PlaybackState, PlaybackStatus, QueueStatus, RoomInReach, RoomStatus, SyncStatus,
    TermStatus, TrackStatus, VoteStatus, WaitingStatus,
};
use crate::wire::MemberKind;
use crate::wire::message::{Level, OutputState, SyncState};
use crate::wire::op::Repeat;

/// Three devices in a kitchen, one of them away, and a jazz record.
pub(crate) fn status() -> Status {
    Status {
        people: Vec::new(),
        node: NodeStatus {
            user: None,
            id: "a1".repeat(32),
            name: "kitchen".to_owned(),
            version: "0.1.0".to_owned(),
            uptime_s: 3725,
            port: 4766,
            disk: DiskState::Ok,
            disk_notice: None,
            outdated: None,
            twin: None,
            wifi_power_save: None,
        },
        room: Some(room()),
        members: vec![
            member("kitchen", "a1", Some(sync(12.0, 18.0, 0.0))),
            member("living-room-left", "b2", Some(sync(-340.5, 96.0, 412.0))),
            MemberStatus {
                online: false,
                muted: true,
                output: OutputState::Failed("unplugged".to_owned()),
                ..member("porch", "c3", None)
            },
        ],
        playback: PlaybackStatus {
            state: PlaybackState::Playing,
            position_ms: 83_400,
            duration_ms: 562_000,
            started_at: Some(1_000),
            track: Some(track("So What")),
            volume: 80,
            repeat: Repeat::Off,
            notice: None,
        },
        queue: vec![entry(7, "Freddie Freeloader"), entry(9, "Blue in Green")],
        fetching: Vec::new(),
        votes: Vec::new(),
        rooms: vec![
            RoomInReach {
                id: "d4".repeat(32),
                name: "Kitchen party".to_owned(),
                code: "GROOVE-7KQ4".to_owned(),
                locked: false,
                devices: 3,
                playing: Some("So What".to_owned()),
                joined: true,
                in_reach: true,
            },
            RoomInReach {
                id: "e5".repeat(32),
                name: "Next door".to_owned(),
                code: "GROOVE-M3XA".to_owned(),
                locked: true,
                devices: 1,
                playing: None,
                joined: false,
                in_reach: true,
            },
        ],
        peers: vec![
            peer("living-room-left", "b2", true, 61_234_567),
            peer("porch", "c3", false, 0),
        ],
    }
}

fn room() -> RoomStatus {
    RoomStatus {
        id: "d4".repeat(32),
        name: "Kitchen party".to_owned(),
        code: "GROOVE-7KQ4".to_owned(),
        locked: false,
        coordinator: Some("a1".repeat(32)),
        term: TermStatus { n: 3, node: "a1".repeat(32), boot: 2 },
        owner: None,
        dj: None,
        acting_owner: None,
        dj_since: None,
        settings: std::collections::BTreeMap::new(),
        banned: Vec::new(),
        muted: Vec::new(),
        log_idx: 42,
        durable_idx: 41,
        state_hash: "0123456789abcdef".to_owned(),
    }
}

fn member(name: &str, id: &str, sync: Option<SyncStatus>) -> MemberStatus {
    MemberStatus {
        id: id.repeat(32),
        name: name.to_owned(),
        kind: MemberKind::Speaker,
        user: None,
        role: "listener".to_owned(),
        online: true,
        joined_at: 0,
        last_active: Some(1_000),
        volume: 80,
        muted: false,
        output: OutputState::Ok,
        quality: "good".to_owned(),
        sync,
    }
}

fn sync(offset_us: f64, error_us: f64, rtt_us: f64) -> SyncStatus {
    SyncStatus {
        state: SyncState::Synced,
        offset_us,
        error_us,
        asymmetry_us: rtt_us / 2.0,
        rtt_us,
        rtt_avg_us: rtt_us * 1.5,
        jitter_us: rtt_us * 4.0,
        drift_ppm: -12.34,
        dac_ppm: 31.2,
        correction_ppm: 0.4,
        buffer_ms: 15_200.0,
        underruns: 1,
    }
}

fn track(title: &str) -> TrackStatus {
    TrackStatus {
        id: "f6".repeat(32),
        title: title.to_owned(),
        artists: vec!["Miles Davis".to_owned()],
        album: "Kind of Blue".to_owned(),
        source: "file".to_owned(),
        added_by: "kitchen".to_owned(),
    }
}

fn entry(id: u64, title: &str) -> QueueStatus {
    QueueStatus { id, track: track(title), duration_ms: 337_000, unavailable: false, up_votes: 0 }
}

fn peer(name: &str, id: &str, connected: bool, sent_bytes: u64) -> PeerStatus {
    PeerStatus {
        id: id.repeat(32),
        name: name.to_owned(),
        address: Some("192.168.1.20:4766".to_owned()),
        connected,
        room: Some("GROOVE-7KQ4".to_owned()),
        sent_bytes,
        received_bytes: 0,
    }
}

/// Anna is DJ, after Ben whom the others removed.
pub(crate) fn dj() -> DjStatus {
    DjStatus {
        dj: Some("anna".to_owned()),
        for_ms: Some(754_000),
        history: vec![PastDjStatus {
            name: "ben".to_owned(),
            from_ago_ms: 3_600_000,
            to_ago_ms: 754_000,
            reason: DjEnd::Mutiny,
        }],
    }
}

/// One mutiny, which passed.
pub(crate) fn past_votes() -> Vec<PastVoteStatus> {
    vec![PastVoteStatus {
        id: "00000000000000a1".to_owned(),
        kind: "mutiny".to_owned(),
        caller: Some("anna".to_owned()),
        about: Some("ben".to_owned()),
        result: "passed".to_owned(),
        votes_for: 2,
        against: 1,
        required: 2,
        electorate: 3,
        opened_ago_ms: 780_000,
    }]
}

/// Two open votes of three people.
pub(crate) fn votes() -> Vec<VoteStatus> {
    let mutiny = VoteStatus {
        id: "00000000000000b2".to_owned(),
        kind: "mutiny".to_owned(),
        caller: Some("ben".to_owned()),
        target: Some("anna".to_owned()),
        votes_for: 3,
        against: 1,
        required: 5,
        electorate: 8,
        opened_at: 100_000,
        closes_at: 160_000,
        closes_in_ms: 41_000,
        may_vote: true,
        ..VoteStatus::default()
    };
    let of = |name: &str, votes| CandidateStatus { name: name.to_owned(), votes };
    let election = VoteStatus {
        id: "00000000000000c3".to_owned(),
        kind: "election".to_owned(),
        caller: None,
        target: None,
        votes_for: 0,
        against: 0,
        tally: vec![of("carla", 2), of("ben", 1)],
        my_vote: Some("carla".to_owned()),
        ..mutiny.clone()
    };
    vec![election, mutiny]
}

/// Anna owns the room, Ben cools down, Carla is away and muted.
pub(crate) fn people() -> Vec<PersonStatus> {
    let person = |name: &str, display: &str, role: &str| PersonStatus {
        id: format!("{:02x}", name.as_bytes()[0]).repeat(32),
        name: name.to_owned(),
        display: display.to_owned(),
        role: role.to_owned(),
        here: true,
        muted: false,
        joined_at: 0,
        last_active: 1_000,
        cooldown_ms: None,
        devices: vec!["kitchen".to_owned()],
    };
    vec![
        person("anna", "Anna Ö.", "owner"),
        PersonStatus { cooldown_ms: Some(154_000), ..person("ben", "ben", "listener") },
        PersonStatus {
            here: false,
            muted: true,
            devices: vec!["porch".to_owned(), "phone".to_owned()],
            ..person("carla", "Carla", "listener")
        },
    ]
}

/// Two lines.
pub(crate) fn chat() -> ChatLog {
    let line = |id: u64, name: &str, text: &str, said_at| ChatStatus {
        id: format!("{}-1-{id}", "a1".repeat(32)),
        name: name.to_owned(),
        user: "61".repeat(32),
        text: text.to_owned(),
        said_at: Some(said_at),
        ago_ms: 0,
    };
    ChatLog {
        room: Some("d4".repeat(32)),
        lines: vec![
            line(1, "anna", "who wants jazz?", 1_795_000_000_000),
            line(2, "ben", "me", 1_795_000_060_000),
        ],
    }
}

/// Two rows, the latest first.
pub(crate) fn history() -> Vec<HistoryStatus> {
    let row = |id: u64, title: &str, reason| HistoryStatus {
        id: format!("{id:016x}"),
        track: HeardTrack {
            id: "f6".repeat(32),
            title: title.to_owned(),
            artists: "Miles Davis".to_owned(),
            album: "Kind of Blue".to_owned(),
            source: "file".to_owned(),
            added_by: "kitchen".to_owned(),
        },
        dj: None,
        started_at: 1_795_000_000_000,
        ended_at: 1_795_000_337_000,
        lasted_ms: 337_000,
        reason,
        present: 0,
    };
    vec![
        row(2, "Blue in Green", EndReason::Skipped),
        row(1, "Freddie Freeloader", EndReason::Finished),
    ]
}

/// A log after two halves have met.
pub(crate) fn log() -> LogStatus {
    let entry = |idx, what: &str, level| LogEntryStatus {
        idx,
        term: TermStatus { n: 7, node: "a1".repeat(32), boot: 3 },
        at_ms: 1000 * i64::try_from(idx).expect("small"),
        author: "kitchen".to_owned(),
        kind: "next".to_owned(),
        what: what.to_owned(),
        level,
    };
    LogStatus {
        last_idx: 43,
        replicated: 42,
        durable: 41,
        entries: vec![
            entry(41, "queued \"So What\"", Level::Durable),
            entry(42, "set kitchen to volume 40", Level::Replicated),
            entry(43, "skipped to the next track", Level::Local),
        ],
        waiting: vec![WaitingStatus {
            author: "hall".to_owned(),
            kind: "clear".to_owned(),
            what: "emptied the queue".to_owned(),
        }],
        dropped: vec![DroppedStatus {
            author: "hall".to_owned(),
            created_ms: Some(40_000),
            what: "paused".to_owned(),
            why: "it came too late: such a command counts for 5 seconds".to_owned(),
        }],
    }
}

/// A friend, and somebody who asks to be one.
pub fn friends() -> FriendsStatus {
    let ben = FriendStatus {
        id: "cd".repeat(32),
        name: "ben".into(),
        display: "Ben".into(),
        since: 1_700_000_000,
        online: true,
    };
    let carla = FriendRequestStatus {
        id: "ef".repeat(32),
        name: "carla".into(),
        display: "Carla".into(),
        since: 1_700_003_600,
        delivered: true,
    };
    FriendsStatus {
        discoverable: Some(Discoverable::Rooms),
        friends: vec![ben],
        sent: vec![],
        received: vec![carla],
        found: vec![],
        now: 1_700_086_400,
        pairing: PairingStatus::of("idle"),
    }
}

fn space(path: &str) -> Space {
    Space { path: path.into(), free_bytes: Some(61_200_000_000), obstacle: None }
}

/// A machine on which all is well.
pub(crate) fn health() -> Health {
    Health {
        config: Some("/etc/groovebox/groovebox.toml".into()),
        state: space("/var/lib/groovebox"),
        cache: space("/var/cache/groovebox"),
        bind: None,
        port: 4766,
        port_required: false,
        mdns: true,
        peers: Vec::new(),
        output: "default".to_owned(),
        buffer_ms: 80,
        cards: vec![CardFormat {
            card: "PCH".to_owned(),
            rate: 48_000,
            channels: 2,
            sample: "S32_LE".to_owned(),
        }],
        realtime: true,
        interface: Some("eth0".to_owned()),
        wired: Some(true),
        power_save: None,
        wall_clock_synced: Some(true),
        clock_source: Some("arch_sys_counter".to_owned()),
        throttled: Some(false),
    }
}
