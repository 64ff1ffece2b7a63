//! A snapshot that a person puts in place of the database, whatever that is like.
//!
//! # Operation
//! The database that is there is not looked at: it may be good, bad, gone, or of a newer program. The snapshot must pass its check as one that
//! a start chooses. The log behind it is replayed, so that nothing is lost; or left, so that the store is as the snapshot has it.
//!
//! # Invariants
//! * What is left or cannot be reached is set aside and said; no number of it is given again (I6).
//! * Looking changes nothing (I7). A crash while it is carried out leaves the store as it was, or as it was to be: a database in
//!   place with the whole log behind it is the store as it was.

use super::Disks;
use super::decision::{Candidate, Decision, Origin, Verdict};
use super::fallback::{OF_ANOTHER_VERSION, PASSED_OVER, Wanted};
use super::look::{Found, OnProgress, look_for};
use crate::error::{Result, StoreError, exit};
use crate::lsn::Lsn;

/// What becomes of the log behind a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// It is replayed. What cannot be reached is given up if the person has said so.
    Replayed {
        /// He has.
        accept_loss: bool,
    },
    /// It is set aside: the store is as it was when the snapshot was taken.
    Left,
}

/// Looks for the snapshot, and says what putting it in place comes to.
///
/// # Errors
/// [`StoreError::Refused`] if there is no such snapshot, if it is no good, or if something would be lost that nobody has given up;
/// unreadable disks, a log of another store or of a newer program.
pub(super) fn decide(
    disks: &Disks,
    wanted: &Wanted,
    behind: Behind,
    progress: &OnProgress,
) -> Result<(Found, Decision)> {
    let found = look_for(disks, wanted, progress)?;
    let Some(survey) = &found.survey else {
        return Err(StoreError::Refused {
            message: format!("there is no store in {}", disks.data.display("")),
            hint: "name the store: --data-dir DIR or --config FILE".to_owned(),
            exit: exit::NO_INPUT,
        });
    };
    let Some(chosen) = &found.fallback else { return Err(none(wanted, &found)) };
    let (epoch, base_lsn) = (chosen.manifest.epoch, chosen.manifest.lsn);
    let origin = Origin::Snapshot(chosen.id.clone());
    let known = survey.highest_lsn();
    let evidence = found.evidence(disks);
    let reached = evidence.candidates.into_iter().find(|candidate| candidate.origin == origin);
    let Some(reached) = reached else {
        return Err(StoreError::Bug(format!("snapshot {} is no candidate", chosen.id)));
    };
    let decision = match behind {
        Behind::Left if known > base_lsn => {
            let candidate = Candidate { origin, base_lsn, epoch, reach: base_lsn, whole: true, resumes: false };
            Decision {
                verdict: Verdict::Until,
                candidate,
                lost: Some((base_lsn.next(), known)),
                cut: false,
                fork: true,
            }
        }
        _ if reached.resumes => {
            Decision { verdict: Verdict::Rollback, candidate: reached, lost: None, cut: evidence.torn, fork: false }
        }
        Behind::Replayed { accept_loss: true } => {
            let lost = (reached.reach.next(), known.max(reached.reach.next()));
            Decision { verdict: Verdict::Lossy, candidate: reached, lost: Some(lost), cut: false, fork: true }
        }
        _ => return Err(short(&chosen.id, reached.reach, known, &[evidence.missing, evidence.damaged].concat())),
    };
    Ok((found, decision))
}

/// There is none, or none that is good.
fn none(wanted: &Wanted, found: &Found) -> StoreError {
    let about = |place: &str| match wanted {
        Wanted::Any | Wanted::Before(_) => true,
        Wanted::Id(id) => place.split('/').any(|part| part == id),
    };
    let why = |what: &str| found.findings.iter().find(|f| f.what == what && about(&f.r#where));
    if let Some(f) = why(OF_ANOTHER_VERSION) {
        return StoreError::Refused {
            message: format!("{}: found {}, this program expects {}", f.r#where, f.found, f.expected),
            hint: "use the program that wrote it, or another snapshot: storectl snapshot list".to_owned(),
            exit: exit::BAD_INPUT,
        };
    }
    let hint = "storectl snapshot list".to_owned();
    match why(PASSED_OVER) {
        Some(f) => StoreError::Refused {
            message: format!("{} is not to be put in place: found {}, expected {}", f.r#where, f.found, f.expected),
            hint,
            exit: exit::DAMAGED,
        },
        None => StoreError::Refused { message: format!("no snapshot {wanted}"), hint, exit: exit::NOT_FOUND },
    }
}

/// The log behind it does not lead to the end.
fn short(id: &str, reach: Lsn, known: Lsn, obstacles: &[String]) -> StoreError {
    let what = if obstacles.is_empty() { "it begins later".to_owned() } else { obstacles.join(", ") };
    StoreError::Refused {
        message: format!(
            "the log behind snapshot {id} leads to LSN {reach}, changes up to LSN {known} were durable: {what}"
        ),
        hint: format!(
            "see what would be lost: storedd snapshot install {id} --accept-loss --dry-run; or take the best there is: \
             storedd recover --catastrophic --dry-run"
        ),
        exit: exit::DAMAGED,
    }
}
