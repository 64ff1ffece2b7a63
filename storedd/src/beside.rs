//! Threads that help somebody who waits for them.
//!
//! The system may have none to give (a limit of tasks, no memory). Whoever asks for help then does the work alone, which takes longer: nothing
//! here panics.

use std::thread::{Builder, Scope, ScopedJoinHandle};

/// Starts a thread within `scope`; `None` if the system has none to give.
pub fn help<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Option<ScopedJoinHandle<'scope, T>> {
    #[cfg(test)]
    if tests::REFUSED.get() {
        return None;
    }
    let started = Builder::new().spawn_scoped(scope, work);
    started
        .inspect_err(|e| tracing::warn!(event = "no_thread", error = %e, "it is done without, and takes longer"))
        .ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    thread_local! {
        pub(super) static REFUSED: Cell<bool> = const { Cell::new(false) };
    }

    /// Does something on a thread that gets no help.
    pub(crate) fn alone<T>(work: impl FnOnce() -> T) -> T {
        REFUSED.set(true);
        let done = work();
        REFUSED.set(false);
        done
    }
}
