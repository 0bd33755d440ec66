//! The engine against a small world in virtual time: tests are sentences about behaviour.

mod crashes;
mod data;
mod epochs;
mod evidence;
mod found;
mod model;
mod others;
mod passive;
mod people;
mod random;
mod sync;
mod takeovers;
mod world;
