//! Breaks datagrams in a way that can be repeated: the same seeds and the same round give the same bytes.
//!
//! It knows what SIP readers stumble over (lines, numbers, quotes, floods), not what SIP means. `corpus` has seeds.

/// The largest datagram that is made: what fits into UDP.
pub const MUTANT_BYTES_MAX: usize = 65_507;

/// Pieces that readers stumble over.
const PIECES: [&[u8]; 24] = [
    b"\r\n",
    b"\r\n ",
    b"\r\n\t\r\n ",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b",",
    b";",
    b";;=",
    b"\"",
    b"\\\"",
    b"\\",
    b"\0",
    b"\xff\xfe",
    b"\xc3\x28",
    b"<[:",
    b">",
    b"%00",
    b"%",
    b"*",
    b"l: 65535\r\n",
    b"\r\nContent-Length: 4294967297\r\n",
    b"@[::ffff:",
    b":::",
];

/// Numbers at and beyond the edges of what readers keep them in.
const NUMBERS: [&[u8]; 10] = [
    b"0",
    b"-1",
    b"00000000000000000001",
    b"255",
    b"256",
    b"65536",
    b"2147483648",
    b"4294967296",
    b"18446744073709551616",
    b"99999999999999999999999999999999999999999999999999",
];

/// A generator that says the same on every machine.
struct Dice(fastrand::Rng);

impl Dice {
    /// From 0 to `sides` - 1; 0 for none.
    fn roll(&mut self, sides: usize) -> usize {
        let sides = u32::try_from(sides).expect("datagrams are small").max(1);
        usize::try_from(self.0.u32(..sides)).expect("less than sides")
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.roll(from.len())]
    }
}

/// Makes broken datagrams out of good ones.
pub struct Mutator {
    seeds: Vec<Vec<u8>>,
    bytes: Vec<u8>,
    spare: Vec<u8>,
}

impl Mutator {
    /// Takes what it breaks; the order of the seeds counts.
    pub fn new(seeds: Vec<Vec<u8>>) -> Self {
        assert!(!seeds.is_empty(), "no seeds");
        Self { seeds, bytes: Vec::new(), spare: Vec::new() }
    }

    /// The datagram of this round: one seed, changed one to five times.
    pub fn round(&mut self, round: u64) -> &[u8] {
        let mut dice = Dice(fastrand::Rng::with_seed(round));
        let seed = dice.roll(self.seeds.len());
        self.bytes.clear();
        self.bytes.extend_from_slice(&self.seeds[seed]);
        for _ in 0..=dice.roll(5) {
            self.change(&mut dice);
        }
        self.bytes.truncate(MUTANT_BYTES_MAX);
        &self.bytes
    }

    fn change(&mut self, dice: &mut Dice) {
        let at = dice.roll(self.bytes.len());
        let end = (at + dice.roll(60)).min(self.bytes.len());
        match dice.roll(14) {
            0 => self.bytes.truncate(at),
            1 | 2 if at < end => self.bytes[at] ^= 1 << dice.roll(8),
            3 if at < end => self.bytes[at] = u8::try_from(dice.roll(256)).expect("a byte"),
            4 => drop(self.bytes.drain(at..end)),
            5 => self.bytes[at..end].reverse(),
            6 => self.bytes[at..end].fill(0),
            7 => self.number(at, dice),
            8 => self.splice(at, end, dice),
            9 | 10 => self.repeat(at, end, dice),
            11 => {
                let (start, end) = self.line(at);
                self.repeat(start, end, dice);
            }
            12 => {
                let (start, end) = self.line(at);
                drop(self.bytes.drain(start..end));
            }
            _ => self.insert(at, dice.pick(&PIECES)),
        }
    }

    fn insert(&mut self, at: usize, piece: &[u8]) {
        self.spare.clear();
        self.spare.extend_from_slice(&self.bytes[at..]);
        self.bytes.truncate(at);
        self.bytes.extend_from_slice(piece);
        self.bytes.extend_from_slice(&self.spare);
    }

    /// Another number in the place of the next one.
    fn number(&mut self, at: usize, dice: &mut Dice) {
        let Some(start) = self.bytes[at..].iter().position(u8::is_ascii_digit).map(|found| at + found) else { return };
        let digits = self.bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        drop(self.bytes.drain(start..start + digits));
        self.insert(start, dice.pick(&NUMBERS));
    }

    /// The end of another seed in the place of a piece, or of all the rest.
    fn splice(&mut self, at: usize, end: usize, dice: &mut Dice) {
        let other = dice.roll(self.seeds.len());
        let from = dice.roll(self.seeds[other].len());
        self.spare.clear();
        if dice.roll(2) == 0 {
            self.spare.extend_from_slice(&self.bytes[end..]);
        }
        self.bytes.truncate(at);
        self.bytes.extend_from_slice(&self.seeds[other][from..]);
        self.bytes.extend_from_slice(&self.spare);
    }

    /// Many times the same: what is quadratic shows. Floods are rare, because they cost the most.
    fn repeat(&mut self, start: usize, end: usize, dice: &mut Dice) {
        let times = if dice.roll(400) == 0 { 3000 } else { dice.roll(12) };
        let most = MUTANT_BYTES_MAX.saturating_sub(self.bytes.len()) / (end - start).max(1);
        self.spare.clear();
        self.spare.extend_from_slice(&self.bytes[end..]);
        self.bytes.truncate(end);
        for _ in 0..times.min(most) {
            self.bytes.extend_from_within(start..end);
        }
        self.bytes.extend_from_slice(&self.spare);
    }

    /// The line around `at`, its end included.
    fn line(&self, at: usize) -> (usize, usize) {
        let start = self.bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |found| found + 1);
        let rest = self.bytes[at..].iter().position(|&byte| byte == b'\n');
        (start, rest.map_or(self.bytes.len(), |found| at + found + 1))
    }
}
