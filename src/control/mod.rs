//! The robot's counter: HTTP with JSON over a unix socket, its reading half over TCP, and the client for both ends;
//! `agent` is the door between our own hosts.
//!
//! It knows nothing of the daemon: whoever answers implements [`Desk`]. Nothing here decides. Read `desk` for what
//! is asked, `ask` for how a body becomes a request, `door` for the limits of a connection, `client` for the CLI's
//! end. Paths and its field names are a contract with scripts.

pub mod agent;
mod ask;
pub mod client;
mod desk;
mod door;
mod routes;
mod socket;

#[cfg(test)]
mod tests;

pub use agent::{AgentDesk, AgentDoor, Orders};
pub use ask::{BODY_BYTES_MAX, REQUEST_NAMES};
pub use desk::{Desk, Preview, PreviewStep};
pub use door::{CONNECTION_BYTES_MAX, CONNECTION_TIME_MAX, CONNECTIONS_MAX};
pub use routes::ANSWER_TIME_MAX;
pub use socket::{ControlSocket, DoorError, Page};
