//! The kamailio rig.
