//! Digest authentication (RFC 7616, RFC 8760), both sides of it, over the text as it was sent.
//!
//! What stands between the quotes is hashed as it stands there: a `uri` or `nc` that is parsed and printed again is
//! another text, and its digest another digest. Nonces are the business of whoever challenges.

use std::fmt::Write as _;

use aws_lc_rs::constant_time;
use aws_lc_rs::digest::{SHA256, SHA512_256, digest};
use md5::{Digest as _, Md5};

/// More parameters than any header has.
const PARAMETERS_MAX: usize = 32;

/// A hash that RFC 7616 and RFC 8760 name for SIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// What nearly every phone knows (RFC 2617).
    Md5,
    /// RFC 8760.
    Sha256,
    /// RFC 8760, written SHA-512-256: SHA-512 with its own start and cut to 256 bits.
    Sha512_256,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Md5, Self::Sha256, Self::Sha512_256];

    /// As it stands in a header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    /// The algorithm of this name, in any case.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| name.eq_ignore_ascii_case(algorithm.name()))
    }

    /// How many hexadecimal digits its digests have.
    pub fn digits(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha256 | Self::Sha512_256 => 64,
        }
    }

    /// The algorithm of a header; an absent one means MD5 (RFC 7616 §3.3).
    fn read(name: Option<&[u8]>) -> Option<(Self, Variant)> {
        let Some(name) = name else { return Some((Self::Md5, Variant::Plain)) };
        let name = std::str::from_utf8(name).ok()?;
        let (hash, session) = name.split_at_checked(name.len().saturating_sub("-sess".len()))?;
        if session.eq_ignore_ascii_case("-sess") {
            return Some((Self::of(hash)?, Variant::Session));
        }
        Some((Self::of(name)?, Variant::Plain))
    }

    /// H(parts joined by `:`), in lower-case hex.
    fn hash(self, parts: &[&[u8]]) -> String {
        let text = parts.join(&b':');
        match self {
            Self::Md5 => hex(&Md5::digest(&text)),
            Self::Sha256 => hex(digest(&SHA256, &text).as_ref()),
            Self::Sha512_256 => hex(digest(&SHA512_256, &text).as_ref()),
        }
    }

    /// H(A1): what stands for a password (RFC 7616 §3.4.2); as secret as the password itself.
    pub fn ha1(self, username: &[u8], realm: &[u8], password: &[u8]) -> String {
        self.hash(&[username, realm, password])
    }
}

/// How A1 is made (RFC 7616 §3.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Plain,
    /// `-sess`: hashed once more with both nonces.
    Session,
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 0xf)]));
        text
    })
}

/// The parameters of a header value, each with its text as sent, without the quotes around it.
struct Parameters<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Parameters<'a> {
    /// `None` when it is another scheme, or not to be read, or says something twice.
    fn read(value: &'a [u8]) -> Option<Self> {
        let (scheme, mut rest) = value.trim_ascii().split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"Digest") || !rest.first().is_some_and(u8::is_ascii_whitespace) {
            return None;
        }
        let mut found: Vec<(&[u8], &[u8])> = Vec::with_capacity(12);
        loop {
            rest = rest.trim_ascii_start();
            if rest.is_empty() {
                return Some(Self(found));
            }
            let equals = rest.iter().position(|&b| b == b'=')?;
            let name = rest[..equals].trim_ascii_end();
            rest = rest[equals + 1..].trim_ascii_start();
            let (text, after) = if let Some(quoted) = rest.strip_prefix(b"\"") {
                let end = quoted_end(quoted)?;
                (&quoted[..end], &quoted[end + 1..])
            } else {
                let end = rest.iter().position(|&b| b == b',').unwrap_or(rest.len());
                (rest[..end].trim_ascii_end(), &rest[end..])
            };
            let twice = found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
            if name.is_empty() || twice || found.len() == PARAMETERS_MAX {
                return None;
            }
            found.push((name, text));
            rest = after.trim_ascii_start();
            match rest.split_first() {
                None => return Some(Self(found)),
                Some((b',', after)) => rest = after,
                Some(_) => return None,
            }
        }
    }

    fn text(&self, name: &str) -> Option<&'a [u8]> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes())).map(|(_, text)| *text)
    }

    fn owned(&self, name: &str) -> Option<String> {
        String::from_utf8(self.text(name)?.to_vec()).ok()
    }
}

/// Where the closing quote stands; a backslash takes the next byte along (RFC 3261 §25.1).
fn quoted_end(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// What a client answered to a challenge: the value of `Authorization`.
#[derive(Debug)]
pub struct Credentials<'a> {
    /// The user name, as sent.
    pub username: &'a [u8],
    /// The realm, as sent.
    pub realm: &'a [u8],
    /// The nonce, as sent.
    pub nonce: &'a [u8],
    /// The algorithm; an absent one is MD5.
    pub algorithm: Algorithm,
    /// How often this nonce was used, this time included; `None` without `qop` (RFC 2069), where it counts as once.
    pub count: Option<u32>,
    variant: Variant,
    uri: &'a [u8],
    response: &'a [u8],
    protection: Option<Protection<'a>>,
}

/// `qop` and what comes with it.
#[derive(Debug)]
struct Protection<'a> {
    qop: &'a [u8],
    count: &'a [u8],
    cnonce: &'a [u8],
}

impl<'a> Credentials<'a> {
    /// Reads a header value; `None` when it is no digest that we can check.
    pub fn read(value: &'a [u8]) -> Option<Self> {
        let given = Parameters::read(value)?;
        let protection = match given.text("qop") {
            None => None,
            Some(qop) if qop.eq_ignore_ascii_case(b"auth") => {
                Some(Protection { qop, count: given.text("nc")?, cnonce: given.text("cnonce")? })
            }
            Some(_) => return None,
        };
        let count = match &protection {
            None => None,
            // RFC 7616 §3.4: eight hex digits.
            Some(Protection { count, .. }) if count.len() == 8 => {
                Some(u32::from_str_radix(std::str::from_utf8(count).ok()?, 16).ok()?)
            }
            Some(_) => return None,
        };
        let (algorithm, variant) = Algorithm::read(given.text("algorithm"))?;
        Some(Self {
            username: given.text("username")?,
            realm: given.text("realm")?,
            nonce: given.text("nonce")?,
            algorithm,
            variant,
            count,
            uri: given.text("uri")?,
            response: given.text("response")?,
            protection,
        })
    }

    /// Whether who sent `method` with this knows the password behind `ha1`. Takes the same time for every wrong answer.
    pub fn prove(&self, method: &[u8], ha1: &str) -> bool {
        let asked = Asked { algorithm: self.algorithm, variant: self.variant, nonce: self.nonce };
        let expected = asked.answer(ha1, method, self.uri, self.protection.as_ref());
        let response = self.response.to_ascii_lowercase();
        constant_time::verify_slices_are_equal(expected.as_bytes(), &response).is_ok()
    }
}

/// What a challenge asks for.
struct Asked<'a> {
    algorithm: Algorithm,
    variant: Variant,
    nonce: &'a [u8],
}

impl Asked<'_> {
    /// RFC 7616 §3.4.1; without `qop` RFC 2069.
    fn answer(&self, ha1: &str, method: &[u8], uri: &[u8], protection: Option<&Protection<'_>>) -> String {
        let Self { algorithm, variant, nonce } = self;
        let cnonce = protection.map_or(&b""[..], |protection| protection.cnonce);
        let ha1 = match variant {
            Variant::Plain => ha1.to_owned(),
            Variant::Session => algorithm.hash(&[ha1.as_bytes(), nonce, cnonce]),
        };
        let ha1 = ha1.as_bytes();
        let ha2 = algorithm.hash(&[method, uri]);
        match protection {
            None => algorithm.hash(&[ha1, nonce, ha2.as_bytes()]),
            Some(Protection { qop, count, cnonce }) => {
                algorithm.hash(&[ha1, nonce, count, cnonce, qop, ha2.as_bytes()])
            }
        }
    }
}

/// A server's question: the value of `WWW-Authenticate` or `Proxy-Authenticate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The protection space; the text between the quotes.
    pub realm: String,
    /// The nonce.
    pub nonce: String,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Whether only the nonce is too old, and the password was right.
    pub stale: bool,
    variant: Variant,
    opaque: Option<String>,
    protects: bool,
}

impl Challenge {
    /// Reads a header value; `None` when we cannot answer it (another scheme, another algorithm, `auth-int` alone).
    pub fn read(value: &[u8]) -> Option<Self> {
        let given = Parameters::read(value)?;
        let protects = match given.text("qop") {
            None => false,
            Some(offered) => {
                let auth = |qop: &[u8]| qop.trim_ascii().eq_ignore_ascii_case(b"auth");
                offered.split(|&b| b == b',').any(auth).then_some(true)?
            }
        };
        let (algorithm, variant) = Algorithm::read(given.text("algorithm"))?;
        Some(Self {
            realm: given.owned("realm")?,
            nonce: given.owned("nonce")?,
            algorithm,
            variant,
            stale: given.text("stale").is_some_and(|stale| stale.eq_ignore_ascii_case(b"true")),
            opaque: given.owned("opaque"),
            protects,
        })
    }

    /// The header value that answers it, the `count`th time with this nonce.
    ///
    /// `cnonce` is new each time. A user name with a quote in it is escaped, and hashed as it is escaped.
    pub fn answer(&self, login: &Login<'_>, method: &str, uri: &str, count: u32, cnonce: &str) -> String {
        let Self { realm, nonce, algorithm, variant, opaque, protects, .. } = self;
        let username = login.username.replace('\\', "\\\\").replace('"', "\\\"");
        let count = format!("{count:08x}");
        let protection =
            protects.then_some(Protection { qop: b"auth", count: count.as_bytes(), cnonce: cnonce.as_bytes() });
        let ha1 = match login.key {
            Key::Password(password) => algorithm.ha1(username.as_bytes(), realm.as_bytes(), password.as_bytes()),
            Key::Ha1(ha1) => ha1.to_owned(),
        };
        let asked = Asked { algorithm: *algorithm, variant: *variant, nonce: nonce.as_bytes() };
        let response = asked.answer(&ha1, method.as_bytes(), uri.as_bytes(), protection.as_ref());
        let session = if *variant == Variant::Session { "-sess" } else { "" };
        let mut text = format!(
            "Digest username=\"{username}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{response}\", algorithm={}{session}",
            algorithm.name()
        );
        if *protects {
            let _ = write!(text, ", qop=auth, nc={count}, cnonce=\"{cnonce}\"");
        }
        if let Some(opaque) = opaque {
            let _ = write!(text, ", opaque=\"{opaque}\"");
        }
        text
    }
}

/// Who answers a challenge.
pub struct Login<'a> {
    /// The user name.
    pub username: &'a str,
    /// What proves it.
    pub key: Key<'a>,
}

/// What proves a user name.
pub enum Key<'a> {
    /// The password.
    Password(&'a str),
    /// H(A1) for the challenge's realm and algorithm.
    Ha1(&'a str),
}

/// The value of `WWW-Authenticate` that asks for a digest.
pub fn ask(realm: &str, nonce: &str, algorithm: Algorithm, stale: bool) -> String {
    let stale = if stale { ", stale=true" } else { "" };
    format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={}, qop=\"auth\"{stale}", algorithm.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 §3.9.1: both algorithms over one request.
    const RFC_7616: [(&str, &str); 2] = [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ];

    fn rfc_7616(algorithm: &str, response: &str) -> String {
        format!(
            "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
             algorithm={algorithm}, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
             cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, response=\"{response}\", \
             opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
        )
    }

    #[test]
    fn the_examples_of_rfc_7616_are_proved_and_nothing_else_is() {
        for (algorithm, response) in RFC_7616 {
            let text = rfc_7616(algorithm, response);
            let given = Credentials::read(text.as_bytes()).expect("a digest");
            let ha1 = given.algorithm.ha1(b"Mufasa", b"http-auth@example.org", b"Circle of Life");
            assert!(given.prove(b"GET", &ha1), "{algorithm}");
            assert!(!given.prove(b"REGISTER", &ha1));
            assert!(!given.prove(b"GET", &given.algorithm.ha1(b"Mufasa", b"http-auth@example.org", b"circle of life")));
            for broken in [text.replace("dir/", "DIR/"), text.replace("nc=00000001", "nc=00000002")] {
                assert!(!Credentials::read(broken.as_bytes()).expect("a digest").prove(b"GET", &ha1), "{broken}");
            }
        }
    }

    #[test]
    fn what_a_challenge_asks_is_answered_and_proved() {
        for algorithm in Algorithm::ALL {
            let challenge = Challenge::read(ask("pbx", "abc", algorithm, true).as_bytes()).expect("a challenge");
            assert!(challenge.stale);
            let login = Login { username: "o\"neil", key: Key::Password("pa:ss") };
            let value = challenge.answer(&login, "REGISTER", "sip:pbx.test;transport=udp", 10, "c");
            assert!(value.contains("nc=0000000a") && value.contains("uri=\"sip:pbx.test;transport=udp\""), "{value}");
            let given = Credentials::read(value.as_bytes()).expect("a digest");
            assert_eq!((given.count, given.username), (Some(10), &b"o\\\"neil"[..]));
            assert!(given.prove(b"REGISTER", &algorithm.ha1(b"o\\\"neil", b"pbx", b"pa:ss")));
        }
    }

    #[test]
    fn a_session_s_variant_is_answered_and_proved() {
        let challenge = Challenge::read(b"Digest realm=\"r\", nonce=\"n\", qop=\"auth\", algorithm=md5-SESS");
        let login = Login { username: "u", key: Key::Password("p") };
        let value = challenge.expect("a challenge").answer(&login, "REGISTER", "sip:r", 1, "c");
        assert!(value.contains("algorithm=MD5-sess"), "{value}");
        let given = Credentials::read(value.as_bytes()).expect("a digest");
        let ha1 = given.algorithm.ha1(b"u", b"r", b"p");
        assert!(given.prove(b"REGISTER", &ha1));
        let plain = value.replace("-sess", "");
        assert!(!Credentials::read(plain.as_bytes()).expect("a digest").prove(b"REGISTER", &ha1));
    }

    #[test]
    fn old_and_odd_ways_of_writing_are_read() {
        // RFC 2069: no qop. Upper-case hex, no spaces, an unquoted realm, single-token quotes, other parameters.
        let ha1 = Algorithm::Md5.ha1(b"100", b"pbx", b"pw");
        let ha2 = Algorithm::Md5.hash(&[b"REGISTER", b"sip:pbx"]);
        let response = Algorithm::Md5.hash(&[ha1.as_bytes(), b"n", ha2.as_bytes()]).to_uppercase();
        let text = format!(
            "DIGEST\tusername=\"100\",realm=pbx ,nonce=\"n\",uri=\"sip:pbx\" , response=\"{response}\",x=\"a,\\\"b\","
        );
        let given = Credentials::read(text.as_bytes()).expect("a digest");
        assert!(given.prove(b"REGISTER", &ha1) && given.count.is_none());
    }

    #[test]
    fn what_is_no_digest_or_says_something_twice_is_none() {
        let good = rfc_7616("MD5", RFC_7616[0].1);
        assert!(Credentials::read(good.as_bytes()).is_some());
        for broken in [
            good.replace("Digest ", "Basic "),
            good.replace("qop=auth", "qop=auth-int"),
            good.replace("algorithm=MD5", "algorithm=MD5-less"),
            good.replace("nc=00000001", "nc=1"),
            good.replace("nc=00000001", "nc=0000000g"),
            good.replace("cnonce=", "conce="),
            good.replace("qop=auth", "qop=auth, nonce=\"other\""),
            good.replace("qop=auth", "qop=\"auth"),
            "Digest".to_owned(),
            String::new(),
            format!("Digest {}", "a=b,".repeat(1000)),
        ] {
            assert!(Credentials::read(broken.as_bytes()).is_none(), "{broken}");
        }
    }

    #[test]
    fn a_challenge_that_cannot_be_answered_is_none() {
        let good = "Digest realm=\"r\", nonce=\"n\", qop=\"auth-int, auth\", algorithm=SHA-256";
        assert!(Challenge::read(good.as_bytes()).is_some());
        for broken in ["qop=\"auth-int\"", "algorithm=SHA-1"] {
            let text = format!("Digest realm=\"r\", nonce=\"n\", {broken}");
            assert_eq!(Challenge::read(text.as_bytes()), None, "{text}");
        }
        assert!(Challenge::read(b"Digest realm=\"r\"").is_none());
    }
}
