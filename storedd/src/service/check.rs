//! `check`.

use super::Daemon;
use super::lists::pattern;
use crate::control::convert::failure;
use crate::disk::Disk;
use crate::jobs::check::{self, Pace, Scope, Told, Wish, Within};
use crate::jobs::registry::Context;
use crate::jobs::scrub::Scrubber;
use crate::partition::survey::Depth;
use crate::place;
use crate::store::{Fate, MailFinding, Repair, Store, WithArchive};
use proto::{Check, CheckFinding, Checked, Code, Failure, MailboxChange, Reply};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Daemon {
    pub(super) fn check(&self, wanted: &Check, ctx: &Context) -> Result<Reply, Failure> {
        let store = self.store()?;
        let patterns: Vec<_> = wanted.mailboxes.iter().map(|name| pattern(name)).collect::<Result<_, _>>()?;
        for (name, pattern) in wanted.mailboxes.iter().zip(&patterns) {
            if pattern.literal().is_some() {
                // A name that is none is told, and not taken for one without findings.
                drop(self.mailbox_row(&self.view()?, name)?);
            }
        }
        if let Some(partition) = wanted.partition.as_ref().filter(|name| store.partitions().site(name).is_none()) {
            let text = format!("no partition {partition}");
            return Err(Failure::new(Code::NotFound, text).with_hint("storectl partition list"));
        }
        let scrubber = self.scrubber.get().map(|scrubber| &**scrubber).filter(|_| wanted.deep);
        let wish = Wish {
            env: self.env.clone(),
            depth: if wanted.deep { Depth::Bytes } else { Depth::Lengths },
            repair: Repair::Nothing,
            threads: threads(wanted.jobs),
            pace: Arc::new(|| Pace::Free),
            archive: self.archived_log(store),
            is_wide: wanted.mailboxes.is_empty() && wanted.partition.is_none(),
            watched: scrubber.map(Scrubber::damaged).unwrap_or_default(),
            within: Within::default(),
        };
        let mut scope = Scope::new(patterns, wanted.partition.clone());
        let told = check::run(store, &mut scope, &wish, ctx, None).map_err(|e| failure(&e))?;
        // Bytes that are right are proven by reading them; what is lost is so however it was found.
        scrubber.inspect(|scrubber| scrubber.found_well(&told));
        self.scrubber.get().inspect(|scrubber| scrubber.met(&told.damage));
        Ok(Reply::Checked(Box::new(Checked { scrub: self.scrub_state(), ..wire(told) })))
    }

    /// The log, with what an archive has of it; `None` without one.
    pub(super) fn archived_log(&self, store: &Store) -> Option<Arc<dyn Disk>> {
        let path = place::archive_settings(&self.config()).path?;
        let root = store.disks().roots.open(&path).ok()?;
        let with = WithArchive::new(store.disks().log.clone(), root, store.store_id(), &BTreeSet::new());
        Some(Arc::new(with.ok()?))
    }
}

/// Threads of a job: as many as were asked for, or as there are processors.
pub(super) fn threads(asked: Option<u32>) -> usize {
    asked.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), |n| n as usize).clamp(1, 256)
}

fn wire(told: Told) -> Checked {
    let lost = told.count(Fate::Lost);
    let finding = |f: MailFinding| CheckFinding {
        r#where: f.place,
        what: f.what.to_owned(),
        expected: f.expected,
        found: f.found,
        fate: f.fate.word().to_owned(),
    };
    let change = |(mailbox, action)| MailboxChange { mailbox, action };
    Checked {
        checked: told.checked,
        messages: told.messages,
        bytes: told.bytes,
        findings: told.findings.into_iter().map(finding).collect(),
        findings_total: told.found,
        lost,
        changes: told.changes.into_iter().map(change).collect(),
        scrub: None,
    }
}
