//! HOW: the plans as tables of steps, and the run of one plan.
//!
//! Nothing here knows why a plan was opened. [`table`] is the text to read first; [`run`] walks one table, from its
//! journal if need be.

pub mod intent;
pub mod run;
pub mod table;

pub use intent::{Configured, Fencing, Intent, UnsafeData};
pub use run::{Fact, Limits, Plan, Run, StepRun, Todo};
pub use table::{Looking, Patience, Row, Row as PlanRow, rows};
