//! A place that may hang: a network mount whose server is gone lets no call come back.
//!
//! # Operation
//! A [`Patience`] belongs to one place. [`Patience::open`] gives the tree there, to be read: each call on it and on its files is made by a
//! thread of its own, which ends with them, and who calls waits for so long at the most. As long as a call has not come back, every further one
//! is answered at once with an error of kind `TimedOut`, and no other thread is begun: one that hangs is all that a place costs.

use super::{Access, Disk, DiskFile, Entry, Lock, Space, Stamp};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel, sync_channel};
use std::time::Duration;

const RUNNING: u8 = 0;
const DONE: u8 = 1;
const LEFT: u8 = 2;

/// How long a place is waited for, and whether it hangs.
#[derive(Debug, Clone)]
pub struct Patience {
    wait: Duration,
    /// Calls that nobody waits for any more, and that have not come back.
    hanging: Arc<AtomicUsize>,
}

type Job = Box<dyn FnOnce() + Send>;

/// The thread that makes the calls.
#[derive(Debug, Clone)]
struct Caller {
    jobs: Sender<Job>,
    patience: Patience,
}

fn hangs() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it does not answer")
}

impl Patience {
    /// For a place whose every call may take so long.
    #[must_use]
    pub fn new(wait: Duration) -> Patience {
        Patience { wait, hanging: Arc::default() }
    }

    /// The tree that `open` opens, to be read. `thread` is the name of its thread.
    ///
    /// # Errors
    /// Those of `open`; `TimedOut` if the place hangs; a thread that cannot be had.
    pub fn open(
        &self,
        thread: &str,
        open: impl FnOnce() -> io::Result<Arc<dyn Disk>> + Send + 'static,
    ) -> io::Result<Arc<dyn Disk>> {
        if self.hanging.load(Ordering::Acquire) > 0 {
            return Err(hangs());
        }
        let (jobs, all) = channel::<Job>();
        std::thread::Builder::new().name(thread.to_owned()).spawn(move || all.into_iter().for_each(|job| job()))?;
        let caller = Caller { jobs, patience: self.clone() };
        let root = caller.ask(open)?;
        Ok(Arc::new(Patient { root: Held::new(root, &caller), caller }))
    }
}

impl Caller {
    fn ask<R: Send + 'static>(&self, call: impl FnOnce() -> io::Result<R> + Send + 'static) -> io::Result<R> {
        let hanging = self.patience.hanging.clone();
        if hanging.load(Ordering::Acquire) > 0 {
            return Err(hangs());
        }
        let (tell, told) = sync_channel(1);
        let state = Arc::new(AtomicU8::new(RUNNING));
        let job = {
            let (state, hanging) = (state.clone(), hanging.clone());
            move || {
                let done = call();
                if state.swap(DONE, Ordering::AcqRel) == LEFT {
                    hanging.fetch_sub(1, Ordering::AcqRel);
                }
                // Nobody listens any more if it took too long.
                drop(tell.send(done));
            }
        };
        self.jobs.send(Box::new(job)).map_err(|_| io::Error::other("the thread that asks it has ended"))?;
        match told.recv_timeout(self.patience.wait) {
            Ok(done) => done,
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the thread that asks it has ended")),
            Err(RecvTimeoutError::Timeout) => {
                hanging.fetch_add(1, Ordering::AcqRel);
                if state.swap(LEFT, Ordering::AcqRel) == DONE {
                    // It has come back just now.
                    hanging.fetch_sub(1, Ordering::AcqRel);
                    return told.recv().unwrap_or_else(|_| Err(hangs()));
                }
                Err(hangs())
            }
        }
    }
}

/// Something of the place, which is let go by its thread: that may hang as well.
struct Held<T: ?Sized + Send + Sync + 'static> {
    it: Option<Arc<T>>,
    caller: Caller,
}

impl<T: ?Sized + Send + Sync + 'static> Held<T> {
    fn new(it: Arc<T>, caller: &Caller) -> Held<T> {
        Held { it: Some(it), caller: caller.clone() }
    }

    fn ask<R: Send + 'static>(&self, call: impl FnOnce(&T) -> io::Result<R> + Send + 'static) -> io::Result<R> {
        let it = self.it.clone().ok_or(io::ErrorKind::NotFound)?;
        self.caller.ask(move || call(&it))
    }
}

impl<T: ?Sized + Send + Sync + 'static> Drop for Held<T> {
    fn drop(&mut self) {
        let it = self.it.take();
        drop(self.caller.jobs.send(Box::new(move || drop(it))));
    }
}

impl<T: ?Sized + Send + Sync + 'static> fmt::Debug for Held<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

/// The tree of a place that may hang.
#[derive(Debug)]
struct Patient {
    root: Held<dyn Disk>,
    caller: Caller,
}

/// A file of it.
#[derive(Debug)]
struct PatientFile(Held<dyn DiskFile>);

fn read_only<R>() -> io::Result<R> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for Patient {
    fn open(&self, path: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        if !matches!(access, Access::Read | Access::ReadFollow) {
            return read_only();
        }
        let path = path.to_owned();
        let file = self.root.ask(move |root| root.open(&path, access))?;
        Ok(Arc::new(PatientFile(Held::new(file, &self.caller))))
    }

    fn stat(&self, path: &str) -> io::Result<Option<Entry>> {
        let path = path.to_owned();
        self.root.ask(move |root| root.stat(&path))
    }

    fn stamp(&self, path: &str) -> io::Result<Option<Stamp>> {
        let path = path.to_owned();
        self.root.ask(move |root| root.stamp(&path))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let dir = dir.to_owned();
        self.root.ask(move |root| root.list(&dir))
    }

    fn names(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let dir = dir.to_owned();
        self.root.ask(move |root| root.names(&dir))
    }

    fn create_dir(&self, _: &str) -> io::Result<()> {
        read_only()
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        read_only()
    }

    fn link(&self, _: &str, _: &str) -> io::Result<()> {
        read_only()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        read_only()
    }

    fn remove_dir(&self, _: &str) -> io::Result<()> {
        read_only()
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        read_only()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.root.ask(|root| root.free_bytes())
    }

    fn space(&self) -> io::Result<Space> {
        self.root.ask(|root| root.space())
    }

    fn lock(&self, _: &str, _: &str) -> io::Result<Box<dyn Lock>> {
        read_only()
    }

    fn display(&self, path: &str) -> String {
        // Asks no disk.
        self.root.it.as_ref().map_or_else(|| path.to_owned(), |root| root.display(path))
    }
}

impl DiskFile for PatientFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let length = buf.len();
        let bytes = self.0.ask(move |file| {
            let mut bytes = vec![0; length];
            file.read_at(offset, &mut bytes).map(|()| bytes)
        })?;
        buf.copy_from_slice(&bytes);
        Ok(())
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        read_only()
    }

    fn sync_data(&self) -> io::Result<()> {
        read_only()
    }

    fn len(&self) -> io::Result<u64> {
        self.0.ask(|file| file.len())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        read_only()
    }
}

#[cfg(test)]
mod tests {
    use super::super::SimDisk;
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::sync::{Condvar, Mutex};

    /// Hangs while it is shut.
    #[derive(Debug, Default)]
    struct Gate {
        shut: Mutex<bool>,
        opened: Condvar,
        waiting: AtomicU64,
    }

    impl Gate {
        fn set(&self, shut: bool) {
            *self.shut.lock().unwrap() = shut;
            self.opened.notify_all();
        }

        fn pass(&self) {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            drop(self.opened.wait_while(self.shut.lock().unwrap(), |shut| *shut).unwrap());
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_place_that_hangs_costs_one_thread_and_one_wait() {
        let machine = SimDisk::new();
        machine.disk("away").plant("file", b"some bytes").unwrap();
        let gate = Arc::new(Gate::default());
        let patience = Patience::new(Duration::from_millis(200));
        let open = || {
            let (gate, disk) = (gate.clone(), machine.disk("away"));
            patience.open("patient-test", move || {
                gate.pass();
                Ok(Arc::new(disk) as Arc<dyn Disk>)
            })
        };
        let disk = open().unwrap();
        assert_eq!(super::super::read_small(&*disk, "file", 100).unwrap(), b"some bytes");
        assert_eq!(disk.stat("none").unwrap(), None);
        assert_eq!(disk.open("none", Access::Read).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(disk.remove("file").unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        gate.set(true);
        let failed = open().unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut, "{failed}");
        // Nobody asks it anything more: neither another who opens it, nor who has it open.
        for _ in 0..100 {
            assert_eq!(open().unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert_eq!(disk.list("").unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        assert_eq!(gate.waiting.load(Ordering::SeqCst), 1);
        gate.set(false);
        let again = (0..500).find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            open().ok()
        });
        assert_eq!(again.unwrap().list("").unwrap().len(), 1, "it answers again");
        assert_eq!(disk.list("").unwrap().len(), 1);
        assert_eq!(patience.hanging.load(Ordering::SeqCst), 0);
    }
}
