//! SIP: messages and the client that asks OPTIONS.
