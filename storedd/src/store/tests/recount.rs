//! Large quota roots are counted beside the commits, and what comes meanwhile is in the sum.

use super::mail::{PRIMARY, open_mail, text, user};
use super::*;
use crate::mail::Intake;
use crate::model::command::{Delivery, Target};
use crate::model::message::Flags;
use crate::model::rows::QuotaRow;
use crate::model::{LimitChange, QuotaRoot, Usage, quota::usage_of};
use crate::partition::PartitionId;
use std::sync::atomic::AtomicUsize;

fn set(root: &str, limit: LimitChange) -> Command {
    Command::QuotaSet { root: root.to_owned(), storage: limit, messages: LimitChange::Keep }
}

fn create(name: String) -> Command {
    Command::MailboxCreate { name, partition: None }
}

/// A message comes in; false if it is refused.
fn take(store: &Arc<Store>, n: usize, bytes: usize, to: &str) -> bool {
    let mut intake = Intake::new(store, PRIMARY);
    intake.add(&text(n, bytes)).unwrap();
    let (message, to) = (intake.finish().unwrap(), vec![Target { name: to.to_owned(), or: None }]);
    let (flags, keywords) = (Flags::NONE, Default::default());
    store.commit(Command::Deliver(Delivery { message, to, flags, keywords, internal_us: None, each: false })).is_ok()
}

fn recalc() -> Command {
    Command::QuotaRecalc { root: "shared".to_owned() }
}

/// What the row of a root says and what its mailboxes add up to.
fn both(store: &Store, root: &str) -> Option<(Usage, Usage)> {
    let (view, key) = (store.view(), QuotaRoot::parse(root).unwrap().key());
    let row = view.get(Table::Quotas, &key).unwrap()?;
    let counted = usage_of(&view, &key, usize::MAX).unwrap().unwrap();
    Some((QuotaRow::decode(&key, &row).unwrap().usage(), counted))
}

fn agree(store: &Store, root: &str) -> Usage {
    let (row, counted) = both(store, root).unwrap();
    assert_eq!(row, counted, "I9: {root}");
    row
}

/// More shared mailboxes than are counted at once, each with a message.
fn shared(store: &Arc<Store>) {
    store.partitions().prepare(PRIMARY, PartitionId([1; 16]), Micros(1)).unwrap();
    store.commit(Command::PartitionAdd { name: PRIMARY.to_owned(), id: [1; 16] }).unwrap();
    for n in 0..40 {
        let name = format!("shared/{}/{n}", n % 4);
        store.commit(create(name.clone())).unwrap();
        assert!(take(store, n, 100, &name));
    }
}

// row 117
#[test]
fn a_root_that_is_too_large_to_be_counted_at_once_is_counted_beside() {
    let machine = SimDisk::new();
    let store = open_mail(&machine).unwrap();
    shared(&store);
    let of_all = |store: &Store| agree(store, "shared").messages;
    // A mailbox that is to be a root has to be there.
    store.commit(create("shared".to_owned())).unwrap();
    assert!(matches!(store.commit_once(set("shared", LimitChange::To(1 << 30))), Err(CommitError::Uncounted(_))));
    store.commit(set("shared", LimitChange::To(1 << 30))).unwrap();
    assert_eq!(of_all(&store), 40);
    // A root below takes its part out, and gives it back.
    store.commit(create("shared/1".to_owned())).unwrap();
    store.commit(set("shared/1", LimitChange::To(1 << 20))).unwrap();
    assert_eq!((of_all(&store), agree(&store, "shared/1").messages), (30, 10));
    store.commit(recalc()).unwrap();
    store.commit(set("shared/1", LimitChange::Remove)).unwrap();
    assert_eq!((of_all(&store), both(&store, "shared/1")), (40, None));
    // One transaction that changes what it would count: refused, if it is too much; nothing is half done.
    let all = Command::Atomic(vec![create("shared/new".to_owned()), recalc()]);
    store.commit(all).unwrap();
    (0..60).for_each(|n| drop(store.commit(create(format!("shared/more/{n}"))).unwrap()));
    let all = Command::Atomic(vec![create("shared/newer".to_owned()), recalc()]);
    let Err(CommitError::Refused(why)) = store.commit(all) else { panic!("not refused") };
    assert!(why.message.contains("covers more than 80 mailboxes") && why.hint.unwrap().contains("quota set shared"));
    assert!(lock(&store.planner).recount.is_none(), "nothing is followed when nobody counts");
}

// rows 114, 117; I9: between the view that is counted and the command nobody waits for it.
#[test]
fn what_came_since_the_view_is_in_the_sum() {
    let machine = SimDisk::new();
    let store = open_mail(&machine).unwrap();
    shared(&store);
    store.commit(create("shared".to_owned())).unwrap();
    store.commit(user("joe")).unwrap();
    let key = QuotaRoot::parse("shared").unwrap().key();
    let done = |command| drop(store.commit(command).unwrap());
    let rename = |from: &str, to: &str| Command::MailboxRename { from: from.to_owned(), to: to.to_owned() };
    for begins in [true, false] {
        let followed = store.count_aside(&key).unwrap();
        // More, less, out of it, into it, about in it, and what counts elsewhere.
        assert!(take(&store, 1, 500, "shared/0/0") && take(&store, 2, 70, "user/joe/INBOX"));
        done(create("user/joe/Out".to_owned()));
        assert!(take(&store, 3, 90, "user/joe/Out"));
        done(rename("user/joe/Out", "shared/came"));
        done(Command::MailboxDelete { name: format!("shared/{}", if begins { "1/1" } else { "1/5" }) });
        done(rename("shared/2/2", "shared/2/moved"));
        done(rename("shared/came", "user/joe/Back"));
        assert!(take(&store, 4, 60, "user/joe/Back"));
        done(Command::MailboxDelete { name: "user/joe/Back".to_owned() });
        done(rename("shared/2/moved", "shared/2/2"));
        let last = if begins { set("shared", LimitChange::To(1 << 30)) } else { recalc() };
        store.commit_once(last).unwrap();
        drop(followed);
        agree(&store, "shared");
    }
    // A root that begins or ends below takes what it covers along: it is to be counted again.
    done(create("shared/3".to_owned()));
    for limit in [LimitChange::To(1 << 20), LimitChange::Remove] {
        let followed = store.count_aside(&key).unwrap();
        done(set("shared/3", limit));
        assert!(matches!(store.commit_once(recalc()), Err(CommitError::Uncounted(_))));
        drop(followed);
        done(recalc());
        agree(&store, "shared");
    }
}

// rows 114, 117; I9: whoever else changes what is counted, while it is counted.
#[test]
fn what_changes_while_a_root_is_counted_is_in_the_sum() {
    let machine = SimDisk::new();
    let store = open_mail(&machine).unwrap();
    shared(&store);
    store.commit(create("shared".to_owned())).unwrap();
    store.commit(user("joe")).unwrap();
    let working = AtomicUsize::new(3);
    std::thread::scope(|scope| {
        for worker in 0..3_usize {
            let (store, working) = (&store, &working);
            scope.spawn(move || {
                for n in 0..60 {
                    let name = format!("shared/{}/{}", n % 4, n % 40);
                    match (worker, n % 3) {
                        // It may have another name by now.
                        (0, _) => drop(take(store, n, 50 + n, &name)),
                        (1, 0) => drop(store.commit(create(format!("shared/{worker}/w{n}"))).unwrap()),
                        (1, 1) => drop(
                            store
                                .commit(Command::MailboxDelete { name: format!("shared/{worker}/w{}", n - 1) })
                                .unwrap(),
                        ),
                        (1, _) => assert!(take(store, n, 30, "shared")),
                        // A root that begins and ends below.
                        (_, 0) => drop(store.commit(set("shared/2/2", LimitChange::To(1 << 20))).unwrap()),
                        (_, 1) => drop(store.commit(set("shared/2/2", LimitChange::Remove)).unwrap()),
                        _ => drop(store.commit(Command::MailboxRename {
                            from: format!("shared/3/{}", 3 + 4 * (n / 12)),
                            to: format!("shared/r{n}"),
                        })),
                    }
                }
                working.fetch_sub(1, Ordering::Relaxed);
            });
        }
        let mut counted = 0;
        while working.load(Ordering::Relaxed) > 0 || counted < 6 {
            for command in [set("shared", LimitChange::To(1 << 30)), recalc(), set("shared", LimitChange::Remove)] {
                match store.commit(command) {
                    Ok(_) => counted += 1,
                    // Roots below come and go as fast as it is counted.
                    Err(CommitError::Failed(StoreError::Busy { .. })) => {}
                    Err(CommitError::Refused(why)) if why.kind == RefusalKind::NotFound => {}
                    Err(e) => panic!("{e}"),
                }
            }
        }
    });
    store.commit(set("shared", LimitChange::To(1 << 30))).unwrap();
    assert!(agree(&store, "shared").messages > 100);
    drop(store);
    let store = open_mail(&machine).unwrap();
    agree(&store, "shared");
}
