//! Pairing a second device: what the machine in `engine/pairing.rs` needs of the node.

use std::net::SocketAddr;

use super::{LocalTime, Message, Node, NodeId, Output, RequestId};
use crate::engine::pairing::{PairCommand, PairOutput, PairState};
use crate::engine::room::is_user_name;
use crate::engine::status::PairingStatus;
use crate::identity::{LocalUser, UserKey};
use crate::wire::person::{PairMessage, Secret};
use crate::wire::{Refusal, RefusalCode};

type Fits<'a> = dyn Fn(&NodeId, &super::Peer) -> bool + 'a;

impl Node {
    pub(super) fn carry_out_pair(
        &mut self,
        now: LocalTime,
        id: RequestId,
        command: PairCommand,
    ) -> Result<(), Refusal> {
        match command {
            PairCommand::Wait { nonce } => {
                let Some(user) = &self.user else { return Err(no_person()) };
                let message = format!(
                    "waiting for a second device of {}: `groovebox user pair {}` there",
                    user.name, self.name
                );
                let outputs = self.pairing.wait(now, nonce)?;
                self.pairing_says(now, outputs);
                self.reply_done(id, message);
            }
            PairCommand::Call { device, nonce } => self.call_device(now, id, &device, nonce)?,
            PairCommand::Confirm { code } => {
                let (outputs, result) = self.pairing.confirm(now, code);
                self.pairing_says(now, outputs);
                result?;
                let message = match self.pairing.state() {
                    PairState::Done { .. } => "paired",
                    _ => "confirmed here; waiting for the other device",
                };
                self.reply_done(id, message.into());
            }
            PairCommand::Cancel => {
                let outputs = self.pairing.cancel(now);
                self.pairing_says(now, outputs);
                self.reply_done(id, "cancelled".into());
            }
        }
        Ok(())
    }

    fn call_device(
        &mut self,
        now: LocalTime,
        id: RequestId,
        device: &str,
        nonce: [u8; 32],
    ) -> Result<(), Refusal> {
        if let Some(user) = &self.user {
            return Err(Refusal::new(
                RefusalCode::UpdateFailed,
                format!("this device is {}'s; with another person it would lose that", user.name),
                "if that is meant: `groovebox user forget`, and then pair it",
            ));
        }
        let (peer, address) = match device.trim().parse::<SocketAddr>() {
            Ok(address) => (None, Some(address)),
            Err(_) => (Some(self.device_named(device)?), None),
        };
        let outputs = self.pairing.call(now, nonce)?;
        self.pairing_says(now, outputs);
        self.pair_address = address;
        if let Some(peer) = peer {
            let offer = self.pairing.reached(now, peer);
            self.pairing_says(now, offer);
        } else if let Some(address) = address {
            self.outputs.push_back(Output::Dial { address, node: None });
            self.look_for_called(now);
        }
        self.reply_done(id, "calling the other device".into());
        Ok(())
    }

    /// A connected device by its name, its person's name, or its id.
    fn device_named(&self, text: &str) -> Result<NodeId, Refusal> {
        let wanted = text.trim().to_lowercase();
        let of_person = |node: &NodeId| {
            let state = self.room.as_ref()?.state();
            let user = state.member(node)?.user?;
            Some(state.person_name(&user).to_lowercase())
        };
        let by_name = |_: &NodeId, peer: &super::Peer| peer.name.to_lowercase() == wanted;
        let by_person = |node: &NodeId, _: &super::Peer| of_person(node).as_ref() == Some(&wanted);
        let by_id = |node: &NodeId, _: &super::Peer| {
            wanted.len() >= 6 && node.to_string().starts_with(&wanted)
        };
        let rules: [&Fits<'_>; 3] = [&by_name, &by_person, &by_id];
        for rule in rules {
            let found = self.peers.iter().filter(|(node, peer)| rule(node, peer));
            let found = found.map(|(node, _)| *node);
            match found.collect::<Vec<_>>()[..] {
                [] => {}
                [one] => return Ok(one),
                ref several => {
                    let ids = several.iter().map(NodeId::short).collect::<Vec<_>>().join(", ");
                    return Err(Refusal::new(
                        RefusalCode::InvalidRequest,
                        format!("{} devices are called {text:?}", several.len()),
                        format!("name one by its id; they begin with {ids}"),
                    ));
                }
            }
        }
        Err(Refusal::new(
            RefusalCode::NotFound,
            format!("no device {text:?} is connected"),
            "`groovebox peers` lists those that are; `host:port` works too",
        ))
    }

    /// Whether the device of the address that was called is connected by now.
    fn look_for_called(&mut self, now: LocalTime) {
        let Some(address) = self.pair_address.filter(|_| self.pairing.is_looking()) else { return };
        let is_there = |peer: &crate::engine::membership::KnownPeer<'_>| {
            peer.connected && peer.address == Some(address)
        };
        let there = self.membership.peers().find(is_there).map(|peer| peer.node);
        if let Some(peer) = there {
            let offer = self.pairing.reached(now, peer);
            self.pairing_says(now, offer);
        }
    }

    pub(super) fn look_after_pairing(&mut self, now: LocalTime) {
        self.look_for_called(now);
        let outputs = self.pairing.handle_timeout(now);
        self.pairing_says(now, outputs);
    }

    pub(super) fn pair_message_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        message: PairMessage,
    ) {
        let outputs = self.pairing.received(now, from, message);
        self.pairing_says(now, outputs);
    }

    fn pairing_says(&mut self, now: LocalTime, outputs: impl IntoIterator<Item = PairOutput>) {
        for output in outputs {
            match output {
                PairOutput::Send(to, message) => self.send(to, Message::Pair(message)),
                PairOutput::Give(to) => self.give_person(to),
                PairOutput::Become { from, key, name, display } => {
                    self.become_paired(now, from, &key, name, display);
                }
            }
        }
    }

    fn give_person(&mut self, to: NodeId) {
        let Some(user) = &self.user else { return };
        let key = Secret(user.key.pkcs8().to_vec());
        let (name, display) = (user.name.clone(), user.display.clone());
        self.send(to, Message::Pair(PairMessage::Key { key, name, display }));
        self.note_own_device(to);
        tracing::info!(device = %self.name_of(to), "this person is on another device now");
    }

    fn become_paired(
        &mut self,
        now: LocalTime,
        from: NodeId,
        key: &Secret,
        name: String,
        display: String,
    ) {
        let Ok(key) = UserKey::from_pkcs8(&key.0) else {
            tracing::warn!(peer = %from.short(), "a person's key that cannot be used");
            return;
        };
        if self.user.is_some() || !is_user_name(&name) {
            return;
        }
        let user = LocalUser { key: std::sync::Arc::new(key), name, display };
        if let Err(refusal) = self.take_user(now, None, Some(user)) {
            tracing::warn!(%refusal, "the room does not take the person yet");
        }
        self.note_own_device(from);
    }

    pub(super) fn pairing_status(&self) -> PairingStatus {
        let device = |peer: NodeId| Some(self.name_of(peer));
        match self.pairing.state() {
            PairState::Idle => PairingStatus::of("idle"),
            PairState::Waiting => PairingStatus::of("waiting"),
            PairState::Calling => PairingStatus::of("calling"),
            PairState::Compare { code, agreed, peer } => PairingStatus {
                code: Some(format!("{code:06}")),
                device: device(peer),
                ..PairingStatus::of(if agreed { "agreed" } else { "compare" })
            },
            PairState::Done { peer } => {
                PairingStatus { device: device(peer), ..PairingStatus::of("done") }
            }
            PairState::Failed { why } => {
                PairingStatus { why: Some(why), ..PairingStatus::of("failed") }
            }
        }
    }
}

fn no_person() -> Refusal {
    Refusal::new(
        RefusalCode::NoUser,
        "this device has no person to share with another one",
        "`groovebox user pair DEVICE` makes it a second device of the person of DEVICE; \
         `groovebox user set NAME` gives it one of its own",
    )
}
