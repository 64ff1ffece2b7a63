//! `status`, `stats` and reports: the store's numbers in the words of the wire.

use super::Daemon;
use crate::control::State;
use crate::jobs::copies::Known;
use crate::lsn::Micros;
use crate::store::{self, Histogram, Store};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

impl Daemon {
    /// `status`; answers in every state, also while the database hangs: it reads memory only.
    pub(super) fn status(&self, state: State) -> proto::Status {
        let now = self.env.now();
        let config = self.config();
        let mut status = proto::Status {
            state: state.word().to_owned(),
            percent: 100,
            pid: std::process::id(),
            uptime: self.env.uptime().saturating_sub(self.started).as_secs_f64(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            data_dir: config.store.data_dir.display().to_string(),
            connections: self.counters.open.load(Ordering::Relaxed) as u64,
            ..proto::Status::default()
        };
        match self.store.get() {
            Some(store) => self.fill_status(&mut status, store, now),
            None => self.fill_progress(&mut status),
        }
        status
    }

    fn fill_progress(&self, status: &mut proto::Status) {
        let progress = *self.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        status.percent = percent(&progress);
        status.last_start = progress.to_string();
        if progress.done > 0.01 {
            status.eta = Some(status.uptime / progress.done - status.uptime);
        }
    }

    fn fill_copies(&self, status: &mut proto::Status, known: &Known, now: Micros) {
        let age = |at: Option<Micros>| at.map(|at| now.0.saturating_sub(at.0) as f64 / 1e6);
        (status.backup_age, status.drill_age) = (age(known.backup), age(known.drill));
        status.drill = known.drilled.map(|(good, rpo_seconds, rto_seconds)| proto::DrillState {
            verdict: if good { "good" } else { "bad" }.to_owned(),
            rpo_seconds,
            rto_seconds,
        });
        let archive = &known.archive;
        status.archive = archive.on.then(|| proto::ArchiveState {
            archived_lsn: archive.upto.0,
            lag_lsns: archive.lag,
            lag_seconds: archive.waiting.as_secs_f64(),
            failure: archive.failure.clone(),
        });
    }

    fn fill_status(&self, status: &mut proto::Status, store: &Store, now: Micros) {
        let age = |at: Option<Micros>| at.map(|at| now.0.saturating_sub(at.0) as f64 / 1e6);
        let (checkpoint, clean_up) = store.last_times();
        status.store_id = store.store_id().to_string();
        status.epoch = store.epoch().0;
        status.applied_lsn = store.published_lsn().0;
        status.synced_lsn = store.synced_lsn().0;
        status.checkpoint_lsn = store.checkpoint_lsn().0;
        status.checkpoint_age = age(checkpoint).or(Some(status.uptime));
        status.log_cleanup_age = age(clean_up);
        status.snapshot_age = age(self.keeper.get().and_then(|keeper| keeper.ages().newest));
        if let Some(copies) = self.copies.get() {
            self.fill_copies(status, &copies.known(), now);
        }
        status.replay_bytes = store.overlay_bytes() as u64;
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        status.users = store.counts().map(|c| count(c.users));
        status.mailboxes = store.counts().map(|c| count(c.mailboxes));
        status.tables = store.database_rows().into_iter().map(|(t, n)| (t.name().to_owned(), n)).collect();
        status.last_start = store.start_summary();
        status.repair_recommended = store.repair_recommended().is_some();
        status.scrub = self.scrub_state();
        if let Some(watch) = self.watch.get() {
            status.alarms = watch.alarms();
            status.maintenance = watch.maintenance();
            let last = watch.stamped();
            (status.expire_age, status.purge_age) = (age(last.expire), age(last.purge));
            status.peruser_age = age(last.peruser);
        }
        let held_up = self.leases.oldest_change().map(|(wait, _)| wait);
        status.oldest_wait = store.oldest_wait().max(held_up).map(|wait| wait.as_secs_f64());
        status.log_segments = store.segment_count();
    }

    /// `stats`.
    pub(super) fn stats(&self) -> proto::Stats {
        let mut out = proto::Stats {
            requests: self.counters.requests(),
            connections_accepted: self.counters.accepted.load(Ordering::Relaxed),
            connections_refused: self.counters.refused.load(Ordering::Relaxed)
                + self.counters.not_permitted.load(Ordering::Relaxed),
            resident_bytes: crate::disk::outside::resident_bytes(),
            changes_at_work: self.counters.changes.load(Ordering::Relaxed) as u64,
            refusals: self.counters.refusals(),
            lmtp: self.lmtp_stats(),
            ..proto::Stats::default()
        };
        if let Some(store) = self.store.get() {
            fill_stats(&mut out, store, self.env.now());
            fill_log(&mut out, store);
        }
        // As it was seen last: its disk may not answer.
        out.database_bytes = self.watch.get().map_or(0, |watch| watch.prober().database_bytes());
        out
    }
}

impl Daemon {
    fn lmtp_stats(&self) -> proto::LmtpStats {
        let mail = &self.mail;
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        proto::LmtpStats {
            sessions: mail.open.load(Ordering::Relaxed) as u64,
            sessions_total: load(&mail.sessions),
            turned_away: load(&mail.turned_away),
            timed_out: load(&mail.timed_out),
            messages: load(&mail.messages),
            bytes: load(&mail.bytes),
            delivered: load(&mail.delivered),
            refused: mail.refused().filter(|(_, n)| *n > 0).map(|(why, n)| (why.to_owned(), n)).collect(),
        }
    }
}

fn fill_stats(out: &mut proto::Stats, store: &Store, now: Micros) {
    let stats = store.stats();
    let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
    out.begun = load(&stats.begun);
    out.committed = load(&stats.committed);
    out.aborted = load(&stats.aborted);
    out.refused = load(&stats.refused);
    out.unchanged = load(&stats.unchanged);
    out.groups = load(&stats.groups);
    out.group_max = load(&stats.group_max);
    out.group_mean = load(&stats.group_records) as f64 / out.groups.max(1) as f64;
    out.group_sizes = stats
        .group_sizes
        .iter()
        .enumerate()
        .map(|(i, n)| (1u64 << i, load(n)))
        .filter(|(_, n)| *n > 0)
        .collect::<BTreeMap<_, _>>();
    out.sync = histogram(&stats.sync);
    out.commit = histogram(&stats.commit);
    out.plan = histogram(&stats.plan);
    out.checkpoint = histogram(&stats.checkpoint);
    out.log_bytes = load(&stats.log_bytes);
    out.log_payload_bytes = load(&stats.log_payload_bytes);
    out.checkpoints = load(&stats.checkpoints);
    out.checkpoints_failed = load(&stats.checkpoints_failed);
    out.overlay_bytes = store.overlay_bytes() as u64;
    out.overlay_entries = store.overlay_entries() as u64;
    out.checkpoint_age = store.last_times().0.map(|at| now.0.saturating_sub(at.0) as f64 / 1e6);
}

/// Where the log and what waits for it stand.
fn fill_log(out: &mut proto::Stats, store: &Store) {
    let (segments, checkpoint) = (store.segments(), store.checkpoint_lsn());
    let first = segments.iter().find(|s| s.last_lsn.is_some_and(|last| last > checkpoint));
    out.last_lsn = store.published_lsn().0;
    out.checkpoint_lsn = checkpoint.0;
    out.recovery_begins = first.map(|s| s.segment.file.clone());
    out.queue = store.queue_len() as u64;
    out.oldest_wait = store.oldest_wait().map(|wait| wait.as_secs_f64());
    out.checkpoint_running = store.checkpoint_health().running.map(|time| time.as_secs_f64());
    out.log_segments = segments.len() as u64;
    out.log_segment_bytes = segments.iter().map(|s| s.segment.bytes).sum();
    out.log_spares = store.spares() as u64;
}

fn histogram(h: &Histogram) -> proto::Histogram {
    let q = h.quantiles();
    proto::Histogram { count: q.count, p50_us: q.p50, p90_us: q.p90, p99_us: q.p99, p999_us: q.p999, max_us: q.max }
}

/// Percent of the whole start, with the phases weighed by what they usually cost.
pub(crate) fn percent(progress: &store::Progress) -> u8 {
    let (from, to) = match progress.phase {
        "database" => (0.0, 40.0),
        "log" => (40.0, 50.0),
        "replay" => (50.0, 99.0),
        _ => (0.0, 0.0),
    };
    (from + (to - from) * progress.done.clamp(0.0, 1.0)) as u8
}

/// A report in the words of the wire.
pub(super) fn report(report: store::Report) -> proto::Report {
    proto::Report {
        started: report.started,
        duration: report.duration,
        decision: report.decision,
        base: report.base,
        base_lsn: report.base_lsn,
        reached_lsn: report.reached_lsn,
        epoch: report.epoch,
        lost: report.lost.map(|l| proto::Lost {
            from_lsn: l.from_lsn,
            to_lsn: l.to_lsn,
            transactions: l.transactions,
            transactions_at_least: l.transactions_at_least,
            mailboxes: l.mailboxes,
        }),
        came_back: report.came_back.map(|back| proto::CameBack {
            time: back.time,
            mailboxes: back.mailboxes,
            messages: back.messages,
            at_least: back.at_least,
            not_back: back.not_back,
            not_back_total: back.not_back_total,
        }),
        possible_loss: report.possible_loss,
        replayed: report.replayed,
        replayed_bytes: report.replayed_bytes,
        cut_bytes: report.cut_bytes,
        quarantined: report.quarantined,
        findings: report.findings.into_iter().map(finding).collect(),
        next_steps: report.next_steps,
        phases: report.phases,
    }
}

fn finding(f: store::Finding) -> proto::Finding {
    proto::Finding { r#where: f.r#where, what: f.what, expected: f.expected, found: f.found }
}
