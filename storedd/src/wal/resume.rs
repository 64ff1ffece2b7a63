//! Makes a log ready to be appended to: creates it, goes on where it ends, or forks it.
//!
//! # Operation
//! Going on: what was read at the end but may never have reached the disk is written again and synced, so that nothing
//! is shown to a reader that a power cut could still take back (after a failed sync the page cache may hold what the disk
//! does not). A torn rest is copied to `quarantine/`, zeroed and synced before anything is appended. Where the last
//! segment must not be written (a symbolic link, a damaged header, no space for the copy) the log goes on in a new one,
//! whose header says where the old one ends.
//!
//! Forking: the first segment of the new epoch is finished under another name, header and fork record synced, and the
//! rename to its segment name is the one moment at which the fork happens. Its number is above all numbers ever used.
//! Then the segments that it leaves out go to `quarantine/`; a crash before that is made good at the next start. A log that
//! begins afresh leaves out all of them.
//!
//! # Invariants
//! * Nothing is cut, zeroed or moved before its bytes are safe elsewhere; a symbolic link is only ever renamed or removed.
//! * A crash at any point leaves a log from which the same call leads to the same history.

use super::control::Control;
use super::encoder::{Encoder, Identity, Piece, Position};
use super::payload::Fork;
use super::reach::{Reach, Stop};
use super::record::Seed;
use super::scan::{self, Window};
use super::segment::{self, PAGE, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use super::segments::Segments;
use super::spares::{self, FORK_FILE, Spares};
use super::survey::{self, Depth, End, Proof, SegmentEvidence, Survey};
use super::writer::{self, Parts, Writer};
use crate::disk::{Access, Disk, DiskFile};
use crate::error::{Result, StoreError, exit};
use crate::lsn::{Lsn, Micros};
use crate::planted::{self, Bug};
use std::io;
use std::sync::Arc;

/// Directory for bytes and segments that were taken out of the log.
pub const QUARANTINE: &str = "quarantine";
/// Bytes copied or zeroed at once.
const STEP_BYTES: u64 = 1 << 20;
/// Copies of the same name that are kept apart.
const COPIES_MAX: u32 = 1000;

/// Sizes of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of each new segment.
    pub segment_bytes: u64,
    /// Spare segments kept ready.
    pub spares: usize,
    /// Bytes that stay free on the log's disk when a spare is made ahead; at most a 20th of the disk.
    pub reserve: u64,
    /// Format version of new segments; records are appended to no segment of another one.
    pub version: u32,
}

/// A log that can be appended to.
#[derive(Debug)]
pub struct Log {
    /// Makes the bytes.
    pub encoder: Encoder,
    /// Writes them.
    pub writer: Writer,
    /// The segments that exist.
    pub segments: Arc<Segments>,
    /// The spares.
    pub spares: Arc<Spares>,
    /// What was done to the files.
    pub done: Resumed,
}

/// What a start has done to the files of the log, for the report.
#[derive(Debug, Clone, Default)]
pub struct Resumed {
    /// The torn rest, if there was one.
    pub cut: Option<Cut>,
    /// Where segments that a fork left out lie now.
    pub quarantined: Vec<String>,
    /// The fork, if one was made.
    pub fork: Option<Fork>,
}

/// A torn rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Segment file.
    pub file: String,
    /// Where the valid records end.
    pub offset: u64,
    /// Bytes behind, up to the last that is not zero.
    pub bytes: u64,
    /// Where they are kept; `None` if they were left in place, behind the end of the segment.
    pub kept: Option<String>,
}

/// Makes the log of a new store, or finishes making it after a crash.
///
/// # Errors
/// If there is a log already, if the settings are out of range, those of the disk.
pub fn create(disk: &Arc<dyn Disk>, control: &Arc<Control>, settings: Settings, now: Micros) -> Result<Log> {
    check(settings)?;
    let state = control.state();
    let proof = Proof { control: Some(state.clone()), ..Proof::default() };
    let found = survey::survey(disk.as_ref(), state.store_id, proof, Depth::All)?;
    if !found.segments.is_empty() {
        let reach = found.reach(state.epoch, Lsn::ZERO);
        return match reach.lsn {
            Lsn::ZERO if reach.stop == Stop::End => resume(disk, control, settings, &found, &reach),
            _ => Err(exists(disk.display(&found.segments[0].file))),
        };
    }
    let parts = parts(disk, control, settings)?;
    let identity = Identity { store_id: state.store_id, epoch: state.epoch, version: settings.version };
    let start = Position { segment: 0, offset: 0, lsn: Lsn::ZERO, checksum: 0, time: Micros::default() };
    let mut encoder = Encoder::roll_first(identity, start, 1, settings.segment_bytes);
    let mut writer = Writer::new(&parts, &encoder, None);
    writer.write(&[encoder.open_segment(now)])?;
    Ok(finish(parts, encoder, writer, Resumed::default()))
}

fn exists(file: String) -> StoreError {
    StoreError::Refused {
        message: format!("a new log was asked for, and {file} holds records"),
        hint: "run: storedd recover --dry-run -v".into(),
        exit: exit::EXISTS,
    }
}

/// Goes on behind `reach`, which must be the end of the log ([`Reach::whole`]).
///
/// # Errors
/// If it is not, if a segment is of a newer program or another store, those of the disk.
pub fn resume(
    disk: &Arc<dyn Disk>,
    control: &Arc<Control>,
    settings: Settings,
    survey: &Survey,
    reach: &Reach,
) -> Result<Log> {
    check(settings)?;
    super::reach::accept(survey)?;
    let last = survey.segments.iter().rfind(|s| s.live());
    let (Some(last), Some((segment, offset)), true) = (last, reach.place, reach.whole()) else {
        return Err(cannot(reach));
    };
    if segment != last.number {
        return Err(cannot(reach));
    }
    let parts = parts(disk, control, settings)?;
    let identity = Identity { store_id: survey.store_id, epoch: reach.epoch, version: settings.version };
    let checksum = reach.checksum.unwrap_or_default();
    let at = Position { segment, offset, lsn: reach.lsn, checksum, time: reach.time };
    let mut done = Resumed::default();
    let file = settle(disk.as_ref(), survey, last, reach)?;
    let file = clear(disk.as_ref(), last, file, &mut done)?;
    // A log of another version is left alone from here on: a new segment names it as the one before.
    let file = file.filter(|_| last.known().is_some_and(|header| header.version == settings.version));
    let encoder = match (&file, last.known()) {
        (Some(_), Some(header)) => Encoder::append(identity, at, header.segment_bytes, settings.segment_bytes),
        _ => Encoder::roll_first(identity, at, segment + 1, settings.segment_bytes),
    };
    adopt(&parts.segments, survey, last.number, file.is_some().then_some(last.number));
    done.quarantined = set_aside(disk.as_ref(), survey.segments.iter().filter(|s| !s.live()))?;
    // What is missing in front of the first segment was not needed, and was named; it is not missed again.
    let lowest = survey.segments.iter().find(|s| s.live()).map_or(segment, |s| s.number);
    control.update(|state| {
        state.clean = false;
        state.epoch = reach.epoch;
        state.highest_segment = state.highest_segment.max(segment);
        state.lowest_segment = state.lowest_segment.max(lowest);
        state.durable_lsn = state.durable_lsn.max(reach.lsn);
    })?;
    let writer = Writer::new(&parts, &encoder, file);
    Ok(finish(parts, encoder, writer, done))
}

fn cannot(reach: &Reach) -> StoreError {
    StoreError::Bug(format!("the log cannot go on behind LSN {} ({:?}) without a fork", reach.lsn, reach.stop))
}

/// Begins a new epoch behind `reach`: what the log holds behind it is given up, and kept aside. LSNs jump above
/// everything that may have been used.
///
/// # Errors
/// If a segment is of a newer program or another store, those of the disk.
pub fn fork(
    disk: &Arc<dyn Disk>,
    control: &Arc<Control>,
    settings: Settings,
    survey: &Survey,
    reach: &Reach,
    now: Micros,
) -> Result<Log> {
    super::reach::accept(survey)?;
    begin_epoch(disk, control, settings, survey, reach, branch(survey, reach), now)
}

/// Begins a new epoch with a new log: the database alone holds the state at `reach`, and no segment that there is counts any
/// more. All of them are kept aside. LSNs jump above everything that may have been used.
///
/// # Errors
/// Those of the disk.
pub fn afresh(
    disk: &Arc<dyn Disk>,
    control: &Arc<Control>,
    settings: Settings,
    survey: &Survey,
    reach: &Reach,
    now: Micros,
) -> Result<Log> {
    begin_epoch(disk, control, settings, survey, reach, 0, now)
}

/// Begins an epoch that goes on behind segment `previous`; 0: behind none.
fn begin_epoch(
    disk: &Arc<dyn Disk>,
    control: &Arc<Control>,
    settings: Settings,
    survey: &Survey,
    reach: &Reach,
    previous: u64,
    now: Micros,
) -> Result<Log> {
    check(settings)?;
    let parts = parts(disk, control, settings)?;
    let (highest, _) = survey.highest();
    if let Some(last) = survey.segments.iter().rfind(|s| s.live()).filter(|s| s.number == previous) {
        settle(disk.as_ref(), survey, last, reach)?;
    }
    // Its records behind the place are not part of the new history, and the segment goes with the next checkpoint: what
    // they hold is kept (I8).
    let branched =
        reach.place.and_then(|(number, at)| Some((survey.segments.iter().find(|s| s.number == number)?, at)));
    let branched = branched.filter(|(segment, _)| segment.number <= previous);
    let rest = branched.map(|(segment, at)| keep_rest(disk.as_ref(), segment, at)).transpose()?.flatten();
    let fork = Fork { parent: reach.epoch, reached: reach.lsn, first: survey.fork_lsn(reach.lsn), previous };
    let checksum = reach.checksum.filter(|_| reach.place.is_some() && previous > 0).unwrap_or_default();
    let at = Position { segment: previous, offset: 0, lsn: reach.lsn, checksum, time: reach.time };
    let identity = Identity { store_id: survey.store_id, epoch: survey.next_epoch(), version: settings.version };
    let mut encoder = Encoder::roll_first(identity, at, highest + 1, settings.segment_bytes);
    let piece = encoder.fork(&fork, now)?;
    if planted::on(Bug::SetAsideBeforeFork) {
        set_aside(disk.as_ref(), survey.segments.iter().filter(|s| s.number > previous))?;
    }
    let file = put_fork(disk.as_ref(), &parts.spares, &piece)?;
    control.update(|state| {
        state.clean = false;
        state.epoch = identity.epoch;
        state.highest_segment = piece.segment;
        state.durable_lsn = fork.first;
        if previous == 0 {
            state.lowest_segment = piece.segment;
        }
    })?;
    adopt(&parts.segments, survey, previous, None);
    parts.segments.begin(
        &segment::Header::parse(&piece.bytes[..PAGE], survey.store_id, piece.segment)
            .map_err(|e| StoreError::Bug(format!("header of segment {}: {e}", piece.segment)))?,
    );
    let left_out = survey.segments.iter().filter(|s| !s.live() || s.number > previous);
    let left_out = left_out.filter(|_| !planted::on(Bug::SetAsideBeforeFork));
    let mut quarantined = set_aside(disk.as_ref(), left_out)?;
    quarantined.extend(rest);
    let writer = Writer::new(&parts, &encoder, Some(file));
    Ok(finish(parts, encoder, writer, Resumed { fork: Some(fork), quarantined, cut: None }))
}

/// Number of the segment from which the new history branches off: the one that holds the LSN reached; where the log
/// ends before it, the last one; 0 where the log leads elsewhere, and where nothing is reached: no checksum could say that
/// the first segment counts up to its first record only, and it would end the log at the same damage for ever.
fn branch(survey: &Survey, reach: &Reach) -> u64 {
    let behind = survey.runs().iter().all(|(_, run)| run.last_lsn <= reach.lsn);
    let last = survey.segments.iter().rfind(|s| s.live() && s.known().is_some()).map(|s| s.number);
    match reach.place {
        Some(_) if reach.lsn == Lsn::ZERO => 0,
        Some((segment, _)) => segment,
        None if behind && reach.stop != Stop::OtherHistory => last.unwrap_or(0),
        None => 0,
    }
}

/// Finishes the first segment of an epoch under another name, then names it.
fn put_fork(disk: &dyn Disk, spares: &Spares, piece: &Piece) -> Result<Arc<dyn DiskFile>> {
    let spare = spares.take()?;
    disk.rename(&spare, FORK_FILE).map_err(|e| StoreError::io("rename", disk.display(&spare), e))?;
    // Else a crash could bring the spare's name back, and with it a spare that is not zero.
    spares::sync_names(disk)?;
    let file = spares::write_head(disk, FORK_FILE, &piece.bytes)?;
    writer::name_segment(disk, FORK_FILE, piece.segment)?;
    Ok(file)
}

fn check(settings: Settings) -> Result<()> {
    if (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&settings.segment_bytes) {
        return Ok(());
    }
    Err(StoreError::Refused {
        message: format!(
            "a log segment of {} bytes was asked for; it may have {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}",
            settings.segment_bytes
        ),
        hint: "run: storedd --check-config".into(),
        exit: exit::CONFIG,
    })
}

fn parts(disk: &Arc<dyn Disk>, control: &Arc<Control>, settings: Settings) -> Result<Parts> {
    let spares = Arc::new(Spares::open(disk.clone(), settings.segment_bytes, settings.spares, settings.reserve)?);
    let segments = Arc::new(Segments::new(control.clone(), spares.clone()));
    Ok(Parts { disk: disk.clone(), control: control.clone(), spares, segments })
}

fn finish(parts: Parts, encoder: Encoder, writer: Writer, done: Resumed) -> Log {
    Log { encoder, writer, segments: parts.segments, spares: parts.spares, done }
}

/// Puts the live segments up to `until` on the list. Where a segment ends is stated by the next one; the last one, if
/// it is not the one being written, ends with its last run.
fn adopt(list: &Segments, survey: &Survey, until: u64, active: Option<u64>) {
    let live: Vec<&SegmentEvidence> = survey.segments.iter().filter(|s| s.live() && s.number <= until).collect();
    for (nth, segment) in live.iter().enumerate() {
        let stated = live.get(nth + 1).and_then(|next| next.known()).map(|h| h.previous_lsn);
        let read = segment.runs.last().map(|r| r.last_lsn);
        let last = stated.or(read).or(segment.known().map(|h| h.first_lsn)).unwrap_or_default();
        list.adopt(segment, (active != Some(segment.number)).then_some(last));
    }
}

/// Makes durable what was read of the last segment. Gives the file, open for writing, where it may be written.
fn settle(
    disk: &dyn Disk,
    survey: &Survey,
    segment: &SegmentEvidence,
    reach: &Reach,
) -> Result<Option<Arc<dyn DiskFile>>> {
    let fail = |op: &'static str| {
        let path = disk.display(&segment.file);
        move |e: io::Error| StoreError::io(op, path, e)
    };
    if segment.symlink {
        survey::open(disk, segment)?.sync_data().map_err(fail("sync"))?;
        return Ok(None);
    }
    let file = disk.open(&segment.file, Access::Write).map_err(fail("open"))?;
    let end = reach.place.map_or(0, |(_, offset)| offset);
    let mut at = undecided(disk, survey, segment, end)?.unwrap_or(end);
    let mut window = Window::new(file.clone(), end);
    while at < end {
        let len = usize::try_from(STEP_BYTES.min(end - at)).unwrap_or(0);
        let bytes = window.get(at, len).map_err(fail("read"))?;
        file.write_at(at, bytes).map_err(fail("write"))?;
        at += len as u64;
    }
    file.sync_data().map_err(fail("sync"))?;
    spares::sync_names(disk)?;
    Ok(Some(file))
}

/// Offset of the first record before `end` that no other record states to be durable.
fn undecided(disk: &dyn Disk, survey: &Survey, segment: &SegmentEvidence, end: u64) -> Result<Option<u64>> {
    let Some(run) = segment.runs.iter().find(|run| run.offset < end && end <= run.end) else { return Ok(None) };
    let Some(header) = segment.known() else { return Ok(None) };
    let seed = Seed::new(survey.store_id, header.epoch, segment.number);
    let mut window = Window::new(survey::open(disk, segment)?, run.end);
    let mut at = run.offset;
    while at < end {
        let read = scan::read(&mut window, seed, at);
        let read = read.map_err(|e| StoreError::io("read", disk.display(&segment.file), e))?;
        match read {
            Ok((record, _)) if record.lsn <= run.durable => at += scan::record_bytes(record.len),
            _ => return Ok(Some(at)),
        }
    }
    Ok(None)
}

/// Cuts the torn rest of the last segment. Gives the file back if records may be appended to it.
fn clear(
    disk: &dyn Disk,
    segment: &SegmentEvidence,
    file: Option<Arc<dyn DiskFile>>,
    done: &mut Resumed,
) -> Result<Option<Arc<dyn DiskFile>>> {
    let sound = segment.header.as_ref().is_ok_and(|h| h.segment_bytes == segment.bytes);
    let file = file.filter(|_| sound);
    let End::Torn { offset, bytes, .. } = segment.end else { return Ok(file) };
    let mut cut = Cut { file: segment.file.clone(), offset, bytes, kept: None };
    let Some(file) = file else {
        done.cut = Some(cut);
        return Ok(None);
    };
    let kept = match planted::on(Bug::TornRestNotKept) {
        true => Ok(format!("{QUARANTINE}/{}", segment.file)),
        false => keep(disk, segment, file.as_ref(), offset, bytes),
    };
    match kept {
        Ok(name) => cut.kept = Some(name),
        // The log goes on in a spare, which needs no space.
        Err(StoreError::NoSpace { .. }) => {
            done.cut = Some(cut);
            return Ok(None);
        }
        Err(e) => return Err(e),
    }
    if !planted::on(Bug::TornRestNotZeroed) {
        zero(file.as_ref(), offset, bytes).map_err(|e| StoreError::io("write", disk.display(&segment.file), e))?;
    }
    done.cut = Some(cut);
    Ok(Some(file))
}

fn zero(file: &dyn DiskFile, offset: u64, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; usize::try_from(STEP_BYTES.min(bytes)).unwrap_or(0)];
    let (mut at, end) = (offset, offset + bytes);
    while at < end {
        let len = zeros.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        file.write_at(at, &zeros[..len])?;
        at += len as u64;
    }
    file.sync_data()
}

/// Copies what a fork leaves behind in the segment from which it branches off; `None` if that is nothing.
fn keep_rest(disk: &dyn Disk, segment: &SegmentEvidence, offset: u64) -> Result<Option<String>> {
    let file = survey::open(disk, segment)?;
    let end = Window::new(file.clone(), segment.bytes).end_of_data(offset);
    let end = end.map_err(|e| StoreError::io("read", disk.display(&segment.file), e))?;
    (end > offset).then(|| keep(disk, segment, file.as_ref(), offset, end - offset)).transpose()
}

/// Copies the rest of a segment to the quarantine, durably; gives the copy's name. Leaves no half copy on a full disk.
fn keep(disk: &dyn Disk, segment: &SegmentEvidence, from: &dyn DiskFile, offset: u64, bytes: u64) -> Result<String> {
    let name = free_name(disk, &format!("{}.{offset}.cut", segment.file))?;
    let copied = copy(disk, &name, from, offset, bytes).map_err(|e| StoreError::io("write", disk.display(&name), e));
    if copied.is_err() {
        let _ = disk.remove(&name);
    }
    copied?;
    Ok(name)
}

fn copy(disk: &dyn Disk, name: &str, from: &dyn DiskFile, offset: u64, bytes: u64) -> io::Result<()> {
    let to = disk.open(name, Access::CreateNew)?;
    let mut buffer = vec![0; usize::try_from(STEP_BYTES.min(bytes)).unwrap_or(0)];
    let mut at = 0;
    while at < bytes {
        let len = buffer.len().min(usize::try_from(bytes - at).unwrap_or(usize::MAX));
        from.read_at(offset + at, &mut buffer[..len])?;
        to.write_at(at, &buffer[..len])?;
        at += len as u64;
    }
    to.sync_data()?;
    disk.sync_dir(QUARANTINE)
}

/// A name in the quarantine that nothing has yet; makes the directory.
pub(super) fn free_name(disk: &dyn Disk, name: &str) -> Result<String> {
    let fail = |op, path: &str| {
        let path = disk.display(path);
        move |e: io::Error| StoreError::io(op, path, e)
    };
    disk.create_dir(QUARANTINE).map_err(fail("create", QUARANTINE))?;
    spares::sync_names(disk)?;
    for nth in 0..COPIES_MAX {
        let path = if nth == 0 { format!("{QUARANTINE}/{name}") } else { format!("{QUARANTINE}/{name}.{nth}") };
        if disk.stat(&path).map_err(fail("stat", &path))?.is_none() {
            return Ok(path);
        }
    }
    Err(StoreError::Refused {
        message: format!("{} holds {COPIES_MAX} copies of {name}", disk.display(QUARANTINE)),
        hint: "look at them and move them away".into(),
        exit: exit::IO,
    })
}

/// Gives a log file a second name in the quarantine, durably, before another takes its own; gives that name.
///
/// # Errors
/// Those of the disk.
pub fn keep_aside(disk: &dyn Disk, file: &str) -> Result<String> {
    let to = free_name(disk, file)?;
    disk.link(file, &to).map_err(|e| StoreError::io("link", disk.display(file), e))?;
    disk.sync_dir(QUARANTINE).map_err(|e| StoreError::io("sync", disk.display(QUARANTINE), e))?;
    Ok(to)
}

/// Moves segments that are not part of the history to the quarantine.
fn set_aside<'s>(disk: &dyn Disk, segments: impl Iterator<Item = &'s SegmentEvidence>) -> Result<Vec<String>> {
    let mut moved = Vec::new();
    for segment in segments {
        let to = free_name(disk, &segment.file)?;
        disk.rename(&segment.file, &to).map_err(|e| StoreError::io("rename", disk.display(&segment.file), e))?;
        moved.push(to);
    }
    if !moved.is_empty() {
        disk.sync_dir(QUARANTINE).map_err(|e| StoreError::io("sync", disk.display(QUARANTINE), e))?;
        spares::sync_names(disk)?;
    }
    Ok(moved)
}
