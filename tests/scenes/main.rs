//! Scenes: a whole office with a real PBX on both hosts, the robot beside one and its agent beside the other, a provider
//! with the telephone network behind it, and phones that find their PBX by DNS. What a person would hear and read.
//!
//! `office` is what all scenes have. The network and the settings come from `lab::outside`, as those of the partition
//! matrix do.

#[path = "../lab/mod.rs"]
mod lab;

mod asterisk;
mod half_dead;
mod kamailio;
mod office;
mod troubles;
