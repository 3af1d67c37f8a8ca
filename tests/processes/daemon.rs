//! One daemon process. Whatever happens to the test, the process ends with its value.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use groovebox::audio::record::Recording;
use groovebox::engine::Status;
use groovebox::engine::status::{MemberStatus, PeerStatus};
use serde_json::Value;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_groovebox");

/// Longer than any request may take; a daemon that hangs fails the test instead of stopping it.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Lines of its log that are shown for each daemon when a test fails.
const LOG_SHOWN: usize = 150;

/// A daemon and the folder it lives in.
pub struct Daemon {
    /// What it is called.
    pub name: String,
    /// Its UDP port; the same after a restart.
    pub port: u16,
    dir: PathBuf,
    crystal_ppm: i32,
    /// Where its sound goes; the null output of its crystal if nothing is said.
    pub output: Option<String>,
    network: Network,
    starts: u32,
    child: Option<Child>,
}

/// Where a daemon lives.
enum Network {
    /// On the loopback address that all share; it is told of these peers.
    Loopback { peers: Vec<String> },
    /// In this network namespace, where it finds others by itself.
    Namespace(String),
}

/// What a command came to.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub said: String,
    /// Standard error.
    pub complained: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Outcome {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Outcome {
            code: output.status.code().unwrap_or(-1),
            said: text(&output.stdout),
            complained: text(&output.stderr),
        }
    }
}

impl Outcome {
    /// Fails unless it ended with `code` and complained with these words.
    pub fn expect(&self, code: i32, words: &str) {
        assert!(self.code == code && self.complained.contains(words), "{code} {words:?}: {self:?}");
    }
}

/// The program with these arguments, in surroundings that know nothing of this machine's own
/// daemon.
pub fn groovebox(home: &Path, arguments: &[&str]) -> Command {
    isolated(Command::new(PROGRAM), home, arguments)
}

fn isolated(mut command: Command, home: &Path, arguments: &[&str]) -> Command {
    command.env_clear().env("HOME", home).env("XDG_RUNTIME_DIR", home).args(arguments);
    // Where `ip` is.
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(home: &Path, arguments: &[&str]) -> Outcome {
    groovebox(home, arguments).output().expect("the program starts").into()
}

impl Daemon {
    /// Makes its folder; it does not run yet.
    pub fn new(dir: PathBuf, name: &str, crystal_ppm: i32, peers: Vec<String>) -> Daemon {
        Daemon::living(dir, name, crystal_ppm, Network::Loopback { peers }, free_port())
    }

    /// Makes one for a network namespace of its own.
    pub fn in_namespace(dir: PathBuf, name: &str, crystal_ppm: i32, namespace: String) -> Daemon {
        Daemon::living(dir, name, crystal_ppm, Network::Namespace(namespace), 4766)
    }

    fn living(dir: PathBuf, name: &str, crystal_ppm: i32, network: Network, port: u16) -> Daemon {
        fs::create_dir_all(&dir).expect("a folder for a daemon");
        fs::write(dir.join("settings.toml"), "").expect("empty settings");
        let name = name.to_owned();
        Daemon { name, port, dir, crystal_ppm, output: None, network, starts: 0, child: None }
    }

    /// What others call it with `--peer`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A file or folder in the daemon's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Processor time that it has used, seconds; 0 while it does not run.
    #[cfg(target_os = "linux")]
    pub fn processor_s(&self) -> f64 {
        let Some(child) = &self.child else { return 0.0 };
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        // Behind the name, which may hold blanks: the 14th and 15th, in hundredths.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
        ticks.sum::<f64>() / 100.0
    }

    /// Starts it, without waiting for anything.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// The same with some variables more.
    pub fn start_with(&mut self, variables: &[(&str, &str)]) {
        self.starts += 1;
        let log = File::options().create(true).append(true).open(self.path("log"));
        let mut command = self.command();
        command.stdout(Stdio::null()).stderr(log.expect("a log"));
        command.envs(variables.iter().copied());
        self.child = Some(command.spawn().expect("the daemon starts"));
    }

    fn command(&self) -> Command {
        let path = |name: &str| self.path(name).display().to_string();
        let null = || format!("null:{:+}", self.crystal_ppm);
        let (port, output) = (self.port.to_string(), self.output.clone().unwrap_or_else(null));
        let mut command = match &self.network {
            Network::Loopback { peers } => {
                let mut command = groovebox(&self.dir, &["daemon", "-v", "--no-mdns"]);
                command.args(["--bind", "127.0.0.1"]);
                command.args(peers.iter().flat_map(|peer| ["--peer", peer]));
                command
            }
            // `ip` becomes the program, so that the child is the daemon itself.
            Network::Namespace(name) => {
                let inside = ["netns", "exec", name, PROGRAM, "daemon", "-v"];
                isolated(Command::new("ip"), &self.dir, &inside)
            }
        };
        command.args(["--name", &self.name, "--port", &port]);
        command.args(["--output", &output, "--record", &path(&self.recording_name())]);
        command.args(["--config", &path("settings.toml"), "--socket", &path("socket")]);
        command.args(["--state-dir", &path("state"), "--cache-dir", &path("cache")]);
        command
    }

    fn recording_name(&self) -> String {
        format!("played-{}", self.starts)
    }

    /// What it played since its last start.
    pub fn recording(&self) -> Recording {
        Recording::read(&self.path(&self.recording_name())).expect("a recording")
    }

    /// Whether it was started and has not been told to end.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// SIGKILL: it cannot say good-bye nor write anything.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }

    /// SIGTERM; how it ended and after what time. Fails if it takes more than ten seconds.
    pub fn stop(&mut self) -> (ExitStatus, Duration) {
        self.terminate();
        let since = Instant::now();
        let mut child = self.child.take().expect("it runs");
        while since.elapsed() < Duration::from_secs(10) {
            if let Some(status) = child.try_wait().expect("it is ours") {
                return (status, since.elapsed());
            }
            pause();
        }
        self.child = Some(child);
        panic!("{} does not end", self.name);
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// SIGSTOP: it stands still, as a device that sleeps.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// SIGKILL, without waiting for it to be gone; [`Daemon::kill`] does that.
    pub fn strike(&self) {
        self.signal("KILL");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id();
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
        assert!(sent.expect("a shell").success(), "{} is gone already", self.name);
    }

    /// Runs a command against it.
    pub fn ask(&self, arguments: &[&str]) -> Outcome {
        let socket = self.path("socket").display().to_string();
        run(&self.dir, &[&["--socket", &socket, "--json"], arguments].concat())
    }

    /// Runs a command that must succeed; what it shows a person.
    pub fn say(&self, arguments: &[&str]) -> String {
        let socket = self.path("socket").display().to_string();
        let outcome = run(&self.dir, &[&["--socket", &socket], arguments].concat());
        assert_eq!(outcome.code, 0, "{} {arguments:?}: {outcome:?}", self.name);
        outcome.said
    }

    /// Runs a command that must succeed; its JSON.
    pub fn order(&self, arguments: &[&str]) -> Value {
        let outcome = self.ask(arguments);
        assert_eq!(outcome.code, 0, "{} {arguments:?}: {outcome:?}", self.name);
        serde_json::from_str(&outcome.said).expect("JSON on standard output")
    }

    /// Runs a command that must succeed and says several things; the last of them.
    pub fn order_last(&self, arguments: &[&str]) -> Value {
        let outcome = self.ask(arguments);
        assert_eq!(outcome.code, 0, "{} {arguments:?}: {outcome:?}", self.name);
        let last = outcome.said.lines().last().expect("something is said");
        serde_json::from_str(last).expect("JSON on standard output")
    }

    /// Its picture of the room; none while it does not answer.
    pub fn status(&self) -> Option<Status> {
        let text = self.read("status").ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Its picture of a device of its room.
    pub fn member(&self, name: &str) -> Option<MemberStatus> {
        self.status()?.members.into_iter().find(|member| member.name == name)
    }

    /// What it knows of another device.
    pub fn peer(&self, name: &str) -> Option<PeerStatus> {
        self.status()?.peers.into_iter().find(|peer| peer.name == name)
    }

    /// Asked without the command line, which would cost a process for each look.
    fn read(&self, what: &str) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(self.path("socket"))?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        let head = format!("GET /api/v1/{what} HTTP/1.1\r\nhost: groovebox\r\n");
        stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        body.filter(|_| answer.starts_with("HTTP/1.1 200")).ok_or(std::io::ErrorKind::Other.into())
    }

    /// Whether its log contains these words.
    pub fn logged(&self, words: &str) -> bool {
        fs::read_to_string(self.path("log")).unwrap_or_default().contains(words)
    }

    /// Whether it logged an error or panicked.
    pub fn calls_for_help(&self) -> bool {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        log.lines().any(|line| line.contains(" ERROR ") || line.contains("panicked at"))
    }

    /// The end of its log, for people who look for what went wrong.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LOG_SHOWN)..];
        format!("---- {} (port {}) ----\n{}\n", self.name, self.port, shown.join("\n"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _it_may_have_ended_by_itself = child.kill();
            let _it_may_have_ended_by_itself = child.wait();
        }
    }
}

/// Between two looks at something that is awaited.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(15));
}

/// A port below those that systems give out by themselves: a daemon that is started again must
/// find its own still free.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 150 * 100).expect("below 15,000") + 12_000;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 5_000;
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
