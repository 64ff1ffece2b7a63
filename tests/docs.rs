//! What `docs/` tells an administrator to type works as it stands. Blocks marked `sh run` are run here, in their order, on a
//! store in a temporary directory; those marked `sh service` need the installed service and are run by `.ci/boot`.

#[path = "../packaging/pages/man.rs"]
mod man;

use crate::harness::{TestStore, run};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// The pages for administrators.
const PAGES: [&str; 10] = [
    "install.md",
    "first-day.md",
    "operations.md",
    "recovery.md",
    "backup.md",
    "alarms.md",
    "mail.md",
    "upgrade.md",
    "formats.md",
    "monitoring/README.md",
];

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The blocks of a page with this mark.
fn blocks(text: &str, mark: &str) -> Vec<String> {
    let fence = format!("```{mark}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// Runs the blocks as one shell session beside the store, which ends at the first command that fails.
fn follow(store: &TestStore, name: &str) {
    let blocks = blocks(&page(name), "sh run");
    assert!(!blocks.is_empty(), "{name} has nothing to run");
    let script = format!("set -eu -o pipefail\nsudo() {{ \"$@\"; }}\nset -x\n{}", blocks.concat());
    let bin = Path::new(env!("CARGO_BIN_EXE_storectl")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    // `run` takes the variables out that would lead to the store of somebody else.
    bash.args(["--norc", "-c", &format!("export STOREDD_SOCKET={}/control.sock\n{script}", store.data.display())]);
    let ran = run(bash.env("PATH", path).current_dir(store.data.parent().unwrap()), None);
    assert_eq!(ran.status, 0, "{name}: the last command failed:\n{}\n{}", ran.err, ran.out);
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
    follow(&store, "first-day.md");
    let users = store.json(&["user", "list"]);
    assert_eq!(users.as_array().unwrap().len(), 5, "{users}");
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
fn mail_is_set_up_as_told() {
    let store = TestStore::new();
    let _daemon = store.start();
    follow(&store, "mail.md");
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
