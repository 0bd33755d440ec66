//! `failover.yaml` → values that cannot be wrong.
//!
//! One table, `keys`, says what each key wants, means and defaults to; the loader, the JSON schema and the tests
//! all read it. The way of a file: `tree` (YAML → positions) → `walk` (unknown keys, types, ranges) → `build`
//! (what only the whole can tell) → [`model`]. Each stage collects remarks; nothing stops at the first.
//! Nothing here talks to the network. Read `load` next.

pub mod asterisk;
mod build;
mod compare;
mod cursor;
mod duration;
pub mod failback;
mod freeswitch;
mod hints;
mod kamailio;
mod keys;
mod load;
pub mod model;
mod outside;
pub mod partners;
mod remark;
mod schema;
mod shape;
pub mod sync;
mod template;
mod texts;
pub mod tree;
mod trunk;
mod walk;

pub use asterisk::{AmiCover, AmiPlace, Asterisk, WhenRunning};
pub use compare::{digest_of_check, digests, restart_needed};
pub use failback::ReturnTo;
pub use freeswitch::*;
pub use kamailio::*;
pub use load::{CONFIG_BYTES_MAX, Files, Loaded, Loading, Surroundings, load, parse};
pub use model::*;
pub use partners::*;
pub use remark::{Refused, Remark};
pub use schema::schema;
pub use sync::{Dump, MaxAge, Sync, SyncFence, Syncthing};
pub use trunk::*;
