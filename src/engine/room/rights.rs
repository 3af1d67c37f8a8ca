//! Who may do what: the rules about people, the DJ, votes, the chat and the lock. Part of
//! [`rules`](super::rules), under the same conditions: the same answer wherever they are asked.

use crate::base::limits::{MAX_CHAT, MAX_ENDED_AT_ONCE, MAX_MEMBERS};
use crate::base::{EntryKey, NodeId, RoomTime, SegmentId, SessionId, Span, UserId};
use crate::wire::op::{
    Admission, Choice, Control, EndedFriendship, Friendship, Op, PersonCard, QueueOrder, Refusal,
    RefusalCode, Role, Setting, Subject, VoteCall, VoteKind,
};

use crate::wire::codec;

use super::chat::is_chat_text;
use super::government::Government;
use super::history::LATELY;
use super::people::{Person, is_display_name, is_user_name};
use super::playback::QueueEntry;
use super::settings;
use super::state::RoomState;

/// Who asks, and when it would take effect.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    pub state: &'a RoomState,
    pub node: NodeId,
    /// The person whose device it is.
    pub user: Option<UserId>,
    pub at: RoomTime,
}

impl<'a> Asker<'a> {
    pub fn of(state: &'a RoomState, op: &Op, at: RoomTime) -> Asker<'a> {
        Asker::on(state, op.id.author, at)
    }

    /// Whoever is at that device.
    pub fn on(state: &'a RoomState, node: NodeId, at: RoomTime) -> Asker<'a> {
        let user = state.member(&node).and_then(|member| member.user);
        Asker { state, node, user, at }
    }

    fn person(&self) -> Result<(UserId, &'a Person), Refusal> {
        let person = self.user.and_then(|user| Some((user, self.state.person(&user)?)));
        person.ok_or_else(|| {
            Refusal::new(
                RefusalCode::NoUser,
                "only a person can do that, and this device has none",
                "give it one: `groovebox user set NAME`",
            )
        })
    }

    fn is_owner(&self) -> bool {
        let government = &self.state.government;
        self.user.is_some() && government.acting_owner(self.at) == self.user
    }

    fn is_guest(&self) -> bool {
        self.state.is_guest(&self.node, self.user.as_ref())
    }

    pub fn may_control(&self) -> bool {
        self.state.may_control_with(&self.node, self.user.as_ref(), self.at)
    }

    fn governs(&self) -> bool {
        self.state.governs(&self.node, self.user.as_ref(), self.at)
    }

    fn has_added(&self, entry: &QueueEntry) -> bool {
        entry.is_of(&self.node, self.user.as_ref())
    }

    /// The music is in somebody's hand.
    pub fn controls(&self) -> Result<(), Refusal> {
        if self.may_control() {
            return Ok(());
        }
        let government = &self.state.government;
        if self.is_guest() && !government.settings.guests_may.control {
            return Err(Refusal::new(
                RefusalCode::NotAllowed,
                "guests do not control the music here",
                "the owner can allow it: `groovebox room set guests_may vote,chat,queue,control`",
            ));
        }
        if government.settings.control == Control::Owner {
            let owner = government.acting_owner(self.at).map(|owner| government.name_of(&owner));
            let owner = owner.unwrap_or_else(|| "a person of the room".to_owned());
            return Err(Refusal::new(
                RefusalCode::NotOwner,
                format!("{owner} controls the music in this room"),
                "add to the queue instead: `groovebox queue add FILE`",
            ));
        }
        match (government.dj, self.user) {
            (_, None) => Err(Refusal::new(
                RefusalCode::NoUser,
                "the DJ controls the music in this room, and this device has no person",
                "give it one: `groovebox user set NAME`",
            )),
            (Some(dj), _) => Err(Refusal::new(
                RefusalCode::NotDj,
                format!("{} is DJ and controls the music", government.name_of(&dj.user)),
                "`groovebox queue add FILE` adds to the queue, `groovebox vote skip` and \
                 `groovebox vote mutiny` ask the others",
            )),
            (None, Some(user)) => Err(self.cannot_be_dj(&user).unwrap_or_else(|| {
                Refusal::new(RefusalCode::NotDj, "the DJ controls the music", "`groovebox dj take`")
            })),
        }
    }

    /// Why somebody cannot be DJ; none if they can.
    fn cannot_be_dj(&self, user: &UserId) -> Option<Refusal> {
        let government = &self.state.government;
        if government.may_be_dj(user, self.at) {
            return None;
        }
        let name = government.name_of(user);
        let cooling = || {
            let left = government.cooling_until(user, self.at)? - self.at;
            Some(wait(
                RefusalCode::Cooldown,
                &format!("{name} was removed as DJ not long ago"),
                "they can be DJ again after that; the owner may appoint them before",
                left,
            ))
        };
        let shows = "`groovebox room show` lists who is here";
        let (why, hint) = match self.state.person(user) {
            None => (format!("{name} is not in this room"), shows),
            Some(person) if !person.is_here() => (format!("{name} is not here"), shows),
            Some(person) if person.cap == Role::Listener => (
                format!("{name} came in with an invite for listeners"),
                "they can be DJ after they have come in with the password or another invite",
            ),
            Some(person) if person.is_guest() && !government.settings.guests_may.control => (
                format!("{name} is a guest, and guests cannot be DJ here"),
                "the owner can allow it: `groovebox room set guests_may vote,chat,queue,control`",
            ),
            Some(_) => return cooling(),
        };
        Some(Refusal::new(RefusalCode::NotAllowed, why, hint))
    }

    fn owns(&self) -> Result<(), Refusal> {
        if self.is_owner() {
            return Ok(());
        }
        let government = &self.state.government;
        // Nobody owns a room of speakers: whoever comes first would.
        if government.owner.is_none() {
            let (_, person) = self.person()?;
            if person.may_own() {
                return Ok(());
            }
            return Err(Refusal::new(
                RefusalCode::NotOwner,
                format!(
                    "nobody owns the room, and {} cannot: their invite was limited",
                    person.name
                ),
                "enter it again with its password or another invite",
            ));
        }
        let owner = government.acting_owner(self.at).map(|owner| government.name_of(&owner));
        Err(Refusal::new(
            RefusalCode::NotOwner,
            format!("only {}, who owns the room, may do that", owner.unwrap_or_default()),
            "ask them",
        ))
    }

    /// Whether somebody may change what another device does.
    pub fn may_set_volume_of(&self, member: &NodeId) -> Result<(), Refusal> {
        let theirs = self.state.member(member).and_then(|member| member.user);
        let own = *member == self.node || (theirs.is_some() && theirs == self.user);
        if own || self.is_owner() { Ok(()) } else { self.controls() }
    }
}

/// A refusal that time heals.
fn wait(code: RefusalCode, message: &str, hint: &str, left: Span) -> Refusal {
    let left = left.as_millis().max(0);
    let seconds = ((left + 999) / 1000).max(1);
    let time = match seconds {
        1 => "1 second is".to_owned(),
        2..120 => format!("{seconds} seconds are"),
        _ => format!("{} minutes are", (seconds + 59) / 60),
    };
    Refusal {
        retry_after_ms: Some(u32::try_from(left).unwrap_or(u32::MAX)),
        ..Refusal::new(code, format!("{message}: {time} left"), hint)
    }
}

/// What a device shows that wants in.
pub(super) struct Card<'a> {
    pub person: Option<&'a PersonCard>,
    pub admission: Option<&'a Admission>,
    pub friendship: Option<&'a Friendship>,
}

pub(super) fn check_join(asker: Asker<'_>, card: &Card<'_>) -> Result<(), Refusal> {
    let state = asker.state;
    if state.government.deleted {
        return Err(Refusal::new(
            RefusalCode::JoinFailed,
            "the room was deleted by its owner",
            "`groovebox rooms` lists the rooms in reach",
        ));
    }
    if let Some(person) = card.person {
        check_person(asker.node, person)?;
    }
    let user = card.person.map(|person| person.user);
    let subjects = [Some(Subject::Device(asker.node)), user.map(Subject::Person)];
    for subject in subjects.into_iter().flatten() {
        check_not_out(&asker.state.government, subject, asker.at)?;
    }
    let is_known = state.member(&asker.node).is_some();
    if !is_known && state.members().len() >= MAX_MEMBERS {
        return Err(Refusal::new(
            RefusalCode::RoomFull,
            format!("the room has {MAX_MEMBERS} devices, which is all it can hold"),
            "let a device that is not needed leave, or make another room",
        ));
    }
    check_people_limit(asker, user)?;
    if is_known {
        return Ok(());
    }
    check_admission(asker, card)?;
    check_friendship(asker, card)
}

fn check_person(node: NodeId, person: &PersonCard) -> Result<(), Refusal> {
    if !is_user_name(&person.name) {
        return Err(bad_user_name(&person.name));
    }
    if !person.display.is_empty() && !is_display_name(&person.display) {
        return Err(Refusal::new(
            RefusalCode::NameTaken,
            "a display name has 1 to 64 printable characters",
            "choose another: `groovebox user set NAME --display TEXT`",
        ));
    }
    person.verify(node).map_err(|_| {
        Refusal::new(
            RefusalCode::AuthRequired,
            format!("the person called {} has not said that this device is theirs", person.name),
            "`groovebox user set NAME` on the device, or pair it with one of theirs",
        )
    })
}

/// What a person may be called.
#[must_use]
pub fn bad_user_name(name: &str) -> Refusal {
    let shown = name.chars().take(40).collect::<String>();
    Refusal::new(
        RefusalCode::NameTaken,
        format!("{shown:?} is no user name"),
        "a user name has 2 to 32 letters, digits and - _ . ; `--display` takes any other",
    )
}

pub(super) fn check_not_out(
    government: &Government,
    subject: Subject,
    at: RoomTime,
) -> Result<(), Refusal> {
    if government.is_banned(subject) {
        return Err(Refusal::new(
            RefusalCode::Banned,
            "the owner of the room has banned you",
            "only the owner can change that: `groovebox room unban NAME`",
        ));
    }
    match government.out_until(subject, at) {
        None => Ok(()),
        Some(until) => Err(wait(
            RefusalCode::Cooldown,
            "you were sent out of this room",
            "come back then, or enter another room",
            until - at,
        )),
    }
}

fn check_people_limit(asker: Asker<'_>, user: Option<UserId>) -> Result<(), Refusal> {
    let government = &asker.state.government;
    let people = government.people.all();
    let is_new = user.is_some_and(|user| !people.contains_key(&user));
    let max = usize::from(government.settings.max_members);
    if !is_new || people.len() < max {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::RoomFull,
        format!("the room has {max} people, which is all it takes"),
        "the owner can let in more: `groovebox room set max_members N`",
    ))
}

fn check_admission(asker: Asker<'_>, card: &Card<'_>) -> Result<(), Refusal> {
    let government = &asker.state.government;
    if government.lock.is_none() {
        return Ok(());
    }
    let needed = || {
        Refusal::new(
            RefusalCode::AuthRequired,
            "the room is locked",
            "name its password: `groovebox room join CODE --password`",
        )
    };
    let admission = card.admission.ok_or_else(needed)?;
    if asker.state.admits(&asker.node, admission) { Ok(()) } else { Err(needed()) }
}

/// The owner's own devices come in, and their friends; others with an invite of one of these.
fn check_friendship(asker: Asker<'_>, card: &Card<'_>) -> Result<(), Refusal> {
    let government = &asker.state.government;
    let invited = card.admission.filter(|admission| admission.terms.invited);
    let word = invited.filter(|word| asker.state.admits(&asker.node, word));
    let is_for_friends = government.settings.friends_only;
    let Some(owner) = government.owner.filter(|_| is_for_friends) else {
        // Its owner has gone, and left people behind to whom it could not pass.
        if !is_for_friends || government.people.all().is_empty() || word.is_some() {
            return Ok(());
        }
        return Err(Refusal::new(
            RefusalCode::NotAllowed,
            "the room is for friends of an owner who has left it",
            "ask somebody in it for an invite: `groovebox invite`",
        ));
    };
    let is_friend = |user: UserId| {
        let over = codec::ended_mark(&asker.state.id(), &owner, &user);
        let holds = |f: &Friendship| f.is_between(user, owner) && f.verify().is_ok();
        user == owner
            || card.friendship.is_some_and(|f| holds(f) && f.since > government.ended_up_to(&over))
    };
    let host = word.and_then(|word| asker.state.member(&word.issuer)?.user);
    let themselves = card.person.map(|person| person.user);
    if themselves.is_some_and(is_friend) || host.is_some_and(is_friend) {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::NotAllowed,
        format!("only friends of {} come into this room", government.name_of(&owner)),
        "ask them to be your friend (`groovebox friend add NAME`), or one of them for an invite",
    ))
}

/// Whom an owner may send out: anybody but themselves and, while they only act, the owner.
pub(super) fn check_sending_out(asker: Asker<'_>, subject: Subject) -> Result<(), Refusal> {
    asker.owns()?;
    let meant = match subject {
        Subject::Person(user) => Some(user),
        Subject::Device(node) => {
            let member = asker.state.member(&node);
            let member = member.ok_or_else(|| {
                Refusal::new(
                    RefusalCode::NotFound,
                    format!("device {} is not in this room", node.short()),
                    "`groovebox room show` lists the devices",
                )
            })?;
            member.user
        }
    };
    let protected = [asker.user, asker.state.government.owner];
    if meant.is_some() && protected.contains(&meant) {
        return Err(Refusal::new(
            RefusalCode::NotAllowed,
            "the owner cannot be sent out of their own room",
            "`groovebox room leave` leaves it",
        ));
    }
    Ok(())
}

pub(super) fn check_kick(asker: Asker<'_>, subject: Subject) -> Result<(), Refusal> {
    check_sending_out(asker, subject)?;
    match subject {
        Subject::Person(user) => check_person_known(asker, &user),
        Subject::Device(_) => Ok(()),
    }
}

pub(super) fn check_ban(asker: Asker<'_>, subject: Subject) -> Result<(), Refusal> {
    match subject {
        // Whoever is not here any more can be banned as well.
        Subject::Device(node) if asker.state.member(&node).is_none() => asker.owns(),
        _ => check_sending_out(asker, subject),
    }
}

pub(super) fn check_unban(asker: Asker<'_>, subject: Subject) -> Result<(), Refusal> {
    asker.owns()?;
    let government = &asker.state.government;
    let is_out = government.is_banned(subject) || government.out_until(subject, asker.at).is_some();
    if is_out {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::NotFound,
        "they are not banned from this room",
        "`groovebox room show` lists who is",
    ))
}

/// Whoever was muted and has left can be let speak again.
pub(super) fn check_silence(
    asker: Asker<'_>,
    user: &UserId,
    silenced: bool,
) -> Result<(), Refusal> {
    asker.owns()?;
    if !silenced && asker.state.silenced().any(|(muted, _)| muted == user) {
        return Ok(());
    }
    check_person_known(asker, user)
}

/// Only of the owner's own friendships, whoever acts for them.
pub(super) fn check_end_friendships(
    asker: Asker<'_>,
    ended: &[EndedFriendship],
) -> Result<(), Refusal> {
    let owner = asker.state.government.owner;
    if owner.is_none() || owner != asker.user {
        return Err(Refusal::new(
            RefusalCode::NotOwner,
            "whose friend the owner is, only the owner says",
            "end friendships of your own with `groovebox friend remove NAME`",
        ));
    }
    if ended.is_empty() || ended.len() > MAX_ENDED_AT_ONCE {
        return Err(Refusal::new(
            RefusalCode::InvalidRequest,
            format!("{} friendships end at once", ended.len()),
            format!("1 to {MAX_ENDED_AT_ONCE} can"),
        ));
    }
    Ok(())
}

pub(super) fn check_delete(asker: Asker<'_>) -> Result<(), Refusal> {
    // Who merely acts for the owner must not be able to take the room from them.
    let government = &asker.state.government;
    asker.owns()?;
    if government.owner.is_some() && government.owner != asker.user {
        return Err(Refusal::new(
            RefusalCode::NotOwner,
            "only the owner may delete the room, not who acts for them",
            "wait until they are back",
        ));
    }
    Ok(())
}

pub(super) fn check_set(asker: Asker<'_>, setting: &Setting) -> Result<(), Refusal> {
    asker.owns()?;
    settings::check(setting)
}

pub(super) fn check_lock(asker: Asker<'_>) -> Result<(), Refusal> {
    asker.owns()
}

fn check_person_known(asker: Asker<'_>, user: &UserId) -> Result<(), Refusal> {
    if asker.state.person(user).is_some() {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::NotFound,
        format!("person {} is not in this room", user.short()),
        "`groovebox room show` lists who is",
    ))
}

/// The DJ.
pub(super) fn check_dj_take(asker: Asker<'_>) -> Result<(), Refusal> {
    let (user, _) = asker.person()?;
    let government = &asker.state.government;
    match government.dj {
        Some(dj) if dj.user == user => Err(Refusal::new(
            RefusalCode::UpdateFailed,
            "you are DJ already",
            "nothing needs to be done",
        )),
        Some(dj) => Err(Refusal::new(
            RefusalCode::NotDj,
            format!("{} is DJ", government.name_of(&dj.user)),
            "ask for it, or let the others decide: `groovebox vote elect`, `groovebox vote mutiny`",
        )),
        None => asker.cannot_be_dj(&user).map_or(Ok(()), Err),
    }
}

pub(super) fn check_dj_give(asker: Asker<'_>, to: &UserId) -> Result<(), Refusal> {
    is_dj(asker)?;
    asker.cannot_be_dj(to).map_or(Ok(()), Err)
}

pub(super) fn is_dj(asker: Asker<'_>) -> Result<(), Refusal> {
    let (user, _) = asker.person()?;
    if asker.state.government.is_dj(&user) {
        return Ok(());
    }
    Err(Refusal::new(RefusalCode::NotDj, "you are not DJ", "`groovebox dj` shows who is"))
}

pub(super) fn check_dj_appoint(asker: Asker<'_>, to: &UserId) -> Result<(), Refusal> {
    asker.owns()?;
    check_person_known(asker, to)?;
    if asker.state.government.is_dj(to) {
        return Err(Refusal::new(
            RefusalCode::UpdateFailed,
            "they are DJ already",
            "nothing needs to be done",
        ));
    }
    let refusal = asker.cannot_be_dj(to).filter(|refusal| refusal.code != RefusalCode::Cooldown);
    refusal.map_or(Ok(()), Err)
}

pub(super) fn check_dj_random(asker: Asker<'_>) -> Result<(), Refusal> {
    let (user, _) = asker.person()?;
    let government = &asker.state.government;
    if government.dj.is_some() && !government.is_dj(&user) && !asker.is_owner() {
        return Err(Refusal::new(
            RefusalCode::NotDj,
            "while there is a DJ, only they and the owner may draw another",
            "let the others decide: `groovebox vote elect`",
        ));
    }
    if government.lots(asker.at).is_empty() {
        return Err(Refusal::new(
            RefusalCode::UpdateFailed,
            "nobody who is here could be drawn",
            "wait until somebody comes, or until a cool-down is over",
        ));
    }
    Ok(())
}

/// Votes.
pub(super) fn check_call(asker: Asker<'_>, call: &VoteCall) -> Result<(), Refusal> {
    let (user, _) = asker.person()?;
    let government = &asker.state.government;
    let kind = call.kind();
    if !government.electorate(asker.at).contains(&user) {
        return Err(Refusal::new(
            RefusalCode::NotAllowed,
            "you have no vote here",
            "guests vote a minute after they came, where the room lets them",
        ));
    }
    if government.votes.open_of(kind).is_some() {
        return Err(Refusal::new(
            RefusalCode::VoteOpen,
            format!("a vote of this kind ({}) is open already", kind.as_str()),
            "`groovebox vote status` shows it",
        ));
    }
    let barred = government.votes.barred_until(kind, &user).filter(|until| *until > asker.at);
    if let Some(until) = barred {
        return Err(wait(
            RefusalCode::Cooldown,
            &format!("the last {} that you called has failed", kind.as_str()),
            "somebody else may call one",
            until - asker.at,
        ));
    }
    match call {
        VoteCall::Election => Ok(()),
        VoteCall::Mutiny { dj_epoch } => check_mutiny(asker, &user, *dj_epoch),
        VoteCall::Skip { segment } => check_skip(asker, user, *segment),
        VoteCall::Kick { user: target } => check_kick_call(asker, &user, target),
    }
}

fn check_mutiny(asker: Asker<'_>, user: &UserId, dj_epoch: u32) -> Result<(), Refusal> {
    let government = &asker.state.government;
    match government.dj {
        None => Err(Refusal::new(
            RefusalCode::UpdateFailed,
            "there is no DJ to rise against",
            "`groovebox dj take` makes you DJ, `groovebox vote elect` lets all decide",
        )),
        Some(dj) if dj.user == *user => Err(Refusal::new(
            RefusalCode::InvalidRequest,
            "you are the DJ yourself",
            "`groovebox dj drop` steps down",
        )),
        Some(_) if government.dj_epoch != dj_epoch => Err(Refusal::new(
            RefusalCode::UpdateFailed,
            "the room has another DJ now",
            "nothing was changed; look at `groovebox dj`",
        )),
        Some(_) => Ok(()),
    }
}

fn check_skip(asker: Asker<'_>, user: UserId, segment: SegmentId) -> Result<(), Refusal> {
    let state = asker.state;
    match state.focus() {
        None => Err(Refusal::new(
            RefusalCode::UpdateFailed,
            "nothing is playing",
            "there is nothing to skip",
        )),
        Some(focus) if focus.id != segment => Err(Refusal::new(
            RefusalCode::UpdateFailed,
            "the room has moved on to something else meanwhile; nothing was changed",
            "look at `groovebox status` and try again if it is still what you want",
        )),
        Some(_) if state.government.votes.has_called_skip(segment, user) => Err(Refusal::new(
            RefusalCode::Cooldown,
            "you have asked for this track to be skipped already",
            "one vote on a track and person",
        )),
        Some(_) => Ok(()),
    }
}

fn check_kick_call(asker: Asker<'_>, user: &UserId, target: &UserId) -> Result<(), Refusal> {
    check_person_known(asker, target)?;
    let government = &asker.state.government;
    if target == user || government.owner == Some(*target) {
        return Err(Refusal::new(
            RefusalCode::NotAllowed,
            "neither the owner nor oneself can be voted out",
            "`groovebox room leave` leaves the room",
        ));
    }
    Ok(())
}

pub(super) fn check_vote(
    asker: Asker<'_>,
    session: SessionId,
    choice: Choice,
) -> Result<(), Refusal> {
    let (user, _) = asker.person()?;
    let government = &asker.state.government;
    let Some(session) = government.votes.session(session) else {
        return Err(Refusal::new(
            RefusalCode::NotVoting,
            "this vote is over",
            "`groovebox vote history` shows how it ended",
        ));
    };
    if !session.electorate.contains(&user) {
        return Err(Refusal::new(
            RefusalCode::NotVoting,
            "you were not here when this vote was opened",
            "you have a vote in the next one",
        ));
    }
    match (session.kind, choice) {
        (VoteKind::Election, Choice::For(candidate)) => {
            asker.cannot_be_dj(&candidate).map_or(Ok(()), Err)
        }
        (VoteKind::Election, _) | (_, Choice::For(_)) => Err(Refusal::new(
            RefusalCode::InvalidRequest,
            "that is no choice in this vote",
            "an election is voted on with a name, everything else with yes or no",
        )),
        _ if session.ballots.contains_key(&user) && !super::government::may_vote_again() => {
            Err(Refusal::new(
                RefusalCode::AlreadyVoted,
                "you have voted, and it cannot be changed",
                "`groovebox vote status` shows how it stands",
            ))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_chat(asker: Asker<'_>, text: &str) -> Result<(), Refusal> {
    let (_, person) = asker.person()?;
    if person.silenced {
        return Err(Refusal::new(
            RefusalCode::NotAllowed,
            "the owner has muted you",
            "ask them to let you speak again",
        ));
    }
    if person.is_guest() && !asker.state.government.settings.guests_may.chat {
        return Err(Refusal::new(
            RefusalCode::NotAllowed,
            "guests do not chat here",
            "the owner can allow it: `groovebox room set guests_may vote,chat,queue`",
        ));
    }
    if is_chat_text(text) {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::InvalidRequest,
        format!("a message has 1 to {MAX_CHAT} characters"),
        "make it shorter",
    ))
}

/// The queue.
pub(super) fn check_adding(
    asker: Asker<'_>,
    tracks: &[crate::wire::Track],
    plays: bool,
) -> Result<(), Refusal> {
    if plays {
        asker.controls()?;
    }
    let government = &asker.state.government;
    if !asker.may_control() {
        check_portion(asker, tracks.len())?;
    }
    let is_dj = match government.dj {
        Some(_) => asker.user.is_some_and(|user| government.is_dj(&user)),
        // Without one, whoever controls stands in.
        None => asker.may_control(),
    };
    if is_dj { Ok(()) } else { check_not_again(asker, tracks) }
}

/// Who does not control adds so much and no more.
fn check_portion(asker: Asker<'_>, added: usize) -> Result<(), Refusal> {
    let government = &asker.state.government;
    if asker.is_guest() && !government.settings.guests_may.queue {
        return Err(Refusal::new(
            RefusalCode::NotAllowed,
            "guests do not add to the queue here",
            "the owner can allow it: `groovebox room set guests_may vote,chat,queue`",
        ));
    }
    let waiting = asker.state.queue().iter().filter(|entry| asker.has_added(entry)).count();
    let limit = usize::from(government.settings.queue_limit);
    if waiting + added > limit {
        return Err(Refusal::new(
            RefusalCode::QueueLimit,
            format!(
                "each has at most {limit} tracks waiting here; you have {waiting}, and this would \
                 be {added} more"
            ),
            "wait until some have been played, or take some out: `groovebox queue remove N`",
        ));
    }
    Ok(())
}

/// The same track not twice within half an hour.
fn check_not_again(asker: Asker<'_>, tracks: &[crate::wire::Track]) -> Result<(), Refusal> {
    let again = tracks.iter().find_map(|track| {
        let last = asker.state.last_heard(track.hash, asker.at)?;
        (asker.at - last < LATELY).then_some((track, last))
    });
    match again {
        None => Ok(()),
        Some((track, last)) => Err(wait(
            RefusalCode::PlayedRecently,
            &format!("{:?} was played not long ago", track.title),
            "only the DJ plays something again so soon",
            last + LATELY - asker.at,
        )),
    }
}

/// The DJ, the owner, and for what is theirs everybody.
pub(super) fn check_removing(asker: Asker<'_>, entries: &[EntryKey]) -> Result<(), Refusal> {
    if asker.governs() {
        return Ok(());
    }
    let queue = asker.state.queue().iter();
    let mut named = queue.filter(|entry| entries.contains(&entry.key));
    if named.all(|entry| asker.has_added(entry)) { Ok(()) } else { asker.controls() }
}

/// The DJ and the owner anywhere; everybody else their own, among their own.
pub(super) fn check_moving(
    asker: Asker<'_>,
    entry: EntryKey,
    behind: Option<EntryKey>,
) -> Result<(), Refusal> {
    if asker.governs() {
        return Ok(());
    }
    let queue = || asker.state.queue().iter();
    let of = |key: EntryKey| queue().find(|entry| entry.key == key);
    let own = |key: EntryKey| of(key).is_some_and(|entry| asker.has_added(entry));
    if asker.state.government.settings.queue_order == QueueOrder::Dj || !own(entry) {
        return asker.controls();
    }
    let among_own = match behind {
        Some(before) => own(before),
        None => true,
    };
    if among_own {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::NotAllowed,
        "your entries can be moved among your own only",
        "name the place of another entry of yours; the DJ may move everything",
    ))
}

pub(super) fn check_up_vote(asker: Asker<'_>, entry: EntryKey) -> Result<(), Refusal> {
    let (_, person) = asker.person()?;
    if person.is_guest() && !asker.state.government.settings.guests_may.vote {
        return Err(Refusal::new(
            RefusalCode::NotAllowed,
            "guests do not vote here",
            "the owner can allow it: `groovebox room set guests_may vote,chat,queue`",
        ));
    }
    if asker.state.queue().iter().any(|waiting| waiting.key == entry) {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::NotFound,
        "the entry is no longer in the queue",
        "`groovebox queue` lists the entries with their numbers",
    ))
}
