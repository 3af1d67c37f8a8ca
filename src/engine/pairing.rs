//! How a second device becomes one of a person's: both show six digits, two people compare them,
//! and only then the key travels. One run at a time; see [`PairMessage`] for the exchange.
//!
//! Whoever stands between the two devices has other keys than they, so that the digits differ on
//! both, whatever is sent: the numbers that go into them are bound by a commitment before the
//! other one is known. A number is used for one run only, because one that is known beforehand
//! can be searched against.

use crate::base::{LocalTime, NodeId, Span};
use crate::wire::codec;
use crate::wire::person::{PairMessage, Secret};
use crate::wire::{Refusal, RefusalCode};

/// How long the device that has the person waits for the other one: the way to another room, and
/// a command to be typed there.
const WAIT: Span = Span::from_secs(120);

/// How long the new device looks for the other one.
const CALL: Span = Span::from_secs(10);

/// How long the two may take to exchange their numbers: a round trip or two.
const EXCHANGE: Span = Span::from_secs(10);

/// How long two people may take to compare six digits.
const COMPARE: Span = Span::from_secs(60);

/// Runs that may fail in a row: each is one guess in a million for whoever stands between.
const TRIES: u32 = 3;

/// How long there is none after that.
const PAUSE: Span = Span::from_secs(60);

/// For how long it is shown how the last run ended.
const SHOWN: Span = Span::from_secs(300);

/// What a person asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PairCommand {
    /// Wait for a second device of this device's person.
    Wait {
        /// Drawn for this run.
        nonce: [u8; 32],
    },
    /// Become a device of another device's person.
    Call {
        /// Which device: its name, its person's, its id or `host:port`.
        device: String,
        /// Drawn for this run.
        nonce: [u8; 32],
    },
    /// The digits are the same on both.
    Confirm {
        /// As they stand on the other device.
        code: u32,
    },
    /// Never mind.
    Cancel,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum PairOutput {
    /// Say this to the other device.
    Send(NodeId, PairMessage),
    /// Both have agreed: give the person's key to the other device.
    Give(NodeId),
    /// Become this person.
    Become {
        /// Who has given the key.
        from: NodeId,
        /// Its document.
        key: Secret,
        /// What the person is called.
        name: String,
        /// As they want to be called.
        display: String,
    },
}

/// Where a run stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The device that has the person: for an offer.
    Waiting,
    /// The new device: for the other one to be connected.
    Looking,
    /// The new device: for the other one's number.
    Offered,
    /// The device that has the person: for the number that was committed to.
    Committed([u8; 32]),
    /// Both: for their people.
    Comparing { code: u32, here: bool, there: bool },
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Run {
    has_person: bool,
    nonce: [u8; 32],
    peer: Option<NodeId>,
    step: Step,
    until: LocalTime,
}

/// What front ends show.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PairState {
    /// Nothing goes on.
    Idle,
    /// For another device to call.
    Waiting,
    /// For the other device to answer.
    Calling,
    /// Two people are to compare these digits.
    Compare {
        /// They.
        code: u32,
        /// The person here has said that they are the same.
        agreed: bool,
        /// The other device.
        peer: NodeId,
    },
    /// It worked.
    Done {
        /// The other device.
        peer: NodeId,
    },
    /// It did not.
    Failed {
        /// Why, for people.
        why: String,
    },
}

/// See the [module](self).
#[derive(Debug)]
pub struct Pairing {
    me: NodeId,
    run: Option<Run>,
    failures: u32,
    paused_until: Option<LocalTime>,
    last: Option<(LocalTime, PairState)>,
}

impl Pairing {
    /// Nothing goes on.
    #[must_use]
    pub fn new(me: NodeId) -> Pairing {
        Pairing { me, run: None, failures: 0, paused_until: None, last: None }
    }

    /// Waits for a second device.
    ///
    /// # Errors
    ///
    /// When too many runs have failed just now.
    pub fn wait(&mut self, now: LocalTime, nonce: [u8; 32]) -> Result<Vec<PairOutput>, Refusal> {
        self.check_pause(now)?;
        let ended = self.cancel(now);
        let (step, until) = (Step::Waiting, now + WAIT);
        self.run = Some(Run { has_person: true, nonce, peer: None, step, until });
        Ok(ended)
    }

    /// Calls a device, which may have yet to be connected: then [`reached`](Self::reached) is to
    /// be told.
    ///
    /// # Errors
    ///
    /// When too many runs have failed just now.
    pub fn call(&mut self, now: LocalTime, nonce: [u8; 32]) -> Result<Vec<PairOutput>, Refusal> {
        self.check_pause(now)?;
        let ended = self.cancel(now);
        let (step, until) = (Step::Looking, now + CALL);
        self.run = Some(Run { has_person: false, nonce, peer: None, step, until });
        Ok(ended)
    }

    /// The device that was called is connected.
    pub fn reached(&mut self, now: LocalTime, peer: NodeId) -> Option<PairOutput> {
        let run = self.run.as_mut().filter(|run| run.step == Step::Looking)?;
        (run.peer, run.step, run.until) = (Some(peer), Step::Offered, now + EXCHANGE);
        let commitment = codec::pairing_commitment(&run.nonce);
        Some(PairOutput::Send(peer, PairMessage::Offer { commitment }))
    }

    /// Something came.
    pub fn received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        message: PairMessage,
    ) -> Vec<PairOutput> {
        if let PairMessage::Offer { commitment } = message {
            return self.offered(now, from, commitment);
        }
        let Some(run) = self.run.as_mut().filter(|run| run.peer == Some(from)) else {
            return Vec::new();
        };
        match (message, run.step) {
            (PairMessage::Nonce { nonce }, Step::Offered) => {
                let code = codec::pairing_code((&self.me, &from), (&run.nonce, &nonce));
                let reveal = PairMessage::Reveal { nonce: run.nonce };
                run.compare(now, code);
                vec![PairOutput::Send(from, reveal)]
            }
            (PairMessage::Reveal { nonce }, Step::Committed(commitment)) => {
                if codec::pairing_commitment(&nonce) != commitment {
                    let why = "the other device did not keep to what it had committed to";
                    return self.fail(now, why.into());
                }
                let code = codec::pairing_code((&from, &self.me), (&nonce, &run.nonce));
                run.compare(now, code);
                Vec::new()
            }
            (PairMessage::Agreed, Step::Comparing { code, here, .. }) if run.has_person => {
                run.step = Step::Comparing { code, here, there: true };
                self.give_if_agreed(now)
            }
            (PairMessage::Key { key, name, display }, Step::Comparing { here: true, .. })
                if !run.has_person =>
            {
                self.succeed(now, from);
                vec![PairOutput::Become { from, key, name, display }]
            }
            (PairMessage::Cancelled, Step::Offered) => {
                self.run = None;
                let why = "the other device does not wait for this one: `groovebox user pair` \
                           there first, without a name";
                self.last = Some((now, PairState::Failed { why: why.into() }));
                Vec::new()
            }
            (PairMessage::Cancelled, _) => {
                self.fail(now, "it was cancelled on the other device".into())
            }
            // Out of turn.
            _ => self.fail(now, "the other device said something out of turn".into()),
        }
    }

    fn offered(&mut self, now: LocalTime, from: NodeId, commitment: [u8; 32]) -> Vec<PairOutput> {
        let waiting = self.run.as_mut().filter(|run| run.step == Step::Waiting && run.until > now);
        let Some(run) = waiting else {
            return vec![PairOutput::Send(from, PairMessage::Cancelled)];
        };
        run.peer = Some(from);
        run.step = Step::Committed(commitment);
        run.until = now + EXCHANGE;
        vec![PairOutput::Send(from, PairMessage::Nonce { nonce: run.nonce })]
    }

    /// The person here says which digits stand on the other device. Refused when there are none
    /// to compare, or they are not the same; what is to be done is to be done all the same.
    pub fn confirm(&mut self, now: LocalTime, code: u32) -> (Vec<PairOutput>, Result<(), Refusal>) {
        let run = self.run.as_mut();
        let comparing = run.and_then(|run| match (run.step, run.peer) {
            (Step::Comparing { code, .. }, Some(peer)) => Some((run, code, peer)),
            _ => None,
        });
        let Some((run, shown, peer)) = comparing else {
            let refusal = Refusal::new(
                RefusalCode::UpdateFailed,
                "there are no digits to compare",
                "`groovebox user pair` on both devices, on the new one with the name of the other",
            );
            return (Vec::new(), Err(refusal));
        };
        if code != shown {
            let outputs = self.fail(now, "the digits were not the same".into());
            let refusal = Refusal::new(
                RefusalCode::AuthRequired,
                "these are not the digits that this device shows; nothing was given away",
                "if they differ on the two devices, somebody may stand between them; try again",
            );
            return (outputs, Err(refusal));
        }
        if let Step::Comparing { there, .. } = run.step {
            run.step = Step::Comparing { code, here: true, there };
        }
        if run.has_person {
            return (self.give_if_agreed(now), Ok(()));
        }
        (vec![PairOutput::Send(peer, PairMessage::Agreed)], Ok(()))
    }

    fn give_if_agreed(&mut self, now: LocalTime) -> Vec<PairOutput> {
        let Some(Run { has_person: true, step, peer: Some(peer), .. }) = self.run else {
            return Vec::new();
        };
        if !matches!(step, Step::Comparing { here: true, there: true, .. }) {
            return Vec::new();
        }
        self.succeed(now, peer);
        vec![PairOutput::Give(peer)]
    }

    fn succeed(&mut self, now: LocalTime, peer: NodeId) {
        self.run = None;
        self.failures = 0;
        self.last = Some((now, PairState::Done { peer }));
    }

    /// A run that had got as far as another device has failed: one try less.
    fn fail(&mut self, now: LocalTime, why: String) -> Vec<PairOutput> {
        let Some(run) = self.run.take() else { return Vec::new() };
        self.last = Some((now, PairState::Failed { why }));
        let Some(peer) = run.peer else { return Vec::new() };
        self.failures += 1;
        if self.failures >= TRIES {
            self.failures = 0;
            self.paused_until = Some(now + PAUSE);
        }
        vec![PairOutput::Send(peer, PairMessage::Cancelled)]
    }

    /// Ends what goes on.
    pub fn cancel(&mut self, now: LocalTime) -> Vec<PairOutput> {
        self.fail(now, "it was cancelled".into())
    }

    /// A device is gone.
    pub fn lost(&mut self, now: LocalTime, peer: NodeId) {
        if self.run.as_ref().is_some_and(|run| run.peer == Some(peer)) {
            let _nobody_is_there_to_be_told =
                self.fail(now, "the other device is out of reach".into());
        }
    }

    /// Ends what took too long.
    pub fn handle_timeout(&mut self, now: LocalTime) -> Vec<PairOutput> {
        if self.last.as_ref().is_some_and(|(at, _)| now - *at > SHOWN) {
            self.last = None;
        }
        let Some(run) = self.run.as_ref().filter(|run| run.until <= now) else {
            return Vec::new();
        };
        let why = match run.step {
            Step::Waiting => "no other device has called within two minutes",
            Step::Looking => "the device that was named is not in reach",
            Step::Offered | Step::Committed(_) => "the other device has not answered",
            Step::Comparing { .. } => "the digits were not confirmed on both devices in a minute",
        };
        self.fail(now, why.into())
    }

    /// What to show.
    #[must_use]
    pub fn state(&self) -> PairState {
        match &self.run {
            Some(Run { step: Step::Waiting, .. }) => PairState::Waiting,
            Some(Run { step: Step::Comparing { code, here, .. }, peer: Some(peer), .. }) => {
                PairState::Compare { code: *code, agreed: *here, peer: *peer }
            }
            Some(_) => PairState::Calling,
            None => self.last.as_ref().map_or(PairState::Idle, |(_, state)| state.clone()),
        }
    }

    /// Whether the new device looks for the one that was named.
    #[must_use]
    pub fn is_looking(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.step == Step::Looking)
    }

    fn check_pause(&mut self, now: LocalTime) -> Result<(), Refusal> {
        let Some(until) = self.paused_until.filter(|until| *until > now) else {
            self.paused_until = None;
            return Ok(());
        };
        let ms = (until - now).as_millis().max(1);
        Err(Refusal {
            retry_after_ms: Some(u32::try_from(ms).unwrap_or(u32::MAX)),
            ..Refusal::new(
                RefusalCode::Cooldown,
                "pairing has failed three times in a row",
                "look whether the two devices are the ones you mean, and try again in a minute",
            )
        })
    }
}

impl Run {
    fn compare(&mut self, now: LocalTime, code: u32) {
        self.step = Step::Comparing { code, here: false, there: false };
        self.until = now + COMPARE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: NodeId = NodeId([1; 32]);
    const NEW: NodeId = NodeId([2; 32]);
    const NOW: LocalTime = LocalTime(0);

    /// The device that has the person, the new one, and what each says to whom.
    struct Two {
        old: Pairing,
        new: Pairing,
    }

    fn two() -> Two {
        Two { old: Pairing::new(OLD), new: Pairing::new(NEW) }
    }

    fn code(pairing: &Pairing) -> Option<u32> {
        match pairing.state() {
            PairState::Compare { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Carries messages until there are none; what else came out.
    fn carry(two: &mut Two, from: NodeId, outputs: Vec<PairOutput>) -> Vec<PairOutput> {
        let mut others = Vec::new();
        for output in outputs {
            match output {
                PairOutput::Send(to, message) => {
                    let receiver = if to == OLD { &mut two.old } else { &mut two.new };
                    let answers = receiver.received(NOW, from, message);
                    others.extend(carry(two, to, answers));
                }
                other => others.push(other),
            }
        }
        others
    }

    fn meet(two: &mut Two) {
        assert_eq!(two.old.wait(NOW, [3; 32]), Ok(vec![]));
        assert_eq!(two.new.call(NOW, [4; 32]), Ok(vec![]));
        let offer = two.new.reached(NOW, OLD).into_iter().collect();
        assert_eq!(carry(two, NEW, offer), []);
    }

    #[test]
    fn the_key_is_given_once_both_have_agreed_and_not_before() {
        let mut two = two();
        meet(&mut two);
        let shown = code(&two.old).expect("digits");
        assert_eq!(code(&two.new), Some(shown));
        // In either order.
        assert_eq!(two.old.confirm(NOW, shown), (vec![], Ok(())));
        let (there, result) = two.new.confirm(NOW, shown);
        assert_eq!(result, Ok(()));
        assert_eq!(carry(&mut two, NEW, there), [PairOutput::Give(NEW)]);
        let key = || PairMessage::Key {
            key: Secret(vec![1]),
            name: "anna".into(),
            display: String::new(),
        };
        let became = two.new.received(NOW, OLD, key());
        assert!(matches!(became[..], [PairOutput::Become { from: OLD, .. }]), "{became:?}");
        assert_eq!(two.new.received(NOW, OLD, key()), [], "only once");
    }

    #[test]
    fn a_key_that_nobody_has_agreed_to_is_not_taken() {
        let mut two = two();
        meet(&mut two);
        let key =
            PairMessage::Key { key: Secret(vec![1]), name: "a".into(), display: String::new() };
        let outputs = two.new.received(NOW, OLD, key);
        assert!(!outputs.iter().any(|output| matches!(output, PairOutput::Become { .. })));
        assert!(matches!(two.new.state(), PairState::Failed { .. }));
    }

    #[test]
    fn whoever_stands_between_shows_other_digits() {
        // The one between uses the same numbers on both sides: its keys alone make the difference.
        let mut two = two();
        let between = NodeId([9; 32]);
        let _ = two.old.wait(NOW, [3; 32]);
        let _ = two.new.call(NOW, [4; 32]);
        let _ = two.new.reached(NOW, between);
        let commitment = codec::pairing_commitment(&[4; 32]);
        let _ = two.old.received(NOW, between, PairMessage::Offer { commitment });
        let _ = two.new.received(NOW, between, PairMessage::Nonce { nonce: [3; 32] });
        let _ = two.old.received(NOW, between, PairMessage::Reveal { nonce: [4; 32] });
        let (old, new) = (code(&two.old), code(&two.new));
        assert!(old.is_some() && new.is_some() && old != new, "{old:?} {new:?}");
    }

    #[test]
    fn a_number_that_was_not_committed_to_ends_it() {
        let mut two = two();
        let _ = two.old.wait(NOW, [3; 32]);
        let commitment = codec::pairing_commitment(&[4; 32]);
        let _ = two.old.received(NOW, NEW, PairMessage::Offer { commitment });
        let outputs = two.old.received(NOW, NEW, PairMessage::Reveal { nonce: [5; 32] });
        assert_eq!(outputs, [PairOutput::Send(NEW, PairMessage::Cancelled)]);
        assert_eq!(code(&two.old), None);
    }

    #[test]
    fn after_three_failures_there_is_a_pause_of_a_minute() {
        let mut two = two();
        for _ in 0..3 {
            meet(&mut two);
            let shown = code(&two.old).expect("digits");
            let wrong = (shown + 1) % 1_000_000;
            let (outputs, refused) = two.old.confirm(NOW, wrong);
            assert_eq!(refused.expect_err("other digits").code, RefusalCode::AuthRequired);
            assert_eq!(carry(&mut two, OLD, outputs), []);
        }
        let refused = two.old.wait(NOW, [3; 32]).expect_err("a pause");
        assert_eq!((refused.code, refused.retry_after_ms), (RefusalCode::Cooldown, Some(60_000)));
        assert!(two.new.call(NOW, [4; 32]).is_err(), "on both");
        assert!(two.old.wait(NOW + PAUSE, [3; 32]).is_ok());
    }

    #[test]
    fn digits_count_for_a_minute() {
        let mut two = two();
        meet(&mut two);
        let shown = code(&two.old).expect("digits");
        let later = NOW + COMPARE;
        let told = two.old.handle_timeout(later);
        assert_eq!(told, [PairOutput::Send(NEW, PairMessage::Cancelled)]);
        let (_, refused) = two.old.confirm(later, shown);
        assert_eq!(refused.expect_err("over").code, RefusalCode::UpdateFailed);
    }

    #[test]
    fn who_does_not_wait_is_not_paired_with() {
        let mut two = two();
        let _ = two.new.call(NOW, [4; 32]);
        let offer = two.new.reached(NOW, OLD).into_iter().collect();
        assert_eq!(carry(&mut two, NEW, offer), []);
        assert!(matches!(two.new.state(), PairState::Failed { why } if why.contains("wait")));
        assert_eq!(two.new.failures, 0, "nobody has guessed anything");
    }
}
