//! Every number there is, in the text format of Prometheus. Labels are places, verbs, codes, states and names of alarms;
//! never users or mailboxes.

use super::Daemon;
use super::watch::Watch;
use crate::alarms::{Name, PlaceFacts};
use crate::control::State;
use crate::jobs::copies::Known;
use crate::jobs::registry::{Job, State as JobState};
use crate::lsn::Micros;
use crate::metrics::text::{Kind, Text};
use crate::model::Table;
use crate::store::{Histogram, Store};
use proto::{Done, Reply};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bounds of duration histograms: 2^6 us (64 us) to 2^25 us (33 s).
const DURATIONS: std::ops::RangeInclusive<u32> = 6..=25;

impl Daemon {
    /// All numbers; in every state, from memory alone.
    pub(super) fn exposition(&self, state: State) -> String {
        let mut text = Text::default();
        self.process(&mut text, state);
        self.door(&mut text);
        self.mail_door(&mut text);
        self.jobs_now(&mut text);
        if let (Some(store), Some(watch)) = (self.store.get(), self.watch.get()) {
            transactions(&mut text, store);
            log(&mut text, store, watch);
            checkpoint(&mut text, store, watch, self.env.uptime());
            database(&mut text, store, watch);
            places(&mut text, watch);
            copies(&mut text, &watch.copies());
            chores(&mut text, watch);
            self.scrub_numbers(&mut text);
            alarms(&mut text, watch);
        }
        text.finish()
    }

    fn process(&self, text: &mut Text, state: State) {
        text.family("storedd_build_info", Kind::Gauge, "The version that runs.")
            .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        text.gauge(
            "storedd_start_timestamp_seconds",
            "When the process started, in seconds since 1970.",
            self.begun_at.0 as f64 / 1e6,
        );
        let mut states = text.family("storedd_state", Kind::Gauge, "1 for the state that the daemon is in.");
        for each in State::ALL {
            states.sample(&[("state", each.word())], f64::from(u8::from(each == state)));
        }
        let is_healthy = state == State::Ready && self.health(Reply::Done(Done { done: true })).is_ok();
        text.gauge(
            "storedd_healthy",
            "1 while the store is ready, with room and a partition for mail: what `storectl health` says.",
            f64::from(u8::from(is_healthy)),
        );
        let progress = *self.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let done = if state == State::Recovering { f64::from(super::percent(&progress)) / 100.0 } else { 1.0 };
        text.gauge("storedd_recovery_progress_ratio", "How far the start is; 1 when it is done.", done);
        let started = self.started_with.get();
        text.known("storedd_recovery_duration_seconds", "How long the last start took.", started.map(|s| s.0));
        text.known(
            "storedd_recovery_replayed_records",
            "Log records that the last start replayed.",
            started.map(|s| s.1 as f64),
        );
        let resident = crate::disk::outside::resident_bytes() as f64;
        text.gauge("storedd_resident_memory_bytes", "Memory of the process.", resident);
    }

    fn jobs_now(&self, text: &mut Text) {
        let jobs = self.jobs.list();
        let mut family = text.family("storedd_jobs", Kind::Gauge, "Long-running jobs, by state.");
        for (word, waits) in [("running", false), ("waiting", true)] {
            let is = |job: &&Job| !job.state.is_over() && (job.state == JobState::Waiting) == waits;
            family.sample(&[("state", word)], jobs.iter().filter(is).count() as f64);
        }
    }

    fn door(&self, text: &mut Text) {
        let counters = &self.counters;
        let now = |n: &AtomicUsize| n.load(Ordering::Relaxed) as f64;
        text.gauge("storedd_connections", "Clients connected now.", now(&counters.open));
        text.gauge("storedd_changes_in_flight", "Changes submitted and not answered.", now(&counters.changes));
        let total = |n: &AtomicU64| n.load(Ordering::Relaxed) as f64;
        let mut connections =
            text.family("storedd_connections_total", Kind::Counter, "Connections, by what became of them.");
        for (result, count) in [
            ("accepted", &counters.accepted),
            ("refused", &counters.refused),
            ("not_permitted", &counters.not_permitted),
            ("malformed", &counters.malformed),
            ("stalled", &counters.stalled),
            ("gone", &counters.gone),
        ] {
            connections.sample(&[("result", result)], total(count));
        }
        by(text, "storedd_requests_total", "Requests, by verb.", "verb", &counters.requests());
        by(
            text,
            "storedd_refusals_total",
            "Requests that were refused or failed, by code.",
            "code",
            &counters.refusals(),
        );
    }
}

impl Daemon {
    fn mail_door(&self, text: &mut Text) {
        let mail = &self.mail;
        let total = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let open = mail.open.load(Ordering::Relaxed) as f64;
        text.gauge("storedd_lmtp_sessions", "LMTP sessions open now.", open);
        let mut sessions =
            text.family("storedd_lmtp_sessions_total", Kind::Counter, "LMTP sessions, by what became of them.");
        for (result, count) in
            [("accepted", &mail.sessions), ("turned_away", &mail.turned_away), ("timed_out", &mail.timed_out)]
        {
            sessions.sample(&[("result", result)], total(count) as f64);
        }
        text.counter("storedd_lmtp_messages_total", "Messages that came by LMTP whole.", total(&mail.messages));
        text.counter("storedd_lmtp_bytes_total", "Bytes of messages that came by LMTP.", total(&mail.bytes));
        text.counter(
            "storedd_lmtp_delivered_total",
            "Recipients for whom a message was stored.",
            total(&mail.delivered),
        );
        let mut refused =
            text.family("storedd_lmtp_refused_total", Kind::Counter, "Recipients that LMTP refused, by why.");
        mail.refused().for_each(|(why, count)| refused.sample(&[("reason", why)], count as f64));
    }
}

/// A counter with one label.
fn by(text: &mut Text, name: &'static str, help: &str, label: &str, counts: &BTreeMap<String, u64>) {
    let mut family = text.family(name, Kind::Counter, help);
    for (value, count) in counts {
        family.sample(&[(label, value)], *count as f64);
    }
}

fn durations(text: &mut Text, name: &'static str, help: &str, histogram: &Histogram) {
    let snapshot = histogram.below(DURATIONS);
    let upto: Vec<(f64, u64)> = snapshot.below.iter().map(|(micros, n)| (*micros as f64 / 1e6, *n)).collect();
    text.family(name, Kind::Histogram, help).histogram(&upto, snapshot.count, snapshot.sum as f64 / 1e6);
}

fn transactions(text: &mut Text, store: &Store) {
    let stats = store.stats();
    let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
    let mut outcomes = text.family("storedd_transactions_total", Kind::Counter, "Changes planned, by outcome.");
    for (outcome, count) in [
        ("committed", &stats.committed),
        ("unchanged", &stats.unchanged),
        ("refused", &stats.refused),
        ("aborted", &stats.aborted),
    ] {
        outcomes.sample(&[("outcome", outcome)], load(count) as f64);
    }
    durations(text, "storedd_commit_duration_seconds", "From submission of a change to its answer.", &stats.commit);
    durations(text, "storedd_plan_duration_seconds", "Planning of one group of changes.", &stats.plan);
    durations(text, "storedd_log_sync_duration_seconds", "One write and sync of the log.", &stats.sync);
    let sizes: Vec<u64> = stats.group_sizes.iter().map(load).collect();
    let upto = sizes.iter().enumerate().scan(0, |sum, (i, n)| {
        *sum += n;
        Some(((1u64 << i) as f64, *sum))
    });
    let upto: Vec<(f64, u64)> = upto.collect();
    text.family("storedd_commit_group_records", Kind::Histogram, "Records that were synced together.").histogram(
        &upto,
        sizes.iter().sum(),
        load(&stats.group_records) as f64,
    );
    text.gauge("storedd_commit_queue_length", "Changes that wait to be planned.", store.queue_len() as f64);
    let wait = store.oldest_wait().unwrap_or_default().as_secs_f64();
    text.gauge("storedd_oldest_wait_seconds", "How long the oldest unanswered change has been waiting.", wait);
}

fn log(text: &mut Text, store: &Store, watch: &Watch) {
    let stats = store.stats();
    let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
    text.gauge("storedd_applied_lsn", "Highest LSN that readers see.", store.published_lsn().0 as f64);
    text.gauge("storedd_synced_lsn", "Highest LSN on disk.", store.synced_lsn().0 as f64);
    text.counter("storedd_log_written_bytes_total", "Bytes appended to the log.", load(&stats.log_bytes));
    text.counter("storedd_log_payload_bytes_total", "Bytes of changes among them.", load(&stats.log_payload_bytes));
    let segments = store.segments();
    let bytes: u64 = segments.iter().map(|s| s.segment.bytes).sum();
    text.gauge("storedd_log_segments", "Log segments kept.", segments.len() as f64);
    text.gauge("storedd_log_size_bytes", "Bytes of the log segments kept.", bytes as f64);
    text.gauge("storedd_log_spare_segments", "Empty log segments made ahead.", store.spares() as f64);
    let limits = watch.limits();
    text.gauge("storedd_log_limit_segments", "Log segments at which an alarm is raised.", limits.log_segments as f64);
    text.gauge("storedd_log_limit_bytes", "Bytes of log at which an alarm is raised.", limits.log_bytes as f64);
    let (rate, left) = watch.with_board(|board| board.log_growth(bytes, limits.log_bytes));
    text.known("storedd_log_growth_bytes_per_second", "How fast the log grows; negative while it shrinks.", rate);
    text.known("storedd_log_time_to_limit_seconds", "Time until the log reaches its limit of bytes.", left);
}

fn checkpoint(text: &mut Text, store: &Store, watch: &Watch, uptime: std::time::Duration) {
    let stats = store.stats();
    let health = store.checkpoint_health();
    text.gauge("storedd_checkpoint_lsn", "LSN up to which the database is durable.", store.checkpoint_lsn().0 as f64);
    let mut outcomes = text.family("storedd_checkpoints_total", Kind::Counter, "Checkpoints, by outcome.");
    outcomes.sample(&[("outcome", "done")], stats.checkpoints.load(Ordering::Relaxed) as f64);
    outcomes.sample(&[("outcome", "failed")], stats.checkpoints_failed.load(Ordering::Relaxed) as f64);
    durations(text, "storedd_checkpoint_duration_seconds", "One checkpoint.", &stats.checkpoint);
    let running = health.running.unwrap_or_default().as_secs_f64();
    text.gauge("storedd_checkpoint_running_seconds", "How long the checkpoint at work has been running.", running);
    let last = store.last_times().0.map(|at| at.0 as f64 / 1e6);
    text.known(
        "storedd_checkpoint_last_success_timestamp_seconds",
        "When the last checkpoint of this process ended, in seconds since 1970.",
        last,
    );
    let behind = watch.with_board(|board| board.behind(uptime)).as_secs_f64();
    // The board looked up to a second ago.
    let behind = if store.overlay_entries() > 0 { behind } else { 0.0 };
    text.gauge(
        "storedd_checkpoint_behind_seconds",
        "How long the oldest change has been waiting for the database.",
        behind,
    );
}

fn database(text: &mut Text, store: &Store, watch: &Watch) {
    text.gauge(
        "storedd_overlay_bytes",
        "Changes in memory that the database does not have.",
        store.overlay_bytes() as f64,
    );
    let most = store.options().overlay_bytes_max as f64;
    text.gauge("storedd_overlay_limit_bytes", "Bytes of them at which changes are refused.", most);
    text.gauge("storedd_overlay_entries", "Row versions among them.", store.overlay_entries() as f64);
    let indexes = store.indexes_held();
    text.gauge("storedd_index_cache_bytes", "Memory of the indexes of mailboxes that were read.", indexes.bytes as f64);
    text.counter("storedd_index_cache_found_total", "Indexes that were asked for and were there.", indexes.found);
    text.counter("storedd_index_cache_read_total", "Indexes that had to be read.", indexes.read);
    let size = watch.prober().database_bytes() as f64;
    text.gauge("storedd_database_size_bytes", "Length of the database file.", size);
    let mut rows = text.family("storedd_table_rows", Kind::Gauge, "Rows in the database, as of the last checkpoint.");
    let tables: Vec<(Table, u64)> = store.database_rows();
    for (table, count) in tables {
        rows.sample(&[("table", table.name())], count as f64);
    }
}

fn copies(text: &mut Text, known: &Known) {
    let at = |at: Option<Micros>| at.map(|at| at.0 as f64 / 1e6);
    text.known(
        "storedd_backup_timestamp_seconds",
        "When the newest backup was begun, in seconds since 1970.",
        at(known.backup),
    );
    text.known(
        "storedd_mail_backup_timestamp_seconds",
        "When the newest backup of all mail was begun, in seconds since 1970.",
        at(known.mail_backup),
    );
    text.known(
        "storedd_drill_good_timestamp_seconds",
        "When the last good drill was begun, in seconds since 1970.",
        at(known.drill),
    );
    let drilled = known.drilled;
    text.known(
        "storedd_drill_good",
        "1 if the last drill was good, 0 if it was not.",
        drilled.map(|d| f64::from(u8::from(d.0))),
    );
    text.known(
        "storedd_drill_rpo_seconds",
        "Seconds of changes that the last drill would have lost.",
        drilled.map(|d| d.1),
    );
    text.known("storedd_drill_rto_seconds", "Seconds that the last drill took to restore.", drilled.map(|d| d.2));
    let archive = Some(&known.archive).filter(|archive| archive.on);
    text.known("storedd_archive_lag_lsns", "LSNs that are not in the log archive.", archive.map(|a| a.lag as f64));
    text.known(
        "storedd_archive_lag_seconds",
        "How long the oldest sealed log file has been waiting for the archive.",
        archive.map(|a| a.waiting.as_secs_f64()),
    );
}

fn chores(text: &mut Text, watch: &Watch) {
    let last = watch.stamped();
    let at = |at: Option<Micros>| at.map(|at| at.0 as f64 / 1e6);
    text.known(
        "storedd_expire_timestamp_seconds",
        "When the rules of ageing were looked at last, in seconds since 1970.",
        at(last.expire),
    );
    text.known("storedd_purge_timestamp_seconds", "When the last purge was, in seconds since 1970.", at(last.purge));
    text.known(
        "storedd_peruser_timestamp_seconds",
        "When what users have seen was written to partitions last, in seconds since 1970.",
        at(last.peruser),
    );
}

fn places(text: &mut Text, watch: &Watch) {
    let places = watch.prober().places();
    let limits = watch.limits();
    let mut each = |name: &'static str, help: &str, value: &dyn Fn(&PlaceFacts) -> Option<f64>| {
        let mut family = text.family(name, Kind::Gauge, help);
        for place in &places {
            if let Some(value) = value(place) {
                family.sample(&[("place", &place.name)], value);
            }
        }
    };
    let room = |place: &PlaceFacts| place.space;
    each("storedd_disk_free_bytes", "Bytes that the daemon can still write there.", &|place| {
        room(place).map(|space| space.free as f64)
    });
    each("storedd_disk_size_bytes", "Bytes of the whole file system there.", &|place| {
        room(place).map(|space| space.total as f64)
    });
    each("storedd_disk_reserve_bytes", "Free bytes there below which changes are refused.", &|place| {
        room(place).filter(|_| place.vital).map(|space| space.reserve(limits.reserve) as f64)
    });
    each("storedd_disk_time_to_full_seconds", "Time until it is full at the rate of the last seconds.", &|place| {
        room(place).and_then(|space| watch.with_board(|board| board.filling(&place.name, space.free)).1)
    });
    each("storedd_disk_seen_age_seconds", "How long ago it last answered.", &|place| Some(place.age.as_secs_f64()));
    let mut states = text.family("storedd_partition_state", Kind::Gauge, "1 for the state that a partition is in.");
    for partition in watch.prober().partitions() {
        for state in ["ok", "full", "behind", "missing", "foreign"] {
            let is = f64::from(u8::from(state == partition.state));
            states.sample(&[("partition", &partition.name), ("state", state)], is);
        }
    }
}

fn alarms(text: &mut Text, watch: &Watch) {
    let lit = watch.alarms();
    let mut counts = text.family("storedd_alarms", Kind::Gauge, "Alarms that are on, by name.");
    for name in Name::ALL {
        let on = lit.iter().filter(|alarm| alarm.name == name.word()).count();
        counts.sample(&[("name", name.word())], on as f64);
    }
    let mut severities = text.family("storedd_alarms_by_severity", Kind::Gauge, "Alarms that are on, by severity.");
    for severity in ["warning", "critical"] {
        let on = lit.iter().filter(|alarm| alarm.severity == severity).count();
        severities.sample(&[("severity", severity)], on as f64);
    }
    let silent = watch.maintenance().is_some();
    text.gauge(
        "storedd_maintenance",
        "1 while bulk work is expected and its alarms are silent.",
        f64::from(u8::from(silent)),
    );
}
