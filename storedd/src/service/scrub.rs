//! The scrub: in the background when it is due, and what is known of it.

use super::Daemon;
use super::jobs::itself;
use crate::control::convert::failure;
use crate::jobs::registry::Kind;
use crate::jobs::scrub::Scrubber;
use crate::lsn::Micros;
use crate::metrics::text::Text;
use crate::place;
use crate::store::rfc3339;
use proto::{Done, Reply};
use std::sync::Arc;

impl Daemon {
    /// Who scrubs the store; to be called before [`Daemon::set_store`].
    pub fn set_scrubber(&self, scrubber: Arc<Scrubber>) {
        let first = self.scrubber.set(scrubber).is_ok();
        assert!(first, "a store is scrubbed by one");
    }

    /// Scrubs what is due, as a job of the background.
    pub fn keep_scrub(self: &Arc<Daemon>, scrubber: &Scrubber) {
        self.store.get().inspect(|store| scrubber.met(&store.take_refused()));
        scrubber.settle();
        if self.modes.is_leaving() {
            return;
        }
        let daemon = self.clone();
        let settings = move || place::scrub_settings(&daemon.config());
        let Some(due) = scrubber.due(settings()) else { return };
        let archive = self.store.get().and_then(|store| self.archived_log(store));
        // How it ended is in the log, and with the job.
        drop(self.jobs.run(Kind::background("scrub"), itself(), |ctx| {
            scrubber.scrub(due, Arc::new(settings), archive, ctx).map_err(|e| failure(&e))?;
            Ok(Reply::Done(Done { done: true }))
        }));
    }

    /// What is known of the scrub, for `status` and `check`.
    pub(super) fn scrub_state(&self) -> Option<proto::ScrubState> {
        let (known, now) = (self.scrubber.get()?.known(), self.env.now());
        let is_off = place::scrub_settings(&self.config()).interval.is_zero();
        let seconds = |from: Micros, to: Micros| to.0.saturating_sub(from.0) as f64 / 1e6;
        Some(proto::ScrubState {
            state: match (known.running, is_off) {
                (true, _) => "running",
                (false, true) => "off",
                (false, false) => "waiting",
            }
            .to_owned(),
            begun: known.begun.map(rfc3339),
            mailboxes: known.counts.mailboxes,
            messages: known.counts.messages,
            bytes: known.counts.bytes,
            found: known.counts.found,
            healed: known.counts.healed,
            last_age: known.last.map(|(_, ended)| seconds(ended, now)),
            last_duration: known.last.map(|(begun, ended)| seconds(begun, ended)),
            damaged: known.damage.len() as u64,
        })
    }

    /// Its numbers.
    pub(super) fn scrub_numbers(&self, text: &mut Text) {
        let Some(scrubber) = self.scrubber.get() else { return };
        let known = scrubber.known();
        let running = f64::from(u8::from(known.running));
        text.gauge("storedd_scrub_running", "1 while the scrub is at work.", running);
        text.known(
            "storedd_scrub_timestamp_seconds",
            "When the last whole pass of the scrub ended, in seconds since 1970.",
            known.last.map(|(_, ended)| ended.0 as f64 / 1e6),
        );
        let counts = known.counts;
        for (name, help, value) in [
            ("storedd_scrub_mailboxes", "Mailboxes that this pass has looked at, or the last one.", counts.mailboxes),
            ("storedd_scrub_messages", "Messages in them.", counts.messages),
            ("storedd_scrub_bytes", "Bytes of files that it has read.", counts.bytes),
            ("storedd_scrub_found", "What it has found that is not as it should be.", counts.found),
            ("storedd_scrub_healed", "What of it was repaired.", counts.healed),
        ] {
            text.gauge(name, help, value as f64);
        }
        let damaged = known.damage.len() as f64;
        text.gauge("storedd_scrub_damaged", "What is damaged and could not be healed, of all passes.", damaged);
    }
}
