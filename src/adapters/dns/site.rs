//! Whether the master would die together with the primary: `check` asks.

use std::net::{IpAddr, SocketAddr};

/// One line of warning when the master shares an address, or a small network, with the primary.
///
/// Networks are compared as /24 and /48: what one site usually has. It can only guess; a master behind the same
/// line with an address elsewhere is not seen.
pub fn same_site_warning(master: SocketAddr, primary: &[IpAddr]) -> Option<String> {
    let ip = master.ip();
    if primary.contains(&ip) {
        return Some(format!(
            "the DNS master {master} has the primary's own address: it dies with the primary, and no takeover can claim the epoch; keep the zone's master at another site"
        ));
    }
    let near = primary.iter().find(|address| network(**address) == network(ip))?;
    Some(format!(
        "the DNS master {master} is in the primary's network ({near}): if that is one site, it dies with the primary, and no takeover can claim the epoch; keep the zone's master at another site"
    ))
}

fn network(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.octets()[..3].to_vec(),
        IpAddr::V6(v6) => v6.octets()[..6].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_beside_the_primary_is_warned_of_and_one_elsewhere_is_not() {
        let primary: Vec<IpAddr> = vec!["203.0.113.10".parse().unwrap(), "2001:db8:a::10".parse().unwrap()];
        let warning = |server: &str| same_site_warning(server.parse().unwrap(), &primary);
        assert!(warning("203.0.113.10:53").unwrap().contains("own address"));
        assert!(warning("203.0.113.53:53").unwrap().contains("network"));
        assert!(warning("[2001:db8:a::53]:53").unwrap().contains("network"));
        assert_eq!(warning("192.0.2.53:53"), None);
        assert_eq!(warning("[2001:db8:b::53]:53"), None);
    }
}
