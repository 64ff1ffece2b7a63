//! `storedd prepare-upgrade`, `upgrade` and `downgrade`: a stopped store made ready for another program.

use super::narrate::narrator;
use super::{Ended, complain, survive_file_limit};
use crate::config::{self, Config};
use crate::db::{Meta, SCHEMA_OLDEST, SCHEMA_VERSION};
use crate::error::{StoreError, exit};
use crate::jobs::upgrade::{Asked, Done, Step, change_schema, expect_not_opened};
use crate::model::Table;
use crate::place;
use crate::store::decision::{self, Policy};
use crate::store::upgrade::{Standing, lagging_behind, remove_leftovers, schema_of};
use crate::store::{self, Disks};
use serde_json::json;
use verbs::{DowngradeEnable, DowngradeVerb, PrepareUpgrade, Upgrade};

const STRICT: Policy = Policy { strict: true, hold_on_loss: false, accept_loss: false, catastrophic: false };

/// `storedd prepare-upgrade`; the exit status.
#[must_use]
pub fn prepare(config: &Config, args: &PrepareUpgrade) -> u8 {
    let outcome = if args.remove_only { remove_only(config, args) } else { prepare_now(config, args) };
    outcome.unwrap_or_else(|ended| complain(&ended, args.json, config))
}

/// Says why a start with this configuration would leave the store alone for its schema; changes nothing, and needs no lock, for it is asked
/// while the daemon of the version before still runs. `None`: it would not, or nothing can be said.
#[must_use]
pub fn wants_upgrade(config: &Config) -> Option<u8> {
    let disks = place::open_existing(config).ok().filter(|_| config.recovery.upgrade == config::Upgrade::ByHand)?;
    let refusal = Standing::of(&disks, schema_of(&disks)?).ok()?.refusal(&disks)?;
    Some(complain(&refusal.into(), false, config))
}

/// Everything that a program of another version should not have to understand is done: what is in the log is in the database, and
/// nothing that only a running daemon needs is left.
fn prepare_now(config: &Config, args: &PrepareUpgrade) -> Result<u8, Ended> {
    let disks = place::open_existing(config)?;
    survive_file_limit()?;
    let lock = store::take_lock(&disks)?;
    let mut lines = Vec::new();
    let mut say = |line: String| {
        if !args.json {
            println!("{line} ... done");
        }
        lines.push(line);
    };
    let asked = Asked {
        to: None,
        snapshot: false,
        settings: place::snapshot_settings(config),
        told: &mut |_| {},
        each: &|_| true,
    };
    let done = change_schema(&disks, &place::env(), place::options(config), lock, asked, &narrator(false))?;
    say(format!("recovering the mboxlist environment, LSN {}", done.lsn));
    // The store is closed: from here on a daemon could be started, so the lock is taken again.
    let lock = store::take_lock(&disks)?;
    remove_leftovers(&disks)?;
    say("removing copies of the database that were not finished".to_owned());
    place::remove_temporary(config)?;
    drop(lock);
    say("removing the files of a running daemon".to_owned());
    if args.json {
        println!("{}", json!({"done": lines, "schema_version": done.from, "lsn": done.lsn.0, "report": done.report}));
    }
    Ok(store::exit_of(&done.report))
}

/// Removes temporary files and looks at nothing else.
fn remove_only(config: &Config, args: &PrepareUpgrade) -> Result<u8, Ended> {
    let disks = place::open_existing(config)?;
    let lock = store::take_lock(&disks)?;
    eprintln!("storedd: warning: nothing is recovered; the next start replays the log, with the program that wrote it");
    let removed = remove_leftovers(&disks)?;
    place::remove_temporary(config)?;
    drop(lock);
    match args.json {
        true => println!("{}", json!({"done": ["removing temporary files"], "removed": removed, "recovered": false})),
        false => println!("removing temporary files ... done"),
    }
    Ok(exit::OK)
}

/// `storedd upgrade`; the exit status.
#[must_use]
pub fn upgrade(config: &Config, args: &Upgrade) -> u8 {
    let outcome = match args.to {
        Some(to) if to != SCHEMA_VERSION => Err(Ended {
            code: "usage",
            message: format!("this program upgrades to schema {SCHEMA_VERSION}, not to {to}"),
            hint: Some("storedd downgrade validate".to_owned()),
            exit: exit::USAGE,
        }),
        _ if args.dry_run => plan(config, SCHEMA_VERSION, args.json),
        _ => change(config, SCHEMA_VERSION, true, args.json).map(|done| {
            let next = format!("storedd downgrade enable --yes, or storectl snapshot install {}", shown(&done));
            told(&done, args.json, &format!("the way back: {next}"));
            store::exit_of(&done.report)
        }),
    };
    outcome.unwrap_or_else(|ended| complain(&ended, args.json, config))
}

fn shown(done: &Done) -> &str {
    done.snapshot.as_deref().unwrap_or("ID")
}

/// `storedd downgrade`; the exit status.
#[must_use]
pub fn downgrade(config: &Config, verb: &DowngradeVerb, json: bool) -> u8 {
    let to = SCHEMA_VERSION - 1;
    let outcome = match verb {
        DowngradeVerb::Validate => plan(config, to, json),
        DowngradeVerb::Enable(DowngradeEnable { yes: false, dry_run: false }) if !super::confirmed(QUESTION) => {
            Err(Ended {
                code: "usage",
                message: "a downgrade makes the store one that this program does not open; it needs --yes".to_owned(),
                hint: Some("storedd downgrade validate".to_owned()),
                exit: exit::USAGE,
            })
        }
        DowngradeVerb::Enable(DowngradeEnable { dry_run: true, .. }) => plan(config, to, json),
        DowngradeVerb::Enable(_) => change(config, to, true, json).map(|done| {
            let next = "put the program before this one in place and start it; then: storectl reconstruct -m. \
                        Until it has opened the store: storedd downgrade cancel";
            told(&done, json, next);
            store::exit_of(&done.report)
        }),
        DowngradeVerb::Cancel => cancel(config, json),
    };
    outcome.unwrap_or_else(|ended| complain(&ended, json, config))
}

const QUESTION: &str = "Make the store ready for the program before this one? [y/N] ";

fn cancel(config: &Config, json: bool) -> Result<u8, Ended> {
    let disks = place::open_existing(config)?;
    let schema = schema_of(&disks).unwrap_or(SCHEMA_VERSION);
    if expect_not_opened(&disks, schema)? == Standing::Current {
        match json {
            true => println!("{}", json!({"changed": false, "schema_version": schema})),
            false => println!("there is no downgrade to take back: the store is of schema {schema}"),
        }
        return Ok(exit::OK);
    }
    let done = change(config, SCHEMA_VERSION, false, json)?;
    told(&done, json, "the downgrade is taken back");
    Ok(store::exit_of(&done.report))
}

/// Brings the store to the schema `to`, with a line for each step.
fn change(config: &Config, to: u32, snapshot: bool, json: bool) -> Result<Done, Ended> {
    let disks = place::open_existing(config)?;
    survive_file_limit()?;
    let stop = crate::signals::listen(|_| {}).map_err(|e| StoreError::io("install", "signal handlers", e))?;
    let lock = store::take_lock(&disks)?;
    let mut say = |step: Step| {
        if !json {
            println!("{} ... done", step.name());
        }
    };
    let asked = Asked {
        to: Some(to),
        snapshot,
        settings: place::snapshot_settings(config),
        told: &mut say,
        each: &|_| !stop.is_set(),
    };
    Ok(change_schema(&disks, &place::env(), place::options(config), lock, asked, &narrator(false))?)
}

fn told(done: &Done, json: bool, next: &str) {
    if json {
        let Done { from, to, lsn, rows, snapshot, report } = done;
        let found = json!({
            "changed": from != to, "from": from, "schema_version": to, "lsn": lsn.0, "rows": rows, "snapshot": snapshot,
            "report": report,
        });
        println!("{found}");
    } else if done.from == done.to {
        println!("the store is of schema {} already; nothing was changed", done.to);
    } else {
        println!("the store is of schema {} now, {} before; {} rows, LSN {}", done.to, done.from, done.rows, done.lsn);
        if let Some(id) = &done.snapshot {
            println!("kept as it was: snapshot {id}");
        }
        println!("{next}");
    }
}

/// What stands in the way, and what would be done; changes no byte.
fn plan(config: &Config, to: u32, json: bool) -> Result<u8, Ended> {
    let disks = place::open_existing(config)?;
    let lock = store::take_lock(&disks)?;
    let found = store::look(&disks, &narrator(false))?;
    let decision = decision::decide(&found.evidence(&disks), STRICT);
    drop(lock);
    let decision =
        decision.map_err(|r| Ended { code: "refused", message: r.message, hint: Some(r.hint), exit: r.exit })?;
    let Some(meta) = found.live_meta() else {
        let message = format!("there is no store in {}", disks.data.display(""));
        return Err(Ended { code: "no_input", message, hint: None, exit: exit::NO_INPUT });
    };
    let mut obstacles = Vec::new();
    if to < SCHEMA_OLDEST {
        obstacles.push(format!("no program before schema {SCHEMA_OLDEST} is known"));
    }
    obstacles.extend(short_of_space(&disks)?);
    if let Some(store_id) = found.store_id().filter(|_| meta.schema != to) {
        obstacles.extend(lagging_behind(&disks, store_id, to)?);
    }
    let left_out = left_out(meta, to);
    let steps: &[Step] = match meta.schema == to {
        true => &[],
        false => &[Step::Recover, Step::Snapshot, Step::Copy, Step::Validate, Step::Place],
    };
    let replayed = decision.candidate.reach.0 - decision.candidate.base_lsn.0;
    if json {
        let steps: Vec<&str> = steps.iter().map(|step| step.name()).collect();
        let found = json!({
            "dry_run": true, "from": meta.schema, "to": to, "rows": meta.rows(), "replayed": replayed, "steps": steps,
            "obstacles": obstacles, "left_out": left_out,
        });
        println!("{found}");
    } else {
        println!("the store is of schema {}, {} rows, LSN {}", meta.schema, meta.rows(), meta.applied_lsn);
        match steps {
            [] => println!("nothing would be changed: schema {to} is what was asked for"),
            steps => steps.iter().for_each(|step| println!("would do: {}{}", step.name(), detail(*step, replayed, to))),
        }
        left_out.iter().for_each(|what| println!("left out: {what}"));
        obstacles.iter().for_each(|obstacle| println!("in the way: {obstacle}"));
        println!("nothing was changed");
    }
    Ok(if obstacles.is_empty() { exit::OK } else { exit::FINDINGS })
}

/// What a program of the schema `to` does not know, as far as the database has it: the snapshot that is taken first keeps it.
fn left_out(meta: &Meta, to: u32) -> Vec<String> {
    if to >= SEEN || meta.schema < SEEN {
        return Vec::new();
    }
    let seen = meta.table(Table::Seen).rows;
    let seen = (seen > 0).then(|| format!("what users have seen in mailboxes of others, {seen} rows"));
    let grace = "since when quota roots are over their limits: a time of grace begins anew".to_owned();
    seen.into_iter().chain([grace]).collect()
}

/// The first schema that has both.
const SEEN: u32 = 3;

fn detail(step: Step, replayed: u64, to: u32) -> String {
    match step {
        Step::Recover if replayed > 0 => format!(" ({replayed} records of the log are not in the database yet)"),
        Step::Copy => format!(" (the database as one of schema {to})"),
        Step::Place if to < SCHEMA_VERSION => {
            " (the log begins anew; what there is of it goes to quarantine/)".to_owned()
        }
        _ => String::new(),
    }
}

/// Two copies of the database are made at most, each not longer than it is.
fn short_of_space(disks: &Disks) -> Result<Option<String>, StoreError> {
    let shown = disks.db.display("");
    let io = |op| move |e| StoreError::io(op, disks.db.display(""), e);
    let length = disks.db.stat("mboxlist.redb").map_err(io("stat"))?.map_or(0, |entry| entry.len);
    let (free, wanted) = (disks.db.free_bytes().map_err(io("look at the space of"))?, length.saturating_mul(2));
    Ok((free < wanted).then(|| format!("{shown} has {free} bytes free; two copies take {wanted} at most")))
}
