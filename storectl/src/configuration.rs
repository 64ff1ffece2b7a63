//! `config get`, `set` and `check`: the configuration file, as whoever may write it sees it.
//!
//! # Operation
//! The daemon says which file it reads and which values are in force; it writes no configuration (a service may not write
//! below /etc). So `set` edits the file here, with the rights of who runs it: a copy beside it gets the change, `storedd
//! --check-config` judges the copy, and only a copy without a fault takes the file's place, in one step. Then the daemon
//! is asked to read it again and says what is in force and what waits for a restart (row 160).

use crate::ask;
use crate::cli::{ConfigCheckArgs, ConfigGetArgs, ConfigSetArgs, Global};
use crate::exit::{DONE, Outcome, Stop};
use crate::files;
use crate::life;
use crate::offline;
use crate::render::{self, Style};
use crate::socket::Environment;
use crate::suggest;
use proto::{Code, ConfigChange, Failure, Reloaded, Reply, Request};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use toml_edit::{DocumentMut, Item, Table, value};

/// Largest configuration file that is edited.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// `config get`: the value as it stands in a file, or as JSON.
///
/// # Errors
/// No such option; no daemon.
pub fn get(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    args: &ConfigGetArgs,
) -> Outcome<u8> {
    let values = values(global, environment, args.defaults)?;
    let found = values.get(&args.option).ok_or_else(|| unknown(&args.option, &values))?;
    let value = render::option_value(found.clone());
    let text = match &value {
        serde_json::Value::String(text) if !style.json => text.clone(),
        other => other.to_string(),
    };
    render::text(out, &format!("{}\n", if style.json { text } else { render::words::printable(&text).into_owned() }))?;
    Ok(DONE)
}

/// The values in force, or the defaults.
fn values(global: &Global, environment: &Environment, defaults: bool) -> Outcome<BTreeMap<String, String>> {
    match call(global, environment, &Request::ConfigShow { defaults })? {
        Reply::Config(values) => Ok(values),
        other => Err(Stop::new(Code::Protocol, format!("the daemon answered config show with {other:?}"))),
    }
}

fn call(global: &Global, environment: &Environment, request: &Request) -> Outcome<Reply> {
    let mut client = ask::connect(global, environment, false)?;
    client.call(request).map_err(|e| Stop::Failed(e.failure()))
}

/// There is no such option; the one that was meant, if it can be guessed.
fn unknown(option: &str, values: &BTreeMap<String, String>) -> Stop {
    let key = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let near = || suggest::nearest(option, "", values.keys().cloned().collect());
    let meant = values.keys().find(|name| key(name) == key(option)).cloned().or_else(near);
    let hint = match meant {
        Some(name) => format!("storectl config get {name}"),
        None => "storectl config show".to_owned(),
    };
    Stop::hint(Code::BadInput, format!("no option {option}"), hint)
}

/// `config check`: becomes `storedd --check-config`.
///
/// # Errors
/// No file is named and no daemon knows one.
pub fn check(global: &Global, environment: &Environment, args: &ConfigCheckArgs) -> Outcome<u8> {
    let file = match &args.file {
        Some(file) => Some(file.clone()),
        None => file(global, environment)?,
    };
    Err(offline::check_config(global, file.as_deref()))
}

/// The file: as named, or the daemon's; `None` if neither knows one.
fn file(global: &Global, environment: &Environment) -> Outcome<Option<PathBuf>> {
    if let Some(file) = global.config.clone().or_else(|| environment.config.clone().map(PathBuf::from)) {
        return Ok(Some(file));
    }
    if !life::is_running(global, environment)? {
        return Ok(None);
    }
    match call(global, environment, &Request::ConfigReload { dry_run: true }) {
        Ok(Reply::Reloaded(Reloaded { file, .. })) => Ok(file.map(PathBuf::from)),
        // It has a fault, and the message begins with its name: that is what is asked about.
        Err(Stop::Failed(Failure { code: Code::Config, message, .. })) => Ok(file_of(&message).map(PathBuf::from)),
        Ok(other) => Err(Stop::new(Code::Protocol, format!("the daemon answered config reload with {other:?}"))),
        Err(stop) => Err(stop),
    }
}

/// The file that a message `FILE:LINE: what` or `FILE: what` is about. Its name may have colons.
fn file_of(message: &str) -> Option<&str> {
    let colons = message.match_indices(": ").map(|(at, _)| &message[..at]);
    let numbered = colons.filter_map(|head| {
        let (file, line) = head.rsplit_once(':')?;
        (!line.is_empty() && line.bytes().all(|b| b.is_ascii_digit())).then_some(file)
    });
    numbered.into_iter().next().or_else(|| message.split_once(": ").map(|(file, _)| file))
}

/// What the running daemon knows of the options.
struct Known {
    /// Every option with its default.
    defaults: BTreeMap<String, String>,
    /// Those in force before the change.
    before: BTreeMap<String, String>,
}

impl Known {
    fn of(global: &Global, environment: &Environment) -> Outcome<Option<Known>> {
        if !life::is_running(global, environment)? {
            return Ok(None);
        }
        let (defaults, before) = (values(global, environment, true)?, values(global, environment, false)?);
        Ok(Some(Known { defaults, before }))
    }

    /// Whether a text is expected, and no size or time, which may be plain numbers.
    ///
    /// # Errors
    /// There is no such option.
    fn is_text(&self, option: &str) -> Outcome<bool> {
        let partition = option.strip_prefix("partition.").and_then(|rest| rest.split_once('.'));
        if partition.is_some_and(|(name, key)| !name.is_empty() && ["path", "message_path"].contains(&key)) {
            return Ok(true);
        }
        let default = self.defaults.get(option).ok_or_else(|| unknown(option, &self.defaults))?;
        let default = render::option_value(default.clone());
        Ok(default.as_str().is_some_and(|text| !text.starts_with(|c: char| c.is_ascii_digit())))
    }
}

/// `config set`.
///
/// # Errors
/// No file; no right to write it; no such option (65); a value that is a fault (78); somebody else has changed the file
/// meanwhile (75): then nothing is changed.
pub fn set(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    args: &ConfigSetArgs,
) -> Outcome<u8> {
    let Some(file) = file(global, environment)? else {
        return Err(Stop::hint(
            Code::Config,
            "there is no configuration file to write to",
            "start the daemon with one (storedd --config FILE), or name it: storectl --config FILE config set ...",
        ));
    };
    let known = Known::of(global, environment)?;
    let is_text = known.as_ref().map(|known| known.is_text(&args.option)).transpose()?.unwrap_or(false);
    let before = String::from_utf8(files::read(&file, FILE_BYTES_MAX)?)
        .map_err(|_| Stop::new(Code::Config, format!("{} is not UTF-8", file.display())))?;
    let after = edited(&file, &before, args, is_text)?;
    let replacement = files::Replacement::beside(&file, after.as_bytes())?;
    if let Err(said) = offline::checked(global, replacement.path())? {
        let said = said.replace(&replacement.path().display().to_string(), &file.display().to_string());
        let hint = format!("storectl config show --defaults; see the limits of {} in storedd.toml(5)", args.option);
        return Err(Stop::hint(Code::Config, said, hint));
    }
    if args.dry_run {
        let text = [format!("{} would be written: no fault", file.display())];
        render::summary(out, style, &serde_json::json!({"file": file, "dry_run": true}), &text)?;
        return Ok(DONE);
    }
    if files::read(&file, FILE_BYTES_MAX)? != before.as_bytes() {
        let what = format!("{} has been changed by somebody else meanwhile", file.display());
        return Err(Stop::hint(Code::Busy, what, "look at it, and try again"));
    }
    replacement.put()?;
    let told = Told { option: &args.option, file: &file, text: &after };
    let (in_force, text) = told.of(global, environment, known.as_ref())?;
    let said = serde_json::json!({"file": file, "option": args.option, "in_force": in_force});
    render::summary(out, style, &said, &[text])?;
    Ok(DONE)
}

/// The text with the option set or removed; `is_text`: what looks like a number or a switch is a text all the same.
fn edited(file: &Path, text: &str, args: &ConfigSetArgs, is_text: bool) -> Outcome<String> {
    let fault = |what: String| Stop::hint(Code::Config, what, format!("storectl config check {}", file.display()));
    let mut document: DocumentMut = text.parse().map_err(|e| fault(format!("{}: {e}", file.display())))?;
    let Some((section, key)) = args.option.rsplit_once('.') else {
        return Err(Stop::hint(Code::BadInput, format!("no option {}", args.option), "storectl config show"));
    };
    let mut table: &mut Table = document.as_table_mut();
    for name in section.split('.') {
        if args.value.is_none() && !table.contains_key(name) {
            return Ok(text.to_owned());
        }
        let item = table.entry(name).or_insert_with(|| Item::Table(Table::new()));
        table = item.as_table_mut().ok_or_else(|| fault(format!("{}: {name} is no section", file.display())))?;
    }
    match &args.value {
        Some(text) => {
            // Numbers and switches are what they look like; everything else is a text, with or without its quotes.
            let parsed = text.parse::<toml_edit::Value>().ok().filter(|looks| looks.is_str() || !is_text);
            let parsed = parsed.unwrap_or_else(|| text.as_str().into());
            match table.get_mut(key).and_then(Item::as_value_mut) {
                Some(there) => {
                    let decor = there.decor().clone();
                    *there = parsed;
                    *there.decor_mut() = decor;
                }
                None => drop(table.insert(key, value(parsed))),
            }
        }
        None => drop(table.remove(key)),
    }
    Ok(document.to_string())
}

/// What became of an option that was written.
struct Told<'a> {
    option: &'a str,
    file: &'a Path,
    /// The file as it is now.
    text: &'a str,
}

impl Told<'_> {
    /// Whether it is in force, and in words: in force, waiting, or without effect.
    fn of(&self, global: &Global, environment: &Environment, known: Option<&Known>) -> Outcome<(bool, String)> {
        let Told { option, file, .. } = self;
        let written = format!("{option} is written to {}", file.display());
        let Some(known) = known else { return Ok((false, format!("{written}, for the next start"))) };
        let told = match call(global, environment, &Request::ConfigReload { dry_run: false })? {
            Reply::Reloaded(told) => told,
            other => {
                return Err(Stop::new(Code::Protocol, format!("the daemon answered config reload with {other:?}")));
            }
        };
        if told.file.as_deref().map(|read| real(Path::new(read))) != Some(real(file)) {
            return Ok((false, format!("{written}, which the daemon does not read")));
        }
        let among = |changes: &[ConfigChange]| changes.iter().any(|change| change.option == *option);
        if among(&told.pending) {
            return Ok((false, format!("{written}; it waits for: storectl restart")));
        }
        let now = values(global, environment, false)?.remove(*option);
        // The daemon may have seen the new file before it was asked to.
        let has_changed = among(&told.changed) || now.as_ref() != known.before.get(*option);
        if has_changed || now.clone().map(plain) == self.expected(known) {
            return Ok((true, format!("{written}, and in force")));
        }
        let now = now.unwrap_or_default();
        Ok((false, format!("{written}; in force is {now}, as before: it is the same, or the command line wins")))
    }

    /// What the file says; without a word there, the default.
    fn expected(&self, known: &Known) -> Option<String> {
        let document: DocumentMut = self.text.parse().ok()?;
        let mut names = self.option.split('.');
        let found = names.try_fold(document.as_item(), |item, name| item.get(name));
        let text = found.and_then(Item::as_value).map(|value| match value.as_str() {
            Some(text) => text.to_owned(),
            None => value.to_string().trim().to_owned(),
        });
        text.or_else(|| known.defaults.get(self.option).cloned().map(plain))
    }
}

/// A text without the quotes that it has in the answer of the daemon.
fn plain(text: String) -> String {
    match render::option_value(text.clone()) {
        serde_json::Value::String(text) => text,
        _ => text,
    }
}

/// The file without links on the way to it.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str, option: &str, value: Option<&str>) -> String {
        let args = ConfigSetArgs {
            option: option.to_owned(),
            value: value.map(str::to_owned),
            default: value.is_none(),
            dry_run: false,
        };
        edited(Path::new("f.toml"), text, &args, option == "access.admin_group").unwrap()
    }

    #[test]
    fn comments_and_order_stay() {
        let text = "# head\n[log]\nspares = 2 # two\n# between\n[messages]\nlevel = \"info\"\n";
        assert_eq!(set(text, "log.spares", Some("3")), text.replace("= 2", "= 3"));
        assert_eq!(set(text, "messages.level", Some("debug")), text.replace("info", "debug"));
        assert_eq!(set(text, "messages.level", Some("\"debug\"")), text.replace("info", "debug"));
        assert_eq!(set(text, "log.seal_idle", Some("1s")), text.replace("two\n", "two\nseal_idle = \"1s\"\n"));
        assert_eq!(set(text, "reload.watch", Some("false")), format!("{text}\n[reload]\nwatch = false\n"));
        assert_eq!(set(text, "messages.level", None), text.replace("level = \"info\"\n", ""));
        assert_eq!(set(text, "access.admin_group", None), text, "no section is made for what is not there");
        let group = set(text, "access.admin_group", Some("1000"));
        assert!(group.ends_with("[access]\nadmin_group = \"1000\"\n"), "a text stays one: {group}");
        assert!(set(text, "partition.big.path", Some("/srv/big")).ends_with("[partition.big]\npath = \"/srv/big\"\n"));
    }
    #[test]
    fn the_file_of_a_message_may_have_colons() {
        for (message, file) in [
            ("/etc/a.toml:2: messages.level: found 7", "/etc/a.toml"),
            ("/etc/a:b/c: d.toml:12: x: 3: y", "/etc/a:b/c: d.toml"),
            ("/etc/a:b.toml: no such file", "/etc/a:b.toml"),
        ] {
            assert_eq!(file_of(message), Some(file));
        }
    }
}
