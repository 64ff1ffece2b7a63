//! Damage: nothing of it passes for data, and looking at it changes nothing.

use super::*;
