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
    let meant = values.keys().find(|name| key(name) == key(option));
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
        Err(Stop::Failed(Failure { code: Code::Config, message, .. })) => {
            Ok(message.split_once(':').map(|(file, _)| PathBuf::from(file)))
        }
        Ok(other) => Err(Stop::new(Code::Protocol, format!("the daemon answered config reload with {other:?}"))),
        Err(stop) => Err(stop),
    }
}

/// `config set`.
///
/// # Errors
/// No file; no right to write it; a value that is a fault (78): then nothing is changed.
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
    let before = String::from_utf8(files::read(&file, FILE_BYTES_MAX)?)
        .map_err(|_| Stop::new(Code::Config, format!("{} is not UTF-8", file.display())))?;
    let after = edited(&file, &before, args)?;
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
    replacement.put()?;
    tell(global, environment, style, out, &file, args)
}

/// The text with the option set or removed.
fn edited(file: &Path, text: &str, args: &ConfigSetArgs) -> Outcome<String> {
    let fault = |what: String| Stop::hint(Code::Config, what, format!("storectl config check {}", file.display()));
    let mut document: DocumentMut = text.parse().map_err(|e| fault(format!("{}: {e}", file.display())))?;
    let Some((section, key)) = args.option.rsplit_once('.') else {
        return Err(Stop::hint(Code::BadInput, format!("no option {}", args.option), "storectl config show"));
    };
    let mut table: &mut Table = document.as_table_mut();
    for name in section.split('.') {
        let item = table.entry(name).or_insert_with(|| Item::Table(Table::new()));
        table = item.as_table_mut().ok_or_else(|| fault(format!("{}: {name} is no section", file.display())))?;
    }
    match &args.value {
        Some(text) => {
            // Numbers and switches are what they look like; everything else is a text, with or without its quotes.
            let parsed = text.parse::<toml_edit::Value>().unwrap_or_else(|_| text.as_str().into());
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

/// What became of it: in force, or waiting.
fn tell(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    file: &Path,
    args: &ConfigSetArgs,
) -> Outcome<u8> {
    let option = &args.option;
    let told = if life::is_running(global, environment)? {
        match call(global, environment, &Request::ConfigReload { dry_run: false })? {
            Reply::Reloaded(told) => Some(told),
            other => {
                return Err(Stop::new(Code::Protocol, format!("the daemon answered config reload with {other:?}")));
            }
        }
    } else {
        None
    };
    let waits = |changes: &[ConfigChange]| changes.iter().any(|change| change.option == *option);
    let (in_force, text) = match &told {
        // The daemon reads another file, or none.
        Some(told) if told.file.as_deref().map(Path::new) != std::path::absolute(file).ok().as_deref() => {
            (false, format!("{option} is written to {}, which the daemon does not read", file.display()))
        }
        Some(told) if waits(&told.pending) => {
            (false, format!("{option} is written to {}; it waits for: storectl restart", file.display()))
        }
        Some(_) => (true, format!("{option} is written to {}, and in force", file.display())),
        None => (false, format!("{option} is written to {}, for the next start", file.display())),
    };
    let said = serde_json::json!({"file": file, "option": option, "in_force": in_force});
    render::summary(out, style, &said, &[text])?;
    Ok(DONE)
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
        edited(Path::new("f.toml"), text, &args).unwrap()
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
        assert!(set(text, "partition.big.path", Some("/srv/big")).ends_with("[partition.big]\npath = \"/srv/big\"\n"));
    }
}
