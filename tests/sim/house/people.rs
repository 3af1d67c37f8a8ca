//! People: commands at random devices at random times, and what they were answered.

use std::collections::BTreeMap;

use groovebox::base::rng::Rng;
use groovebox::base::{BlobHash, OpId, Span};
use groovebox::engine::command::{CommandReply, SeekTo, VolumeChange, VoteWord};
use groovebox::engine::node::Input;
use groovebox::engine::{Command, RequestId};
use groovebox::wire::op::{Control, OnDjLeave, QueueOrder, Repeat, Setting, VoteKind};
use groovebox::wire::{Codec, Track};

use super::speaker::{Blob, PIECE};
use super::{Event, House};
use crate::world::{Chance, SEC};

/// Files in the house.
const TRACKS: u8 = 8;

/// A command is answered within its patience, and a moment.
pub const ANSWERED_WITHIN: i64 = 6 * SEC;

pub struct Asked {
    pub d: usize,
    life: u32,
    pub at: i64,
    what: String,
    /// For measurements: keep the answer.
    watched: bool,
}

pub struct People {
    next: u64,
    pub waiting: BTreeMap<RequestId, Asked>,
    /// Between two commands, on average; 0 lets nobody act.
    pub pace: i64,
    /// Answers that were waited for: when, and whether it was done.
    pub answers: BTreeMap<RequestId, (i64, bool)>,
    lengths: Vec<u64>,
}

impl People {
    pub fn new(rng: &mut Rng) -> People {
        let lengths = (0..TRACKS).map(|_| rng.below(30) + 6).collect();
        People { next: 1, waiting: BTreeMap::new(), pace: 0, answers: BTreeMap::new(), lengths }
    }

    pub fn process_died(&mut self, d: usize) {
        self.waiting.retain(|_, asked| asked.d != d);
    }

    pub fn track(&self, number: u8) -> Track {
        let seconds = self.lengths[usize::from(number)];
        let rate = if number.is_multiple_of(2) { 44_100 } else { 48_000 };
        Track {
            hash: BlobHash([number + 1; 32]),
            size: 3 * PIECE + u64::from(number) * 1000,
            codec: Codec::Flac,
            rate,
            channels: 2,
            frames: seconds * u64::from(rate),
            delay: 0,
            title: format!("Track {number}"),
            artists: vec![],
            album: String::new(),
        }
    }
}

fn set(setting: Setting) -> Command {
    Command::Set { setting }
}

impl House {
    pub fn people_come(&mut self, pace: i64) {
        let were_here = self.people.pace > 0;
        self.people.pace = pace;
        if !were_here && pace > 0 {
            self.add(SEC, Event::Person);
        }
    }

    pub fn person_acts(&mut self) {
        if self.people.pace == 0 {
            return;
        }
        let next = self.rng.around(self.people.pace);
        self.add(next, Event::Person);
        let d = self.rng.below(self.devices.len() as u64) as usize;
        if self.devices[d].is_at_work() {
            let command = self.any_command(d);
            self.ask(d, command, false);
        }
    }

    /// A person at this device brings some files.
    fn some_tracks(&mut self, d: usize) -> Vec<Track> {
        let count = 1 + self.rng.below(3);
        let numbers: Vec<u8> =
            (0..count).map(|_| self.rng.below(u64::from(TRACKS)) as u8).collect();
        let tracks: Vec<Track> = numbers.into_iter().map(|n| self.people.track(n)).collect();
        for track in &tracks {
            self.bring(d, track);
        }
        tracks
    }

    /// A device has the whole of a track's file.
    pub fn bring(&mut self, d: usize, track: &Track) {
        self.devices[d].speaker.cache.insert(track.hash, Blob::new(track.size, true));
    }

    pub fn any_command(&mut self, d: usize) -> Command {
        if self.plan.governs && self.rng.happens(0.45) {
            return if self.rng.happens(0.25) { self.come_or_go(d) } else { self.any_word(d) };
        }
        let queue: Vec<_> = self.devices[d]
            .node
            .as_ref()
            .and_then(|node| node.room())
            .map(|room| room.state().queue().iter().map(|entry| entry.id).collect())
            .unwrap_or_default();
        let volume = VolumeChange::To(self.rng.below(101) as u8);
        match self.rng.below(114) {
            0..25 => Command::Add { tracks: self.some_tracks(d) },
            25..32 => Command::Play { tracks: self.some_tracks(d) },
            32..42 => Command::Next,
            42..46 => Command::Prev,
            46..52 => Command::Pause,
            52..66 => Command::Resume,
            66..72 => Command::Seek { to: SeekTo::Relative(Span(self.rng.between(-9, 9) * SEC)) },
            72..84 => Command::Volume { member: None, change: volume },
            84..90 => Command::RoomVolume { change: volume },
            90..94 => Command::Mute { member: None, muted: None },
            94..96 => Command::Stop,
            96..98 if queue.is_empty() => Command::Clear,
            100..104 => Command::Shuffle,
            104..109 => Command::Repeat { mode: self.any_repeat() },
            _ if queue.is_empty() => Command::Toggle,
            109.. => {
                let from = self.rng.below(queue.len() as u64) as usize;
                let place = 1 + self.rng.below(queue.len() as u64) as usize;
                Command::Move { entry: queue[from], place }
            }
            _ => {
                let place = self.rng.below(queue.len() as u64) as usize;
                Command::Remove { entries: vec![queue[place]] }
            }
        }
    }

    /// The person of a device goes home, the speaker stays; or they are back.
    fn come_or_go(&mut self, d: usize) -> Command {
        let is_here = self.devices[d].node.as_ref().is_some_and(|node| node.user().is_some());
        Command::BecomeUser { user: self.devices[d].user.clone().filter(|_| !is_here) }
    }

    /// What people say about each other.
    fn any_word(&mut self, d: usize) -> Command {
        let name = self.anybody();
        let seconds = [10, 20, 60][self.rng.below(3) as usize];
        let policy = self.rng.below(4) as usize;
        let policy =
            [OnDjLeave::Elect, OnDjLeave::Random, OnDjLeave::Pause, OnDjLeave::Keep][policy];
        let control = [Control::Dj, Control::Owner, Control::Everyone][self.rng.below(3) as usize];
        let order =
            [QueueOrder::Fair, QueueOrder::Fifo, QueueOrder::Dj][self.rng.below(3) as usize];
        let is_on = self.rng.happens(0.5);
        match self.rng.below(100) {
            0..8 => Command::DjTake,
            8..14 => Command::DjGive { to: name },
            14..18 => Command::DjDrop,
            18..24 => Command::DjAppoint { to: name },
            24..29 => Command::DjRandom,
            29..35 => Command::CallVote { kind: VoteKind::Election, who: None },
            35..42 => Command::CallVote { kind: VoteKind::Mutiny, who: None },
            42..46 => Command::CallVote { kind: VoteKind::Skip, who: None },
            46..62 => Command::Vote { kind: None, word: VoteWord::Yes },
            62..65 => Command::Vote { kind: None, word: VoteWord::No },
            65..73 => Command::Vote { kind: None, word: VoteWord::For(name) },
            73..81 => Command::Chat { text: format!("hello from {d}") },
            81..84 => set(Setting::VoteTimeout(Span(seconds * SEC))),
            84..86 => set(Setting::DjCooldown(Span(seconds * SEC))),
            86..89 => set(Setting::OnDjLeave(policy)),
            89..91 => set(Setting::Control(control)),
            91..93 => set(Setting::QueueOrder(order)),
            93..94 => set(Setting::AutoRandomDj(is_on)),
            94..95 => Command::Silence { who: name, silenced: is_on },
            95..96 => Command::Unban { who: name },
            96..97 if name != "p0" => Command::Ban { who: name },
            97..98 if name != "p0" => Command::Kick { who: name },
            98..99 if name != "p0" => Command::CallVote { kind: VoteKind::Kick, who: Some(name) },
            _ => set(Setting::QueueLimit(u16::try_from(seconds).expect("small"))),
        }
    }

    fn anybody(&mut self) -> String {
        let people = self.devices.iter().filter_map(|device| device.user.as_ref());
        let names = people.map(|user| user.name.clone()).collect::<Vec<_>>();
        names[self.rng.below(names.len() as u64) as usize].clone()
    }

    fn any_repeat(&mut self) -> Repeat {
        [Repeat::Off, Repeat::One, Repeat::All, Repeat::Off][self.rng.below(4) as usize]
    }

    pub fn ask(&mut self, d: usize, command: Command, watched: bool) -> RequestId {
        let id = RequestId(self.people.next);
        self.people.next += 1;
        self.counts.asked += 1;
        let what = format!("{command:?}").chars().take(40).collect::<String>();
        let (life, at) = (self.devices[d].life, self.now);
        self.tell(|_| format!("{d} is asked {id:?} {what}"));
        self.people.waiting.insert(id, Asked { d, life, at, what, watched });
        self.give(d, Input::CommandReceived { id, command });
        id
    }

    pub fn replied(&mut self, d: usize, id: RequestId, reply: CommandReply) {
        let Some(asked) = self.people.waiting.remove(&id) else {
            return self.broke("a command is answered once", |_| format!("{id:?} at {d}"));
        };
        self.counts.answered += 1;
        self.trace.add(id.0);
        if asked.watched {
            self.people.answers.insert(id, (self.now, reply.is_ok()));
        }
        match reply {
            Ok(done) => {
                let (Some(op), Some(idx)) = (done.op, done.idx) else { return };
                let author = self.devices[d].id();
                let op = OpId { author, boot: op.boot, seq: op.seq };
                self.tell(|_| format!("{d} answers {id:?}: {idx} {:?}", done.level));
                self.acknowledged(d, op, done.level);
            }
            Err(refusal) => {
                self.tell(|_| format!("{d} refuses {id:?}: {}", refusal.message));
            }
        }
    }

    /// Everybody who asked is answered, unless the device was not at work all the time.
    pub fn check_answers(&mut self) {
        let now = self.now;
        let forgotten = self.people.waiting.iter().find(|(_, asked)| {
            let device = &self.devices[asked.d];
            device.is_at_work()
                && device.life == asked.life
                && now - asked.at.max(device.at_work_since) > ANSWERED_WITHIN
        });
        let forgotten = forgotten.map(|(id, asked)| (*id, asked.d, asked.what.clone()));
        if let Some((id, d, what)) = forgotten {
            self.broke("every command is answered", |_| format!("{id:?} at {d}: {what}"));
        }
    }
}
