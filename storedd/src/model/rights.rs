//! Rights (RFC 4314).
/// Rights by identifier.
pub type Acl = std::collections::BTreeMap<String, String>;
