//! Groups that are kept open for commands that are known to come.

use super::*;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;

/// Longer than any test takes: a group that is closed in it was closed because nobody else was to come.
const LONG: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(60);

struct Running(Arc<Store>, Vec<JoinHandle<()>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop_committers();
        self.1.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

fn running(group_wait: Duration) -> Running {
    let (store, _) = start_with(&SimDisk::new(), Options { group_wait, ..options() }, START).unwrap();
    let run = |store: Arc<Store>| std::thread::spawn(move || store.run_committer());
    let threads = (0..2).map(|_| run(store.clone())).collect();
    Running(store, threads)
}

fn submit(store: &Store, name: &str) -> Receiver<Answer> {
    let (tell, told) = channel();
    store.submit(add(name), Box::new(move |answer| drop(tell.send(answer))));
    told
}

#[test]
fn a_group_waits_for_those_who_are_known_to_come() {
    let running = running(LONG);
    let store = &running.0;
    let mut coming: Vec<Coming> = (0..8).map(|_| store.expect()).collect();
    let mut told = Vec::new();
    for n in 0..4 {
        if let Some(first) = told.first() {
            let first: &Receiver<Answer> = first;
            assert!(
                matches!(first.recv_timeout(Duration::from_millis(20)), Err(RecvTimeoutError::Timeout)),
                "{n} are few"
            );
        }
        told.push(submit(store, &format!("p{n}")));
        coming.pop();
    }
    let lsns: Vec<Lsn> = told.iter().map(|told| told.recv_timeout(PATIENCE).unwrap().unwrap().lsn).collect();
    assert_eq!(lsns.last().unwrap().0 - lsns[0].0, 3);
    assert_eq!(store.stats().group_max.load(Ordering::Relaxed), 4, "four are here, four are still to come: one group");

    // Who gives up is not waited for.
    let told = submit(store, "q");
    assert!(matches!(told.recv_timeout(Duration::from_millis(20)), Err(RecvTimeoutError::Timeout)));
    drop(coming);
    told.recv_timeout(PATIENCE).unwrap().unwrap();
}

#[test]
fn whoever_is_alone_waits_for_nobody() {
    let running = running(LONG);
    let store = &running.0;
    for n in 0..10 {
        let me = store.expect();
        let told = submit(store, &format!("p{n}"));
        drop(me);
        told.recv_timeout(PATIENCE).unwrap().unwrap();
        store.commit(add(&format!("c{n}"))).unwrap();
    }
}

#[test]
fn nobody_is_waited_for_longer_than_allowed() {
    let running = running(Duration::from_millis(1));
    let store = &running.0;
    let _standing = [store.expect(), store.expect()];
    for n in 0..20 {
        submit(store, &format!("p{n}")).recv_timeout(PATIENCE).unwrap().unwrap();
    }
}
