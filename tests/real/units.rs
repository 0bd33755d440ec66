//! The files of `systemd/` installed on machines with a real systemd, as docs/systemd.md says, and what they do there.

mod asterisk;
mod backup;
mod driver;
mod guard;
mod kamailio_page;
mod machines;
mod package;
mod pages;
mod primary;
mod rig;
