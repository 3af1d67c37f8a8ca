use super::ElectionOutput as Out;
use super::*;
use crate::base::{RoomTime, Span};
use crate::wire::message::{Handoff, Start};
use crate::wire::{Heartbeat, HeartbeatAck, PreVote, PreVoteReply, RoomLine};

const ROOM: RoomId = RoomId([9; 32]);
const ME: u8 = 1;

fn id(n: u8) -> NodeId {
    NodeId([n; 32])
}

fn at(ms: i64) -> LocalTime {
    LocalTime(0) + Span::from_millis(ms)
}

fn term(n: u64, node: u8) -> Term {
    Term { n, node: id(node), boot: 1 }
}

fn others(ids: &[u8]) -> BTreeMap<NodeId, MemberFacts> {
    ids.iter().map(|&n| (id(n), MemberFacts { connected: true, score: 100 })).collect()
}

fn drain(election: &mut Election) -> Vec<Out> {
    std::iter::from_fn(|| election.poll_output()).collect()
}

/// Runs every deadline up to a time and returns what came out, with when.
fn run(election: &mut Election, until: LocalTime) -> Vec<(LocalTime, Out)> {
    let mut outs = Vec::new();
    while let Some(due) = election.poll_timeout().filter(|&due| due <= until) {
        election.handle_timeout(due);
        outs.extend(drain(election).into_iter().map(|out| (due, out)));
    }
    outs
}

fn leads(outs: &[(LocalTime, Out)]) -> Option<LocalTime> {
    outs.iter().find(|(_, out)| matches!(out, Out::Lead { .. })).map(|&(when, _)| when)
}

fn fresh(ids: &[u8]) -> Election {
    let config = ElectionConfig { me: id(ME), boot: 1, room: ROOM, seed: 7 };
    let mut election = Election::new(config, at(0));
    election.log_changed(5, term(1, 2), [5; 16]);
    election.members_changed(at(0), &others(ids));
    election
}

fn heartbeat(term: Term, seq: u32, successors: &[u8]) -> Heartbeat {
    Heartbeat {
        room: ROOM,
        term,
        seq,
        sent: RoomTime(0),
        last_idx: 5,
        last_term: term_of_log(),
        chain: [5; 16],
        successors: successors.iter().map(|&n| id(n)).collect(),
        live: 3,
        playing: false,
        age_s: 60,
    }
}

/// The term of the last entry of everybody's log.
fn term_of_log() -> Term {
    term(1, 2)
}

fn start(term: Term) -> Start {
    let line = RoomLine::default();
    Start {
        room: ROOM,
        term,
        last_idx: 5,
        last_term: term_of_log(),
        chain: [5; 16],
        line,
        handoff: None,
        signature: ([0; 32], [0; 32]),
    }
}

/// Follows node 2 in term 3, having heard a heartbeat sent at 1 s.
fn follower(ids: &[u8], successors: &[u8]) -> Election {
    let mut election = fresh(ids);
    election.join(at(0), term(3, 2));
    election.heartbeat_received(at(1000), id(2), &heartbeat(term(3, 2), 1, successors), at(1000));
    assert_eq!(
        drain(&mut election),
        [Out::Follow { term: term(3, 2) }, Out::SendAck { to: id(2), seq: 1 }]
    );
    election
}

fn coordinator(ids: &[u8]) -> Election {
    let mut election = fresh(ids);
    election.found(at(1000));
    drain(&mut election);
    election
}

fn pre_vote(n: u64, last: (Term, u64)) -> PreVote {
    PreVote { room: ROOM, n, round: 4, last_idx: last.1, last_term: last.0 }
}

fn reply(election: &Election, granted: bool, alive: bool) -> PreVoteReply {
    let State::Candidate { round, .. } = &election.state else { panic!("no candidate") };
    let (round, term) = (round.number, term(3, 2));
    PreVoteReply { room: ROOM, round, granted, alive, term, ahead: false }
}

fn answer(election: &mut Election, now: LocalTime, ask: &PreVote, from: u8) -> (bool, bool, bool) {
    election.pre_vote_received(now, id(from), ask);
    match drain(election).as_slice() {
        [Out::SendPreVoteReply { granted, alive, ahead, .. }, ..] => (*granted, *alive, *ahead),
        other => panic!("no reply: {other:?}"),
    }
}

#[test]
fn a_founder_leads_term_one_and_beats_at_the_pace_of_its_room() {
    let mut election = fresh(&[2, 3]);
    election.log_changed(0, Term::ZERO, [0; 16]);
    election.highest = Term::ZERO;
    election.found(at(0));
    let outs = drain(&mut election);
    assert_eq!(outs[0], Out::Lead { term: term(1, ME) });
    assert!(matches!(outs[1], Out::SendHeartbeat { to, seq: 1, .. } if to == id(2)));
    assert!(matches!(outs[2], Out::SendHeartbeat { to, seq: 1, .. } if to == id(3)));
    assert_eq!(election.poll_timeout(), Some(at(100)));
    assert_eq!((election.role(), election.coordinator()), (Role::Coordinator, Some(id(ME))));
}

#[test]
fn the_first_successor_stands_as_soon_as_the_coordinator_is_silent_for_600_ms() {
    let mut election = follower(&[2, 3, 4], &[ME, 3, 4]);
    assert_eq!(election.poll_timeout(), Some(at(1600)));
    let outs = run(&mut election, at(1600));
    assert_eq!(outs[0].1, Out::Lost);
    assert!(outs[1..].iter().all(|(_, out)| matches!(out, Out::SendPreVote { n: 4, .. })));
    assert_eq!(outs.len(), 4, "{outs:?}");
}

#[test]
fn later_successors_wait_their_rank_and_all_others_longer() {
    let stands = |successors: &[u8]| {
        let mut election = follower(&[2, 3, 4, 5], successors);
        let outs = run(&mut election, at(2500));
        let asked = |out: &Out| matches!(out, Out::SendPreVote { .. });
        outs.iter().find(|(_, out)| asked(out)).map(|&(when, _)| when)
    };
    assert_eq!(stands(&[3, ME, 4]), Some(at(1750)));
    assert_eq!(stands(&[3, 4, ME]), Some(at(1900)));
    assert_eq!(stands(&[2, ME, 4]), Some(at(1600)), "the dead coordinator is not counted");
    let last = stands(&[3, 4, 5]).expect("stands at some time");
    assert!((at(2050)..at(2350)).contains(&last), "{last:?}");
}

#[test]
fn a_heartbeat_counts_when_it_was_sent_and_not_when_a_stall_let_it_go() {
    let mut election = follower(&[2, 3], &[3]);
    election.heartbeat_received(at(1550), id(2), &heartbeat(term(3, 2), 2, &[3]), at(1100));
    assert_eq!(election.poll_timeout(), Some(at(1700)));
    run(&mut election, at(1700));
    assert_eq!(election.role(), Role::Suspect);
    election.heartbeat_received(at(1900), id(2), &heartbeat(term(3, 2), 3, &[3]), at(1200));
    assert_eq!(election.role(), Role::Suspect, "sent 700 ms ago, it proves nothing");
    election.heartbeat_received(at(1900), id(2), &heartbeat(term(3, 2), 4, &[3]), at(1880));
    assert_eq!(election.role(), Role::Follower);
}

#[test]
fn a_duplicate_that_arrives_late_does_not_make_the_coordinator_live_longer() {
    let mut election = follower(&[2, 3], &[3]);
    // The clock is not known, so arrival is all there is.
    election.heartbeat_received(at(1500), id(2), &heartbeat(term(3, 2), 1, &[3]), at(1500));
    assert_eq!(election.poll_timeout(), Some(at(1600)));
    assert!(drain(&mut election).is_empty(), "and it is not answered again");
}

#[test]
fn a_majority_of_those_who_answer_elects() {
    let mut election = follower(&[2, 3, 4], &[ME]);
    run(&mut election, at(1600));
    let yes = reply(&election, true, false);
    election.pre_vote_reply_received(at(1610), id(3), &yes);
    assert_eq!(election.role(), Role::Candidate, "node 4 may still answer");
    let outs = run(&mut election, at(1750));
    assert_eq!(leads(&outs), Some(at(1750)));
    assert_eq!(election.term(), term(4, ME));
    assert!(election.live().contains(&id(3)));
}

#[test]
fn a_round_closes_early_when_all_but_the_silent_coordinator_have_answered() {
    let mut election = follower(&[2, 3, 4], &[ME]);
    run(&mut election, at(1600));
    for (node, granted) in [(3, true), (4, false)] {
        let said = reply(&election, granted, false);
        election.pre_vote_reply_received(at(1610), id(node), &said);
    }
    assert_eq!(election.role(), Role::Coordinator);
}

#[test]
fn answers_that_are_doubled_or_old_or_strange_do_not_count() {
    let mut election = follower(&[2, 3, 4, 5], &[ME]);
    run(&mut election, at(1600));
    let yes = reply(&election, true, false);
    let no = reply(&election, false, false);
    election.pre_vote_reply_received(at(1610), id(3), &no);
    election.pre_vote_reply_received(at(1611), id(3), &yes);
    election.pre_vote_reply_received(at(1612), id(77), &yes);
    let old = PreVoteReply { round: yes.round.wrapping_sub(1), ..yes };
    election.pre_vote_reply_received(at(1613), id(4), &old);
    let outs = run(&mut election, at(1750));
    assert_eq!((leads(&outs), election.role()), (None, Role::Suspect));
}

#[test]
fn one_who_hears_the_coordinator_stops_an_election_for_400_ms() {
    let mut election = follower(&[2, 3, 4], &[ME]);
    run(&mut election, at(1600));
    let (yes, alive) = (reply(&election, true, false), reply(&election, false, true));
    election.pre_vote_reply_received(at(1610), id(3), &yes);
    election.pre_vote_reply_received(at(1620), id(4), &alive);
    assert_eq!(election.role(), Role::Suspect);
    assert_eq!(election.poll_timeout(), Some(at(2020)));
}

#[test]
fn a_grant_needs_silence_a_higher_number_and_a_log_that_is_not_behind() {
    let here = (term(1, 2), 5);
    let granted = (true, false, false);
    let mut election = follower(&[2, 3, 4], &[3]);
    assert_eq!(answer(&mut election, at(1350), &pre_vote(4, here), 3), (false, true, false));
    assert_eq!(answer(&mut election, at(1360), &pre_vote(3, here), 3), (false, false, false));
    assert_eq!(answer(&mut election, at(1360), &pre_vote(4, here), 3), granted);

    let mut election = follower(&[2, 3, 4], &[3]);
    let shorter = (term(1, 2), 4);
    assert_eq!(answer(&mut election, at(1400), &pre_vote(4, shorter), 3), (false, false, true));
    let mut election = follower(&[2, 3, 4], &[3]);
    let newer_but_shorter = (term(2, 2), 1);
    assert_eq!(answer(&mut election, at(1400), &pre_vote(4, newer_but_shorter), 3), granted);
}

#[test]
fn a_promise_is_exclusive_for_300_ms_and_covers_the_own_candidacy() {
    let here = (term(1, 2), 5);
    let mut election = follower(&[2, 3, 4], &[3]);
    assert!(answer(&mut election, at(1400), &pre_vote(4, here), 3).0);
    assert!(!answer(&mut election, at(1690), &pre_vote(4, here), 4).0);
    assert!(answer(&mut election, at(1690), &pre_vote(4, here), 3).0, "asked again by the same");
    assert!(answer(&mut election, at(1990), &pre_vote(4, here), 4).0);

    let mut election = follower(&[2, 3, 4], &[ME]);
    run(&mut election, at(1600));
    assert!(!answer(&mut election, at(1700), &pre_vote(4, here), 4).0);
}

#[test]
fn a_node_bound_by_a_promise_stands_after_it_and_a_draw() {
    let mut election = follower(&[2, 3, 4], &[ME]);
    assert!(answer(&mut election, at(1590), &pre_vote(4, (term(1, 2), 5)), 3).0);
    run(&mut election, at(1600));
    assert_eq!(election.role(), Role::Suspect);
    let due = election.poll_timeout().expect("stands later");
    assert!((at(1890)..at(2140)).contains(&due), "{due:?}");
}

#[test]
fn whoever_is_ahead_stops_the_asker_and_soon_stands_itself() {
    let mut election = follower(&[2, 3, 4], &[3]);
    assert!(answer(&mut election, at(1400), &pre_vote(4, (term(1, 2), 4)), 3).2);
    let due = election.poll_timeout().expect("stands");
    assert!((at(1400)..at(1460)).contains(&due), "{due:?}");
    run(&mut election, due);
    assert_eq!(election.role(), Role::Candidate);
}

#[test]
fn a_promise_does_not_bind_toward_a_longer_log_and_a_candidate_stands_back() {
    let mut election = follower(&[2, 3, 4], &[ME]);
    run(&mut election, at(1600));
    assert!(!answer(&mut election, at(1610), &pre_vote(4, (term(1, 2), 5)), 3).0);
    assert!(answer(&mut election, at(1610), &pre_vote(4, (term(1, 2), 6)), 4).0);
    assert_eq!(election.role(), Role::Suspect);
    let due = election.poll_timeout().expect("stands later");
    assert!(due >= at(1910), "{due:?}");
    assert!(!answer(&mut election, at(1620), &pre_vote(4, (term(1, 2), 6)), 3).0);
}

#[test]
fn one_node_behind_is_not_elected_even_by_a_majority() {
    let mut election = follower(&[2, 3, 4, 5], &[ME]);
    run(&mut election, at(1600));
    let yes = reply(&election, true, false);
    let ahead = PreVoteReply { granted: false, ahead: true, ..yes.clone() };
    for (node, said) in [(3, &yes), (4, &yes), (5, &ahead)] {
        election.pre_vote_reply_received(at(1610), id(node), said);
    }
    assert_eq!(election.role(), Role::Suspect);
    let due = election.poll_timeout().expect("retries");
    assert!(due >= at(2060), "the other is given its turn first: {due:?}");
}

#[test]
fn when_nobody_answers_a_node_leads_alone_only_after_four_seconds() {
    let mut election = follower(&[2, 3, 4], &[ME]);
    let led = leads(&run(&mut election, at(9000))).expect("leads at last");
    assert!((at(5600)..at(6050)).contains(&led), "{led:?}");
}

#[test]
fn of_two_members_the_survivor_of_a_silent_cut_leads_within_2600_ms() {
    for seed in 0..50 {
        let mut election = follower(&[2], &[ME]);
        election.rng = Rng::new(seed);
        let led = leads(&run(&mut election, at(9000))).expect("leads");
        assert!((at(2500)..at(3600)).contains(&led), "seed {seed}: {led:?}");
    }
}

#[test]
fn of_two_members_the_survivor_of_a_closed_connection_leads_within_a_second() {
    let mut election = follower(&[2], &[ME]);
    election.peer_lost(at(1050), id(2));
    assert_eq!(drain(&mut election), [Out::Lost]);
    let led = leads(&run(&mut election, at(9000))).expect("leads");
    assert_eq!(led, at(1350));
}

#[test]
fn a_goodbye_of_the_coordinator_begins_an_election_at_once() {
    let mut election = follower(&[2, 3], &[ME]);
    election.bye_received(at(1020), id(2));
    let outs = run(&mut election, at(1040));
    assert_eq!(outs[0].1, Out::Lost);
    assert!(matches!(outs[1].1, Out::SendPreVote { to, n: 4, .. } if to == id(3)), "{outs:?}");
    let late = heartbeat(term(3, 2), 2, &[]);
    election.heartbeat_received(at(1030), id(2), &late, at(1030));
    assert_eq!(election.role(), Role::Candidate, "a heartbeat it overtook changes nothing");
}

#[test]
fn a_lost_follower_changes_nothing_for_the_others() {
    let mut election = follower(&[2, 3], &[ME]);
    election.peer_lost(at(1050), id(3));
    assert_eq!((drain(&mut election), election.role()), (vec![], Role::Follower));
}

#[test]
fn a_foreign_start_is_followed_only_when_the_coordinator_is_not_heard() {
    let mut election = follower(&[2, 3], &[ME]);
    election.start_received(at(1359), id(3), &start(term(4, 3)));
    assert_eq!((election.term(), election.role()), (term(3, 2), Role::Follower));
    assert!(answer(&mut election, at(1360), &pre_vote(4, (term(1, 2), 5)), 3).0);
    election.start_received(at(1361), id(3), &start(term(4, 3)));
    assert_eq!(drain(&mut election), [Out::Follow { term: term(4, 3) }]);
}

#[test]
fn a_term_that_was_not_granted_must_be_heard_twice() {
    let mut election = follower(&[2, 3], &[ME]);
    let (mine, foreign) = (heartbeat(term(3, 2), 2, &[ME]), heartbeat(term(9, 3), 1, &[]));
    // A stall lets go of everything at once, the liar's first.
    election.start_received(at(1500), id(3), &start(term(9, 3)));
    election.heartbeat_received(at(1501), id(3), &foreign, at(1490));
    election.heartbeat_received(at(1502), id(2), &mine, at(1480));
    assert_eq!((election.term(), election.role()), (term(3, 2), Role::Follower));

    let mut election = follower(&[2, 3], &[ME]);
    election.start_received(at(1500), id(3), &start(term(9, 3)));
    election.heartbeat_received(at(1560), id(3), &foreign, at(1560));
    assert_eq!(election.term(), term(9, 3), "nobody contradicts");
}

/// Node 2 names its successor in term 3.
fn handoff(to: u8, at_idx: u64) -> Handoff {
    let signature = ([0; 32], [0; 32]);
    Handoff { room: ROOM, term: term(3, 2), to: id(to), at_idx, signature }
}

#[test]
fn whoever_is_handed_the_lead_begins_a_term_without_asking() {
    let mut election = follower(&[2, 3], &[3]);
    election.handoff_received(at(1010), id(2), &handoff(ME, 5));
    let outs = drain(&mut election);
    assert_eq!(outs[0], Out::Lead { term: term(4, ME) });
    assert_eq!(election.handoff(), Some(handoff(ME, 5)));
    assert!(outs[1..].iter().all(|out| matches!(out, Out::SendHeartbeat { .. })), "{outs:?}");
}

#[test]
fn a_hand_over_is_taken_only_from_the_coordinator_and_with_the_whole_log() {
    for (from, said) in [
        (3, handoff(ME, 5)),
        (2, handoff(3, 5)),
        (2, handoff(ME, 6)),
        (2, Handoff { term: term(2, 2), ..handoff(ME, 5) }),
    ] {
        let mut election = follower(&[2, 3], &[3]);
        election.handoff_received(at(1010), id(from), &said);
        assert_eq!((drain(&mut election), election.term()), (vec![], term(3, 2)), "{said:?}");
    }
}

#[test]
fn a_start_by_hand_over_is_followed_although_the_old_coordinator_is_heard() {
    let mut election = follower(&[2, 3], &[ME]);
    let by_hand = Start { handoff: Some(handoff(3, 5)), ..start(term(4, 3)) };
    let to_another = Start { handoff: Some(handoff(4, 5)), ..by_hand.clone() };
    election.start_received(at(1010), id(3), &to_another);
    assert_eq!(drain(&mut election), []);
    election.start_received(at(1010), id(3), &by_hand);
    assert_eq!(drain(&mut election), [Out::Follow { term: term(4, 3) }]);
}

fn ack(election: &Election, seq: u32, score: u16) -> HeartbeatAck {
    let (last_idx, last_term, chain) = (5, term_of_log(), [5; 16]);
    HeartbeatAck { room: ROOM, term: election.term(), seq, last_idx, last_term, chain, score }
}

#[test]
fn a_coordinator_that_stops_asks_the_fittest_whose_log_is_whole() {
    let mut election = coordinator(&[2, 3, 4]);
    let short = HeartbeatAck { last_idx: 4, chain: [4; 16], ..ack(&election, 1, 9000) };
    election.ack_received(at(1010), id(2), &short);
    for (node, score) in [(3, 200), (4, 300)] {
        let said = ack(&election, 1, score);
        election.ack_received(at(1010), id(node), &said);
    }
    election.retire(at(1020));
    assert_eq!(drain(&mut election), [Out::SendHandoff { to: id(4), at_idx: 5 }]);
    assert!(election.is_retiring() && !election.is_leading());
    assert_eq!(election.coordinator(), Some(id(ME)), "until somebody else is");
    let outs = run(&mut election, at(1320));
    let asked = |out: &Out| matches!(out, Out::SendHandoff { to, .. } if *to == id(3));
    assert!(outs.iter().any(|(when, out)| *when == at(1320) && asked(out)), "{outs:?}");
    let signature = ([0; 32], [0; 32]);
    let (room, old) = (ROOM, election.term());
    let said = Handoff { room, term: old, to: id(3), at_idx: 5, signature };
    let begun = Start { handoff: Some(said), ..start(term(old.n + 1, 3)) };
    election.start_received(at(1330), id(3), &begun);
    assert!(drain(&mut election).contains(&Out::Follow { term: term(old.n + 1, 3) }));
    assert!(!election.is_retiring());
}

#[test]
fn a_coordinator_that_nobody_succeeds_leaves_within_a_second() {
    let mut election = coordinator(&[2, 3]);
    election.retire(at(1020));
    run(&mut election, at(2020));
    assert!(!election.is_retiring());
    assert_eq!(election.coordinator(), None);
    let mut alone = coordinator(&[]);
    alone.retire(at(1020));
    assert!(!alone.is_retiring());
}

/// Runs a coordinator whose member 2 answers every heartbeat with that score; the instant at
/// which it is asked to take over.
fn asked_to_lead(
    election: &mut Election,
    score: u16,
    from: LocalTime,
    until: LocalTime,
) -> Option<LocalTime> {
    let mut now = from;
    while now < until {
        election.handle_timeout(now);
        for out in drain(election) {
            match out {
                Out::SendHeartbeat { seq, .. } => {
                    let said = ack(election, seq, score);
                    election.ack_received(now, id(2), &said);
                }
                Out::SendHandoff { .. } => return Some(now),
                _ => {}
            }
        }
        now += Span::from_millis(100);
    }
    None
}

#[test]
fn whoever_does_not_know_the_room_s_time_lets_the_others_stand_first() {
    let stands = |knows_time: bool| {
        let mut election = follower(&[2, 3, 4], &[ME, 3, 4]);
        election.set_knows_time(knows_time);
        let outs = run(&mut election, at(6_000));
        let asks = |(_, out): &&(LocalTime, Out)| matches!(out, Out::SendPreVote { .. });
        outs.iter().find(asks).map(|(when, _)| *when).expect("it stands in the end")
    };
    assert!(stands(true) < at(1_700));
    assert!(stands(false) >= at(3_100), "{:?}", stands(false));
}

#[test]
fn the_lead_moves_to_a_fitter_device_only_after_long() {
    let mine = 0x2400;
    let asked = |score: u16| {
        let mut election = coordinator(&[2]);
        election.set_score(mine);
        asked_to_lead(&mut election, score, at(1000), at(400_000))
    };
    assert_eq!(asked(mine + 255), None, "not worth it");
    let when = asked(mine + 256).expect("worth it");
    assert!((at(301_000)..at(301_500)).contains(&when), "{when:?}");
    assert_eq!(asked(0x1fff), None, "of a lower class");
}

#[test]
fn a_person_s_choice_and_an_empty_battery_do_not_wait() {
    let asked = |mine: u16, theirs: u16| {
        let mut election = coordinator(&[2]);
        election.set_score(mine);
        asked_to_lead(&mut election, theirs, at(1000), at(2_000))
    };
    assert!(asked(0x2400, 0x3000).is_some(), "chosen");
    assert!(asked(0x0400, 0x1000).is_some(), "nearly empty");
    assert_eq!(asked(0x3000, 0x3fff), None, "both chosen");
}

#[test]
fn a_fitter_device_s_election_mends_nothing_when_it_does_not_answer() {
    let mut election = coordinator(&[2]);
    election.set_score(0x2000);
    let first = asked_to_lead(&mut election, 0x3000, at(1000), at(3000)).expect("asked");
    let next = asked_to_lead(&mut election, 0x3000, first, at(20_000)).expect("asked again");
    assert!(next - first >= Span::from_secs(10), "{:?}", next - first);
    assert_eq!(election.role(), Role::Coordinator);
}

#[test]
fn a_coordinator_whose_members_left_yields_at_once_even_if_it_is_heavier() {
    let met_at = |when: LocalTime| {
        let mut election = coordinator(&[2, 3, 4]);
        for seq in 1..=12_u32 {
            run(&mut election, at(1000 + i64::from(seq - 1) * 100));
            for node in [2, 3, 4] {
                let said = ack(&election, seq, 100);
                election.ack_received(at(1000 + i64::from(seq - 1) * 100), id(node), &said);
            }
        }
        run(&mut election, when);
        let young = Heartbeat { live: 1, age_s: 0, ..heartbeat(term(8, 3), 1, &[]) };
        election.heartbeat_received(when, id(3), &young, when);
        election.coordinator()
    };
    assert_eq!(met_at(at(2150)), Some(id(ME)), "its members answer");
    assert_eq!(met_at(at(2700)), Some(id(3)), "nobody has answered for 500 ms");
}

#[test]
fn of_two_halves_the_one_with_more_devices_goes_on_then_the_one_that_plays_then_the_older() {
    let wins = |live: u16, playing: bool, age_s: u32, mine_plays: bool| {
        let mut election = coordinator(&[2, 3]);
        for seq in 1..=300_u32 {
            let now = at(1000 + i64::from(seq - 1) * 100);
            run(&mut election, now);
            let said = ack(&election, seq, 100);
            election.ack_received(now, id(2), &said);
        }
        election.set_playing(mine_plays);
        let now = at(30_950);
        let rival = Heartbeat { live, playing, age_s, ..heartbeat(term(8, 3), 1, &[]) };
        election.heartbeat_received(now, id(3), &rival, now);
        election.role() == Role::Coordinator
    };
    assert!(wins(1, true, 900, false), "two devices against one");
    assert!(!wins(3, false, 5, true));
    assert!(!wins(2, true, 5, false), "as many, but they hear music");
    assert!(wins(2, false, 900, true));
    assert!(!wins(2, false, 900, false), "the older branch");
    assert!(wins(2, false, 5, false));
}

#[test]
fn after_a_power_cut_the_longer_log_goes_on() {
    let mut election = coordinator(&[2, 3]);
    let rival = Heartbeat { last_idx: 6, live: 1, age_s: 1, ..heartbeat(term(8, 3), 1, &[]) };
    election.heartbeat_received(at(1050), id(3), &rival, at(1050));
    assert_eq!(election.coordinator(), Some(id(3)));
}

#[test]
fn a_rival_that_does_not_yield_is_risen_above_ever_more_rarely() {
    let mut election = coordinator(&[2, 3]);
    let mut begun = Vec::new();
    for seq in 1..=3000_u32 {
        let now = at(1000 + i64::from(seq - 1) * 100);
        begun.extend(
            run(&mut election, now).into_iter().filter(|(_, out)| matches!(out, Out::Lead { .. })),
        );
        let State::Coordinator(reign) = &election.state else { panic!("it yielded") };
        let latest = reign.seq;
        let said = ack(&election, latest, 100);
        election.ack_received(now, id(2), &said);
        if seq.is_multiple_of(10) {
            let n = election.term().n + 5;
            let rival = Heartbeat { live: 1, age_s: 0, ..heartbeat(term(n, 3), 1, &[]) };
            election.heartbeat_received(now, id(3), &rival, now);
        }
    }
    // After 0, 10, 30, 70 and 150 s.
    assert_eq!(begun.len(), 5, "{begun:?}");
}

#[test]
fn a_doubt_about_the_coordinator_asks_the_others_at_once_and_its_heartbeat_ends_it() {
    let mut election = follower(&[2, 3], &[ME]);
    election.peer_doubted(at(1050), id(2));
    let outs = run(&mut election, at(1050));
    assert!(matches!(outs[..], [(_, Out::Lost), (_, Out::SendPreVote { .. }), ..]), "{outs:?}");
    election.heartbeat_received(at(1090), id(2), &heartbeat(term(3, 2), 2, &[ME]), at(1089));
    assert_eq!((election.role(), election.term()), (Role::Follower, term(3, 2)));
    election.peer_doubted(at(1100), id(3));
    assert_eq!(election.role(), Role::Follower, "it concerns nobody else");
}

#[test]
fn strangers_and_leaps_and_borrowed_terms_are_not_followed() {
    let mut election = follower(&[2, 3], &[ME]);
    let now = at(1500);
    election.start_received(now, id(77), &start(term(4, 77)));
    election.start_received(now, id(3), &start(term(1004, 3)));
    election.start_received(now, id(3), &start(term(4, 2)));
    election.start_received(now, id(3), &Start { room: RoomId([1; 32]), ..start(term(4, 3)) });
    assert_eq!((drain(&mut election), election.term()), (vec![], term(3, 2)));
    election.start_received(now, id(3), &start(term(1003, 3)));
    election.start_received(now + Span::from_millis(50), id(3), &start(term(1003, 3)));
    assert_eq!(election.term(), term(1003, 3), "a thousand is the limit");
}

#[test]
fn numbers_near_the_end_of_their_range_are_ignored_and_never_overflow() {
    let mut election = fresh(&[2, 3]);
    election.join(at(0), term(u64::MAX, 2));
    election.log_changed(5, term(u64::MAX, 2), [0; 16]);
    election.start_received(at(10), id(3), &start(term(u64::MAX, 3)));
    election.stale_received(at(10), id(3), term(u64::MAX, 3), false);
    election.found(at(20));
    assert_eq!(election.term().n, 2);
}

#[test]
fn a_heartbeat_of_a_lower_term_is_answered_with_stale() {
    let mut election = follower(&[2, 3], &[ME]);
    election.heartbeat_received(at(1100), id(3), &heartbeat(term(2, 3), 9, &[]), at(1100));
    let stale = |alive| [Out::SendStale { to: id(3), term: term(3, 2), alive }];
    assert_eq!(drain(&mut election), stale(true));
    election.start_received(at(1500), id(3), &start(term(2, 3)));
    assert_eq!(drain(&mut election), stale(false));
}

#[test]
fn a_coordinator_that_started_again_with_an_older_disk_is_told_how_far_it_was() {
    let mut election = follower(&[2, 3], &[ME]);
    // What it said before it ended is only late.
    election.heartbeat_received(at(1100), id(2), &heartbeat(term(2, 2), 9, &[]), at(1100));
    assert_eq!(drain(&mut election), []);
    let again = Term { boot: 2, ..term(2, 2) };
    election.heartbeat_received(at(1200), id(2), &heartbeat(again, 1, &[]), at(1200));
    let stale = Out::SendStale { to: id(2), term: term(3, 2), alive: false };
    assert_eq!(drain(&mut election), [stale]);
    // It rises above that, and is followed.
    let mut restarted =
        Election::new(ElectionConfig { me: id(2), boot: 2, room: ROOM, seed: 8 }, at(0));
    restarted.log_changed(5, term(1, 2), [5; 16]);
    restarted.members_changed(at(0), &others(&[ME, 3]));
    restarted.found(at(0));
    restarted.stale_received(at(1300), id(ME), term(3, 2), false);
    assert!(leads(&run(&mut restarted, at(2400))).is_some());
    let risen = Term { boot: 2, ..term(4, 2) };
    assert_eq!(restarted.term(), risen);
    election.heartbeat_received(at(2400), id(2), &heartbeat(risen, 1, &[]), at(2400));
    assert_eq!(election.coordinator(), Some(id(2)));
}

#[test]
fn the_live_are_those_who_answered_what_was_sent_lately() {
    let mut election = coordinator(&[2, 3]);
    let ack = |election: &Election, seq| HeartbeatAck {
        room: ROOM,
        term: election.term(),
        seq,
        last_idx: 5,
        last_term: Term::ZERO,
        chain: [5; 16],
        score: 900,
    };
    let said = ack(&election, 1);
    election.ack_received(at(1010), id(3), &said);
    election.ack_received(at(1010), id(77), &said);
    assert_eq!(election.live(), &BTreeSet::from([id(3)]));
    let outs = run(&mut election, at(1100));
    let told = |out: &Out| matches!(out, Out::SendHeartbeat { successors, live: 2, .. } if *successors == [id(3)]);
    assert!(outs.iter().all(|(_, out)| told(out)), "{outs:?}");
    run(&mut election, at(1500));
    election.ack_received(at(1500), id(2), &said);
    assert!(election.live().is_empty(), "an answer to what was sent 500 ms ago");
}

#[test]
fn the_succession_follows_the_scores() {
    let mut election = coordinator(&[2, 3, 4, 5]);
    for (node, score) in [(2, 10), (3, 40), (4, 40), (5, 30)] {
        let ack = HeartbeatAck {
            room: ROOM,
            term: election.term(),
            seq: 1,
            last_idx: 5,
            last_term: Term::ZERO,
            chain: [5; 16],
            score,
        };
        election.ack_received(at(1010), id(node), &ack);
    }
    let outs = run(&mut election, at(1100));
    let Out::SendHeartbeat { successors, .. } = &outs[0].1 else { panic!("{outs:?}") };
    assert_eq!(*successors, [id(3), id(4), id(5)]);
}

#[test]
fn a_new_connection_is_greeted_without_waiting_for_the_beat() {
    let mut election = coordinator(&[2]);
    election.members_changed(at(1050), &others(&[2, 3]));
    let outs = drain(&mut election);
    assert!(matches!(outs[..], [Out::SendHeartbeat { to, .. }] if to == id(3)), "{outs:?}");
}

#[test]
fn of_two_coordinators_the_lighter_one_yields_and_says_so() {
    let mut election = coordinator(&[2, 3]);
    let mine = election.term();
    let rival = Heartbeat { last_idx: 6, chain: [6; 16], ..heartbeat(term(8, 3), 1, &[]) };
    election.heartbeat_received(at(1050), id(3), &rival, at(1050));
    assert_eq!(
        drain(&mut election),
        [
            Out::SendStale { to: id(2), term: term(8, 3), alive: true },
            Out::Discarded { branch: mine, last_idx: 5, winner: term(8, 3), winner_idx: 6 },
            Out::Follow { term: term(8, 3) },
        ]
    );
    assert_eq!(election.coordinator(), Some(id(3)));
}

#[test]
fn the_winner_with_the_lower_term_begins_one_above_the_other() {
    let mut election = coordinator(&[2, 3]);
    let said = ack(&election, 1, 100);
    election.ack_received(at(1010), id(2), &said);
    let rival = Heartbeat { live: 1, ..heartbeat(term(8, 3), 1, &[]) };
    election.heartbeat_received(at(1050), id(3), &rival, at(1050));
    assert_eq!(election.role(), Role::Coordinator);
    let outs = run(&mut election, at(2500));
    assert_eq!(leads(&outs), Some(at(2000)), "not before its own term is a second old");
    assert_eq!(election.term(), term(9, ME));
}

#[test]
fn a_loser_with_the_higher_term_waits_for_the_winner_to_rise_above_it() {
    let mut election = coordinator(&[2, 3]);
    election.highest = term(20, ME);
    election.found(at(1100));
    drain(&mut election);
    let rival = heartbeat(term(8, 3), 1, &[]);
    election.heartbeat_received(at(1150), id(3), &rival, at(1150));
    assert_eq!((drain(&mut election), election.role()), (vec![], Role::Coordinator));
}

#[test]
fn an_old_heartbeat_of_a_rival_is_no_reason_to_yield() {
    let mut election = coordinator(&[2, 3]);
    let rival = Heartbeat { last_idx: 9, ..heartbeat(term(8, 3), 1, &[]) };
    election.heartbeat_received(at(2000), id(3), &rival, at(1500));
    assert_eq!(election.role(), Role::Coordinator);
}

#[test]
fn followers_of_one_who_yielded_are_free_to_follow_the_winner() {
    let mut election = follower(&[2, 3], &[ME]);
    election.stale_received(at(1050), id(2), term(5, 3), true);
    election.heartbeat_received(at(1060), id(3), &heartbeat(term(5, 3), 4, &[]), at(1060));
    assert_eq!(election.coordinator(), Some(id(3)));
}

#[test]
fn a_member_stuck_in_a_dead_higher_term_is_brought_back() {
    let mut election = coordinator(&[2, 3]);
    run(&mut election, at(3000));
    election.stale_received(at(3000), id(3), term(6, 9), true);
    assert_eq!(leads(&run(&mut election, at(3900))), None, "somebody hears its owner");
    election.stale_received(at(4000), id(3), term(6, 9), false);
    assert_eq!(leads(&run(&mut election, at(5000))), Some(at(4300)));
    assert_eq!(election.term(), term(7, ME));
}

#[test]
fn after_a_suspend_a_coordinator_keeps_still_and_follows_whom_it_hears() {
    let mut election = coordinator(&[2, 3]);
    election.resumed(at(90_000));
    assert_eq!((drain(&mut election), election.role()), (vec![Out::Lost], Role::Lame));
    election.pre_vote_received(at(90_050), id(3), &pre_vote(99, (term(9, 3), 9)));
    assert!(drain(&mut election).is_empty());
    assert_eq!(election.poll_timeout(), Some(at(90_600)));
    let now = at(90_100);
    election.heartbeat_received(now, id(3), &heartbeat(term(5, 3), 4, &[]), now);
    assert_eq!(election.coordinator(), Some(id(3)));
}

#[test]
fn after_a_suspend_with_nobody_leading_a_node_stands() {
    let mut election = coordinator(&[2, 3]);
    election.resumed(at(90_000));
    let outs = run(&mut election, at(92_000));
    assert!(outs.iter().any(|(_, out)| matches!(out, Out::SendPreVote { .. })), "{outs:?}");
}

#[test]
fn an_observer_stands_after_three_seconds_but_never_without_a_log() {
    let mut election = fresh(&[]);
    let led = leads(&run(&mut election, at(9000))).expect("leads");
    assert!((at(3000)..at(4000)).contains(&led), "{led:?}");
    let mut election = fresh(&[]);
    election.log_changed(0, Term::ZERO, [0; 16]);
    assert_eq!(election.poll_timeout(), None);
}

#[test]
fn one_who_resigns_never_stands_again() {
    let mut election = coordinator(&[2, 3]);
    election.resign(at(2000));
    assert_eq!((drain(&mut election), election.coordinator()), (vec![Out::Lost], None));
    assert!(answer(&mut election, at(2010), &pre_vote(9, (term(1, 2), 5)), 3).0);
    assert_eq!(leads(&run(&mut election, at(60_000))), None);
}

#[test]
fn with_a_gateway_that_answers_one_of_two_does_not_wait_for_the_other_to_come_back() {
    let silent = |gateway: bool| {
        let mut election = follower(&[2], &[ME]);
        let outs = run(&mut election, at(1750));
        assert_eq!(leads(&outs), None);
        let asked = outs.iter().filter(|(_, out)| *out == Out::AskGateway).count();
        assert_eq!(asked, 1, "once a silence");
        if gateway {
            election.gateway_answered(at(1755));
        }
        leads(&run(&mut election, at(5000))).expect("it goes on alone")
    };
    let (with, without) = (silent(true), silent(false));
    assert!(with <= at(2200), "{with:?}");
    assert!(without >= at(3100), "{without:?}");
}

#[test]
fn the_gateway_is_not_asked_where_others_can_be() {
    let mut election = follower(&[2, 3], &[ME, 3]);
    let outs = run(&mut election, at(4000));
    assert!(!outs.iter().any(|(_, out)| *out == Out::AskGateway));
    // Nor does an answer that nobody asked for change anything.
    let mut election = follower(&[2, 3], &[ME, 3]);
    drop(run(&mut election, at(1700)));
    election.gateway_answered(at(1700));
    assert_eq!(leads(&run(&mut election, at(4000))), None);
}

#[test]
fn whoever_heard_nobody_gives_the_coordinator_twice_the_time() {
    let mut election = follower(&[2, 3], &[ME, 3]);
    for ms in [1000, 1500] {
        election.contact(at(ms));
    }
    election.contact(at(2500));
    let beat = heartbeat(term(3, 2), 2, &[ME, 3]);
    election.heartbeat_received(at(2500), id(2), &beat, at(2500));
    drain(&mut election);
    assert_eq!(election.poll_timeout(), Some(at(3700)), "1.2 s instead of 0.6");
    // Ten seconds later it trusts itself again.
    for ms in (3000..13_000).step_by(500) {
        election.contact(at(ms));
    }
    let beat = heartbeat(term(3, 2), 90, &[ME, 3]);
    election.heartbeat_received(at(12_600), id(2), &beat, at(12_600));
    assert_eq!(election.poll_timeout(), Some(at(13_200)));
}

#[test]
fn whoever_is_run_late_gives_the_coordinator_twice_the_time() {
    let mut election = follower(&[2, 3], &[ME, 3]);
    election.handle_timeout(at(1850));
    assert_eq!(election.role(), Role::Follower, "its mail may be waiting to be read");
    assert_eq!(election.poll_timeout(), Some(at(2200)));
    let mut election = follower(&[2, 3], &[ME, 3]);
    election.handle_timeout(at(1650));
    assert_ne!(election.role(), Role::Follower);
}

#[test]
fn whoever_was_alone_for_long_need_not_doubt_itself_when_somebody_comes() {
    let mut election = follower(&[2], &[ME]);
    let gone = BTreeMap::from([(id(2), MemberFacts { connected: false, score: 0 })]);
    election.members_changed(at(1100), &gone);
    election.members_changed(at(60_000), &others(&[2]));
    election.contact(at(60_001));
    let beat = heartbeat(term(3, 2), 2, &[ME]);
    election.heartbeat_received(at(60_001), id(2), &beat, at(60_001));
    assert_eq!(election.poll_timeout(), Some(at(60_601)));
}
