//! RFC 2136 UPDATE with TSIG: moves records and keeps the epoch.
