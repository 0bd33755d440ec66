//! What a phone or a trunk proves itself with, and by which algorithms that can be done. It computes no digest.

use secrecy::{ExposeSecret, SecretString};

pub use crate::sip::digest::Algorithm;

/// A user, and how it is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user of the digest.
    pub username: String,
    /// None: the default realm for a phone, whatever the server asks with for a trunk.
    pub realm: Option<String>,
    /// The secret.
    pub credentials: Credentials,
    /// The algorithms to offer, or to answer, in this order: those of Asterisk's settings that the secret can serve.
    /// Asterisk takes MD5 alone unless told otherwise, because some phones give up on a challenge with another one.
    pub algorithms: Algorithms,
}

/// Algorithms in an order, each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Algorithms {
    list: [Algorithm; 3],
    len: u8,
}

/// MD5 alone: what Asterisk takes.
impl Default for Algorithms {
    fn default() -> Self {
        Self { list: [Algorithm::Md5; 3], len: 1 }
    }
}

impl std::ops::Deref for Algorithms {
    type Target = [Algorithm];

    fn deref(&self) -> &[Algorithm] {
        &self.list[..usize::from(self.len)]
    }
}

impl FromIterator<Algorithm> for Algorithms {
    fn from_iter<I: IntoIterator<Item = Algorithm>>(algorithms: I) -> Self {
        let mut all = Self { len: 0, ..Self::default() };
        for algorithm in algorithms {
            if !all.contains(&algorithm) {
                all.list[usize::from(all.len)] = algorithm;
                all.len += 1;
            }
        }
        all
    }
}

/// A password, or digests of it for one realm.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    password: Option<SecretString>,
    digests: [Option<SecretString>; 3],
}

/// What a digest is computed from.
#[derive(Debug, Clone, Copy)]
pub enum Proof<'a> {
    /// The password itself.
    Password(&'a SecretString),
    /// The digest of `user:realm:password` in lower case: it holds for the login's realm alone.
    Ha1(&'a SecretString),
}

impl Credentials {
    /// What serves an algorithm: its own digest where there is one, else the password.
    pub fn proof(&self, algorithm: Algorithm) -> Option<Proof<'_>> {
        let digest = self.digests[algorithm as usize].as_ref().map(Proof::Ha1);
        digest.or(self.password.as_ref().map(Proof::Password))
    }

    /// This password.
    pub fn of_password(password: &str) -> Self {
        let mut credentials = Self::default();
        credentials.set_password(password);
        credentials
    }

    /// This digest, made with MD5.
    pub fn of_md5(digest: &str) -> Self {
        let mut credentials = Self::default();
        credentials.set_digest(Algorithm::Md5, digest);
        credentials
    }

    pub(super) fn set_password(&mut self, password: &str) {
        self.password = Some(SecretString::from(password));
    }

    pub(super) fn set_digest(&mut self, algorithm: Algorithm, digest: &str) {
        self.digests[algorithm as usize] = Some(SecretString::from(digest.to_ascii_lowercase()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.password.is_none() && self.digests.iter().all(Option::is_none)
    }
}

/// Only to see whether a file changed anything; not for proving, because its time depends on the secrets.
impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        let text = |secret: &Option<SecretString>| secret.as_ref().map(|s| s.expose_secret().to_owned());
        let same = |a, b| text(a) == text(b);
        same(&self.password, &other.password) && self.digests.iter().zip(&other.digests).all(|(a, b)| same(a, b))
    }
}

impl Eq for Credentials {}
