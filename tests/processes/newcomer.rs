//! `./dev` on machines that have nothing: which package manager it asks for what, and what it says
//! of Rust. The machines are folders with programs that only note how they were called.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// What every system has, and the script uses.
const BASE: &[&str] = &["sh", "cat", "cut", "dirname", "env", "grep", "sed", "tr"];

/// A machine of an ordinary user who may use sudo.
struct Machine {
    path: TempDir,
}

impl Machine {
    fn new(system: &str, programs: &[&str]) -> Machine {
        let machine = Machine { path: tempfile::tempdir().expect("a folder") };
        let path = std::env::var_os("PATH").expect("a path");
        for name in BASE {
            let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
            let place = places.find(|place| place.is_file()).expect("every system has it");
            symlink(place, machine.path.path().join(name)).expect("a link");
        }
        machine.program("id", "echo 1000");
        machine.program("uname", &format!("echo {system}"));
        machine.program("sudo", "echo sudo >>\"$LOG\"; exec \"$@\"");
        for name in programs {
            machine.program(name, "echo \"${0##*/} $*\" >>\"$LOG\"");
        }
        machine
    }

    fn with_rust(self, version: &str) -> Machine {
        let says = format!("cargo {version} (0123456 2026-01-01)");
        self.program(
            "cargo",
            &format!("[ \"$1\" = --version ] && echo '{says}' || echo \"cargo $*\" >>\"$LOG\""),
        );
        self
    }

    fn program(&self, name: &str, body: &str) {
        let path = self.path.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    }

    fn log(&self) -> std::path::PathBuf {
        self.path.path().join("log")
    }

    fn dev(&self, args: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dev");
        let mut command = Command::new(script);
        command.args(args).env_clear().env("PATH", self.path.path()).env("LOG", self.log());
        command.env("HOME", self.path.path()).output().expect("the script runs")
    }

    /// How the programs were called, one a line; certificates are this machine's.
    fn calls(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default().replace(" ca-certificates", "")
    }
}

const DEMO: &str = "cargo build --locked --release\ncargo run --quiet --locked --release -- demo\n";

#[test]
fn every_package_manager_is_asked_by_its_own_names() {
    for (system, manager, asked) in [
        (
            "Linux",
            "apt-get",
            "sudo\napt-get update -q\n\
             apt-get install -y -q --no-install-recommends --no-remove \
             gcc libc6-dev cmake make pkg-config libasound2-dev\n",
        ),
        (
            "Linux",
            "dnf",
            "sudo\ndnf install -y --setopt=install_weak_deps=False \
             gcc glibc-devel cmake make pkgconf-pkg-config alsa-lib-devel\n",
        ),
        (
            "Linux",
            "pacman",
            "sudo\npacman -S --needed --noconfirm gcc glibc cmake make pkgconf alsa-lib\n",
        ),
        ("Linux", "apk", "sudo\napk add -U gcc musl-dev cmake make pkgconf alsa-lib-dev\n"),
        // Its compiler, make and sound are Apple's, and need no root.
        ("Darwin", "brew", "xcode-select -p\nbrew install cmake\n"),
    ] {
        let machine = Machine::new(system, &[manager, "xcode-select"]).with_rust("1.95.0");
        let output = machine.dev(&["demo"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{manager}: {said}");
        assert_eq!(machine.calls(), format!("{asked}{DEMO}"), "{manager}");
        assert!(said.contains("cmake: builds the Opus decoder"), "{said}");
    }
}

#[test]
fn what_is_there_is_not_asked_for() {
    let machine =
        Machine::new("Linux", &["apk", "cmake", "make", "pkg-config"]).with_rust("1.95.0");
    machine.program("cc", "exit 0");
    machine.program("ip", "echo ip utility, iproute2-6.15.0");
    assert!(machine.dev(&["demo"]).status.success());
    assert_eq!(machine.calls(), format!("pkg-config --exists alsa\n{DEMO}"));
}

#[test]
fn no_rust_or_an_old_one_is_said_before_anything_is_installed() {
    for (manager, way) in [
        ("apt-get", "https://sh.rustup.rs"),
        ("dnf", "dnf install rustup && rustup-init"),
        ("pacman", "pacman -S rustup && rustup default stable"),
        ("apk", "apk add -U rustup && rustup-init"),
    ] {
        let machine = Machine::new("Linux", &[manager]);
        let output = machine.dev(&["demo"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("and none is here") && said.contains(way), "{said}");
        assert_eq!((output.status.code(), machine.calls()), (Some(1), String::new()));
    }
    let machine = Machine::new("Linux", &["apt-get", "rustup"]).with_rust("1.63.0");
    let output = machine.dev(&["demo"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("1.63.0 is here") && said.contains("rustup update stable"), "{said}");
    assert_eq!((output.status.code(), machine.calls()), (Some(1), String::new()));
}

#[test]
fn the_way_to_rust_can_be_typed_as_it_is_said() {
    let said = |machine: &Machine| {
        String::from_utf8_lossy(&machine.dev(&["demo"]).stderr).lines().nth(2).map(str::to_owned)
    };
    let machine = Machine::new("Linux", &["apk"]);
    assert_eq!(said(&machine).as_deref(), Some("  sudo apk add -U rustup && rustup-init -y"));
    // Root is not to ask for what may not even be there.
    machine.program("id", "echo 0");
    assert_eq!(said(&machine).as_deref(), Some("  apk add -U rustup && rustup-init -y"));
    let machine = Machine::new("Linux", &["apt-get", "curl"]);
    machine.program("apt-cache", "exit 100");
    let by_curl = "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y";
    assert_eq!(said(&machine).as_deref(), Some(by_curl));
}

#[test]
fn a_test_whose_needs_cannot_be_had_keeps_no_other_back() {
    let machine = Machine::new("Linux", &[]).with_rust("1.95.0");
    machine.program("apk", "echo \"apk $*\" >>\"$LOG\"; case $* in *pulseaudio*) exit 1 ;; esac");
    let output = machine.dev(&["test"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("going on without"), "{said}");
    let needs = "gcc musl-dev cmake make pkgconf alsa-lib-dev";
    // Where this machine's programs for root are, two of the wishes are there already.
    let calls = machine.calls();
    let calls: Vec<&str> = calls.lines().filter(|line| *line != "sudo").collect();
    let [both, needed, built] = calls[..] else { panic!("{calls:?}") };
    assert!(both.starts_with(&format!("apk add -U {needs} iproute2")), "{both}");
    assert_eq!((needed, built), (&*format!("apk add -U {needs}"), "cargo test --locked"));
}

#[test]
fn what_cannot_be_installed_is_told_with_a_way_on() {
    let machine = Machine::new("Linux", &[]).with_rust("1.95.0");
    machine.program("pacman", "exit 1");
    let output = machine.dev(&["demo"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("alsa-lib: sound cards") && said.contains("pacman -Syu"), "{said}");
    assert_eq!((output.status.code(), machine.calls()), (Some(1), "sudo\n".to_owned()));
    // A Mac without Homebrew wants nothing of Linux.
    let machine = Machine::new("Darwin", &["xcode-select"]).with_rust("1.95.0");
    let output = machine.dev(&["demo"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("https://brew.sh") && said.contains("cmake: builds"), "{said}");
    assert!(!said.contains("pkg-config") && !said.contains("ALSA"), "{said}");
    assert_eq!((output.status.code(), machine.calls()), (Some(1), "xcode-select -p\n".to_owned()));
}

#[test]
fn an_unknown_system_hears_what_is_missing() {
    let machine = Machine::new("Linux", &[]).with_rust("1.95.0");
    let output = machine.dev(&["demo"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("libasound2-dev: sound cards"), "{said}");
    assert_eq!((output.status.code(), machine.calls()), (Some(1), String::new()));
}

#[test]
fn programs_for_a_pi_are_built_where_its_compilers_can_be_had() {
    let machine = Machine::new("Linux", &["dnf"]).with_rust("1.95.0");
    machine.program("rustc", "echo host: x86_64-unknown-linux-gnu");
    let output = machine.dev(&["build", "armv7"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Debian"), "{said}");
    assert_eq!((output.status.code(), machine.calls()), (Some(1), String::new()));
}
