//! Rigs: real servers, started by a test on loopback or in a namespace, each with its own directory, ended with it.
//!
//! Where a server is not installed a test skips loudly; under `CI` it fails instead.
#![allow(dead_code)] // each test binary uses its own part of the rigs

pub mod asterisk;
pub mod baresip;
pub mod corpus;
pub mod crowd;
pub mod damage;
pub mod dns;
pub mod freeswitch;
pub mod hosts;
pub mod http;
pub mod kamailio;
pub mod mail;
pub mod mutate;
pub mod netns;
pub mod nspawn;
pub mod outside;
pub mod process;
pub mod robot;
pub mod scene;
pub mod sip;
pub mod sipp;
pub mod sites;
pub mod small;
pub mod sshd;
pub mod suite;
pub mod syncthing;
pub mod unit;
pub mod web;

#[allow(unused_imports)] // each test binary uses its own part of the rigs
pub use process::{Paced, Running, free_port, have, wait_for, wait_until};
