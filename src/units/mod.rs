//! The words of the product as types: what every other layer speaks in.
//!
//! Nothing here decides, waits, reads a clock or touches the world. Read `verdict` and `plan` next, then
//! [`crate::decision`] and [`crate::takeover`].

pub mod beat;
pub mod data;
pub mod delivery;
pub mod epoch;
pub mod finding;
pub mod journal;
pub mod ledger;
pub mod names;
pub mod node;
pub mod operator;
pub mod passive;
pub mod pbx;
pub mod plan;
pub mod policy;
pub mod probe;
pub mod snapshot;
pub mod sync;
pub mod time;
pub mod tree;
pub mod verdict;
pub mod wording;

pub use beat::{Beat, Condition, Duty, Guarded, Heard, PeerReading, Sees, StopOrder};
pub use data::DataLook;
pub use delivery::{Delivery, DeliveryOutcome, EventName, Target};
pub use epoch::{Advance, EpochRead, EpochRecord, EpochSeen};
pub use node::{NodeName, Side};
pub use passive::{Look, Meant, PassiveLook, Sign};
pub use pbx::{ForeignBinding, PbxStatus, Serving, TrunkKind, TrunkState, TrunkStatus};
pub use plan::{Mode, PlanId, PlanKind, Proof, Step, StepOutcome, StepState};
pub use probe::{CheckKind, CheckName, ProbeAnswer, ProbeResult, Sighting};
pub use sync::{SyncLook, SyncShould, Whose};
pub use time::Now;
pub use verdict::{State, Verdict};
