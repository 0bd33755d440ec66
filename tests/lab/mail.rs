//! The mail rig.
