//! The mboxlist database.
