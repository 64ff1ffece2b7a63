//! One table from verbs to requests: what is asked, how the answer is shown, what is asked back before.

mod objects;

use crate::cli::{
    BackupArgs, BatchArgs, CheckArgs, CompletionsArgs, ConfigCheckArgs, ConfigGetArgs, ConfigSetArgs, ConfigVerb,
    CyrusListArgs, Detach, DrainArgs, ExportMaildirArgs, ExportMboxArgs, ExportVerb, FreezeArgs, HealthArgs,
    ImportMaildirArgs, ImportMboxArgs, ImportVerb, JobsArgs, JobsVerb, LockBreakArgs, LockHoldArgs, LocksArgs,
    LocksVerb, LogDumpArgs, LogListArgs, LogVerb, MaintenanceVerb, MessageDeliverArgs, MessageVerb, QuotaVerb,
    ReadOnlyVerb, RecoverArgs, RestoreArgs, SnapshotVerb, UserVerb, Verb,
};
use crate::offline;
use crate::uids::{self, Uids};
use objects::{acl, mailbox, message, partition, quota, user};
use proto::{Code, Command, Errand, Failure, Request, Window, Work};
use verbs::{LogReset, Recover, RestoreDb, SnapshotInstall, Test};

/// What a verb comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// One request to the daemon and its answer.
    Ask(Ask),
    /// One request about messages of which ranges are to be looked up first.
    Pick(Ask, Vec<Uids>),
    /// A job that is begun, or followed, until it ends.
    Job(Ask),
    /// `status --watch`.
    Watch,
    /// `shutdown`.
    Shutdown {
        /// Without a last checkpoint.
        now: bool,
    },
    /// `drain`.
    Drain(DrainArgs),
    /// `locks hold`.
    Hold(LockHoldArgs),
    /// `freeze`.
    Freeze(FreezeArgs),
    /// `config get`.
    ConfigGet(ConfigGetArgs),
    /// `config set`.
    ConfigSet(ConfigSetArgs),
    /// `config check`.
    ConfigCheck(ConfigCheckArgs),
    /// `restart`.
    Restart,
    /// `health --wait`.
    WaitReady(std::time::Duration),
    /// `recover --report`: from the daemon, or from `storedd` while none runs.
    Report(Option<u32>),
    /// `recover` on a stopped store.
    Recover(Recover),
    /// `test` on a stopped store.
    Test(Test),
    /// `restore-db` on a stopped store.
    RestoreDb(RestoreDb),
    /// `log reset` on a stopped store.
    LogReset(LogReset),
    /// `snapshot install` on a stopped store.
    SnapshotInstall(SnapshotInstall),
    /// `log dump --follow`.
    Follow(LogDumpArgs),
    /// `storedd` with these words.
    Offline(Vec<std::ffi::OsString>),
    /// `batch`.
    Batch(BatchArgs),
    /// `import cyrus-list`.
    Import(CyrusListArgs),
    /// `message deliver`.
    Deliver(MessageDeliverArgs),
    /// `import maildir|mbox`, `export`.
    Transfer(Transfer),
    /// `backup`.
    Backup(BackupArgs),
    /// `restore`.
    Restore(RestoreArgs),
    /// `completions`.
    Completions(CompletionsArgs),
}

/// Mail on its way from files or to files.
#[derive(Debug, Clone, PartialEq)]
pub enum Transfer {
    /// `import maildir`.
    FromMaildir(ImportMaildirArgs),
    /// `import mbox`.
    FromMbox(ImportMboxArgs),
    /// `export maildir`.
    ToMaildir(ExportMaildirArgs),
    /// `export mbox`.
    ToMbox(ExportMboxArgs),
}

impl Transfer {
    /// What it is as a job.
    #[must_use]
    pub fn errand(&self) -> Errand {
        match self {
            Transfer::FromMaildir(_) => Errand::ImportMaildir,
            Transfer::FromMbox(_) => Errand::ImportMbox,
            Transfer::ToMaildir(_) => Errand::ExportMaildir,
            Transfer::ToMbox(_) => Errand::ExportMbox,
        }
    }

    /// Whether it goes on without this program.
    ///
    /// # Errors
    /// It is asked for, and cannot be.
    pub fn detach(&self) -> Result<bool, Failure> {
        match self {
            Transfer::FromMaildir(args) => args.detach.of(None),
            Transfer::FromMbox(args) => args.detach.of(Some(&args.file)),
            Transfer::ToMaildir(args) => args.detach.of(None),
            Transfer::ToMbox(args) => args.detach.of(Some(&args.file)),
        }
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// What is asked.
    pub request: Request,
    /// How the answer is shown.
    pub form: Form,
    /// Set for what cannot be taken back and was not consented to on the command line.
    pub question: Option<String>,
    /// True if the answer may rightly take longer than a minute.
    pub long: bool,
}

/// How an answer is shown where the answer alone does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Plain,
    /// Nothing to read: `health` without --json.
    Silent,
    /// `mailbox list --long`.
    Long,
    /// `log list`, with paths or names; `names`: nothing else.
    Segments {
        /// Paths instead of names.
        absolute: bool,
        /// Nothing but the name.
        names: bool,
    },
    /// The one element of a list, as an object.
    Single,
    /// `locks --why-stuck`.
    Stuck,
    /// `backup-db --verbose`.
    Steps,
}

impl Ask {
    fn new(request: Request) -> Ask {
        Ask { request, form: Form::Plain, question: None, long: false }
    }

    /// A request whose answer is shown as it is.
    #[must_use]
    pub fn of(request: Request) -> Ask {
        Ask::new(request)
    }

    fn form(self, form: Form) -> Ask {
        Ask { form, ..self }
    }

    fn long(self) -> Ask {
        Ask { long: true, ..self }
    }

    fn question(self, needed: bool, question: impl FnOnce() -> String) -> Ask {
        Ask { question: needed.then(question), ..self }
    }
}

/// What the verb comes to.
///
/// # Errors
/// A path that cannot be sent to the daemon.
pub fn plan(verb: Verb) -> Result<Plan, Failure> {
    let ask = match verb {
        Verb::Batch(args) => return Ok(Plan::Batch(args)),
        Verb::Import(ImportVerb::CyrusList(args)) => return Ok(Plan::Import(args)),
        Verb::Import(ImportVerb::Maildir(args)) => return Ok(Plan::Transfer(Transfer::FromMaildir(args))),
        Verb::Import(ImportVerb::Mbox(args)) => return Ok(Plan::Transfer(Transfer::FromMbox(args))),
        Verb::Export(ExportVerb::Maildir(args)) => return Ok(Plan::Transfer(Transfer::ToMaildir(args))),
        Verb::Export(ExportVerb::Mbox(args)) => return Ok(Plan::Transfer(Transfer::ToMbox(args))),
        Verb::Restore(args) => return Ok(Plan::Restore(args)),
        Verb::Backup(BackupArgs { complete: Some(dir), detach, .. }) => {
            let dir = absolute(&dir.to_string_lossy(), "storectl backup --complete /PATH")?;
            return Ok(job(Work::BackupComplete { dir }, detach, None, Form::Plain));
        }
        Verb::Backup(args) => return Ok(Plan::Backup(args)),
        Verb::Completions(args) => return Ok(Plan::Completions(args)),
        Verb::Shutdown(args) => return Ok(Plan::Shutdown { now: args.now }),
        Verb::Drain(args) => return Ok(Plan::Drain(args)),
        Verb::Freeze(args) => return Ok(Plan::Freeze(args)),
        Verb::Locks(LocksArgs { verb: Some(LocksVerb::Hold(args)), .. }) => return Ok(Plan::Hold(args)),
        Verb::Locks(LocksArgs { verb: Some(LocksVerb::Break(LockBreakArgs { id, yes })), .. }) => {
            let question = || format!("cut the connection of the holder of lease {id}?");
            Ask::new(Request::LockBreak { id }).question(!yes, question)
        }
        Verb::Locks(LocksArgs { verb: None, why_stuck }) => locks(why_stuck),
        Verb::ReadOnly(verb) => {
            let (on, reason) = match verb {
                ReadOnlyVerb::On(args) => (true, args.reason),
                ReadOnlyVerb::Off => (false, String::new()),
            };
            Ask::new(Request::ReadOnly { on, reason })
        }
        Verb::Restart => return Ok(Plan::Restart),
        Verb::Test(args) => return Ok(Plan::Test(args)),
        Verb::PrepareUpgrade(args) => return Ok(Plan::Offline(offline::words(&args))),
        Verb::Upgrade(args) => return Ok(Plan::Offline(offline::words(&args))),
        Verb::Downgrade(verb) => return Ok(Plan::Offline(offline::words(&verb))),
        Verb::Recover(RecoverArgs { report: true, last, .. }) => return Ok(Plan::Report(last)),
        Verb::Recover(args) => return Ok(Plan::Recover(args.run)),
        Verb::Status(args) if args.watch => return Ok(Plan::Watch),
        Verb::Status(args) if args.no_lock => return Ok(Plan::Offline(vec!["status".into()])),
        Verb::Status(_) => status(),
        Verb::Health(HealthArgs { wait: Some(wait) }) => return Ok(Plan::WaitReady(wait)),
        Verb::Health(HealthArgs { wait: None }) => Ask::new(Request::Health).form(Form::Silent),
        Verb::Stats => Ask::new(Request::Stats),
        Verb::Metrics => Ask::new(Request::Metrics),
        Verb::Maintenance(verb) => maintenance(verb),
        Verb::Quota(QuotaVerb::Recalc(a)) if a.detach.detach => {
            return Ok(job(Work::QuotaRecalc, a.detach, None, Form::Plain));
        }
        Verb::Checkpoint(a) if a.detach.detach => return Ok(job(Work::Checkpoint, a.detach, None, Form::Plain)),
        Verb::Checkpoint(_) => Ask::new(Request::Checkpoint).long(),
        Verb::Log(LogVerb::Reset(args)) => return Ok(Plan::LogReset(args)),
        Verb::Log(LogVerb::Dump(args)) if args.follow => return Ok(Plan::Follow(args)),
        Verb::Log(LogVerb::Dump(args)) => dump(args),
        Verb::Log(LogVerb::Verify) => Ask::new(Request::LogVerify).long(),
        Verb::Log(LogVerb::List(args)) => list(args),
        Verb::RestoreDb(args) => return Ok(Plan::RestoreDb(args)),
        Verb::Expire(a) => {
            return Ok(job(Work::Expire { dry_run: a.dry_run }, a.detach, None, Form::Plain));
        }
        Verb::Purge(a) => return Ok(job(Work::Purge { dry_run: a.dry_run }, a.detach, None, Form::Plain)),
        Verb::Reconstruct(a) => return Ok(job(Work::Reconstruct(a.asked()), a.detach, None, Form::Plain)),
        Verb::Check(a) => {
            let CheckArgs { mailboxes, partition, all: _, deep, jobs, detach } = a;
            let wanted = proto::Check { mailboxes, partition, deep, jobs };
            return Ok(job(Work::Check(wanted), detach, None, Form::Plain));
        }
        Verb::Peruser(detach) => return Ok(job(Work::Peruser, detach, None, Form::Plain)),
        Verb::User(UserVerb::Move(a)) => {
            return Ok(job(Work::UserMove { user: a.user, to: a.to }, a.detach, None, Form::Plain));
        }
        Verb::Drill(a) => return Ok(job(Work::Drill, a.detach, None, Form::Plain)),
        Verb::BackupDb(a) => {
            let dir = absolute(&a.dir.to_string_lossy(), "storectl backup-db /PATH")?;
            let form = if a.verbose { Form::Steps } else { Form::Plain };
            return Ok(job(Work::BackupDb { dir }, a.detach, None, form));
        }
        Verb::Snapshot(verb) => return Ok(snapshot(verb)),
        Verb::Jobs(JobsArgs { verb }) => match verb.unwrap_or(JobsVerb::List) {
            JobsVerb::List => Ask::new(Request::Jobs),
            JobsVerb::Show(a) => Ask::new(Request::JobShow { id: a.id }),
            JobsVerb::Cancel(a) => Ask::new(Request::JobCancel { id: a.id }).long(),
            JobsVerb::Follow(a) => return Ok(Plan::Job(Ask::new(Request::JobFollow { id: a.id }).long())),
        },
        Verb::User(verb) => user(verb),
        Verb::Mailbox(verb) => return Ok(mailbox(verb)),
        Verb::Message(MessageVerb::Deliver(args)) => {
            objects::check_flags(args.flags.split_ascii_whitespace())?;
            return Ok(Plan::Deliver(args));
        }
        Verb::Message(verb) => return message(verb),
        Verb::Acl(verb) => acl(verb),
        Verb::Subscribe(a) => change(Command::Subscribe { user: a.user, name: a.name }, a.dry.dry_run),
        Verb::Unsubscribe(a) => change(Command::Unsubscribe { user: a.user, name: a.name }, a.dry.dry_run),
        Verb::Subscriptions(a) if a.missing => Ask::new(Request::SubscriptionsMissing { user: a.user }),
        Verb::Subscriptions(a) => Ask::new(Request::Subscriptions { user: a.user }),
        Verb::Quota(verb) => quota(verb),
        Verb::Partition(verb) => partition(verb)?,
        Verb::Hashdir(a) => Ask::new(Request::Hashdir { user: a.user, absolute: a.absolute }),
        Verb::Config(ConfigVerb::Show(a)) => Ask::new(Request::ConfigShow { defaults: a.defaults }),
        Verb::Config(ConfigVerb::Reload(a)) => Ask::new(Request::ConfigReload { dry_run: a.dry_run }),
        Verb::Config(ConfigVerb::Get(a)) => return Ok(Plan::ConfigGet(a)),
        Verb::Config(ConfigVerb::Set(a)) => return Ok(Plan::ConfigSet(a)),
        Verb::Config(ConfigVerb::Check(a)) => return Ok(Plan::ConfigCheck(a)),
    };
    Ok(Plan::Ask(ask))
}

/// The request of `status`.
#[must_use]
pub fn status() -> Ask {
    Ask::new(Request::Status)
}

/// The request of `locks`; in words, or as tables.
#[must_use]
pub fn locks(why_stuck: bool) -> Ask {
    Ask::new(Request::Locks).form(if why_stuck { Form::Stuck } else { Form::Plain })
}

/// The request of a report, live.
#[must_use]
pub fn report(last: Option<u32>) -> Ask {
    let form = if last.is_some() { Form::Plain } else { Form::Single };
    Ask::new(Request::RecoverReport { last: last.unwrap_or(1) }).form(form)
}

/// The request of a single line of a batch.
///
/// # Errors
/// Verbs that are no request, and what nobody consented to.
pub fn line(verb: Verb) -> Result<Ask, Failure> {
    let refused = |what: &str, instead: &str| {
        Err(Failure::new(Code::Usage, format!("{what} cannot be a line of a batch")).with_hint(instead))
    };
    let ask = match plan(verb)? {
        Plan::Ask(ask) => ask,
        // A line has one answer.
        Plan::Job(Ask { request: Request::JobStart { work, .. }, form, question, long }) => {
            Ask { request: work.request(), form, question, long }
        }
        Plan::Job(_) => return refused("jobs follow", "write: jobs show ID"),
        Plan::Report(last) => report(last),
        Plan::Pick(..) => {
            return refused("a verb with a range of UIDs", "write the UIDs with commas between them");
        }
        Plan::Shutdown { now } => Ask::new(Request::Shutdown { now }),
        Plan::Watch => return refused("status --watch", "write: status"),
        Plan::WaitReady(_) => return refused("health --wait", "write: health"),
        Plan::ConfigGet(_) => return refused("config get", "write: config show"),
        Plan::ConfigSet(_) => return refused("config set", "run it by itself: storectl config set OPTION VALUE"),
        Plan::ConfigCheck(_) => return refused("config check", "run it by itself: storectl config check"),
        Plan::Drain(_) => return refused("drain", "run it by itself: storectl drain"),
        Plan::Hold(_) => {
            return refused("locks hold", "run the batch under it: storectl locks hold NAME -- storectl batch");
        }
        Plan::Freeze(_) => return refused("freeze", "run it by itself: storectl freeze"),
        Plan::Restart => return refused("restart", "run it by itself: storectl restart"),
        Plan::Recover(_) => return refused("recover", "run it on a stopped store: storectl recover"),
        Plan::RestoreDb(_) => return refused("restore-db", "run it on a stopped store: storectl restore-db BACKUP"),
        Plan::SnapshotInstall(_) => {
            return refused("snapshot install", "run it on a stopped store: storectl snapshot install ID");
        }
        Plan::LogReset(_) => return refused("log reset", "run it on a stopped store: storectl log reset"),
        Plan::Follow(_) => return refused("log dump --follow", "write: log dump"),
        Plan::Test(_) => return refused("test", "run it on a stopped store: storectl test"),
        Plan::Offline(words) => {
            let verb = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
            return refused(&verb, &format!("run it on a stopped store: storectl {verb}"));
        }
        Plan::Batch(_) => return refused("batch", "write the lines of the inner batch in its place"),
        Plan::Import(_) => return refused("import", "run it by itself: storectl import cyrus-list FILE"),
        Plan::Deliver(_) => {
            return refused("message deliver", "it takes its message from standard input: storectl message deliver");
        }
        Plan::Transfer(_) => return refused("import and export", "run it by itself: storectl import, storectl export"),
        Plan::Restore(_) => return refused("restore", "run it by itself: storectl restore"),
        Plan::Backup(_) => return refused("backup", "run it by itself: storectl backup"),
        Plan::Completions(_) => return refused("completions", "run it by itself: storectl completions SHELL"),
    };
    match ask.question {
        Some(question) => Err(Failure::new(Code::Usage, format!("nobody can be asked in a batch: {question}"))
            .with_hint("add --yes to the line, or --dry-run to see what it would do")),
        None => Ok(ask),
    }
}

/// A change of messages, whose command is made of their UIDs.
fn picked(wanted: Vec<Uids>, dry_run: bool, command: impl FnOnce(Vec<u32>) -> Command) -> Plan {
    match uids::plain(&wanted) {
        Some(uids) => Plan::Ask(change(command(uids), dry_run)),
        None => Plan::Pick(change(command(Vec::new()), dry_run), wanted),
    }
}

fn change(command: Command, dry_run: bool) -> Ask {
    Ask::new(Request::Change { command, dry_run })
}

fn maintenance(verb: MaintenanceVerb) -> Ask {
    let window = match verb {
        MaintenanceVerb::Start(a) => Window::Start { seconds: a.length.as_secs(), reason: a.reason },
        MaintenanceVerb::Stop => Window::Stop,
        MaintenanceVerb::Status => Window::Show,
    };
    Ask::new(Request::Maintenance { window })
}

fn list(args: LogListArgs) -> Ask {
    let form = Form::Segments { absolute: args.absolute, names: args.removable };
    Ask::new(Request::LogList { all: !args.removable }).form(form)
}

/// The request of `log dump`.
pub fn dump(args: LogDumpArgs) -> Ask {
    let LogDumpArgs { from, to, since, mailbox, user, follow: _ } = args;
    let since_us = since.map(|since| since.micros(jiff::Timestamp::now()));
    Ask::new(Request::LogDump { from, to, since_us, mailbox, user }).long()
}

fn snapshot(verb: SnapshotVerb) -> Plan {
    match verb {
        SnapshotVerb::Take(a) => job(Work::SnapshotTake { verify: a.verify }, a.detach, None, Form::Plain),
        SnapshotVerb::List => Plan::Ask(Ask::new(Request::SnapshotList).long()),
        SnapshotVerb::Verify(a) => job(Work::SnapshotVerify { id: a.id, all: a.all }, a.detach, None, Form::Plain),
        SnapshotVerb::Prune(a) => {
            let question = "remove the snapshots that are more than snapshot.keep wants?";
            job(Work::SnapshotPrune, a.detach, (!a.yes).then(|| question.to_owned()), Form::Plain)
        }
        SnapshotVerb::Delete(a) => {
            let question = format!("delete the snapshot {}?", a.id);
            Plan::Ask(Ask::new(Request::SnapshotDelete { id: a.id }).question(!a.yes, || question).long())
        }
        SnapshotVerb::Install(args) => Plan::SnapshotInstall(args),
    }
}

/// Work that runs as a job.
fn job(work: Work, Detach { detach }: Detach, question: Option<String>, form: Form) -> Plan {
    let ask = Ask { question, form, ..Ask::new(Request::JobStart { work, detach }).long() };
    if detach { Plan::Ask(ask) } else { Plan::Job(ask) }
}

/// The path as the daemon must get it: absolute, since its working directory is another.
fn absolute(path: &str, example: &str) -> Result<String, Failure> {
    let wrong = |why: String| Failure::new(Code::BadInput, why).with_hint(format!("give an absolute path: {example}"));
    let whole = std::path::absolute(path).map_err(|e| wrong(format!("{path:?} is not a path: {e}")))?;
    whole.into_os_string().into_string().map_err(|p| wrong(format!("{p:?} is not UTF-8")))
}
