//! Writes what a package needs beside the programs, made from the same definitions as `--help`: man pages and completions.
//!
//! ```text
//! cargo run --example pages -- DIR      DIR/man/*.1 *.5 *.8, DIR/completions/{bash,zsh,fish}
//! ```
#![allow(clippy::disallowed_methods, reason = "writes files; no part of the product")]

mod man;

use clap::CommandFactory;
use clap_complete::Shell;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err("usage: pages DIR".into());
    };
    for (name, text) in man::all() {
        put(&dir.join("man").join(name), text.as_bytes())?;
    }
    for (shell, name) in [(Shell::Bash, "storedd"), (Shell::Zsh, "_storedd"), (Shell::Fish, "storedd.fish")] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut storedd::cli::Cli::command(), "storedd", &mut script);
        put(&dir.join("completions").join(shell.to_string()).join(name), &script)?;
    }
    for (shell, name) in [("bash", "storectl"), ("zsh", "_storectl"), ("fish", "storectl.fish")] {
        let script = storectl::completions(shell).ok_or(shell)?;
        put(&dir.join("completions").join(shell).join(name), &script)?;
    }
    Ok(())
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let failed = |e| format!("{}: {e}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    Ok(fs::write(path, bytes).map_err(failed)?)
}
