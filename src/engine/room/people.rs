//! The people of a room: what they are called, whether they are here, and who comes first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::limits::{MAX_NAME, MAX_USER_NAME, MIN_USER_NAME};
use crate::base::{RoomTime, Span, UserId};
use crate::wire::op::{MemberKind, PersonCard, Refusal, RefusalCode, Role};

use super::members::{Stamp, is_name};

/// Names listed in a refusal; more would not be read.
const MAX_LISTED: usize = 8;

/// Whether somebody is here, and since when.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Presence {
    /// With a device or a page.
    Here {
        /// Since.
        since: RoomTime,
    },
    /// With none.
    Away {
        /// Since.
        since: RoomTime,
    },
}

/// A person of the room, however many devices they have.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Person {
    /// What they are called here; nobody else is.
    pub name: String,
    /// As they want to be called.
    pub display: String,
    /// Whether their key is their own or kept by who served their page.
    pub kind: MemberKind,
    /// How high they may rise here: the most that one of their devices came in with.
    pub cap: Role,
    /// When they came into the room.
    pub joined_at: RoomTime,
    /// When they last did something.
    pub last_active: RoomTime,
    /// Whether they are here.
    pub presence: Presence,
    /// They have been taken the word.
    pub silenced: bool,
    /// What did or undid that last.
    pub(super) silenced_by: Option<Stamp>,
    /// The name they asked for.
    asked: String,
    /// When they asked for it: of two the earlier has it.
    claim: Stamp,
}

impl Person {
    /// Whether they are here.
    #[must_use]
    pub fn is_here(&self) -> bool {
        matches!(self.presence, Presence::Here { .. })
    }

    /// Whether they have a guest's rights only.
    #[must_use]
    pub fn is_guest(&self) -> bool {
        self.kind == MemberKind::Guest || self.cap == Role::Guest
    }

    /// Whether the room may be theirs, for good or while its owner is away.
    #[must_use]
    pub fn may_own(&self) -> bool {
        self.kind != MemberKind::Guest && self.cap == Role::Owner
    }

    /// Since when they are here without a break.
    #[must_use]
    pub fn here_since(&self) -> Option<RoomTime> {
        match self.presence {
            Presence::Here { since } => Some(since),
            Presence::Away { .. } => None,
        }
    }

    /// For how long they have been away.
    #[must_use]
    pub fn away_for(&self, at: RoomTime) -> Option<Span> {
        match self.presence {
            Presence::Here { .. } => None,
            Presence::Away { since } => Some(at - since),
        }
    }

    fn is_sane(&self) -> bool {
        // A name that two have asked for got a number behind it.
        let short = |name: &str| name.chars().count() <= MAX_NAME;
        short(&self.name) && is_user_name(&self.asked) && short(&self.display)
    }
}

/// Whether a person may be called so.
#[must_use]
pub fn is_user_name(name: &str) -> bool {
    (MIN_USER_NAME..=MAX_USER_NAME).contains(&name.chars().count())
        && name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c))
}

/// Whether a person may want to be called so.
#[must_use]
pub fn is_display_name(name: &str) -> bool {
    is_name(name)
}

/// Everybody, by id.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct People(BTreeMap<UserId, Person>);

impl People {
    pub fn get(&self, user: &UserId) -> Option<&Person> {
        self.0.get(user)
    }

    pub fn get_mut(&mut self, user: &UserId) -> Option<&mut Person> {
        self.0.get_mut(user)
    }

    pub fn all(&self) -> &BTreeMap<UserId, Person> {
        &self.0
    }

    pub fn remove(&mut self, user: &UserId) -> Option<Person> {
        self.0.remove(user)
    }

    /// Somebody comes, or comes with another device or name.
    pub fn join(&mut self, card: &PersonCard, cap: Role, claim: Stamp, at: RoomTime) {
        let display = if card.display.trim().is_empty() { &card.name } else { &card.display };
        let asks_again = if let Some(person) = self.0.get_mut(&card.user) {
            person.display.clone_from(display);
            person.cap = person.cap.max(cap);
            if !person.is_here() {
                person.presence = Presence::Here { since: at };
            }
            person.asked != card.name
        } else {
            let person = Person {
                name: String::new(),
                display: display.clone(),
                kind: MemberKind::Person,
                cap,
                joined_at: at,
                last_active: at,
                presence: Presence::Here { since: at },
                silenced: false,
                silenced_by: None,
                asked: card.name.clone(),
                claim,
            };
            self.0.insert(card.user, person);
            true
        };
        if asks_again {
            self.name(card.user, &card.name, claim);
        }
    }

    /// Gives somebody the name they ask for. Where two ask for one, it is the earlier one's.
    fn name(&mut self, user: UserId, name: &str, claim: Stamp) {
        let holder = self.0.iter().find(|(id, p)| **id != user && same(&p.name, name));
        let holder = holder.map(|(id, person)| (*id, person.claim, person.asked.clone()));
        let given = match holder {
            Some((other, theirs, asked)) if claim < theirs && same(&asked, name) => {
                let instead = self.free_name(&asked);
                if let Some(other) = self.0.get_mut(&other) {
                    other.name = instead;
                }
                name.to_owned()
            }
            Some(_) => self.free_name(name),
            None => name.to_owned(),
        };
        if let Some(person) = self.0.get_mut(&user) {
            person.name = given;
            name.clone_into(&mut person.asked);
            person.claim = claim;
        }
    }

    fn free_name(&self, name: &str) -> String {
        let taken = |name: &str| self.0.values().any(|person| same(&person.name, name));
        let mut numbered = (2_u32..).map(|n| format!("{name}-{n}"));
        numbered.find(|name| !taken(name)).expect("a room has fewer people than there are numbers")
    }

    pub fn set_presence(&mut self, user: &UserId, here: bool, at: RoomTime) {
        let Some(person) = self.0.get_mut(user) else { return };
        if person.is_here() != here {
            person.presence =
                if here { Presence::Here { since: at } } else { Presence::Away { since: at } };
        }
    }

    /// Whose the room may be of those who are here, the one first who has been for the longest
    /// time.
    pub fn by_presence(&self) -> Vec<UserId> {
        let here = self.0.iter().filter(|(_, person)| person.may_own());
        let mut here = here
            .filter_map(|(id, person)| Some((person.here_since()?, person.joined_at, *id)))
            .collect::<Vec<_>>();
        here.sort_unstable();
        here.into_iter().map(|(_, _, id)| id).collect()
    }

    /// The person that somebody means: by name, by display name, by a beginning of either that
    /// only they have; capitals do not matter.
    pub fn find(&self, text: &str) -> Result<UserId, Refusal> {
        let wanted = text.trim().trim_start_matches('@').to_lowercase();
        let exact = |person: &Person| person.name.to_lowercase() == wanted;
        let shown = |person: &Person| person.display.to_lowercase() == wanted;
        let begins = |person: &Person| {
            !wanted.is_empty()
                && [&person.name, &person.display]
                    .iter()
                    .any(|name| name.to_lowercase().starts_with(&wanted))
        };
        let rules: [&dyn Fn(&Person) -> bool; 3] = [&exact, &shown, &begins];
        for rule in rules {
            let found = self.0.iter().filter(|(_, person)| rule(person));
            let found = found.map(|(id, _)| *id).collect::<Vec<_>>();
            match found[..] {
                [] => {}
                [one] => return Ok(one),
                _ => return Err(self.ambiguous(text, &found)),
            }
        }
        Err(self.unknown(text))
    }

    fn ambiguous(&self, text: &str, found: &[UserId]) -> Refusal {
        Refusal::new(
            RefusalCode::InvalidRequest,
            format!("{:?} fits more than one person: {}", shown(text), self.list(found.iter())),
            "name one of them by more letters",
        )
    }

    fn unknown(&self, text: &str) -> Refusal {
        let hint = if self.0.is_empty() {
            "nobody here has a name yet: `groovebox user set NAME` gives this device a person"
                .into()
        } else {
            format!("there are {}", self.list(self.0.keys()))
        };
        Refusal::new(
            RefusalCode::NotFound,
            format!("nobody in this room is called {:?}", shown(text)),
            hint,
        )
    }

    fn list<'a>(&self, ids: impl Iterator<Item = &'a UserId>) -> String {
        let mut names = ids.filter_map(|id| self.get(id)).map(|person| person.name.as_str());
        let listed = names.by_ref().take(MAX_LISTED).collect::<Vec<_>>().join(", ");
        match names.count() {
            0 => listed,
            more => format!("{listed} and {more} more"),
        }
    }

    /// What every reachable room obeys; for states from elsewhere.
    pub fn is_sane(&self) -> bool {
        self.0.values().all(Person::is_sane)
    }
}

fn same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

fn shown(text: &str) -> String {
    text.chars().take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{NodeId, OpId};

    fn card(user: u8, name: &str) -> PersonCard {
        PersonCard {
            user: UserId([user; 32]),
            name: name.into(),
            display: String::new(),
            certificate: ([0; 32], [0; 32]),
        }
    }

    fn claim(at: i64) -> Stamp {
        let op = OpId { author: NodeId([1; 32]), boot: 1, seq: 1 };
        Stamp::new(RoomTime(at), op)
    }

    fn names(people: &People) -> Vec<&str> {
        people.all().values().map(|person| person.name.as_str()).collect()
    }

    #[test]
    fn of_two_who_ask_for_one_name_the_earlier_has_it() {
        let mut people = People::default();
        people.join(&card(1, "anna"), Role::Owner, claim(50), RoomTime(50));
        people.join(&card(2, "Anna"), Role::Owner, claim(60), RoomTime(60));
        assert_eq!(names(&people), ["anna", "Anna-2"]);
        // In the other half of the room somebody had asked before both.
        people.join(&card(3, "anna"), Role::Owner, claim(40), RoomTime(70));
        assert_eq!(names(&people), ["anna-3", "Anna-2", "anna"]);
        people.join(&card(1, "anna"), Role::Owner, claim(80), RoomTime(80));
        assert_eq!(names(&people)[0], "anna-3", "asking again changes nothing");
    }

    #[test]
    fn who_has_been_here_longest_comes_first() {
        let mut people = People::default();
        for (user, at) in [(1, 10), (2, 20), (3, 30)] {
            people.join(&card(user, &format!("p{user}")), Role::Owner, claim(at), RoomTime(at));
        }
        people.set_presence(&UserId([1; 32]), false, RoomTime(40));
        people.set_presence(&UserId([1; 32]), true, RoomTime(50));
        let order = people.by_presence().iter().map(|user| user.0[0]).collect::<Vec<_>>();
        assert_eq!(order, [2, 3, 1]);
    }

    #[test]
    fn a_person_is_found_by_what_people_type() {
        let mut people = People::default();
        people.join(&card(1, "anna"), Role::Owner, claim(1), RoomTime(1));
        let shown = PersonCard { display: "Jürgen M.".into(), ..card(2, "jm") };
        people.join(&shown, Role::Owner, claim(2), RoomTime(2));
        people.join(&card(3, "annabel"), Role::Owner, claim(3), RoomTime(3));
        for (text, user) in [("ANNA", 1), ("@anna", 1), ("jürgen m.", 2), ("annab", 3), ("jü", 2)]
        {
            assert_eq!(people.find(text), Ok(UserId([user; 32])), "{text}");
        }
        assert_eq!(people.find("an").expect_err("two").code, RefusalCode::InvalidRequest);
        let nobody = people.find("zoe").expect_err("nobody");
        assert!(nobody.hint.contains("anna, jm, annabel"), "{}", nobody.hint);
    }

    #[test]
    fn user_names_are_short_and_plain() {
        for good in ["al", "anna-2", "Jörg_1.x", "名前"] {
            assert!(is_user_name(good), "{good}");
        }
        for bad in ["a", "", "with space", "new\nline", "a/b", &"x".repeat(33)] {
            assert!(!is_user_name(bad), "{bad:?}");
        }
    }
}
