//! Holds the arrows between the folders of `src/`, and the purity of those that decide.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which folders each folder may use. The five that do input and output never use each other:
/// they meet in `daemon`.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    let pure = ["base", "identity", "wire", "engine"];
    let outer = ["base", "identity", "wire", "engine", "config"];
    let mut all = BTreeMap::from([
        ("base", vec![]),
        ("identity", vec!["base"]),
        ("wire", vec!["base", "identity"]),
        ("engine", vec!["base", "identity", "wire"]),
        ("config", pure.to_vec()),
    ]);
    for folder in ["store", "net", "media", "audio", "api"] {
        all.insert(folder, outer.to_vec());
    }
    let daemon = [&outer[..], &["store", "net", "media", "audio", "api"]].concat();
    all.insert("daemon", daemon.clone());
    all.insert("cli", [&daemon[..], &["daemon"]].concat());
    all
}

/// What must not be named in the folders that decide: each reads a clock, touches the world or
/// makes the outcome depend on the run.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::thread",
    "std::process",
    "std::env",
    "std::time::Instant",
    "Instant::now",
    "SystemTime",
    "tokio",
    "quinn",
    "rusqlite",
    "cpal",
    "SystemRandom",
    "HashMap",
    "HashSet",
    "libc::",
    "thread_local!",
    "static ",
];

/// The one place where the pure folders keep something beside what they are given: which fault
/// a test has planted. It is per thread, so runs do not disturb each other; handing it down to
/// every rule instead would put the tests' business into all their signatures. Release builds
/// have nothing of it.
const PLANTED: &str = "engine/planted.rs";

fn source_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the sources") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

/// The text without comments and without the tests at its end: tests may use what they like.
fn program_text(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a readable source");
    // Tests in a file of their own are named in the middle of a front page.
    let text = text.replace("#[cfg(test)]\nmod tests;\n", "");
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The folders that a text names as `crate::folder`, `use crate::{a, b::c}` included.
fn folders_used(text: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        used.insert(std::mem::take(&mut name));
                        continue;
                    }
                    _ => {}
                }
                if depth == 0 && !c.is_whitespace() {
                    name.push(c);
                }
            }
            used.insert(name);
        } else {
            used.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    used.into_iter().map(|n| n.split("::").next().unwrap_or_default().to_owned()).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn folders_use_only_what_stands_left_of_them() {
    let allowed = allowed();
    let mut wrong = Vec::new();
    for (folder, may_use) in &allowed {
        for file in source_files(&root().join(folder)) {
            for used in folders_used(&program_text(&file)) {
                let known = allowed.contains_key(used.as_str());
                if known && used != *folder && !may_use.contains(&used.as_str()) {
                    wrong.push(format!("{} uses {used}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_folder_has_its_place_in_the_order() {
    let allowed = allowed();
    for entry in fs::read_dir(root()).expect("the sources") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().and_then(|n| n.to_str()).expect("a plain name").to_owned();
        assert!(!path.is_dir() || allowed.contains_key(name.as_str()), "{name} has no place");
    }
}

#[test]
fn what_decides_touches_nothing() {
    let mut wrong = Vec::new();
    for folder in ["base", "identity", "wire", "engine"] {
        for file in source_files(&root().join(folder)) {
            // A file of tests, as its folder's front page says with `#[cfg(test)]`, or one of several.
            if file.ends_with("tests.rs") || file.parent().is_some_and(|dir| dir.ends_with("tests"))
            {
                continue;
            }
            let text = program_text(&file).replace("'static ", "");
            let planted = file == root().join(PLANTED);
            let may = |name: &str| planted && matches!(name, "thread_local!" | "static ");
            for name in IMPURE.iter().filter(|name| text.contains(**name) && !may(name)) {
                wrong.push(format!("{} names {name}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_codec_knows_the_serialiser() {
    let codec = root().join("wire/codec.rs");
    let knows = source_files(&root())
        .into_iter()
        .filter(|file| *file != codec && program_text(file).contains("bincode"))
        .collect::<Vec<_>>();
    assert!(knows.is_empty(), "{knows:?}");
}
