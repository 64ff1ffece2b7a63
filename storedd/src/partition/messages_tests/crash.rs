//! A crash at every operation of checkpoints, in every way that a disk may behave; then what the log has is applied again, and
//! again with a crash in it. // rows 163, B3, B19

use super::*;
use crate::partition::apply;

/// What the database and the log know, as far as a checkpoint asks.
#[derive(Debug, Default, Clone)]
struct Known {
    bodies: BTreeMap<(u64, u32), Vec<u8>>,
    /// Messages and bytes of every mailbox.
    counts: (u64, u64),
}

impl Supply for Known {
    fn body(&self, place: &Place, message: &Message) -> Result<Vec<u8>> {
        Ok(self.bodies[&(place.id, message.uid)].clone())
    }

    fn head(&self, place: &Place) -> Result<Option<Stamped<Head>>> {
        let mut head = head(place.id, "supplied");
        (head.row.messages, head.row.bytes) = self.counts;
        Ok(Some(stamped(1000, head)))
    }

    fn rows(&self, _: &Home) -> Result<MirroredRows> {
        Ok([((Table::Users, b"crowe".to_vec()), stamped(1, Some(b"user".to_vec())))].into())
    }

    fn mailboxes(&self, _: &Home) -> Result<Vec<u64>> {
        Ok(Vec::new())
    }
}

/// A checkpoint: what it applies, and what was staged for it.
struct Round {
    staged: Option<(u64, Vec<u8>)>,
    run: HomeRun,
}

fn mailbox(id: u64, is_new: bool, messages: Vec<(u64, Message)>, sources: &[(u32, Source)]) -> MailboxRun {
    let first = messages.first().map_or(1, |m| m.0);
    let head = is_new.then(|| stamped(first, head(id, "user\u{1}crowe\u{1}INBOX")));
    let messages = messages.into_iter().map(|(lsn, message)| stamped(lsn, message)).collect();
    MailboxRun {
        place: place(id),
        is_new,
        is_bare: false,
        settled: None,
        run: Run { head, messages },
        sources: sources.iter().cloned().collect(),
    }
}

fn round(mailboxes: Vec<MailboxRun>) -> Round {
    let rows = [((Table::Users, b"crowe".to_vec()), stamped(2, Some(b"user".to_vec())))].into();
    Round { staged: None, run: HomeRun { mailboxes, rows, ..HomeRun::nothing(&home()) } }
}

fn with(mut message: Message, change: impl FnOnce(&mut Message)) -> Message {
    change(&mut message);
    message
}

fn rounds() -> Vec<Round> {
    let log = |uid| (uid, Source::Log);
    let first = vec![(10, message(1, 1, 2)), (11, message(2, 2, 3))];
    let mut all = vec![
        round(vec![
            mailbox(5, true, first, &[log(1), log(2)]),
            mailbox(6, true, vec![(10, message(1, 1, 2))], &[(1, Source::Twin(place(5), 1))]),
        ]),
        round(vec![mailbox(
            5,
            false,
            vec![
                (20, with(message(1, 1, 4), |m| m.flags = Flags::SEEN)),
                (21, with(message(2, 2, 5), |m| (m.state, m.expunged_us) = (State::Expunged, 9))),
                (22, message(3, 40, 6)),
            ],
            &[(3, Source::Staged(77))],
        )]),
        round(vec![
            mailbox(5, false, vec![(32, with(message(2, 2, 7), |m| m.state = State::Purged))], &[]),
            mailbox(
                6,
                false,
                vec![(30, message(2, 1, 4)), (31, message(3, 40, 5))],
                &[(2, Source::Twin(place(5), 1)), (3, Source::Twin(place(5), 3))],
            ),
        ]),
        // So much that the index is made anew.
        round(vec![mailbox(5, false, (100..700).map(|n| (n, message(4, 4, n))).collect(), &[log(4)])]),
        round(vec![mailbox(5, false, vec![(800, message(5, 5, 800))], &[log(5)])]),
    ];
    all[0].run.is_new = true;
    all[1].staged = Some((77, text(40)));
    all[4].run.gone = vec![stamped(801, 6)];
    all
}

fn known() -> Known {
    let at = |id, uid, n| ((id, uid), text(n));
    Known { counts: (0, 0), bodies: [at(5, 1, 1), at(5, 2, 2), at(5, 4, 4), at(5, 5, 5)].into() }
}

fn target(disk: &SimDisk) -> Target<'_> {
    Target {
        disk,
        store: STORE.into(),
        keep_from: ALL,
        durable: Lsn(0),
        is_replay: false,
        distrusts: false,
        is_piece: false,
    }
}

/// At which operation each round began and was committed.
#[derive(Debug, Default)]
struct Ledger {
    begun: Vec<u64>,
    committed: Vec<u64>,
}

impl Ledger {
    fn at(&self, operation: u64) -> (usize, usize) {
        let count = |ops: &[u64]| ops.iter().filter(|op| **op < operation).count();
        (count(&self.begun), count(&self.committed))
    }
}

fn play(disk: &SimDisk, rounds: &[Round], ledger: &mut Ledger) -> Result<()> {
    for round in rounds {
        if let Some((number, bytes)) = &round.staged {
            let mut staging = bodies::stage(std::sync::Arc::new(disk.clone()), *number)?;
            staging.add(bytes)?;
            staging.finish()?;
        }
        ledger.begun.push(disk.ops());
        commit(target(disk), &round.run)?;
        ledger.committed.push(disk.ops());
        apply::finish(target(disk), &round.run)?;
    }
    Ok(())
}

fn commit(target: Target<'_>, run: &HomeRun) -> Result<Applied> {
    let applied = apply::apply(target, run, &known())?;
    target.disk.sync_tree().map_err(|e| StoreError::io("sync", "", e))?;
    Ok(applied)
}

/// What all rounds up to one make of the mailboxes.
fn expected(rounds: &[Round]) -> BTreeMap<u64, BTreeMap<u32, (Lsn, Message)>> {
    let mut all: BTreeMap<u64, BTreeMap<u32, (Lsn, Message)>> = BTreeMap::new();
    for round in rounds {
        for mailbox in &round.run.mailboxes {
            let messages = all.entry(mailbox.place.id).or_default();
            messages.extend(mailbox.run.messages.iter().map(|m| (m.value.uid, (m.lsn, m.value.clone()))));
        }
        round.run.gone.iter().for_each(|gone| drop(all.remove(&gone.value)));
    }
    all
}

/// What the partition alone proves: nothing committed is missing, be index or mirror gone.
fn check_alone(disk: &SimDisk, rounds: &[Round], committed: usize, begun: usize, what: &str) {
    let gone: BTreeSet<u64> = rounds[..begun].iter().flat_map(|r| &r.run.gone).map(|gone| gone.value).collect();
    for (id, messages) in expected(&rounds[..committed]) {
        if gone.contains(&id) {
            continue;
        }
        let found = [index(disk, id).read().unwrap(), manifest(disk).mailbox(id).unwrap()];
        for (uid, (lsn, message)) in messages {
            for found in &found {
                let newest = found.at(ALL).find(|m| m.value.uid == uid);
                let proven = newest.is_some_and(|m| m.lsn > lsn || (m.lsn == lsn && m.value == message));
                let purged = newest.is_none() && message.state == State::Purged;
                assert!(proven || purged, "{what}: mailbox {id} UID {uid}: {newest:?}");
            }
            if message.state != State::Purged && found[0].at(ALL).all(|m| m.value.uid != uid || m.lsn <= lsn) {
                let body = Body { size: message.size, digest: message.digest };
                bodies::read(disk, &place(id), uid, body).unwrap_or_else(|e| panic!("{what}: {e}"));
            }
        }
    }
}

/// All of what was begun, exactly, and whole.
fn check_all(disk: &SimDisk, rounds: &[Round], begun: usize, what: &str) {
    let expected = expected(&rounds[..begun]);
    for (id, messages) in &expected {
        for found in [index(disk, *id).read().unwrap(), manifest(disk).mailbox(*id).unwrap()] {
            assert!(found.reading.is_whole(), "{what}: mailbox {id}: {:?}", found.reading);
            assert_eq!(found.head.as_ref().map(|h| h.value.row.id), Some(*id), "{what}");
            let newest: BTreeMap<_, _> = found.at(ALL).map(|m| (m.value.uid, (m.lsn, m.value.clone()))).collect();
            let same = |uid: &u32| newest.get(uid) == messages.get(uid);
            let purged = |uid: &u32| !newest.contains_key(uid) && messages[uid].1.state == State::Purged;
            assert!(messages.keys().chain(newest.keys()).all(|uid| same(uid) || purged(uid)), "{what}: {newest:?}");
        }
        for (uid, (_, message)) in messages {
            let body = Body { size: message.size, digest: message.digest };
            let found = bodies::read(disk, &place(*id), *uid, body);
            assert_eq!(found.is_ok(), message.state != State::Purged, "{what}: mailbox {id} UID {uid}: {found:?}");
        }
        let files = place(*id).uids(disk).unwrap();
        assert!(files.iter().all(|uid| messages.contains_key(uid)), "{what}: {files:?}");
    }
    let there = tree::mailboxes(disk, &home()).unwrap().into_iter().map(|place| place.id);
    assert_eq!(there.collect::<Vec<_>>(), expected.keys().copied().collect::<Vec<_>>(), "{what}");
    let known = manifest(disk).mailboxes().unwrap().into_iter().filter(|(_, gone)| gone.is_none()).map(|(id, _)| id);
    assert_eq!(known.collect::<Vec<_>>(), expected.keys().copied().collect::<Vec<_>>(), "{what}");
    let (rows, reading) = manifest(disk).rows().unwrap();
    assert!(reading.is_whole() && rows[&(Table::Users, b"crowe".to_vec())].value.is_some(), "{what}");
}

/// What a start does: applies what was begun and is not known to be committed, once or twice.
fn replay(disk: &SimDisk, rounds: &[Round], committed: usize, begun: usize) -> Result<()> {
    let last = |round: &Round| round.run.mailboxes.iter().flat_map(|m| &m.run.messages).map(|m| m.lsn).max();
    let durable = rounds[..committed].iter().filter_map(last).max().unwrap_or_default();
    for round in &rounds[committed..begun] {
        commit(Target { durable, is_replay: true, ..target(disk) }, &round.run)?;
    }
    assert_eq!(disk.stat(tree::QUARANTINE).unwrap(), None, "a crash alone never looks like damage");
    bodies::clear_staging(disk, &BTreeSet::new())?;
    rounds[..begun].iter().try_for_each(|round| apply::finish(target(disk), &round.run))
}

// rows 163, B3
#[test]
fn every_crash_of_a_checkpoint_loses_nothing() {
    let (disk, rounds, mut ledger) = (SimDisk::new(), rounds(), Ledger::default());
    disk.set_recording(true);
    play(&disk, &rounds, &mut ledger).unwrap();
    check_all(&disk, &rounds, rounds.len(), "without a crash");
    assert_eq!(index(&disk, 5).read().unwrap().reading.generation, Some(2), "the index was made anew once");
    let moments = disk.take_moments();
    assert!(moments.len() > 50, "{}", moments.len());
    let mut states = 0;
    for moment in &moments {
        let (begun, committed) = ledger.at(moment.n);
        let torn = [0, moment.write_bytes() / 2, moment.write_bytes()];
        for moment in torn[..if moment.write_bytes() > 1 { 3 } else { 1 }].iter().map(|bytes| moment.torn(*bytes)) {
            for persist in Persist::all(moment.n) {
                let what = format!("operation {} {:?} {}: {persist:?}", moment.n, moment.kind, moment.path);
                let found = moment.image(persist);
                check_alone(&found, &rounds, committed, begun, &what);
                replay(&found, &rounds, committed, begun).unwrap_or_else(|e| panic!("{what}: {e}"));
                check_all(&found, &rounds, begun, &what);
                states += 1;
            }
        }
    }
    assert!(states > 700, "{states}");
}

// rows 163, B3: a crash in what a start does after a crash
#[test]
fn every_crash_of_a_replay_loses_nothing() {
    let (disk, rounds, mut ledger) = (SimDisk::new(), rounds(), Ledger::default());
    disk.set_recording(true);
    play(&disk, &rounds, &mut ledger).unwrap();
    let mut states = 0;
    for moment in disk.take_moments().iter().step_by(7) {
        let (begun, committed) = ledger.at(moment.n);
        let again = moment.image(Persist::RandomTorn(moment.n));
        again.set_recording(true);
        replay(&again, &rounds, committed, begun).unwrap();
        for second in again.take_moments() {
            for persist in [Persist::Nothing, Persist::RandomTorn(second.n), Persist::NamesWithoutData] {
                let what = format!("operation {}, then {} {:?}: {persist:?}", moment.n, second.n, second.kind);
                let found = second.image(persist);
                check_alone(&found, &rounds, committed, begun, &what);
                replay(&found, &rounds, committed, begun).unwrap_or_else(|e| panic!("{what}: {e}"));
                check_all(&found, &rounds, begun, &what);
                states += 1;
            }
        }
    }
    assert!(states > 200, "{states}");
}

// row 122: an index or a manifest that is lost or damaged is made anew with the next change, from its twin
#[test]
fn what_is_lost_is_made_anew_from_its_twin() {
    let rounds = rounds();
    for lost in [place(5).index(), home().manifest()] {
        for damage in [None, Some(3), Some(300)] {
            let disk = SimDisk::new();
            play(&disk, &rounds[..3], &mut Ledger::default()).unwrap();
            match damage {
                None => disk.erase(&lost).unwrap(),
                Some(at) => disk.damage(&lost, at, 0x10).unwrap(),
            }
            let mut last = round(vec![mailbox(5, false, vec![(900, message(9, 4, 900))], &[(9, Source::Log)])]);
            last.run.rows.clear();
            let mut known = known();
            known.bodies.insert((5, 9), text(4));
            let applied = apply::apply(target(&disk), &last.run, &known).unwrap();
            // Damage in the middle does not keep frames from being appended; a check finds it.
            assert_eq!(applied.repaired.len(), usize::from(damage != Some(300)), "{lost} {damage:?}");
            let mut found = index(&disk, 5).read().unwrap();
            found.merge(manifest(&disk).mailbox(5).unwrap());
            let states = states(&found);
            let uids: Vec<_> = states.iter().map(|m| m.0).collect();
            assert_eq!(uids, [1, 2, 3, 9], "{lost} {damage:?}");
            assert_eq!((states[0].1, states[1].2), (20, State::Purged), "{lost} {damage:?}");
        }
    }
}

// I8: what neither twin has is not passed over: the mailbox is named
#[test]
fn what_both_twins_lost_is_said() {
    for both in [false, true] {
        let (disk, rounds) = (SimDisk::new(), rounds());
        play(&disk, &rounds[..1], &mut Ledger::default()).unwrap();
        disk.erase(&place(5).index()).unwrap();
        if both {
            disk.erase(&home().manifest()).unwrap();
        }
        let mut known = known();
        known.bodies.insert((5, 9), text(4));
        let bytes = [1, 2, 4].map(|n| text(n).len() as u64).iter().sum();
        known.counts = (3, bytes);
        let last = round(vec![mailbox(5, false, vec![(900, message(9, 4, 900))], &[(9, Source::Log)])]);
        let applied = apply::apply(target(&disk), &last.run, &known).unwrap();
        assert_eq!(applied.incomplete, if both { vec![place(5)] } else { Vec::new() });
        let found = index(&disk, 5).read().unwrap();
        // And what is left does not look like all there was.
        assert_eq!((found.reading.is_whole(), states(&found).len()), (!both, if both { 1 } else { 3 }));
        assert_eq!(found.head.unwrap().value.name, b"supplied");
    }
}

// A fault at every operation of a checkpoint, and the next attempt: nothing is lost, nothing is doubled.
#[test]
fn every_fault_of_a_checkpoint_is_mended_by_the_next() {
    use crate::disk::Fault;
    let rounds = rounds();
    let plain = SimDisk::new();
    play(&plain, &rounds, &mut Ledger::default()).unwrap();
    for n in 1..=plain.ops() {
        for fault in [Fault::Eio, Fault::NoSpace, Fault::ShortWrite] {
            let (disk, mut ledger) = (SimDisk::new(), Ledger::default());
            disk.fail_at(n, fault);
            let done = play(&disk, &rounds, &mut ledger);
            let (begun, committed) = (ledger.begun.len(), ledger.committed.len());
            let what = format!("operation {n} {fault:?}: {done:?}");
            assert!(done.is_err() || begun == rounds.len(), "{what}");
            replay(&disk, &rounds, committed, begun).unwrap_or_else(|e| panic!("{what}: {e}"));
            check_all(&disk, &rounds, begun, &what);
        }
    }
}

// row B3: an index of an older time, whole as it is, does not take with it what the manifest alone knows
#[test]
fn a_manifest_that_is_made_anew_keeps_what_an_older_index_lacks() {
    let disk = SimDisk::new();
    let first = run(5, 3);
    index(&disk, 5).write_new(&first).unwrap();
    let older = disk.peek(&place(5).index()).unwrap();
    let good = {
        let fork = SimDisk::new();
        settled(&fork)
    };
    let mut entries = Entries::default();
    entries.run(5, &Run { head: good.head.clone(), messages: good.messages.clone() }).unwrap();
    manifest(&disk).append_new(&entries).unwrap();
    disk.plant(&place(5).index(), &older).unwrap();
    apply::remirror(target(&disk), &home(), &Known::default()).unwrap();
    assert_eq!(states(&manifest(&disk).mailbox(5).unwrap()), states(&good));
    assert_eq!(manifest(&disk).mailbox(5).unwrap().head, good.head);
}
