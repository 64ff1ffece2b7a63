//! `storedd restore-db`: a backup in the place of a stopped store, and a recovery of it.

use super::narrate::narrator;
use super::{Ended, complain, confirmed, survive_file_limit};
use crate::config::Config;
use crate::disk::{RealDisk, outside};
use crate::error::{Result as StoreResult, StoreError, exit};
use crate::jobs::complete;
use crate::jobs::restore::{self, Later, Plan, Target};
use crate::partition::places;
use crate::place;
use crate::snapshot::Backup;
use crate::store::decision::Policy;
use crate::store::{self, Report, rfc3339};
use proto::naming::quoted;
use serde_json::json;
use verbs::RestoreDb;

/// Lines that are told one by one; `--json` has all.
const TOLD_MAX: usize = 1000;

/// `storedd restore-db`; the exit status.
#[must_use]
pub fn restore_db(config: &Config, args: &RestoreDb) -> u8 {
    restore_now(config, args).unwrap_or_else(|ended| complain(&ended, args.json, config))
}

fn restore_now(config: &Config, args: &RestoreDb) -> Result<u8, Ended> {
    let backup = place::backup(&args.backup)?;
    let complete = complete::Found::at(backup.as_disk())?;
    let backup = complete.as_ref().map_or(backup, complete::Found::backup);
    backup.expect_contents()?;
    let work = complete.as_ref().map(|found| partitions(config, found, &backup, &args.partition));
    let work = work.transpose()?.unwrap_or_default();
    let mut without = match &complete {
        Some(found) => look(found, &work, args)?,
        None => Without::default(),
    };
    if !args.partition.is_empty() {
        return put_partitions(config, args, complete.as_ref(), work, without);
    }
    if args.dry_run && !outside::exists(&config.store.data_dir) {
        let would = format!("make {} and put it there", config.store.data_dir.display());
        return describe_good(&backup, &would, &work, args, &without);
    }
    if !args.dry_run {
        survive_file_limit()?;
        make_parents(config)?;
        place::finish_restore(config)?;
    }
    let target = place::restore_target(config)?;
    // A directory in which nothing ever was gets no lock file from one who only looks.
    let fresh = target.data.stat("lock").map_err(|e| StoreError::io("stat", target.data.display("lock"), e))?.is_none();
    let lock = (!(args.dry_run && fresh)).then(|| store::take_lock_in(&*target.data)).transpose();
    if let (Err(StoreError::Locked { .. }), true, true) = (&lock, args.dry_run, complete.is_some()) {
        // A copy is looked at on the day on which it was taken, and nobody stops a store for that.
        let would = format!(
            "put it in the place of the store that runs here ({}), once that is stopped",
            config.store.data_dir.display()
        );
        return describe_good(&backup, &would, &work, args, &without);
    }
    let lock = lock?;
    let env = place::env();
    let plan = Plan::make(backup, &target, args.other_store, env.now())?;
    if args.dry_run {
        describe(&plan, &target, &work, args, &without);
        return Ok(without.exit());
    }
    if !args.json {
        tell_loss(&plan);
    }
    if let Some(found) = &complete {
        found.expect_unused(&work)?;
    }
    if !args.yes && !confirmed(&format!("Put this backup in the place of {}? [y/N] ", config.store.data_dir.display()))
    {
        return Err(Ended {
            code: "usage",
            message: "restore-db replaces a store; it needs --yes".to_owned(),
            hint: Some(format!("storedd restore-db --dry-run {}", quoted(&args.backup.display().to_string()))),
            exit: exit::USAGE,
        });
    }
    let say = |text: &str| {
        if args.verbose {
            eprintln!("{text}");
        }
    };
    restore::begin(&*target.data, &outside::resolved(&args.backup).display().to_string())?;
    if let Some(found) = &complete {
        work.iter().for_each(|one| say(&one.step()));
        without.unfit = found.put(&work, Some(&target.data), &mut |text| say(text))?.unfit;
        without.tell(args);
    }
    plan.run(&target, &*env, config.log.segment_size, &mut |text| say(text))?;
    let Some(lock) = lock else { return Err(StoreError::Bug("a restore without the lock".to_owned()).into()) };
    let report = match recover(config, lock, args.verbose) {
        Ok(report) => report,
        Err(e) => {
            eprintln!("storedd: the copies are in their places, and cannot be recovered. The way back:");
            way_back(&plan, &target).iter().for_each(|command| eprintln!("  {command}"));
            return Err(e.into());
        }
    };
    tell(&plan, &target, &report, args, &without);
    Ok(store::exit_of(&report).max(without.exit()))
}

/// What a restore is without.
#[derive(Default)]
struct Without {
    /// Messages that are not as the copy was written.
    unfit: Vec<complete::Unfit>,
    /// What the copy itself says that it has not, or has as it was: damaged.
    unreadable: Vec<String>,
}

impl Without {
    fn exit(&self) -> u8 {
        if self.unfit.is_empty() && self.unreadable.is_empty() { exit::OK } else { exit::PARTLY }
    }

    fn json(&self) -> (Vec<serde_json::Value>, &[String]) {
        (self.unfit.iter().map(|one| json!({"file": one.file, "reason": one.why})).collect(), &self.unreadable)
    }

    /// Says it to people.
    fn tell(&self, args: &RestoreDb) {
        let would = if args.dry_run { "would be " } else { "" };
        for complete::Unfit { why, .. } in self.unfit.iter().take(TOLD_MAX) {
            eprintln!("storedd: {would}left out: {why}");
        }
        for line in self.unreadable.iter().take(TOLD_MAX) {
            eprintln!("storedd: was not readable, or damaged, when the copy was taken: {}", line.escape_debug());
        }
        if self.exit() != exit::OK {
            let (left, had) = (self.unfit.len(), self.unreadable.len());
            eprintln!(
                "storedd: {left} messages {would}left out, {had} files were damaged before; what is lost: storectl check --all --deep"
            );
            eprintln!(
                "storedd: bytes that an archive has come back with: storectl restore -f ARCHIVE --yes --heal --deep"
            );
        }
    }
}

/// Looks at a complete copy before anything is changed: at all of it, or at what nothing can do without.
fn look(found: &complete::Found, work: &[complete::Work], args: &RestoreDb) -> StoreResult<Without> {
    let mut without = Without { unreadable: found.unreadable()?, ..Without::default() };
    if !args.dry_run {
        found.expect_indexes(work)?;
        return Ok(without);
    }
    let (files, unfit) = found.verify()?;
    without.unfit = unfit;
    if !args.json {
        match without.unfit.len() {
            0 => println!("the copy is good: {files} files, and the backup of the database in it"),
            bad => println!(
                "{bad} messages of the copy are not as they were written; {files} files, and the backup of the database in it"
            ),
        }
        work.iter().for_each(|one| println!("would {}", one.step()));
    }
    without.tell(args);
    Ok(without)
}

/// Puts some partitions of a complete copy back, and leaves the rest of the store as it is.
fn put_partitions(
    config: &Config,
    args: &RestoreDb,
    found: Option<&complete::Found>,
    work: Vec<complete::Work>,
    mut without: Without,
) -> Result<u8, Ended> {
    let refused =
        |message: String, hint: &str, exit| Ended::from(StoreError::Refused { message, hint: hint.to_owned(), exit });
    let has = |name: &String| work.iter().any(|one| one.name == *name);
    let (Some(found), None) = (found, args.partition.iter().find(|name| !has(name))) else {
        let message = format!("{} is no complete copy that has all of these partitions", args.backup.display());
        return Err(refused(message, "storectl restore-db --dry-run DIR", exit::BAD_INPUT));
    };
    if args.dry_run {
        let (left_out, unreadable) = without.json();
        let names: Vec<_> = work.iter().map(|one| &one.name).collect();
        match args.json {
            true => println!(
                "{}",
                json!({"dry_run": true, "partitions": names, "steps": steps(&work),
                    "left_out": left_out, "unreadable": unreadable})
            ),
            false => println!("nothing was changed"),
        }
        return Ok(without.exit());
    }
    let disks = place::open_existing(config)?;
    let lock = store::take_lock_in(&*disks.data)?;
    found.expect_unused(&work)?;
    let there = store::Marker::read(&*disks.data)?.map(|marker| marker.store_id);
    if there != Some(found.manifest.store_id) {
        let message = format!("{} is a copy of another store", args.backup.display());
        return Err(refused(message, "storectl restore-db --dry-run DIR", exit::BAD_INPUT));
    }
    if !args.yes && !confirmed("Put these partitions back? [y/N] ") {
        return Err(Ended {
            code: "usage",
            message: "restore-db needs --yes".to_owned(),
            hint: Some(format!("storedd restore-db --dry-run {}", quoted(&args.backup.display().to_string()))),
            exit: exit::USAGE,
        });
    }
    let complete::PutBack { tally, unfit } = found.put(&work, None, &mut |text| {
        if args.verbose {
            eprintln!("{text}");
        }
    })?;
    drop(lock);
    without.unfit = unfit;
    without.tell(args);
    let (left_out, unreadable) = without.json();
    let names: Vec<_> = work.iter().map(|one| one.name.clone()).collect();
    if args.json {
        println!(
            "{}",
            json!({"restored": true, "partitions": names, "messages": tally.messages, "copies": tally.copies,
                "left_out": left_out, "unreadable": unreadable})
        );
    } else {
        println!(
            "restored {}: {} messages, and {} further names of them",
            names.join(", "),
            tally.messages,
            tally.copies
        );
    }
    Ok(without.exit())
}

/// What becomes of the partitions of a complete copy: they lie where the configuration says, else where the store itself knew, here or when
/// the copy was taken.
fn partitions(
    config: &Config,
    found: &complete::Found,
    backup: &Backup,
    wanted: &[String],
) -> StoreResult<Vec<complete::Work>> {
    let mut all = places::read(&*backup.as_disk())?;
    if let Ok(data) = RealDisk::new(&config.store.data_dir) {
        all.extend(places::read(&data)?);
    }
    all.extend(config.partitions.clone());
    found.work(&all, wanted)
}

/// The directories in which those of the store are made.
fn make_parents(config: &Config) -> StoreResult<()> {
    let parents = [&config.store.db_dir, &config.store.log_dir].into_iter().filter_map(|dir| dir.parent());
    for dir in parents.chain([config.store.data_dir.as_path()]) {
        RealDisk::create_root(dir).map_err(|e| StoreError::io("make directory", dir.display().to_string(), e))?;
    }
    Ok(())
}

/// What a start does, to its end: nothing is worked around.
fn recover(config: &Config, lock: Box<dyn crate::disk::Lock>, verbose: bool) -> StoreResult<Report> {
    let disks = place::open_existing(config)?;
    let narrate = narrator(verbose);
    let plan = store::Plan::strict(disks, lock, Policy { strict: true, ..Policy::default() }, &narrate)?;
    let (store, report) = plan.carry_out(place::env(), place::options(config), "restore-db", &narrate)?;
    store.close()?;
    Ok(report)
}

/// The commands that put everything back where it was.
fn way_back(plan: &Plan, target: &Target) -> Vec<String> {
    let back = |(name, aside): (String, String)| {
        let failed = quoted(&format!("{name}.failed"));
        let (name, aside) = (quoted(&name), quoted(&aside));
        format!("mv -T {name} {failed} && mv -T {aside} {name}")
    };
    plan.aside(target).into_iter().map(back).collect()
}

/// What is not in the backup.
fn loss(plan: &Plan) -> String {
    let until = rfc3339(plan.manifest.until);
    match plan.later() {
        Some(Later { from, to, transactions, mailboxes }) => {
            let names = if mailboxes.is_empty() { String::new() } else { format!(": {}", mailboxes.join(", ")) };
            format!("not in the backup: {transactions} changes after {until}, LSN {from} to {to}{names}")
        }
        None => format!("not in the backup: whatever was changed after {until}"),
    }
}

fn tell_loss(plan: &Plan) {
    println!("{}", loss(plan));
}

/// What becomes of the partitions of a complete copy.
fn steps(work: &[complete::Work]) -> Vec<String> {
    work.iter().map(complete::Work::step).collect()
}

/// What a backup that is only looked at would do where nothing is, or a store runs.
fn describe_good(
    backup: &Backup,
    would: &str,
    work: &[complete::Work],
    args: &RestoreDb,
    without: &Without,
) -> Result<u8, Ended> {
    let manifest = restore::verify(backup)?;
    if args.json {
        let (left_out, unreadable) = without.json();
        let mut steps = steps(work);
        steps.push(would.to_owned());
        let nothing: [&str; 0] = [];
        println!(
            "{}",
            json!({"dry_run": true, "lsn": manifest.lsn.0, "reached_lsn": manifest.reached.0,
            "until": rfc3339(manifest.until), "aside": nothing, "later": null, "steps": steps,
            "left_out": left_out, "unreadable": unreadable})
        );
    } else {
        println!("the backup is good: database at LSN {}, log up to LSN {}", manifest.lsn, manifest.reached);
        println!("would {would}; nothing was changed");
    }
    Ok(without.exit())
}

fn describe(plan: &Plan, target: &Target, work: &[complete::Work], args: &RestoreDb, without: &Without) {
    if args.json {
        let (left_out, unreadable) = without.json();
        let mut steps = steps(work);
        steps.extend(plan.steps(target));
        println!(
            "{}",
            json!({"dry_run": true, "lsn": plan.manifest.lsn.0, "reached_lsn": plan.manifest.reached.0,
            "until": rfc3339(plan.manifest.until), "aside": aside(plan, target), "later": later(plan),
            "steps": steps, "left_out": left_out, "unreadable": unreadable})
        );
    } else {
        plan.steps(target).iter().for_each(|step| println!("would {step}"));
        tell_loss(plan);
        println!("nothing was changed");
    }
}

fn aside(plan: &Plan, target: &Target) -> Vec<serde_json::Value> {
    plan.aside(target).into_iter().map(|(from, to)| json!({"from": from, "to": to})).collect()
}

fn later(plan: &Plan) -> serde_json::Value {
    plan.later().map_or(serde_json::Value::Null, |Later { from, to, transactions, mailboxes }| {
        json!({"from_lsn": from.0, "to_lsn": to.0, "transactions": transactions, "mailboxes": mailboxes})
    })
}

fn tell(plan: &Plan, target: &Target, report: &Report, args: &RestoreDb, without: &Without) {
    if args.json {
        let (left_out, unreadable) = without.json();
        println!(
            "{}",
            json!({"restored": true, "store_id": plan.manifest.store_id.to_string(),
            "lsn": plan.manifest.lsn.0, "reached_lsn": plan.manifest.reached.0, "until": rfc3339(plan.manifest.until),
            "aside": aside(plan, target), "later": later(plan), "report": report,
            "left_out": left_out, "unreadable": unreadable})
        );
        return;
    }
    println!(
        "restored, as of {}, LSN {}; recovery: {}",
        rfc3339(plan.manifest.until),
        plan.manifest.reached,
        report.summary()
    );
    for (from, to) in plan.aside(target) {
        println!("what was {from} is {to}");
    }
}
