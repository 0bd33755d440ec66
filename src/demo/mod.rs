//! The whole product on loopback, without installing anything: what the demo brings along to stand for the world.
//!
//! The robot under it is the real one and knows nothing of this layer. Read [`dns`] for the name server it writes to.

pub mod dns;
