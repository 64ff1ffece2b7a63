//! The three side by side: what each keeps when something is lost, damaged or cut off, and how fast it takes mail. Writes
//! `peers.md` and `peers.svg`.
//!
//! # Operation
//! Each experiment starts from new mailboxes. What a user sees is read by IMAP from the peers, with `storectl` from storedd; what is done
//! to bring things back is what the documents of each say. The power cut is that of a real file system: an ext4 in a file
//! is shut down (`FS_IOC_SHUTDOWN`) while mail comes in, mounted again, and what was acknowledged is looked for.

mod imap;
mod rig;
mod table;

use crate::engines::Failure;
use crate::lmtp;
use crate::report::{Report, median, number};
use crate::settings::Settings;
use rig::{Inbox, Loss, Rig, USERS};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use table::Table;

/// Who is compared, with the names of the columns.
const ALL: [(&str, &str); 3] =
    [("storedd", "storedd"), ("cyrus", "Cyrus 3.6.1"), ("dovecot", "Dovecot 2.3.19.1, mdbox")];
/// Messages of the experiment of losses; the first ten are flagged, the second ten expunged.
const MESSAGES: u32 = 30;
/// Messages of which one bit is flipped.
const FLIPS: u32 = 20;
/// Power cuts.
const CUTS: usize = 5;
/// Sessions that deliver at the time of a cut.
const SESSIONS: usize = 8;
/// Sessions whose deliveries are measured, and for how long.
const DELIVERERS: (usize, Duration) = (16, Duration::from_secs(3));
/// Longest time until a disk whose power was cut is free again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the disk whose power is cut.
const DISK_BYTES: u64 = 1 << 30;

/// Message number `n`, as it goes over the wire.
fn wire(n: u64) -> Vec<u8> {
    let line = format!("flip-here-{n:06} {}\r\n", "abcdefghij ".repeat(5));
    format!("Subject: number {n}\r\nX-Number: {n}\r\n\r\n{}.\r\n", line.repeat(8)).into_bytes()
}

/// Its number, read from its bytes.
fn number_of(text: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(text);
    text.split_once("X-Number: ")?.1.lines().next()?.trim().parse().ok()
}

/// What is left of ten flags, of ten deletions, of twenty messages.
fn losses(rig: &mut Rig, loss: Loss) -> Result<String, Failure> {
    let user = lmtp::user(0);
    let mut session = rig.session()?;
    (0..MESSAGES).try_for_each(|n| session.deliver(&user, &wire(u64::from(n))))?;
    drop(session);
    let by_number = |inbox: &Inbox, n: u32| {
        let found = inbox.messages.iter().find(|m| m.text.as_deref().and_then(number_of) == Some(u64::from(n)));
        found.map(|m| (m.uid, m.flagged))
    };
    let before = rig.inbox(&user)?;
    let uids =
        |from: u32| (from..from + 10).filter_map(|n| by_number(&before, n)).map(|(uid, _)| uid).collect::<Vec<_>>();
    rig.mark(&user, &uids(0), &uids(10))?;
    rig.stop()?;
    // A UIDVALIDITY that is made of the clock is another one a second later.
    std::thread::sleep(Duration::from_secs(2));
    rig.lose(loss)?;
    rig.start()?;
    drop(rig.session()?);
    rig.repair(loss)?;
    let after = rig.inbox(&user)?;
    let there = |n| by_number(&after, n);
    let flagged = (0..10).filter(|n| there(*n).is_some_and(|(_, flagged)| flagged)).count();
    let returned = (10..20).filter(|n| there(*n).is_some()).count();
    let kept: Vec<u32> = (0..10).chain(20..MESSAGES).filter(|n| there(*n).is_some()).collect();
    let same = kept.iter().filter(|n| there(**n).map(|m| m.0) == by_number(&before, **n).map(|m| m.0)).count();
    let uidvalidity = match (before.uidvalidity == after.uidvalidity, kept.is_empty()) {
        (true, _) => "UIDVALIDITY kept",
        (false, true) => "no mailbox",
        (false, false) => "UIDVALIDITY new",
    };
    Ok(format!(
        "flags {flagged} of 10; {returned} of 10 expunged return; {} of 20 there, UIDs {same}; {uidvalidity}",
        kept.len()
    ))
}

/// Flips the lowest bit behind every place of such a text below a directory; how many.
fn flip(dir: &Path, texts: &[String]) -> Result<usize, Failure> {
    let mut flipped = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            flipped += flip(&entry.path(), texts)?;
            continue;
        }
        let mut bytes = fs::read(entry.path())?;
        let before = flipped;
        for text in texts {
            let at = bytes.windows(text.len()).position(|some| some == text.as_bytes());
            if let Some(byte) = at.and_then(|at| bytes.get_mut(at + text.len() + 3)) {
                *byte ^= 1;
                flipped += 1;
            }
        }
        if flipped > before {
            fs::write(entry.path(), bytes)?;
        }
    }
    Ok(flipped)
}

/// One bit of each of some messages flipped on the disk, and what a user gets then.
fn flips(rig: &mut Rig) -> Result<String, Failure> {
    let user = lmtp::user(1);
    let mut session = rig.session()?;
    (0..FLIPS).try_for_each(|n| session.deliver(&user, &wire(u64::from(n))))?;
    drop(session);
    let before = rig.inbox(&user)?;
    rig.stop()?;
    let texts: Vec<String> = (0..FLIPS).map(|n| format!("flip-here-{n:06}")).collect();
    let flipped = flip(&rig.mail(), &texts)?;
    if flipped < texts.len() {
        return Err(Failure::new(format!("{}: {flipped} of {FLIPS} messages were found on the disk", rig.name)));
    }
    rig.start()?;
    drop(rig.session()?);
    let after = rig.inbox(&user)?;
    let (mut healed, mut refused, mut served) = (0, 0, 0);
    for was in before.messages.iter().filter(|m| m.text.as_deref().and_then(number_of).is_some()) {
        match after.messages.iter().find(|now| now.uid == was.uid).and_then(|now| now.text.as_ref()) {
            None => refused += 1,
            Some(text) if Some(text) == was.text.as_ref() => healed += 1,
            Some(_) => served += 1,
        }
    }
    Ok(format!("{served} of {FLIPS} served damaged, {healed} healed, {refused} refused"))
}

fn ran(program: &str, arguments: &[&str]) -> bool {
    let ran = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    ran.is_ok_and(|status| status.success())
}

/// A file system of its own, whose power can be cut; unmounted when this goes.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    fn new(dir: &Path) -> Result<Disk, Failure> {
        let disk = Disk { image: dir.join("disk.img"), at: dir.join("disk") };
        fs::File::create(&disk.image)?.set_len(DISK_BYTES)?;
        fs::create_dir_all(&disk.at)?;
        match ran("mkfs.ext4", &["-q", &disk.image.display().to_string()]) && disk.attach() {
            true => Ok(disk),
            false => Err(Failure::new("power cuts need root, a loop device and mkfs.ext4")),
        }
    }

    fn attach(&self) -> bool {
        ran("mount", &["-o", "loop", &self.image.display().to_string(), &self.at.display().to_string()])
    }

    /// What was not synced is lost, and nothing can be written any more.
    fn loses_power(&self) -> Result<(), Failure> {
        let shutdown = r#"opendir(my $d, $ARGV[0]) or die; open(my $f, "<", $ARGV[0]) or die; my $how = pack("L", 2); ioctl($f, 0x8004587d, $how) or die"#;
        match ran("perl", &["-e", shutdown, &self.at.display().to_string()]) {
            true => Ok(()),
            false => Err(Failure::new("the power could not be cut")),
        }
    }

    /// As the next start of a machine finds it. As long as a process of the old one is left, the kernel goes on with the file system that
    /// was shut down.
    fn mended(&self) -> Result<(), Failure> {
        let begun = Instant::now();
        let writes = || fs::write(self.at.join("probe"), "").is_ok();
        while !(ran("umount", &[&self.at.display().to_string()]) && self.attach() && writes()) {
            if begun.elapsed() > PATIENCE {
                return Err(Failure::new("the disk stays busy"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        ran("umount", &["-l", &self.at.display().to_string()]);
    }
}

/// The power goes while mail comes in, again and again; what was acknowledged is looked for.
fn cuts(name: &'static str, work: &Path, dir: &Path) -> Result<String, Failure> {
    let disk = Disk::new(dir)?;
    let mut rig = Rig::new(name, work, &disk.at.join("mail"))?;
    let (acknowledged, next) = (Mutex::new(BTreeSet::new()), AtomicU64::new(0));
    for cut in 0..CUTS {
        let stop = AtomicBool::new(false);
        drop(rig.session()?);
        std::thread::scope(|scope| {
            let deliver = || {
                let Ok(mut session) = rig.session() else { return };
                while !stop.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if session.deliver(&lmtp::user(n % USERS), &wire(n)).is_err() {
                        return;
                    }
                    acknowledged.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(n);
                }
            };
            (0..SESSIONS).for_each(|_| drop(scope.spawn(deliver)));
            std::thread::sleep(Duration::from_millis(700 + 300 * cut as u64));
            let done = disk.loses_power();
            stop.store(true, Ordering::Relaxed);
            done
        })?;
        rig.kill();
        disk.mended()?;
        rig.start()?;
    }
    drop(rig.session()?);
    let acknowledged = acknowledged.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let missing = |rig: &Rig| -> Result<usize, Failure> {
        let mut there = BTreeSet::new();
        for n in 0..USERS {
            let inbox = rig.inbox(&lmtp::user(n))?;
            there.extend(inbox.messages.iter().filter_map(|m| number_of(m.text.as_deref()?)));
        }
        Ok(acknowledged.difference(&there).count())
    };
    let at_once = missing(&rig)?;
    if at_once > 0 {
        rig.repair(Loss::Index)?;
    }
    let lost = missing(&rig)?;
    rig.kill();
    let until = if at_once > lost { format!("; {at_once} not to be read until repaired") } else { String::new() };
    Ok(format!("{lost} of {} acknowledged messages lost, {CUTS} cuts{until}", acknowledged.len()))
}

/// Messages a second.
fn deliveries(rig: &Rig, rounds: usize) -> Result<f64, Failure> {
    let rates = (0..rounds).map(|_| {
        let done = lmtp::run(rig.port(), DELIVERERS.0, USERS, 4096, DELIVERERS.1)?;
        Ok(done.messages as f64 / done.seconds)
    });
    Ok(median(rates.collect::<Result<Vec<f64>, Failure>>()?))
}

/// Everything of one of them, as one column.
fn column(name: &'static str, work: &Path, dir: &Path, rounds: usize) -> Result<Vec<String>, Failure> {
    let mut cells = Vec::new();
    for loss in [Loss::Index, Loss::Database, Loss::Both] {
        let mut rig = Rig::new(name, work, &dir.join(format!("{name}-{loss:?}")))?;
        cells.push(losses(&mut rig, loss)?);
        rig.stop()?;
    }
    let mut rig = Rig::new(name, work, &dir.join(format!("{name}-flips")))?;
    cells.push(flips(&mut rig)?);
    rig.stop()?;
    cells.push(cuts(name, work, &dir.join(format!("{name}-cuts"))).unwrap_or_else(|e| format!("not measured: {e}")));
    let mut rig = Rig::new(name, work, &dir.join(format!("{name}-rates")))?;
    cells.push(format!("{} a second", number(deliveries(&rig, rounds)?)));
    rig.stop()?;
    cells.iter().for_each(|cell| println!("  {name}: {cell}"));
    Ok(cells)
}

/// Does it, and writes the table to the directory of the documents.
///
/// # Errors
/// If a server does not come up.
pub fn run(report: &mut Report, dir: &Path, settings: &Settings, machine: &str) -> Result<(), Failure> {
    let Some(work) = &settings.peers else {
        report.skip("side by side: no peers; see --peers");
        return Ok(());
    };
    let dir = dir.join("side");
    let mut table = Table::default();
    for (name, title) in ALL {
        fs::create_dir_all(dir.join(format!("{name}-cuts")))?;
        table.columns.push((title, column(name, work, &dir, settings.rounds)?));
    }
    fs::remove_dir_all(&dir)?;
    let docs = settings.docs.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs"));
    fs::write(docs.join("peers.md"), table.markdown(machine))?;
    fs::write(docs.join("peers.svg"), table.svg(machine))?;
    println!("written: {} and peers.svg", docs.join("peers.md").display());
    Ok(())
}
