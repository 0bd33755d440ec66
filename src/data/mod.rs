//! WHAT the working directory is worth, without touching it: names, patterns, classes, lists of files.
//!
//! The adapter `adapters/data` reads the disk and brings what it saw here; what follows from it is decided here. Paths
//! are bytes, relative to their working directory and without a leading `/`: a file name need not be UTF-8.

pub mod class;
pub mod content;
pub mod dump;
pub mod family;
pub mod gate;
pub mod good;
pub mod ledger;
pub mod manifest;
pub mod names;
pub mod path;
pub mod pattern;
pub mod snapshot;
pub mod survey;
pub mod told;
pub mod vouch;

pub use class::{Class, Classes};
pub use manifest::Line;
pub use names::{Foreign, Tool, foreign, original};
pub use path::{compare, shown, unshown};
pub use pattern::Pattern;
pub use survey::{Fault, Few, Kept, Place, Survey};
