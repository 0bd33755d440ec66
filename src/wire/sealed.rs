//! A text and the proof that somebody with our token wrote it for this purpose: HMAC-SHA-256 (RFC 2104, RFC 6234).
//!
//! Form: the text in one line, a line end, `hmac-sha256:` and 64 hexadecimal digits, a line end. What the text says,
//! how old it is and whether it was seen before is judged by whoever opens it: see `decision::beats`.

use aws_lc_rs::hmac;

/// Longest sealed text: a beat of a hundred trunks twice over. Longer ones are not even looked at.
pub const SEALED_BYTES_MAX: usize = 32 * 1024;

/// Before the digits; the name of another method would be another word.
const METHOD: &str = "hmac-sha256:";

/// Bytes of a seal.
const SEAL_BYTES: usize = 32;

/// What a sealed text is for. It is sealed with the text, so that a question is never taken for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A beat that asks for another.
    BeatQuestion,
    /// The beat that answers it.
    BeatAnswer,
    /// A beat in the working directory.
    BeatFile,
    /// Stop the PBX.
    Stop,
    /// Take such a stop back.
    Resume,
    /// What came of one of the two.
    OrderAnswer,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::BeatQuestion => "beat question",
            Self::BeatAnswer => "beat answer",
            Self::BeatFile => "beat file",
            Self::Stop => "stop",
            Self::Resume => "resume",
            Self::OrderAnswer => "order answer",
        }
    }
}

/// Why a sealed text is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSeal {
    /// Longer than [`SEALED_BYTES_MAX`].
    #[error("it is longer than {SEALED_BYTES_MAX} bytes")]
    TooLong,
    /// There is no text and seal.
    #[error("it bears no seal: it was not written by pbx-failover, or was cut short on its way")]
    NotSealed,
    /// The seal is another token's, another purpose's, or another text's.
    #[error("its seal is not ours: it was forged or changed on its way, or the two tokens differ")]
    Forged,
}

/// Seals a text of one line.
pub fn seal(text: &str, purpose: Purpose, token: &str) -> String {
    debug_assert!(!text.contains('\n'), "what is sealed is one line");
    let tag = hmac::sign(&key(token), &covered(text, purpose));
    let mut sealed = String::with_capacity(text.len() + METHOD.len() + 2 * SEAL_BYTES + 2);
    sealed.push_str(text);
    sealed.push('\n');
    sealed.push_str(METHOD);
    for byte in tag.as_ref() {
        sealed.push(digit(byte >> 4));
        sealed.push(digit(byte & 15));
    }
    sealed.push('\n');
    sealed
}

/// The text, when it was sealed with this token for this purpose. The seals are compared in constant time.
///
/// # Errors
/// [`BadSeal`].
pub fn open<'a>(sealed: &'a str, purpose: Purpose, token: &str) -> Result<&'a str, BadSeal> {
    if sealed.len() > SEALED_BYTES_MAX {
        return Err(BadSeal::TooLong);
    }
    let (text, rest) = sealed.split_once('\n').ok_or(BadSeal::NotSealed)?;
    let digits = rest.strip_suffix('\n').and_then(|line| line.strip_prefix(METHOD)).ok_or(BadSeal::NotSealed)?;
    let told = bytes(digits).ok_or(BadSeal::NotSealed)?;
    hmac::verify(&key(token), &covered(text, purpose), &told).map_err(|_| BadSeal::Forged)?;
    Ok(text)
}

fn key(token: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes())
}

/// What the seal covers. No purpose holds a line end, so that purpose and text cannot be divided otherwise.
fn covered(text: &str, purpose: Purpose) -> Vec<u8> {
    ["pbx-failover ", purpose.name(), "\n", text].concat().into_bytes()
}

fn digit(nibble: u8) -> char {
    char::from(b"0123456789abcdef"[usize::from(nibble & 15)])
}

/// Lower case only: each seal has one form.
fn bytes(digits: &str) -> Option<[u8; SEAL_BYTES]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let digits: &[u8; 2 * SEAL_BYTES] = digits.as_bytes().try_into().ok()?;
    let mut bytes = [0; SEAL_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "a token of the tests";
    const TEXT: &str = r#"{"protocol":1,"node":"pbx-a","sequence":7,"note":"ä"}"#;
    const PURPOSES: [Purpose; 6] = [
        Purpose::BeatQuestion,
        Purpose::BeatAnswer,
        Purpose::BeatFile,
        Purpose::Stop,
        Purpose::Resume,
        Purpose::OrderAnswer,
    ];

    #[test]
    fn a_sealed_text_opens_with_its_own_token_and_purpose_only() {
        for purpose in PURPOSES {
            let sealed = seal(TEXT, purpose, TOKEN);
            assert_eq!(open(&sealed, purpose, TOKEN), Ok(TEXT));
            assert_eq!(open(&sealed, purpose, "another token"), Err(BadSeal::Forged));
            for other in PURPOSES.into_iter().filter(|other| *other != purpose) {
                assert_eq!(open(&sealed, other, TOKEN), Err(BadSeal::Forged), "{purpose:?} as {other:?}");
            }
        }
    }

    #[test]
    fn the_seal_is_the_one_that_other_programs_make() {
        // printf 'pbx-failover beat file\n%s' '{"a":1}' | openssl dgst -sha256 -hmac key
        let sealed = "{\"a\":1}\nhmac-sha256:e1685ba6588d40a59545ee87dff59371ecb09ca46c897c9fb5a217a63c12ec3e\n";
        assert_eq!(seal("{\"a\":1}", Purpose::BeatFile, "key"), sealed);
    }

    #[test]
    fn what_has_no_seal_or_is_too_long_is_told_apart_from_a_forgery() {
        let sealed = seal(TEXT, Purpose::BeatFile, TOKEN);
        for cut in [0, 1, TEXT.len(), TEXT.len() + 1, sealed.len() - 2, sealed.len() - 1] {
            assert_eq!(open(&sealed[..cut], Purpose::BeatFile, TOKEN), Err(BadSeal::NotSealed), "{cut}");
        }
        assert_eq!(open(&sealed.to_uppercase(), Purpose::BeatFile, TOKEN), Err(BadSeal::NotSealed));
        let long = seal(&"x".repeat(SEALED_BYTES_MAX), Purpose::BeatFile, TOKEN);
        assert_eq!(open(&long, Purpose::BeatFile, TOKEN), Err(BadSeal::TooLong));
        let changed = sealed.replace("pbx-a", "pbx-b");
        assert_eq!(open(&changed, Purpose::BeatFile, TOKEN), Err(BadSeal::Forged));
    }

    #[test]
    fn no_mutation_of_a_sealed_text_opens() {
        let good = seal(TEXT, Purpose::BeatAnswer, TOKEN);
        let mut rng = fastrand::Rng::with_seed(0x5EA1);
        let (mut forged, mut unsealed) = (0_u32, 0_u32);
        for round in 0..100_000 {
            let mut bytes = good.clone().into_bytes();
            for _ in 0..=rng.usize(..3) {
                let place = rng.usize(..bytes.len().max(1));
                match rng.u8(..4) {
                    0 if place < bytes.len() => bytes[place] ^= 1 << rng.u8(..8),
                    1 => bytes.insert(place.min(bytes.len()), rng.u8(..)),
                    2 if place < bytes.len() => drop(bytes.remove(place)),
                    _ => bytes.truncate(place),
                }
            }
            let text = String::from_utf8_lossy(&bytes);
            if text == good {
                continue;
            }
            match open(&text, Purpose::BeatAnswer, TOKEN) {
                Err(BadSeal::Forged) => forged += 1,
                Err(BadSeal::NotSealed) => unsealed += 1,
                other => panic!("round {round}: {other:?}: {text}"),
            }
        }
        assert!(forged > 10_000 && unsealed > 10_000, "{forged} forged, {unsealed} without a seal");
    }
}
