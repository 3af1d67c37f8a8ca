//! Holds the arrows between the folders of `src/`, the purity of those that decide, and the
//! licences of what comes in from elsewhere.

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

/// What `deny.toml` says.
fn deny() -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    let text = fs::read_to_string(path).expect("the file");
    text.parse().expect("it is TOML")
}

/// Name and version, licence and origin of every package that is built for this machine.
fn packages() -> Vec<(String, Option<String>, Option<String>)> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = std::process::Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .args(["--filter-platform", &target])
        .output()
        .expect("cargo runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let package = |package: &serde_json::Value| {
        let name = format!("{} {}", package["name"], package["version"]).replace('"', "");
        (name, text(&package["license"]), text(&package["source"]))
    };
    metadata["packages"].as_array().expect("a list").iter().map(package).collect()
}

/// Whether an SPDX expression can be fulfilled with these licences. `/` is how `OR` was once
/// written. `AND` binds closer than `OR` (SPDX 2.3, annex D.4.5).
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    any_of(&mut rest, allowed) && rest.is_empty()
}

fn any_of(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut fulfilled = all_of(rest, allowed);
    while let Some(("OR" | "or", after)) = rest.split_first().map(|(word, after)| (*word, after)) {
        *rest = after;
        fulfilled |= all_of(rest, allowed);
    }
    fulfilled
}

fn all_of(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut fulfilled = one(rest, allowed);
    while let Some(("AND" | "and", after)) = rest.split_first().map(|(word, after)| (*word, after))
    {
        *rest = after;
        fulfilled &= one(rest, allowed);
    }
    fulfilled
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let Some((first, after)) = rest.split_first() else { return false };
    *rest = after;
    if *first == "(" {
        let fulfilled = any_of(rest, allowed);
        let closed = rest.split_first().filter(|(word, _)| **word == ")");
        let Some((_, after)) = closed else { return false };
        *rest = after;
        return fulfilled;
    }
    if let [with, exception, after @ ..] = *rest
        && *with == "WITH"
    {
        *rest = after;
        return allowed.contains(&format!("{first} WITH {exception}"));
    }
    allowed.contains(*first)
}

fn allowed_licences() -> BTreeSet<String> {
    let deny = deny();
    let list = deny["licenses"]["allow"].as_array().expect("a list");
    list.iter().map(|licence| licence.as_str().expect("a text").to_owned()).collect()
}

#[test]
fn what_comes_from_elsewhere_may_be_used() {
    let allowed = allowed_licences();
    let mut wrong = Vec::new();
    let packages = packages();
    assert!(packages.len() > 100, "{packages:?}");
    for (name, licence, source) in packages {
        match licence {
            Some(licence) if is_allowed(&licence, &allowed) => {}
            other => wrong.push(format!("{name}: {}", other.unwrap_or("no licence".to_owned()))),
        }
        let from_registry = "registry+https://github.com/rust-lang/crates.io-index";
        if source.is_some_and(|source| source != from_registry) {
            wrong.push(format!("{name}: not from the registry"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_exemption_has_its_reason() {
    let deny = deny();
    for exemption in deny["advisories"]["ignore"].as_array().expect("a list") {
        let reason = exemption.get("reason").and_then(toml::Value::as_str).unwrap_or_default();
        assert!(reason.split_whitespace().count() > 5, "{exemption}");
    }
}

#[test]
fn licences_are_read_as_spdx_means_them() {
    let allowed = ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for fine in [
        "MIT",
        "MIT/GPL-3.0",
        "GPL-3.0 OR MIT",
        "MIT AND Zlib",
        "GPL-3.0 AND X OR Zlib",
        "(GPL-3.0 OR MIT) AND Zlib",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(is_allowed(fine, &allowed), "{fine}");
    }
    for wrong in ["", "GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "(MIT", "MIT)", "MIT Zlib", "OR"]
    {
        assert!(!is_allowed(wrong, &allowed), "{wrong}");
    }
}
