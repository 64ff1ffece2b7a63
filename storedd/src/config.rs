//! Configuration: TOML, every key known, every problem named with its line.
//!
//! # Purpose
//! [`Config::load`] turns the file and the command line into values that the rest of the program uses without asking
//! further. The table of options is [`options::OPTIONS`]; `config/storedd.toml` documents it, and a test holds the two
//! equal.
//!
//! # Operation
//! Read, parse (all syntax errors), set (all unknown keys, wrong types, values out of range), then the command line, then
//! paths made absolute, then what only shows when options stand side by side. Nothing stops at the first problem.
//! [`check`] adds what only the file system knows.
//!
//! # Invariants
//! A [`Config`] that was returned satisfies every limit of the table; its paths are absolute; it has at least one
//! partition, and `store.default_partition` is one of them.

mod expire;
mod file;
pub mod options;
#[cfg(test)]
mod tests;
pub mod value;
mod verify;

pub use expire::{ExpireAction, ExpireRule};
pub use options::{Effect, Format, Level, OPTIONS, OnLoss, Opt, OverQuota, SECTIONS, Sections, Upgrade};
pub use verify::check;

use crate::site::Site;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// The file that is read when neither `--config` nor `--data-dir` is given, if it is there.
pub const DEFAULT_FILE: &str = "/etc/storedd/storedd.toml";
/// Where `storectl` looks for the daemon of a service.
pub const USUAL_SOCKET: &str = "/run/storedd/control.sock";
/// The data directory when there is neither a file nor `--data-dir`: a try-out below the working directory.
pub const TRYOUT_DIR: &str = "storedd-data";
/// Largest configuration file in bytes.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// Longest path of a Unix socket in bytes: `sun_path` without its final zero.
pub const SOCKET_PATH_MAX: usize = 107;
/// Longest name of a partition in bytes.
pub const PARTITION_NAME_MAX: usize = 64;

/// Something wrong in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, or the option of the command line.
    pub file: String,
    /// Line in it, from 1; 0 if it belongs to no line.
    pub line: usize,
    /// `section.key`; empty if it belongs to none.
    pub option: String,
    /// What was found and what was expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.option.is_empty() {
            write!(f, ": {}", self.option)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The table of options.
    Default,
    /// This line of the file.
    Line(usize),
    /// This option of the command line.
    Given(&'static str),
}

/// The configuration in effect. Sections are fields (`config.log.segment_size`), see [`Sections`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    sections: Sections,
    /// Partition name -> where it lies, absolute.
    pub partitions: BTreeMap<String, Site>,
    /// Rules of ageing, in the order of the file: the first one that catches a message decides.
    pub expire: Vec<ExpireRule>,
    /// The file it was read from; `None` if none was read.
    pub file: Option<PathBuf>,
    origins: BTreeMap<String, Origin>,
    given: Given,
}

/// The part of the command line that wins over the file; absolute paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Given {
    data_dir: Option<PathBuf>,
    socket: Option<PathBuf>,
}

impl Deref for Config {
    type Target = Sections;

    fn deref(&self) -> &Sections {
        &self.sections
    }
}

/// One option that differs between two configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `section.key`.
    pub option: String,
    /// Before, as TOML text; empty if it was not there.
    pub from: String,
    /// After, as TOML text; empty if it is gone.
    pub to: String,
    /// When it takes effect.
    pub effect: Effect,
}

impl Config {
    /// Reads the file (`--config`; without it and without `--data-dir`: [`DEFAULT_FILE`] if there) and puts the command
    /// line over it. With `data_dir` the socket is `control.sock` in that directory, unless `socket` is given too.
    ///
    /// # Errors
    /// Every problem found, in the order of the file.
    pub fn load(path: Option<&Path>, data_dir: Option<&Path>, socket: Option<&Path>) -> Result<Config, Vec<Problem>> {
        let default = Path::new(DEFAULT_FILE);
        let path = path.or_else(|| (data_dir.is_none() && crate::disk::outside::exists(default)).then_some(default));
        let Some(path) = path else {
            return Config::from_text("", None, data_dir, socket);
        };
        let name = path.display().to_string();
        let problem = |message: String| vec![Problem { file: name.clone(), line: 0, option: String::new(), message }];
        let bytes = crate::disk::outside::read(path, FILE_BYTES_MAX).map_err(|e| problem(e.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
            problem(format!("line {line} is not UTF-8"))
        })?;
        Config::from_text(&text, Some(path), data_dir, socket)
    }

    /// Reads the file again that this configuration was read from, under the same command line; `None` if there was no
    /// file.
    #[must_use]
    pub fn again(&self) -> Option<Result<Config, Vec<Problem>>> {
        let file = self.file.as_deref()?;
        Some(Config::load(Some(file), self.given.data_dir.as_deref(), self.given.socket.as_deref()))
    }

    /// The defaults with everything below one directory: a try-out, a test.
    #[must_use]
    pub fn in_dir(data_dir: &Path) -> Config {
        let mut config = Config::defaults();
        config.command_line(Some(data_dir), None);
        config.make_absolute();
        config
    }

    /// [`Config::load`] on a text in memory; `file` names it in messages.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_text(
        text: &str,
        file: Option<&Path>,
        data_dir: Option<&Path>,
        socket: Option<&Path>,
    ) -> Result<Config, Vec<Problem>> {
        let mut config = Config::defaults();
        config.file = file.map(Path::to_path_buf);
        let mut problems = file::read_into(&mut config, text);
        config.command_line(data_dir, socket);
        if file.is_none() && data_dir.is_none() {
            config.sections.store.data_dir = TRYOUT_DIR.into();
        }
        config.make_absolute();
        problems.extend(verify::side_by_side(&config));
        problems.sort_by_key(|p| p.line);
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// The options that name this store on the command line of either program: none where the usual places hold. A
    /// try-out is named by its directory, whatever the working directory was.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.display().to_string();
        let mut named = Vec::new();
        if self.given.data_dir.is_some() || self.file.is_none() {
            named.push(("--data-dir", text(&self.store.data_dir)));
        }
        if let Some(file) = self.file.as_deref().filter(|file| *file != Path::new(DEFAULT_FILE)) {
            named.push(("--config", text(&std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf()))));
        }
        if let Some(socket) = self.given.socket.as_deref().filter(|socket| *socket != Path::new(USUAL_SOCKET)) {
            named.push(("--socket", text(socket)));
        }
        named
    }

    /// Where the numbers are served; `None` if nowhere.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.listen.parse().ok()
    }

    /// The port on which mail is taken; `None` if on none.
    #[must_use]
    pub fn lmtp_address(&self) -> Option<SocketAddr> {
        self.lmtp.listen.parse().ok()
    }

    /// When a changed option takes effect, by its full name.
    #[must_use]
    pub fn effect(option: &str) -> Effect {
        let row =
            OPTIONS.iter().find(|o| option.strip_prefix(o.section).is_some_and(|k| k.strip_prefix('.') == Some(o.key)));
        match row {
            Some(row) => row.effect,
            None if option.starts_with("expire.") => Effect::Reload,
            None => Effect::Restart,
        }
    }

    /// Every option in effect: full name -> value as TOML text.
    #[must_use]
    pub fn values(&self) -> BTreeMap<String, String> {
        self.rows().into_iter().collect()
    }

    /// What [`Config::values`] gives when nothing is configured; paths as they stand in the table.
    #[must_use]
    pub fn default_values() -> BTreeMap<String, String> {
        Config::defaults().values()
    }

    /// The configuration in effect as a file that gives the same configuration, each value with its origin.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        let rows = self.rows();
        for (name, value) in &rows {
            let (here, key) = name.rsplit_once('.').unwrap_or(("", name));
            if here != section {
                text += &format!("{}[{here}]\n", if text.is_empty() { "" } else { "\n" });
                section = here;
            }
            let origin = match self.origin(name) {
                Origin::Default => "default".to_owned(),
                Origin::Line(line) => format!("line {line}"),
                Origin::Given(option) => option.to_owned(),
            };
            text += &format!("{key} = {value}  # {origin}\n");
        }
        text
    }

    /// Where a value comes from, by its full name.
    #[must_use]
    pub fn origin(&self, option: &str) -> Origin {
        self.origins.get(option).cloned().unwrap_or(Origin::Default)
    }

    /// What differs in `new`, in the order of the table.
    #[must_use]
    pub fn differences(&self, new: &Config) -> Vec<Difference> {
        let before = self.values();
        let after = new.values();
        let mut names: Vec<String> = self.rows().into_iter().chain(new.rows()).map(|(name, _)| name).collect();
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        let value = |values: &BTreeMap<String, String>, name: &str| values.get(name).cloned().unwrap_or_default();
        names
            .into_iter()
            .filter(|name| before.get(name) != after.get(name))
            .map(|name| Difference {
                from: value(&before, &name),
                to: value(&after, &name),
                effect: Config::effect(&name),
                option: name,
            })
            .collect()
    }

    /// This configuration with those options of `new` that take effect at a reload.
    #[must_use]
    pub fn reloaded(&self, new: &Config) -> Config {
        let mut out = self.clone();
        out.sections.reload(&new.sections);
        out.expire.clone_from(&new.expire);
        out
    }

    fn defaults() -> Config {
        Config {
            sections: Sections::default(),
            partitions: one_partition(),
            expire: Vec::new(),
            file: None,
            origins: BTreeMap::new(),
            given: Given::default(),
        }
    }

    fn rows(&self) -> Vec<(String, String)> {
        let names = OPTIONS.iter().map(|o| format!("{}.{}", o.section, o.key));
        let partitions = self.partitions.iter().flat_map(|(name, site)| {
            let second = site.messages.as_ref().map(|path| (format!("partition.{name}.message_path"), path));
            let roots = std::iter::once((format!("partition.{name}.path"), &site.path)).chain(second);
            roots.map(|(option, path)| (option, value::Value::toml(path)))
        });
        let rules = self.expire.iter().flat_map(|rule| {
            rule.values().into_iter().map(|(key, value)| (format!("expire.{}.{key}", rule.name), value))
        });
        names.zip(self.sections.values()).chain(partitions).chain(rules).collect()
    }

    fn command_line(&mut self, data_dir: Option<&Path>, socket: Option<&Path>) {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        self.given = Given { data_dir: data_dir.map(absolute), socket: socket.map(absolute) };
        let mut given = |option: &str, value: &mut PathBuf, path: &Path, by: &'static str| {
            *value = path.to_path_buf();
            self.origins.insert(option.to_owned(), Origin::Given(by));
        };
        if let Some(dir) = &self.given.data_dir {
            given("store.data_dir", &mut self.sections.store.data_dir, dir, "--data-dir");
            given("store.runtime_dir", &mut self.sections.store.runtime_dir, Path::new("."), "--data-dir");
            given("control.socket", &mut self.sections.control.socket, Path::new("control.sock"), "--data-dir");
        }
        if let Some(path) = &self.given.socket {
            given("control.socket", &mut self.sections.control.socket, path, "--socket");
        }
    }

    fn make_absolute(&mut self) {
        let sections = &mut self.sections;
        let data = tidy(&std::path::absolute(&sections.store.data_dir).unwrap_or_default());
        let store = &mut sections.store;
        for path in [&mut store.db_dir, &mut store.log_dir, &mut store.runtime_dir, &mut sections.snapshot.directory] {
            *path = tidy(&data.join(&*path));
        }
        if !sections.messages.directory.as_os_str().is_empty() {
            sections.messages.directory = tidy(&data.join(&sections.messages.directory));
        }
        for site in self.partitions.values_mut() {
            site.each_root(|path| *path = tidy(&data.join(&*path)));
        }
        sections.control.socket = tidy(&sections.store.runtime_dir.join(&sections.control.socket));
        if !sections.lmtp.socket.as_os_str().is_empty() {
            sections.lmtp.socket = tidy(&sections.store.runtime_dir.join(&sections.lmtp.socket));
        }
        sections.store.data_dir = data;
    }
}

/// The partitions of a configuration that names none.
fn one_partition() -> BTreeMap<String, Site> {
    BTreeMap::from([("primary".to_owned(), default_partition_path("primary").into())])
}

/// Where a partition lies whose section names no path; a relative path counts from data_dir.
fn default_partition_path(name: &str) -> PathBuf {
    Path::new("partition").join(name)
}

/// Without `.` components and doubled or final slashes; `..` stays, because a symbolic link may stand before it.
fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|c| !matches!(c, std::path::Component::CurDir)).collect()
}
