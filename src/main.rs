//! The program's door: hands the command line to `cli`.

fn main() {}
