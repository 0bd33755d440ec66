//! Words that all SIP rigs share: the realm, digest algorithms, a trunk.

use std::net::SocketAddr;

/// The realm of every account, unless a test asks for another.
pub const REALM: &str = "lab";

/// How a registrar asks for credentials (RFC 7616, RFC 8760).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Algorithm {
    /// What every phone can.
    #[default]
    Md5,
    /// What few can.
    Sha256,
}

impl Algorithm {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Md5, Self::Sha256];

    /// As it stands in a challenge.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }
}

/// A registration at a provider.
#[derive(Clone, Debug)]
pub struct Trunk {
    /// As the PBX calls it.
    pub name: String,
    /// The provider.
    pub provider: SocketAddr,
    /// The account there.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl Trunk {
    /// Of that name, at this provider's account.
    pub fn new(name: &str, provider: SocketAddr, user: &str, password: &str) -> Self {
        Self { name: name.to_owned(), provider, user: user.to_owned(), password: password.to_owned() }
    }
}

/// What a registrar holds for an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binding {
    /// The URI.
    pub contact: String,
    /// How long it still lasts, seconds.
    pub expires_s: i64,
    /// Who registered it, as he calls himself.
    pub user_agent: String,
}
