//! The epoch store `local`: a file on this node.
