//! Providers that are known by a name: SRV with two servers, of which the first is dead.

use super::*;
