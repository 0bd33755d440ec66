//! Real epoch.
