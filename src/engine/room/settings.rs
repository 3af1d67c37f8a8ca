//! The settings of a room: their defaults, how far each may go, and how people write them.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::base::Span;
use crate::base::limits::{MAX_NAME, MAX_QUEUE};
use crate::wire::op::{
    Control, GuestRights, OnDjLeave, QueueOrder, Refusal, RefusalCode, Setting, VoteKind,
};

/// A threshold of all: hundredths of a percent.
const WHOLE: u16 = 10_000;

/// Votes are open so long at the least and at the most.
const VOTE_TIMEOUT: RangeInclusive<Span> = Span::from_secs(10)..=Span::from_secs(3600);

/// A longer cool-down would be a ban from the DJ's place.
const MAX_COOLDOWN: Span = Span::from_secs(24 * 3600);

/// Entries of one person that can wait: at the most a folder.
const QUEUE_LIMIT: RangeInclusive<u16> = 1..=500;

/// Entries that can wait in all: at the least an evening.
const QUEUE_MAX: RangeInclusive<usize> = 50..=MAX_QUEUE;

/// People whom one room can hold: as many as there can be devices.
const PEOPLE: RangeInclusive<u16> = 1..=256;

/// Guests of one address that can vote.
const GUESTS_PER_ADDRESS: RangeInclusive<u8> = 1..=u8::MAX;

/// How a room is governed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Who may control the music.
    pub control: Control,
    /// The share that a vote needs, in hundredths of a percent, unless its kind has its own.
    pub vote_threshold: u16,
    /// The share that an election needs to be over before its time.
    pub election_threshold: Option<u16>,
    /// The share that a mutiny needs.
    pub mutiny_threshold: Option<u16>,
    /// The share that a skip needs.
    pub skip_threshold: Option<u16>,
    /// The share that a kick needs.
    pub kick_threshold: Option<u16>,
    /// How long votes are open.
    pub vote_timeout: Span,
    /// How long a removed DJ may not be DJ again.
    pub dj_cooldown: Span,
    /// After a mutiny somebody becomes DJ by lot.
    pub auto_random_dj: bool,
    /// What follows when the DJ vanishes.
    pub on_dj_leave: OnDjLeave,
    /// Only friends of the owner come in.
    pub friends_only: bool,
    /// What guests are let do.
    pub guests_may: GuestRights,
    /// In which order the queue plays.
    pub queue_order: QueueOrder,
    /// Unplayed entries of one person who does not control the music.
    pub queue_limit: u16,
    /// Unplayed entries in all.
    pub queue_max: u16,
    /// People in the room.
    pub max_members: u16,
    /// A locked room tells strangers its name.
    pub announce_name: bool,
    /// Guests of one address that vote.
    pub guests_per_address: u8,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            control: Control::Everyone,
            vote_threshold: 5100,
            election_threshold: None,
            mutiny_threshold: None,
            skip_threshold: None,
            kick_threshold: None,
            vote_timeout: Span::from_secs(60),
            dj_cooldown: Span::from_secs(300),
            auto_random_dj: false,
            on_dj_leave: OnDjLeave::Keep,
            friends_only: false,
            guests_may: GuestRights::default(),
            queue_order: QueueOrder::Fair,
            queue_limit: 5,
            queue_max: 1000,
            max_members: 50,
            announce_name: true,
            guests_per_address: 4,
        }
    }
}

impl Settings {
    /// The share that votes of a kind need.
    #[must_use]
    pub fn threshold(&self, kind: VoteKind) -> u16 {
        let own = match kind {
            VoteKind::Election => self.election_threshold,
            VoteKind::Mutiny => self.mutiny_threshold,
            VoteKind::Skip => self.skip_threshold,
            VoteKind::Kick => self.kick_threshold,
        };
        own.unwrap_or(self.vote_threshold)
    }

    /// How many of an electorate are needed.
    #[must_use]
    pub fn required(&self, kind: VoteKind, electorate: usize) -> u32 {
        let electorate = u64::try_from(electorate).unwrap_or(u64::MAX);
        let needed = electorate.saturating_mul(self.threshold(kind).into());
        u32::try_from(needed.div_ceil(WHOLE.into()).max(1)).unwrap_or(u32::MAX)
    }

    /// The name is kept elsewhere.
    pub(super) fn set(&mut self, setting: &Setting) {
        match *setting {
            Setting::Name(_) => {}
            Setting::Control(control) => self.control = control,
            Setting::VoteThreshold(share) => self.vote_threshold = share,
            Setting::KindThreshold(kind, share) => match kind {
                VoteKind::Election => self.election_threshold = share,
                VoteKind::Mutiny => self.mutiny_threshold = share,
                VoteKind::Skip => self.skip_threshold = share,
                VoteKind::Kick => self.kick_threshold = share,
            },
            Setting::VoteTimeout(span) => self.vote_timeout = span,
            Setting::DjCooldown(span) => self.dj_cooldown = span,
            Setting::AutoRandomDj(on) => self.auto_random_dj = on,
            Setting::OnDjLeave(policy) => self.on_dj_leave = policy,
            Setting::FriendsOnly(on) => self.friends_only = on,
            Setting::GuestsMay(rights) => self.guests_may = rights,
            Setting::QueueOrder(order) => self.queue_order = order,
            Setting::QueueLimit(limit) => self.queue_limit = limit,
            Setting::QueueMax(max) => self.queue_max = max,
            Setting::MaxMembers(max) => self.max_members = max,
            Setting::AnnounceName(on) => self.announce_name = on,
            Setting::GuestsPerAddress(max) => self.guests_per_address = max,
        }
    }

    /// Whether every value is one that [`check`] lets through; for states from elsewhere.
    pub(super) fn is_sane(&self) -> bool {
        let shares = [
            Some(self.vote_threshold),
            self.election_threshold,
            self.mutiny_threshold,
            self.skip_threshold,
            self.kick_threshold,
        ];
        let rest = [
            Setting::VoteTimeout(self.vote_timeout),
            Setting::DjCooldown(self.dj_cooldown),
            Setting::QueueLimit(self.queue_limit),
            Setting::QueueMax(self.queue_max),
            Setting::MaxMembers(self.max_members),
            Setting::GuestsPerAddress(self.guests_per_address),
        ];
        shares
            .into_iter()
            .flatten()
            .map(Setting::VoteThreshold)
            .chain(rest)
            .all(|s| check(&s).is_ok())
    }

    /// Every setting as people write it, in the order in which they are listed.
    #[must_use]
    pub fn list(&self) -> Vec<(&'static str, String)> {
        let own = |share: Option<u16>| share.map_or_else(|| "-".into(), fraction);
        vec![
            ("control", word(&self.control)),
            ("vote_threshold", fraction(self.vote_threshold)),
            ("election_threshold", own(self.election_threshold)),
            ("mutiny_threshold", own(self.mutiny_threshold)),
            ("skip_threshold", own(self.skip_threshold)),
            ("kick_threshold", own(self.kick_threshold)),
            ("vote_timeout", seconds(self.vote_timeout)),
            ("dj_cooldown", seconds(self.dj_cooldown)),
            ("auto_random_dj", self.auto_random_dj.to_string()),
            ("on_dj_leave", word(&self.on_dj_leave)),
            ("friends_only", self.friends_only.to_string()),
            ("guests_may", rights(self.guests_may)),
            ("queue_order", word(&self.queue_order)),
            ("queue_limit", self.queue_limit.to_string()),
            ("queue_max", self.queue_max.to_string()),
            ("max_members", self.max_members.to_string()),
            ("announce_name", self.announce_name.to_string()),
            ("guests_per_address", self.guests_per_address.to_string()),
        ]
    }
}

/// A setting as a person writes it: its name and its new value.
///
/// # Errors
///
/// When there is no such setting, or it has no such value.
pub fn parse(key: &str, value: &str) -> Result<Setting, Refusal> {
    let value = value.trim();
    let setting = match key {
        "name" => Setting::Name(value.to_owned()),
        "control" => Setting::Control(chosen(
            key,
            value,
            &[("dj", Control::Dj), ("owner", Control::Owner), ("everyone", Control::Everyone)],
        )?),
        "vote_threshold" => Setting::VoteThreshold(share(key, value)?),
        "election_threshold" => own_share(VoteKind::Election, key, value)?,
        "mutiny_threshold" => own_share(VoteKind::Mutiny, key, value)?,
        "skip_threshold" => own_share(VoteKind::Skip, key, value)?,
        "kick_threshold" => own_share(VoteKind::Kick, key, value)?,
        "vote_timeout" => Setting::VoteTimeout(span(key, value, &("10s"..="1h"))?),
        "dj_cooldown" => Setting::DjCooldown(span(key, value, &("0s"..="24h"))?),
        "auto_random_dj" => Setting::AutoRandomDj(switch(key, value)?),
        "on_dj_leave" => Setting::OnDjLeave(chosen(
            key,
            value,
            &[
                ("elect", OnDjLeave::Elect),
                ("random", OnDjLeave::Random),
                ("pause", OnDjLeave::Pause),
                ("keep", OnDjLeave::Keep),
            ],
        )?),
        "friends_only" => Setting::FriendsOnly(switch(key, value)?),
        "guests_may" => Setting::GuestsMay(guest_rights(value)?),
        "queue_order" => Setting::QueueOrder(chosen(
            key,
            value,
            &[("fair", QueueOrder::Fair), ("fifo", QueueOrder::Fifo), ("dj", QueueOrder::Dj)],
        )?),
        "queue_limit" => Setting::QueueLimit(number(key, value, &QUEUE_LIMIT)?),
        "queue_max" => Setting::QueueMax(number(key, value, &QUEUE_MAX)?),
        "max_members" => Setting::MaxMembers(number(key, value, &PEOPLE)?),
        "announce_name" => Setting::AnnounceName(switch(key, value)?),
        "guests_per_address" => Setting::GuestsPerAddress(number(key, value, &GUESTS_PER_ADDRESS)?),
        _ => return Err(no_such_setting(key)),
    };
    check(&setting)?;
    Ok(setting)
}

/// Whether a setting may have this value.
pub(super) fn check(setting: &Setting) -> Result<(), Refusal> {
    let within = match setting {
        Setting::Name(name) => {
            let max = MAX_NAME;
            let fits = super::members::is_name(name);
            (fits, format!("a room's name has 1 to {max} printable characters"))
        }
        Setting::VoteThreshold(share) | Setting::KindThreshold(_, Some(share)) => {
            ((1..=WHOLE).contains(share), "a threshold is a share from 0.0001 to 1".into())
        }
        Setting::VoteTimeout(span) => {
            (VOTE_TIMEOUT.contains(span), "a vote is open for 10 seconds to an hour".into())
        }
        Setting::DjCooldown(span) => (
            (Span::ZERO..=MAX_COOLDOWN).contains(span),
            "a cool-down lasts from nothing to 24 hours".into(),
        ),
        Setting::QueueLimit(limit) => (
            QUEUE_LIMIT.contains(limit),
            format!("the limit of one person is {}", spoken(&QUEUE_LIMIT)),
        ),
        Setting::QueueMax(max) => (
            QUEUE_MAX.contains(&usize::from(*max)),
            format!("the limit of the queue is {}", spoken(&QUEUE_MAX)),
        ),
        Setting::MaxMembers(max) => {
            (PEOPLE.contains(max), format!("a room holds {} people", spoken(&PEOPLE)))
        }
        Setting::GuestsPerAddress(max) => {
            (GUESTS_PER_ADDRESS.contains(max), "at least one guest of an address can vote".into())
        }
        Setting::KindThreshold(_, None)
        | Setting::Control(_)
        | Setting::AutoRandomDj(_)
        | Setting::OnDjLeave(_)
        | Setting::FriendsOnly(_)
        | Setting::GuestsMay(_)
        | Setting::QueueOrder(_)
        | Setting::AnnounceName(_) => (true, String::new()),
    };
    match within {
        (true, _) => Ok(()),
        (false, message) => Err(Refusal::new(
            RefusalCode::InvalidRequest,
            message,
            "choose a value in that range; nothing was changed",
        )),
    }
}

/// A setting's name, for messages and for merging.
pub(super) fn key_of(setting: &Setting) -> &'static str {
    match setting {
        Setting::Name(_) => "name",
        Setting::Control(_) => "control",
        Setting::VoteThreshold(_) => "vote_threshold",
        Setting::KindThreshold(VoteKind::Election, _) => "election_threshold",
        Setting::KindThreshold(VoteKind::Mutiny, _) => "mutiny_threshold",
        Setting::KindThreshold(VoteKind::Skip, _) => "skip_threshold",
        Setting::KindThreshold(VoteKind::Kick, _) => "kick_threshold",
        Setting::VoteTimeout(_) => "vote_timeout",
        Setting::DjCooldown(_) => "dj_cooldown",
        Setting::AutoRandomDj(_) => "auto_random_dj",
        Setting::OnDjLeave(_) => "on_dj_leave",
        Setting::FriendsOnly(_) => "friends_only",
        Setting::GuestsMay(_) => "guests_may",
        Setting::QueueOrder(_) => "queue_order",
        Setting::QueueLimit(_) => "queue_limit",
        Setting::QueueMax(_) => "queue_max",
        Setting::MaxMembers(_) => "max_members",
        Setting::AnnounceName(_) => "announce_name",
        Setting::GuestsPerAddress(_) => "guests_per_address",
    }
}

fn no_such_setting(key: &str) -> Refusal {
    let known = Settings::default().list();
    let names = known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    Refusal::new(
        RefusalCode::NotFound,
        format!("there is no setting called {key:?}"),
        format!("there are name, {names}"),
    )
}

fn wrong(key: &str, value: &str, expected: &str) -> Refusal {
    Refusal::new(
        RefusalCode::InvalidRequest,
        format!("{value:?} is no value of {key}"),
        format!("it is {expected}"),
    )
}

fn chosen<T: Copy>(key: &str, value: &str, choices: &[(&str, T)]) -> Result<T, Refusal> {
    let found = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(value));
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let names = choices.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        wrong(key, value, &names.join(", "))
    })
}

fn switch(key: &str, value: &str) -> Result<bool, Refusal> {
    chosen(key, value, &[("true", true), ("false", false), ("on", true), ("off", false)])
}

fn number<T: std::str::FromStr>(
    key: &str,
    value: &str,
    range: &RangeInclusive<impl Display>,
) -> Result<T, Refusal> {
    let expected = || format!("a whole number from {}", spoken(range));
    value.parse().map_err(|_| wrong(key, value, &expected()))
}

/// `1 to 500`
fn spoken(range: &RangeInclusive<impl Display>) -> String {
    format!("{} to {}", range.start(), range.end())
}

/// `0.51`, or `51%`.
fn share(key: &str, value: &str) -> Result<u16, Refusal> {
    let (digits, whole) = match value.strip_suffix('%') {
        Some(percent) => (percent.trim(), 100.0),
        None => (value, 1.0),
    };
    let share = digits.parse::<f64>().ok().map(|number| number / whole);
    share.filter(|share| (0.0001..=1.0).contains(share)).map_or_else(
        || Err(wrong(key, value, "a share from 0.0001 to 1, or a percentage")),
        |share| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1")]
            Ok((share * f64::from(WHOLE)).round() as u16)
        },
    )
}

fn own_share(kind: VoteKind, key: &str, value: &str) -> Result<Setting, Refusal> {
    let own = if value == "-" { None } else { Some(share(key, value).map_err(or_as_all)?) };
    Ok(Setting::KindThreshold(kind, own))
}

/// A kind of vote need not have a share of its own.
fn or_as_all(refusal: Refusal) -> Refusal {
    let hint = format!("{}; - is that of vote_threshold", refusal.hint);
    Refusal { hint, ..refusal }
}

/// `90`, `90s`, `5m` or `1h`; `range` as people write it.
fn span(key: &str, value: &str, range: &RangeInclusive<&str>) -> Result<Span, Refusal> {
    let (digits, unit) = match value.as_bytes().last() {
        Some(b's') => (&value[..value.len() - 1], 1),
        Some(b'm') => (&value[..value.len() - 1], 60),
        Some(b'h') => (&value[..value.len() - 1], 3600),
        _ => (value, 1),
    };
    let number = digits.parse::<u32>().ok();
    number
        .and_then(|number| i64::from(number).checked_mul(unit))
        .filter(|seconds| *seconds <= 24 * 3600)
        .map(Span::from_secs)
        .ok_or_else(|| {
            let expected = format!("a time from {}, such as 90, 90s, 5m or 1h", spoken(range));
            wrong(key, value, &expected)
        })
}

fn guest_rights(value: &str) -> Result<GuestRights, Refusal> {
    let mut rights = GuestRights { vote: false, chat: false, queue: false, control: false };
    for word in value.split([',', ' ']).filter(|word| !word.is_empty() && *word != "-") {
        match word {
            "vote" => rights.vote = true,
            "chat" => rights.chat = true,
            "queue" => rights.queue = true,
            "control" => rights.control = true,
            _ => return Err(wrong("guests_may", word, "some of vote, chat, queue, control, or -")),
        }
    }
    Ok(rights)
}

fn rights(rights: GuestRights) -> String {
    let named = [
        ("vote", rights.vote),
        ("chat", rights.chat),
        ("queue", rights.queue),
        ("control", rights.control),
    ];
    let words = named.iter().filter(|(_, may)| *may).map(|(word, _)| *word).collect::<Vec<_>>();
    if words.is_empty() { "-".into() } else { words.join(",") }
}

fn fraction(share: u16) -> String {
    let text = format!("{:.4}", f64::from(share) / f64::from(WHOLE));
    let short = text.trim_end_matches('0').trim_end_matches('.');
    short.to_owned()
}

fn seconds(span: Span) -> String {
    match span.as_millis() / 1000 {
        whole if whole > 0 && whole % 60 == 0 => format!("{}m", whole / 60),
        seconds => format!("{seconds}s"),
    }
}

fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_can_be_set_and_changes_nothing() {
        let mut settings = Settings::default();
        for (key, value) in Settings::default().list() {
            settings.set(&parse(key, &value).unwrap_or_else(|error| panic!("{key}: {error}")));
        }
        assert_eq!(settings, Settings::default());
        assert!(settings.is_sane());
    }

    #[test]
    fn a_threshold_is_never_below_one_vote_and_never_rounded_down() {
        let settings = Settings::default();
        let required = |electorate| settings.required(VoteKind::Skip, electorate);
        assert_eq!([0, 1, 2, 3, 4, 8, 100].map(required), [1, 1, 2, 2, 3, 5, 51]);
        let third = Settings { skip_threshold: Some(3333), ..settings };
        assert_eq!(third.required(VoteKind::Skip, 3), 1);
        assert_eq!(third.required(VoteKind::Kick, 3), 2);
    }

    #[test]
    fn values_that_make_no_sense_are_refused_with_what_would() {
        let cases = [
            ("control", "nobody", "dj, owner, everyone"),
            ("vote_threshold", "1.2", "share"),
            ("vote_threshold", "0", "share"),
            ("vote_timeout", "9s", "10 seconds"),
            ("vote_timeout", "2h", "an hour"),
            ("dj_cooldown", "-5", "a time"),
            ("dj_cooldown", "-5", "0s to 24h"),
            ("vote_timeout", "25h", "10s to 1h"),
            ("queue_max", "40", "50 to"),
            ("queue_max", "many", "50 to 1000"),
            ("queue_limit", "-1", "1 to 500"),
            ("max_members", "70000", "1 to 256"),
            ("guests_per_address", "256", "1 to 255"),
            ("skip_threshold", "all", "0.0001 to 1"),
            ("skip_threshold", "all", "- is that of vote_threshold"),
            ("guests_may", "vote,fly", "some of"),
            ("colour", "red", "there are name, control"),
        ];
        for (key, value, expected) in cases {
            let refusal = parse(key, value).expect_err(key);
            let text = format!("{} {}", refusal.message, refusal.hint);
            assert!(text.contains(expected), "{key} {value}: {text}");
        }
        assert_eq!(parse("vote_threshold", "75%"), Ok(Setting::VoteThreshold(7500)));
        assert_eq!(parse("dj_cooldown", "2m"), Ok(Setting::DjCooldown(Span::from_secs(120))));
    }
}
