//! What an administrator reads, and what happens to the service, when the zone's master fails: before the robot is
//! armed, during the claim, and after it. The adapters' own matrix is in tests/real.
