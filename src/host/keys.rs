//! Makes what two hosts of ours prove themselves with: a token, and a certificate with its key.
//!
//! The certificate is pinned by a copy, so that no authority stands behind it, and its names and dates are for people.
//! What was made is told by path and fingerprint; a secret leaves this module in its file only.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, date_time_ymd};
use tempfile::NamedTempFile;

use super::pinned::Pinned;
use crate::units::NodeName;

/// The token's file.
pub const TOKEN: &str = "agent.token";
/// The certificate's file.
pub const CERTIFICATE: &str = "agent.crt";
/// The private key's file.
pub const KEY: &str = "agent.key";

/// How long the certificate names itself good; a pinned one is taken after that too.
const YEARS: i16 = 10;

/// Bytes of the token: 256 bits, as many as HMAC-SHA-256 uses.
const TOKEN_BYTES: usize = 32;

/// What to do with files that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old {
    /// Leave them, and make nothing.
    Keep,
    /// Replace them.
    Replace,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The certificate's SHA-256 fingerprint.
    pub fingerprint: String,
    /// The day on which it says that it expires.
    pub until: Date,
}

/// Makes token, certificate and key in `dir`, for a host of this name and these addresses.
///
/// With `like`, the files are readable by the group that may read that file (`failover.yaml`), as the robot's user must
/// read them; else by their owner only.
///
/// # Errors
/// One line: what is in the way, and what to do.
pub fn make(dir: &Path, node: &NodeName, addresses: &[IpAddr], like: &Path, old: Old) -> Result<Made, String> {
    let there: Vec<PathBuf> = [TOKEN, CERTIFICATE, KEY].map(|name| dir.join(name)).into();
    if let (Old::Keep, Some(path)) = (old, there.iter().find(|path| path.symlink_metadata().is_ok())) {
        return Err(format!("{} is there; to make new ones on both hosts add --replace", path.display()));
    }
    let day = |years: i16| -> Result<Date, String> {
        let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
        today.checked_add(jiff::Span::new().years(years)).map_err(|e| format!("this host's clock is at {today}: {e}"))
    };
    let (from, until) = (day(0)?, day(YEARS)?);
    let unmade = |what: &'static str| move |e: rcgen::Error| format!("the {what} cannot be made: {e}");
    let names = std::iter::once(node.to_string()).chain(addresses.iter().map(IpAddr::to_string));
    let mut params = CertificateParams::new(names.collect::<Vec<_>>()).map_err(unmade("certificate"))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, node.as_str());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    [params.not_before, params.not_after] = [from, until].map(|day| {
        let part = |number: i8| u8::try_from(number).unwrap_or(1);
        date_time_ymd(i32::from(day.year()), part(day.month()), part(day.day()))
    });
    let key = KeyPair::generate().map_err(unmade("key"))?;
    let certificate = params.self_signed(&key).map_err(unmade("certificate"))?;

    let unwritten = |name: &'static str| {
        move |e: io::Error| {
            format!("{} cannot be written: {e}; run this with sudo, or see --out", dir.join(name).display())
        }
    };
    fs::create_dir_all(dir).map_err(unwritten(TOKEN))?;
    let access = Access::like(like);
    // The key before the certificate: a pair that does not fit is seen when the agent starts, a lost key never again.
    write(&dir.join(KEY), &key.serialize_pem(), access).map_err(unwritten(KEY))?;
    write(&dir.join(CERTIFICATE), &certificate.pem(), Access::Everybody).map_err(unwritten(CERTIFICATE))?;
    write(&dir.join(TOKEN), &format!("{}\n", token()?), access).map_err(unwritten(TOKEN))?;
    let fingerprint = Pinned::read(&dir.join(CERTIFICATE))?.fingerprint();
    Ok(Made { fingerprint, until })
}

/// Who may read a file.
#[derive(Debug, Clone, Copy)]
enum Access {
    Owner,
    Group(u32),
    Everybody,
}

impl Access {
    /// The group of the configuration, where somebody has given it one of its own.
    fn like(file: &Path) -> Self {
        match fs::metadata(file) {
            Ok(about) if about.gid() != 0 && about.mode() & 0o044 == 0o040 => Self::Group(about.gid()),
            _ => Self::Owner,
        }
    }
}

fn write(path: &Path, text: &str, access: Access) -> io::Result<()> {
    let dir = path.parent().unwrap_or_else(|| Path::new("/"));
    // Made with mode 0600 under another name: at no instant does it lie there half-written, or for others to read.
    let mut file = NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    // Whoever could read the old one must be able to read its successor.
    if let Ok(old) = fs::symlink_metadata(path) {
        std::os::unix::fs::fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
    }
    let mode = match access {
        Access::Owner => 0o600,
        Access::Group(gid) => {
            std::os::unix::fs::fchown(file.as_file(), None, Some(gid))?;
            0o640
        }
        Access::Everybody => 0o644,
    };
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

fn token() -> Result<String, String> {
    let mut bytes = [0; TOKEN_BYTES];
    rand::fill(&mut bytes).map_err(|_| "the system gives no random numbers".to_owned())?;
    let (high, low) = bytes.split_at(TOKEN_BYTES / 2);
    let number = |half: &[u8]| half.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    Ok(format!("{:032x}{:032x}", number(high), number(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("file").permissions().mode() & 0o7777
    }

    fn node() -> NodeName {
        "pbx-a".parse().expect("a name")
    }

    #[test]
    fn each_token_is_another_and_only_their_owner_may_read_the_secrets() {
        let dir = tempfile::tempdir().expect("directory");
        let (first, second) = (dir.path().join("1"), dir.path().join("2"));
        for out in [&first, &second] {
            make(out, &node(), &["203.0.113.10".parse().expect("address")], Path::new("/nowhere"), Old::Keep)
                .expect("made");
            assert_eq!([KEY, TOKEN, CERTIFICATE].map(|name| mode(&out.join(name))), [0o600, 0o600, 0o644]);
        }
        let tokens = [first, second].map(|out| fs::read_to_string(out.join(TOKEN)).expect("token"));
        assert!(
            tokens.iter().all(|token| token.trim().len() == 64 && token.trim().bytes().all(|b| b.is_ascii_hexdigit()))
        );
        assert_ne!(tokens[0], tokens[1]);
        assert_ne!(tokens[0][..32], tokens[0][32..64]);
    }

    #[test]
    fn whoever_may_read_the_configuration_may_read_the_secrets() {
        let dir = tempfile::tempdir().expect("directory");
        let config = dir.path().join("failover.yaml");
        fs::write(&config, "").expect("file");
        fs::set_permissions(&config, Permissions::from_mode(0o640)).expect("mode");
        if std::os::unix::fs::chown(&config, None, Some(4242)).is_err() {
            eprintln!("SKIPPED: giving a file to another group needs root");
            return;
        }
        make(dir.path(), &node(), &[], &config, Old::Keep).expect("made");
        for name in [KEY, TOKEN] {
            let about = fs::metadata(dir.path().join(name)).expect("file");
            assert_eq!((about.gid(), about.mode() & 0o7777), (4242, 0o640), "{name}");
        }
        let key = dir.path().join(KEY);
        std::os::unix::fs::chown(&key, Some(4243), None).expect("owner");
        make(dir.path(), &node(), &[], &config, Old::Replace).expect("made");
        let about = fs::metadata(&key).expect("file");
        assert_eq!((about.uid(), about.gid()), (4243, 4242), "the robot's user keeps its files");
    }

    #[test]
    fn what_is_there_is_not_overwritten_unless_that_is_asked_for() {
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join(CERTIFICATE), "mine").expect("file");
        let refused = make(dir.path(), &node(), &[], Path::new("/nowhere"), Old::Keep).expect_err("refused");
        assert!(refused.contains(CERTIFICATE) && refused.contains("--replace"), "{refused}");
        assert!(!dir.path().join(TOKEN).exists() && !dir.path().join(KEY).exists());
        assert_eq!(fs::read_to_string(dir.path().join(CERTIFICATE)).expect("file"), "mine");
        make(dir.path(), &node(), &[], Path::new("/nowhere"), Old::Replace).expect("made");
        assert!(dir.path().join(TOKEN).exists());
    }
}
