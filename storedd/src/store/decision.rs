//! What a start does, decided from what was found: a pure function, and the test that walks its whole domain.
//!
//! # The table
//! Candidates for the database are the live file, every snapshot that may be chosen, and the empty database; the *reach*
//! of a candidate is the LSN it gets to by replaying the contiguous valid log behind it. The highest reach wins; on a
//! tie the live database, then the newest snapshot, then the empty one.
//!
//! | found | start | manual `recover` |
//! |---|---|---|
//! | nothing of a store | first start | first start |
//! | live, log reaches all that is known, tail clean | go on (`clean` if nothing is to be replayed, else `replay`) | same |
//! | live, the same, torn tail | cut the tail, `replay` | same |
//! | live holds all that is known, and the log before it is bad at its end | go on in a new epoch, nothing is lost | same if the stop was clean, else refused |
//! | live bad or gone, another candidate reaches all that is known | `rollback` (snapshot) or `rebuild` (empty): nothing is lost | refused: names the file; with `--catastrophic` the same |
//! | no candidate reaches all that is known | `lossy` with the best, in a new epoch; with `hold`: read-only | refused: names the files |
//! | the same, and a place of snapshots cannot be read | refused: what is there may lose nothing | refused |
//! | a manual recovery failed before and nothing was accepted since | read-only | decides anew |
//!
//! `accept_loss` turns `hold` and the refusals of a manual recovery into the lossy decision. A point in time
//! (`until`, see [`super::until`]) is not decided here: a person has.

use crate::error::{StoreError, exit};
use crate::lsn::{Epoch, Lsn};

/// Which database is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The live file.
    Live,
    /// A snapshot, by id.
    Snapshot(String),
    /// An empty database.
    Empty,
}

impl Origin {
    /// As the report's `base` says it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Origin::Live => "live".to_owned(),
            Origin::Snapshot(id) => id.clone(),
            Origin::Empty => "empty".to_owned(),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Origin::Live => 2,
            Origin::Snapshot(_) => 1,
            Origin::Empty => 0,
        }
    }
}

/// A database that could be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub origin: Origin,
    /// Its applied LSN.
    pub base_lsn: Lsn,
    /// Epoch of that LSN.
    pub epoch: Epoch,
    /// Where replay from there ends.
    pub reach: Lsn,
    /// Nothing proves that there once was more behind it.
    pub whole: bool,
    /// The log can go on behind it; else it goes on in a new epoch, also where nothing is lost.
    pub resumes: bool,
}

impl Candidate {
    /// The empty database, from which the log leads to `reach`.
    #[must_use]
    pub fn empty(reach: Lsn, whole: bool) -> Candidate {
        Candidate { origin: Origin::Empty, base_lsn: Lsn::ZERO, epoch: Epoch(0), reach, whole, resumes: whole }
    }
}

/// What is wrong with a file that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It is not there; its path.
    Missing(String),
    /// It is no good; file, place and reason.
    Damaged(String),
}

/// What was found, reduced to what the decision needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// No marker, no database, no log: a directory that never was a store.
    pub fresh: bool,
    /// Why the live database cannot be taken; `None` if it can.
    pub live_problem: Option<Problem>,
    /// What is wrong with the control file; without it nobody knows what came last.
    pub control_problem: Option<Problem>,
    /// All candidates; snapshots newest first. The empty database is always one of them.
    pub candidates: Vec<Candidate>,
    /// The highest LSN that anything names.
    pub known: Lsn,
    /// Log files that are needed and are not there.
    pub missing: Vec<String>,
    /// Damaged places of the log that keep it from leading on.
    pub damaged: Vec<String>,
    /// Places of snapshots that could not be read: what is there might lead further.
    pub unreadable: Vec<String>,
    /// The log ends in a torn tail.
    pub torn: bool,
    /// A manual recovery failed and nobody has accepted the loss.
    pub failed_before: bool,
}

/// How to decide where there is a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// A manual `recover` or `test`: refuses what a start would work around.
    pub strict: bool,
    /// `recovery.on_loss = "hold"`.
    pub hold_on_loss: bool,
    /// `--accept-loss`.
    pub accept_loss: bool,
    /// `--catastrophic`: with `strict`, another database may take the place of the live one.
    pub catastrophic: bool,
}

/// What kind of start this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A new store.
    FirstStart,
    /// Nothing to replay.
    Clean,
    /// Replay the log behind the live database.
    Replay,
    /// Take a snapshot and replay; nothing is lost.
    Rollback,
    /// Take an empty database and replay the whole log; nothing is lost.
    Rebuild,
    /// Take the best there is; something is lost.
    Lossy,
    /// The store as it was at a point that a person named; what came later is set aside.
    Until,
    /// As lossy, or after a failed recovery: read-only, nothing is changed, a person decides.
    Hold,
}

impl Verdict {
    /// As the report's `decision` says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verdict::FirstStart => "first start",
            Verdict::Clean => "clean",
            Verdict::Replay => "replay",
            Verdict::Rollback => "rollback",
            Verdict::Rebuild => "rebuild",
            Verdict::Lossy => "lossy",
            Verdict::Until => "until",
            Verdict::Hold => "hold",
        }
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Kind.
    pub verdict: Verdict,
    /// The database taken.
    pub candidate: Candidate,
    /// First and last LSN known to be lost.
    pub lost: Option<(Lsn, Lsn)>,
    /// The torn tail is cut (the bytes are kept).
    pub cut: bool,
    /// A new epoch begins: history forks here.
    pub fork: bool,
}

/// A manual recovery that changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was found; names each missing or damaged file and no other.
    pub message: String,
    /// The next command.
    pub hint: String,
    /// Exit status.
    pub exit: u8,
}

impl From<Refusal> for StoreError {
    fn from(Refusal { message, hint, exit }: Refusal) -> StoreError {
        StoreError::Refused { message, hint, exit }
    }
}

/// Decides.
///
/// # Errors
/// A strict policy is refused, a hold that has no readable database to hold, and a loss that an unreadable place may spare.
pub fn decide(evidence: &Evidence, policy: Policy) -> Result<Decision, Refusal> {
    let empty = Candidate::empty(Lsn::ZERO, false);
    if evidence.fresh {
        return Ok(Decision { verdict: Verdict::FirstStart, candidate: empty, lost: None, cut: false, fork: false });
    }
    let strict = policy.strict && !policy.accept_loss;
    let candidate = best(&evidence.candidates).cloned().unwrap_or(empty);
    let lost = loss(&candidate, evidence.known);
    let log_is_bad = !evidence.missing.is_empty() || !evidence.damaged.is_empty();
    // With --catastrophic what is bad of the database, or of the log before the one that is taken, is no obstacle.
    let around = policy.catastrophic && candidate.resumes;
    let in_the_way = !around && (evidence.live_problem.is_some() || log_is_bad);
    if strict && (in_the_way || evidence.control_problem.is_some() || lost.is_some()) {
        return Err(refuse_strict(evidence));
    }
    let hold =
        !policy.accept_loss && !policy.strict && (evidence.failed_before || (lost.is_some() && policy.hold_on_loss));
    if hold {
        return hold_decision(evidence, lost);
    }
    if lost.is_some() && !policy.accept_loss && !evidence.unreadable.is_empty() {
        return Err(refuse_unreadable(evidence));
    }
    let verdict = match (&candidate.origin, lost) {
        (_, Some(_)) => Verdict::Lossy,
        (Origin::Live, None) if candidate.reach == candidate.base_lsn => Verdict::Clean,
        (Origin::Live, None) => Verdict::Replay,
        (Origin::Snapshot(_), None) => Verdict::Rollback,
        (Origin::Empty, None) => Verdict::Rebuild,
    };
    let fork = lost.is_some() || !candidate.resumes;
    Ok(Decision { verdict, candidate, lost, cut: evidence.torn, fork })
}

/// The candidate with the highest reach; on a tie live, then the first (newest) snapshot, then empty.
pub(super) fn best(candidates: &[Candidate]) -> Option<&Candidate> {
    candidates.iter().rev().max_by_key(|c| (c.reach, c.origin.rank()))
}

/// What a candidate gives up: from right behind its reach to the highest LSN that anything names. At least one LSN: that
/// something is gone is proven even where it has no name.
fn loss(candidate: &Candidate, known: Lsn) -> Option<(Lsn, Lsn)> {
    let from = candidate.reach.next();
    (!candidate.whole).then(|| (from, known.max(from)))
}

fn hold_decision(evidence: &Evidence, lost: Option<(Lsn, Lsn)>) -> Result<Decision, Refusal> {
    // Read-only means that no file is changed: only a live database can be shown that way.
    let live = evidence.candidates.iter().find(|c| c.origin == Origin::Live);
    match live {
        Some(live) => Ok(Decision {
            verdict: Verdict::Hold,
            candidate: live.clone(),
            lost: loss(live, evidence.known).or(lost),
            cut: false,
            fork: false,
        }),
        None => Err(refuse_strict(evidence)),
    }
}

fn refuse_unreadable(evidence: &Evidence) -> Refusal {
    let hint = "make the named place readable, or mount it, and start again, or go on without what is there: \
                storedd recover --accept-loss --yes";
    Refusal { message: evidence.unreadable.join("; "), hint: hint.to_owned(), exit: exit::IO }
}

fn refuse_strict(evidence: &Evidence) -> Refusal {
    let files = [&evidence.control_problem, &evidence.live_problem].into_iter().flatten();
    let mut missing = Vec::new();
    let mut damaged = Vec::new();
    for problem in files {
        match problem {
            Problem::Missing(file) => missing.push(file.clone()),
            Problem::Damaged(what) => damaged.push(what.clone()),
        }
    }
    missing.extend(evidence.missing.iter().cloned());
    damaged.extend(evidence.damaged.iter().cloned());
    let message = match (missing.is_empty(), damaged.is_empty()) {
        (false, _) => format!("missing: {}", missing.join(", ")),
        (true, false) => damaged.join("; "),
        (true, true) => format!("changes up to LSN {} were durable and cannot be reached", evidence.known),
    };
    Refusal { message, hint: way_on(evidence, missing.is_empty()).to_owned(), exit: exit::DAMAGED }
}

/// The next command after a refusal.
fn way_on(evidence: &Evidence, nothing_missing: bool) -> &'static str {
    let whole = best(&evidence.candidates).is_some_and(|c| c.whole) && evidence.control_problem.is_none();
    let live = evidence.candidates.iter().any(|c| c.origin == Origin::Live);
    match (whole, nothing_missing) {
        (true, _) if !live => {
            "nothing is lost: the database can be made again from what is there: storedd recover --catastrophic"
        }
        (true, _) if evidence.candidates.iter().any(|c| c.whole && c.origin != Origin::Live) => {
            "put the named files back and run the same command again, or take a snapshot and the log behind it, which loses \
             nothing: storedd recover --catastrophic"
        }
        (_, false) if live => {
            "put the named files back and run the same command again; if they are gone for good, see what would be lost: \
             storedd log reset --dry-run"
        }
        (_, false) => {
            "put the named files back and run the same command again, or accept the loss: storedd recover --accept-loss --yes"
        }
        (_, true) => {
            "put an undamaged copy of the named file in place and run the same command again, or accept the loss: \
             storedd recover --accept-loss --yes"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(origin: Origin, base: u64, reach: u64) -> Candidate {
        Candidate {
            origin,
            base_lsn: Lsn(base),
            epoch: Epoch(0),
            reach: Lsn(reach),
            whole: reach == 100,
            resumes: reach == 100,
        }
    }

    /// Every combination of what can be found and asked.
    fn domain() -> Vec<(Evidence, Policy)> {
        let mut out = Vec::new();
        // Live: (applied, reach) or bad; 100 is all there is to know, 40 what a broken log reaches.
        for live in [None, Some((10, 100)), Some((100, 100)), Some((10, 40)), Some((40, 40)), Some((0, 0))] {
            for snapshots in [vec![], vec![(5, 100)], vec![(5, 40)], vec![(60, 100), (5, 40)], vec![(7, 40), (5, 40)]] {
                for empty_reach in [0, 40, 100] {
                    let mut candidates = Vec::new();
                    candidates.extend(live.map(|(b, r)| candidate(Origin::Live, b, r)));
                    candidates
                        .extend(snapshots.iter().map(|(b, r)| candidate(Origin::Snapshot(format!("s{b}")), *b, *r)));
                    candidates.push(candidate(Origin::Empty, 0, empty_reach));
                    for bits in 0..1_u32 << 11 {
                        let bit = |n: u32| bits >> n & 1 > 0;
                        let named =
                            |n: u32, what: &str| bit(n).then(|| what.to_owned()).into_iter().collect::<Vec<_>>();
                        let mut candidates = candidates.clone();
                        // A database that holds everything, and a log that cannot go on behind it.
                        candidates[0].resumes &= !(bit(10) && live == Some((100, 100)));
                        let gone = || Problem::Missing("mboxlist.redb".to_owned());
                        let evidence = Evidence {
                            fresh: false,
                            live_problem: live.is_none().then(gone),
                            control_problem: bit(8).then(|| Problem::Missing("CONTROL".to_owned())),
                            candidates,
                            known: Lsn(100),
                            missing: named(0, "log.0000000002"),
                            damaged: named(1, "log.0000000003: record at 4096"),
                            unreadable: named(2, "read /snapshots: EIO"),
                            torn: bit(3),
                            failed_before: bit(4),
                        };
                        let (strict, hold_on_loss, accept_loss, catastrophic) = (bit(5), bit(6), bit(7), bit(9));
                        let policy = Policy { strict, hold_on_loss, accept_loss, catastrophic };
                        out.push((evidence, policy));
                    }
                }
            }
        }
        out
    }

    // row 28, row 31: one decision for each combination, and the rules hold for every one.
    #[test]
    fn the_table_is_total_and_its_rules_hold() {
        let domain = domain();
        assert_eq!(domain.len(), 6 * 5 * 3 * (1 << 11));
        let mut seen = std::collections::BTreeMap::new();
        for (evidence, policy) in &domain {
            let context = format!("{evidence:?} {policy:?}");
            let best_reach = evidence.candidates.iter().map(|c| c.reach).max().unwrap();
            let strict = policy.strict && !policy.accept_loss;
            match decide(evidence, *policy) {
                Ok(decision) => {
                    *seen.entry(decision.verdict.name()).or_insert(0) += 1;
                    if decision.verdict != Verdict::Hold {
                        assert_eq!(decision.candidate.reach, best_reach, "the highest reach wins: {context}");
                        let live = evidence.candidates.iter().find(|c| c.origin == Origin::Live);
                        if live.is_some_and(|l| l.reach == best_reach) {
                            assert_eq!(decision.candidate.origin, Origin::Live, "live wins a tie: {context}");
                        }
                        if let Origin::Snapshot(id) = &decision.candidate.origin {
                            let first = evidence
                                .candidates
                                .iter()
                                .find(|c| matches!(c.origin, Origin::Snapshot(_)) && c.reach == best_reach);
                            assert_eq!(first.unwrap().origin.name(), *id, "the newest of equals: {context}");
                        }
                        assert_eq!(decision.lost.is_some(), !decision.candidate.whole, "{context}");
                        assert_eq!(decision.fork, decision.lost.is_some() || !decision.candidate.resumes, "{context}");
                        assert_eq!(decision.cut, evidence.torn, "{context}");
                        assert!(policy.accept_loss || !evidence.failed_before || policy.strict, "{context}");
                        assert!(decision.lost.is_none() || policy.accept_loss || !policy.hold_on_loss, "{context}");
                        let unread = !evidence.unreadable.is_empty();
                        assert!(decision.lost.is_none() || policy.accept_loss || !unread, "{context}");
                    } else {
                        assert!(!policy.accept_loss && !policy.strict, "{context}");
                        assert!(!decision.cut && !decision.fork, "a hold changes nothing: {context}");
                        assert_eq!(decision.candidate.origin, Origin::Live, "{context}");
                    }
                    if strict {
                        let bad = !evidence.missing.is_empty() || !evidence.damaged.is_empty();
                        let around = policy.catastrophic && decision.candidate.resumes;
                        assert!(around || (!bad && evidence.live_problem.is_none()), "{context}");
                        assert!(evidence.control_problem.is_none(), "{context}");
                        assert_eq!(decision.lost, None, "{context}");
                    }
                }
                Err(refusal) => {
                    *seen.entry("refused").or_insert(0) += 1;
                    assert!(!policy.accept_loss, "{context}");
                    if refusal.exit == exit::IO {
                        assert!(!evidence.unreadable.is_empty() && best_reach < Lsn(100), "{context}");
                        assert!(refusal.message.contains("EIO"), "{context}");
                        continue;
                    }
                    assert!(strict || !evidence.candidates.iter().any(|c| c.origin == Origin::Live), "{context}");
                    assert_eq!(refusal.exit, exit::DAMAGED);
                    for file in &evidence.missing {
                        assert!(refusal.message.contains(file), "{context}");
                    }
                }
            }
        }
        let verdicts: Vec<_> = seen.keys().copied().collect();
        assert_eq!(verdicts, ["clean", "hold", "lossy", "rebuild", "refused", "replay", "rollback"]);
    }

    #[test]
    fn a_directory_that_never_was_a_store_is_a_first_start() {
        let evidence = Evidence { fresh: true, ..Evidence::default() };
        let policy = Policy { hold_on_loss: true, ..Policy::default() };
        assert_eq!(decide(&evidence, policy).unwrap().verdict, Verdict::FirstStart);
    }
}
