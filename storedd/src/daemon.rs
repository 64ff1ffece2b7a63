//! Start, signals, reload, systemd.
