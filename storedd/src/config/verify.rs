//! What only shows when options stand side by side, and what only the file system knows.

use super::{Config, Origin, Problem, SOCKET_PATH_MAX};
use crate::disk::outside;
use std::path::{Path, PathBuf};

/// Every problem of a configuration (`storedd --check-config`, `storectl config check`): those of [`Config::load`], then
/// directories that cannot be, and paths that are one directory by way of symbolic links. Changes nothing.
#[must_use]
pub fn check(path: Option<&Path>, data_dir: Option<&Path>, socket: Option<&Path>) -> Vec<Problem> {
    match Config::load(path, data_dir, socket) {
        Err(problems) => problems,
        Ok(config) => on_disk(&config),
    }
}

/// Problems between options.
pub(super) fn side_by_side(config: &Config) -> Vec<Problem> {
    let mut problems = same_places(config, Path::to_path_buf);
    let mut problem = |option: &str, message: String| problems.push(place(config, option, message));
    for (option, path) in [("control.socket", &config.control.socket), ("lmtp.socket", &config.lmtp.socket)] {
        let bytes = path.as_os_str().len();
        if bytes > SOCKET_PATH_MAX {
            let message = format!("{} has {bytes} bytes, a socket's path at most {SOCKET_PATH_MAX}", path.display());
            problem(option, message);
        }
    }
    mail_door(config, &mut problem);
    let (soft, hard) = (config.checkpoint.overlay_bytes, config.checkpoint.overlay_bytes_max);
    if hard < soft.saturating_mul(2) {
        let message = format!("found {hard} bytes, expected at least twice overlay_bytes, which is {soft} bytes");
        problem("checkpoint.overlay_bytes_max", message);
    }
    outlets(config, &mut problem);
    let default = &config.store.default_partition;
    if !config.partitions.contains_key(default) {
        let names = config.partitions.keys().cloned().collect::<Vec<_>>().join(", ");
        problem("store.default_partition", format!("there is no [partition.{default}]; partitions are {names}"));
    }
    problems
}

/// Problems of the door for mail.
fn mail_door(config: &Config, problem: &mut dyn FnMut(&str, String)) {
    let lmtp = &config.lmtp;
    match config.lmtp_address() {
        None if lmtp.listen.is_empty() => {}
        None => problem("lmtp.listen", format!("found {:?}, expected an address such as 127.0.0.1:24", lmtp.listen)),
        Some(address) if !address.ip().is_loopback() => {
            let message =
                format!("other hosts reach {address}, and whoever reaches it delivers mail; expected 127.0.0.1 or ::1");
            problem("lmtp.listen", message);
        }
        Some(_) => {}
    }
    if lmtp.socket == config.control.socket {
        problem("lmtp.socket", format!("{} is the control socket", lmtp.socket.display()));
    }
    let delimiter = lmtp.delimiter.as_str();
    if !["", "+", "-", "_", "=", "#", "!"].contains(&delimiter) {
        problem("lmtp.delimiter", format!("found {delimiter:?}, expected one of + - _ = # !, or nothing"));
    }
}

/// Problems of what is told to others: the alarm command, the metrics.
fn outlets(config: &Config, problem: &mut dyn FnMut(&str, String)) {
    let listen = &config.metrics.listen;
    match config.metrics_address() {
        None if listen.is_empty() => {}
        None => problem("metrics.listen", format!("found {listen:?}, expected an address such as 127.0.0.1:9464")),
        Some(address) if !address.ip().is_loopback() && !config.metrics.listen_anywhere => {
            let message = format!("other hosts reach {address}; if they are to, set listen_anywhere = true");
            problem("metrics.listen", message);
        }
        Some(_) => {}
    }
    for (option, path) in [
        ("alarm.command", &config.alarm.command),
        ("metrics.textfile", &config.metrics.textfile),
        ("backup.directory", &config.backup.directory),
        ("backup.groups", &config.backup.groups),
        ("drill.directory", &config.drill.directory),
        ("archive.path", &config.archive.path),
    ] {
        if !path.as_os_str().is_empty() && !path.is_absolute() {
            problem(option, format!("found {}, expected an absolute path", path.display()));
        }
    }
    let textfile = &config.metrics.textfile;
    if !textfile.as_os_str().is_empty() && textfile.extension().is_none_or(|extension| extension != "prom") {
        problem("metrics.textfile", format!("found {}, expected a name that ends in .prom", textfile.display()));
    }
    if config.disk.bulk_reserve < config.disk.reserve {
        let message = format!("found {} bytes, expected at least disk.reserve", config.disk.bulk_reserve);
        problem("disk.bulk_reserve", message);
    }
}

/// Problems that the file system knows of.
fn on_disk(config: &Config) -> Vec<Problem> {
    let mut problems = same_places(config, outside::resolved);
    let socket_dir = config.control.socket.parent().unwrap_or(Path::new("/")).to_path_buf();
    let mut dirs = vec![
        ("store.data_dir".to_owned(), config.store.data_dir.clone()),
        ("store.db_dir".to_owned(), config.store.db_dir.clone()),
        ("store.log_dir".to_owned(), config.store.log_dir.clone()),
        ("control.socket".to_owned(), socket_dir),
    ];
    dirs.extend(roots(config).map(|(option, path)| (option, path.to_path_buf())));
    for (option, path) in dirs {
        if let Some(why) = outside::obstacle(&path) {
            problems.push(place(config, &option, format!("the directory {} cannot be used: {why}", path.display())));
        }
    }
    problems.sort_by_key(|p| p.line);
    problems.dedup();
    problems
}

/// The options of partitions that name directories, and these.
fn roots(config: &Config) -> impl Iterator<Item = (String, &Path)> {
    config.partitions.iter().flat_map(|(name, site)| {
        ["path", "message_path"]
            .into_iter()
            .zip(site.roots())
            .map(move |(key, path)| (format!("partition.{name}.{key}"), path))
    })
}

/// A partition has a directory of its own, or two: no other partition, nor the database or log, lies at or inside it, and it
/// lies in none of them. It may lie below the data directory.
fn same_places(config: &Config, real: impl Fn(&Path) -> PathBuf) -> Vec<Problem> {
    let mut taken: Vec<(String, PathBuf)> = vec![
        ("store.db_dir".to_owned(), real(&config.store.db_dir)),
        ("store.log_dir".to_owned(), real(&config.store.log_dir)),
    ];
    let mut problems = Vec::new();
    let data = real(&config.store.data_dir);
    for (option, path) in roots(config) {
        let path = real(path);
        if data.starts_with(&path) {
            let message = format!("{} holds store.data_dir; a partition needs a directory of its own", path.display());
            problems.push(place(config, &option, message));
            continue;
        }
        let other = taken.iter().find(|(_, other)| path.starts_with(other) || other.starts_with(&path));
        if let Some((other, at)) = other {
            let relation = if *at == path { "the same directory as" } else { "inside, or around," };
            problems.push(place(config, &option, format!("{} is {relation} {other}", path.display())));
        }
        taken.push((option, path));
    }
    problems
}

/// A problem at the place where the option was given.
fn place(config: &Config, option: &str, message: String) -> Problem {
    let file = config.file.as_ref().map_or_else(|| "configuration".to_owned(), |f| f.display().to_string());
    let (file, line) = match config.origin(option) {
        Origin::Given(by) => (by.to_owned(), 0),
        Origin::Line(line) => (file, line),
        Origin::Default => (file, 0),
    };
    Problem { file, line, option: option.to_owned(), message }
}
