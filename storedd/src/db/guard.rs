//! redb panics on some damage; here such a panic becomes an error.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CATCHING: Cell<u32> = const { Cell::new(0) };
}

/// True while this thread reads the database in a way that turns a panic into an error. A panic hook that would end the
/// process, or write a report, asks this first.
#[must_use]
pub fn catching() -> bool {
    CATCHING.with(|depth| depth.get() > 0)
}

/// Runs `f`; a panic in it is the error, as text.
pub(super) fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    CATCHING.with(|depth| depth.set(depth.get() + 1));
    let outcome = catch_unwind(AssertUnwindSafe(f));
    CATCHING.with(|depth| depth.set(depth.get() - 1));
    outcome.map_err(|payload| text(&*payload))
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("(no text)").chars().take(300).collect()
}
