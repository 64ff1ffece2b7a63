//! Everything that is bounded at the door, with its default; and what the door counts.

use proto::frame::{PAYLOAD_BYTES_MAX, REQUEST_BYTES_DEFAULT};
use proto::{Code, Request};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Bounds of the control door. The process needs file descriptors for `connections` and `ungreeted` together; where they run
/// out before, new connections wait in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Payload of one request in bytes; at most [`PAYLOAD_BYTES_MAX`], whatever is given here. 1 MiB.
    pub request_bytes: u32,
    /// Greeted connections; one more is refused as busy. Each takes a file descriptor and about 20 KiB. 1,024.
    pub connections: usize,
    /// Connections that have not greeted; the oldest leaves for one more. 256.
    pub ungreeted: usize,
    /// A connection in this time after it was made is not sent away for a newer one; while all are so young, new ones wait
    /// in the kernel. 50 ms.
    pub ungreeted_age: Duration,
    /// Time for the greeting. 5 s.
    pub hello_timeout: Duration,
    /// Time without a request, an answer or anything at work. 15 minutes.
    pub idle_timeout: Duration,
    /// Time from the first byte of a request to its last. 30 s.
    pub frame_timeout: Duration,
    /// Time in which a client reads nothing of the answers that wait for it. 30 s.
    pub write_timeout: Duration,
    /// Requests of one connection that are at work; further ones wait unread. 256.
    pub in_flight: usize,
    /// Changes of all connections that are at work; further ones are refused as busy. 65,536.
    pub queue: usize,
    /// Lists, dumps, checks and checkpoints at work at once, one of a connection; further ones wait. 16.
    pub scans: usize,
    /// Looks at a row or two that are answered at once, at a time; further ones are as lists. Each takes a thread while its disk
    /// does not answer. 64.
    pub looks: usize,
    /// Answers in bytes that wait for one client before the daemon does no more work for it. 256 KiB.
    pub unread_bytes: usize,
    /// Memory for requests longer than 64 KiB of which only a part has arrived, over all connections; further ones are
    /// refused as busy. 64 MiB.
    pub partial_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            request_bytes: REQUEST_BYTES_DEFAULT,
            connections: 1024,
            ungreeted: 256,
            ungreeted_age: Duration::from_millis(50),
            hello_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(15 * 60),
            frame_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            in_flight: 256,
            queue: 65_536,
            scans: 16,
            looks: 64,
            unread_bytes: 256 << 10,
            partial_bytes: 64 << 20,
        }
    }
}

impl Limits {
    /// The same with every value at least 1 and no frame longer than the protocol allows.
    #[must_use]
    pub(super) fn sane(self) -> Limits {
        Limits {
            request_bytes: self.request_bytes.clamp(1024, PAYLOAD_BYTES_MAX),
            connections: self.connections.max(1),
            ungreeted: self.ungreeted.max(1),
            in_flight: self.in_flight.max(1),
            queue: self.queue.max(1),
            scans: self.scans.max(1),
            unread_bytes: self.unread_bytes.max(1),
            ..self
        }
    }
}

/// What the door counts, for `status` and `stats`. All since the start, but for the first five.
#[derive(Debug, Default)]
pub struct Counters {
    /// Greeted connections now.
    pub open: AtomicUsize,
    /// Connections now that have not greeted.
    pub ungreeted: AtomicUsize,
    /// Changes submitted and not answered, now.
    pub changes: AtomicUsize,
    /// Looks at a row or two that are answered at once, now.
    pub looks: AtomicUsize,
    /// Memory held for half-arrived long requests, now.
    pub partial_bytes: AtomicUsize,
    /// Connections that greeted and were let in.
    pub accepted: AtomicU64,
    /// Connections refused for want of room, evicted before they greeted, or that did not greet in time.
    pub refused: AtomicU64,
    /// Connections refused because of who they are.
    pub not_permitted: AtomicU64,
    /// Connections closed because of bytes that are no frame.
    pub malformed: AtomicU64,
    /// Connections cut because they did not read, or did not finish a request.
    pub stalled: AtomicU64,
    /// Connections whose clients ended without waiting for their answers.
    pub gone: AtomicU64,
    /// Requests by wire number.
    requests: PerVerb,
    /// Requests refused, in the order of [`Code::ALL`].
    refusals: [AtomicU64; Code::ALL.len()],
}

/// A counter for each wire number.
#[derive(Debug)]
struct PerVerb([AtomicU64; Request::COUNT as usize]);

impl Default for PerVerb {
    fn default() -> PerVerb {
        PerVerb(std::array::from_fn(|_| AtomicU64::default()))
    }
}

impl Counters {
    /// Requests so far by verb (a change is `change`), without those that never came.
    #[must_use]
    pub fn requests(&self) -> BTreeMap<String, u64> {
        let counts = self.requests.0.iter().map(|n| n.load(Ordering::Relaxed));
        let named = Request::VERBS.iter().zip(counts).filter(|(_, count)| *count > 0);
        named.map(|(verb, count)| ((*verb).to_owned(), count)).collect()
    }

    /// Requests refused so far by code, without codes that never came.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<String, u64> {
        let counts = self.refusals.iter().map(|n| n.load(Ordering::Relaxed));
        let named = Code::ALL.iter().zip(counts).filter(|(_, count)| *count > 0);
        named.map(|(code, count)| (code.word().to_owned(), count)).collect()
    }

    pub(super) fn refusal(&self, code: Code) {
        if let Some(at) = Code::ALL.iter().position(|known| *known == code) {
            count(&self.refusals[at]);
        }
    }

    /// Counts a greeting, whose wire number is 0.
    pub(super) fn hello(&self) {
        count(&self.requests.0[0]);
    }

    pub(super) fn request(&self, request: &Request) {
        if let Some(count) = self.requests.0.get(request.number() as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Adds one to a counter.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Which gauge of [`Counters`].
pub(super) type Gauge = fn(&Counters) -> &AtomicUsize;

/// An amount that is added to a gauge and taken off when dropped.
#[derive(Debug)]
pub(super) struct Share {
    counters: Arc<Counters>,
    gauge: Gauge,
    amount: usize,
}

impl Share {
    /// Adds `amount` unless the sum would be over `limit`.
    pub(super) fn take(counters: &Arc<Counters>, gauge: Gauge, amount: usize, limit: usize) -> Option<Share> {
        let before = gauge(counters).fetch_add(amount, Ordering::Relaxed);
        let share = Share { counters: counters.clone(), gauge, amount };
        (before.saturating_add(amount) <= limit).then_some(share)
    }

    pub(super) fn amount(&self) -> usize {
        self.amount
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        (self.gauge)(&self.counters).fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_their_limit_and_come_back() {
        let counters = Arc::new(Counters::default());
        let take = |amount| Share::take(&counters, |c| &c.open, amount, 3);
        let (first, second) = (take(2), take(1));
        assert!(first.is_some() && second.is_some() && take(1).is_none());
        drop(first);
        assert!(take(2).is_some());
        drop(second);
        assert_eq!(counters.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn limits_are_made_sane() {
        let wild = Limits { request_bytes: u32::MAX, connections: 0, in_flight: 0, scans: 0, ..Limits::default() };
        let sane = wild.sane();
        assert_eq!((sane.request_bytes, sane.connections, sane.in_flight, sane.scans), (PAYLOAD_BYTES_MAX, 1, 1, 1));
    }

    #[test]
    fn requests_are_counted_by_verb() {
        let counters = Counters::default();
        counters.request(&Request::Status);
        counters.request(&Request::Status);
        counters.request(&Request::Atomic { commands: vec![] });
        let expected = [("batch --atomic".to_owned(), 1), ("status".to_owned(), 2)];
        assert_eq!(counters.requests(), BTreeMap::from(expected));
    }
}
