//! `--json`: one document on standard output, whatever the verb and however it ends, and no other text there.

use crate::harness::{Run, TestStore, text};
use serde_json::Value;

/// The one document of a run, or what is there instead.
fn document(run: &Run, what: &str) -> Value {
    read(run).unwrap_or_else(|e| panic!("{what}: {e}: {run:?}"))
}

fn read(run: &Run) -> Result<Value, String> {
    let mut all = serde_json::Deserializer::from_str(&run.out).into_iter::<Value>();
    let first = all.next().ok_or("no document")?.map_err(|e| e.to_string())?;
    if all.next().is_some() {
        return Err("more than one document".to_owned());
    }
    let is_said = first["error"]["code"].is_string() && first["error"]["message"].is_string();
    // 3: `status` of a daemon that does not run.
    if run.status > 3 && !is_said { Err("no error".to_owned()) } else { Ok(first) }
}

/// As it is typed; the first word of an argument with blanks begins with a quote.
fn words(line: &str) -> Vec<String> {
    shlex::split(line).unwrap()
}

/// What was printed otherwise.
#[derive(Default)]
struct Otherwise(Vec<String>);

impl Otherwise {
    fn ctl(&mut self, store: &TestStore, line: &str) {
        let all = [vec!["--json".to_owned()], words(line)].concat();
        self.look(&store.ctl(&all.iter().map(String::as_str).collect::<Vec<_>>()), line);
    }

    fn storedd(&mut self, store: &TestStore, line: &str) {
        let all = [vec!["--json".to_owned()], words(line)].concat();
        self.look(&store.storedd(&all.iter().map(String::as_str).collect::<Vec<_>>()), line);
    }

    fn look(&mut self, run: &Run, line: &str) {
        if let Err(e) = read(run) {
            self.0.push(format!("{line}: {e}: {run:?}"));
        }
    }
}

// Every verb that ends by itself; also what is refused, what is only shown, and what says more with -v.
#[test]
fn every_verb_prints_one_document() {
    let store = TestStore::new();
    let mut all = Otherwise::default();
    let daemon = store.start();
    let [file, archive, copy, dir, list] =
        ["in.eml", "a.archive", "copy", "dir", "list"].map(|name| store.beside(name));
    std::fs::write(&file, "Subject: a\r\n\r\nb\r\n").unwrap();
    std::fs::write(&list, "").unwrap();
    std::fs::create_dir(&dir).unwrap();
    let (archive, copy, dir, list) = (text(&archive), text(&copy), text(&dir), text(&list));
    for line in [
        "user add joe --quota 1GiB",
        "user add joe",
        "user add ann --dry-run",
        "user list",
        "user show joe",
        "user show nobody",
        "user rename joe jim",
        "user rename jim joe",
        "mailbox create user/joe/Work",
        "mailbox list",
        "mailbox list 'user/joe*' --long",
        "mailbox show user/joe/Work",
        "mailbox rename user/joe/Work user/joe/Play",
        "mailbox delete user/joe/Play",
        "mailbox delete user/joe/Play --yes",
        "mailbox undelete user/joe/Play",
        "mailbox orphans",
        "acl get user/joe/Play",
        "acl set user/joe/Play anyone lr",
        "acl delete user/joe/Play anyone",
        "subscribe joe user/joe/Play",
        "subscriptions joe",
        "unsubscribe joe user/joe/Play",
        "quota get joe",
        "quota set joe --storage 2GiB",
        "quota list",
        "quota recalc",
        "quota report",
        "partition list",
        "partition show primary",
        "partition remove primary",
        "hashdir joe",
        "hashdir joe --absolute",
        "message list user/joe/INBOX",
        "message show user/joe/INBOX 7",
        "message expunge user/joe/INBOX 7",
        "message copy user/joe/INBOX 7 user/joe/Play",
        "message flags user/joe/INBOX 7 --add '\\Seen'",
        "status",
        "stats",
        "metrics",
        "health",
        "health --wait 5s",
        "locks",
        "locks --why-stuck",
        "locks break 99",
        "maintenance show",
        "maintenance start --for 1m",
        "maintenance stop",
        "checkpoint",
        "log list",
        "log list --all --absolute",
        "log verify",
        "log dump",
        "snapshot take --verify",
        "snapshot list",
        "snapshot verify --all",
        "snapshot prune",
        "snapshot prune --yes",
        "snapshot delete nothing --yes",
        "snapshot install nothing --yes",
        "recover --report",
        "recover --report --last 2",
        "recover",
        "test",
        "log reset --yes",
        "drill",
        "expire",
        "expire --dry-run",
        "purge",
        "purge --dry-run",
        "peruser",
        "check --all --deep",
        "check user/joe/INBOX",
        "reconstruct -n",
        "reconstruct -m",
        "reconstruct -q",
        "jobs",
        "jobs list",
        "jobs show 1",
        "jobs show 999",
        "jobs cancel 999",
        "config show",
        "config show --defaults",
        "config get log.segment_size",
        "config get nothing",
        "config check",
        "config reload",
        "freeze --for 100ms",
        "nonsense",
        "status --nonsense",
    ] {
        all.ctl(&store, line);
    }
    for line in [
        format!("backup -f {archive}"),
        format!("backup -f {archive} user/nobody"),
        format!("restore -f {archive} --dry-run"),
        format!("restore -f {archive}"),
        format!("restore -f {archive} --yes"),
        format!("backup --complete {copy}"),
        format!("backup-db {dir}"),
        format!("import cyrus-list {list}"),
        format!("import maildir {dir} --user joe"),
        format!("export maildir {dir}/out --user joe"),
        format!("export mbox {dir}/out.mbox --user joe"),
        format!("config check {}", text(&store.beside("small-logs.toml"))),
        format!("config check {list}.no"),
        "user move joe nowhere".to_owned(),
    ] {
        all.ctl(&store, &line);
    }
    // A list of what may be millions of messages is one document a line.
    let listed = store.ctl(&["--json", "restore", "-t", "-f", archive]).expect(0).out;
    listed.lines().for_each(|line| drop(serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"))));
    let deliver = ["--json", "message", "deliver", "user/joe/INBOX"];
    all.look(&store.ctl_with(&deliver, Some(b"Subject: a\r\n\r\nb\r\n")), "message deliver");
    all.ctl(&store, "message show user/joe/INBOX 1");
    all.ctl(&store, "shutdown");
    drop(daemon);
    for line in [
        "status",
        "status --no-lock",
        "recover --dry-run -v",
        "recover -v",
        "recover --final -v",
        "recover --report",
        "test -lv",
        "test --recover",
        "snapshot install nothing --dry-run",
        "log reset --dry-run",
        "upgrade --dry-run",
        "upgrade",
        "downgrade validate",
        "downgrade cancel",
        "prepare-upgrade",
        "log reset --yes",
        "user list",
        "health",
    ] {
        all.ctl(&store, line);
    }
    for line in ["--check-config", "recover --dry-run", "status", "nonsense", "test --nonsense"] {
        all.storedd(&store, line);
    }
    let bad = store.beside("bad.toml");
    std::fs::write(&bad, "nothing = 1\n").unwrap();
    for line in ["--check-config", "test"] {
        all.storedd(&store, &format!("{line} --config {}", text(&bad)));
    }
    assert!(all.0.is_empty(), "{:#?}", all.0);
}

// `restore-db --dry-run --json` told in words where nothing is, while a store runs, and of single partitions of a complete copy.
#[test]
fn a_dry_run_of_restore_db_is_a_document_everywhere() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let (copy, backups) = (store.beside("copy"), store.beside("backups"));
    store.ctl(&["backup", "--complete", text(&copy)]).expect(0);
    let backup = store.json(&["backup-db", text(&backups)])["path"].as_str().unwrap().to_owned();
    let dry = |store: &TestStore, more: &[&str]| {
        let args = [&["--json", "restore-db", "--dry-run"], more].concat();
        let said = document(&store.ctl(&args).expect(0), &format!("{args:?}"));
        assert_eq!(said["dry_run"], true, "{said}");
        assert!(said["steps"].as_array().is_some_and(|steps| !steps.is_empty()), "{said}");
        assert_eq!(
            (&said["left_out"], &said["unreadable"]),
            (&serde_json::json!([]), &serde_json::json!([])),
            "{said}"
        );
        said
    };
    let whole = |said: &Value| said["reached_lsn"].as_u64() >= said["lsn"].as_u64() && said["until"].is_string();
    // A store runs here.
    assert!(whole(&dry(&store, &[text(&copy)])));
    // Nothing is there.
    let nowhere = TestStore::new();
    for from in [text(&copy), &backup] {
        let said = dry(&nowhere, &[from]);
        assert!(whole(&said) && said["aside"] == serde_json::json!([]), "{said}");
    }
    assert_eq!(daemon.stop(), 0);
    for from in [text(&copy), &backup] {
        let said = dry(&store, &[from]);
        assert!(whole(&said) && !said["aside"].as_array().unwrap().is_empty(), "{said}");
    }
    // One partition.
    let said = dry(&store, &["--partition", "primary", text(&copy)]);
    assert_eq!(said["partitions"], serde_json::json!(["primary"]), "{said}");
}
