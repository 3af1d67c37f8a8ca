//! Where things live when nobody says: systemd's directories, else those of the XDG Base
//! Directory Specification, else below the home directory.
//!
//! | what | systemd | else |
//! |---|---|---|
//! | file | `/etc/groovebox/groovebox.toml` | `$XDG_CONFIG_HOME/groovebox/groovebox.toml` |
//! | state | `$STATE_DIRECTORY` | `$XDG_STATE_HOME/groovebox` |
//! | cache | `$CACHE_DIRECTORY` | `$XDG_CACHE_HOME/groovebox` |
//! | socket | `$RUNTIME_DIRECTORY/groovebox.sock` | `$XDG_RUNTIME_DIR/groovebox/groovebox.sock` |
//!
//! Without `XDG_RUNTIME_DIR` (cron, a container, `su`) root's socket is where a system service
//! has it and everybody else's lies in the state directory.

use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::{Flags, Surroundings};

const SYSTEM_CONFIG: &str = "/etc/groovebox/groovebox.toml";
const SYSTEM_SOCKET: &str = "/run/groovebox/groovebox.sock";
const SOCKET_NAME: &str = "groovebox.sock";

/// A configuration file and whether it must exist.
pub(super) enum ConfigFile {
    /// Somebody named it.
    Named(PathBuf),
    /// It is looked for in the usual place.
    Usual(PathBuf),
}

impl ConfigFile {
    pub(super) fn path(&self) -> &Path {
        match self {
            ConfigFile::Named(path) | ConfigFile::Usual(path) => path,
        }
    }
}

/// The file to read: `--config`, `GROOVEBOX_CONFIG`, else the usual place.
pub(super) fn config_file(flags: &Flags, around: &Surroundings<'_>) -> ConfigFile {
    let named = flags.config.clone().or_else(|| variable(around, "GROOVEBOX_CONFIG"));
    if let Some(path) = named {
        return ConfigFile::Named(path);
    }
    if let Some(directory) = directory_of_systemd(around, "CONFIGURATION_DIRECTORY") {
        return ConfigFile::Usual(directory.join("groovebox.toml"));
    }
    // A user unit has its state below the home directory, a system unit below /var/lib.
    let system_unit = directory_of_systemd(around, "STATE_DIRECTORY")
        .is_some_and(|state| state.starts_with("/var/lib"));
    let own = below_xdg(around, "XDG_CONFIG_HOME", ".config");
    match own {
        Some(directory) if !around.root && !system_unit => {
            ConfigFile::Usual(directory.join("groovebox.toml"))
        }
        _ => ConfigFile::Usual(SYSTEM_CONFIG.into()),
    }
}

/// Where state is kept.
pub(super) fn state_dir(around: &Surroundings<'_>) -> Result<PathBuf, ConfigError> {
    directory_of_systemd(around, "STATE_DIRECTORY")
        .or_else(|| below_xdg(around, "XDG_STATE_HOME", ".local/state"))
        .ok_or(ConfigError::NoHome { what: "the room's state", flag: "--state-dir" })
}

/// Where fetched audio is kept.
pub(super) fn cache_dir(around: &Surroundings<'_>) -> Result<PathBuf, ConfigError> {
    directory_of_systemd(around, "CACHE_DIRECTORY")
        .or_else(|| below_xdg(around, "XDG_CACHE_HOME", ".cache"))
        .ok_or(ConfigError::NoHome { what: "cached audio", flag: "--cache-dir" })
}

/// Where the daemon listens for people and programs.
pub(super) fn socket(around: &Surroundings<'_>, state_dir: &Path) -> PathBuf {
    if let Some(directory) = directory_of_systemd(around, "RUNTIME_DIRECTORY") {
        return directory.join(SOCKET_NAME);
    }
    match absolute(around, "XDG_RUNTIME_DIR") {
        Some(directory) => directory.join("groovebox").join(SOCKET_NAME),
        None if around.root => SYSTEM_SOCKET.into(),
        None => state_dir.join(SOCKET_NAME),
    }
}

/// Where a client looks for a daemon, in this order: `flag`, `GROOVEBOX_SOCKET`, the session's
/// socket, the system's. The first two stand alone: who names a socket means that one.
#[must_use]
pub fn socket_candidates(flag: Option<PathBuf>, around: &Surroundings<'_>) -> Vec<PathBuf> {
    if let Some(named) = flag.or_else(|| variable(around, "GROOVEBOX_SOCKET")) {
        return vec![named];
    }
    let session =
        absolute(around, "XDG_RUNTIME_DIR").map(|dir| dir.join("groovebox").join(SOCKET_NAME));
    let without_session =
        below_xdg(around, "XDG_STATE_HOME", ".local/state").map(|dir| dir.join(SOCKET_NAME));
    [session, Some(SYSTEM_SOCKET.into()), without_session].into_iter().flatten().collect()
}

/// Whether this process is the superuser's. The owner of `/proc/self` is the effective user.
pub(super) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

/// The host's name without its domain.
pub(super) fn host_name() -> String {
    let name = rustix::system::uname();
    match name.nodename().to_string_lossy().trim().split('.').next() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "groovebox".to_owned(),
    }
}

fn variable(around: &Surroundings<'_>, name: &str) -> Option<PathBuf> {
    (around.env)(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Systemd may name several directories, separated by colons; the first is ours.
fn directory_of_systemd(around: &Surroundings<'_>, name: &str) -> Option<PathBuf> {
    let value = variable(around, name)?;
    let Some(text) = value.to_str() else { return Some(value) };
    text.split(':').next().filter(|first| !first.is_empty()).map(PathBuf::from)
}

fn below_xdg(around: &Surroundings<'_>, name: &str, below_home: &str) -> Option<PathBuf> {
    absolute(around, name)
        .or_else(|| around.home.as_ref().map(|home| home.join(below_home)))
        .map(|directory| directory.join("groovebox"))
}

/// The XDG specification has relative paths ignored.
fn absolute(around: &Surroundings<'_>, name: &str) -> Option<PathBuf> {
    variable(around, name).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(variables: &[(&str, &str)], root: bool, ask: impl Fn(&Surroundings<'_>) -> T) -> T {
        let env = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        };
        let host_name = "kitchen".to_owned();
        ask(&Surroundings { env: &env, home: Some("/home/anna".into()), root, host_name })
    }

    #[test]
    fn a_system_service_uses_the_directories_of_systemd() {
        let variables = [
            ("STATE_DIRECTORY", "/var/lib/groovebox:/var/lib/other"),
            ("CACHE_DIRECTORY", "/var/cache/groovebox"),
            ("RUNTIME_DIRECTORY", "/run/groovebox"),
        ];
        with(&variables, false, |around| {
            assert_eq!(state_dir(around).expect("given"), Path::new("/var/lib/groovebox"));
            assert_eq!(cache_dir(around).expect("given"), Path::new("/var/cache/groovebox"));
            assert_eq!(socket(around, Path::new("/s")), Path::new(SYSTEM_SOCKET));
            let file = config_file(&Flags::default(), around);
            assert_eq!(file.path(), Path::new(SYSTEM_CONFIG));
        });
    }

    #[test]
    fn a_person_uses_the_directories_of_xdg() {
        let variables = [
            ("XDG_STATE_HOME", "/x/state"),
            ("XDG_CACHE_HOME", "relative/is/ignored"),
            ("XDG_CONFIG_HOME", "/x/config"),
            ("XDG_RUNTIME_DIR", "/run/user/1000"),
        ];
        with(&variables, false, |around| {
            assert_eq!(state_dir(around).expect("given"), Path::new("/x/state/groovebox"));
            assert_eq!(cache_dir(around).expect("home"), Path::new("/home/anna/.cache/groovebox"));
            let expected = Path::new("/run/user/1000/groovebox/groovebox.sock");
            assert_eq!(socket(around, Path::new("/s")), expected);
            let file = config_file(&Flags::default(), around);
            assert_eq!(file.path(), Path::new("/x/config/groovebox/groovebox.toml"));
        });
    }

    #[test]
    fn without_a_session_a_client_still_finds_what_the_daemon_chose() {
        for root in [false, true] {
            with(&[], root, |around| {
                let chosen = socket(around, &state_dir(around).expect("home"));
                assert!(socket_candidates(None, around).contains(&chosen), "{chosen:?}");
            });
        }
    }

    #[test]
    fn a_named_socket_stands_alone_and_the_flag_wins() {
        let variables = [("GROOVEBOX_SOCKET", "/v"), ("XDG_RUNTIME_DIR", "/run/user/1")];
        with(&variables, false, |around| {
            assert_eq!(socket_candidates(Some("/f".into()), around), [Path::new("/f")]);
            assert_eq!(socket_candidates(None, around), [Path::new("/v")]);
        });
        with(&variables[1..], false, |around| {
            let found = socket_candidates(None, around);
            assert_eq!(found[0], Path::new("/run/user/1/groovebox/groovebox.sock"));
            assert_eq!(found[1], Path::new(SYSTEM_SOCKET));
        });
    }
}
