//! Tests against real servers; the rigs lie in `tests/lab`.

#[path = "../lab/mod.rs"]
mod lab;

mod checks;
mod deliveries;
mod dns;
mod epoch;
mod fence;
mod home;
mod pbx;
mod registrars;
mod units;
mod witness;
mod zone;
