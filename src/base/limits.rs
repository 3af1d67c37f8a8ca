//! Every limit on what comes from outside, in one place, each with its reason.

use super::time::Span;

/// Bytes of a control frame: the largest operation and what surrounds it. A hostile length
/// costs at most this much memory.
pub const MAX_FRAME: usize = 320 * 1024;

/// Bytes of a frame that carries a whole room state. Full to the last of its bounds it is 6 MB:
/// a queue of 1,000 entries of 2 KiB and 32 votes for each 3.4, what its authors have
/// done 1.2, people, chat, bans and history the rest. A party's is some 100 KB.
pub const MAX_SNAPSHOT: usize = 8 * 1024 * 1024;

/// Bytes of a datagram. QUIC guarantees about 1,160 at the start of a connection.
pub const MAX_DATAGRAM: usize = 1100;

/// Friends of a person: more than anybody has at one party, and their certificates are some
/// 100 KiB.
pub const MAX_FRIENDS: usize = 256;

/// Requests to be friends that are open, each way. Whoever sends them by the thousand fills a list
/// that a person can still read through.
pub const MAX_FRIEND_REQUESTS: usize = 64;

/// People with whom something has ended: that an old certificate is worth nothing must be known
/// for longer than the friendship was. The ones of the longest ago make way.
pub const MAX_ENDED_FRIENDSHIPS: usize = 512;

/// Devices remembered of one person: a phone, a laptop and a few boxes. The latest stay.
pub const MAX_DEVICES_OF_PERSON: usize = 8;

/// Things about people in one message between devices of one person: below 64 KiB.
pub const MAX_KEPT_PER_MESSAGE: usize = 64;

/// Requests to be friends that a person may make in an hour, and that are taken of one.
pub const FRIEND_REQUESTS_PER_HOUR: usize = 10;

/// People found by one search: more would not be read.
pub const MAX_FOUND: usize = 32;

/// Ended friendships that one operation tells a room of.
pub const MAX_ENDED_AT_ONCE: usize = 64;

/// The latest instant at which a friendship is believed to have begun, Unix seconds: 34,000 years
/// on. Keeps what is added to it away from the end of its range.
pub const MAX_SINCE: u64 = 1 << 40;

/// Bytes of an operation's body: a folder of [`MAX_TRACKS_PER_ADD`] tracks with ordinary tags
/// (some 300 bytes each) is one operation.
pub const MAX_OP_BODY: usize = 256 * 1024;

/// Log entries in one append: with [`MAX_OP_BODY`] the frame limit may bind earlier.
pub const MAX_ENTRIES_PER_APPEND: usize = 256;

/// Characters of a name of a device, a person or a room.
pub const MAX_NAME: usize = 64;

/// Characters of a person's name: what one can say and type.
pub const MAX_USER_NAME: usize = 32;

/// At least so many: one letter would be everybody's beginning.
pub const MIN_USER_NAME: usize = 2;

/// Bytes of a room's password: a long sentence in any script.
pub const MAX_PASSWORD: usize = 256;

/// Characters of a word in the chat.
pub const MAX_CHAT: usize = 500;

/// Words of the chat kept in a room's state; the disk keeps more.
pub const MAX_CHAT_KEPT: usize = 500;

/// Bytes of these words together, so that a chat in any script leaves a snapshot most of its
/// room.
pub const MAX_CHAT_BYTES: usize = 256 * 1024;

/// Words of the chat kept on disk, for thirty days at most: 3 MiB of ordinary talk.
pub const MAX_CHAT_ON_DISK: usize = 10_000;

/// DJs and votes of the past that a room's state remembers.
pub const MAX_REMEMBERED: usize = 50;

/// People who want one entry of the queue earlier: more change nothing, and a full queue must fit
/// into a snapshot.
pub const MAX_UP_VOTES: usize = 32;

/// People and devices that a room keeps out.
pub const MAX_BANNED: usize = 1024;

/// Cool-downs and bars remembered at a time; all that could be running in a full room.
pub const MAX_DEADLINES: usize = 4 * MAX_MEMBERS;

/// Characters of a room's code as others show it: the longest that a state may have. Codes made
/// here have 11.
pub const MAX_CODE: usize = MAX_NAME;

/// Characters of the version that a device shows of itself: a number and where it was built.
pub const MAX_VERSION: usize = 64;

/// Characters of a title, an artist or an album; longer tags are cut.
pub const MAX_TAG: usize = 200;

/// Artists named by one track; the others are cut.
pub const MAX_ARTISTS: usize = 8;

/// Bytes of all text of one track together. With it a queue entry stays below the 2 KiB and a
/// little that [`MAX_SNAPSHOT`] counts on, even where every letter takes four bytes.
pub const MAX_TRACK_TEXT: usize = 2048;

/// Characters of a reason that is shown to people.
pub const MAX_REASON: usize = 300;

/// Tracks one `play` or `queue add` may bring: one folder, one event.
pub const MAX_TRACKS_PER_ADD: usize = 500;

/// Unplayed entries of a room's queue.
pub const MAX_QUEUE: usize = 1000;

/// Devices of a room.
pub const MAX_MEMBERS: usize = 256;

/// Played entries remembered for "previous".
pub const MAX_PLAYED: usize = 50;

/// What was played last, kept in the room's state until every device has written it down. A device
/// that was away for longer has not heard it either.
pub const MAX_HEARD: usize = 32;

/// How many different tracks a room remembers to have been played lately: half an hour of one each
/// seven seconds.
pub const MAX_LATELY: usize = 256;

/// How often entries follow each other by repetition alone until somebody, or the coordinator's
/// next entry, shows that there is still a room: weeks of music. It bounds the work of moving a
/// state on, however far.
pub const MAX_REPEATS: u32 = 10_000;

/// A shorter track is played once even where all is repeated: nobody could hear it as music, and
/// thousands a second would have to be prepared.
pub const MIN_REPEATED: Span = Span::from_secs(1);

/// Unavailable entries that are looked out for at a time. When the first of them are back the
/// next get their turn.
pub const MAX_WATCHED: usize = 64;

/// Operations remembered with their place in the room's state, so that one that is offered again
/// after a change of coordinator is answered with it. Offers are repeated for seconds; 60 people
/// at 60 operations a minute fill it in 8 s.
pub const MAX_RECENT_OPS: usize = 512;

/// Authors whose operations are remembered by number, so that none is applied twice however late
/// it is offered again: all members, and as many who have left.
pub const MAX_SEEN_AUTHORS: usize = 2 * MAX_MEMBERS;

/// Starts of one author that are told apart. Operations of an earlier start count as done: they
/// have been offered for as long as it takes to restart a device four times.
pub const MAX_SEEN_BOOTS: usize = 4;

/// Stretches of numbers remembered of one start. A refused operation leaves a hole between two;
/// beyond this many the oldest hole is taken to be filled.
pub const MAX_SEEN_RANGES: usize = 32;

/// How old a command to play, pause, skip, seek or stop may be when it takes effect. Whoever
/// pressed the button has long done something else; it is also how long a person waits for an
/// answer.
pub const PLAY_STALE: Span = Span::from_secs(5);

/// Bytes of the bodies of operations that wait to be offered.
pub const MAX_OUTBOX_BYTES: usize = LOG_TAIL_BYTES;

/// Bytes of one message of operations offered again. Small, so that it never holds up what
/// travels behind it; a single operation that is larger goes alone.
pub const MAX_ORPHANS: usize = 64 * 1024;

/// Places of a log by which two nodes find where their logs part: twice the logarithm of
/// [`LOG_TAIL`] and some more.
pub const MAX_PLACES: usize = 32;

/// Operations that a merge dropped, kept for `groovebox log`.
pub const MAX_DROPPED: usize = 64;

/// Entries that `groovebox log` shows unless it is told otherwise.
pub const LOG_SHOWN: usize = 100;

/// Entries read from disk that are put into words at a time: a few milliseconds of the loop that
/// everything else waits for.
pub const LOG_WORDED: usize = 256;

/// Entries between two states kept in memory, to which a log can be wound back. Replaying so many
/// takes a few milliseconds.
pub const CHECKPOINT_EVERY: u64 = 256;

/// How many such states are kept: of at most 2 MiB each.
pub const CHECKPOINTS: usize = 4;

/// The index beyond which nobody is believed to have a log: a million entries a second for
/// nine years. Keeps counting away from the end of its range.
pub const MAX_LOG_IDX: u64 = 1 << 48;

/// Log entries kept in memory for members that lag; who lags more gets a snapshot.
pub const LOG_TAIL: usize = 4096;

/// Bytes of operation bodies kept in that tail: folders are large, everything else is small.
pub const LOG_TAIL_BYTES: usize = 8 * 1024 * 1024;

/// Entries of the log kept on disk: what was done in a room during some weeks of ordinary use,
/// some 8 MiB.
pub const LOG_KEPT: u64 = 20_000;

/// Bytes of these entries, for rooms into which whole folders are put: a card that reads 20 MB a
/// second looks through them in less than two when the daemon starts.
pub const LOG_KEPT_BYTES: u64 = 32 * 1024 * 1024;

/// How long ago an entry may have taken effect before the last one to be kept: operations so old
/// are of no use to anybody.
pub const LOG_KEPT_FOR: Span = Span::from_secs(7 * 24 * 3600);

/// Peers remembered on disk: a full room's worth.
pub const MAX_KNOWN_PEERS: usize = 256;

/// Rooms remembered that a device was in: a few houses and many parties.
pub const MAX_KNOWN_ROOMS: usize = 64;

/// Writes waiting for the disk. At a few a second this is minutes of a stalled SD card.
pub const STORE_QUEUE: usize = 1024;

/// Bytes waiting for the disk: a few of the largest snapshots.
pub const STORE_QUEUE_BYTES: usize = 32 * 1024 * 1024;

/// Operations remembered whose entries a coordinator's whole state has replaced: what happened
/// between the last few meetings of halves. Older ones have been in everybody's log for long.
pub const MAX_COVERED: usize = 512;

/// Bytes of their bodies.
pub const MAX_COVERED_BYTES: usize = 1024 * 1024;

/// Operations kept on disk that wait to be offered to a coordinator: as many as the tail of the
/// log can hold, because a branch that is cut off comes from there.
pub const MAX_OUTBOX: usize = 4096;

/// Played tracks remembered on disk: some weeks of music round the clock, 3 MiB.
pub const MAX_HISTORY: usize = 10_000;

/// Addresses kept of one peer: a laptop has Wi-Fi, a cable and a few IPv6 ones.
pub const MAX_ADDRESSES: usize = 16;

/// Bytes of one audio file. Three hours of 24-bit stereo at 96 kHz are 6 GB; whoever has
/// such a file has a folder of tracks instead.
pub const MAX_BLOB: u64 = 2 * 1024 * 1024 * 1024;

/// Frames of one track: a day at the highest rate. Keeps the arithmetic of time away from the
/// ends of its range.
pub const MAX_TRACK_FRAMES: u64 = 24 * 3600 * 192_000;
/// Bytes of a piece: what one request fetches and what one bit of a have-map stands for. Two
/// seconds of a typical FLAC; large enough that requests are rare, small enough that a late
/// joiner hears something after the first.
pub const PIECE: u64 = 256 * 1024;

/// Bytes of an encoded piece: its data and the hash pairs that prove it. A piece holds 15 pairs
/// of its own and, in a file of [`MAX_BLOB`], 13 lie above it; 64 bytes each.
pub const MAX_ENCODED_PIECE: usize = 256 * 1024 + 28 * 64;

/// Entries of folders looked at for one `play` or `queue add`: somebody named `/`.
pub const MAX_SCAN_ENTRIES: usize = 100_000;

/// Folders inside each other that a scan descends into.
pub const MAX_SCAN_DEPTH: usize = 16;

/// Channels of a file that is played; they are mixed to two. 7.1 has eight, and no format that is
/// played names more.
pub const MAX_TRACK_CHANNELS: u8 = 8;

/// Sample rates that are played, in Hz.
pub const SAMPLE_RATES: std::ops::RangeInclusive<u32> = 8_000..=192_000;

/// Bytes of one piece of a blob on the bulk connection: 256 KiB of content, and the hashes
/// that prove it, with room to spare.
pub const MAX_PIECE: usize = 400 * 1024;

/// Bytes of a bulk request or of the header of its reply, a reason for people included.
pub const MAX_BULK_HEADER: usize = 512;

/// Pieces under way from one peer at a time: enough to fill a fast link, few enough that a
/// slow one gives the first of them soon.
pub const MAX_BULK_STREAMS: u32 = 8;

/// Messages waiting to be sent to one peer. Whoever is this far behind is not following the
/// room any more; the connection is closed and it starts afresh.
pub const MAX_SEND_QUEUE: usize = 1024;

/// Bytes of these messages: a few snapshots.
pub const MAX_SEND_BYTES: usize = 16 * 1024 * 1024;

/// Addresses dialled at a time: all members, by the few addresses of each.
pub const MAX_DIALS: usize = 4 * MAX_MEMBERS;

/// Connections that have not yet said hello, in all: a stranger costs memory only up to here.
pub const MAX_UNGREETED: usize = 32;

/// How long a connection may take to say hello.
pub const HELLO_TIMEOUT: Span = Span::from_secs(5);

/// Items waiting for the event loop. Full means the machine is far too slow; the sender
/// then waits, nothing is dropped.
pub const EVENT_QUEUE: usize = 4096;

/// Bytes of a request to the local interface: [`MAX_TRACKS_PER_ADD`] paths of usual length
/// several times over.
pub const MAX_REQUEST: usize = 1024 * 1024;

/// Users of this machine whose pace at the local interface is remembered at a time. Whoever is
/// quiet for a while is forgotten; the socket admits one group only.
pub const MAX_SESSIONS: usize = 256;

/// Programs that follow the live events at once: every device's page and a few tools.
pub const MAX_EVENT_CLIENTS: usize = 64;

/// Changes kept for those who come back and ask for what they missed.
pub const EVENT_BACKLOG: usize = 256;

/// Bytes of these changes: a long queue in every one of them must not add up.
pub const EVENT_BACKLOG_BYTES: usize = 2 * 1024 * 1024;

/// The furthest position one can seek to: longer than any file that is played.
pub const MAX_SEEK: Span = Span::from_secs(24 * 3600);
