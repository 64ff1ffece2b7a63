//! A user moves to another partition, and then the store goes back to before that, or to between: he has the mail that he had then,
//! wherever its files lie, and nothing that came later. // rows 35, 115

use super::super::{manual, point};
use super::acts::relocate;
use super::essence::{Essence, essence};
use super::stage::{Base, INBOX, NEWS, Stage, base, begin, deliver, files, of};
use crate::harness::total;
use std::time::Duration;
use storedd::disk::SimDisk;
use storedd::jobs::registry::Context;
use storedd::jobs::snapshots::{Keeper, Settings};
use storedd::lsn::Lsn;
use storedd::model::Command;

/// What is done behind the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Move,
    MoveBack,
    Mail,
    Purge,
    Checkpoint,
}

use Act::{Checkpoint, Mail, Move, MoveBack, Purge};

/// What happens behind the point, one way after the other.
const WAYS: [&[Act]; 9] = [
    &[Move],
    &[Move, Checkpoint],
    &[Mail, Move, Checkpoint],
    &[Move, Mail, Checkpoint],
    &[Move, Checkpoint, Mail, Checkpoint],
    &[Move, Checkpoint, Purge, Checkpoint],
    &[Move, Checkpoint, MoveBack, Checkpoint],
    &[Mail, Checkpoint, Move, Mail, Checkpoint, MoveBack, Mail, Checkpoint],
    &[Purge, Move, Mail, Checkpoint],
];

impl Act {
    fn done(self, stage: &Stage, nth: u64) -> Result<(), String> {
        match self {
            Act::Move => relocate(stage, "second"),
            Act::MoveBack => relocate(stage, "primary"),
            Act::Mail => {
                stage.commit(deliver(100 + nth, 150, &[INBOX, "user/bob/INBOX"], false))?;
                stage.commit(Command::MessageExpunge { of: of(INBOX, &[1]) }).or(Ok::<(), String>(()))?;
                stage.commit(Command::MailboxCreate { name: format!("user/ann/Neu{nth}"), partition: None })?;
                stage.commit(deliver(200 + nth, 180, &[&format!("user/ann/Neu{nth}")], false))
            }
            Act::Purge => stage.commit(Command::MessagePurge { of: of(INBOX, &[2]) }),
            Act::Checkpoint => stage.store.checkpoint().map(drop).map_err(|e| e.to_string()),
        }
    }
}

fn keep(stage: &Stage) -> Result<(), String> {
    let settings = Settings { interval: Duration::from_secs(1), keep: 5, verify: true, pace: u64::MAX };
    let keeper = Keeper::new(stage.store.clone(), stage.env.clone()).map_err(|e| e.to_string())?;
    keeper.take(&settings, true, &Context::idle()).map(drop).map_err(|e| e.to_string())
}

/// What the store shows behind a return to `to`, as people see it: adopted, written down, and started again.
fn gone_back(machine: &SimDisk, base: &Base, to: Lsn) -> Result<Essence, String> {
    manual::go_back(machine, &base.options, to, base.seed).map_err(|e| e.to_string())?;
    let shown = |when: &str| {
        let (dump, report) = point::start(machine, &base.options, base.seed).map_err(|e| format!("{when}: {e}"))?;
        match report.lost {
            Some(lost) => Err(format!("{when}: lost: {lost:?}")),
            None => essence(&dump).map(Essence::anywhere),
        }
    };
    let first = shown("the first start")?;
    {
        let stage = begin(machine, base, base.seed)?;
        stage.store.checkpoint().map_err(|e| e.to_string())?;
        stage.commit(deliver(300, 150, &[NEWS], false))?;
        stage.commit(Command::MessagePurge { of: of(NEWS, &[]) }).or(Ok::<(), String>(()))?;
        stage.store.close().map_err(|e| e.to_string())?;
    }
    let second = shown("the second start")?;
    match first.lacks(&second).or(second.lacks(&first)) {
        Some((what, is)) if !what.starts_with(NEWS) => Err(format!("it does not stay: {what}: {is}")),
        _ => Ok(first),
    }
}

// A user who moved behind the point was looked for where he had been: his mail was set aside, or, where he had moved there and back, taken
// away, for a replay took the place in which he lay for the one that he had left.
#[test]
fn a_store_goes_back_across_a_move() {
    let mut returns = 0;
    let mut wrong = Vec::new();
    for way in WAYS {
        let base = base(2, false).unwrap();
        let stage = begin(&base.machine, &base, 1).unwrap();
        keep(&stage).unwrap();
        let mut points = Vec::new();
        let mut purged = false;
        let mut note = |stage: &Stage| {
            let shown = essence(&stage.dump().unwrap()).unwrap().anywhere();
            points.push((stage.store.published_lsn(), shown));
        };
        note(&stage);
        for (nth, act) in (0..).zip(way) {
            act.done(&stage, nth).unwrap_or_else(|e| panic!("{way:?}: {act:?}: {e}"));
            purged |= *act == Purge;
            note(&stage);
        }
        drop(stage);
        for (nth, (lsn, then)) in points.iter().enumerate() {
            let machine = base.machine.moment().killed();
            let case = format!("{way:?}, back to behind {:?}", &way[..nth]);
            returns += 1;
            match gone_back(&machine, &base, *lsn) {
                Err(e) => wrong.push(format!("{case}: {e}")),
                // What was purged behind the point has no bytes any more.
                Ok(shown) if !purged => {
                    if shown != *then {
                        wrong.push(format!("{case}: {}", then.difference(&shown)));
                    }
                }
                Ok(shown) => {
                    let lost = shown.lacks(then).filter(|(what, _)| !what.contains("user/ann/INBOX"));
                    wrong.extend(lost.map(|(what, is)| format!("{case}: {what} is gone: {is}")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {returns}:\n{}", wrong.len(), wrong.join("\n"));
    total(&format!("going back across a move: {returns} returns, 0 violations"));
}

/// A store on which all of a way was done, killed; what it shows, and the log before the last act.
fn walked(way: &[Act]) -> (Base, Essence, Vec<(String, Vec<u8>)>) {
    let base = base(2, false).unwrap();
    let stage = begin(&base.machine, &base, 1).unwrap();
    keep(&stage).unwrap();
    let log = base.machine.disk("log");
    let mut before = Vec::new();
    for (nth, act) in (0..).zip(way) {
        if nth == way.len() as u64 / 2 {
            let names = files(&base.machine, "log").into_iter().filter(|name| name.starts_with("log."));
            before = names.map(|name| (name.clone(), log.peek(&name).unwrap())).collect();
        }
        act.done(&stage, nth).unwrap_or_else(|e| panic!("{way:?}: {act:?}: {e}"));
    }
    stage.store.seal().unwrap();
    let shown = essence(&stage.dump().unwrap()).unwrap().anywhere();
    drop(stage);
    (base, shown, before)
}

// A start that replayed much took the directories of a user away who moved, and whom a later piece of the log moved back.
#[test]
fn a_replay_in_pieces_takes_nothing_away_that_came_back() {
    for way in WAYS {
        let (mut base, shown, _) = walked(way);
        base.machine.disk("db").erase("mboxlist.redb").unwrap();
        (base.options.overlay_bytes, base.options.overlay_bytes_max) = (256, 512);
        let stage = begin(&base.machine, &base, 3).unwrap_or_else(|e| panic!("{way:?}: {e}"));
        let found = essence(&stage.dump().unwrap_or_else(|e| panic!("{way:?}: {e}"))).unwrap().anywhere();
        assert!(found == shown, "{way:?}: {}", shown.difference(&found));
        stage.store.checkpoint().unwrap();
        let found = essence(&stage.dump().unwrap()).unwrap().anywhere();
        assert!(found == shown, "{way:?}, written down: {}", shown.difference(&found));
    }
}

// What the log has lost of a move, and of moves there and back, the partitions know.
#[test]
fn a_loss_across_a_move_costs_no_mail() {
    let mut wrong = Vec::new();
    for way in WAYS {
        let (base, shown, before) = walked(way);
        base.machine.disk("db").erase("mboxlist.redb").unwrap();
        for name in files(&base.machine, "log").into_iter().filter(|name| name.starts_with("log.")) {
            base.machine.disk("log").erase(&name).unwrap();
        }
        before.iter().for_each(|(name, bytes)| base.machine.disk("log").plant(name, bytes).unwrap());
        let found = point::start(&base.machine, &base.options, 3).map_err(|e| format!("{way:?}: {e}"));
        match found.and_then(|(dump, _)| essence(&dump).map(Essence::anywhere)) {
            Ok(found) => {
                wrong.extend(found.lacks_mail(&shown).map(|(what, is)| format!("{way:?}: {what} is gone: {is}")))
            }
            Err(e) => wrong.push(e),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
