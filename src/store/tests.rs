//! What survives a restart, a crash and damage.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;
use crate::base::limits::{
    LOG_KEPT, LOG_KEPT_BYTES, MAX_DROPPED, MAX_KNOWN_PEERS, MAX_OUTBOX, STORE_QUEUE_BYTES,
};
use crate::base::{BlobHash, NodeId, OpId, RoomTime, SegmentId, Span, Term};
use crate::engine::room::EndReason;
use crate::engine::status::DiskState;
use crate::wire::codec;
use crate::wire::op::{Genesis, Op};

/// Far longer than any disk needs; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A state directory and what the thread reports.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    fn new() -> Disk {
        Disk { dir: tempfile::tempdir().expect("a directory") }
    }

    fn open(&self) -> (Store, Loaded, Receiver<StoreEvent>) {
        let (sender, events) = channel();
        let notify = Box::new(move |event| drop(sender.send(event)));
        let (store, loaded) = open(self.state(), || Ok(b"key".to_vec()), notify).expect("opens");
        (store, loaded, events)
    }

    fn refused(&self) -> StoreError {
        let opened = open(self.state(), || Ok(vec![]), Box::new(drop));
        opened.map(drop).expect_err("must not open")
    }

    fn state(&self) -> &Path {
        self.dir.path()
    }

    fn room_file(&self) -> PathBuf {
        room_path(&self.state().join("rooms"), room())
    }

    fn set_aside(&self, within: &str) -> usize {
        let dir = fs::read_dir(self.state().join(within)).expect("a directory");
        let names = dir.map(|file| file.expect("readable").file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".corrupt-1")).count()
    }

    /// A store that has been told to be in the room, with that many entries after a snapshot
    /// at `base`, closed again.
    fn with_room(&self, base: u64, last: u64) {
        let (store, _, _events) = self.open();
        store.save_intent(Intent::Room(room())).expect("enqueued");
        store.save_room(snapshot(base), 1).expect("enqueued");
        store.save_entries(room(), entries(base, last), 2).expect("enqueued");
    }

    fn damage(&self, sql: &str) {
        let conn = rusqlite::Connection::open(self.room_file()).expect("opens");
        conn.execute_batch(sql).expect("damaged");
    }
}

fn genesis() -> Genesis {
    Genesis {
        founder: NodeId([1; 32]),
        nonce: [2; 16],
        name: "Home".into(),
        code: "GROOVE-7KQ4".into(),
        unattended: false,
        signature: ([0; 32], [0; 32]),
    }
}

fn room() -> RoomId {
    codec::room_id(&genesis())
}

fn term() -> Term {
    Term { n: 3, node: NodeId([1; 32]), boot: 4 }
}

/// The whole log: entry `i` at place `i - 1`.
fn log(last: u64) -> Vec<Entry> {
    let mut chain = [0; 16];
    let entry = |idx| {
        let op = Op {
            room: room(),
            id: OpId { author: NodeId([1; 32]), boot: 1, seq: idx },
            created: RoomTime(0),
            kind: 12,
            body: vec![5; 9],
            signature: ([0; 32], [0; 32]),
        };
        let at = RoomTime(idx.cast_signed());
        chain = codec::chain(&chain, &term(), at, &op);
        Entry { idx, term: term(), at, op, chain }
    };
    (1..=last).map(entry).collect()
}

/// `n` entries that continue a log, with bodies of that length, ordered in a reign of their own,
/// one every `pace`.
pub(super) fn entries_with(
    log: &[Entry],
    n: u64,
    body: usize,
    reign: u64,
    pace: Span,
) -> Vec<Entry> {
    let mut last = log.last().map_or((0, [0; 16]), |entry| (entry.idx, entry.chain));
    let term = Term { n: reign, ..term() };
    let entry = |_| {
        let idx = last.0 + 1;
        let id = OpId { author: NodeId([1; 32]), boot: 2, seq: idx };
        let op = Op { id, body: vec![7; body], ..self::log(1)[0].op.clone() };
        let at = RoomTime(idx.cast_signed() * pace.0);
        let chain = codec::chain(&last.1, &term, at, &op);
        last = (idx, chain);
        Entry { idx, term, at, op, chain }
    };
    (0..n).map(entry).collect()
}

/// The state behind that entry of a log, and the room.
pub(super) fn snapshot_of(log: &[Entry], idx: u64) -> (Snapshot, RoomId) {
    let chain = log.iter().find(|entry| entry.idx == idx).map_or([0; 16], |entry| entry.chain);
    (Snapshot { idx, chain, ..snapshot(0) }, room())
}

/// Those after `base`, up to `last`.
fn entries(base: u64, last: u64) -> Vec<Entry> {
    log(last).into_iter().filter(|entry| entry.idx > base).collect()
}

fn snapshot(idx: u64) -> Snapshot {
    Snapshot {
        genesis: genesis(),
        term: term(),
        idx,
        last_term: term(),
        chain: log(idx).last().map_or([0; 16], |entry| entry.chain),
        state: format!("state at {idx}").into_bytes(),
    }
}

fn loaded_room(snapshot: Snapshot, entries: Vec<Entry>) -> LoadedRoom {
    LoadedRoom { snapshot, entries, outbox: vec![], dropped: vec![], position: None }
}

fn written(idx: u64, ticket: u64) -> StoreEvent {
    StoreEvent::Written { room: room(), idx, chain: snapshot(idx).chain, ticket }
}

pub(super) fn ops(of: std::ops::Range<u64>) -> Vec<Op> {
    of.map(|seq| Op { id: OpId { author: NodeId([6; 32]), boot: 2, seq }, ..log(1)[0].op.clone() })
        .collect()
}

fn ids(ops: &[Op]) -> Vec<OpId> {
    ops.iter().map(|op| op.id).collect()
}

pub(super) fn left_out(seq: u64) -> DroppedOp {
    let (what, why) = ("skipped Blue".into(), "it came too late".into());
    DroppedOp { id: ops(seq..seq + 1)[0].id, created: RoomTime(-7), what, why }
}

pub(super) fn position(seconds: i64) -> SavedPosition {
    SavedPosition {
        // A high bit must survive that SQLite's integers are signed.
        segment: SegmentId(u64::MAX - 1),
        position: Span::from_secs(seconds),
        playing: true,
        clock_epoch: u32::MAX,
        room: RoomTime(-5),
        wall: 1_700_000_000_000,
    }
}

fn heard(segment: u64) -> HistoryRow {
    HistoryRow {
        segment: SegmentId(segment),
        track: BlobHash([3; 32]),
        title: format!("song {segment}"),
        artists: "Anna, Bo".into(),
        album: String::new(),
        source: "file".into(),
        dj: Some("anna".into()),
        added_by: "bo".into(),
        started: RoomTime(10),
        ended: RoomTime(20),
        ended_wall: -1,
        reason: EndReason::Skipped,
        present: 3,
    }
}

fn wait_for(events: &Receiver<StoreEvent>, wanted: &StoreEvent) {
    loop {
        let event = events.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {wanted:?}"));
        if event == *wanted {
            return;
        }
    }
}

fn peer(n: u32) -> PeerAddress {
    let node = NodeId(*blake3::hash(&n.to_le_bytes()).as_bytes());
    let addresses = ["127.0.0.1:4766", "[::1]:9"].map(|text| text.parse().expect("an address"));
    PeerAddress { node, name: format!("peer {n}"), addresses: addresses.to_vec() }
}

#[test]
fn the_identity_stays_and_the_start_counter_rises() {
    let disk = Disk::new();
    for boot in 1..=3 {
        let (_store, loaded, _) = disk.open();
        assert_eq!((loaded.key.as_slice(), loaded.boot), (&b"key"[..], boot));
        assert_eq!((loaded.intent, loaded.last_room), (Intent::Any, None));
    }
}

#[test]
fn a_restart_gives_back_what_was_written() {
    let disk = Disk::new();
    disk.with_room(2, 7);
    let (store, loaded, _) = disk.open();
    assert_eq!(loaded.intent, Intent::Room(room()));
    let room = loaded.last_room.expect("it was there");
    assert_eq!((room.snapshot, room.entries), (snapshot(2), entries(2, 7)));
    store.save_intent(Intent::Alone).expect("enqueued");
    drop(store);
    let (_store, loaded, _) = disk.open();
    assert_eq!((loaded.intent, loaded.last_room), (Intent::Alone, None));
}

#[test]
fn peers_are_kept_most_recent_first_and_bounded() {
    let disk = Disk::new();
    let (store, ..) = disk.open();
    for n in 0..300 {
        store.save_peer(peer(n)).expect("enqueued");
    }
    store.save_peer(PeerAddress { name: "renamed".into(), ..peer(250) }).expect("enqueued");
    drop(store);
    let (_store, loaded, _) = disk.open();
    assert_eq!(loaded.peers.len(), MAX_KNOWN_PEERS);
    assert_eq!(loaded.peers[0], PeerAddress { name: "renamed".into(), ..peer(250) });
    assert_eq!(loaded.peers[1], peer(299));
}

#[test]
fn writes_are_reported_when_written_and_again_when_synced() {
    let disk = Disk::new();
    let (store, _, events) = disk.open();
    store.save_room(snapshot(0), 1).expect("enqueued");
    store.save_entries(room(), entries(0, 3), 2).expect("enqueued");
    wait_for(&events, &written(3, 2));
    wait_for(&events, &StoreEvent::Synced { room: room(), idx: 3, ticket: 2 });
    store.save_entries(room(), entries(3, 4), 9).expect("enqueued");
    drop(store);
    let rest: Vec<_> = events.iter().collect();
    let synced = StoreEvent::Synced { room: room(), idx: 4, ticket: 9 };
    assert_eq!(rest, [written(4, 9), synced], "the end syncs what is left");
}

#[test]
fn what_was_reported_written_is_there_after_a_crash() {
    let disk = Disk::new();
    let (store, _, events) = disk.open();
    store.save_intent(Intent::Room(room())).expect("enqueued");
    store.save_room(snapshot(0), 1).expect("enqueued");
    store.save_entries(room(), entries(0, 5), 2).expect("enqueued");
    wait_for(&events, &written(5, 2));
    // The files as a killed process leaves them: copied while they are open and unsynced.
    let after = Disk::new();
    fs::create_dir(after.state().join("rooms")).expect("made");
    for dir in ["", "rooms"] {
        for file in fs::read_dir(disk.state().join(dir)).expect("listed") {
            let file = file.expect("readable");
            if file.file_type().expect("known").is_file() {
                let to = after.state().join(dir).join(file.file_name());
                fs::copy(file.path(), to).expect("copied");
            }
        }
    }
    drop(store);
    let (_store, loaded, _) = after.open();
    let room = loaded.last_room.expect("it was written");
    assert_eq!((room.snapshot, room.entries), (snapshot(0), entries(0, 5)));
}

#[test]
fn a_snapshot_makes_a_start_shorter_and_loses_nothing_behind_it() {
    let disk = Disk::new();
    disk.with_room(0, 10);
    let (store, ..) = disk.open();
    for idx in [6, 6, 3] {
        store.save_snapshot(snapshot(idx)).expect("enqueued");
    }
    store.save_entries(room(), entries(10, 11), 3).expect("enqueued");
    drop(store);
    let (_store, loaded, _) = disk.open();
    let room = loaded.last_room.expect("there");
    assert_eq!((room.snapshot, room.entries), (snapshot(6), entries(6, 11)));
}

#[test]
fn a_room_that_is_written_again_keeps_what_led_to_it() {
    let disk = Disk::new();
    disk.with_room(0, 10);
    let (store, _, events) = disk.open();
    let kept = |store: &Store| {
        let kept = store.reader().log(room(), u64::MAX, 100).expect("readable");
        kept.iter().map(|entry| entry.idx).collect::<Vec<_>>()
    };
    store.save_room(snapshot(7), 3).expect("enqueued");
    store.save_entries(room(), entries(7, 12), 4).expect("enqueued");
    wait_for(&events, &written(12, 4));
    assert_eq!(kept(&store), (1..=12).collect::<Vec<_>>());
    // With a hole before it nobody knows that it is the same log.
    store.save_room(snapshot(20), 5).expect("enqueued");
    wait_for(&events, &written(20, 5));
    assert!(kept(&store).is_empty());
}

#[test]
fn another_branch_replaces_the_log_only_as_a_whole() {
    let disk = Disk::new();
    disk.with_room(0, 4);
    let (store, _, events) = disk.open();
    let needs = StoreEvent::NeedsRoom { room: room() };
    store.save_entries(room(), entries(5, 6), 3).expect("enqueued");
    wait_for(&events, &needs);
    let mut branch = entries(3, 4);
    branch[0].chain = [9; 16];
    store.save_entries(room(), branch, 4).expect("enqueued");
    wait_for(&events, &needs);
    store.save_entries(room(), entries(2, 5), 5).expect("enqueued");
    wait_for(&events, &written(5, 5));
    let other = Snapshot { chain: [7; 16], ..snapshot(3) };
    store.save_room(other.clone(), 6).expect("enqueued");
    let chain = [7; 16];
    wait_for(&events, &StoreEvent::Written { room: room(), idx: 3, chain, ticket: 6 });
    drop(store);
    let (_store, loaded, _) = disk.open();
    assert_eq!(loaded.last_room, Some(loaded_room(other, vec![])));
}

#[test]
fn a_rewound_log_ends_where_it_was_cut_and_goes_on_from_there() {
    let disk = Disk::new();
    disk.with_room(2, 7);
    let (store, _, events) = disk.open();
    // Nothing is there to cut: it stays, and says so.
    store.rewind(room(), 9).expect("enqueued");
    wait_for(&events, &written(7, 0));
    store.rewind(room(), 5).expect("enqueued");
    wait_for(&events, &written(5, 0));
    // What comes now is another branch.
    let op = ops(1..2).remove(0);
    let at = RoomTime(99);
    let chain = codec::chain(&snapshot(5).chain, &term(), at, &op);
    let other = Entry { idx: 6, term: term(), at, op, chain };
    store.save_entries(room(), vec![other.clone()], 4).expect("enqueued");
    wait_for(&events, &StoreEvent::Written { room: room(), idx: 6, chain, ticket: 4 });
    // Before the snapshot nothing can be cut off.
    store.rewind(room(), 1).expect("enqueued");
    wait_for(&events, &StoreEvent::NeedsRoom { room: room() });
    drop(store);
    let (_store, loaded, _) = disk.open();
    let log = [entries(2, 5), vec![other]].concat();
    assert_eq!(loaded.last_room, Some(loaded_room(snapshot(2), log)));
}

#[test]
fn a_log_can_be_rewound_to_its_snapshot() {
    let disk = Disk::new();
    disk.with_room(2, 4);
    let (store, _, events) = disk.open();
    store.rewind(room(), 2).expect("enqueued");
    wait_for(&events, &written(2, 0));
    store.save_entries(room(), entries(2, 3), 1).expect("enqueued");
    wait_for(&events, &written(3, 1));
}

#[test]
fn the_outbox_keeps_its_order_and_outlives_every_change_of_the_log() {
    let disk = Disk::new();
    disk.with_room(0, 4);
    let (store, ..) = disk.open();
    store.save_outbox(room(), ops(5..8)).expect("enqueued");
    store.save_outbox(room(), ops(1..7)).expect("enqueued");
    store.rewind(room(), 2).expect("enqueued");
    store.save_room(snapshot(3), 1).expect("enqueued");
    store.save_snapshot(snapshot(4)).expect("enqueued");
    drop(store);
    let (store, loaded, _) = disk.open();
    let kept = [ops(5..8), ops(1..5)].concat();
    assert_eq!(loaded.last_room.expect("there").outbox, kept);
    store.drop_outbox(room(), ids(&[ops(1..4), ops(6..7), ops(90..91)].concat())).expect("queued");
    drop(store);
    let (_store, loaded, _) = disk.open();
    let left = [ops(5..6), ops(7..8), ops(4..5)].concat();
    assert_eq!(loaded.last_room.expect("there").outbox, left);
}

#[test]
fn the_outbox_is_bounded_and_the_oldest_go_first() {
    let disk = Disk::new();
    disk.with_room(0, 0);
    let (store, ..) = disk.open();
    let n = MAX_OUTBOX as u64 + 10;
    store.save_outbox(room(), ops(0..n)).expect("enqueued");
    drop(store);
    let (_store, loaded, _) = disk.open();
    let outbox = loaded.last_room.expect("there").outbox;
    assert_eq!(ids(&outbox), ids(&ops(10..n)));
}

#[test]
fn what_merges_left_out_is_kept_once_and_the_oldest_goes_first() {
    let disk = Disk::new();
    disk.with_room(0, 1);
    let (store, ..) = disk.open();
    let n = MAX_DROPPED as u64;
    for seq in [1, 1, 2].into_iter().chain(3..=n + 2) {
        store.save_dropped(room(), left_out(seq)).expect("enqueued");
    }
    // It is of this device, and no part of what a state replaces.
    store.save_room(snapshot(9), 1).expect("enqueued");
    drop(store);
    let (_store, loaded, _) = disk.open();
    let kept = loaded.last_room.expect("there").dropped;
    assert_eq!(kept, (3..=n + 2).map(left_out).collect::<Vec<_>>());
}

#[test]
fn a_directory_is_free_although_a_child_process_still_has_its_lock_open() {
    let disk = Disk::new();
    let first = lock(disk.state()).expect("free");
    let as_a_child_has_it = first.0.try_clone().expect("a copy");
    drop(first);
    let _again = lock(disk.state()).expect("free again");
    drop(as_a_child_has_it);
}

#[test]
fn the_position_is_the_one_saved_last() {
    let disk = Disk::new();
    disk.with_room(0, 2);
    let (store, ..) = disk.open();
    store.save_position(room(), position(5)).expect("enqueued");
    store.save_position(room(), position(10)).expect("enqueued");
    drop(store);
    let (_store, loaded, _) = disk.open();
    assert_eq!(loaded.last_room.expect("there").position, Some(position(10)));
}

#[test]
fn a_segment_has_one_row_in_the_history_however_often_it_is_noted() {
    let disk = Disk::new();
    disk.with_room(0, 2);
    let (store, _, events) = disk.open();
    assert_eq!(store.history(room(), 10).expect("readable"), []);
    assert_eq!(store.history(RoomId([9; 32]), 10).expect("no such file"), []);
    store.save_history(room(), vec![heard(1), heard(u64::MAX)]).expect("enqueued");
    let later = HistoryRow { present: 9, dj: None, ..heard(1) };
    store.save_history(room(), vec![later, heard(2)]).expect("enqueued");
    store.save_entries(room(), entries(2, 3), 7).expect("enqueued");
    wait_for(&events, &written(3, 7));
    let all = store.history(room(), 10).expect("readable");
    assert_eq!(all, [heard(2), heard(u64::MAX), heard(1)]);
    assert_eq!(store.history(room(), 1).expect("readable"), [heard(2)]);
}

#[test]
fn entries_of_an_unknown_room_ask_for_the_room() {
    let disk = Disk::new();
    let (store, _, events) = disk.open();
    store.save_entries(room(), entries(0, 1), 1).expect("enqueued");
    wait_for(&events, &StoreEvent::NeedsRoom { room: room() });
}

#[test]
fn a_forgotten_room_is_gone() {
    let disk = Disk::new();
    disk.with_room(0, 4);
    let (store, ..) = disk.open();
    store.forget_room(room()).expect("enqueued");
    drop(store);
    assert!(!disk.room_file().exists());
    let (_store, loaded, _) = disk.open();
    assert_eq!(loaded.last_room, None);
}

#[test]
fn a_file_of_garbage_is_set_aside_and_the_node_goes_on() {
    let disk = Disk::new();
    disk.with_room(0, 4);
    fs::write(disk.room_file(), [0xA5; 8192]).expect("spoiled");
    let (store, loaded, events) = disk.open();
    assert_eq!((loaded.boot, loaded.last_room), (2, None));
    assert_eq!(disk.set_aside("rooms"), 1);
    assert!(loaded.notices[0].contains("damaged"), "{:?}", loaded.notices);
    store.save_room(snapshot(4), 1).expect("enqueued");
    wait_for(&events, &written(4, 1));
}

#[test]
fn a_torn_file_is_set_aside() {
    let disk = Disk::new();
    disk.with_room(0, 400);
    let len = fs::metadata(disk.room_file()).expect("there").len();
    let file = OpenOptions::new().write(true).open(disk.room_file()).expect("opens");
    file.set_len(len / 2).expect("torn");
    let (_store, loaded, _) = disk.open();
    assert_eq!((loaded.last_room, disk.set_aside("rooms")), (None, 1));
}

#[test]
fn a_room_file_under_another_rooms_name_is_set_aside() {
    let disk = Disk::new();
    disk.with_room(0, 4);
    let other = codec::encode_genesis(&Genesis { nonce: [8; 16], ..genesis() }).expect("short");
    disk.damage(&format!("UPDATE room SET genesis = x'{}'", crate::base::ids::hex(&other)));
    let (_store, loaded, _) = disk.open();
    assert_eq!((loaded.last_room, disk.set_aside("rooms")), (None, 1));
}

#[test]
fn a_log_with_a_damaged_end_is_kept_up_to_there() {
    for damage in [
        "DELETE FROM log WHERE idx = 4",
        "UPDATE log SET entry = x'00' WHERE idx = 4",
        "UPDATE log SET entry = (SELECT entry FROM log WHERE idx = 5) WHERE idx = 4",
    ] {
        let disk = Disk::new();
        disk.with_room(0, 6);
        let (store, ..) = disk.open();
        store.save_outbox(room(), ops(1..3)).expect("enqueued");
        store.save_dropped(room(), left_out(3)).expect("enqueued");
        store.save_position(room(), position(7)).expect("enqueued");
        store.save_history(room(), vec![heard(1), heard(2)]).expect("enqueued");
        drop(store);
        disk.damage(damage);
        let good = LoadedRoom {
            outbox: ops(1..3),
            dropped: vec![left_out(3)],
            position: Some(position(7)),
            ..loaded_room(snapshot(0), entries(0, 3))
        };
        for _ in 0..2 {
            let (store, loaded, _) = disk.open();
            assert_eq!(loaded.last_room.as_ref(), Some(&good), "{damage}");
            let history = store.history(room(), 9).expect("readable");
            assert_eq!(history, [heard(2), heard(1)], "{damage}");
        }
        assert_eq!(disk.set_aside("rooms"), 1, "{damage}");
    }
}

#[test]
fn a_damaged_identity_is_restored_from_its_text_with_a_counter_that_only_grows() {
    let disk = Disk::new();
    disk.with_room(0, 3);
    for boot in 2..4 {
        fs::write(disk.state().join("node.db"), [0xA5; 8192]).expect("spoiled");
        let made = || panic!("a new key");
        let (_store, loaded) = open(disk.state(), made, Box::new(drop)).expect("goes on");
        assert_eq!((loaded.key.as_slice(), loaded.boot), (&b"key"[..], boot));
        let room = loaded.last_room.expect("it is still in its room");
        assert_eq!(room.entries, entries(0, 3));
        let notice = &loaded.notices[0];
        assert!(notice.contains("damaged") && notice.contains("restored"), "{notice}");
    }
    assert_eq!(disk.set_aside(""), 1);
    let (_store, loaded, _) = disk.open();
    assert_eq!((loaded.boot, loaded.notices.len()), (4, 0));
}

#[test]
fn an_identity_that_was_removed_or_put_back_from_long_ago_counts_on() {
    let disk = Disk::new();
    drop(disk.open());
    let old = fs::read(disk.state().join("node.db")).expect("there");
    drop(disk.open());
    drop(disk.open());
    fs::write(disk.state().join("node.db"), old).expect("put back");
    assert_eq!(disk.open().1.boot, 4);
    fs::remove_file(disk.state().join("node.db")).expect("removed");
    let (_store, loaded, _) = disk.open();
    assert_eq!((loaded.boot, loaded.key), (5, b"key".to_vec()));
}

#[test]
fn a_damaged_identity_without_a_sound_text_is_never_used_again() {
    let spoil: [fn(&Path); 3] = [
        |text| fs::remove_file(text).expect("removed"),
        |text| {
            let lower = fs::read_to_string(text).expect("there").replace("boot 1", "boot 0");
            fs::write(text, lower).expect("spoiled");
        },
        |text| fs::write(text, vec![0xFF; 100_000]).expect("spoiled"),
    ];
    for spoil in spoil {
        let disk = Disk::new();
        drop(disk.open());
        fs::write(disk.state().join("node.db"), [0xA5; 8192]).expect("spoiled");
        spoil(&disk.state().join("identity.txt"));
        let made = || Ok(b"another".to_vec());
        let (_store, loaded) = open(disk.state(), made, Box::new(drop)).expect("goes on");
        assert_eq!((loaded.key.as_slice(), loaded.boot), (&b"another"[..], 1));
        assert!(loaded.notices[0].contains("new device"), "{:?}", loaded.notices);
        assert_eq!(disk.set_aside(""), 1);
    }
}

#[test]
fn files_of_a_later_version_are_refused_and_left_as_they_are() {
    for file in ["node.db", "room"] {
        let disk = Disk::new();
        disk.with_room(0, 1);
        let path = if file == "room" { disk.room_file() } else { disk.state().join(file) };
        let conn = rusqlite::Connection::open(&path).expect("opens");
        conn.pragma_update(None, "user_version", 99).expect("raised");
        drop(conn);
        let refused = disk.refused();
        assert!(matches!(refused, StoreError::Newer { found: 99, .. }), "{refused}");
        assert!(path.exists() && refused.to_string().contains("later version"));
    }
}

/// What the first version of the program made.
const SCHEMA_1: &str = "
    CREATE TABLE room(
        one INTEGER PRIMARY KEY CHECK(one = 1), genesis BLOB NOT NULL, idx INTEGER NOT NULL,
        term_n INTEGER NOT NULL, term_node BLOB NOT NULL, term_boot INTEGER NOT NULL,
        chain BLOB NOT NULL, state BLOB NOT NULL) STRICT;
    CREATE TABLE log(idx INTEGER PRIMARY KEY, chain BLOB NOT NULL, entry BLOB NOT NULL) STRICT;
    CREATE TABLE synced(one INTEGER PRIMARY KEY CHECK(one = 1), idx INTEGER NOT NULL) STRICT;
    PRAGMA user_version = 1;
";

#[test]
fn a_file_of_an_earlier_version_is_brought_up_to_date_with_all_that_is_in_it() {
    let disk = Disk::new();
    disk.with_room(2, 5);
    let new = disk.room_file();
    let old = disk.state().join("old.db");
    let conn = rusqlite::Connection::open(&old).expect("opens");
    conn.execute_batch(SCHEMA_1).expect("made");
    conn.execute("ATTACH ?1 AS new", [new.to_str().expect("text")]).expect("attached");
    for table in ["room", "log", "synced"] {
        conn.execute_batch(&format!("INSERT INTO {table} SELECT * FROM new.{table}"))
            .expect("same");
    }
    drop(conn);
    fs::rename(&old, &new).expect("in its place");
    let before = fs::metadata(&new).expect("there").len();
    let (store, loaded, events) = disk.open();
    assert_eq!(loaded.last_room, Some(loaded_room(snapshot(2), entries(2, 5))));
    store.save_position(room(), position(1)).expect("enqueued");
    wait_for(&events, &written(5, 0));
    // The earlier version could go on with this one.
    let backup = schema::backup_path(&new, 1);
    assert_eq!(fs::metadata(&backup).expect("a backup").permissions().mode() & 0o777, 0o600);
    assert!(fs::metadata(&backup).expect("a backup").len() <= before);
    let conn = rusqlite::Connection::open(&backup).expect("opens");
    let version: i64 =
        conn.pragma_query_value(None, "user_version", |row| row.get(0)).expect("readable");
    let n: i64 = conn.query_row("SELECT count(*) FROM log", [], |row| row.get(0)).expect("a log");
    assert_eq!((version, n), (1, 3));
    drop(conn);
    store.forget_room(room()).expect("enqueued");
    drop(store);
    assert!(!backup.exists(), "forgotten means all of it");
}

#[test]
fn a_second_daemon_on_one_directory_is_refused_until_the_first_has_ended() {
    let disk = Disk::new();
    let first = disk.open();
    let refused = disk.refused();
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
    let pid = std::process::id().to_string();
    assert!(refused.to_string().contains(&pid) && refused.to_string().contains("--state-dir"));
    drop(first);
    let (_store, loaded, _) = disk.open();
    assert_eq!(loaded.boot, 2, "the refused start counts for nothing");
}

#[test]
fn nobody_else_may_read_the_files() {
    let parent = tempfile::tempdir().expect("a directory");
    let state = parent.path().join("deep").join("state");
    let notify = Box::new(drop);
    let (store, _) = open(&state, || Ok(vec![1]), notify).expect("opens");
    store.save_room(snapshot(0), 1).expect("enqueued");
    store.save_entries(room(), entries(0, 3), 2).expect("enqueued");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let check = || {
        for dir in [state.clone(), state.join("rooms")] {
            assert_eq!(mode(&dir), 0o700, "{}", dir.display());
            let files = fs::read_dir(&dir).expect("listed").map(|file| file.expect("one").path());
            for file in files.filter(|path| path.is_file()) {
                assert_eq!(mode(&file), 0o600, "{}", file.display());
            }
        }
    };
    check();
    drop(store);
    check();
}

#[test]
fn a_disk_that_cannot_keep_up_is_reported_and_nobody_waits() {
    let disk = Disk::new();
    let (block, blocked) = channel::<()>();
    let (sender, events) = channel();
    // The first report holds the thread, as a stalled card would.
    let notify = Box::new(move |event| {
        let _ = blocked.recv();
        let _ = sender.send(event);
    });
    let (store, _) = open(disk.state(), || Ok(vec![1]), notify).expect("opens");
    store.save_room(snapshot(0), 1).expect("the first");
    let large = Snapshot { state: vec![0; STORE_QUEUE_BYTES / 4], ..snapshot(0) };
    let refused = (0..6).map(|_| store.save_room(large.clone(), 2)).find(Result::is_err);
    assert_eq!(refused, Some(Err(Slow)));
    assert_eq!(store.disk(), DiskState::Slow);
    drop(block);
    // What did not fit is missing in the file: it asks for the room once it has caught up.
    wait_for(&events, &StoreEvent::NeedsRoom { room: room() });
    assert_eq!(store.disk(), DiskState::Ok);
}

/// Writes a long log as the engine does, with the state moved up every thousand entries, and
/// what the files took at most.
fn long_log(rooms: &Path, thousands: u64, body: usize) -> (RoomId, u64) {
    let (base, room) = snapshot_of(&[], 0);
    let (mut file, _) = room_file::RoomFile::open(rooms, room).expect("opens");
    file.transact(|write| write.replace(&base)).expect("written");
    let (mut last, mut most) = (Vec::new(), 0);
    for thousand in 1..=thousands {
        for _ in 0..20 {
            let new = entries_with(&last, 50, body, 5, Span(1));
            file.transact(|write| new.iter().try_for_each(|e| write.append(e).map(drop)))
                .expect("written");
            last = new.last().cloned().into_iter().collect();
        }
        let idx = last[0].idx;
        assert_eq!(idx, thousand * 1000);
        // The state of a full room.
        let state = vec![9; 2 * 1024 * 1024];
        let snapshot = Snapshot { state, ..snapshot_of(&last, idx).0 };
        file.transact(|write| write.compact(&snapshot)).expect("written");
        let sizes = fs::read_dir(rooms)
            .expect("listed")
            .map(|file| file.and_then(|file| file.metadata()).expect("readable").len());
        most = most.max(sizes.sum::<u64>());
    }
    assert_eq!(file.tip().expect("entries").idx, thousands * 1000);
    (room, most)
}

fn in_memory() -> tempfile::TempDir {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    dir.expect("a directory")
}

#[test]
fn twenty_thousand_entries_stay_and_a_hundred_thousand_need_no_more_space() {
    let dir = in_memory();
    let (room, most) = long_log(dir.path(), 100, 200);
    let reader = RoomReader { rooms: dir.path().to_owned() };
    let kept = reader.log(room, u64::MAX, usize::MAX).expect("readable");
    let ends = (kept[0].idx, kept[kept.len() - 1].idx);
    assert_eq!((ends, kept.len() as u64), ((80_001, 100_000), LOG_KEPT));
    let begun = std::time::Instant::now();
    let (loaded, notice) = room_file::load(dir.path(), room).expect("loads");
    let took = begun.elapsed();
    println!("{most} bytes at most; {took:?} to start with {} entries", kept.len());
    assert_eq!((notice, loaded.expect("there").snapshot.idx), (None, 100_000));
    // The entries, two states, and a journal that is cut back to 4 MiB.
    assert!(most < 24 * 1024 * 1024, "{most} bytes");
}

#[test]
fn a_log_of_whole_folders_is_bounded_in_bytes() {
    let dir = in_memory();
    let (room, most) = long_log(dir.path(), 2, 30_000);
    let reader = RoomReader { rooms: dir.path().to_owned() };
    let kept = reader.log(room, u64::MAX, usize::MAX).expect("readable");
    let bytes = kept.iter().map(|entry| entry.op.body.len() as u64).sum::<u64>();
    println!("{} entries, {most} bytes at most", kept.len());
    assert!((LOG_KEPT_BYTES - 1_000_000..=LOG_KEPT_BYTES).contains(&bytes), "{bytes}");
    // A thousand come in before some go.
    assert!(most < 80 * 1024 * 1024, "{most} bytes");
}

#[test]
fn what_happened_more_than_a_week_before_the_last_entry_is_forgotten() {
    let day = Span::from_secs(24 * 3600);
    let mut chain = [0; 16];
    let log = log(100).into_iter().map(|entry| {
        // Ten a day; all of the last day after a clock that stood still.
        let at = RoomTime::default() + Span(day.0 / 10 * entry.idx.min(95).cast_signed());
        chain = codec::chain(&chain, &entry.term, at, &entry.op);
        Entry { at, chain, ..entry }
    });
    let log = log.collect::<Vec<_>>();
    let disk = Disk::new();
    let (store, _, events) = disk.open();
    store.save_room(snapshot(0), 1).expect("enqueued");
    store.save_entries(room(), log.clone(), 2).expect("enqueued");
    let reader = store.reader();
    for (state, first) in [(10, 11), (90, 25)] {
        store.save_snapshot(snapshot_of(&log, state).0).expect("enqueued");
        store.save_entries(room(), log.clone(), state).expect("enqueued");
        let (idx, chain) = (100, log[99].chain);
        wait_for(&events, &StoreEvent::Written { room: room(), idx, chain, ticket: state });
        let kept = reader.log(room(), u64::MAX, 1000).expect("readable");
        assert_eq!(kept.first().map(|entry| entry.idx), Some(first), "with the state at {state}");
        assert_eq!(kept.last().map(|entry| entry.idx), Some(100));
    }
    let some = reader.log(room(), 51, 3).expect("readable");
    assert_eq!(some, log[47..50]);
    assert_eq!(reader.log(RoomId([9; 32]), 51, 3).expect("no such file"), []);
}

#[test]
fn whose_the_device_is_survives_the_loss_of_node_db() {
    let disk = Disk::new();
    let anna =
        SavedUser {
            key: vec![1, 2, 3], name: "anna".into(), display: "Anna \"B.\" Müller".into()
        };
    {
        let (store, loaded, _events) = disk.open();
        assert_eq!(loaded.user, None);
        store.save_user(Some(anna.clone())).expect("enqueued");
    }
    {
        let (_store, loaded, _events) = disk.open();
        assert_eq!(loaded.user.as_ref(), Some(&anna));
    }
    fs::write(disk.state().join("node.db"), b"not a database at all").expect("damaged");
    {
        let (store, loaded, _events) = disk.open();
        assert_eq!(loaded.user, Some(anna));
        store.save_user(None).expect("enqueued");
    }
    let (_store, loaded, _events) = disk.open();
    assert_eq!(loaded.user, None);
}

#[test]
fn rooms_are_remembered_by_name_and_the_file_of_one_that_was_left_goes_after_a_day() {
    let disk = Disk::new();
    disk.with_room(5, 8);
    let known = |n: u8| KnownRoom {
        id: RoomId([n; 32]),
        name: format!("room {n}"),
        code: "GROOVE-7KQ4".into(),
        left_last: n == 1,
    };
    {
        let (store, _, _events) = disk.open();
        for n in [1, 2, 1] {
            store.save_known_room(known(n)).expect("enqueued");
        }
    }
    let (store, loaded, _events) = disk.open();
    assert_eq!(loaded.rooms, [known(1), known(2)]);
    let back_in = KnownRoom { left_last: false, ..known(1) };
    drop(store);
    {
        let (store, _, _events) = disk.open();
        store.save_known_room(back_in.clone()).expect("enqueued");
    }
    let (_store, loaded, _events) = disk.open();
    assert_eq!(loaded.rooms, [back_in, known(2)]);
    let rooms = disk.state().join("rooms");
    let hours = |n| SystemTime::now() + Duration::from_hours(n);
    room_file::clean_up(&rooms, None, hours(23));
    assert!(disk.room_file().exists());
    room_file::clean_up(&rooms, Some(room()), hours(100));
    assert!(disk.room_file().exists(), "the device is in it");
    fs::write(rooms.join("notes.txt"), "mine").expect("written");
    room_file::clean_up(&rooms, None, hours(25));
    assert!(!disk.room_file().exists());
    assert!(rooms.join("notes.txt").exists(), "what is no room is none of its business");
}
