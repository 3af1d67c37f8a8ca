//! People: what they ask for as operations, who is here, and what follows for a device that is
//! sent out.

use std::collections::{BTreeMap, BTreeSet};

use super::{LocalTime, Node, Notice, Output, RequestId, RoomId, Span, UserId};
use crate::base::EntryId;
use crate::engine::command::VoteWord;
use crate::engine::limits::Gcra;
use crate::engine::membership::Intent;
use crate::identity::LocalUser;
use crate::wire::op::{Choice, OpBody, Subject, VoteCall, VoteKind};
use crate::wire::{Refusal, RefusalCode};

/// How long all devices of a person are gone until the person is.
const GRACE: Span = Span::from_secs(15);

/// A coordinator that has just begun has not met everybody yet.
const FIRST_LOOK: Span = Span::from_secs(2);

/// Words of the chat at once, and then one in three seconds: ten in half a minute.
const CHAT_BURST: u32 = 10;
const CHAT_EVERY: Span = Span::from_secs(3);

/// Operations of one device at once, and in a second: no person is so quick, and a program that
/// is must not hold up the others.
const FLOOD_BURST: u32 = 200;
const FLOOD_EVERY: Span = Span::from_millis(50);

/// What the coordinator watches about people. Begins anew with every reign.
#[derive(Debug, Default)]
pub(super) struct Presences {
    /// Since when no device of a person is connected.
    gone: BTreeMap<UserId, LocalTime>,
    chat: BTreeMap<UserId, Gcra>,
    flood: BTreeMap<super::NodeId, Gcra>,
}

impl Node {
    /// The person whose device this is.
    #[must_use]
    pub fn user(&self) -> Option<&LocalUser> {
        self.user.as_ref()
    }

    pub(super) fn user_id(&self) -> Option<UserId> {
        self.user.as_ref().map(|user| user.key.user_id())
    }

    /// The person of the room that somebody means.
    pub(super) fn person_named(&self, now: LocalTime, name: &str) -> Result<UserId, Refusal> {
        self.state_now(now)?.find_person(name)
    }

    /// Who is muted and called so, here or not, or has an id that begins so; none if nobody is.
    pub(super) fn muted_named(
        &self,
        now: LocalTime,
        name: &str,
    ) -> Result<Option<UserId>, Refusal> {
        let wanted = name.trim().to_lowercase();
        let state = self.state_now(now)?;
        let found = state.silenced().filter(|(user, called)| {
            let called = state.person(user).map_or(*called, |person| person.name.as_str());
            is_called(&wanted, called, &user.to_string())
        });
        match found.collect::<Vec<_>>().as_slice() {
            [] => Ok(None),
            [(user, _)] => Ok(Some(**user)),
            several => {
                Err(several_called("muted", name, several.iter().map(|(user, _)| user.short())))
            }
        }
    }

    /// A person by name, or else a device.
    pub(super) fn subject(&self, now: LocalTime, name: &str) -> Result<Subject, Refusal> {
        let state = self.state_now(now)?;
        state.find_person(name).map(Subject::Person).or_else(|refusal| {
            // The device that belongs to a person is meant as that device.
            state.find_member(name).map(Subject::Device).map_err(|_| match refusal.code {
                RefusalCode::NotFound => Refusal::new(
                    RefusalCode::NotFound,
                    format!("no person or device in this room is called {name:?}"),
                    "`groovebox room show` lists both",
                ),
                _ => refusal,
            })
        })
    }

    /// Whoever is banned is not in the room: they are named as they are listed.
    pub(super) fn banned(&self, now: LocalTime, name: &str) -> Result<Subject, Refusal> {
        let wanted = name.trim().to_lowercase();
        let id = |subject: &Subject| match subject {
            Subject::Person(user) => user.to_string(),
            Subject::Device(node) => node.to_string(),
        };
        let fits = |(subject, name): &(&Subject, &str)| is_called(&wanted, name, &id(subject));
        let state = self.state_now(now)?;
        // Devices are banned together with their person: one word is for all of them.
        let mut found = Vec::<Subject>::new();
        for (subject, _) in state.banned().filter(fits) {
            if !found.iter().any(|other| state.are_banned_together(*other, *subject)) {
                found.push(*subject);
            }
        }
        match found.as_slice() {
            [subject] => Ok(*subject),
            [] => Err(Refusal::new(
                RefusalCode::NotFound,
                format!("nobody called {name:?} is banned from this room"),
                "`groovebox room show` lists who is; who was only sent out may come back by themselves \
                 after 5 minutes",
            )),
            several => {
                let short = |subject: &Subject| match subject {
                    Subject::Person(user) => user.short(),
                    Subject::Device(node) => node.short(),
                };
                Err(several_called("banned", name, several.iter().map(short)))
            }
        }
    }

    pub(super) fn up_vote(
        &self,
        now: LocalTime,
        entry: EntryId,
        up: bool,
    ) -> Result<OpBody, Refusal> {
        let state = self.state_now(now)?;
        let waiting = state.queue().iter().find(|waiting| waiting.id == entry);
        let entry = waiting.ok_or_else(|| super::commands::no_such_entry(entry))?.key;
        Ok(OpBody::UpVote { entry, up })
    }

    /// A password is stretched for one room; by then this device may be in another.
    pub(super) fn lock(&self, room: RoomId, secret: Option<[u8; 32]>) -> Result<OpBody, Refusal> {
        if self.room.is_some() && self.room_id() != Some(room) {
            return Err(Refusal::new(
                RefusalCode::UpdateFailed,
                "this device has moved to another room meanwhile; nothing was changed",
                "look at `groovebox room show` and try again",
            ));
        }
        Ok(OpBody::Lock { secret })
    }

    pub(super) fn vote_call(
        &self,
        now: LocalTime,
        kind: VoteKind,
        who: Option<&str>,
    ) -> Result<VoteCall, Refusal> {
        let state = self.state_now(now)?;
        Ok(match kind {
            VoteKind::Election => VoteCall::Election,
            VoteKind::Mutiny => VoteCall::Mutiny { dj_epoch: state.dj_epoch() },
            VoteKind::Skip => {
                let focus = state.focus().ok_or_else(|| {
                    Refusal::new(
                        RefusalCode::UpdateFailed,
                        "nothing is playing",
                        "there is nothing to skip",
                    )
                })?;
                VoteCall::Skip { segment: focus.id }
            }
            VoteKind::Kick => {
                let who = who.ok_or_else(|| {
                    Refusal::new(
                        RefusalCode::InvalidRequest,
                        "nobody was named",
                        "name whom to send out: `groovebox vote kick NAME`",
                    )
                })?;
                VoteCall::Kick { user: state.find_person(who)? }
            }
        })
    }

    /// Where several votes are open, a name goes to the election, and yes or no to the one in
    /// which this person has not voted yet.
    pub(super) fn vote(
        &self,
        now: LocalTime,
        kind: Option<VoteKind>,
        word: VoteWord,
    ) -> Result<OpBody, Refusal> {
        let state = self.state_now(now)?;
        let choice = match word {
            VoteWord::Yes => Choice::Yes,
            VoteWord::No => Choice::No,
            VoteWord::For(name) => Choice::For(state.find_person(&name)?),
        };
        let elects = matches!(choice, Choice::For(_));
        let fits = |k: VoteKind| kind.map_or((k == VoteKind::Election) == elects, |kind| kind == k);
        let open = state.votes().filter(|session| fits(session.kind)).collect::<Vec<_>>();
        let user = self.user_id();
        let has_voted = |session: &&&crate::engine::room::Session| {
            !user.is_some_and(|user| session.ballots.contains_key(&user))
        };
        let unvoted = open.iter().filter(has_voted).collect::<Vec<_>>();
        let session = match (unvoted[..].len(), open.len()) {
            (1, _) => unvoted[0],
            (_, 1) => &open[0],
            (0, 0) => {
                let election = state.votes().any(|session| session.kind == VoteKind::Election);
                return Err(match (elects, kind) {
                    (true, _) => not_open("no election is open"),
                    (false, None) if election => wants_a_name(),
                    (false, _) => not_open("no such vote is open"),
                });
            }
            _ => {
                let kinds = open.iter().map(|session| session.kind.as_str()).collect::<Vec<_>>();
                return Err(Refusal::new(
                    RefusalCode::InvalidRequest,
                    format!("several votes are open: {}", kinds.join(", ")),
                    "say which with `--in KIND`",
                ));
            }
        };
        Ok(OpBody::Vote { session: session.id, choice })
    }

    /// This device gets a person, another name for them, or none.
    pub(super) fn become_user(
        &mut self,
        now: LocalTime,
        id: RequestId,
        user: Option<LocalUser>,
    ) -> Result<(), Refusal> {
        self.take_user(now, Some(id), user)
    }

    pub(super) fn take_user(
        &mut self,
        now: LocalTime,
        id: Option<RequestId>,
        user: Option<LocalUser>,
    ) -> Result<(), Refusal> {
        if let Some(user) = &user
            && !crate::engine::room::is_user_name(&user.name)
        {
            return Err(crate::engine::room::bad_user_name(&user.name));
        }
        let message = user.as_ref().map_or_else(
            || "this device is a speaker without a person now".to_owned(),
            |user| format!("this device is {}'s now", user.name),
        );
        let before = self.user_id();
        self.user.clone_from(&user);
        self.outputs.push_back(Output::RememberUser(user));
        self.friends_of_new_user(before);
        if self.room.is_some() {
            let body = self.join_body();
            self.propose_own(now, id, &body)?;
        } else if let Some(id) = id {
            self.reply_done(id, message);
        }
        Ok(())
    }

    /// The coordinator notes who has come and who has been gone for a while.
    pub(super) fn look_for_people(&mut self, now: LocalTime) {
        if !self.is_coordinator() {
            self.presences = Presences::default();
            return;
        }
        let Some(room) = &self.room else { return };
        let state = room.state();
        let devices = state.members().iter().filter(|(node, _)| self.is_present(**node));
        let connected = devices.filter_map(|(_, member)| member.user).collect::<BTreeSet<_>>();
        let (mut here, mut away) = (Vec::new(), Vec::new());
        let begun = self.replication.reign.as_ref().map_or(now, |reign| reign.since);
        for (user, person) in state.people() {
            if connected.contains(user) {
                self.presences.gone.remove(user);
                if !person.is_here() {
                    here.push(*user);
                }
            } else if person.is_here() {
                let since = *self.presences.gone.entry(*user).or_insert(now);
                if now - since >= GRACE && now - begun >= FIRST_LOOK {
                    away.push(*user);
                }
            }
        }
        let Presences { gone, chat, flood } = &mut self.presences;
        gone.retain(|user, _| state.person(user).is_some());
        // A full bucket says as much as none; whoever asks, stranger or not, leaves no trace.
        chat.retain(|_, bucket| !bucket.is_full(now));
        flood.retain(|_, bucket| !bucket.is_full(now));
        if here.is_empty() && away.is_empty() {
            return;
        }
        if let Err(refusal) = self.propose_own(now, None, &OpBody::Presence { here, away }) {
            tracing::debug!(%refusal, "who is here could not be noted");
        }
    }

    /// Whether somebody asks for more than one person can. Only for what is new: what is said
    /// again, or was cut off, has been counted.
    pub(super) fn check_pace(
        &mut self,
        now: LocalTime,
        op: &crate::wire::Op,
    ) -> Result<(), Refusal> {
        let Some(room) = &self.room else { return Ok(()) };
        if room.state().has_seen(&op.id) {
            return Ok(());
        }
        let author = op.id.author;
        let user = room.state().member(&author).and_then(|member| member.user);
        let flood = self
            .presences
            .flood
            .entry(author)
            .or_insert_with(|| Gcra::new(FLOOD_EVERY, FLOOD_BURST));
        flood.take(now).map_err(|wait| too_fast("this device asks for too much at once", wait))?;
        if op.kind == (OpBody::Chat { text: String::new() }).kind()
            && let Some(user) = user
        {
            let chat = self
                .presences
                .chat
                .entry(user)
                .or_insert_with(|| Gcra::new(CHAT_EVERY, CHAT_BURST));
            chat.take(now).map_err(|wait| too_fast("you have said a lot just now", wait))?;
        }
        Ok(())
    }

    /// What follows when this device is a member no longer, or the room no more.
    pub(super) fn look_whether_out(&mut self, now: LocalTime) {
        let Some(room) = &self.room else { return };
        let state = room.state();
        let user = self.user_id();
        let out = |subject: Subject| state.keeps_out(subject, self.room_now(now));
        let sent_out = !self.is_member(self.me)
            && (out(Subject::Device(self.me)) || user.is_some_and(|u| out(Subject::Person(u))));
        if sent_out {
            let name = state.name().to_owned();
            return self.go(now, Notice::SentOut { room: name });
        }
        if !state.is_deleted() {
            return;
        }
        // Whoever coordinates stays until the others know.
        let known = self.replication.safe.0 >= room.log().last_idx();
        let begun = *self.replication.deleted_since.get_or_insert(now);
        if !self.is_coordinator() || known || now - begun >= GRACE {
            let (id, name) = (room.id(), room.state().name().to_owned());
            self.outputs.push_back(Output::ForgetRoom(id));
            self.go(now, Notice::Deleted { room: name });
        }
    }

    /// A room that this device was in does not let it in again.
    pub(super) fn refused_again(&mut self, now: LocalTime, refusal: &Refusal) {
        let for_good = matches!(
            refusal.code,
            RefusalCode::Banned
                | RefusalCode::Cooldown
                | RefusalCode::AuthRequired
                | RefusalCode::NotAllowed
        );
        let name = self.room.as_ref().map(|room| room.state().name().to_owned());
        if let Some(room) = name.filter(|_| for_good) {
            tracing::info!(%refusal, "the room does not let this device in again");
            self.go(now, Notice::SentOut { room });
        }
    }

    /// Out of the room and in none, until a person says otherwise.
    pub(super) fn go(&mut self, now: LocalTime, why: Notice) {
        self.tell(why);
        if let Some(election) = &mut self.election {
            election.resign(now);
        }
        self.leaving = true;
        self.settle_machines(now);
        self.leaving = false;
        self.drop_room(now);
        self.membership.set_intent(now, Intent::Alone);
        self.outputs.push_back(Output::RememberIntent(Intent::Alone));
    }
}

fn not_open(what: &str) -> Refusal {
    let hint = "`groovebox vote status` shows open votes, `groovebox vote elect` and others open \
                one";
    Refusal::new(RefusalCode::NotVoting, what, hint)
}

/// Yes and no say nothing where only an election is open.
fn wants_a_name() -> Refusal {
    Refusal::new(
        RefusalCode::InvalidRequest,
        "an election is open, in which one votes for a name, not with yes or no",
        "name whom you want: `groovebox vote NAME`; `groovebox room show` lists the people",
    )
}

pub(super) fn too_fast(message: &str, wait: Span) -> Refusal {
    let ms = wait.as_millis().max(1);
    Refusal {
        retry_after_ms: Some(u32::try_from(ms).unwrap_or(u32::MAX)),
        ..Refusal::new(RefusalCode::RateLimited, message, "wait a moment and try again")
    }
}

/// Whether somebody who may not be here is meant by that: by name, or by four characters and more
/// that their id begins with.
fn is_called(wanted: &str, name: &str, id: &str) -> bool {
    name.to_lowercase() == wanted || (wanted.len() >= 4 && id.starts_with(wanted))
}

fn several_called(what: &str, name: &str, ids: impl ExactSizeIterator<Item = String>) -> Refusal {
    let n = ids.len();
    Refusal::new(
        RefusalCode::InvalidRequest,
        format!("{n} that are {what} are called {name:?}"),
        format!("name one by the beginning of its id: {}", ids.collect::<Vec<_>>().join(", ")),
    )
}
