//! The service unit names what the program really has: its binary, its files, its user, its exit statuses. Row 10.

use crate::harness::{Daemon, TestStore};
use proto::Request;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use storedd::config::{Config, DEFAULT_FILE};
use storedd::error::exit;

const UNIT: &str = "systemd/storedd.service";
const SYSUSERS: &str = "systemd/sysusers.d/storedd.conf";

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every value of a key, in order.
fn values(unit: &str, key: &str) -> Vec<String> {
    unit.lines().filter_map(|l| l.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned).collect()
}

fn value(unit: &str, key: &str) -> String {
    let found = values(unit, key);
    assert_eq!(found.len(), 1, "{key} stands once: {found:?}");
    found[0].clone()
}

#[test]
fn the_unit_starts_this_program_with_its_own_paths() {
    let unit = file(UNIT);
    let words: Vec<String> = value(&unit, "ExecStart").split(' ').map(str::to_owned).collect();
    assert_eq!(words[0], "/usr/bin/storedd");
    assert_eq!(Path::new(env!("CARGO_BIN_EXE_storedd")).file_name(), Path::new(&words[0]).file_name());
    assert_eq!(words[1..], ["--config", DEFAULT_FILE, "--socket", "/run/storedd/control.sock"]);

    let delivered = Config::from_text(&file("config/storedd.toml"), Some(Path::new("f")), None, None).unwrap();
    assert_eq!(delivered.store.data_dir, Path::new("/var/lib").join(value(&unit, "StateDirectory")));
    assert_eq!(Path::new("/run").join(value(&unit, "RuntimeDirectory")), Path::new(&words[4]).parent().unwrap());
    assert_eq!(
        Path::new("/etc").join(value(&unit, "ConfigurationDirectory")),
        Path::new(DEFAULT_FILE).parent().unwrap()
    );
    assert_eq!(values(&unit, "RequiresMountsFor"), [delivered.store.data_dir.to_str().unwrap()]);
    let user = value(&unit, "User");
    assert!(file(SYSUSERS).lines().any(|l| l.starts_with(&format!("u {user} - "))), "{SYSUSERS} makes {user}");
}

#[test]
fn the_unit_does_not_restart_what_a_restart_cannot_cure() {
    let found = value(&file(UNIT), "RestartPreventExitStatus");
    let mut found: Vec<u8> = found.split(' ').map(|n| n.parse().unwrap()).collect();
    found.sort_unstable();
    let expected = [exit::DAMAGED, exit::USAGE, exit::BAD_INPUT, exit::IO, exit::NOT_PERMITTED, exit::CONFIG];
    assert_eq!(found, expected);
    for cured in [exit::LOG_FAILED, exit::BUSY, exit::BUG] {
        assert!(!found.contains(&cured), "{cured}");
    }
}

// row 103: a crash is cured by a start, and after five in ten minutes it is left to people. Lived through in `.ci/boot`.
#[test]
fn the_unit_restarts_a_crash_and_gives_up_in_time() {
    let unit = file(UNIT);
    assert_eq!(value(&unit, "Restart"), "on-failure");
    assert_eq!((value(&unit, "StartLimitIntervalSec"), value(&unit, "StartLimitBurst")), ("600".into(), "5".into()));
    let told = file("docs/examples/storedd-failed.service");
    assert!(values(&told, "ExecStart").iter().any(|command| command.contains("storedd has given up")), "{told}");
}

/// The units of the schedule: name, and the commands of the product that they run.
fn scheduled() -> [(&'static str, Vec<String>); 3] {
    ["snapshot", "backup", "drill"]
        .map(|name| (name, values(&file(&format!("systemd/storedd-{name}.service")), "ExecStart")))
}

// row B16: the package has every unit that there is: a kind of unit that nobody names there is left out in silence.
#[test]
fn every_unit_is_in_the_package() {
    let package = file("Cargo.toml");
    let mut named = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // Those of the name `storedd` itself are found by cargo-deb.
        if let Some((of, kind)) = name.rsplit_once('.').filter(|(of, kind)| *of != "storedd" && *kind != "d") {
            assert!(
                package.contains(&format!("[\"systemd/storedd-*.{kind}\", \"usr/lib/systemd/system/\"")),
                "{of}.{kind}"
            );
            named += 1;
        }
    }
    assert!(named > 5, "{named}");
}

// row B16: timers for hosts whose service manager keeps the schedule; each runs verbs that there are, as the user of the store.
#[test]
fn timers_do_what_the_daemon_else_does_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut units = Vec::new();
    for (name, commands) in scheduled() {
        let service = file(&format!("systemd/storedd-{name}.service"));
        assert_eq!((value(&service, "Type"), value(&service, "User")), ("oneshot".into(), value(&file(UNIT), "User")));
        assert!(commands.iter().all(|command| command.starts_with("/usr/bin/storectl ")), "{commands:?}");
        for (end, text) in [("service", service), ("timer", file(&format!("systemd/storedd-{name}.timer")))] {
            let unit = dir.path().join(format!("storedd-{name}.{end}"));
            fs::write(&unit, text.replace("/usr/bin/storectl ", &format!("{} ", env!("CARGO_BIN_EXE_storectl"))))
                .unwrap();
            units.push(unit);
        }
    }
    let mut args = vec!["verify", "--man=no"];
    args.extend(units.iter().map(|unit| unit.to_str().unwrap()));
    if let Some((ok, text)) = analyze(&args) {
        assert!(ok && !text.contains("storedd-"), "{text}");
    }
    for unit in units.iter().filter(|unit| unit.extension().is_some_and(|end| end == "service")) {
        let args = ["security", "--offline=true", "--threshold=10", "--no-pager", unit.to_str().unwrap()];
        if let Some((ok, text)) = analyze(&args) {
            assert!(ok, "the exposure is above 1.0:\n{text}");
        }
    }
}

/// The program that the timer for mail runs.
const ARCHIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/storedd-mail-archive");

// row B16, rows 81, 136: the unit for mail runs a program that comes with it, and as the others do.
#[test]
fn the_timer_for_mail_is_as_the_others_are() {
    let dir = tempfile::tempdir().unwrap();
    let service = file("systemd/storedd-mail.service");
    assert_eq!((value(&service, "Type"), value(&service, "User")), ("oneshot".into(), value(&file(UNIT), "User")));
    assert!(file("Cargo.toml").contains("[\"systemd/storedd-mail-archive\", \"usr/lib/storedd/\", \"755\"]"));
    let mut units = Vec::new();
    for (end, text) in [("service", service), ("timer", file("systemd/storedd-mail.timer"))] {
        units.push(dir.path().join(format!("storedd-mail.{end}")));
        fs::write(units.last().unwrap(), text.replace("/usr/lib/storedd/storedd-mail-archive", ARCHIVER)).unwrap();
    }
    let [service, timer] = [&units[0], &units[1]].map(|unit| unit.to_str().unwrap());
    if let Some((ok, text)) = analyze(&["verify", "--man=no", service, timer]) {
        assert!(ok && !text.contains("storedd-"), "{text}");
    }
    if let Some((ok, text)) = analyze(&["security", "--offline=true", "--threshold=10", "--no-pager", service]) {
        assert!(ok, "the exposure is above 1.0:\n{text}");
    }
}

/// Names of the archives in a directory, in order.
fn archives(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

// rows 81, 136: what the timer for mail does: a row of archives that follow each other, a new one when it is long enough or the last one is damaged, and
// the oldest goes. The newest row gives everything back.
#[test]
fn the_timer_for_mail_takes_rows_of_archives() {
    let store = TestStore::new();
    let dir = store.beside("archives");
    fs::create_dir(&dir).unwrap();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let mut sent = 0;
    let mut night = || {
        store.ctl_with(&["message", "deliver", "user/joe/INBOX"], Some(format!("{sent}\r\n").as_bytes())).expect(0);
        sent += 1;
        // Two rows begin in one second only here.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let socket = store.data.join("control.sock");
        let run = std::process::Command::new(ARCHIVER)
            .args([dir.to_str().unwrap(), "3", "2"])
            .env("STORECTL", env!("CARGO_BIN_EXE_storectl"))
            .env("STOREDD_SOCKET", socket)
            .output()
            .unwrap();
        assert!(run.status.success(), "{run:?}");
        archives(&dir)
    };
    let ends = |names: &[String]| names.iter().map(|name| name[21..].to_owned()).collect::<Vec<_>>();
    assert_eq!(ends(&night()), [".00.sda"]);
    assert_eq!(ends(&night()), [".00.sda", ".01.sda"]);
    let first = night();
    assert_eq!(ends(&first), [".00.sda", ".01.sda", ".02.sda"]);
    let second = night();
    assert_eq!(ends(&second), [".00.sda", ".01.sda", ".02.sda", ".00.sda"]);
    assert_eq!(ends(&night()), [".00.sda", ".01.sda", ".02.sda", ".00.sda", ".01.sda"]);
    // The newest is damaged where it says what it has.
    let newest = dir.join(night().last().unwrap());
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    fs::rename(&newest, dir.join(newest.file_name().unwrap().to_str().unwrap().replace(".02.", ".01."))).unwrap();
    let left = night();
    assert_eq!(ends(&left), [".00.sda", ".01.sda", ".00.sda"], "{left:?}");
    assert!(!left.contains(&first[0]) && left.contains(&second[3]), "the oldest row went: {left:?}");
    night();

    store.ctl(&["user", "delete", "joe", "--yes"]).expect(0);
    for name in archives(&dir).iter().filter(|name| name[..21] == left[2][..21]) {
        store.ctl(&["restore", "-f", dir.join(name).to_str().unwrap(), "--yes", "/"]).expect(0);
    }
    let there = store.json(&["message", "list", "user/joe/INBOX"]);
    assert_eq!(there.as_array().unwrap().len(), 8, "{there}");
}

#[test]
fn where_timers_keep_the_schedule_the_daemon_does_not() {
    let store = TestStore::new();
    let copies = store.beside("copies");
    let text = |schedule: bool| {
        format!(
            "[log]\nsegment_size = \"1MiB\"\n[jobs]\nschedule = {schedule}\n[backup]\ndirectory = {copies:?}\n\
             interval = \"60s\"\nkeep = 1\n"
        )
    };
    let config = store.beside("storedd.toml");
    fs::write(&config, text(false)).unwrap();
    let daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let _ = daemon;
    // As the timers do.
    for (_, commands) in scheduled() {
        for command in commands {
            let words: Vec<&str> = command.split(' ').skip(1).collect();
            let words: Vec<&str> = words
                .into_iter()
                .map(|word| if word == "${DIRECTORY}" { copies.to_str().unwrap() } else { word })
                .collect();
            store.ctl(&words).expect(0);
            store.ctl(&words).expect(0);
        }
    }
    let left: Vec<_> = fs::read_dir(&copies).unwrap().collect();
    assert_eq!(left.len(), 1, "of those in the directory of the scheduled ones the oldest go: {left:?}");
    assert_eq!(daemon.stop(), 0);
}

/// `systemd-analyze` where there is one; it needs no running systemd.
fn analyze(args: &[&str]) -> Option<(bool, String)> {
    let out = match Command::new("systemd-analyze").args(args).output() {
        Ok(out) => out,
        Err(e) => {
            eprintln!("skipped: systemd-analyze: {e}");
            return None;
        }
    };
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    Some((out.status.success(), text))
}

/// A copy whose `ExecStart` is the program built here, so that the check finds it.
fn installed(dir: &Path) -> PathBuf {
    let unit = dir.join("storedd.service");
    fs::write(&unit, file(UNIT).replace("/usr/bin/storedd ", &format!("{} ", env!("CARGO_BIN_EXE_storedd")))).unwrap();
    unit
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let dir = tempfile::tempdir().unwrap();
    let unit = installed(dir.path());
    if let Some((ok, text)) = analyze(&["verify", "--man=no", unit.to_str().unwrap()]) {
        assert!(ok && !text.contains("storedd.service"), "{text}");
    }
}

// S18, S19
#[test]
fn the_unit_gives_away_almost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let unit = installed(dir.path());
    let args = ["security", "--offline=true", "--threshold=10", "--no-pager", unit.to_str().unwrap()];
    if let Some((ok, text)) = analyze(&args) {
        assert!(ok, "the exposure is above 1.0:\n{text}");
    }
}

/// A store whose sockets were made by somebody else, who hands them over as descriptors from 3 on, as the service manager does.
fn started_by_sockets(store: &TestStore, sockets: &[&Path], options: &[&str]) -> (Vec<UnixListener>, Daemon) {
    let made = |socket: &&Path| {
        let listener = UnixListener::bind(socket).unwrap();
        fs::set_permissions(socket, fs::Permissions::from_mode(0o660)).unwrap();
        listener
    };
    let listeners: Vec<UnixListener> = sockets.iter().map(made).collect();
    let log = fs::File::create(store.beside("daemon.log")).unwrap();
    // The first is descriptor 3, the second, which comes as standard output, 4.
    let count = listeners.len();
    let second = if count > 1 { "4<&1" } else { "" };
    let hand_over = format!(r#"exec 3<&0 {second} </dev/null >&2; export LISTEN_FDS={count} LISTEN_PID=$$; exec "$@""#);
    let out = match listeners.get(1) {
        Some(second) => OwnedFd::from(second.try_clone().unwrap()).into(),
        None => Stdio::from(log.try_clone().unwrap()),
    };
    let child = Command::new("sh")
        .args(["-c", &hand_over, "sh", env!("CARGO_BIN_EXE_storedd"), "--data-dir"])
        .arg(&store.data)
        .args(options)
        .env_remove("NOTIFY_SOCKET")
        .env_remove("STOREDD_CONFIG")
        .stdin(OwnedFd::from(listeners[0].try_clone().unwrap()))
        .stdout(out)
        .stderr(log)
        .spawn()
        .unwrap();
    let daemon = store.daemon(child);
    (listeners, daemon.at(sockets[0]))
}

// row B16: whoever connects before the daemon is there waits for it, a restart keeps the socket, and it stays the service
// manager's.
#[test]
fn a_socket_that_is_handed_over_is_served() {
    let store = TestStore::new();
    let socket = store.beside("control.sock");
    let place = socket.to_str().unwrap().to_owned();
    let (listener, mut daemon) = started_by_sockets(&store, &[&socket], &["--socket", &place]);
    // The connection is in the queue from the first moment on.
    let early = store.ctl(&["--socket", &place, "health", "--wait", "60"]).expect(0);
    assert!(early.err.is_empty(), "{early:?}");
    let pid = daemon.client().call(&Request::Status).map(|reply| reply.to_json()["pid"].clone()).unwrap();
    assert_eq!(pid, daemon.child.id());
    store.ctl(&["--socket", &place, "user", "add", "joe"]).expect(0);

    store.ctl(&["--socket", &place, "restart"]).expect(0);
    store.ctl(&["--socket", &place, "user", "show", "joe"]).expect(0);
    assert_eq!(daemon.log().matches("handed_over=true").count(), 2, "{}", daemon.log());

    store.ctl(&["--socket", &place, "shutdown"]).expect(0);
    assert_eq!(daemon.wait(), 0);
    std::os::unix::net::UnixStream::connect(&socket).unwrap();
    drop(listener);
}

// rows B14, B16: the same for mail: it waits for the daemon, and goes on after a restart.
#[test]
fn a_socket_for_mail_that_is_handed_over_is_served() {
    use crate::harness::lmtp::Lmtp;
    let store = TestStore::new();
    let (control, mail) = (store.beside("control.sock"), store.beside("mail.sock"));
    let config = store.beside("sockets.toml");
    fs::write(&config, format!("[lmtp]\nsocket = {mail:?}\n")).unwrap();
    let options = ["--config", config.to_str().unwrap(), "--socket", control.to_str().unwrap()];
    let (listeners, mut daemon) = started_by_sockets(&store, &[&control, &mail], &options);
    let place = control.to_str().unwrap().to_owned();
    let early = Lmtp::unix(&mail);
    store.ctl(&["--socket", &place, "health", "--wait", "60"]).expect(0);
    store.ctl(&["--socket", &place, "user", "add", "joe"]).expect(0);
    drop(early);
    assert_eq!(Lmtp::unix(&mail).deliver(&["joe"], b"one\r\n"), ["250 2.0.0 stored"]);
    store.ctl(&["--socket", &place, "restart"]).expect(0);
    assert_eq!(Lmtp::unix(&mail).deliver(&["joe"], b"two\r\n"), ["250 2.0.0 stored"]);
    assert_eq!(daemon.log().matches("handed_over=true").count(), 4, "{}", daemon.log());
    store.ctl(&["--socket", &place, "shutdown"]).expect(0);
    assert_eq!(daemon.wait(), 0);
    std::os::unix::net::UnixStream::connect(&mail).unwrap();
    drop(listeners);
}

// Two programs with two ideas of where the socket is would never meet.
#[test]
fn another_socket_than_the_configured_is_refused() {
    let store = TestStore::new();
    let (_listener, mut daemon) = started_by_sockets(&store, &[&store.beside("other.sock")], &[]);
    assert_eq!(daemon.wait(), i32::from(exit::CONFIG), "{}", daemon.log());
    assert!(daemon.log().contains("ListenStream="), "{}", daemon.log());
}
