//! pbx-failover: turns on a backup PBX when the primary dies, and proves every step.
//!
//! This page is the map. A module imports only from lines below its own; `tests/tidy.rs` holds that.
//!
//! ```text
//!                      main
//!                       │
//!                      cli                speaks to people
//!                       │
//!                     demo                the product on loopback; nothing below knows of it
//!                       │
//!                     daemon              the one loop, the one clock
//!             ┌─────────┼─────────┐
//!         adapters   control    store     touch the world; siblings never import each other
//!             └─────────┼─────────┘
//!           wire      host      sip        formats of others; secrets, commands, TLS, clocks; SIP messages
//!                       │
//!                     config              YAML → values that cannot be wrong
//!                       │
//!                     ports               what the world must offer (traits)
//!                       │
//!             engine     primary          the whole robot, and the primary's side, without I/O
//!                  ┌────┴────┐
//!              decision   takeover        WHETHER / HOW; neither knows the other
//!                  │  data  │            WHAT the working directory is worth; knows neither
//!                  └────┬────┘
//!                     units               words
//! ```
//!
//! `wire` imports nothing, and only adapters and control read through it.
//! In it, and from `units` to `engine`, there is no socket, file, process or clock: an event and the time go in, records and
//! requests come out. So each decision can be tested in virtual time, and "why" is always the inputs of one function.
//!
//! Where to start reading:
//!
//! 1. [`engine::table`]: the states, each transition with its reason.
//! 2. [`decision::verdict`]: when the primary counts as dead.
//! 3. [`takeover::table`]: the steps of each plan.
//! 4. [`primary`]: what the primary's PBX may do.
//! 5. [`daemon`]: how all that meets the world.
//!
//! Words: a *check* is one probe of the primary, the *epoch* the number that names who may serve, a *plan* the steps of
//! a takeover or failback, *armed* whether a takeover could happen now. `docs/architecture.md` has what was decided and
//! why.

pub mod adapters; // checks, DNS, PBX drivers, messages: one folder for each port
pub mod cli; // the command line: asks, shows, follows
pub mod config; // failover.yaml, each mistake with its line and fix
pub mod control; // HTTP over the unix socket, its reading half over TCP, the client
pub mod daemon; // the loop, its tasks, start and end
pub mod data; // the working directory without I/O: names, patterns, classes, lists of files
pub mod decision; // fall and rise, Internet quorum, verdict, stall guard
pub mod demo; // what the demo brings along instead of the world: a name server on loopback
pub mod engine; // the state table, the epoch's rules, what a person may ask
pub mod host; // what this machine offers to adapters
pub mod ports; // traits: Probe, EpochStore, Names, Pbx, Courier and those that come later
pub mod primary; // the primary's side without I/O: may its PBX start, may it go on
pub mod sip; // reads, writes and understands SIP messages
pub mod store; // SQLite on its own thread: state, journal, history, queue
pub mod takeover; // plans as tables of steps, and the run of one
pub mod units; // states, verdicts, plans, records, messages: the words of all the rest
pub mod wire; // bytes ⇄ values: formats that other programs write
