//! `status`, `stats` and what a start found, for people.

use super::ink;
use super::table::pairs;
use super::words::{age, bytes, counted, duration, micros, printable};
use proto::{Alarm, CameBack, Histogram, LmtpStats, Maintenance, Report, ScrubState, Stats, Status};
use std::io::{self, Write};

/// `status`: aligned lines, then the alarms with what to type next.
///
/// # Errors
/// Those of `out`.
pub fn status(out: &mut dyn Write, s: &Status) -> io::Result<()> {
    let state = match (s.state.as_str(), s.eta) {
        ("recovering", Some(eta)) => format!("recovering, {} % done, ready in about {}", s.percent, duration(eta)),
        ("recovering", None) => format!("recovering, {} % done", s.percent),
        (state, _) => state.to_owned(),
    };
    let holds = match (s.mailboxes, s.users) {
        (Some(mailboxes), Some(users)) => format!("{} of {}", counted(mailboxes, "mailbox"), counted(users, "user")),
        _ => String::new(),
    };
    let mut lines = vec![
        ("state", state),
        ("pid", s.pid.to_string()),
        ("running for", duration(s.uptime)),
        ("version", s.version.clone()),
        ("data directory", s.data_dir.clone()),
        ("store id", format!("{}, epoch {}", s.store_id, s.epoch)),
        ("last LSN", format!("{} applied, {} synced, {} checkpointed", s.applied_lsn, s.synced_lsn, s.checkpoint_lsn)),
        ("last checkpoint", age(s.checkpoint_age)),
        ("last log clean-up", age(s.log_cleanup_age)),
        ("last snapshot", age(s.snapshot_age)),
        ("last backup", age(s.backup_age)),
        ("last good drill", drill(s)),
        ("log archive", s.archive.as_ref().map(archive).unwrap_or_default()),
        ("last peruser", age(s.peruser_age)),
        ("last expire", age(s.expire_age)),
        ("last purge", age(s.purge_age)),
        ("scrub", s.scrub.as_ref().map(|of| scrub(of, s.mailboxes)).unwrap_or_default()),
        ("log", format!("{}, {} to replay", counted(s.log_segments, "segment"), bytes(s.replay_bytes))),
        ("connections", s.connections.to_string()),
        ("oldest waiting", s.oldest_wait.map(duration).unwrap_or_default()),
        ("maintenance", s.maintenance.as_ref().map(maintenance).unwrap_or_default()),
        ("holds", holds),
        ("in the database", tables(s)),
        ("last start", s.last_start.clone()),
    ];
    if s.repair_recommended {
        lines.push((
            "repair",
            "recommended: a start had to give something up, or may have; see storectl recover --report".to_owned(),
        ));
    }
    if s.alarms.is_empty() {
        lines.push(("alarms", "none".to_owned()));
    }
    lines.retain(|(_, value)| !value.is_empty());
    pairs(out, &lines)?;
    s.alarms.iter().try_for_each(|alarm| self::alarm(out, alarm))
}

fn drill(s: &Status) -> String {
    match &s.drill {
        Some(d) if d.verdict != "good" => format!("{}; the last one was {}", age(s.drill_age), printable(&d.verdict)),
        Some(d) => format!("{}, restored in {}", age(s.drill_age), duration(d.rto_seconds)),
        None => age(s.drill_age),
    }
}

fn archive(a: &proto::ArchiveState) -> String {
    let waits = if a.lag_seconds > 0.0 { format!(", waits {}", duration(a.lag_seconds)) } else { String::new() };
    let failure = a.failure.as_ref().map(|why| format!(": {}", printable(why))).unwrap_or_default();
    format!("up to LSN {}, {} behind{waits}{failure}", a.archived_lsn, a.lag_lsns)
}

/// How far the scrub is, in one line. `total`: mailboxes that there are, where that is known.
pub fn scrub(s: &ScrubState, total: Option<u64>) -> String {
    let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
    let counts = format!("{}{of}, {} read", counted(s.mailboxes, "mailbox"), bytes(s.bytes));
    let mut text = match (s.state.as_str(), &s.begun) {
        ("running", _) => format!("at work, {counts}"),
        ("off", _) => "off".to_owned(),
        (_, Some(_)) => format!("goes on soon, {counts}"),
        (_, None) => "waits".to_owned(),
    };
    text.push_str(&match (s.last_age, s.last_duration) {
        (Some(ago), Some(took)) => format!("; last whole pass {}, in {}", age(Some(ago)), duration(took)),
        _ => "; no whole pass yet".to_owned(),
    });
    if s.damaged > 0 {
        text.push_str(&format!("; {} damaged", counted(s.damaged, "place")));
    }
    text
}

/// One alarm: what, why, how long there is, what to do.
fn alarm(out: &mut dyn Write, a: &Alarm) -> io::Result<()> {
    let subject = if a.subject.is_empty() { String::new() } else { format!(" ({})", printable(&a.subject)) };
    let what = ink::alarm(&format!("ALARM {}{subject}, {}", printable(&a.name), printable(&a.severity)));
    writeln!(out, "{what}, since {}: {}", a.since, printable(&a.message))?;
    if !a.cause.is_empty() {
        writeln!(out, "  cause: {}", printable(&a.cause))?;
    }
    if let Some(measure) = measure(a) {
        writeln!(out, "  measured: {measure}")?;
    }
    match &a.next {
        Some(next) => writeln!(out, "  next: {}", printable(next)),
        None => Ok(()),
    }
}

/// Value, limit, growth and time left in words; `None` for a condition that is there or not.
fn measure(a: &Alarm) -> Option<String> {
    let count = |n: f64| if n > 0.0 { n.round() as u64 } else { 0 };
    let quantity = |n: f64| match a.unit.as_str() {
        "bytes" => bytes(count(n)),
        "seconds" => duration(n),
        unit => format!("{n:.0} {}", printable(unit)),
    };
    if a.unit.is_empty() {
        return None;
    }
    let mut text = format!("{}, limit {}", quantity(a.value), quantity(a.limit));
    if let Some(rate) = a.rate.filter(|rate| *rate >= 1.0) {
        text.push_str(&format!(", {} more a second", quantity(rate)));
    }
    if let Some(left) = a.time_to_full {
        text.push_str(&format!(", full in {}", duration(left)));
    }
    Some(text)
}

/// A time in which bulk work is expected.
pub fn maintenance(m: &Maintenance) -> String {
    let reason = if m.reason.is_empty() { String::new() } else { format!(": {}", printable(&m.reason)) };
    format!("until {}, by {}{reason}", m.until, printable(&m.who))
}

/// Rows of the database file, which knows nothing of the changes since its last checkpoint.
fn tables(s: &Status) -> String {
    let row = |(name, rows): (&String, &u64)| match name.as_str() {
        "mailboxes" => counted(*rows, "mailbox"),
        // Tables that have no singular: `rights`, and the numbers of names that were deleted or renamed.
        "past" => counted(*rows, "past name"),
        "rights" => format!("{rows} rights"),
        name => counted(*rows, name.strip_suffix('s').unwrap_or(name)),
    };
    let rows = s.tables.iter().map(row).collect::<Vec<_>>().join(", ");
    match s.applied_lsn.checked_sub(s.checkpoint_lsn) {
        _ if rows.is_empty() => rows,
        None | Some(0) => rows,
        // All of it would be zeros, beside what the store holds.
        Some(_) if s.checkpoint_lsn == 0 => {
            "nothing before the first checkpoint; changes after LSN 0 not yet counted".to_owned()
        }
        Some(_) => format!("{rows}; changes after LSN {} not yet counted", s.checkpoint_lsn),
    }
}

/// `stats`.
///
/// # Errors
/// Those of `out`.
pub fn stats(out: &mut dyn Write, s: &Stats) -> io::Result<()> {
    let sizes = s.group_sizes.iter().map(|(most, count)| format!("<={most}: {count}")).collect::<Vec<_>>().join("  ");
    let requests = s.requests.iter().map(|(verb, count)| format!("{verb} {count}")).collect::<Vec<_>>().join(", ");
    let recovery = match &s.recovery_begins {
        Some(file) => format!("; a recovery would begin in {file}"),
        None => "; a recovery would read no log".to_owned(),
    };
    let waiting = match s.oldest_wait {
        Some(wait) => format!("{}, the oldest for {}", counted(s.changes_at_work, "change"), duration(wait)),
        None => counted(s.changes_at_work, "change"),
    };
    let refusals = s.refusals.iter().map(|(code, count)| format!("{code} {count}")).collect::<Vec<_>>().join(", ");
    let kept = format!(
        "{}, {}, {}",
        counted(s.log_segments, "segment"),
        bytes(s.log_segment_bytes),
        counted(s.log_spares, "spare")
    );
    let mut lines = vec![
        ("last LSN", format!("{}, {} checkpointed{recovery}", s.last_lsn, s.checkpoint_lsn)),
        (
            "transactions",
            format!(
                "{} begun, {} committed, {} aborted, {} refused, {} unchanged",
                s.begun, s.committed, s.aborted, s.refused, s.unchanged
            ),
        ),
        ("at work", format!("{waiting}, {} to be planned", s.queue)),
        ("groups", format!("{}, {:.1} records on average, {} at most", s.groups, s.group_mean, s.group_max)),
        ("group sizes", sizes),
        ("sync", histogram(&s.sync)),
        ("commit", histogram(&s.commit)),
        ("plan", histogram(&s.plan)),
        ("log", format!("{} appended, {} of it payload", bytes(s.log_bytes), bytes(s.log_payload_bytes))),
        ("log kept", kept),
        ("overlay", format!("{} in {}", bytes(s.overlay_bytes), counted(s.overlay_entries, "row version"))),
        (
            "checkpoints",
            format!("{} done, {} failed, last {}", s.checkpoints, s.checkpoints_failed, age(s.checkpoint_age)),
        ),
        ("checkpoint", histogram(&s.checkpoint)),
        ("database", bytes(s.database_bytes)),
        ("memory", bytes(s.resident_bytes)),
        ("connections", format!("{} accepted, {} refused", s.connections_accepted, s.connections_refused)),
        ("requests", requests),
        ("refusals", refusals),
        ("mail", mail(&s.lmtp)),
    ];
    lines.retain(|(_, value)| !value.is_empty());
    pairs(out, &lines)
}

/// What the door for mail has done; nothing if nobody came.
fn mail(m: &LmtpStats) -> String {
    if m.sessions_total + m.turned_away == 0 {
        return String::new();
    }
    let refused: String = m.refused.iter().map(|(why, count)| format!(", {why} {count}")).collect();
    format!(
        "{} and {} now, {} in {}, delivered to {}{}{refused}",
        counted(m.sessions_total, "session"),
        m.sessions,
        bytes(m.bytes),
        counted(m.messages, "message"),
        counted(m.delivered, "recipient"),
        if m.refused.is_empty() { "" } else { "; refused" },
    )
}

fn histogram(h: &Histogram) -> String {
    if h.count == 0 {
        return "none yet".to_owned();
    }
    let [p50, p90, p99, p999, max] = [h.p50_us, h.p90_us, h.p99_us, h.p999_us, h.max_us].map(micros);
    format!("{} measured: half within {p50}, 90 % {p90}, 99 % {p99}, 99.9 % {p999}, longest {max}", h.count)
}

/// `recover --report`: one start.
///
/// # Errors
/// Those of `out`.
pub fn report(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    let mut lines = vec![
        ("started", r.started.clone()),
        ("ready after", duration(r.duration)),
        ("decision", r.decision.clone()),
        ("base", format!("{} at LSN {}", r.base, r.base_lsn)),
        ("reached", format!("LSN {}, epoch {}", r.reached_lsn, r.epoch)),
        ("replayed", format!("{}, {}", counted(r.replayed, "record"), bytes(r.replayed_bytes))),
        ("lost", lost(r)),
    ];
    if let Some(back) = &r.came_back {
        lines.pop();
        lines.extend([("given up", lost(r)), ("came back", came_back(back))]);
        lines.extend(back.not_back.iter().map(|what| ("lost", what.clone())));
        match back.not_back_total.saturating_sub(back.not_back.len() as u64) {
            0 if back.not_back.is_empty() => lines.push(("lost", "nothing that is known".to_owned())),
            0 => {}
            more => lines.push(("lost", format!("and {more} more"))),
        }
    }
    if r.cut_bytes > 0 {
        lines.push(("cut", format!("{} of a torn tail", bytes(r.cut_bytes))));
    }
    for file in &r.quarantined {
        lines.push(("quarantined", file.clone()));
    }
    for f in &r.findings {
        lines.push(("finding", format!("{}: {}: expected {}, found {}", f.r#where, f.what, f.expected, f.found)));
    }
    if !r.phases.is_empty() {
        let at = |name: &str| ["look", "decide", "act"].iter().position(|phase| *phase == name);
        let mut phases: Vec<_> = r.phases.iter().collect();
        phases.sort_by_key(|(name, _)| at(name).unwrap_or(usize::MAX));
        let phases = phases.into_iter().map(|(name, seconds)| format!("{name} {}", duration(*seconds)));
        lines.push(("phases", phases.collect::<Vec<_>>().join(", ")));
    }
    for step in &r.next_steps {
        lines.push(("next", step.clone()));
    }
    pairs(out, &lines)
}

/// What an adoption has brought back.
fn came_back(back: &CameBack) -> String {
    let (mailboxes, messages) = (counted(back.mailboxes, "mailbox"), counted(back.messages, "message"));
    match (back.mailboxes + back.messages, back.at_least) {
        (0, false) => "nothing".to_owned(),
        (0, true) => "it was not counted: a restart came between".to_owned(),
        (_, at_least) => {
            let least = if at_least { "at least " } else { "" };
            format!("{least}{mailboxes}, {messages}, until {}", back.time)
        }
    }
}

fn lost(r: &Report) -> String {
    match &r.lost {
        None if r.possible_loss => {
            "nothing known; the last group before the stop cannot be proven either way (possible loss)".to_owned()
        }
        None => "nothing".to_owned(),
        Some(lost) => {
            let how_many = match (lost.transactions, lost.transactions_at_least) {
                (0, true) => "an unknown number of transactions".to_owned(),
                (n, true) => format!("at least {}", counted(n, "transaction")),
                (n, false) => counted(n, "transaction"),
            };
            let mut text = format!("LSN {} to {}, {how_many}", lost.from_lsn, lost.to_lsn);
            if !lost.mailboxes.is_empty() {
                text.push_str(&format!(", in {}", lost.mailboxes.join(", ")));
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::Lost;

    fn print(f: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        f(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn status_names_ages_in_words_and_the_next_command_of_an_alarm() {
        let status_reply = Status {
            state: "read-only".into(),
            uptime: 3725.0,
            checkpoint_age: Some(65.0),
            alarms: vec![Alarm {
                name: "checkpoint_failed".into(),
                since: "2026-11-22T10:00:00Z".into(),
                message: "the database could not be written".into(),
                severity: "critical".into(),
                cause: "no space".into(),
                value: 2.0,
                limit: 1.0,
                unit: "failures".into(),
                next: Some("storectl checkpoint".into()),
                ..Alarm::default()
            }],
            ..Status::default()
        };
        let text = print(|out| status(out, &status_reply));
        assert!(text.contains("state:              read-only\n"), "{text}");
        assert!(text.contains("running for:        1 hour 2 minutes\n"), "{text}");
        assert!(text.contains("last checkpoint:    1 minute 5 seconds ago\n"), "{text}");
        assert!(text.contains("last snapshot:      never\n"), "{text}");
        assert!(text.ends_with(
            "ALARM checkpoint_failed, critical, since 2026-11-22T10:00:00Z: the database could not be written\n  \
             cause: no space\n  measured: 2 failures, limit 1 failures\n  next: storectl checkpoint\n"
        ));
    }

    #[test]
    fn a_recovering_daemon_says_how_far_it_is() {
        let s = Status { state: "recovering".into(), percent: 40, eta: Some(12.0), ..Status::default() };
        assert!(print(|out| status(out, &s)).contains("recovering, 40 % done, ready in about 12 seconds"));
    }

    #[test]
    fn stats_without_measurements_say_so() {
        let text = print(|out| stats(out, &Stats::default()));
        assert!(text.contains("commit:        none yet\n"), "{text}");
    }

    #[test]
    fn a_report_states_the_loss() {
        let mut r = Report { decision: "lossy".into(), base: "live".into(), ..Report::default() };
        assert!(print(|out| report(out, &r)).contains("lost:         nothing\n"));
        r.possible_loss = true;
        assert!(print(|out| report(out, &r)).contains("possible loss"));
        let mailboxes = vec!["user/joe/INBOX".into()];
        let lost = Lost { from_lsn: 5, to_lsn: 9, transactions: 5, transactions_at_least: false, mailboxes };
        r.lost = Some(lost.clone());
        assert!(print(|out| report(out, &r)).contains("LSN 5 to 9, 5 transactions, in user/joe/INBOX"));
        r.lost = Some(Lost { transactions: 1, transactions_at_least: true, ..lost.clone() });
        assert!(print(|out| report(out, &r)).contains("LSN 5 to 9, at least 1 transaction, in user/joe/INBOX"));
        r.lost = Some(Lost { transactions: 0, transactions_at_least: true, mailboxes: Vec::new(), ..lost });
        assert!(print(|out| report(out, &r)).contains("LSN 5 to 9, an unknown number of transactions\n"));
    }
}
