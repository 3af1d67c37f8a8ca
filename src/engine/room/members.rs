//! The room's devices: names, volumes and how a name typed by a person finds its device.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::{NodeId, OpId, RoomTime, UserId};
use crate::engine::playout::GainStep;
use crate::wire::op::{MemberKind, Op, Refusal, RefusalCode, Role};

/// The loudest a volume can be, and what a device begins with: the person at the amplifier
/// decides first, and a room volume set later moves all alike.
pub const MAX_VOLUME: u8 = 100;

type Fits<'a> = dyn Fn(&NodeId, &Member) -> bool + 'a;

/// Names listed in a refusal; more would not be read.
const MAX_LISTED: usize = 8;

/// Characters with which a device's id may be named at the least.
const MIN_ID_PREFIX: usize = 4;

/// A device of the room.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its name. Two devices may have the same.
    pub name: String,
    /// What it is.
    pub kind: MemberKind,
    /// Whose it is.
    pub user: Option<UserId>,
    /// How high its person may rise, by what it came in with.
    pub cap: Role,
    /// When it came.
    pub joined_at: RoomTime,
    /// 0 to 100.
    pub volume: u8,
    /// Whether it is silent whatever its volume.
    pub muted: bool,
    /// Loudness before the last change, 0 to 100.
    before: u8,
    /// When the last change took effect.
    changed_at: RoomTime,
    /// What set the volume last.
    pub(super) volume_by: Option<Stamp>,
    /// What muted it or let it sound last.
    pub(super) muted_by: Option<Stamp>,
}

/// Orders the settings made in two halves of a room: the later one stands when they meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) struct Stamp {
    created: RoomTime,
    op: OpId,
}

impl Stamp {
    pub fn new(created: RoomTime, op: OpId) -> Stamp {
        Stamp { created, op }
    }

    pub fn of(op: &Op) -> Stamp {
        Stamp { created: op.created, op: op.id }
    }
}

impl Member {
    pub(super) fn new(
        name: String,
        kind: MemberKind,
        user: Option<UserId>,
        joined_at: RoomTime,
    ) -> Member {
        Member {
            name,
            kind,
            user,
            cap: Role::Owner,
            joined_at,
            volume: MAX_VOLUME,
            muted: false,
            before: MAX_VOLUME,
            changed_at: joined_at,
            volume_by: None,
            muted_by: None,
        }
    }

    /// What is heard of the volume: nothing while muted.
    #[must_use]
    pub fn loudness(&self) -> u8 {
        if self.muted { 0 } else { self.volume }
    }

    /// The last change of loudness, for the playout.
    #[must_use]
    pub fn gain(&self) -> GainStep {
        GainStep { from: gain_of(self.before), to: gain_of(self.loudness()), at: self.changed_at }
    }

    pub(super) fn set_volume(&mut self, volume: u8, at: RoomTime) {
        self.change(at, |member| member.volume = volume.min(MAX_VOLUME));
    }

    pub(super) fn set_muted(&mut self, muted: bool, at: RoomTime) {
        self.change(at, |member| member.muted = muted);
    }

    fn change(&mut self, at: RoomTime, how: impl FnOnce(&mut Member)) {
        let before = self.loudness();
        how(self);
        if self.loudness() != before {
            self.before = before;
            self.changed_at = at;
        }
    }

    pub(super) fn is_sane(&self) -> bool {
        self.volume <= MAX_VOLUME && self.before <= MAX_VOLUME && is_name(&self.name)
    }
}

/// The amplitude factor of a volume: its square, so that 100 is 1, 50 is −12 dB and 10 is
/// −40 dB.
///
/// Loudness as people judge it halves with about every 10 dB (Stevens, "The measurement of
/// loudness", 1955), so half the volume sounds about half as loud.
#[must_use]
pub fn gain_of(volume: u8) -> f32 {
    let share = f32::from(volume.min(MAX_VOLUME)) / f32::from(MAX_VOLUME);
    share * share
}

/// Whether a device may be called so.
pub(super) fn is_name(name: &str) -> bool {
    let chars = name.chars().count();
    (1..=crate::base::limits::MAX_NAME).contains(&chars)
        && !name.trim().is_empty()
        && !name.chars().any(char::is_control)
}

/// Moves every volume by the same amount, so that the loudest becomes `volume`.
pub(super) fn set_room_volume(members: &mut BTreeMap<NodeId, Member>, volume: u8, at: RoomTime) {
    let by = i16::from(volume) - i16::from(room_volume(members));
    for member in members.values_mut() {
        let moved = (i16::from(member.volume) + by).clamp(0, i16::from(MAX_VOLUME));
        member.set_volume(u8::try_from(moved).expect("clamped to 0..=100"), at);
    }
}

/// The room's volume: the loudest member's.
pub(super) fn room_volume(members: &BTreeMap<NodeId, Member>) -> u8 {
    members.values().map(|member| member.volume).max().unwrap_or(MAX_VOLUME)
}

/// The device that a person means: by its exact name, else by a beginning of the name that
/// only it has (capitals do not matter), else by the beginning of its id.
pub(super) fn find(members: &BTreeMap<NodeId, Member>, text: &str) -> Result<NodeId, Refusal> {
    let wanted = text.trim().to_lowercase();
    let exact = |_: &NodeId, member: &Member| member.name == text;
    let begins = |_: &NodeId, member: &Member| {
        !wanted.is_empty() && member.name.to_lowercase().starts_with(&wanted)
    };
    let by_id = |id: &NodeId, _: &Member| {
        wanted.len() >= MIN_ID_PREFIX && id.to_string().starts_with(&wanted)
    };
    let rules: [&Fits<'_>; 3] = [&exact, &begins, &by_id];
    for rule in rules {
        let found: Vec<NodeId> =
            members.iter().filter(|(id, member)| rule(id, member)).map(|(id, _)| *id).collect();
        match found[..] {
            [] => {}
            [one] => return Ok(one),
            _ => return Err(ambiguous(members, text, &found)),
        }
    }
    Err(unknown(members, text))
}

fn ambiguous(members: &BTreeMap<NodeId, Member>, text: &str, found: &[NodeId]) -> Refusal {
    let names = list(members, found.iter());
    Refusal::new(
        RefusalCode::InvalidRequest,
        format!("\"{}\" fits more than one device: {names}", shown(text)),
        "name one of them by more letters, or by the beginning of its id",
    )
}

fn unknown(members: &BTreeMap<NodeId, Member>, text: &str) -> Refusal {
    let names = list(members, members.keys());
    Refusal::new(
        RefusalCode::NotFound,
        format!("no device of this room is called \"{}\"", shown(text)),
        format!("the room has {names}"),
    )
}

fn list<'a>(
    members: &BTreeMap<NodeId, Member>,
    ids: impl ExactSizeIterator<Item = &'a NodeId>,
) -> String {
    let more = ids.len().saturating_sub(MAX_LISTED);
    let listed = ids.take(MAX_LISTED).map(|id| {
        let name = members.get(id).map_or("?", |member| member.name.as_str());
        format!("{name} ({})", id.short())
    });
    let names = listed.collect::<Vec<_>>().join(", ");
    match (names.is_empty(), more) {
        (true, _) => "no devices".into(),
        (false, 0) => names,
        (false, more) => format!("{names} and {more} more"),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(crate::base::limits::MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(names: &[&str]) -> BTreeMap<NodeId, Member> {
        let member =
            |name: &&str| Member::new((*name).into(), MemberKind::Speaker, None, RoomTime(0));
        (1..).zip(names).map(|(i, name)| (NodeId([i; 32]), member(name))).collect()
    }

    fn volumes(members: &BTreeMap<NodeId, Member>) -> Vec<u8> {
        members.values().map(|member| member.volume).collect()
    }

    #[test]
    fn a_name_finds_its_device_and_an_unclear_one_lists_the_candidates() {
        let members = members(&["Kitchen", "kitchen left", "Hall"]);
        assert_eq!(find(&members, "Kitchen"), Ok(NodeId([1; 32])));
        assert_eq!(find(&members, "KITCHEN L"), Ok(NodeId([2; 32])));
        assert_eq!(find(&members, "ha"), Ok(NodeId([3; 32])));
        assert_eq!(find(&members, "0202"), Ok(NodeId([2; 32])));
        let unclear = find(&members, "kit").expect_err("two fit");
        assert_eq!(unclear.code, RefusalCode::InvalidRequest);
        assert!(unclear.message.contains("Kitchen (01010101), kitchen left (02020202)"));
        for nobody in ["", " ", "Cellar", "02"] {
            let unknown = find(&members, nobody).expect_err("none fits");
            assert_eq!(unknown.code, RefusalCode::NotFound);
            assert!(unknown.hint.contains("Hall"), "{}", unknown.hint);
        }
    }

    #[test]
    fn the_room_volume_moves_all_alike_until_they_hit_an_end() {
        let mut members = members(&["a", "b", "c"]);
        for (member, volume) in members.values_mut().zip([80, 50, 10]) {
            member.set_volume(volume, RoomTime(1));
        }
        set_room_volume(&mut members, 60, RoomTime(2));
        assert_eq!(volumes(&members), [60, 30, 0]);
        set_room_volume(&mut members, 100, RoomTime(3));
        assert_eq!(volumes(&members), [100, 70, 40]);
    }

    #[test]
    fn muting_is_a_step_to_silence_and_back_to_the_same_loudness() {
        let mut member = Member::new("a".into(), MemberKind::Speaker, None, RoomTime(0));
        member.set_volume(50, RoomTime(1));
        member.set_muted(true, RoomTime(2));
        assert_eq!(member.gain(), GainStep { from: 0.25, to: 0.0, at: RoomTime(2) });
        member.set_volume(100, RoomTime(3));
        assert_eq!(member.gain().at, RoomTime(2), "nothing is heard of a change while muted");
        member.set_muted(false, RoomTime(4));
        assert_eq!(member.gain(), GainStep { from: 0.0, to: 1.0, at: RoomTime(4) });
    }

    #[test]
    fn louder_is_always_louder_and_full_is_unchanged() {
        assert_eq!((gain_of(0), gain_of(100)), (0.0, 1.0));
        assert!((0..100).all(|volume| gain_of(volume) < gain_of(volume + 1)));
    }
}
