//! Damages messages of a binary protocol, in a way that replays from the generator's seed. Text is for `mutate`.

/// The largest message that is made.
const BYTES_MAX: usize = 60_000;

/// Damages these bytes once: at least one stays.
pub fn damage(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    let at = random.usize(..bytes.len());
    match random.usize(..6) {
        0 => bytes[at] ^= 1 << random.usize(..8),
        1 => bytes[at] = random.u8(..),
        2 => bytes.truncate(at.max(1)),
        // A pointer in a name (RFC 1035 §4.1.4).
        3 => bytes.insert(at, 0xc0),
        4 => bytes.extend_from_within(at..),
        _ if bytes.len() > 1 => drop(bytes.remove(at)),
        _ => {}
    }
    bytes.truncate(BYTES_MAX);
}
