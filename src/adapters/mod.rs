//! What touches the world. Siblings never import each other; what they share lies in [`crate::host`] and
//! [`crate::sip`].

pub mod checks;
pub mod courier;
pub mod dns;
pub mod epoch_local;
pub mod pbx;
pub mod peer;
