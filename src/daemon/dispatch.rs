//! Does what the node says: one `match`, each arm one call.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::clock;
use super::event_loop::EventSender;
use super::gateway;
use crate::audio::{PlayoutCommand, PlayoutHandle};
use crate::base::{BlobHash, NodeId, RoomId, RoomTime, SegmentId, Span, pcm};
use crate::engine::membership::Intent;
use crate::engine::node::{FriendNews, Input, MemberChange, Notice, Output, Position, Quality};
use crate::engine::room::{ChatLine, Heard};
use crate::engine::status::DiskState;
use crate::engine::transfer::{Failure, Fetch, Have};
use crate::engine::{self, RequestId, Status};
use crate::identity::{LocalUser, Password};
use crate::media::{Holding, Library, MediaError, StreamHandle, StreamHooks};
use crate::net::{Fetcher, Net, NetError};
use crate::store::{self, SavedUser, Slow, Store};
use crate::wire::message::PeerAddress;
use crate::wire::{Announcement, RoomCard, Track, announce::AnnouncedRoom};

/// Decoded audio held ahead of the playout, in seconds: enough for the decoder to be late.
const WINDOW_SECONDS: u32 = 1;

/// Everything that touches the world.
pub struct Driver {
    /// This node.
    pub me: NodeId,
    /// The port of its endpoint.
    pub port: u16,
    /// Peers.
    pub net: Net,
    /// The disk.
    pub store: Store,
    /// Tracks.
    pub library: Library,
    /// The output.
    pub playout: PlayoutHandle,
    /// Back into the loop.
    pub events: EventSender,
    /// Decoders at work.
    pub streams: BTreeMap<SegmentId, StreamHandle>,
}

impl Driver {
    /// Does one thing.
    pub fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send { to, message } => self.net.send(to, &message),
            Output::SendDatagram { to, datagram } => self.net.send_datagram(to, datagram),
            Output::Dial { address, node } => self.net.dial(address, node),
            Output::AskGateway => self.ask_gateway(),
            Output::ShowRoom(card) => self.show_room(card),
            Output::Admit(nodes) => self.net.admit(nodes),
            Output::Stretch { id, room, password } => self.stretch(id, room, password),
            Output::SetClock(Some(model)) => self.playout.send(PlayoutCommand::Clock(model)),
            Output::SetClock(None) => self.playout.send(PlayoutCommand::NoClock),
            Output::SetPlan(plan) => self.playout.send(PlayoutCommand::Plan(plan)),
            Output::Prepare { segment, track, from } => self.prepare(segment, &track, from),
            Output::Release { segment } => self.release(segment),
            Output::OpenBlob { hash, size } => self.open_blob(hash, size),
            Output::CloseBlob { hash } => self.library.unpin(&hash),
            Output::FetchPiece(fetch) => self.fetch_piece(fetch),
            Output::ThrottleBulk { span } => self.net.throttle_bulk(span.to_std()),
            Output::SaveRoom(snapshot) => kept(self.store.save_room(*snapshot, 0)),
            Output::SaveEntries { room, entries } => {
                kept(self.store.save_entries(room, entries, 0));
            }
            Output::RewindRoom { room, to_idx } => kept(self.store.rewind(room, to_idx)),
            Output::SaveOutbox { room, ops } => kept(self.store.save_outbox(room, ops)),
            Output::DropOutbox { room, ids } => kept(self.store.drop_outbox(room, ids)),
            Output::SaveDropped { room, dropped } => kept(self.store.save_dropped(room, dropped)),
            Output::SavePosition { room, position } => {
                kept(self.store.save_position(room, stored_position(&position)));
            }
            Output::SaveHistory { room, rows, at } => {
                let wall = clock::wall();
                let rows = rows.into_iter().map(|row| stored_row(row, at, wall)).collect();
                kept(self.store.save_history(room, rows));
            }
            Output::SaveChat { room, lines, at } => {
                let wall = clock::wall();
                let rows = lines.into_iter().map(|line| stored_line(line, at, wall)).collect();
                kept(self.store.save_chat(room, rows));
            }
            Output::ReadRoom { room } => self.read_room(room),
            Output::CompactRoom(snapshot) => kept(self.store.save_snapshot(*snapshot)),
            Output::RememberIntent(intent) => {
                kept(self.store.save_intent(stored_intent(intent)));
            }
            Output::RememberUser(user) => {
                kept(self.store.save_user(user.as_ref().map(stored_user)));
            }
            Output::RememberRoom(room) => {
                let engine::node::KnownRoom { id, name, code, left_last } = room;
                kept(self.store.save_known_room(store::KnownRoom { id, name, code, left_last }));
            }
            Output::RememberFriends(friends) => kept(self.store.save_friends(friends)),
            Output::ForgetRoom(room) => kept(self.store.forget_room(room)),
            Output::RememberPeer { node, name, address } => {
                let addresses = vec![address];
                kept(self.store.save_peer(PeerAddress { node, name, addresses }));
            }
            Output::Tell(notice) => tell(&notice),
            // The loop answers itself: it holds the other ends.
            Output::Reply { .. } => {}
        }
    }

    /// Puts what only the driver knows into a picture of the node: its port, and the bytes that
    /// went to and came from each peer.
    pub fn complete(&self, status: &mut Status) {
        status.node.port = self.port;
        for peer in &mut status.peers {
            let Ok(node) = peer.id.parse() else { continue };
            (peer.sent_bytes, peer.received_bytes) = self.net.bulk_counters(node);
        }
    }

    fn ask_gateway(&self) {
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || {
            if gateway::answers() {
                let _ = events.blocking_send(Input::GatewayAnswered.into());
            }
        });
    }

    fn stretch(&self, id: RequestId, room: RoomId, password: Password) {
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || {
            let secret = password.stretch(&room);
            let secret = secret.inspect_err(|error| {
                tracing::warn!(%error, "the password could not be worked out; the room is not entered");
            });
            let _ = events.blocking_send(Input::Stretched { id, room, secret: secret.ok() }.into());
        });
    }

    fn read_room(&self, room: RoomId) {
        let (events, reader) = (self.events.clone(), self.store.reader());
        tokio::task::spawn_blocking(move || {
            let read = reader.room(room);
            let read = read.inspect_err(|error| {
                tracing::warn!(%error, "the file of a room that was left cannot be read; it is not opened again");
            });
            let restored = read.ok().flatten().map(|room| Box::new(super::restored(room)));
            let _ = events.blocking_send(Input::RoomRead { room, restored }.into());
        });
    }

    fn show_room(&self, card: Option<RoomCard>) {
        let room = card.as_ref().filter(|card| !card.locked).map(|card| AnnouncedRoom {
            id_prefix: card.id.short(),
            name: card.name.clone(),
            code: card.code.clone(),
        });
        self.net.announce(Announcement { node: self.me, port: self.port, room });
        self.net.set_room(card);
    }

    fn prepare(&mut self, segment: SegmentId, track: &Arc<Track>, from: u64) {
        let frames = (track.rate * WINDOW_SECONDS) as usize;
        let (writer, reader) = pcm::window(frames);
        let hooks = self.hooks(segment);
        match self.library.open_stream(track, from, writer, hooks) {
            Ok(stream) => {
                self.playout.send(PlayoutCommand::Load { segment, pcm: reader });
                self.streams.insert(segment, stream);
            }
            Err(error) => {
                self.say(Input::SegmentFailed { segment, reason: error.to_string() });
            }
        }
    }

    fn hooks(&self, segment: SegmentId) -> StreamHooks {
        let (need, primed, failed) =
            (self.events.clone(), self.events.clone(), self.events.clone());
        StreamHooks {
            need: Box::new(move |hash, piece| {
                let _ = need.blocking_send(Input::PieceNeeded { hash, piece }.into());
            }),
            primed: Box::new(move || {
                let _ = primed.blocking_send(Input::SegmentPrimed { segment }.into());
            }),
            failed: Box::new(move |reason| {
                let _ = failed.blocking_send(Input::SegmentFailed { segment, reason }.into());
            }),
        }
    }

    fn release(&mut self, segment: SegmentId) {
        self.playout.send(PlayoutCommand::Unload { segment });
        self.streams.remove(&segment);
    }

    fn open_blob(&self, hash: BlobHash, size: u64) {
        let (library, events) = (self.library.clone(), self.events.clone());
        library.pin(hash);
        tokio::task::spawn_blocking(move || {
            let opened = library.begin(hash, size);
            if let Err(error) = opened {
                tracing::error!(blob = %hash.short(), %error, "no room for a track");
                let _ = events.blocking_send(cannot_keep(&error).into());
                return;
            }
            let have = match library.holds(&hash) {
                Holding::Complete => Have::Complete,
                Holding::Partial { pieces } => Have::Pieces(pieces),
                Holding::None => return,
            };
            let _ = events.blocking_send(Input::BlobOpened { hash, have }.into());
        });
    }

    fn fetch_piece(&self, fetch: Fetch) {
        let (fetcher, library, events) =
            (self.net.fetcher(), self.library.clone(), self.events.clone());
        tokio::spawn(async move {
            let input = fetch_verified(&fetcher, library, fetch, &events).await;
            let _ = events.send(input.into()).await;
        });
    }

    /// From inside the loop: the queue may be full of what the loop itself has to read first.
    fn say(&self, input: Input) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let _ = events.send(input.into()).await;
        });
    }
}

async fn fetch_verified(
    fetcher: &Fetcher,
    library: Library,
    fetch: Fetch,
    events: &EventSender,
) -> Input {
    let Fetch { hash, piece, from, patience } = fetch;
    let failed = |failure| Input::PieceFailed { hash, piece, from, failure };
    let fetching = fetcher.fetch(from, hash, piece);
    let encoded = match tokio::time::timeout(patience.to_std(), fetching).await {
        Ok(Ok(encoded)) => encoded,
        Ok(Err(NetError::FetchTimeout)) | Err(_) => return failed(Failure::Timeout),
        Ok(Err(error)) => {
            tracing::debug!(peer = %from.short(), blob = %hash.short(), piece, %error, "no piece");
            return failed(Failure::Refused);
        }
    };
    let bytes = encoded.len() as u64;
    let accepted =
        tokio::task::spawn_blocking(move || library.accept_piece(&hash, piece, &encoded)).await;
    match accepted {
        Ok(Ok(_)) => Input::PieceArrived { hash, piece, bytes, from },
        Ok(Err(MediaError::Corrupt { .. })) => {
            tracing::warn!(peer = %from.short(), blob = %hash.short(), piece, "sent wrong bytes");
            failed(Failure::Corrupt)
        }
        Ok(Err(error)) => {
            tracing::warn!(blob = %hash.short(), piece, %error, "a piece could not be kept");
            let _ = events.send(cannot_keep(&error).into()).await;
            failed(Failure::Refused)
        }
        Err(_) => failed(Failure::Refused),
    }
}

fn cannot_keep(error: &MediaError) -> Input {
    Input::CacheTroubled { why: format!("a track cannot be kept here: {error}") }
}

/// The disk may be too slow for what happens. The room lives on in memory; the store says that
/// it is slow, and asks for the whole room once it has caught up.
fn kept(queued: Result<(), Slow>) {
    if queued.is_err() {
        tracing::debug!("a change found no place in the disk's queue");
    }
}

fn stored_position(position: &Position) -> store::SavedPosition {
    store::SavedPosition {
        segment: position.segment,
        position: position.position,
        playing: position.playing,
        clock_epoch: position.clock_epoch,
        room: position.at,
        wall: clock::wall(),
    }
}

/// What was heard, and when that was by the wall clock. `at` is the room's time now.
fn stored_row(row: Heard, at: RoomTime, wall: i64) -> store::HistoryRow {
    let Heard { segment, track, added_by_name, started, ended, dj, reason, present, .. } = row;
    store::HistoryRow {
        segment,
        track: track.hash,
        title: track.title,
        artists: track.artists.join(", "),
        album: track.album,
        source: "file".into(),
        dj,
        added_by: added_by_name,
        started,
        ended,
        ended_wall: wall - (at - ended).as_millis(),
        reason,
        present,
    }
}

fn stored_line(line: ChatLine, at: RoomTime, wall: i64) -> store::ChatRow {
    // One from the future would be the latest for ever, and the rest too old beside it.
    let wall = wall - (at - line.at).max(Span::ZERO).as_millis();
    store::ChatRow { op: line.op, user: line.user, name: line.name, wall, text: line.text }
}

fn stored_user(user: &LocalUser) -> SavedUser {
    SavedUser {
        key: user.key.pkcs8().to_vec(),
        name: user.name.clone(),
        display: user.display.clone(),
    }
}

fn stored_intent(intent: Intent) -> store::Intent {
    match intent {
        Intent::Anywhere => store::Intent::Any,
        Intent::Room(room) => store::Intent::Room(room),
        Intent::Alone => store::Intent::Alone,
    }
}

fn tell(notice: &Notice) {
    match notice {
        Notice::Founded { name, code } => tracing::info!(room = %name, %code, "made a room"),
        Notice::Joined { name, code } => tracing::info!(room = %name, %code, "joined a room"),
        Notice::JoinFailed { reason } => tracing::warn!(%reason, "could not join"),
        Notice::Coordinator { name, n, here: true } => {
            tracing::info!(%name, term = n, "this device coordinates now");
        }
        Notice::Coordinator { name, n, here: false } => {
            tracing::info!(%name, term = n, "following a coordinator");
        }
        Notice::SentOut { room } => tracing::warn!(%room, "this device was sent out of its room"),
        Notice::Deleted { room } => tracing::warn!(%room, "the room was deleted by its owner"),
        Notice::Leaderless => tracing::info!("the coordinator is silent; the music plays on"),
        Notice::BranchCut { operations } => {
            tracing::info!(operations, "two halves of the room met; what this one did is offered");
        }
        Notice::Dropped { what, why } => {
            tracing::warn!(%what, %why, "left out when two halves of the room met");
        }
        Notice::Disagreed { name } => {
            tracing::warn!(%name, "had another state of the same log; it is given this one");
        }
        Notice::Member { name, change: MemberChange::Came } => tracing::info!(%name, "came"),
        Notice::Member { name, change: MemberChange::Left } => tracing::info!(%name, "left"),
        Notice::Member { name, change: MemberChange::Lost } => tracing::info!(%name, "was lost"),
        Notice::Network { name, here, quality } => {
            let whose = if *here { "this device" } else { name };
            match quality {
                Quality::Good => tracing::info!("the network of {whose} is good again"),
                Quality::Weak => {
                    tracing::warn!("the network of {whose} is weak: it may miss a beat");
                }
                Quality::Excluded => tracing::warn!(
                    "the network of {whose} is so slow that nobody waits for it; it sounds as long as \
                     it knows the time to 20 ms"
                ),
            }
        }
        Notice::Twin { address } => tracing::error!(
            %address,
            "another device uses this device's identity; remove the state directory of the one \
             that is the copy and start it again"
        ),
        Notice::Disk(DiskState::Ok) => tracing::info!("the disk takes what happens again"),
        Notice::Disk(disk) => {
            let what = match disk {
                DiskState::Full => "full",
                DiskState::Slow => "too slow",
                DiskState::Failed | DiskState::Ok => "failing",
            };
            tracing::warn!(
                "the disk is {what}; the music plays on, and what happens in the room is kept in \
                 memory and by the other devices until it is well again"
            );
        }
        Notice::Outdated { kind } => tracing::error!(
            operation = kind,
            "the room uses a later version of GrooveBox: update it on this device; until then it \
             plays on with what it knows, and does not see what is done in the room"
        ),
        Notice::Friend { name, news } => {
            let what = match news {
                FriendNews::Asks => "asks to be friends; `groovebox friend accept NAME` says yes",
                FriendNews::Accepted => "is a friend now",
                FriendNews::Declined => "does not want to be friends",
                FriendNews::Ended => "is no friend, or has taken the request back",
            };
            tracing::info!(%name, "{what}");
        }
        Notice::LeftOut { message } => tracing::warn!("{message}"),
        Notice::TrackFailed { title, reason } => {
            tracing::warn!(track = %title, %reason, "cannot be played here");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::base::limits::PIECE;
    use crate::base::rng::Rng;
    use crate::base::{LocalTime, NodeId, Span};
    use crate::engine::transfer::Transfer;

    /// Noise that is a song: its header and eleven pieces.
    fn write_song(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("song.wav");
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 44_100,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(&path, spec).expect("writes");
        let mut rng = Rng::new(1);
        for _ in 0..11 * PIECE / 2 {
            let [low, high, ..] = rng.next_u64().to_le_bytes();
            writer.write_sample(i16::from_le_bytes([low, high])).expect("writes");
        }
        writer.finalize().expect("writes");
        path
    }

    #[test]
    fn a_peer_that_lies_from_its_second_chunk_on_is_found_out_and_the_rest_comes_from_elsewhere() {
        let (theirs, ours) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let owner = Library::open(theirs.path(), u64::MAX).expect("opens");
        let track = owner.import(&write_song(theirs.path()), &mut |_, _| {}).expect("a song");
        let library = Library::open(ours.path(), u64::MAX).expect("opens");
        library.begin(track.hash, track.size).expect("begins");
        let (liar, honest) = (NodeId([1; 32]), NodeId([2; 32]));
        let mut transfer = Transfer::new(3);
        let mut now = LocalTime(0) + Span::from_secs(10);
        transfer.want(now, track.hash, track.size, track.byte_rate(), None, 0);
        transfer.peer_has(liar, track.hash, Have::Complete);
        let (mut lies, mut under_way) = (0, Vec::new());
        let deadline = now + Span::from_secs(60);
        while transfer.wants(&track.hash) {
            assert!(now < deadline, "it never came");
            under_way.extend(std::iter::from_fn(|| transfer.poll_output(now)));
            now += Span::from_millis(50);
            transfer.handle_timeout(now);
            for Fetch { hash, piece, from, .. } in std::mem::take(&mut under_way) {
                let mut encoded = owner.encode_piece(&hash, piece).expect("encodes");
                if from == liar {
                    // Right up to the end of its first chunk.
                    let (after, last) = (encoded.len().min(2048), encoded.len() - 1);
                    encoded[after.min(last)] ^= 1;
                    // An honest device comes in once the first lie was told.
                    transfer.peer_has(honest, hash, Have::Complete);
                }
                match library.accept_piece(&hash, piece, &encoded) {
                    Ok(_) => transfer.piece_arrived(now, &hash, piece, PIECE, from),
                    Err(MediaError::Corrupt { .. }) => {
                        lies += 1;
                        transfer.piece_failed(now, &hash, piece, from, Failure::Corrupt);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert_eq!(library.holds(&track.hash), Holding::Complete);
        // What was asked of it before its first answer came, and nothing after.
        assert!((1..=4).contains(&lies), "{lies}");
        for piece in 0..12 {
            assert_eq!(
                library.encode_piece(&track.hash, piece),
                owner.encode_piece(&track.hash, piece)
            );
        }
    }
}
