//! The daemons of the demonstration as child processes in a directory of their own. However
//! it ends, neither a process nor a file stays behind.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use hyper::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::super::client::Client;
use super::super::failure::Failure;
use super::super::session::understand;
use super::{ask, paths};
use crate::audio::devices;
use crate::audio::record::Recording;
use crate::engine::Status;

/// How many daemons take part.
pub(super) const N_DAEMONS: usize = NAMES.len();

/// The music, composed by a script for this purpose.
const MUSIC: &[u8] = include_bytes!("../../../assets/demo.flac");

/// What the daemons are called.
const NAMES: [&str; 3] = ["kitchen", "living-room", "porch"];

/// How wrong the crystals of the outputs are, in ppm: worse than most real ones.
const CRYSTALS: [&str; 3] = ["null:+0", "null:+80", "null:-60"];

/// How long a daemon may take to answer for the first time.
const STARTING: Duration = Duration::from_secs(10);

/// How long it may take to end after it was told to.
const ENDING: Duration = Duration::from_secs(3);

/// Lines of a log that are shown when its daemon failed.
const LAST_LINES: usize = 12;

/// Everything of one demonstration.
pub(super) struct Stage {
    // Dropped after the daemons, which write into it.
    daemons: Vec<Daemon>,
    card: bool,
    log: Option<String>,
    directory: TempDir,
}

/// One daemon.
struct Daemon {
    name: &'static str,
    child: Child,
    home: PathBuf,
}

impl Stage {
    /// A directory with the music in it, and a look at what there is to sound with.
    pub fn build(log: Option<String>) -> Result<Stage, Failure> {
        let no_place = |error: std::io::Error| {
            Failure::Program(anyhow::anyhow!(
                "cannot make a folder for the demonstration: {error}; set TMPDIR to one that can be \
                 written"
            ))
        };
        let directory = tempfile::Builder::new().prefix("groovebox-demo-").tempdir();
        let directory = directory.map_err(no_place)?;
        std::fs::write(directory.path().join("demo.flac"), MUSIC).map_err(no_place)?;
        let card = devices::native(None).is_ok();
        Ok(Stage { daemons: Vec::new(), card, log, directory })
    }

    /// What is going to happen, for people.
    pub fn announcement(&self) -> Vec<String> {
        let sound = if self.card {
            "The first plays on this machine's sound device, the others nowhere, at crystals of \
             +80 and -60 ppm."
        } else {
            "There is no sound device here: all three play nowhere, at crystals of 0, +80 and \
             -60 ppm."
        };
        vec![
            "Three daemons on this machine form a room and play one song.".to_owned(),
            format!("{sound} Ctrl-C ends it."),
            String::new(),
        ]
    }

    /// The request that plays or adds the music.
    pub fn music(&self) -> Value {
        paths(&self.directory.path().join("demo.flac"))
    }

    /// Starts the first daemon, then the others, which are told where it is.
    pub async fn start(&mut self) -> Result<(), Failure> {
        self.spawn(0, None)?;
        let deadline = Instant::now() + STARTING;
        let port = loop {
            self.check()?;
            match self.status().await {
                Ok(status) if status.node.port != 0 => break status.node.port,
                Err(failure) if Instant::now() > deadline => return Err(failure),
                _ => sleep(Duration::from_millis(50)).await,
            }
        };
        for index in 1..NAMES.len() {
            self.spawn(index, Some(port))?;
        }
        Ok(())
    }

    fn spawn(&mut self, index: usize, peer: Option<u16>) -> Result<(), Failure> {
        let name = NAMES[index];
        let home = self.directory.path().join(name);
        std::fs::create_dir(&home)?;
        let log = File::create(home.join("log"))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("daemon").args(["--name", name, "--bind", "127.0.0.1", "--port", "0"]);
        command.arg("--no-mdns").args(["--output", self.output(index)]);
        command.arg("--state-dir").arg(home.join("state"));
        command.arg("--cache-dir").arg(home.join("cache"));
        command.arg("--socket").arg(home.join("socket"));
        // An empty file keeps this user's own settings out of it.
        let config = home.join("groovebox.toml");
        std::fs::write(&config, "")?;
        command.arg("--config").arg(config);
        if self.is_recorded(index) {
            command.arg("--record").arg(home.join("recording"));
        }
        if let Some(port) = peer {
            command.args(["--peer", &format!("127.0.0.1:{port}")]);
        }
        // Nor may this user's variables lead them to devices of the house.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GROOVEBOX_") {
                command.env_remove(name);
            }
        }
        if let Some(filter) = &self.log {
            command.env("GROOVEBOX_LOG", filter);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        // Ctrl-C is for this process alone; it ends its children itself.
        command.process_group(0);
        let child = command.spawn()?;
        self.daemons.push(Daemon { name, child, home });
        Ok(())
    }

    fn output(&self, index: usize) -> &'static str {
        if self.is_recorded(index) { CRYSTALS[index] } else { "default" }
    }

    /// What a real device plays cannot be recorded here.
    fn is_recorded(&self, index: usize) -> bool {
        !(self.card && index == 0)
    }

    /// Whether all that were started still run.
    pub fn check(&mut self) -> Result<(), Failure> {
        for daemon in &mut self.daemons {
            if let Some(code) = daemon.child.try_wait()? {
                let text = format!("the daemon {} ended ({code})\n{}", daemon.name, daemon.tail());
                return Err(Failure::Program(anyhow::anyhow!(text)));
            }
        }
        Ok(())
    }

    /// Asks the first daemon.
    pub async fn order(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        let first = self.directory.path().join(NAMES[0]).join("socket");
        ask(&Client::new(vec![first]), method, path, body).await
    }

    pub async fn status(&self) -> Result<Status, Failure> {
        understand(self.order(Method::GET, "/status", None).await?)
    }

    /// The ends of all logs.
    pub fn last_words(&self) -> String {
        self.daemons.iter().map(Daemon::tail).collect()
    }

    /// Ends the daemons: politely, then by force.
    pub async fn clear(&mut self) {
        for daemon in &self.daemons {
            daemon.tell_to_end();
        }
        for daemon in &mut self.daemons {
            if timeout(ENDING, daemon.child.wait()).await.is_err() {
                // It may have ended this very moment; either way it is gone.
                let _ = daemon.child.kill().await;
            }
        }
    }

    /// What the outputs without a device played.
    pub fn recordings(&self) -> Result<Vec<Recording>, Failure> {
        let recorded = (0..self.daemons.len()).filter(|index| self.is_recorded(*index));
        recorded.map(|index| read(&self.daemons[index].home.join("recording"))).collect()
    }
}

impl Daemon {
    fn tell_to_end(&self) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // No such process: it has ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// The end of its log.
    fn tail(&self) -> String {
        let text = std::fs::read_to_string(self.home.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LAST_LINES);
        let last = lines[from..].iter().map(|line| format!("  {line}\n"));
        format!("the log of {} ends:\n{}", self.name, last.collect::<String>())
    }
}

fn read(path: &Path) -> Result<Recording, Failure> {
    Ok(Recording::read(path)?)
}
