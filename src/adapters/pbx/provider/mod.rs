//! What providers themselves say of the trunks, whichever driver runs the PBX.
//!
//! [`Proved`] stands before a driver and adds this to what it tells; `options` asks a provider OPTIONS from this node's
//! address, `bindings` what it holds for a trunk's account, `own` knows this node's addresses, `ledger` what was heard
//! and when to ask again, `findings` what `check` says. None of it knows a driver's words.

mod bindings;
mod findings;
mod ledger;
mod options;
mod own;
mod proved;

pub use ledger::Accounts;
pub use own::Own;
pub use proved::Proved;
