//! The command line as a whole: arguments, help, and what people see at 80 columns.

use clap::CommandFactory;

use super::live::live_lines;
use super::mute::Switch;
use super::queue::QueueVerb;
use super::screen::Colour;
use super::screen::Look;
use super::seek::Where;
use super::volume::Loudness;
use super::*;
use crate::api::tests::Served;
use crate::api::{Event, sample};
use crate::base::{EntryId, Span};
use crate::engine::command::{SeekTo, VolumeChange, VoteWord};
use crate::engine::status::{DiskState, FetchStatus};
use crate::engine::{Command, Status};
use crate::wire::op::{Repeat, Setting, VoteKind};
use crate::wire::{Refusal, RefusalCode};

fn parse(line: &str) -> Result<Verb, String> {
    let arguments = Arguments::try_parse_from(line.split_whitespace());
    arguments.map(|arguments| arguments.verb).map_err(|error| error.to_string())
}

/// Trailing newline of the literal aside, the lines are these and none is too wide.
fn assert_lines(lines: &[String], expected: &str) {
    let text = lines.join("\n");
    assert_eq!(text, expected.trim_matches('\n'), "\n{text}");
    for line in lines {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn the_arguments_are_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn help_mentions_every_verb_and_every_exit_code() {
    let help = Arguments::command().render_long_help().to_string();
    let verbs = "daemon status sync peers rooms room user dj vote watch top chat play pause resume \
                 toggle stop next prev seek queue volume mute history log resync outputs doctor completions man demo \
                 version";
    for verb in verbs.split_whitespace() {
        let listed = help.lines().any(|line| line.trim_start().starts_with(&format!("{verb} ")));
        assert!(listed, "{verb} is missing in\n{help}");
    }
    for (code, exit) in Exit::ALL.into_iter().enumerate() {
        assert_eq!(exit as usize, code);
        assert!(help.contains(&format!("  {code}  {}", exit.meaning())), "{help}");
    }
}

#[test]
fn the_page_for_scripts_has_the_table_of_exit_codes() {
    let page = include_str!("../../README.md");
    for exit in Exit::ALL {
        let row = format!("| {} | {} |", exit as u8, exit.meaning());
        assert!(page.contains(&row), "{row}");
    }
}

#[test]
fn every_shell_can_complete_every_verb() {
    use clap::ValueEnum;
    for shell in clap_complete::Shell::value_variants() {
        let script = completions::script(*shell);
        for verb in Arguments::command().get_subcommands() {
            assert!(script.contains(verb.get_name()), "{} in {shell}", verb.get_name());
        }
    }
}

#[test]
fn every_command_has_a_manual_page_with_the_exit_codes() {
    let pages = man::pages().expect("memory takes everything");
    let names = pages.iter().map(|page| page.name.as_str()).collect::<Vec<_>>();
    assert_eq!(names[0], "groovebox.1");
    for name in ["groovebox-doctor.1", "groovebox-room-join.1", "groovebox-queue-add.1"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for page in &pages {
        assert_eq!(page.text.matches("EXIT STATUS").count(), 1, "{}", page.name);
        assert!(page.text.contains(Exit::NotFound.meaning()), "{}", page.name);
    }
}

#[test]
fn signs_are_values_and_not_flags() {
    let volume = |line: &str| match parse(line).expect(line) {
        Verb::Volume(args) => (args.volume, args.member, args.room),
        other => panic!("{other:?}"),
    };
    assert_eq!(volume("groovebox volume"), (None, None, false));
    assert_eq!(volume("groovebox volume -5"), (Some(Loudness::By(-5)), None, false));
    assert_eq!(volume("groovebox volume +5 --room"), (Some(Loudness::By(5)), None, true));
    let of_porch = (Some(Loudness::By(-5)), Some("porch".to_owned()), false);
    assert_eq!(volume("groovebox volume --member porch -5"), of_porch);
    assert_eq!(volume("groovebox volume -5 --member porch --json"), of_porch);
    let seek = |line: &str| match parse(line).expect(line) {
        Verb::Seek(args) => args.to,
        other => panic!("{other:?}"),
    };
    assert_eq!(seek("groovebox seek -1:30"), Where::By(-90_000));
    assert_eq!(seek("groovebox seek --json -10"), Where::By(-10_000));
    assert_eq!(seek("groovebox seek 1:30 --json"), Where::At(90_000));
}

#[test]
fn wrong_arguments_are_refused_with_what_is_right() {
    for (line, told) in [
        ("groovebox volume 101", "0 to 100"),
        ("groovebox volume --room", "VOLUME"),
        ("groovebox volume 5 --room --member a", "cannot be used with"),
        ("groovebox seek soon", "1:30"),
        ("groovebox seek", "TIME"),
        ("groovebox mute maybe", "toggle"),
        ("groovebox queue add", "FILE|DIR"),
        ("groovebox queue remove x", "NUMBER"),
        ("groovebox queue move 7", "<PLACE>"),
        ("groovebox queue move 7 up", "PLACE"),
        ("groovebox queue repeat twice", "off, one, all"),
        ("groovebox history -n 0", "1..=10000"),
        ("groovebox room join", "<ROOM>"),
        ("groovebox room set dj_cooldown", "<VALUE>"),
        ("groovebox room kick", "<NAME>"),
        ("groovebox user set", "<NAME>"),
        ("groovebox dj give", "<NAME>"),
        ("groovebox vote kick", "<NAME>"),
        ("groovebox vote --in skip", "yes|no|NAME"),
        ("groovebox vote yes --in doubt", "mutiny"),
        ("groovebox chat -n 10001", "1..=10000"),
        ("groovebox chat hello -f", "cannot be used with"),
        ("groovebox queue up", "NUMBER"),
        ("groovebox demo --seconds 4", "5..=86400"),
        ("groovebox daemon --port 70000", "70000"),
        ("groovebox daemon --bind kitchen", "kitchen"),
        ("groovebox daemon --log-format xml", "text or json"),
        ("groovebox -v -q status", "cannot be used with"),
        ("groovebox dance", "dance"),
    ] {
        let error = parse(line).expect_err(line);
        assert!(error.contains(told), "{line}: {error}");
    }
}

#[test]
fn short_forms_mean_the_usual() {
    assert!(matches!(parse("groovebox mute"), Ok(Verb::Mute(args)) if args.switch == Switch::On));
    assert!(matches!(parse("groovebox queue -w"), Ok(Verb::Queue(args)) if args.verb.is_none()));
    let remove = parse("groovebox queue remove 7 9");
    let Ok(Verb::Queue(queue::QueueArgs { verb: Some(QueueVerb::Remove { entries }), .. })) =
        remove
    else {
        panic!("{remove:?}")
    };
    assert_eq!(entries, [7, 9]);
    assert!(matches!(parse("groovebox play"), Ok(Verb::Play(args)) if args.paths.is_empty()));
}

#[test]
fn relative_paths_leave_complete() {
    let here = std::env::current_dir().expect("a directory");
    let paths = play::absolute(vec!["a.flac".into(), "/m/b.mp3".into()]).expect("UTF-8");
    assert_eq!(paths[0], here.join("a.flac").to_str().expect("UTF-8"));
    assert_eq!(paths[1], "/m/b.mp3");
}

#[test]
fn status_in_eighty_columns() {
    assert_lines(
        &status::lines(&sample::status(), Look::PLAIN),
        "
Kitchen party · GROOVE-7KQ4 · 2 of 3 devices · coordinator kitchen

playing  So What · Miles Davis · Kind of Blue
━━━━━━━━━──────────────────────────────────────────────────────────  1:23 / 9:22

DEVICE           STATE      OFFSET VOLUME OUTPUT            NETWORK
*kitchen         synced   +12±18µs     80 ok                good
living-room-left synced -340±302µs     80 ok                good
porch            away            –  muted failed: unplugged good

# NEXT               ARTIST      LENGTH FROM
7 Freddie Freeloader Miles Davis   5:37 kitchen
9 Blue in Green      Miles Davis   5:37 kitchen
",
    );
    let alone = status::lines(&Status::default(), Look::PLAIN);
    assert!(alone[0].contains("in no room"), "{alone:?}");
}

#[test]
fn sync_in_eighty_columns() {
    assert_lines(
        &live_lines(&sample::status(), Look::PLAIN),
        "
Kitchen party · GROOVE-7KQ4 · coordinator kitchen · playing 1:23/9:22 So What

DEVICE           STATE     OFFSET  ASYM   RTT JITTER DRIFT   DAC CORR  BUF DRY
                              ±3σ   max   min          ppm   ppm  ppm    s
*kitchen         synced  +12±18µs   0µs   0µs    0µs -12.3 +31.2 +0.4 15.2   1
living-room-left synced -340±96µs 206µs 412µs  1.6ms -12.3 +31.2 +0.4 15.2   1
porch            away           –     –     –      –     –     –    –    –   –
",
    );
}

#[test]
fn the_history_of_an_evening() {
    assert_lines(
        &history::lines(&sample::history(), 1_795_000_400_000, Look::PLAIN),
        "
    ENDED TRACK              ARTIST      LASTED END      FROM
1 min ago Freddie Freeloader Miles Davis   5:37 finished kitchen
1 min ago Blue in Green      Miles Davis   5:37 skipped  kitchen
",
    );
    let mut rows = sample::history();
    rows[0].dj = Some("anna".to_owned());
    rows[1].present = 3;
    let lines = history::lines(&rows, 1_795_000_400_000, Look::PLAIN);
    assert!(lines[0].ends_with("FROM    DJ   PEOPLE"), "{lines:?}");
    assert_eq!(history::lines(&[], 0, Look::PLAIN).len(), 1);
}

#[test]
fn what_comes_again_and_what_cannot_is_shown() {
    let mut status = sample::status();
    status.playback.repeat = Repeat::All;
    status.playback.notice = Some("\"Nardis\" was passed over".to_owned());
    status.queue[1].unavailable = true;
    status.fetching = vec![FetchStatus { id: status.queue[0].track.id.clone(), percent: 43 }];
    let queue = queue::all(&status, Look::PLAIN).join("\n");
    assert!(queue.contains("unavailable") && queue.contains("repeat: the whole queue"), "{queue}");
    let shown = status::lines(&status, Look::PLAIN).join("\n");
    assert!(queue.contains("kitchen, 43 % here"), "{queue}");
    assert!(shown.contains("(43 % here)"), "the same file plays: {shown}");
    assert!(shown.contains("repeat: the whole queue") && shown.contains("Nardis"), "{shown}");
}

#[test]
fn the_log_in_words() {
    assert_lines(
        &log::lines(&sample::log(), Look::PLAIN),
        "
ENTRY TERM LEVEL      WHAT
   41    7 durable    kitchen queued \"So What\"
   42    7 replicated kitchen set kitchen to volume 40
   43    7 local      kitchen skipped to the next track

waiting for a coordinator:
  hall emptied the queue

left out when two halves of the room met:
  hall paused: it came too late: such a command counts for 5 seconds
",
    );
}

#[test]
fn lists_in_eighty_columns() {
    let status = sample::status();
    let lists = [
        rooms::lines(&status.rooms, Look::PLAIN),
        peers::lines(&status.peers, Look::PLAIN),
        volume::lines(&status.members, Look::PLAIN),
        room::lines(&status, Look::PLAIN),
    ];
    assert_lines(
        &lists.join(&String::new()),
        "
CODE        NAME          DEVICES ACCESS PLAYING
GROOVE-7KQ4 Kitchen party       3 open   So What joined
GROOVE-M3XA Next door           1 locked –

DEVICE           STATE     ADDRESS           ROOM           SENT RECEIVED
living-room-left connected 192.168.1.20:4766 GROOVE-7KQ4 61.2 MB      0 B
porch            away      192.168.1.20:4766 GROOVE-7KQ4     0 B      0 B

DEVICE           VOLUME
kitchen              80
living-room-left     80
porch             muted

name         Kitchen party
code         GROOVE-7KQ4
access       open
devices      2 here, 3 in all
coordinator  kitchen
owner        nobody
dj           nobody
term         3
log          entry 42, durable to 41, state 0123456789abcdef
id           d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4

DEVICE           STATE PERSON
*kitchen         here  –
living-room-left here  –
porch            away  –
",
    );
}

#[test]
fn a_room_with_people() {
    let mut status = sample::status();
    status.people = sample::people();
    status.members[0].user = Some("anna".to_owned());
    let owned = status.room.as_mut().expect("one");
    owned.owner = Some("anna".to_owned());
    owned.banned = vec!["eve".to_owned(), "mallory".to_owned()];
    let lines = room::lines(&status, Look::PLAIN);
    assert_eq!(lines[5..7], ["owner        anna", "dj           nobody"]);
    assert_lines(
        &lines[10..],
        "
banned       eve, mallory

PERSON DISPLAY ROLE     STATE NOTES            DEVICES
anna   Anna Ö. owner    here                   kitchen
ben            listener here  cools down 2 min kitchen
carla  Carla   listener away  muted            porch, phone

DEVICE           STATE PERSON
*kitchen         here  anna
living-room-left here  –
porch            away  –
",
    );
    status.votes = sample::votes();
    let lines = status::lines(&status, Look::PLAIN);
    assert_eq!(lines[1], "DJ nobody · here: anna, ben");
    assert!(lines[3].starts_with("mutiny against anna  ███░░ 3 of 5"), "{lines:?}");
    status.room.as_mut().expect("one").acting_owner = Some("ben".to_owned());
    assert!(room::lines(&status, Look::PLAIN)[5].contains("ben acts for them"));
}

#[test]
fn every_setting_is_listed_with_its_meaning() {
    let mut status = sample::status();
    let all = crate::engine::room::settings::Settings::default().list();
    status.room.as_mut().expect("one").settings =
        all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let lines = room::setting_lines(&status, Look::PLAIN);
    assert!(lines.iter().any(|line| line.starts_with("dj_cooldown        5m")), "{lines:?}");
    for line in &lines {
        assert!(line.split_whitespace().count() >= 3 && !line.contains('…'), "{line}");
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn whose_device_it_is() {
    let mut status = sample::status();
    assert!(user::lines(&status, Look::PLAIN)[0].contains("a speaker without a person"));
    status.people = sample::people();
    status.node.user = Some(crate::engine::status::UserStatus {
        id: status.people[1].id.clone(),
        name: "Ben".to_owned(),
        display: "Ben Z.".to_owned(),
    });
    assert_lines(
        &user::lines(&status, Look::PLAIN),
        "
name         Ben
display      Ben Z.
called here  ben: Ben was taken
role         listener
devices      kitchen
id           6262626262626262626262626262626262626262626262626262626262626262
",
    );
}

#[test]
fn the_dj_and_votes_in_eighty_columns() {
    let lists = [
        dj::lines(&sample::dj(), Look::PLAIN),
        vote::lines(&sample::votes(), Look::PLAIN),
        vote::past_lines(&sample::past_votes(), Look::PLAIN),
    ];
    assert_lines(
        &lists.join(&String::new()),
        "
anna has been DJ for 12 min

BEFORE    FOR      UNTIL WHY NO LONGER
ben    47 min 12 min ago a mutiny

VOTE                CALLED BY FOR          AGAINST LEFT YOURS
election of the DJ  the room  ██░░░ 2 of 5       – 41 s carla
mutiny against anna ben       ███░░ 3 of 5       1 41 s not yet
election: carla 2, ben 1; 5 decide

    OPENED VOTE               CALLED BY RESULT FOR AGAINST NEEDED
13 min ago mutiny against ben anna      passed   2       1 2 of 3
",
    );
    assert_eq!(vote::lines(&[], Look::PLAIN).len(), 1);
    assert_eq!(vote::past_lines(&[], Look::PLAIN).len(), 1);
    let nobody = crate::engine::status::DjStatus::default();
    assert!(dj::lines(&nobody, Look::PLAIN)[0].starts_with("nobody is DJ"));
}

#[test]
fn votes_of_the_queue_are_shown_where_there_are_any() {
    let mut queue = sample::status().queue;
    queue[1].up_votes = 2;
    assert_lines(
        &queue::lines(&queue, &[], Look::PLAIN),
        "
# NEXT               ARTIST      LENGTH FROM    VOTES
7 Freddie Freeloader Miles Davis   5:37 kitchen
9 Blue in Green      Miles Davis   5:37 kitchen    +2
",
    );
}

#[test]
fn the_widest_figures_still_fit() {
    let mut status = sample::status();
    for member in &mut status.members {
        member.online = true;
        member.name = "ein-sehr-langer-name-eines-lautsprechers".to_owned();
        member.sync = Some(crate::engine::status::SyncStatus {
            state: crate::wire::message::SyncState::OutOfSync,
            offset_us: -999_000.0,
            error_us: 999_000.0,
            asymmetry_us: 999_000.0,
            rtt_us: 999_000.0,
            rtt_avg_us: 999_000.0,
            jitter_us: 999_000.0,
            drift_ppm: -500.0,
            dac_ppm: -500.0,
            correction_ppm: -500.0,
            buffer_ms: 15_000.0,
            underruns: 9999,
        });
    }
    status.playback.track.as_mut().expect("one").title = "ü".repeat(200);
    for lines in [live_lines(&status, Look::PLAIN), status::lines(&status, Look::PLAIN)] {
        for line in &lines {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
    let text = live_lines(&status, Look::PLAIN).join("\n");
    for figure in ["-999±999ms", "9999", "15.0", "-500"] {
        assert!(text.contains(figure), "{figure} was cut in\n{text}");
    }
}

#[test]
fn colours_only_where_they_are_wanted() {
    let status = sample::status();
    let colour = Look { colour: Colour::Ansi, ..Look::PLAIN };
    assert!(!live_lines(&status, Look::PLAIN).concat().contains('\x1b'));
    assert!(live_lines(&status, colour).concat().contains("\x1b["));
}

#[test]
fn a_disk_in_trouble_is_told_under_the_room() {
    let mut status = sample::status();
    assert_eq!(status::lines(&status, Look::PLAIN)[1], "");
    status.node.disk = DiskState::Full;
    status.node.disk_notice = Some("a file was damaged".into());
    let lines = status::lines(&status, Look::PLAIN);
    assert!(lines[1].starts_with("the disk of kitchen is full: make space"), "{}", lines[1]);
    assert_eq!(lines[2..4], ["a file was damaged", ""]);
}

#[test]
fn a_name_cannot_command_the_terminal() {
    let mut status = sample::status();
    status.members[0].name = "\x1b[2Jkitchen".to_owned();
    status.room.as_mut().expect("one").name = "\x1b]0;x\x07".to_owned();
    let text =
        live_lines(&status, Look::PLAIN).concat() + &status::lines(&status, Look::PLAIN).concat();
    assert!(!text.contains('\x1b') && !sync::brief(&status).contains('\x1b'), "{text:?}");
}

#[test]
fn a_picture_follows_snapshot_and_changes() {
    let mut picture = watch::Picture::default();
    let event = Event::Snapshot { seq: 1, status: Box::new(sample::status()) };
    assert_eq!(picture.apply(event).expect("whole"), sample::status());
    let mut changed = serde_json::Map::new();
    changed.insert("queue".to_owned(), serde_json::json!([]));
    let status = picture.apply(Event::Delta { seq: 2, changed }).expect("whole");
    assert_eq!(status, Status { queue: Vec::new(), ..sample::status() });
}

const PROGRAMS: Programs = Programs { daemon: |_| anyhow::bail!("not asked for") };

fn run_on(socket: &std::path::Path, line: &str) -> ExitCode {
    let socket = ["groovebox", "--socket", socket.to_str().expect("UTF-8")];
    run_with(socket.into_iter().chain(line.split_whitespace()).map(OsString::from), PROGRAMS)
}

#[test]
fn nobody_listening_is_exit_code_three() {
    let place = tempfile::tempdir().expect("a directory");
    let run = |line: &str| run_on(&place.path().join("nobody"), line);
    assert_eq!(run("status"), ExitCode::from(3));
    assert_eq!(run("status --watch"), ExitCode::from(3));
    assert_eq!(run("pause"), ExitCode::from(3));
    // A sound card is chosen before the first start.
    assert_eq!(run("outputs --json"), ExitCode::SUCCESS);
    assert_eq!(run("dance"), ExitCode::from(2));
    assert_eq!(run("version"), ExitCode::from(0));
    assert_eq!(run("completions bash --json"), ExitCode::from(0));
    assert_eq!(run("config default --json"), ExitCode::from(0));
    assert_eq!(run("completions tcsh"), ExitCode::from(2));
    assert_eq!(run("invite --uses 0"), ExitCode::from(2));
    assert_eq!(run("invite --minutes 1441"), ExitCode::from(2));
    assert_eq!(run("man --out /proc/nowhere"), ExitCode::from(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one after the other")]
async fn every_verb_reaches_a_daemon() {
    let served = Served::start().await;
    let run = async |line: &'static str| {
        let socket = served.socket();
        let ran = tokio::task::spawn_blocking(move || run_on(&socket, line));
        (ran.await.expect("no panic"), served.fake.commands())
    };
    for line in [
        "status",
        "status --json",
        "sync",
        "sync --json",
        "peers",
        "rooms",
        "room show",
        "room show --json",
        "queue",
        "queue list --json",
        "volume",
        "log",
        "log --json",
        "history",
        "history -n 1 --json",
        "outputs",
        "version --json",
        "user show",
        "user show --json",
        "dj",
        "dj show --json",
        "vote",
        "vote status --json",
        "vote history",
        "chat",
        "chat -n 1 --json",
        "room settings",
        "room settings --json",
    ] {
        assert_eq!(run(line).await, (ExitCode::SUCCESS, Vec::new()), "{line}");
    }
    let member = Some("porch".to_owned());
    let who = |text: &str| text.to_owned();
    for (line, command) in [
        ("pause", Command::Pause),
        ("play", Command::Resume),
        ("toggle --json", Command::Toggle),
        ("stop", Command::Stop),
        ("next", Command::Next),
        ("prev", Command::Prev),
        ("resume", Command::Resume),
        ("seek -10", Command::Seek { to: SeekTo::Relative(Span::from_secs(-10)) }),
        ("queue clear", Command::Clear),
        ("queue move 7 1", Command::Move { entry: EntryId(7), place: 1 }),
        ("queue shuffle", Command::Shuffle),
        ("queue repeat all --json", Command::Repeat { mode: Repeat::All }),
        ("queue remove 7 9", Command::Remove { entries: vec![EntryId(7), EntryId(9)] }),
        (
            "volume -5 --member porch",
            Command::Volume { member: member.clone(), change: VolumeChange::By(-5) },
        ),
        ("volume 30 --room", Command::RoomVolume { change: VolumeChange::To(30) }),
        ("mute off --member porch", Command::Mute { member, muted: Some(false) }),
        ("mute toggle", Command::Mute { member: None, muted: None }),
        ("resync", Command::Resync { member: None }),
        ("resync porch", Command::Resync { member: Some("porch".to_owned()) }),
        ("room create", Command::CreateRoom { name: None, password: None }),
        (
            "room join GROOVE-7KQ4",
            Command::JoinRoom { room: "GROOVE-7KQ4".to_owned(), password: None },
        ),
        ("room leave", Command::LeaveRoom),
        ("room kick porch", Command::Kick { who: who("porch") }),
        ("room ban ben", Command::Ban { who: who("ben") }),
        ("room unban ben", Command::Unban { who: who("ben") }),
        ("room mute ben", Command::Silence { who: who("ben"), silenced: true }),
        ("room unmute ben", Command::Silence { who: who("ben"), silenced: false }),
        ("room set queue_limit 7", Command::Set { setting: Setting::QueueLimit(7) }),
        ("room delete --yes", Command::DeleteRoom),
        ("user forget --yes", Command::BecomeUser { user: None }),
        ("dj take", Command::DjTake),
        ("dj give ben", Command::DjGive { to: who("ben") }),
        ("dj drop", Command::DjDrop),
        ("dj random", Command::DjRandom),
        ("dj appoint ben", Command::DjAppoint { to: who("ben") }),
        ("vote elect", Command::CallVote { kind: VoteKind::Election, who: None }),
        ("vote mutiny --yes", Command::CallVote { kind: VoteKind::Mutiny, who: None }),
        ("vote skip", Command::CallVote { kind: VoteKind::Skip, who: None }),
        ("vote kick ben", Command::CallVote { kind: VoteKind::Kick, who: Some(who("ben")) }),
        ("vote yes", Command::Vote { kind: None, word: VoteWord::Yes }),
        ("vote no --in skip", Command::Vote { kind: Some(VoteKind::Skip), word: VoteWord::No }),
        ("vote ben", Command::Vote { kind: None, word: VoteWord::For(who("ben")) }),
        ("chat who wants jazz?", Command::Chat { text: who("who wants jazz?") }),
        ("queue up 7", Command::UpVote { entry: EntryId(7), up: true }),
        ("queue down 7", Command::UpVote { entry: EntryId(7), up: false }),
    ] {
        assert_eq!(run(line).await, (ExitCode::SUCCESS, vec![command]), "{line}");
    }
    let named = match &run("user set anna --display Anna").await.1[..] {
        [Command::BecomeUser { user: Some(user) }] => (user.name.clone(), user.display.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(named, (who("anna"), who("Anna")));
    assert_eq!(run("room set colour red").await, (ExitCode::from(4), Vec::new()));
    assert_eq!(run("play /m/a /m/broken").await.1.len(), 1);
    assert_eq!(run("queue add /m/broken --json").await, (ExitCode::from(1), Vec::new()));
    served.fake.refuse(Refusal::new(RefusalCode::NotFound, "no such entry", "list them"));
    assert_eq!(run("queue remove 8").await.0, ExitCode::from(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_of_a_room_is_refused_where_there_is_none() {
    let served = Served::start().await;
    served.fake.publish(|status| status.room = None);
    let run = async |line: &'static str| {
        let socket = served.socket();
        tokio::task::spawn_blocking(move || run_on(&socket, line)).await.expect("no panic")
    };
    for line in ["queue", "queue list --json", "log", "volume", "vote", "room settings --json"] {
        assert_eq!(run(line).await, ExitCode::from(1), "{line}");
    }
    for line in ["status", "rooms", "room show", "room show --json", "user show"] {
        assert_eq!(run(line).await, ExitCode::SUCCESS, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watching_ends_with_a_word_when_the_daemon_says_goodbye() {
    let mut served = Served::start().await;
    let client = client::Client::new(vec!["/nonexistent".into(), served.socket()]);
    let mut follower = client.follow().await.expect("listening");
    let first = follower.next().await.expect("an event");
    assert!(matches!(first, Event::Snapshot { .. }));
    served.fake.publish(|status| status.queue.clear());
    let second = follower.next().await.expect("an event");
    assert!(matches!(second, Event::Delta { .. }));
    let watching = ["watch", "status --watch --json", "chat -f"].map(|line| {
        let socket = served.socket();
        tokio::task::spawn_blocking(move || run_on(&socket, line))
    });
    served.stop();
    let failure = follower.next().await.expect_err("a farewell");
    assert!(failure.to_string().ends_with("/s stopped"), "{failure}");
    assert_eq!((failure.exit(), failure.hint().is_empty()), (Exit::NoDaemon, false));
    for code in watching {
        assert_eq!(code.await.expect("no panic"), ExitCode::from(3));
    }
}
