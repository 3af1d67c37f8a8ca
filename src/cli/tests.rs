//! The command line as a whole: arguments, help, and what people see at 80 columns.

use clap::CommandFactory;

use super::mute::Switch;
use super::queue::QueueVerb;
use super::screen::Colour;
use super::seek::Where;
use super::volume::Loudness;
use super::*;
use crate::api::{Event, sample};
use crate::engine::Status;

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
    let verbs = "daemon status sync peers rooms room play pause resume toggle stop next prev seek \
                 queue volume mute outputs demo version";
    for verb in verbs.split_whitespace() {
        let listed = help.lines().any(|line| line.trim_start().starts_with(&format!("{verb} ")));
        assert!(listed, "{verb} is missing in\n{help}");
    }
    for (code, exit) in [Exit::Ok, Exit::Failed, Exit::Usage, Exit::NoDaemon, Exit::NotFound]
        .into_iter()
        .enumerate()
    {
        assert_eq!(exit as usize, code);
        assert!(help.contains(&format!("  {code}  ")), "{help}");
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
        ("groovebox room join", "<ROOM>"),
        ("groovebox demo --seconds 0", "1..=86400"),
        ("groovebox daemon --port 70000", "70000"),
        ("groovebox daemon --bind kitchen", "kitchen"),
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
    assert!(matches!(parse("groovebox queue"), Ok(Verb::Queue(args)) if args.verb.is_none()));
    let remove = parse("groovebox queue remove 7 9");
    let Ok(Verb::Queue(queue::QueueArgs { verb: Some(QueueVerb::Remove { entries }) })) = remove
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
    assert_lines(&status::lines(&sample::status(), Look::PLAIN), "STATUS");
    let alone = status::lines(&Status::default(), Look::PLAIN);
    assert!(alone[0].contains("in no room"), "{alone:?}");
}

#[test]
fn sync_in_eighty_columns() {
    assert_lines(&live_lines(&sample::status(), Look::PLAIN), "SYNC");
}

#[test]
fn lists_in_eighty_columns() {
    let status = sample::status();
    assert_lines(&rooms::lines(&status.rooms, Look::PLAIN), "ROOMS");
    assert_lines(&peers::lines(&status.peers, Look::PLAIN), "PEERS");
    assert_lines(&volume::lines(&status.members, Look::PLAIN), "VOLUME");
    assert_lines(&room::lines(&status, Look::PLAIN), "ROOM");
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

#[test]
fn nobody_listening_is_exit_code_three() {
    let place = tempfile::tempdir().expect("a directory");
    let socket = place.path().join("nobody");
    let programs = Programs {
        daemon: |_| anyhow::bail!("not asked for"),
        demo: |_| anyhow::bail!("not asked for"),
    };
    let run = |verb: &str| {
        let words = ["groovebox", "--socket", socket.to_str().expect("UTF-8"), verb];
        run_with(words.map(OsString::from), programs)
    };
    assert_eq!(run("status"), ExitCode::from(3));
    assert_eq!(run("pause"), ExitCode::from(3));
    assert_eq!(run("dance"), ExitCode::from(2));
    assert_eq!(run("demo"), ExitCode::from(1));
    assert_eq!(run("version"), ExitCode::from(0));
}
