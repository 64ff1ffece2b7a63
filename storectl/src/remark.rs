//! What is said beside what was done or asked: nothing is wrong with it, and somebody may have meant or expected something else.

use crate::cli::Global;
use crate::render::notes;
use crate::socket::{self, Environment};
use proto::naming::quoted;
use proto::{Client, Code, Command, Reply, Request};

/// Says it, if there is anything to say beside what was answered.
pub fn add(global: &Global, environment: &Environment, request: &Request) {
    match request {
        Request::Change { command: Command::AclSet { identifier, rights, .. }, .. } => {
            nobody_yet(global, environment, identifier, rights);
        }
        Request::SnapshotList => not_listed(global, environment),
        _ => {}
    }
}

fn client(global: &Global, environment: &Environment) -> Option<Client> {
    socket::path(global, environment).ok().and_then(|path| socket::connect(&path, None, false).ok())
}

/// Says which places the list of snapshots has nothing of.
fn not_listed(global: &Global, environment: &Environment) {
    let Some(mut client) = client(global, environment) else { return };
    let Ok(Reply::Status(status)) = client.call(&Request::Status) else { return };
    for alarm in status.alarms.iter().filter(|alarm| alarm.name == "snapshot_place") {
        notes::note(&format!("not all of {} is listed: {}", alarm.subject, alarm.cause));
    }
}

/// Says that rights are those of nobody yet. They may well come before their user; a mistyped id gives nobody anything.
fn nobody_yet(global: &Global, environment: &Environment, identifier: &str, rights: &str) {
    let user = identifier.strip_prefix('-').unwrap_or(identifier);
    // Rights that are taken away are missed by nobody; `anyone`, `anonymous` and groups are no users.
    if rights.starts_with('-') || rights.is_empty() || user.contains(':') || ["anyone", "anonymous"].contains(&user) {
        return;
    }
    // Without an answer there is nothing to say.
    let Some(mut client) = client(global, environment) else { return };
    let missing = client.call(&Request::UserShow { user: user.to_owned() }).err().map(|e| e.failure().code);
    if missing == Some(Code::NoUser) {
        let add = format!("storectl user add {}", quoted(user));
        notes::note(&format!("there is no user {user} yet: the rights are there for whoever gets that id ({add})"));
    }
}
