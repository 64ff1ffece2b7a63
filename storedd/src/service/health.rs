//! `health`: whether there is a place for mail. Answered from memory: disks were asked by the watch, whose answers may be a second old.

use super::Daemon;
use crate::alarms::PartitionSeen;
use proto::{Code, Failure, Health, Reply, Unusable};

impl Daemon {
    /// `done`, unless something is in the way of mail.
    ///
    /// # Errors
    /// `Unavailable`, with what is in the way, if there is none at all.
    pub(super) fn health(&self, done: Reply) -> Result<Reply, Failure> {
        let Some(watch) = self.watch.get() else { return Ok(done) };
        if let Some(why) = watch.no_room() {
            return Err(Failure::new(Code::Unavailable, why).with_hint("free space there: storectl status"));
        }
        let closed = self.store.get().and_then(|store| store.policy().closed);
        let closed = |name: &str| closed.as_ref().is_some_and(|closed| closed.contains(name));
        let all = watch.prober().partitions();
        let unusable: Vec<Unusable> = all.iter().filter_map(|seen| unusable(seen, closed(&seen.name))).collect();
        if unusable.is_empty() {
            return Ok(done);
        }
        if unusable.len() < all.len() {
            return Ok(Reply::Health(Health { done: true, unusable }));
        }
        let each: Vec<String> = unusable.iter().map(|one| format!("{}: {}", one.partition, one.why)).collect();
        let text = format!("no partition can be used: {}", each.join("; "));
        Err(Failure::new(Code::Unavailable, text).with_hint("storectl partition list"))
    }
}

/// Why mail for a partition is refused, or can be neither kept there nor read, if that is so. One that is behind takes it as long as enough log may be kept for it.
fn unusable(seen: &PartitionSeen, is_closed: bool) -> Option<Unusable> {
    let why = match seen.state {
        _ if seen.is_silent => "its file system does not answer".to_owned(),
        "missing" | "foreign" => format!("{}: {}", seen.state, seen.why),
        "full" => format!("full: {}", seen.why),
        _ if is_closed => "it lacks changes, and no more log is kept for it".to_owned(),
        _ => return None,
    };
    Some(Unusable { partition: seen.name.clone(), why })
}
