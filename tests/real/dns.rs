//! Real dns.
