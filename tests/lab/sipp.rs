//! The sipp rig.
