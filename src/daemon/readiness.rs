//! Proves readiness.
