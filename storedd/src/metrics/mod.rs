//! Numbers for Prometheus: how they are written ([`text`]), and the two ways in which they leave without a client: a
//! listener for `GET /metrics` ([`listen`]) and a file for node_exporter ([`textfile`]). Which numbers there are says
//! `service/exposition.rs`.

pub mod listen;
pub mod text;
pub mod textfile;
