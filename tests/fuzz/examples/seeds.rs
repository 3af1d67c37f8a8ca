//! Writes what is valid as inputs to begin with, one directory per target.

use std::path::Path;
use std::{env, fs};

#[path = "../targets/mod.rs"]
#[allow(dead_code, reason = "only the seeds")]
mod targets;

fn main() {
    let place = env::args().nth(1).expect("usage: seeds DIRECTORY");
    for (target, name, bytes) in targets::seeds() {
        let folder = Path::new(&place).join(target);
        fs::create_dir_all(&folder).expect("a directory");
        fs::write(folder.join(name), bytes).expect("writes");
    }
}
