//! Judges one segment: tells torn from damaged by what proves that a bad place was durable. See the page of [`super`].

use super::control::ControlState;
use super::record::Seed;
use super::scan::{self, Bounds, Gap, Run, Scan, Window};
use super::segment::{Header, HeaderProblem, SEGMENT_HEADER_BYTES};
use super::survey::{Damage, End, Proof, ProvedBy, SegmentEvidence, open};
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, Micros, StoreId};
use crate::planted::{self, Bug};

/// What proves where a segment ends.
pub(super) enum After {
    /// The next segment says so.
    Segment { file: String, lsn: Lsn, checksum: u32 },
    /// There is or was a later segment, which does not say it.
    Something { file: String },
    /// It is the last one.
    Nothing,
}

/// Where the log stands in front of a segment.
pub(super) struct Before {
    pub lsn: Lsn,
    pub checksum: u32,
    pub epoch: Epoch,
}

impl Before {
    /// What to read a segment by whose header and first record are gone: its records still carry their own proof.
    fn guess(&self, store: StoreId, evidence: &SegmentEvidence) -> Header {
        Header {
            version: super::segment::VERSION,
            store_id: store,
            epoch: self.epoch,
            number: evidence.number,
            previous: evidence.number - 1,
            first_lsn: self.lsn.next(),
            previous_lsn: self.lsn,
            previous_checksum: self.checksum,
            segment_bytes: evidence.bytes,
            created: Micros::default(),
        }
    }
}

/// Reads one segment and tells torn from damaged.
pub(super) fn judge(
    disk: &dyn Disk,
    evidence: &mut SegmentEvidence,
    after: &After,
    proof: &Proof,
    before: &Before,
    store: StoreId,
) -> Result<()> {
    let header = match (&evidence.header, &evidence.assumed) {
        (Ok(header), _) | (Err(HeaderProblem::Damaged { .. }), Some(header)) => header.clone(),
        (Err(HeaderProblem::Damaged { .. }), None) if evidence.bytes > SEGMENT_HEADER_BYTES => {
            before.guess(store, evidence)
        }
        (Err(HeaderProblem::Damaged { .. }), None) => {
            evidence.damages.extend(header_damage(evidence, Some(before.lsn.next())));
            evidence.end = End::Damaged;
            return Ok(());
        }
        (Err(HeaderProblem::Unknown { .. } | HeaderProblem::Foreign { .. }), _) => return Ok(()),
    };
    let target = match after {
        After::Segment { lsn, checksum, .. } => Some((*lsn, *checksum)),
        _ => None,
    };
    let bounds = Bounds {
        first_lsn: header.first_lsn,
        previous_lsn: header.previous_lsn,
        previous_checksum: header.previous_checksum,
        created: header.created,
        target,
    };
    let mut window = Window::new(open(disk, evidence)?, evidence.bytes.min(header.segment_bytes));
    let seed = Seed::new(header.store_id, header.epoch, header.number);
    let scan =
        scan::scan(&mut window, seed, &bounds).map_err(|e| StoreError::io("read", disk.display(&evidence.file), e))?;
    classify(evidence, scan, &header, after, proof);
    Ok(())
}

/// A damaged header page. `lsn`: the first record that cannot be read because of it.
fn header_damage(evidence: &SegmentEvidence, lsn: Option<Lsn>) -> Option<Damage> {
    let Err(HeaderProblem::Damaged { what, found, expected }) = &evidence.header else { return None };
    Some(Damage {
        offset: 0,
        bytes: evidence.bytes.min(SEGMENT_HEADER_BYTES),
        lsn,
        what: (*what).to_owned(),
        found: found.clone(),
        expected: expected.clone(),
        proof: ProvedBy::Name,
    })
}

/// The torn-versus-damaged rule.
fn classify(evidence: &mut SegmentEvidence, scan: Scan, header: &Header, after: &After, proof: &Proof) {
    let Scan { mut runs, gaps, unknown, met, behind } = scan;
    let records = runs.iter().map(|r| r.durable).max().unwrap_or_default();
    let judge = Judge { after, cut: evidence.bytes < header.segment_bytes, records, proof };
    let data_end = gaps.last().map_or(0, |g| g.offset + g.bytes).max(runs.last().map_or(0, |r| r.end));
    let tail_gap = gaps.last().is_some_and(|gap| gap.after == runs.len());
    let mut damages = Vec::new();
    let mut end = if tail_gap { End::Damaged } else { End::Clean };
    for gap in &gaps {
        let Some(by) = judge.proves(gap.lsn) else {
            let records = runs.drain(gap.after..).map(|r| r.last_lsn.0 - r.first_lsn.0 + 1).sum();
            end = End::Torn { offset: gap.offset, bytes: data_end - gap.offset, records };
            break;
        };
        damages.push(damage_of(gap, by));
    }
    let whole = met || unknown.is_some();
    if let (false, End::Clean, Some(run)) = (whole, &end, runs.last())
        && let Some(damage) = judge.vanished(run)
    {
        damages.push(damage);
        end = End::Damaged;
    }
    if evidence.bytes != header.segment_bytes {
        let open = end == End::Clean && judge.cut && !whole;
        let last = runs.last().map(|r| r.last_lsn).filter(|last| open && !judge.stopped_at(*last));
        let next = last.map(Lsn::next);
        if next.is_some() {
            end = End::Damaged;
        }
        damages.push(wrong_length(evidence, header, next));
    }
    if let Some(run) = runs.last().filter(|_| met && behind > 0) {
        end = End::Surplus { offset: run.end, bytes: behind };
    }
    evidence.end = unknown.map_or(end, End::Newer);
    conclude(evidence, runs, damages, header);
}

/// Puts the header's own damage in front. Where the header was only guessed, the run that states nothing but the guess
/// goes.
fn conclude(evidence: &mut SegmentEvidence, mut runs: Vec<Run>, damages: Vec<Damage>, header: &Header) {
    let guessed = evidence.known().is_none();
    if guessed && runs.first().is_some_and(Run::is_empty) {
        runs.remove(0);
    }
    let readable = runs.first().is_some_and(|r| r.first_lsn == header.first_lsn);
    let lost = (guessed && !readable).then_some(header.first_lsn);
    if guessed && runs.is_empty() {
        evidence.end = End::Damaged;
    }
    evidence.damages.extend(header_damage(evidence, lost));
    evidence.damages.extend(damages);
    evidence.runs = runs;
}

/// The evidence that a place was durable once.
struct Judge<'a> {
    after: &'a After,
    /// The file is shorter than it was made.
    cut: bool,
    /// Highest durable LSN that a record of this segment states.
    records: Lsn,
    proof: &'a Proof,
}

impl Judge<'_> {
    /// What proves that the record with this LSN was durable; `None` if nothing does.
    fn proves(&self, lsn: Lsn) -> Option<ProvedBy> {
        let control = self.proof.control.as_ref().map(ControlState::proves).unwrap_or_default();
        let database = self.proof.applied_lsn.unwrap_or_default();
        if planted::on(Bug::DamageTakenForTorn) {
            return None;
        }
        match self.after {
            After::Segment { file, .. } | After::Something { file } => Some(ProvedBy::LaterSegment(file.clone())),
            After::Nothing if self.records >= lsn => Some(ProvedBy::LaterRecord(self.records)),
            After::Nothing if control >= lsn => Some(ProvedBy::Control(control)),
            After::Nothing if database >= lsn => Some(ProvedBy::Database(database)),
            After::Nothing => self.cut.then_some(ProvedBy::Length),
        }
    }

    /// True if the store was stopped in order with this LSN as its last: nothing can have followed.
    fn stopped_at(&self, lsn: Lsn) -> bool {
        self.proof.control.as_ref().is_some_and(|c| c.clean && c.durable_lsn == lsn)
    }

    /// Records behind `run` that something proves and of which nothing but zeros is left.
    fn vanished(&self, run: &Run) -> Option<Damage> {
        let next = run.last_lsn.next();
        let (lsn, expected, proof) = match self.after {
            After::Segment { file, lsn, checksum } => {
                let expected = format!("LSN {lsn} with checksum {checksum:08x}, as {file} states");
                (next.min(*lsn), expected, ProvedBy::LaterSegment(file.clone()))
            }
            After::Something { .. } => return None,
            After::Nothing => match self.proves(next)? {
                ProvedBy::Length => return None,
                proof => (next, format!("LSN {next}"), proof),
            },
        };
        Some(Damage {
            offset: run.end,
            bytes: 0,
            lsn: Some(lsn),
            what: "end of the records".to_owned(),
            found: format!("LSN {} with checksum {:08x}", run.last_lsn, run.checksum),
            expected,
            proof,
        })
    }
}

fn damage_of(gap: &Gap, proof: ProvedBy) -> Damage {
    Damage {
        offset: gap.offset,
        bytes: gap.bytes,
        lsn: Some(gap.lsn),
        what: gap.fault.what.to_owned(),
        found: gap.fault.found.clone(),
        expected: gap.fault.expected.clone(),
        proof,
    }
}

fn wrong_length(evidence: &SegmentEvidence, header: &Header, lsn: Option<Lsn>) -> Damage {
    Damage {
        offset: evidence.bytes.min(header.segment_bytes),
        bytes: evidence.bytes.abs_diff(header.segment_bytes),
        lsn,
        what: "file length".to_owned(),
        found: evidence.bytes.to_string(),
        expected: header.segment_bytes.to_string(),
        proof: ProvedBy::Length,
    }
}
