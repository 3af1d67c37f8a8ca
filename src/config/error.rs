//! What can be wrong with settings, told so that the person finds the place.

use std::fmt;
use std::path::PathBuf;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file was asked for and is not readable.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file is no TOML, or holds an unknown key or a value of the wrong type.
    #[error("{place}: {problem}\n{excerpt}{}", help(.hint.as_ref()))]
    File {
        /// File and line.
        place: Box<Source>,
        /// What is wrong.
        problem: String,
        /// The line with carets under the place.
        excerpt: String,
        /// What to write instead.
        hint: Option<String>,
    },
    /// A value out of its range or of the wrong form.
    #[error("{place}: {problem}")]
    Value {
        /// Where it was written.
        place: Box<Source>,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// No rule gives a directory.
    #[error("no home directory is known, so there is no place for {what}; set HOME or {flag}")]
    NoHome {
        /// What would live there.
        what: &'static str,
        /// The flag that settles it.
        flag: &'static str,
    },
}

impl ConfigError {
    /// What is wrong and where, without the excerpt.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            ConfigError::File { place, problem, .. } => format!("{place}: {problem}"),
            error => error.to_string(),
        }
    }

    /// What to write instead; empty where the sentence says it.
    #[must_use]
    pub fn hint(&self) -> &str {
        match self {
            ConfigError::File { hint: Some(hint), .. } => hint,
            ConfigError::Read { .. } => {
                "check the path; `groovebox config default` prints a file to begin with"
            }
            _ => "",
        }
    }
}

/// Where a value was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// On the command line.
    Flag(&'static str),
    /// In the environment.
    Variable(&'static str),
    /// In the configuration file.
    File {
        /// Which.
        path: PathBuf,
        /// Counts from 1.
        line: usize,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(name) | Source::Variable(name) => f.write_str(name),
            Source::File { path, line } => write!(f, "{}:{line}", path.display()),
        }
    }
}

fn help(hint: Option<&String>) -> String {
    hint.map(|hint| format!("\nhelp: {hint}")).unwrap_or_default()
}
