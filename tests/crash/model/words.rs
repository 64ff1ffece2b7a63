//! Names and rights, a second time: what may be one, and what comes of changes to them.

use super::Acl;
use storedd::model::command::RefusalKind;

/// All rights in their order; others follow by their number.
const ORDER: &str = "lrswipkxtecdan";
pub(super) const OWNER_RIGHTS: &str = "lrswipkxtea";

pub(super) fn owner_of(name: &str) -> Option<&str> {
    name.strip_prefix("user/")?.split('/').next()
}

pub(super) fn canonical(name: &str) -> Result<String, RefusalKind> {
    let parts: Vec<&str> = name.split('/').collect();
    let bad = |part: &&str| part.is_empty() || *part == "." || *part == ".." || part.contains(['*', '%']);
    let enough = match parts[0] {
        "user" => parts.len() >= 3,
        "shared" => true,
        _ => false,
    };
    if parts.iter().any(bad) || !enough || parts.len() > 32 || name.len() > 1000 {
        return Err(RefusalKind::BadInput);
    }
    let mut parts: Vec<String> = parts.into_iter().map(str::to_owned).collect();
    if parts[0] == "user" && parts[2].eq_ignore_ascii_case("inbox") {
        parts[2] = "INBOX".to_owned();
    }
    Ok(parts.join("/"))
}

pub(super) fn is_inbox(name: &str) -> bool {
    name.starts_with("user/") && name.split('/').nth(2) == Some("INBOX") && name.split('/').count() == 3
}

pub(super) fn is_below(name: &str, above: &str) -> bool {
    name.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// Letters, each once, in their order.
pub(super) fn ordered(letters: &str) -> String {
    let mut rest: Vec<char> = letters.chars().filter(|c| !ORDER.contains(*c)).collect();
    rest.sort_unstable();
    rest.dedup();
    ORDER.chars().filter(|c| letters.contains(*c)).chain(rest).collect()
}

pub(super) fn changed_rights(current: Option<&str>, request: &str) -> Result<String, RefusalKind> {
    let old = current.unwrap_or_default();
    let (sign, letters) = match request.chars().next() {
        Some(sign @ ('+' | '-')) => (sign, &request[1..]),
        _ => ('=', request),
    };
    if letters.chars().any(|c| !ORDER.contains(c)) {
        return Err(RefusalKind::BadInput);
    }
    let plain = |text: &str| ordered(&text.replace('c', "kx").replace('d', "te"));
    let (was, letters) = (plain(old), plain(letters));
    let new = match sign {
        '+' => ordered(&format!("{was}{letters}")),
        '-' => was.replace(|c| letters.contains(c), ""),
        _ => letters,
    };
    Ok(if current.is_some() && new == was { old.to_owned() } else { new })
}

/// Gives the entries of `user` to `to`.
pub(super) fn rename_entry(acl: &mut Acl, user: &str, to: &str) {
    for sign in ["", "-"] {
        if let Some(rights) = acl.remove(&format!("{sign}{user}")) {
            acl.insert(format!("{sign}{to}"), rights);
        }
    }
}

/// The owner's rights pass on to a new owner.
pub(super) fn pass_on(acl: &mut Acl, old: Option<&str>, new: Option<&str>) {
    let Some(new) = new.filter(|_| old != new) else { return };
    let had = old.and_then(|old| acl.remove(old)).unwrap_or_else(|| OWNER_RIGHTS.to_owned());
    let now = match acl.get(new) {
        Some(rights) => ordered(&format!("{rights}{had}")),
        None => had,
    };
    acl.insert(new.to_owned(), now);
}
