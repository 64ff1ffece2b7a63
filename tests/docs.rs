//! What `docs/` tells an administrator to type works as it stands: each block of a page says who types it.
//!
//! | mark | typed |
//! |---|---|
//! | `sh run` | here, all blocks of a page in their order, on a store that runs |
//! | `sh stopped` | here, each for itself, on a store with mail and a snapshot; `systemctl` starts and stops a daemon without a service |
//! | `sh disaster` | by `tests/disaster.rs`, on a store that has lost what the heading says |
//! | `sh loss` | here, each for itself, on a store that has lost a log file |
//! | `sh program` | here: a file that a page says to save |
//! | `sh service` | by `.ci/boot`, with the installed service |
//! | `sh by hand: WHY` | by nobody; its commands are parsed |

#[path = "../packaging/pages/man.rs"]
mod man;

use crate::harness::{TestStore, run};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// The pages for administrators.
const PAGES: [&str; 12] = [
    "install.md",
    "first-day.md",
    "operations.md",
    "recovery.md",
    "backup.md",
    "disaster.md",
    "alarms.md",
    "mail.md",
    "mailboxes.md",
    "upgrade.md",
    "formats.md",
    "monitoring/README.md",
];

pub fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The blocks of a page with this mark.
pub fn blocks(text: &str, mark: &str) -> Vec<String> {
    let fence = format!("```{mark}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// What stands for the service where there is none: the daemon of the store, started and stopped by its own means.
const NO_SERVICE: &str = r#"
set -eu -o pipefail
sudo() { if [ "$1" = -u ]; then shift 2; fi; "$@"; }
systemctl() {
    case $1 in
    start) storedd > service.log 2>&1 & storectl health --wait 60s ;;
    stop) storectl shutdown ;;
    *) echo "no systemctl $1 here" >&2; return 1 ;;
    esac
}
set -x
"#;

/// Runs a script as a shell session beside the store, which ends at the first command that fails; demands this status.
pub fn type_in(store: &TestStore, name: &str, script: &str, status: i32) {
    let bin = Path::new(env!("CARGO_BIN_EXE_storectl")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    let (socket, config) = (store.data.join("control.sock"), store.beside("storedd.toml"));
    if !config.exists() {
        std::fs::write(&config, format!("[store]\ndata_dir = {:?}\n", store.data)).unwrap();
    }
    // `run` takes the variables out that would lead to the store of somebody else.
    let named = format!("export STOREDD_SOCKET={} STOREDD_CONFIG={}\n", socket.display(), config.display());
    bash.args(["--norc", "-c", &format!("{named}{NO_SERVICE}{script}")]);
    let ran = run(bash.env("PATH", path).current_dir(store.data.parent().unwrap()), None);
    assert_eq!(ran.status, status, "{name}: the last command:\n{}\n{}", ran.err, ran.out);
}

/// Runs the blocks of a page as one session.
fn follow(store: &TestStore, name: &str) {
    let blocks = blocks(&page(name), "sh run");
    assert!(!blocks.is_empty(), "{name} has nothing to run");
    type_in(store, name, &blocks.concat(), 0);
}

// row 54: no page has an administrator edit a file of the store, or write into one; configuration in /etc is no such file.
#[test]
fn no_page_edits_a_file_of_the_store() {
    const EDITORS: [&str; 8] = ["vi", "vim", "nano", "emacs", "ed", "sed", "dd", "hexedit"];
    for name in PAGES {
        let text = page(name);
        let code = text.split("```").skip(1).step_by(2).flat_map(str::lines);
        for line in code.filter(|line| !line.trim_start().starts_with('#')) {
            let words = line.split(|c: char| c.is_whitespace() || "|;&()".contains(c));
            let edits = words.into_iter().any(|word| EDITORS.contains(&word)) && !line.contains(" /etc/");
            let writes =
                line.split_once('>').is_some_and(|(_, to)| to.contains("mboxlist/") || to.contains("partition/"));
            assert!(!edits && !writes, "docs/{name}: {line}");
        }
    }
}

// row 10: without systemd, a start is good when the store is ready, and one that fails is not reported as good.
#[test]
fn a_store_without_a_service_is_started_and_stopped_as_told() {
    let store = TestStore::new();
    follow(&store, "install.md");
    assert!(store.data.join("STORE").exists(), "the page makes the store that the test looks at");
}

#[test]
fn the_first_day_goes_as_told() {
    let store = TestStore::new();
    let daemon = store.start();
    // What the Cyrus server gave.
    let list = r#"{"user.bob": {"uidvalidity": "7", "partition": "default", "acl": {"bob": "lrswipkxtecda"}}}"#;
    std::fs::write(store.beside("mboxlist.json"), list).unwrap();
    follow(&store, "first-day.md");
    let users = store.json(&["user", "list"]);
    assert_eq!(users.as_array().unwrap().len(), 6, "{users}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn the_store_is_operated_as_told() {
    let store = TestStore::new();
    let _daemon = store.start();
    follow(&store, "operations.md");
}

// rows 82, 83, 85: what an administrator types for a backup, and to put it back
#[test]
fn the_store_is_backed_up_and_restored_as_told() {
    follow(&TestStore::new(), "backup.md");
}

#[test]
fn the_log_is_looked_at_as_told() {
    let store = TestStore::new();
    let _daemon = store.start();
    follow(&store, "recovery.md");
}

#[test]
fn mailboxes_are_saved_and_brought_back_as_told() {
    let store = TestStore::new();
    let _daemon = store.start();
    follow(&store, "mailboxes.md");
}

#[test]
fn mail_is_set_up_as_told() {
    let store = TestStore::new();
    let _daemon = store.start();
    follow(&store, "mail.md");
}

#[test]
fn numbers_are_looked_at_as_told() {
    let store = TestStore::new();
    let _daemon = store.start();
    follow(&store, "monitoring/README.md");
}

/// What is done to a stopped store, and what is to be there for it: each block on a store of its own.
#[test]
fn a_stopped_store_is_treated_as_told() {
    let mut typed = 0;
    for name in PAGES {
        for block in blocks(&page(name), "sh stopped") {
            let store = TestStore::new();
            let daemon = store.start();
            store.ctl(&["user", "add", "joe"]).expect(0);
            store.ctl_with(&["message", "deliver", "user/joe/INBOX"], Some(b"Subject: x\r\n\r\nx\r\n")).expect(0);
            let snapshot = store.json(&["snapshot", "take", "--verify"])["id"].as_str().unwrap().to_owned();
            assert_eq!(daemon.stop(), 0);
            // What stands for the reader's own: a snapshot, a time in the past.
            let block = block.replace("20261122T182000.123Z-4711", &snapshot).replace("--before 2d", "--before 0s");
            let block = block.replace("2026-11-22T10:00:00Z", &snapshot_time(&snapshot));
            let offline = block.contains(" storedd ") && !block.contains("systemctl stop");
            let begins = if offline { "" } else { "systemctl start storedd\n" };
            type_in(&store, name, &format!("{begins}{block}"), 0);
            if store.ctl(&["status"]).status == 0 {
                store.ctl(&["shutdown"]).expect(0);
            }
            let daemon = store.start();
            assert_eq!(store.json(&["mailbox", "show", "user/joe/INBOX"])["messages"], 1, "{name}: {block}");
            assert_eq!(daemon.stop(), 0);
            typed += 1;
        }
    }
    assert!(typed >= 6, "{typed}");
}

/// The time in the name of a snapshot, as options take it.
fn snapshot_time(id: &str) -> String {
    let (date, time) = id.split_once('T').unwrap();
    let time = time.split('-').next().unwrap();
    format!("{}-{}-{}T{}:{}:{}", &date[..4], &date[4..6], &date[6..8], &time[..2], &time[2..4], &time[4..])
}

/// What is said after a loss is said to a store that has lost something, and ends with 2, as the pages tell.
#[test]
fn a_loss_is_accepted_as_told() {
    let mut typed = 0;
    for name in PAGES {
        for block in blocks(&page(name), "sh loss") {
            let store = TestStore::new();
            let daemon = store.start();
            store.ctl(&["user", "add", "joe"]).expect(0);
            store.ctl(&["checkpoint"]).expect(0);
            store.ctl(&["user", "add", "ann"]).expect(0);
            daemon.kill();
            std::fs::remove_file(store.data.join("mboxlist/log.0000000001")).unwrap();
            let _daemon = store.start();
            assert_eq!(store.json(&["status"])["repair_recommended"], true);
            type_in(&store, name, &block, 2);
            assert_eq!(store.json(&["status"])["repair_recommended"], false, "{name}: {block}");
            typed += 1;
        }
    }
    assert!(typed >= 3, "{typed}");
}

/// The program of the page is one that can be saved as it stands.
#[test]
fn the_program_for_alarms_writes_its_mail() {
    let store = TestStore::new();
    let [program]: [String; 1] = blocks(&page("alarms.md"), "sh program").try_into().unwrap();
    let mailer = "/usr/sbin/sendmail root";
    assert!(program.contains(mailer));
    let file = store.beside("storedd-alarm");
    std::fs::write(&file, program.replace(mailer, "cat")).unwrap();
    let mut sh = Command::new("sh");
    sh.arg(&file).args(["raised", "drill_age", ""]);
    for (name, value) in [("MESSAGE", "it is old"), ("CAUSE", "nobody made one"), ("NEXT", "storectl drill")] {
        sh.env(format!("STOREDD_ALARM_{name}"), value);
    }
    let out = sh.output().unwrap();
    let mail = String::from_utf8(out.stdout).unwrap();
    assert_eq!(mail, "Subject: storedd: raised drill_age \n\nit is old\nnobody made one\nnext: storectl drill\n");
    assert!(out.status.success());
}

/// Every block says who types it; what nobody types is at least a command that the programs take.
#[test]
fn every_block_says_who_types_it() {
    let (storectl, storedd) = (storectl::definition(), <storedd::cli::Cli as clap::CommandFactory>::command());
    for name in PAGES.into_iter().chain(["protocol.md", "damage-matrix.md"]) {
        let text = page(name);
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let Some(mark) = line.strip_prefix("```") else { continue };
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let by_hand = mark.strip_prefix("sh by hand: ");
            let known = [
                "sh run",
                "sh stopped",
                "sh loss",
                "sh disaster",
                "sh program",
                "sh service",
                "toml",
                "yaml",
                "ini",
                "text",
                "python",
            ];
            assert!(known.contains(&mark) || by_hand.is_some_and(|why| why.len() > 15), "docs/{name}: {line}");
            for words in block.iter().filter(|_| by_hand.is_some()).filter_map(|line| shlex::split(line)) {
                let mut words = words.iter().map(String::as_str).peekable();
                if words.next_if_eq(&"sudo").is_some() && words.next_if_eq(&"-u").is_some() {
                    words.next();
                }
                let words: Vec<&str> = words.collect();
                let parsed = match words.first() {
                    Some(&"storectl") => storectl.clone().try_get_matches_from(&words).map(drop),
                    Some(&"storedd") => storedd.clone().try_get_matches_from(&words).map(drop),
                    _ => continue,
                };
                assert!(parsed.is_ok(), "docs/{name}: {words:?}: {}", parsed.unwrap_err());
            }
        }
    }
}

/// Snippets of the configuration are good ones.
#[test]
fn every_snippet_of_the_configuration_is_good() {
    let store = TestStore::new();
    let file = store.beside("snippet.toml");
    let mut checked = 0;
    for name in PAGES {
        for snippet in blocks(&page(name), "toml") {
            std::fs::write(&file, &snippet).unwrap();
            let run = store.storedd(&["--check-config", "--config", file.to_str().unwrap()]);
            assert_eq!(run.status, 0, "docs/{name}: {snippet}{}", run.err);
            checked += 1;
        }
    }
    assert!(checked >= 6, "{checked}");
}

/// What is installed by hand is there to be installed.
#[test]
fn files_that_are_installed_by_hand_are_in_the_repository() {
    let text = page("install.md");
    let words = text.split_whitespace().filter(|word| word.starts_with("config/") || word.starts_with("systemd/"));
    let mut found = 0;
    for word in words.map(|word| word.trim_end_matches(['.', ',', ')'])) {
        let (dir, file) = word.rsplit_once('/').unwrap();
        let (before, behind) = file.split_once('*').unwrap_or((file, ""));
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
        let names = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(names.into_iter().any(|n| n.starts_with(before) && n.ends_with(behind)), "{word}");
        found += 1;
    }
    assert!(found >= 5, "{found}");
}

#[test]
fn alarms_are_looked_at_as_told() {
    let store = TestStore::new();
    let _daemon = store.start();
    follow(&store, "alarms.md");
}

/// With `--data-dir` the configuration of the service is not read: a log on another disk would count as lost.
#[test]
fn no_page_names_the_store_of_the_service_past_its_configuration() {
    for name in PAGES {
        let text = page(name);
        let wrong = text.lines().find(|line| line.contains("--data-dir /") || line.contains("--data-dir=/"));
        assert_eq!(wrong, None, "{name}");
    }
}

/// The table of exit statuses is that of the programs, and says of each what the unit does.
#[test]
fn the_page_knows_every_exit_status() {
    let text = page("operations.md");
    let section = text.split("## Exit statuses").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").map(str::trim).collect()).collect();
    let codes = |cell: &str| cell.split(", ").filter_map(|code| code.parse::<u8>().ok()).collect::<Vec<_>>();
    let told: BTreeSet<u8> = rows.iter().flat_map(|row| codes(row[0])).collect();
    let kept_down: BTreeSet<u8> = rows.iter().filter(|row| row[1] == "no").flat_map(|row| codes(row[0])).collect();

    let help = TestStore::new().ctl(&["--help"]).expect(0).out;
    let table = help.split("Exit codes:").nth(1).unwrap();
    let known = table.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok());
    assert_eq!(told, known.collect::<BTreeSet<u8>>());
    let unit = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/storedd.service")).unwrap();
    let prevented = unit.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus=")).unwrap();
    assert_eq!(kept_down, prevented.split(' ').map(|code| code.parse().unwrap()).collect::<BTreeSet<u8>>());
}

/// Every file that a page for administrators points at is there.
#[test]
fn links_lead_somewhere() {
    for name in PAGES {
        let text = page(name);
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
        let docs = docs.parent().unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let local: Vec<&str> = links.filter(|link| !link.contains("://")).collect();
        assert!(!local.is_empty(), "{name}");
        for link in local {
            let (file, part) = link.split_once('#').unwrap_or((link, ""));
            assert!(file.is_empty() || docs.join(file).exists(), "{name}: {link}");
            let target = if file.is_empty() { text.clone() } else { std::fs::read_to_string(docs.join(file)).unwrap() };
            let heading = |line: &str| line.trim_start_matches(['#', ' ']).to_lowercase().replace(' ', "-") == part;
            let found = target.lines().filter(|line| line.starts_with('#')).any(heading);
            assert!(part.is_empty() || found, "{name}: no heading {link}");
        }
    }
}

// row B16
#[test]
fn every_verb_and_every_option_stands_in_a_man_page() {
    let pages: std::collections::BTreeMap<String, String> = man::all().into_iter().collect();
    let help = TestStore::new().ctl(&["--help"]).expect(0).out;
    let verbs = help.split("Commands:\n").nth(1).unwrap().lines().take_while(|line| !line.is_empty());
    let verbs: Vec<&str> = verbs.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    let verbs: Vec<&str> = verbs.into_iter().filter(|verb| !verb.is_empty() && *verb != "help").collect();
    assert!(verbs.len() > 15, "{verbs:?}");
    for verb in verbs {
        assert!(pages.contains_key(&format!("storectl-{verb}.1")), "{verb}");
        assert!(pages["storectl.1"].contains(&format!("storectl\\-{}\\fR(1)", verb.replace('-', "\\-"))), "{verb}");
    }
    for option in storedd::config::OPTIONS {
        let head = format!("\\fB{}\\fR = ", option.key.replace('-', "\\-"));
        assert!(pages["storedd.toml.5"].contains(&head), "{}.{}", option.section, option.key);
    }
    let user = &pages["storectl-user.1"];
    assert!(user.contains("\\-\\-quota") && user.contains("storectl user add joe@example.org"), "{user}");
    assert!(!user.contains("data\\-dir"), "what every verb takes stands in storectl(1)");
    // What a text begins with is never a request of the formatter.
    let requests = ["TH", "SH", "SS", "TP", "IP", "PP", "RS", "RE", "nf", "fi", "br"];
    for (name, page) in &pages {
        for line in page.lines().filter_map(|line| line.strip_prefix('.')) {
            assert!(requests.contains(&line.split(' ').next().unwrap()), "{name}: .{line}");
        }
    }
}
