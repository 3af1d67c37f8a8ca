//! The daemon as a service: what it tells its manager, and what that makes of the unit.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::daemon::Daemon;
use super::house::LONG;

/// What the manager hears next.
fn hear(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = manager.recv(&mut buffer).expect("a word within the deadline");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

fn wait_for(manager: &UnixDatagram, word: &str) {
    let since = Instant::now();
    while !hear(manager).lines().any(|line| line == word) {
        assert!(since.elapsed() < LONG, "no {word}");
    }
}

/// A service manager that listens, and where.
fn manager(dir: &Path) -> (UnixDatagram, String) {
    let socket = dir.join("notify");
    let manager = UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(LONG)).expect("a deadline");
    (manager, socket.display().to_string())
}

#[test]
fn the_service_manager_hears_of_start_life_and_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let (manager, path) = manager(dir.path());
    let mut daemon = Daemon::new(dir.path().join("kitchen"), "kitchen", 0, Vec::new());
    daemon.start_with(&[("NOTIFY_SOCKET", &path), ("WATCHDOG_USEC", "600000")]);
    wait_for(&manager, "READY=1");
    assert!(daemon.status().is_some(), "who is ready answers");
    let since = Instant::now();
    for _ in 0..4 {
        wait_for(&manager, "WATCHDOG=1");
    }
    let took = since.elapsed();
    assert!(took > Duration::from_millis(700), "{took:?}: no oftener than is asked for");
    assert!(daemon.stop().0.success());
    wait_for(&manager, "STOPPING=1");
}

#[test]
fn a_log_for_programs_is_one_object_a_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let (manager, path) = manager(dir.path());
    let mut daemon = Daemon::new(dir.path().join("kitchen"), "kitchen", 0, Vec::new());
    // That another stream is the journal changes nothing.
    let journal = ("JOURNAL_STREAM", "1:2");
    daemon.start_with(&[("NOTIFY_SOCKET", &path), ("GROOVEBOX_LOG_FORMAT", "json"), journal]);
    wait_for(&manager, "READY=1");
    daemon.stop();
    let log = fs::read_to_string(daemon.path("log")).expect("a log");
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    let lines: Vec<serde_json::Value> = log.lines().map(parse).collect();
    let ready = lines.iter().find(|line| line["fields"]["message"] == "ready").expect("it was");
    assert_eq!((&ready["level"], &ready["fields"]["name"]), (&"INFO".into(), &"kitchen".into()));
}

/// The manager's own judgement, where there is one: no complaint about the units, and an exposure
/// of 2.5 of 10 at most.
#[test]
fn the_units_are_sound_and_shut_in() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let dir = tempfile::tempdir().expect("a folder");
    let analyze = |arguments: &[&str], unit: &Path| {
        let mut command = Command::new("systemd-analyze");
        // A session's manager wants to know where that keeps its things.
        command.env("XDG_RUNTIME_DIR", dir.path()).args(arguments).arg(unit).output()
    };
    if analyze(&["--version"], Path::new("")).is_err() {
        println!("no systemd on this machine");
        return;
    }
    for (name, is_user) in [("groovebox.service", false), ("groovebox-user.service", true)] {
        let text = fs::read_to_string(folder.join(name)).expect("it is there");
        let program = env!("CARGO_BIN_EXE_groovebox");
        let text =
            text.replace("/usr/bin/groovebox", program).replace("%h/.local/bin/groovebox", program);
        assert!(text.contains(&format!("ExecStart={program} daemon")));
        let unit = dir.path().join("groovebox.service");
        fs::write(&unit, text).expect("a file");
        let verify = if is_user { &["--user", "verify"][..] } else { &["verify"] };
        let verdict = analyze(verify, &unit).expect("it runs");
        let complaints = String::from_utf8_lossy(&verdict.stderr);
        assert!(verdict.status.success() && complaints.is_empty(), "{name}: {complaints}");
        if !is_user {
            let judge = ["security", "--offline=true", "--threshold=25"];
            let verdict = analyze(&judge, &unit).expect("it runs");
            let report = String::from_utf8_lossy(&verdict.stdout);
            assert!(verdict.status.success(), "{report}");
        }
    }
}
