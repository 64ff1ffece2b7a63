//! Shell completions: the script that a shell loads, and the words that it asks this program for at every TAB.
//!
//! # Operation
//! The script calls `storectl` with [`ASKED`] in its environment and the words typed so far. What fits comes from the
//! definitions that `--help` comes from, and, where the name of something in the store stands, from the running daemon.
//! Which names go where is told by the value's name in the help: a verb that takes a `USER` is offered users.

use crate::cli::{self, Global, Shell};
use crate::names::{self, Kind};
use crate::socket::Environment;
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{EnvCompleter, Fish, Zsh};
use std::ffi::{OsStr, OsString};
use std::io;

/// Set by the scripts: the name of the shell that asks.
const ASKED: &str = "STORECTL_COMPLETE";
/// More names than this help nobody choose.
const MOST: usize = 200;

/// Answers a shell that asks for words; false if none does.
///
/// # Errors
/// An unknown shell, standard output.
pub fn answered(args: &[OsString]) -> Result<bool, clap::Error> {
    // A shell that cannot be asked for directories still gets verbs.
    let here = std::env::current_dir().ok();
    CompleteEnv::with_factory(|| with_names(cli::definition())).var(ASKED).try_complete(args, here.as_deref())
}

/// The script that a shell loads.
///
/// # Errors
/// None that a buffer in memory has.
pub fn script(shell: Shell) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let (var, name) = (ASKED, "storectl");
    match shell {
        Shell::Bash => out.extend(BASH.replace("ASKED", ASKED).into_bytes()),
        Shell::Fish => Fish.write_registration(var, name, name, name, &mut out)?,
        Shell::Zsh => {
            Zsh.write_registration(var, name, name, name, &mut out)?;
            // zsh runs a file of its function path at the first TAB, and what that run offers is all it shows.
            out.extend(b"[[ $funcstack[1] == _storectl ]] && _clap_dynamic_completer_storectl \"$@\"\n");
        }
    }
    Ok(out)
}

/// For bash: it splits words at `@`, `:` and `=`, which stand in the names of users, and inserts what it is given without
/// quotes; so words are joined again before they are handed over, and cut and quoted as bash expects them afterwards.
const BASH: &str = r#"_storectl() {
    local rest=${COMP_LINE:0:COMP_POINT} typed word at done
    local -a words=()
    for ((at = 0; at <= COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        if [[ $at == 0 || $rest == [[:space:]]* ]]; then
            words+=("")
        fi
        rest=${rest#"${rest%%[![:space:]]*}"}
        [[ $at == "$COMP_CWORD" ]] && word=$rest
        rest=${rest#"$word"}
        words[-1]+=$word
    done
    typed=${words[-1]}
    words[-1]=${typed//\\/}
    done=${typed%"$2"}
    COMPREPLY=()
    while IFS= read -r word || [[ -n $word ]]; do
        [[ $word == *[[:space:]\'\"\#\\\$\&\;\(\)\<\>\|\*\?\`\!\[\]\^\{\}\~]* ]] && printf -v word %q "$word"
        COMPREPLY+=("${word#"$done"}")
        [[ $word == *[=/:] ]] && compopt -o nospace
    done < <(_CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) ASKED=bash storectl -- "${words[@]}" 2>/dev/null)
}
complete -o bashdefault -o nosort -F _storectl storectl
"#;

/// The definition with the names of the store wherever one of them is asked for.
fn with_names(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| match arg.get_value_names().and_then(|names| names.first()) {
        Some(name) => match offered(name.as_str()) {
            Some(offered) => arg.add(ArgValueCompleter::new(offered)),
            None => arg,
        },
        None => arg,
    });
    command.mut_subcommands(with_names)
}

/// What is offered where the help says `value`.
fn offered(value: &str) -> Option<fn(&OsStr) -> Vec<CompletionCandidate>> {
    Some(match value {
        "USER" => |typed| candidates(typed, |at, typed| at.list(Kind::Users, typed)),
        "MAILBOX" | "OLD" => |typed| candidates(typed, Place::mailboxes),
        "ROOT" => |typed| candidates(typed, |at, typed| [at.list(Kind::Users, typed), at.mailboxes(typed)].concat()),
        "PARTITION" => |typed| candidates(typed, |at, typed| at.list(Kind::Partitions, typed)),
        "JOB" => |typed| candidates(typed, |at, typed| at.list(Kind::Jobs, typed)),
        "OPTION" => |typed| candidates(typed, |at, typed| at.list(Kind::Options, typed)),
        _ => return None,
    })
}

fn candidates(typed: &OsStr, find: fn(&Place, &str) -> Vec<String>) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let place = Place { global: global(std::env::args_os()), environment: Environment::of_process() };
    let mut names = find(&place, typed);
    names.retain(|name| !name.contains(char::is_control));
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// The store whose names are offered.
struct Place {
    global: Global,
    environment: Environment,
}

impl Place {
    fn list(&self, kind: Kind, typed: &str) -> Vec<String> {
        names::starting(&self.global, &self.environment, kind, typed, MOST)
    }

    /// Step by step, as a shell does it with directories: first whose mailboxes, then which.
    fn mailboxes(&self, typed: &str) -> Vec<String> {
        match typed.strip_prefix("user/") {
            Some(user) if !user.contains('/') => {
                self.list(Kind::Users, user).into_iter().map(|user| format!("user/{user}/")).collect()
            }
            None if typed.len() < "user/".len() => {
                ["shared/", "user/"].into_iter().filter(|step| step.starts_with(typed)).map(str::to_owned).collect()
            }
            _ => self.list(Kind::Mailboxes, typed),
        }
    }
}

/// The options that name the store, among words that are not complete yet.
fn global(words: impl IntoIterator<Item = OsString>) -> Global {
    let mut global = Global::default();
    let mut words = words.into_iter().map(|word| word.to_string_lossy().into_owned());
    while let Some(word) = words.next() {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) => (option, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let place = match option {
            "--data-dir" => &mut global.data_dir,
            "--socket" => &mut global.socket,
            "--config" => &mut global.config,
            _ => continue,
        };
        *place = value.or_else(|| words.next()).map(Into::into);
    }
    global
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_found_among_incomplete_words() {
        let words = ["storectl", "--", "storectl", "user", "--data-dir", "d", "show", "--socket=s", "--json"];
        let found = global(words.map(OsString::from));
        assert_eq!((found.data_dir, found.socket), (Some("d".into()), Some("s".into())));
        assert_eq!(global(["--config".into()]).config, None);
    }

    /// Every value that names something in the store is known here under the name it has in the help.
    #[test]
    fn verbs_offer_what_they_take() {
        let command = with_names(cli::definition());
        let arg = |verbs: &[&str], arg: &str| {
            let found = verbs.iter().fold(&command, |command, verb| command.find_subcommand(verb).unwrap());
            let arg = found.get_arguments().find(|a| a.get_id() == arg).unwrap_or_else(|| panic!("{verbs:?} {arg}"));
            arg.get::<ArgValueCompleter>().is_some()
        };
        for (verbs, value) in [
            (&["user", "show"][..], "user"),
            (&["user", "add"], "partition"),
            (&["mailbox", "delete"], "name"),
            (&["mailbox", "rename"], "from"),
            (&["acl", "get"], "name"),
            (&["quota", "get"], "root"),
            (&["partition", "show"], "name"),
            (&["subscriptions"], "user"),
            (&["jobs", "cancel"], "id"),
        ] {
            assert!(arg(verbs, value), "{verbs:?} {value}");
        }
        assert!(!arg(&["user", "rename"], "to"), "a new name is nobody's");
    }

    #[test]
    fn a_script_calls_this_program() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = String::from_utf8(script(shell).unwrap()).unwrap();
            assert!(text.contains(ASKED) && text.contains("storectl -- "), "{shell:?}: {text}");
        }
    }
}
