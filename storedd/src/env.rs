//! Time and randomness, injected, so that a test can run the whole store on a simulated clock and repeat a
//! failure from its seed. The only file that asks the system for either.

use crate::lsn::Micros;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the store needs of the world beside the disk.
pub trait Env: Send + Sync + std::fmt::Debug {
    /// Wall clock, UTC. May jump; the log makes its own times monotone.
    fn now(&self) -> Micros;
    /// Time since some fixed moment; never goes back.
    fn uptime(&self) -> Duration;
    /// Sixteen unpredictable bytes (store ids, partition ids).
    fn random(&self) -> [u8; 16];
}

/// The system's clock and randomness.
#[derive(Debug)]
pub struct RealEnv {
    start: Instant,
}

impl Default for RealEnv {
    #[expect(clippy::disallowed_methods, reason = "the one home of the system clock")]
    fn default() -> Self {
        RealEnv { start: Instant::now() }
    }
}

impl Env for RealEnv {
    #[expect(clippy::disallowed_methods, reason = "the one home of the system clock")]
    fn now(&self) -> Micros {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0u8; 16];
        let mut filled = 0;
        while filled < bytes.len() {
            match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
                Ok(n) => filled += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => panic!("getrandom: {e}"),
            }
        }
        bytes
    }
}

/// A clock that moves one millisecond a reading, and randomness from a seed.
#[derive(Debug)]
pub struct SimEnv {
    micros: AtomicU64,
    seed: AtomicU64,
}

impl SimEnv {
    /// A world that starts at `now` with this seed.
    #[must_use]
    pub fn new(now: Micros, seed: u64) -> SimEnv {
        SimEnv { micros: AtomicU64::new(now.0), seed: AtomicU64::new(seed) }
    }

    /// Moves the clock; may go back.
    pub fn set_now(&self, now: Micros) {
        self.micros.store(now.0, Ordering::SeqCst);
    }
}

impl Env for SimEnv {
    fn now(&self) -> Micros {
        Micros(self.micros.fetch_add(1000, Ordering::SeqCst))
    }

    fn uptime(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::SeqCst))
    }

    fn random(&self) -> [u8; 16] {
        let mut out = [0u8; 16];
        for half in out.chunks_exact_mut(8) {
            let n = self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
            let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            half.copy_from_slice(&(n ^ (n >> 31)).to_le_bytes());
        }
        out
    }
}
