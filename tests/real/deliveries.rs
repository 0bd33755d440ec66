//! Real deliveries.
