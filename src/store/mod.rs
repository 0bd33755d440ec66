//! SQLite: state, journal, history, check results, queue.
