//! Where messages go without holding up who says them: a reader that is slow, or has stopped reading, costs messages and never a
//! commit.
//!
//! # Operation
//! A line is written at once where that cannot block: nothing waits to be written, and the system says that there is room. Else
//! it waits in a bounded queue for a thread that writes and may be held up. Where the queue is full the line is dropped and
//! counted, and the next that is written tells how many were.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of lines that wait, at the most.
const WAITING_BYTES: usize = 4 << 20;
/// A pipe that says it has room takes so many bytes without blocking (`PIPE_BUF`).
const AT_ONCE_BYTES: usize = 4096;

/// Where lines end up.
pub trait Target: Send + Sync + 'static {
    /// Writes lines; may block.
    ///
    /// # Errors
    /// Those of the target; the lines are lost.
    fn write(&self, lines: &[u8]) -> io::Result<()>;

    /// True if a short line can be written now without blocking.
    fn has_room(&self) -> bool;
}

/// Standard error.
#[derive(Debug)]
pub struct Stderr;

impl Target for Stderr {
    fn write(&self, lines: &[u8]) -> io::Result<()> {
        io::stderr().lock().write_all(lines)
    }

    fn has_room(&self) -> bool {
        let stderr = io::stderr();
        let mut fds = [PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::OUT)];
        matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
    }
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    /// The thread is at it.
    writing: bool,
}

struct Shared {
    target: Box<dyn Target>,
    /// A line that says how many were dropped.
    told: Box<dyn Fn(u64) -> Vec<u8> + Send + Sync>,
    limit: usize,
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// See the page.
#[derive(Clone)]
pub struct Sink(Arc<Shared>);

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").finish_non_exhaustive()
    }
}

impl Sink {
    /// A sink with a thread of its own; `told` makes the line that says how many were dropped.
    pub fn new(target: impl Target, told: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static) -> Sink {
        Sink::bounded(target, told, WAITING_BYTES)
    }

    fn bounded(target: impl Target, told: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static, limit: usize) -> Sink {
        let (queue, changed) = Default::default();
        let shared = Arc::new(Shared { target: Box::new(target), told: Box::new(told), limit, queue, changed });
        let thread = shared.clone();
        let spawned = std::thread::Builder::new().name("messages".to_owned()).spawn(move || thread.run());
        if let Err(e) = spawned {
            // Then what cannot be written at once is dropped, in the end.
            let _ = shared.target.write(format!("no thread for messages: {e}\n").as_bytes());
        }
        Sink(shared)
    }

    fn put(&self, line: &[u8]) {
        let shared = &*self.0;
        let mut queue = shared.queue();
        let idle = queue.lines.is_empty() && !queue.writing && queue.dropped == 0;
        if idle && line.len() <= AT_ONCE_BYTES && shared.target.has_room() {
            // Nobody is left to tell if it cannot be written.
            let _ = shared.target.write(line);
        } else if queue.bytes + line.len() > shared.limit {
            queue.dropped += 1;
        } else {
            queue.bytes += line.len();
            queue.lines.push_back(line.to_vec());
            drop(queue);
            shared.changed.notify_all();
        }
    }

    /// Waits until everything is written, at most so long.
    pub fn flush_within(&self, limit: Duration) {
        let busy = |queue: &mut Queue| !queue.lines.is_empty() || queue.writing;
        drop(self.0.changed.wait_timeout_while(self.0.queue(), limit, busy));
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut queue = self.queue();
        loop {
            while let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                let dropped = if queue.lines.is_empty() { std::mem::take(&mut queue.dropped) } else { 0 };
                queue.writing = true;
                drop(queue);
                let _ = self.target.write(&line);
                if dropped > 0 {
                    let _ = self.target.write(&(self.told)(dropped));
                }
                queue = self.queue();
                queue.writing = false;
            }
            self.changed.notify_all();
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Write for &Sink {
    /// One call for each line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Sink {
    type Writer = &'a Sink;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that reads when it is told to.
    #[derive(Clone, Default)]
    struct Reader(Arc<Desk>);

    #[derive(Default)]
    struct Desk {
        /// Whether it reads, and what it has read.
        state: Mutex<(bool, Vec<u8>)>,
        changed: Condvar,
    }

    impl Reader {
        fn reads(&self, reads: bool) {
            self.0.state.lock().unwrap().0 = reads;
            self.0.changed.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.state.lock().unwrap().1.clone()).unwrap()
        }
    }

    impl Target for Reader {
        fn write(&self, lines: &[u8]) -> io::Result<()> {
            let mut state = self.0.changed.wait_while(self.0.state.lock().unwrap(), |(reads, _)| !*reads).unwrap();
            state.1.extend_from_slice(lines);
            Ok(())
        }

        fn has_room(&self) -> bool {
            self.0.state.lock().unwrap().0
        }
    }

    #[test]
    fn a_reader_that_stops_holds_up_nobody_and_is_told_what_it_missed() {
        let reader = Reader::default();
        let sink = Sink::bounded(reader.clone(), |n| format!("dropped {n}\n").into_bytes(), 100);
        let say = |line: &str| (&sink).write_all(line.as_bytes()).unwrap();
        reader.reads(true);
        say("at once\n");
        assert_eq!(reader.text(), "at once\n", "before the call is back");
        reader.reads(false);
        (0..50).for_each(|n| say(&format!("line {n}\n")));
        reader.reads(true);
        sink.flush_within(Duration::from_secs(30));
        let text = reader.text();
        let lines: Vec<&str> = text.lines().collect();
        let (last, kept) = lines.split_last().unwrap();
        let dropped: usize = last.strip_prefix("dropped ").unwrap().parse().unwrap();
        assert_eq!(kept.len() - 1 + dropped, 50, "{text}");
        assert!(kept[1..].iter().enumerate().all(|(n, line)| *line == format!("line {n}")), "{text}");
        say("again\n");
        assert!(reader.text().ends_with("again\n"));
    }
}
