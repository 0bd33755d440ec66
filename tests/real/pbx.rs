//! Real pbx.
