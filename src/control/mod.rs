//! HTTP with JSON over the unix socket.
