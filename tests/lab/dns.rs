//! The dns rig.
