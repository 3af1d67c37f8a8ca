//! A rule each. Time is an argument.

use super::*;

const HASH: BlobHash = BlobHash([1; 32]);
const NEXT: BlobHash = BlobHash([2; 32]);
/// A piece every two seconds.
const RATE: u64 = PIECE / 2;

fn node(n: u8) -> NodeId {
    NodeId([n; 32])
}

fn at(ms: i64) -> LocalTime {
    LocalTime(1_000_000_000) + Span::from_millis(ms)
}

fn bits(pieces: &[u32]) -> Have {
    let mut bits = vec![0; 8];
    for piece in pieces {
        bits[*piece as usize / 8] |= 1 << (piece % 8);
    }
    Have::Pieces(bits)
}

/// 40 pieces, playing from the start, with these complete holders.
fn playing(holders: &[u8]) -> Transfer {
    let mut transfer = Transfer::new(7);
    let playhead = Playhead::Moving { byte: 0, at: at(0) };
    transfer.want(at(0), HASH, 40 * PIECE, RATE, Some(playhead), 0);
    for holder in holders {
        transfer.peer_has(node(*holder), HASH, Have::Complete);
    }
    transfer
}

fn fetch_all(transfer: &mut Transfer, now: LocalTime) -> Vec<Fetch> {
    std::iter::from_fn(|| transfer.poll_output(now)).take(100).collect()
}

fn pieces(fetches: &[Fetch]) -> Vec<u32> {
    fetches.iter().map(|fetch| fetch.piece).collect()
}

fn arrive(transfer: &mut Transfer, now: LocalTime, fetch: Fetch) {
    transfer.piece_arrived(now, &fetch.hash, fetch.piece, PIECE, fetch.from);
}

fn fail(transfer: &mut Transfer, now: LocalTime, fetch: Fetch, failure: Failure) {
    transfer.piece_failed(now, &fetch.hash, fetch.piece, fetch.from, failure);
}

/// Holds the first `n` pieces.
fn hold(transfer: &mut Transfer, n: u32) {
    transfer.local_has(&HASH, &bits(&(0..n).collect::<Vec<_>>()));
}

#[test]
fn how_much_is_here_is_told_until_all_is() {
    let mut transfer = playing(&[1]);
    let told = [(0, Some(0)), (1, Some(2)), (20, Some(50)), (39, Some(97)), (40, None)];
    for (held, percent) in told {
        hold(&mut transfer, held);
        assert_eq!(
            transfer.under_way().map(|(_, percent)| percent).next(),
            percent,
            "{held} of 40"
        );
    }
}

#[test]
fn pieces_in_the_window_come_by_deadline() {
    let mut transfer = playing(&[1]);
    let mut order = Vec::new();
    let mut now = at(0);
    while order.len() < 8 {
        for fetch in fetch_all(&mut transfer, now) {
            order.push(fetch.piece);
            now += Span::from_millis(10);
            arrive(&mut transfer, now, fetch);
        }
    }
    assert_eq!(order[..8], [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn the_window_follows_the_play_position() {
    let mut transfer = playing(&[1]);
    let fetches = fetch_all(&mut transfer, at(21_000));
    assert_eq!(pieces(&fetches), [10, 11, 12, 13]);
}

#[test]
fn a_paused_track_is_fetched_where_it_stands() {
    let mut transfer = playing(&[1]);
    let held = Playhead::Held { byte: 30 * PIECE + 5 };
    transfer.want(at(0), HASH, 40 * PIECE, RATE, Some(held), 0);
    assert_eq!(pieces(&fetch_all(&mut transfer, at(90_000)))[..2], [30, 31]);
}

#[test]
fn what_a_decoder_stands_still_for_comes_before_all() {
    let mut transfer = playing(&[1]);
    transfer.need(&HASH, 33);
    assert_eq!(pieces(&fetch_all(&mut transfer, at(0)))[..2], [33, 0]);
}

#[test]
fn beyond_the_window_the_rarest_comes_first() {
    let mut transfer = playing(&[1]);
    hold(&mut transfer, 9);
    let all_but: Vec<u32> = (0..40).filter(|piece| *piece != 23).collect();
    transfer.peer_has(node(2), HASH, bits(&all_but));
    assert_eq!(pieces(&fetch_all(&mut transfer, at(0))), [23]);
}

#[test]
fn among_equally_rare_pieces_nodes_choose_differently() {
    let mut chosen = std::collections::BTreeSet::new();
    for seed in 0..8 {
        let mut transfer = Transfer::new(seed);
        transfer.want(at(0), HASH, 40 * PIECE, RATE, None, 0);
        transfer.peer_has(node(1), HASH, Have::Complete);
        chosen.extend(pieces(&fetch_all(&mut transfer, at(0))));
    }
    assert!(chosen.len() > 3, "{chosen:?}");
}

#[test]
fn four_pieces_are_under_way_while_starting_and_two_later() {
    let mut transfer = playing(&[1]);
    assert_eq!(fetch_all(&mut transfer, at(0)).len(), 4);
    let mut transfer = playing(&[1]);
    hold(&mut transfer, 3);
    assert_eq!(pieces(&fetch_all(&mut transfer, at(0))), [3, 4]);
}

#[test]
fn with_the_window_full_the_rest_is_paced_at_twice_the_rate() {
    let mut transfer = playing(&[1]);
    hold(&mut transfer, 40 - 22);
    let mut fetched = 0;
    // Ten seconds of play at two pieces a second beyond the first token.
    for step in 0..=1000 {
        let now = at(step * 10);
        for fetch in fetch_all(&mut transfer, now) {
            fetched += 1;
            arrive(&mut transfer, now, fetch);
        }
    }
    assert_eq!(fetched, 11);
}

#[test]
fn the_timer_rings_when_the_pace_allows_the_next_piece() {
    let mut transfer = playing(&[1]);
    hold(&mut transfer, 10);
    let first = transfer.poll_output(at(0)).expect("one token");
    arrive(&mut transfer, at(0), first);
    assert_eq!(transfer.poll_output(at(0)), None);
    assert_eq!(transfer.poll_timeout(), Some(at(1000)));
    assert!(transfer.poll_output(at(999)).is_none());
    assert!(transfer.poll_output(at(1000)).is_some());
}

#[test]
fn the_next_track_waits_for_the_one_that_plays() {
    let mut transfer = playing(&[1]);
    transfer.want(at(0), NEXT, 4 * PIECE, RATE, None, 1);
    transfer.peer_has(node(1), NEXT, Have::Complete);
    hold(&mut transfer, 39);
    let fetches = fetch_all(&mut transfer, at(0));
    assert_eq!((fetches[0].hash, fetches[0].piece), (HASH, 39));
    arrive(&mut transfer, at(0), fetches[0]);
    assert_eq!(fetch_all(&mut transfer, at(1000))[0].hash, NEXT);
}

#[test]
fn a_next_track_becomes_urgent_as_its_start_draws_near() {
    let mut transfer = playing(&[1]);
    hold(&mut transfer, 40);
    let soon = Playhead::Moving { byte: 0, at: at(30_000) };
    transfer.want(at(0), NEXT, 40 * PIECE, RATE, Some(soon), 1);
    transfer.peer_has(node(1), NEXT, Have::Complete);
    assert_eq!(fetch_all(&mut transfer, at(0)).len(), 1, "paced");
    let fetches = fetch_all(&mut transfer, at(16_000));
    assert_eq!(fetches.iter().map(|f| f.hash).next(), Some(NEXT));
    assert_eq!(fetches[0].piece, 0);
}

#[test]
fn after_two_seconds_another_holder_is_asked() {
    let mut transfer = playing(&[1, 2]);
    hold(&mut transfer, 3);
    let first = transfer.poll_output(at(0)).expect("piece 3");
    assert_eq!((first.piece, first.patience), (3, Span::from_secs(2)));
    let _ = transfer.poll_output(at(0)).expect("piece 4");
    assert_eq!(transfer.poll_timeout(), Some(at(2000)));
    transfer.handle_timeout(at(2000));
    let again = transfer.poll_output(at(2000)).expect("piece 3 again");
    assert_eq!(again.piece, 3);
    assert_ne!(again.from, first.from);
}

#[test]
fn a_slow_only_holder_gets_more_time_each_time() {
    let mut transfer = playing(&[1]);
    let mut now = at(0);
    let mut patience = Span::ZERO;
    for _ in 0..40 {
        for fetch in fetch_all(&mut transfer, now) {
            patience = fetch.patience;
        }
        now = transfer.poll_timeout().expect("something is under way");
        transfer.handle_timeout(now);
    }
    assert!(patience > Span::from_secs(20), "{patience:?}");
}

#[test]
fn a_corrupt_piece_costs_its_source_this_blob_for_ten_minutes() {
    let mut transfer = playing(&[1]);
    let fetch = transfer.poll_output(at(0)).expect("piece 0");
    transfer.piece_failed(at(5), &HASH, fetch.piece, node(1), Failure::Corrupt);
    transfer.handle_timeout(at(3000));
    assert_eq!(transfer.poll_output(at(599_000)), None);
    assert!(transfer.poll_timeout().is_some());
    assert!(transfer.poll_output(at(600_006)).is_some());
    // Another blob may still come from it.
    transfer.want(at(10), NEXT, PIECE, RATE, Some(Playhead::Held { byte: 0 }), 0);
    transfer.peer_has(node(1), NEXT, Have::Complete);
    assert_eq!(transfer.poll_output(at(10)).map(|fetch| fetch.hash), Some(NEXT));
}

#[test]
fn a_refusal_goes_to_another_and_comes_back_later() {
    let mut transfer = playing(&[1, 2]);
    transfer.local_has(&HASH, &bits(&(1..40).collect::<Vec<_>>()));
    let first = transfer.poll_output(at(0)).expect("piece 0");
    transfer.piece_failed(at(1), &HASH, 0, first.from, Failure::Refused);
    let second = transfer.poll_output(at(1)).expect("piece 0");
    assert_eq!(second.piece, 0);
    assert_ne!(second.from, first.from);
    transfer.piece_failed(at(2), &HASH, 0, second.from, Failure::Refused);
    assert_eq!(transfer.poll_output(at(3)), None);
    assert_eq!(transfer.poll_timeout(), Some(at(1001)));
    let fetches = fetch_all(&mut transfer, at(1001));
    assert_eq!(fetches.first().map(|f| (f.piece, f.from)), Some((0, first.from)));
}

#[test]
fn what_a_lost_peer_owed_is_asked_of_others() {
    let mut transfer = playing(&[1, 2]);
    let fetches = fetch_all(&mut transfer, at(0));
    let lost = fetches[0].from;
    transfer.peer_gone(&lost);
    let again = transfer.poll_output(at(1)).expect("somebody else");
    assert_eq!(again.piece, 0);
    assert_ne!(again.from, lost);
}

#[test]
fn load_is_spread_and_the_faster_holder_gets_more() {
    let mut transfer = playing(&[1, 2]);
    let fetches = fetch_all(&mut transfer, at(0));
    assert_eq!(fetches.iter().filter(|fetch| fetch.from == node(1)).count(), 2);
    for fetch in fetches {
        let took = if fetch.from == node(1) { 20 } else { 900 };
        arrive(&mut transfer, at(took), fetch);
    }
    let fetches = fetch_all(&mut transfer, at(1000));
    assert!(fetches.iter().all(|fetch| fetch.from == node(1)), "{fetches:?}");
}

#[test]
fn a_piece_that_is_about_to_be_late_is_asked_of_a_second_holder() {
    let mut transfer = playing(&[1, 2]);
    let first = transfer.poll_output(at(0)).expect("piece 0");
    for piece in 1..40 {
        transfer.piece_arrived(at(0), &HASH, piece, PIECE, node(9));
    }
    assert_eq!(transfer.poll_output(at(299)), None);
    assert_eq!(transfer.poll_timeout(), Some(at(300)));
    let second = transfer.poll_output(at(300)).expect("the same again");
    assert_eq!(second.piece, 0);
    assert_ne!(second.from, first.from);
    assert_eq!(transfer.poll_output(at(1000)), None, "no third");
    arrive(&mut transfer, at(1001), first);
    assert!(!transfer.wants(&HASH));
    assert_eq!(transfer.poll_timeout(), None);
}

#[test]
fn an_unwanted_blob_frees_its_slots() {
    let mut transfer = playing(&[1]);
    let _ = fetch_all(&mut transfer, at(0));
    transfer.unwant(&HASH);
    assert_eq!(transfer.poll_timeout(), None);
    let held = Some(Playhead::Held { byte: 0 });
    transfer.want(at(1), NEXT, 9 * PIECE, RATE, held, 0);
    transfer.peer_has(node(1), NEXT, Have::Complete);
    assert_eq!(fetch_all(&mut transfer, at(1)).len(), 4);
    // What was under way arrives late and disturbs nothing.
    transfer.piece_arrived(at(2), &HASH, 0, PIECE, node(1));
    transfer.piece_failed(at(2), &HASH, 1, node(1), Failure::Timeout);
}

#[test]
fn claims_of_a_hostile_peer_are_bounded() {
    let mut transfer = playing(&[]);
    for n in 0..5000_u32 {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_le_bytes());
        transfer.peer_has(node(1), BlobHash(hash), Have::from_wire(vec![0xFF; 1 << 20]));
    }
    transfer.need(&HASH, u32::MAX);
    transfer.piece_arrived(at(0), &HASH, u32::MAX, u64::MAX, node(1));
    assert_eq!(transfer.poll_output(at(0)), None);
    assert_eq!(Have::from_wire(vec![0xFF; 1 << 20]).to_wire().len(), 1024);
    assert_eq!(Have::from_wire(Vec::new()), Have::Complete);
}

/// A small network without sockets: every fetch is answered after a random time or fails in a
/// random way; in the end all is here, nothing was asked twice without reason.
#[test]
fn whatever_fails_everything_arrives_in_the_end() {
    for seed in 0..50 {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let mut transfer = playing(&[1, 2, 3]);
        let mut under_way: Vec<(LocalTime, Fetch)> = Vec::new();
        let mut now = at(0);
        while transfer.wants(&HASH) {
            for fetch in fetch_all(&mut transfer, now) {
                let delay = i64::try_from(rng.below(3000)).expect("small");
                under_way.push((now + Span::from_millis(delay), fetch));
            }
            assert!(under_way.len() < 200, "seed {seed}: requests pile up");
            under_way.sort_by_key(|(due, _)| *due);
            let timer = transfer.poll_timeout().unwrap_or(LocalTime::FAR);
            let due = under_way.first().map_or(LocalTime::FAR, |(due, _)| *due);
            now = now.later(timer.min(due)) + Span(1);
            assert!(now < at(3_600_000), "seed {seed}: stuck");
            transfer.handle_timeout(now);
            while under_way.first().is_some_and(|(due, _)| *due <= now) {
                let (_, fetch) = under_way.remove(0);
                match rng.below(6) {
                    0 => fail(&mut transfer, now, fetch, Failure::Refused),
                    1 => fail(&mut transfer, now, fetch, Failure::Gone),
                    _ => arrive(&mut transfer, now, fetch),
                }
            }
        }
    }
}
