//! The driver `builtin`: a survival PBX inside the robot, for a backup host that has no other.
//!
//! [`accounts`] reads whom it serves from the working directory.

pub mod accounts;
