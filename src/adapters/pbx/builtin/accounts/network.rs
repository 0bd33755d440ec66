//! Networks, and ordered lists of who may come: `permit` and `deny` as Asterisk means them.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// Addresses with a common prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether the address lies in it. An IPv4 address that came over IPv6 is an IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.prefix);
                (own.to_bits() ^ other.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.prefix);
                (own.to_bits() ^ other.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// `192.0.2.7`, `192.0.2.0/24`, `192.0.2.0/255.255.255.0`, `2001:db8::/32`; a port (`192.0.2.0:5061/24`) is passed
/// over, because behind NAT it says nothing.
impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, mask) = text.split_once('/').map_or((text, None), |(address, mask)| (address, Some(mask)));
        let address = address_of(address.trim()).ok_or(())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match mask.map(str::trim) {
            None => longest,
            Some(mask) => match mask.parse::<Ipv4Addr>() {
                Ok(mask) if mask.to_bits().leading_ones() + mask.to_bits().trailing_zeros() >= 32 => {
                    u8::try_from(mask.to_bits().leading_ones()).map_err(|_| ())?
                }
                _ => mask.parse().map_err(|_| ())?,
            },
        };
        if prefix > longest { Err(()) } else { Ok(Self { address, prefix }) }
    }
}

fn address_of(text: &str) -> Option<IpAddr> {
    let bare = |text: &str| text.trim_start_matches('[').split(']').next()?.parse().ok();
    let without_port = || text.split_once(':').and_then(|(address, _)| address.parse::<Ipv4Addr>().ok());
    let address: Option<IpAddr> = bare(text).or_else(|| without_port().map(IpAddr::V4));
    address.map(|address| address.to_canonical())
}

/// Rules of which the last that fits decides. Where none fits, the address may come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acl {
    rules: Vec<(Sense, Network)>,
}

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sense {
    Permit,
    Deny,
}

impl Acl {
    /// Whether an address may come.
    pub fn admits(&self, address: IpAddr) -> bool {
        let last = self.rules.iter().rev().find(|(_, network)| network.contains(address));
        last.is_none_or(|(sense, _)| *sense == Sense::Permit)
    }

    /// Adds a rule; `!` before the network turns it round.
    pub(super) fn add(&mut self, sense: Sense, text: &str) -> Result<(), ()> {
        let (sense, text) = match (text.strip_prefix('!'), sense) {
            (None, sense) => (sense, text),
            (Some(rest), Sense::Permit) => (Sense::Deny, rest),
            (Some(rest), Sense::Deny) => (Sense::Permit, rest),
        };
        self.rules.push((sense, text.parse()?));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn contains(network: &str, address: &str) -> bool {
        network.parse::<Network>().expect("a network").contains(ip(address))
    }

    #[test]
    fn a_network_is_read_in_each_way_that_asterisk_takes() {
        for (network, inside, outside) in [
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.0/255.255.255.0", "::ffff:192.0.2.1", "198.51.100.1"),
            ("192.0.2.0:5061/24", "192.0.2.1", "198.51.100.1"),
            ("192.0.2.7:5060", "192.0.2.7", "192.0.2.8"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("[2001:db8::1]:5060", "2001:db8::1", "2001:db8::2"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("0.0.0.0/0.0.0.0", "203.0.113.9", "::1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
        ] {
            assert!(contains(network, inside), "{network} {inside}");
            assert!(!contains(network, outside), "{network} {outside}");
        }
        for bad in
            ["", "phone.example.com", "192.0.2.0/33", "192.0.2.0/255.0.255.0", "192.0.2.0/", "1.2.3", "2001:db8::/129"]
        {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn of_rules_the_last_that_fits_decides_and_without_any_all_may_come() {
        let mut acl = Acl::default();
        assert!(acl.admits(ip("203.0.113.1")));
        acl.add(Sense::Deny, "0.0.0.0/0").expect("a rule");
        acl.add(Sense::Permit, "192.0.2.0/24").expect("a rule");
        acl.add(Sense::Permit, "!192.0.2.9").expect("a rule");
        assert!(acl.admits(ip("192.0.2.1")));
        assert!(!acl.admits(ip("192.0.2.9")));
        assert!(!acl.admits(ip("203.0.113.1")));
        assert!(acl.admits(ip("2001:db8::1")), "a rule for IPv4 says nothing of IPv6");
    }
}
