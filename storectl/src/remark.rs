//! What is said beside a change that was done: nothing is wrong with it, and somebody may have meant something else.

use crate::cli::Global;
use crate::render::notes;
use crate::socket::{self, Environment};
use proto::naming::quoted;
use proto::{Code, Command, Request};

/// Says that rights are those of nobody yet. They may well come before their user; a mistyped id gives nobody anything.
pub fn add(global: &Global, environment: &Environment, request: &Request) {
    let Request::Change { command: Command::AclSet { identifier, rights, .. }, .. } = request else { return };
    let user = identifier.strip_prefix('-').unwrap_or(identifier);
    // Rights that are taken away are missed by nobody; `anyone`, `anonymous` and groups are no users.
    if rights.starts_with('-') || rights.is_empty() || user.contains(':') || ["anyone", "anonymous"].contains(&user) {
        return;
    }
    let asked = socket::path(global, environment).ok().and_then(|path| socket::connect(&path, None, false).ok());
    // Without an answer there is nothing to say.
    let Some(mut client) = asked else { return };
    let missing = client.call(&Request::UserShow { user: user.to_owned() }).err().map(|e| e.failure().code);
    if missing == Some(Code::NoUser) {
        let add = format!("storectl user add {}", quoted(user));
        notes::note(&format!("there is no user {user} yet: the rights are there for whoever gets that id ({add})"));
    }
}
