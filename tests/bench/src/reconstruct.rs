//! Reconstruct: what the partitions give back when the database or the indexes are gone, beside Cyrus and Dovecot, and beside the limit,
//! which is to list the same files, ask for their sizes and read them.
//!
//! # Operation
//! One store at a time, for the disk's sake: each is filled with the same messages ([`crate::corpus`]), then, round by round, loses
//! something, and has to bring it back with cold caches. What is brought back is counted each time.
//!
//! | | what is gone | what brings it back |
//! |---|---|---|
//! | storedd | database, log, snapshots | a start, and `reconstruct -m` until all mailboxes are there |
//! | | every `store.idx` | `reconstruct -r` |
//! | | every `store.idx` and every manifest | `reconstruct -r`, which reads every byte |
//! | Cyrus | `cyrus.index` and `cyrus.cache` of every mailbox | `reconstruct`, as many at once as there are processors |
//! | Dovecot | the indexes and the map | `doveadm force-resync`, likewise |
//!
//! The peers bring back files; flags and deletions are gone there. See `docs/peers.md`.

use crate::corpus::Corpus;
use crate::daemon::{Daemon, Place};
use crate::engines::Failure;
use crate::lmtp::{self, Session};
use crate::report::{Goal, Report, median, number};
use crate::scan::{Tree, cool, scan};
use crate::servers::{self, Server, beside};
use crate::settings::Settings;
use proto::{Command, Request};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Users who have them.
pub const USERS: u64 = 200;
/// Sessions that fill storedd.
const SESSIONS: usize = 16;
/// Rounds at most: with real caches one says as much as the next.
const ROUNDS: usize = 3;

/// Everything of one kind of loss, round by round, in messages a second.
type Rates = Vec<(&'static str, f64)>;

/// Fills a store that takes mail with messages `from..to`, each user his share, by several sessions.
///
/// # Errors
/// The first refusal.
pub fn deliver(port: u16, corpus: &Corpus, from: u64, to: u64) -> Result<(), Failure> {
    let next = AtomicU64::new(from);
    let one = || -> Result<(), Failure> {
        let mut session = Session::open(port)?;
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= to {
                return Ok(());
            }
            session.deliver(&lmtp::user(n % USERS), &corpus.on_wire(n))?;
        }
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(one)).collect();
        all.into_iter().try_for_each(|t| t.join().map_err(|_| Failure::new("a deliverer panicked"))?)
    })
}

/// A store with so many messages, which runs and takes mail on that port.
///
/// # Errors
/// If it does not take them.
pub fn filled(dir: &Path, corpus: &Corpus, messages: u64, port: u16) -> Result<(Place, Daemon), Failure> {
    let place = servers::store_place(dir.join("storedd"), port)?;
    let daemon = place.start()?;
    let mut client = place.client()?;
    for n in 0..USERS {
        let user = lmtp::user(n);
        let command = Command::UserAdd { user, partition: None, quota_bytes: None, quota_messages: None };
        client.call(&Request::Change { command, dry_run: false })?;
    }
    deliver(port, corpus, 0, messages)?;
    client.call(&Request::Checkpoint)?;
    Ok((place, daemon))
}

/// Messages in all mailboxes.
///
/// # Errors
/// Those of the client.
pub fn held(place: &Place) -> Result<u64, Failure> {
    let list = place.ctl(&["mailbox", "list", "--long"])?;
    let mailboxes = list.as_array().map_or(&[][..], Vec::as_slice);
    Ok(mailboxes.iter().filter_map(|mailbox| mailbox["messages"].as_u64()).sum())
}

/// Removes every file with one of these names.
fn remove_named(dir: &Path, names: &[&str]) -> Result<u64, Failure> {
    let mut gone = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            gone += remove_named(&entry.path(), names)?;
        } else if names.iter().any(|name| entry.file_name() == *name) {
            fs::remove_file(entry.path())?;
            gone += 1;
        }
    }
    Ok(gone)
}

/// Something is lost of a stopped store.
fn lose(place: &Place, what: &str) -> Result<(), Failure> {
    let partition = place.data().join("partition");
    let gone = match what {
        "database" => {
            for start in ["mboxlist.redb", "log.", "spare."] {
                place.files(start)?.iter().try_for_each(fs::remove_file)?;
            }
            let _ = fs::remove_dir_all(place.data().join("dbdata/snapshots"));
            1
        }
        "indexes" => remove_named(&partition, &["store.idx"])?,
        _ => remove_named(&partition, &["store.idx", "manifest"])?,
    };
    match gone {
        0 => Err(Failure::new(format!("{what}: nothing was there to lose"))),
        _ => Ok(()),
    }
}

/// One loss of storedd, brought back. Seconds.
fn bring_back(place: &Place, daemon: Daemon, what: &'static str, messages: u64) -> Result<(Daemon, f64), Failure> {
    place.stop(daemon)?;
    lose(place, what)?;
    cool(&place.data())?;
    let mut begun = Instant::now();
    let daemon = place.start()?;
    let done = match what {
        "database" => place.ctl(&["reconstruct", "-m"])?,
        _ => {
            begun = Instant::now();
            place.ctl(&["reconstruct", "-r"])?
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    let findings = done["findings"].as_array().map_or(0, Vec::len);
    // Without index and manifest it is told of each mailbox that flags are gone; the files are what the database counts.
    let is_told = what == "indexes and manifests";
    match held(place)? {
        now if now == messages && (findings == 0 || is_told) => Ok((daemon, seconds)),
        now => Err(Failure::new(format!(
            "{what} lost: {now} of {messages} messages, {findings} findings, the first: {}",
            done["findings"].as_array().and_then(|all| all.first()).unwrap_or(&Value::Null)
        ))),
    }
}

/// The limit, and storedd against it.
fn store(report: &mut Report, dir: &Path, corpus: &Corpus, settings: &Settings) -> Result<Rates, Failure> {
    let messages = settings.messages;
    let begun = Instant::now();
    let (place, mut daemon) = filled(dir, corpus, messages, servers::free_port()?)?;
    report.figure("reconstruct: storedd filled through LMTP", messages as f64 / begun.elapsed().as_secs_f64(), "/s");
    let files = place.data().join("partition");
    let mut rates = Rates::new();
    for round in 0..settings.rounds.min(ROUNDS) {
        for (name, read) in [("names and sizes", false), ("every byte", true)] {
            if !cool(&files)? && round == 0 {
                report.skip("reconstruct: names and sizes are warm, only root can drop them; contents are cold");
            }
            let Tree { files, bytes, seconds } = scan(&files, read)?;
            rates.push((name, messages as f64 / seconds));
            if round == 0 && read {
                report.figure("reconstruct: files of the partition", files as f64, "");
                report.figure("reconstruct: bytes of the partition", bytes as f64 / f64::from(1 << 20), "MiB");
            }
        }
        for what in ["database", "indexes", "indexes and manifests"] {
            let (again, seconds) = bring_back(&place, daemon, what, messages)?;
            daemon = again;
            rates.push((what, messages as f64 / seconds));
        }
        cool(&files)?;
        let begun = Instant::now();
        place.ctl(&["check", "--all", "--deep"])?;
        rates.push(("check --deep", messages as f64 / begun.elapsed().as_secs_f64()));
        let shown = rates.iter().rev().take(6).rev().map(|(what, rate)| format!("{what} {}", number(*rate)));
        println!("  reconstruct: round {}, messages a second: {}", round + 1, shown.collect::<Vec<_>>().join(", "));
    }
    place.stop(daemon)?;
    Ok(rates)
}

/// Fills a peer that runs: by what is fastest for it, and leaves what its own delivery would have left.
///
/// # Errors
/// If it does not take them.
pub fn fill_peer(name: &str, work: &Path, dir: &Path, corpus: &Corpus, messages: u64) -> Result<(), Failure> {
    let data = dir.join(name);
    match name {
        "cyrus" => {
            // Message files beside the first one of each INBOX; its reconstruct takes them in.
            let boxes = headers(&data.join("spool"))?;
            if boxes.len() as u64 != USERS {
                return Err(Failure::new(format!("cyrus: {} mailboxes of {USERS} users", boxes.len())));
            }
            for n in USERS..messages {
                let (inbox, owner) = &boxes[usize::try_from(n % USERS).unwrap_or(0) % boxes.len()];
                let file = inbox.join(format!("{}.", n / USERS + 1));
                fs::write(&file, corpus.message(n))?;
                chown(&file, Some(owner.0), Some(owner.1))?;
            }
            beside(name, work, &cyrus_reconstruct())?;
        }
        _ => {
            let from = data.join("fill");
            for n in USERS..messages {
                let cur = from.join(lmtp::user(n % USERS)).join("cur");
                if n < 2 * USERS {
                    ["cur", "new", "tmp"].iter().try_for_each(|d| fs::create_dir_all(cur.with_file_name(d)))?;
                }
                fs::write(cur.join(format!("{}.{n}.bench:2,", 1_700_000_000 + n)), corpus.message(n))?;
            }
            let import = "doveadm -c /srv/peer/dovecot.conf -o mail_fsync=never import -u {}@example.org \
                          maildir:/srv/peer/fill/{} '' ALL";
            beside(name, work, &format!("chmod -R a+rwX /srv/peer/fill && {}", each_user(import)))?;
            fs::remove_dir_all(&from)?;
        }
    }
    Ok(())
}

/// Directories of Cyrus' mailboxes, with their owners.
fn headers(dir: &Path) -> Result<Vec<Inbox>, Failure> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(headers(&entry.path())?);
        } else if entry.file_name() == "cyrus.header" {
            let meta = entry.metadata()?;
            found.push((dir.to_owned(), (meta.uid(), meta.gid())));
        }
    }
    Ok(found)
}

/// A mailbox of Cyrus: its directory, user and group.
type Inbox = (PathBuf, (u32, u32));

/// The users, a line each: for the shell. The names are those of [`lmtp::user`].
fn users() -> String {
    format!("seq -f bench%03g 0 {}", USERS - 1)
}

/// A command for each user in place of `{}`, as many at once as there are processors.
pub fn each_user(command: &str) -> String {
    format!("{} | xargs -P$(nproc) -I{{}} sh -c \"{command}\"", users())
}

/// `reconstruct` of Cyrus over all mailboxes, as many at once as there are processors. It does not run as root.
fn cyrus_reconstruct() -> String {
    format!(
        "{} | sed s:^:user/: | setpriv --reuid cyrus --regid mail --clear-groups xargs -P$(nproc) -n{} \
         /usr/lib/cyrus/bin/reconstruct -C /srv/peer/imapd.conf",
        users(),
        USERS / 4
    )
}

/// One peer: rates of what brings its mailboxes back.
fn peer(
    report: &mut Report,
    name: &'static str,
    work: &Path,
    dir: &Path,
    corpus: &Corpus,
    settings: &Settings,
) -> Result<Rates, Failure> {
    let messages = settings.messages;
    let server = Server::peer(name, work, dir, USERS, None)?;
    let begun = Instant::now();
    fill_peer(name, work, dir, corpus, messages)?;
    report.figure(format!("reconstruct: {name} filled in"), begun.elapsed().as_secs_f64(), "s");
    let mut rates = Rates::new();
    let (lose, back, count) = match name {
        "cyrus" => (
            "find /srv/peer/spool -name 'cyrus.index' -o -name 'cyrus.cache' | xargs rm -f",
            cyrus_reconstruct(),
            "find /srv/peer/spool -name cyrus.index -size +90c | wc -l",
        ),
        _ => (
            "find /srv/peer/mail -name 'dovecot*index*' -o -name 'dovecot.map*' | xargs rm -f",
            each_user("doveadm -c /srv/peer/dovecot.conf force-resync -u {}@example.org INBOX"),
            "find /srv/peer/mail -path '*INBOX*' -name 'dovecot.index*' | sed 's:/[^/]*$::' | sort -u | wc -l",
        ),
    };
    for _ in 0..settings.rounds.min(ROUNDS) {
        beside(name, work, lose)?;
        cool(&dir.join(name))?;
        let begun = Instant::now();
        beside(name, work, &back)?;
        rates.push(("indexes", messages as f64 / begun.elapsed().as_secs_f64()));
        let said = beside(name, work, count)?.stdout;
        let back: u64 = String::from_utf8_lossy(&said).trim().parse().unwrap_or(0);
        if back < USERS {
            return Err(Failure::new(format!("{name}: {back} of {USERS} indexes came back")));
        }
    }
    drop(server);
    Ok(rates)
}

fn of(rates: &Rates, what: &str) -> f64 {
    median(rates.iter().filter(|(name, _)| *name == what).map(|(_, rate)| *rate))
}

/// Measures it.
///
/// # Errors
/// If a server does not come up, or does not bring everything back.
pub fn run(report: &mut Report, dir: &Path, settings: &Settings) -> Result<(), Failure> {
    let (dir, corpus) = (dir.join("reconstruct"), Corpus::load()?);
    fs::create_dir_all(&dir)?;
    let ours = store(report, &dir, &corpus, settings)?;
    for what in ["names and sizes", "every byte"] {
        report.figure(format!("reconstruct: the limit, {what}"), of(&ours, what), "/s");
    }
    fs::remove_dir_all(&dir)?;
    let mut best = 0.0_f64;
    for name in settings.peers.iter().flat_map(|_| ["cyrus", "dovecot"]) {
        fs::create_dir_all(&dir)?;
        let work = settings.peers.as_deref().unwrap_or(Path::new(""));
        let rate = of(&peer(report, name, work, &dir, &corpus, settings)?, "indexes");
        report.figure(format!("reconstruct: {name}, indexes lost"), rate, "/s");
        best = best.max(rate);
        fs::remove_dir_all(&dir)?;
    }
    if settings.peers.is_none() {
        report.skip("G14: no peers; see --peers");
    }
    for what in ["database", "indexes", "indexes and manifests", "check --deep"] {
        let rate = of(&ours, what);
        let lost = if what.starts_with("check") { what.to_owned() } else { format!("{what} lost") };
        report.figure(format!("reconstruct: storedd, {lost}"), rate, "/s");
        let mut goal = |over: &str, value, bound| {
            let what = format!("real: storedd, {lost}, over {over}");
            report.goals.push(Goal { name: "G14", what, value, bound, at_least: true, unit: "x" });
        };
        goal("reading every byte", rate / of(&ours, "every byte"), 0.5);
        if best > 0.0 && !what.starts_with("check") {
            goal("the better of Cyrus and Dovecot", rate / best, 3.0);
        }
    }
    Ok(())
}
