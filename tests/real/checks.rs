//! Real checks.
