//! The web rig.
