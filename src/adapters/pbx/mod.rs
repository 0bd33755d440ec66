//! The PBX drivers.
