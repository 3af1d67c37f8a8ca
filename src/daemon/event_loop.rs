//! The one loop: wait for an input or a deadline, hand it to the node, do what it says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::SystemRandom;
use tokio::sync::{mpsc, oneshot, watch};

use super::clock;
use super::dispatch::Driver;
use super::service::Watchdog;
use crate::api::{ChatLog, UserWish};
use crate::base::limits::EVENT_QUEUE;
use crate::base::{LocalTime, RoomId, Span};
use crate::engine::command::{CommandReply, RequestId};
use crate::engine::node::{Input, Node, Output};
use crate::engine::room::Room;
use crate::engine::status::{
    ChatStatus, DiskState, DjStatus, FriendsStatus, LogEntryStatus, LogStatus, OperationStatus,
    PastVoteStatus,
};
use crate::engine::{Command, Status};
use crate::identity::{LocalUser, UserKey};
use crate::wire::op::Entry;
use crate::wire::{Refusal, RefusalCode};

/// How often front ends see a new picture while nothing but time changes.
const STATUS_EVERY: Span = Span::from_millis(250);

/// How often it is looked whether the device has slept.
const SLEEP_CHECK: Span = Span::from_millis(500);

/// A device that slept this long lost its place in time.
const SLEPT_AT_LEAST: Span = Span::from_millis(500);

/// What reaches the loop.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are inputs; a box each would cost more")]
pub enum Event {
    /// For the node.
    Input(Input),
    /// From a front end.
    Command(Command, oneshot::Sender<CommandReply>),
    /// A front end wants this device to be a person's.
    BecomeUser(UserWish, oneshot::Sender<CommandReply>),
    /// It wants to know who is DJ, and who was.
    Dj(oneshot::Sender<Result<DjStatus, Refusal>>),
    /// It wants to know about friends, requests and a pairing.
    Friends(oneshot::Sender<FriendsStatus>),
    /// It wants to know how votes ended.
    PastVotes(oneshot::Sender<Result<Vec<PastVoteStatus>, Refusal>>),
    /// A front end wants to read the end of the log.
    Log(usize, oneshot::Sender<(Option<RoomId>, LogStatus)>),
    /// It wants to know what became of an operation of this device: start counter and number.
    Operation(u32, u64, oneshot::Sender<Option<OperationStatus>>),
    /// It has read earlier entries from the disk, and wants them in words.
    Worded(Vec<Entry>, oneshot::Sender<Vec<LogEntryStatus>>),
}

impl From<Input> for Event {
    fn from(input: Input) -> Event {
        Event::Input(input)
    }
}

/// Hands events to the loop.
pub type EventSender = mpsc::Sender<Event>;

/// The way into a loop that is yet to run.
#[must_use]
pub fn channel() -> (EventSender, mpsc::Receiver<Event>) {
    mpsc::channel(EVENT_QUEUE)
}

/// The loop and what it holds.
pub struct EventLoop {
    node: Node,
    driver: Driver,
    events: mpsc::Receiver<Event>,
    status: watch::Sender<Arc<Status>>,
    chat: watch::Sender<Arc<ChatLog>>,
    /// Room and place of its log up to which the chat has been told.
    chat_place: Option<(RoomId, [u8; 16])>,
    replies: BTreeMap<RequestId, oneshot::Sender<CommandReply>>,
    next_request: u64,
    next_status: LocalTime,
    next_sleep_check: LocalTime,
    slept: Span,
    /// What the wall clock showed when this device's clock began, as the node was told, s.
    wall_at_zero: Option<i64>,
    disk: DiskState,
    watchdog: Watchdog,
}

impl EventLoop {
    /// A loop around a node.
    #[must_use]
    pub fn new(
        node: Node,
        driver: Driver,
        events: mpsc::Receiver<Event>,
        (status, chat): (watch::Sender<Arc<Status>>, watch::Sender<Arc<ChatLog>>),
    ) -> EventLoop {
        let now = clock::now();
        EventLoop {
            node,
            driver,
            events,
            status,
            chat,
            chat_place: None,
            replies: BTreeMap::new(),
            next_request: 0,
            next_status: now,
            next_sleep_check: now,
            slept: clock::slept(),
            wall_at_zero: None,
            disk: DiskState::Ok,
            watchdog: Watchdog::new(now),
        }
    }

    /// Runs until the node has ended as it was asked to, or nobody can ask any more; what is to be
    /// closed comes back.
    pub async fn run(mut self) -> Driver {
        loop {
            self.drain();
            self.watchdog.feed(clock::now());
            if self.node.is_finished() {
                return self.driver;
            }
            let deadline =
                self.node.poll_timeout().min(self.next_status).min(self.next_sleep_check);
            let wait = (deadline - clock::now()).to_std();
            match tokio::time::timeout(wait, self.events.recv()).await {
                Ok(Some(event)) => {
                    self.take(event);
                    // Where events never end, no wait ever does.
                    if clock::now() >= deadline {
                        self.time_passed();
                    }
                }
                // Every sender is gone: nothing can happen any more.
                Ok(None) => return self.driver,
                Err(_) => self.time_passed(),
            }
        }
    }

    fn take(&mut self, event: Event) {
        let input = match event {
            Event::Input(input) => input,
            Event::Command(command, reply) => {
                self.next_request += 1;
                let id = RequestId(self.next_request);
                self.replies.insert(id, reply);
                Input::CommandReceived { id, command }
            }
            Event::BecomeUser(wish, reply) => match wanted_user(self.node.user(), wish) {
                Ok(user) => {
                    let command = Command::BecomeUser { user: Some(user) };
                    return self.take(Event::Command(command, reply));
                }
                Err(refusal) => {
                    let _ = reply.send(Err(refusal));
                    return;
                }
            },
            // Whoever asked for the following may have hung up.
            Event::Dj(reply) => {
                let _ = reply.send(self.node.dj_status(clock::now()));
                return;
            }
            Event::Friends(reply) => {
                let _ = reply.send(self.node.friends_status(clock::now()));
                return;
            }
            Event::PastVotes(reply) => {
                let _ = reply.send(self.node.past_votes(clock::now()));
                return;
            }
            Event::Log(at_most, reply) => {
                let room = self.node.room().map(Room::id);
                let _ = reply.send((room, self.node.log(at_most)));
                return;
            }
            Event::Operation(boot, seq, reply) => {
                let _ = reply.send(self.node.operation(boot, seq));
                return;
            }
            Event::Worded(entries, reply) => {
                let _ = reply.send(self.node.worded(&entries));
                return;
            }
        };
        self.node.handle_input(clock::now(), input);
    }

    fn time_passed(&mut self) {
        let now = clock::now();
        if now >= self.next_sleep_check {
            self.next_sleep_check = now + SLEEP_CHECK;
            self.look_for_sleep(now);
            self.look_at_wall(now);
        }
        if now >= self.node.poll_timeout() {
            self.node.handle_timeout(now);
        }
        if now >= self.next_status {
            self.look_at_disk(now);
            self.publish(now);
        }
    }

    fn look_for_sleep(&mut self, now: LocalTime) {
        let slept = clock::slept();
        let gap = slept - self.slept;
        self.slept = slept;
        if gap >= SLEPT_AT_LEAST {
            tracing::info!(seconds = gap.as_secs_f64(), "the device slept; looking for the room");
            self.node.handle_input(now, Input::Suspended { gap });
        }
    }

    /// A device without a clock of its own learns the time a while after its start.
    fn look_at_wall(&mut self, now: LocalTime) {
        let unix_s = u64::try_from(clock::wall() / 1000).unwrap_or(0);
        let at_zero = i64::try_from(unix_s).unwrap_or(i64::MAX) - now.0 / 1_000_000_000;
        if self.wall_at_zero.is_none_or(|told| (told - at_zero).abs() > 1) {
            self.wall_at_zero = Some(at_zero);
            self.node.handle_input(now, Input::WallTime { unix_s });
        }
    }

    fn look_at_disk(&mut self, now: LocalTime) {
        let disk = self.driver.store.disk();
        if disk != std::mem::replace(&mut self.disk, disk) {
            self.node.handle_input(now, Input::DiskReported(disk));
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Reply { id, reply } => {
                    // A picture with the command's effect must be there before its answer.
                    self.publish(clock::now());
                    if let Some(waiting) = self.replies.remove(&id) {
                        // Whoever asked may have hung up; the command stands all the same.
                        let _ = waiting.send(reply);
                    }
                }
                other => self.driver.carry_out(other),
            }
        }
    }

    fn publish(&mut self, now: LocalTime) {
        self.next_status = now + STATUS_EVERY;
        let mut status = self.node.status(now);
        self.driver.complete(&mut status);
        self.publish_chat(now);
        self.status.send_replace(Arc::new(status));
    }

    /// What is said stands in the log: only where that has moved on there can be more.
    fn publish_chat(&mut self, now: LocalTime) {
        let place = self.node.room().map(|room| (room.id(), room.log().chain()));
        if std::mem::replace(&mut self.chat_place, place) == place {
            return;
        }
        let lines = self.node.chat(now).unwrap_or_default();
        let log = ChatLog { room: place.map(|(room, _)| room.to_string()), lines: dated(lines) };
        self.chat.send_if_modified(|shown| {
            let is_new = ids(shown) != ids(&log);
            if is_new {
                *shown = Arc::new(log);
            }
            is_new
        });
    }
}

/// What tells two chats apart.
fn ids(log: &ChatLog) -> (Option<&str>, Vec<&str>) {
    (log.room.as_deref(), log.lines.iter().map(|line| line.id.as_str()).collect())
}

/// When each was said, by this device's wall clock.
fn dated(lines: Vec<ChatStatus>) -> Vec<ChatStatus> {
    let wall = clock::wall();
    let date = |line: ChatStatus| ChatStatus { said_at: Some(wall - line.ago_ms), ..line };
    lines.into_iter().map(date).collect()
}

/// The person that a wish makes of the one there is: the key stays, or is made.
fn wanted_user(user: Option<&LocalUser>, wish: UserWish) -> Result<LocalUser, Refusal> {
    let key = match user {
        Some(user) => Arc::clone(&user.key),
        None => Arc::new(UserKey::generate(&SystemRandom::new()).map_err(|error| {
            let hint = "nothing was changed; try again";
            Refusal::new(RefusalCode::Internal, format!("no key could be made: {error}"), hint)
        })?),
    };
    let before = user.map(|user| user.display.clone()).unwrap_or_default();
    Ok(LocalUser { key, name: wish.name, display: wish.display.unwrap_or(before) })
}

/// How long the loop may take to end before the process does without it.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_millis(1500);
