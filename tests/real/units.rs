//! The files of `systemd/` installed on machines with a real systemd, as docs/systemd.md says, and what they do there.

mod backup;
mod driver;
mod guard;
mod machines;
mod package;
mod primary;
mod rig;
