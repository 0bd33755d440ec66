//! Checks of the primary and Internet targets.
