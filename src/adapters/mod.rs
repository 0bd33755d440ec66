//! What touches the world. Siblings never import each other; what they share lies in [`crate::host`] and
//! [`crate::sip`].

pub mod beat_file;
pub mod checks;
pub mod courier;
pub mod data;
pub mod dns;
pub mod epoch_local;
pub mod fence;
pub mod inspect;
pub mod pbx;
pub mod peer;
pub mod rsync;
pub mod sync;
pub mod witness;
