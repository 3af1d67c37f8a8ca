//! The network over loopback, with real sockets at ports that the system chooses. Events are
//! waited for, with a deadline; nothing sleeps.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::LazyLock;

use quinn::{ClientConfig, Connection};

use super::*;
use crate::base::limits::{EVENT_QUEUE, MAX_PIECE, MAX_SNAPSHOT};
use crate::base::{RoomId, Term};
use crate::wire::{Probe, op};

const DEADLINE: Duration = Duration::from_secs(20);

fn clock() -> LocalTime {
    static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    let nanos = i64::try_from(START.elapsed().as_nanos()).expect("a short test");
    LocalTime(1 + nanos)
}

/// Pieces whose bytes are made of their number; odd hashes are not there.
struct Pieces;

impl BlobProvider for Pieces {
    fn piece(&self, hash: BlobHash, piece: u32) -> Result<Vec<u8>, String> {
        if hash.0[0] % 2 == 1 {
            return Err("no such blob".into());
        }
        Ok(piece_bytes(piece))
    }
}

fn piece_bytes(piece: u32) -> Vec<u8> {
    let len = if piece == 0 { MAX_PIECE } else { 1000 * piece as usize };
    (0..len).map(|i| (i + piece as usize).to_le_bytes()[0]).collect()
}

struct Node {
    net: Net,
    id: NodeId,
    events: mpsc::Receiver<NetEvent>,
}

impl Node {
    async fn start() -> Node {
        let random = ring::rand::SystemRandom::new();
        Node::with_key(Arc::new(NodeKey::generate(&random).expect("random numbers"))).await
    }

    async fn with_key(key: Arc<NodeKey>) -> Node {
        let id = key.node_id();
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        let net = Net::start(config(key), sender, Arc::new(Pieces)).await.expect("a free port");
        Node { net, id, events }
    }

    /// At another of the addresses that loopback has.
    async fn at(key: Arc<NodeKey>, ip: Ipv4Addr) -> Node {
        let id = key.node_id();
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        let config = NetConfig { bind: Some(ip.into()), ..config(key) };
        let net = Net::start(config, sender, Arc::new(Pieces)).await.expect("a free port");
        Node { net, id, events }
    }

    /// Where this node believes that one is.
    fn sees(&self, peer: NodeId) -> Option<SocketAddr> {
        self.net.shared.link(peer).map(|link| link.address())
    }

    /// Two nodes, the one with the smaller id first.
    async fn pair() -> (Node, Node) {
        let (a, b) = (Node::start().await, Node::start().await);
        if a.id < b.id { (a, b) } else { (b, a) }
    }

    /// Two nodes that are connected, dialled by the one with the smaller id.
    async fn connected() -> (Node, Node) {
        let (mut a, mut b) = Node::pair().await;
        a.net.dial(b.address(), Some(b.id));
        a.until_connected(b.id).await;
        b.until_connected(a.id).await;
        (a, b)
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.net.local_port())
    }

    async fn next(&mut self) -> NetEvent {
        tokio::time::timeout(DEADLINE, self.events.recv())
            .await
            .expect("an event in time")
            .expect("a running network")
    }

    async fn until_connected(&mut self, peer: NodeId) -> (SocketAddr, Hello) {
        match self.next().await {
            NetEvent::Connected { peer: who, address, hello, .. } if who == peer => {
                (address, hello)
            }
            other => panic!("expected the connection, got {other:?}"),
        }
    }

    async fn until_lost(&mut self, peer: NodeId) -> String {
        match self.next().await {
            NetEvent::Lost { peer: who, reason } if who == peer => reason,
            other => panic!("expected the loss, got {other:?}"),
        }
    }

    async fn until_refused(&mut self) -> String {
        match self.next().await {
            NetEvent::Refused { reason, .. } => reason,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    async fn until_dial_failed(&mut self) -> String {
        match self.next().await {
            NetEvent::DialFailed { reason, .. } => reason,
            other => panic!("expected a failed dial, got {other:?}"),
        }
    }

    async fn until_message(&mut self, from: NodeId) -> Message {
        match self.next().await {
            NetEvent::Message { from: who, message } if who == from => message,
            other => panic!("expected a message, got {other:?}"),
        }
    }

    /// A stranger's connection to this node, spoken by hand.
    async fn stranger(
        &self,
        key: &NodeKey,
        alpn: &[u8],
    ) -> Result<Stranger, quinn::ConnectionError> {
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let tls = Identity::new(key).expect("a key").client(alpn).expect("a key");
        let connecting = endpoint
            .connect_with(ClientConfig::new(tls), self.address(), tls::SERVER_NAME)
            .expect("a good address");
        Ok(Stranger { connection: connecting.await?, endpoint })
    }
}

struct Stranger {
    connection: Connection,
    endpoint: Endpoint,
}

impl Stranger {
    /// Opens the stream and writes these bytes.
    async fn write(&self, bytes: &[u8]) -> (quinn::SendStream, quinn::RecvStream) {
        let (mut send, recv) = self.connection.open_bi().await.expect("a stream");
        send.write_all(bytes).await.expect("an open stream");
        (send, recv)
    }
}

fn config(key: Arc<NodeKey>) -> NetConfig {
    NetConfig {
        hello: hello(key.node_id(), "test"),
        key,
        bind: Some(Ipv4Addr::LOCALHOST.into()),
        port: 0,
        port_required: false,
        clock,
        mdns: false,
    }
}

fn hello(node: NodeId, name: &str) -> Hello {
    Hello { node, boot: 1, name: name.into(), version: "0".into(), port: 0, room: None }
}

fn key() -> NodeKey {
    NodeKey::generate(&ring::rand::SystemRandom::new()).expect("random numbers")
}

fn frame(message: &Message) -> Vec<u8> {
    codec::encode_message(message).expect("a short message")
}

fn probe() -> Probe {
    Probe { seq: 7, source: Term::ZERO, t1: LocalTime(0) }
}

#[tokio::test]
async fn two_nodes_greet_each_other_and_exchange_messages_in_order() {
    let (mut a, mut b) = Node::pair().await;
    b.net.dial(a.address(), None);
    let (address, hello) = b.until_connected(a.id).await;
    assert_eq!(address, a.address());
    assert_eq!((hello.node, hello.port), (a.id, a.net.local_port()));
    let (address, hello) = a.until_connected(b.id).await;
    assert_eq!(address, b.address());
    assert_eq!((hello.node, hello.port), (b.id, b.net.local_port()));
    let long = Message::NeedSnapshot { room: RoomId([1; 32]) };
    for message in [&long, &Message::Bye, &long] {
        a.net.send(b.id, message);
        b.net.send(a.id, message);
    }
    for expected in [&long, &Message::Bye, &long] {
        assert_eq!(&b.until_message(a.id).await, expected);
        assert_eq!(&a.until_message(b.id).await, expected);
    }
}

#[tokio::test]
async fn a_whole_snapshot_goes_through() {
    let (a, mut b) = Node::connected().await;
    let snapshot = Message::Snapshot(crate::wire::message::Snapshot {
        genesis: op::Genesis {
            founder: a.id,
            nonce: [1; 16],
            name: "Kitchen".into(),
            code: "GROOVE-7KQ4".into(),
            unattended: true,
            signature: ([0; 32], [0; 32]),
        },
        term: Term::ZERO,
        idx: 1,
        last_term: Term::ZERO,
        chain: [0; 16],
        state: vec![7; MAX_SNAPSHOT - 1024],
    });
    a.net.send(b.id, &snapshot);
    assert_eq!(b.until_message(a.id).await, snapshot);
}

/// Everything that happens at both nodes until a message of each has reached the other.
async fn settle(a: &mut Node, b: &mut Node) -> BTreeMap<(bool, &'static str), usize> {
    let mut counts = BTreeMap::new();
    let mut heard = [false; 2];
    while heard != [true; 2] {
        let (at_a, event) = tokio::select! {
            event = a.next() => (true, event),
            event = b.next() => (false, event),
        };
        let kind = match event {
            NetEvent::Connected { peer, .. } => {
                let net = if at_a { &a.net } else { &b.net };
                net.send(peer, &Message::Bye);
                "connected"
            }
            NetEvent::Message { .. } => {
                heard[usize::from(at_a)] = true;
                "message"
            }
            _ => "other",
        };
        *counts.entry((at_a, kind)).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_simultaneous_dials_one_connection_stays_and_nobody_notices() {
    let once = BTreeMap::from([
        ((false, "connected"), 1),
        ((false, "message"), 1),
        ((true, "connected"), 1),
        ((true, "message"), 1),
    ]);
    for round in 0..20 {
        let (mut a, mut b) = Node::pair().await;
        // Either may be first; the address of one is known without its node.
        let (first, second) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        first.net.dial(second.address(), None);
        second.net.dial(first.address(), Some(first.id));
        assert_eq!(settle(&mut a, &mut b).await, once, "round {round}");
        // Whatever the loser of the two dials still does, it makes no event before this.
        a.net.send(b.id, &Message::Card(None));
        b.net.send(a.id, &Message::Card(None));
        assert_eq!(a.until_message(b.id).await, Message::Card(None));
        assert_eq!(b.until_message(a.id).await, Message::Card(None));
    }
}

#[tokio::test]
async fn dialling_a_connected_node_again_does_nothing() {
    let (mut a, mut b) = Node::connected().await;
    a.net.dial(b.address(), None);
    b.net.dial(a.address(), Some(a.id));
    a.net.send(b.id, &Message::Bye);
    b.net.send(a.id, &Message::Bye);
    assert_eq!(b.until_message(a.id).await, Message::Bye);
    assert_eq!(a.until_message(b.id).await, Message::Bye);
}

#[tokio::test]
async fn another_version_is_refused_with_a_reason_at_both_ends() {
    let mut a = Node::start().await;
    let outcome = a.stranger(&key(), b"groovebox/999").await;
    let told = close::describe(&outcome.err().expect("no common protocol"));
    assert!(told.contains("another version of the protocol"), "{told}");
    let reason = a.until_refused().await;
    assert!(reason.contains("another version of the protocol than groovebox/7"), "{reason}");
}

#[tokio::test]
async fn a_hello_in_another_nodes_name_is_refused() {
    let mut a = Node::start().await;
    let stranger = a.stranger(&key(), ALPN).await.expect("a valid key");
    let _streams = stranger.write(&frame(&Message::Hello(hello(NodeId([9; 32]), "liar")))).await;
    let reason = a.until_refused().await;
    assert!(reason.contains("another node than its key"), "{reason}");
    let told = close::describe(&stranger.connection.closed().await);
    assert!(told.contains("another node than its key"), "{told}");
}

#[tokio::test]
async fn garbage_instead_of_a_hello_is_refused() {
    for (bytes, expected) in [
        (frame(&Message::Bye), "did not begin with a hello"),
        (vec![0xff; 64], "its hello is malformed: 4294967295 bytes"),
        (vec![0, 0, 0, 3, 9, 9, 9], "its hello is malformed"),
    ] {
        let mut a = Node::start().await;
        let stranger = a.stranger(&key(), ALPN).await.expect("a valid key");
        let _streams = stranger.write(&bytes).await;
        let reason = a.until_refused().await;
        assert!(reason.contains(expected), "{reason}");
    }
}

#[tokio::test]
async fn garbage_after_the_hello_closes_the_connection() {
    for garbage in
        [vec![0xff; 8], vec![0, 0, 0, 1, 0xff], frame(&Message::Hello(hello(NodeId([0; 32]), "")))]
    {
        let mut a = Node::start().await;
        let key = key();
        let stranger = a.stranger(&key, ALPN).await.expect("a valid key");
        let greeting = frame(&Message::Hello(hello(key.node_id(), "stranger")));
        let (mut send, mut recv) = stranger.write(&greeting).await;
        let mut first = [0; 4];
        recv.read_exact(&mut first).await.expect("the hello of the node");
        a.until_connected(key.node_id()).await;
        send.write_all(&garbage).await.expect("an open stream");
        let reason = a.until_lost(key.node_id()).await;
        assert!(reason.contains("malformed"), "{reason}");
        let told = close::describe(&stranger.connection.closed().await);
        assert!(told.contains("it closed the connection: "), "{told}");
        drop(stranger.endpoint);
    }
}

#[tokio::test]
async fn what_a_later_version_says_is_left_out_and_the_connection_stays() {
    let mut a = Node::start().await;
    let key = key();
    let stranger = a.stranger(&key, ALPN).await.expect("a valid key");
    let greeting = frame(&Message::Hello(hello(key.node_id(), "later")));
    let (mut send, _recv) = stranger.write(&greeting).await;
    a.until_connected(key.node_id()).await;
    let unknown = |number: u32| [&number.to_le_bytes()[..], &[1, 2, 3]].concat();
    let datagram = unknown(Datagram::KINDS);
    stranger.connection.send_datagram(datagram.into()).expect("datagrams");
    let body = unknown(Message::KINDS + 4);
    let later = [&[0, 0, 0, 7][..], &body].concat();
    send.write_all(&[later.clone(), frame(&Message::Bye), later].concat()).await.expect("open");
    assert_eq!(a.until_message(key.node_id()).await, Message::Bye);
    send.write_all(&frame(&Message::Bye)).await.expect("an open stream");
    assert_eq!(a.until_message(key.node_id()).await, Message::Bye);
    assert!(a.net.skipped(key.node_id()) >= 2, "the datagram may have been lost");
}

#[tokio::test]
async fn a_malformed_datagram_closes_the_connection() {
    let mut a = Node::start().await;
    let key = key();
    let stranger = a.stranger(&key, ALPN).await.expect("a valid key");
    let greeting = frame(&Message::Hello(hello(key.node_id(), "stranger")));
    let _streams = stranger.write(&greeting).await;
    a.until_connected(key.node_id()).await;
    stranger.connection.send_datagram(Bytes::from_static(&[0; 9])).expect("datagrams");
    let reason = a.until_lost(key.node_id()).await;
    assert!(reason.contains("malformed: datagram"), "{reason}");
}

#[tokio::test]
async fn datagrams_carry_stamps_of_sending_and_arrival() {
    let (mut a, mut b) = Node::connected().await;
    let before = clock();
    a.net.send_datagram(b.id, Datagram::Probe(probe()));
    let NetEvent::Datagram { from, datagram: Datagram::Probe(heard), at } = b.next().await else {
        panic!("expected the probe");
    };
    assert_eq!((from, heard.seq), (a.id, 7));
    assert!(before <= heard.t1 && heard.t1 <= at && at <= clock(), "{before:?} {heard:?} {at:?}");
    let reply = crate::wire::ProbeReply {
        seq: heard.seq,
        source: heard.source,
        t1: heard.t1,
        t2: at,
        t3: LocalTime(0),
        line: crate::wire::RoomLine {
            epoch: 1,
            local0: LocalTime(0),
            room0: crate::base::RoomTime(0),
            rate: 0.0,
            sigma: 0.0,
            rate_sigma: 0.0,
            asymmetry: 0.0,
        },
    };
    b.net.send_datagram(a.id, Datagram::ProbeReply(reply));
    let NetEvent::Datagram { datagram: Datagram::ProbeReply(reply), at: t4, .. } = a.next().await
    else {
        panic!("expected the reply");
    };
    assert!(reply.t2 <= reply.t3 && reply.t3 <= t4 && t4 <= clock(), "{reply:?} {t4:?}");
}

#[tokio::test]
async fn pieces_are_fetched_both_ways_and_counted() {
    let (a, b) = Node::connected().await;
    let hash = BlobHash([2; 32]);
    for piece in [0, 1, 2] {
        let bytes = a.net.fetch(b.id, hash, piece).await.expect("a piece that is there");
        assert_eq!(bytes, piece_bytes(piece));
    }
    let bytes = b.net.fetch(a.id, hash, 3).await.expect("a piece that is there");
    assert_eq!(bytes, piece_bytes(3));
    let (sent, received) = a.net.bulk_counters(b.id);
    assert_eq!((received, sent), b.net.bulk_counters(a.id));
    let (low, high) = (MAX_PIECE as u64 + 3000, MAX_PIECE as u64 + 3000 + 300);
    assert!((low..high).contains(&received), "{received}");
    assert!((3000..3300).contains(&sent), "{sent}");
}

#[tokio::test]
async fn a_piece_that_is_not_there_is_refused_with_the_holders_reason() {
    let (a, b) = Node::connected().await;
    let outcome = a.net.fetch(b.id, BlobHash([1; 32]), 0).await;
    let Err(NetError::PieceRefused { reason }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(reason, "no such blob");
}

#[tokio::test]
async fn many_pieces_are_fetched_at_once() {
    let (a, b) = Node::connected().await;
    let fetches = (1..=40).map(|piece| {
        let (fetcher, peer) = (a.net.fetcher(), b.id);
        async move { fetcher.fetch(peer, BlobHash([0; 32]), piece).await }
    });
    let pieces = futures_util::future::join_all(fetches).await;
    for (piece, bytes) in (1..).zip(pieces) {
        assert_eq!(bytes.expect("a piece that is there"), piece_bytes(piece));
    }
}

#[tokio::test]
async fn a_stranger_gets_no_pieces() {
    let a = Node::start().await;
    let stranger = a.stranger(&key(), BULK_ALPN).await.expect("a valid key");
    let told = close::describe(&stranger.connection.closed().await);
    assert!(told.contains("say hello first"), "{told}");
}

#[tokio::test]
async fn nobody_is_asked_who_is_not_there() {
    let a = Node::start().await;
    let outcome = a.net.fetch(NodeId([1; 32]), BlobHash([0; 32]), 0).await;
    assert!(matches!(outcome, Err(NetError::NotConnected { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_node_that_stops_is_lost_at_once() {
    let (mut a, b) = Node::connected().await;
    let id = b.id;
    drop(b);
    let reason = a.until_lost(id).await;
    assert!(reason.contains("stopped"), "{reason}");
}

#[tokio::test]
async fn a_farewell_is_heard_before_the_end() {
    let (mut a, b) = Node::connected().await;
    b.net.send(a.id, &Message::Bye);
    let id = b.id;
    b.net.shutdown().await;
    assert_eq!(a.until_message(id).await, Message::Bye);
    let reason = a.until_lost(id).await;
    assert!(reason.contains("shutting down"), "{reason}");
}

#[tokio::test]
async fn closing_sends_what_is_queued_and_tells_both() {
    let (mut a, mut b) = Node::connected().await;
    a.net.send(b.id, &Message::Bye);
    a.net.close(b.id, "you are in another room");
    assert_eq!(b.until_message(a.id).await, Message::Bye);
    let reason = b.until_lost(a.id).await;
    assert_eq!(reason, "it closed the connection: you are in another room");
    let reason = a.until_lost(b.id).await;
    assert_eq!(reason, "closed by this device: you are in another room");
    b.net.dial(a.address(), Some(a.id));
    b.until_connected(a.id).await;
    a.until_connected(b.id).await;
}

#[tokio::test]
async fn a_restarted_peer_replaces_its_former_self() {
    for order in [Ordering::Less, Ordering::Greater] {
        let mut a = Node::start().await;
        let keys = std::iter::repeat_with(key);
        let key = keys.take(1000).find(|key| key.node_id().cmp(&a.id) == order);
        replace_former_self(&mut a, &key.expect("both orders are common")).await;
    }
}

async fn replace_former_self(a: &mut Node, key: &NodeKey) {
    let former = a.stranger(key, ALPN).await.expect("a valid key");
    let mut greeting = hello(key.node_id(), "former");
    let _former_streams = former.write(&frame(&Message::Hello(greeting.clone()))).await;
    a.until_connected(key.node_id()).await;
    greeting.boot += 1;
    let again = a.stranger(key, ALPN).await.expect("a valid key");
    let _again_streams = again.write(&frame(&Message::Hello(greeting))).await;
    a.until_lost(key.node_id()).await;
    let (_, hello) = a.until_connected(key.node_id()).await;
    assert_eq!(hello.boot, 2);
}

#[tokio::test]
async fn whoever_dials_himself_is_told() {
    let mut a = Node::start().await;
    a.net.dial(a.address(), None);
    let reason = a.until_dial_failed().await;
    assert!(reason.contains("this device itself"), "{reason}");
}

#[tokio::test]
async fn another_node_at_the_address_is_not_taken_for_the_one_meant() {
    let (mut a, b) = Node::pair().await;
    a.net.dial(b.address(), Some(NodeId([5; 32])));
    let reason = a.until_dial_failed().await;
    assert!(reason.contains("another device answers"), "{reason}");
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_closed_and_costs_no_more_memory() {
    let mut a = Node::start().await;
    let key = key();
    let stranger = a.stranger(&key, ALPN).await.expect("a valid key");
    let greeting = frame(&Message::Hello(hello(key.node_id(), "deaf")));
    let _streams = stranger.write(&greeting).await;
    a.until_connected(key.node_id()).await;
    let long = Message::Have { hash: BlobHash([0; 32]), pieces: vec![1; 60_000] };
    for _ in 0..2000 {
        a.net.send(key.node_id(), &long);
    }
    a.until_lost(key.node_id()).await;
    let told = close::describe(&stranger.connection.closed().await);
    assert!(told.contains("you read too slowly"), "{told}");
}

/// A device that moves, with the smaller id, and one that stays.
async fn moving_and_staying() -> (Node, Node) {
    let random = ring::rand::SystemRandom::new();
    let key = || Arc::new(NodeKey::generate(&random).expect("random numbers"));
    let (a, b) = (key(), key());
    let (moves, stays) = if a.node_id() < b.node_id() { (a, b) } else { (b, a) };
    (Node::at(moves, Ipv4Addr::new(127, 0, 0, 2)).await, Node::with_key(stays).await)
}

/// Takes a node from 127.0.0.2 to 127.0.0.3.
fn move_away(node: &Node) {
    let [before, after] = [2, 3].map(|n| IpAddr::V4(Ipv4Addr::new(127, 0, 0, n)));
    let socket = socket::bind(Some(after), node.net.local_port(), IfTaken::Fail);
    let socket = MarkedSocket::new(socket.expect("a free port")).expect("a UDP socket");
    node.net.move_to(Arc::new(socket), before).expect("a socket");
}

#[tokio::test]
async fn what_a_device_dialled_moves_with_it_to_another_address() {
    let (mut moves, mut stays) = moving_and_staying().await;
    moves.net.dial(stays.address(), Some(stays.id));
    moves.until_connected(stays.id).await;
    let (address, _) = stays.until_connected(moves.id).await;
    assert_eq!(address.ip(), Ipv4Addr::new(127, 0, 0, 2));
    let since = Instant::now();
    move_away(&moves);
    moves.net.send(stays.id, &Message::Bye);
    assert_eq!(stays.until_message(moves.id).await, Message::Bye);
    stays.net.send(moves.id, &Message::Bye);
    assert_eq!(moves.until_message(stays.id).await, Message::Bye);
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    let seen = stays.sees(moves.id).expect("still connected");
    assert_eq!(seen.ip(), Ipv4Addr::new(127, 0, 0, 3));
}

#[tokio::test]
async fn a_device_that_was_dialled_dials_from_its_new_address() {
    let (mut moves, mut stays) = moving_and_staying().await;
    let before = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), moves.net.local_port());
    stays.net.dial(before, Some(moves.id));
    moves.until_connected(stays.id).await;
    stays.until_connected(moves.id).await;
    let since = Instant::now();
    move_away(&moves);
    moves.until_lost(stays.id).await;
    moves.until_connected(stays.id).await;
    stays.until_lost(moves.id).await;
    let (address, _) = stays.until_connected(moves.id).await;
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    assert_eq!(address.ip(), Ipv4Addr::new(127, 0, 0, 3));
}
