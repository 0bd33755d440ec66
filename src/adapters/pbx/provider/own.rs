//! This node as a provider sees it: which addresses are its own, and which of them a question leaves from.

use std::net::{IpAddr, UdpSocket};

use crate::config::Config;
use crate::host::reach;

/// The addresses of this node.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// Where its PBX listens, the likeliest first: what a question leaves from.
    pub listen: Vec<IpAddr>,
    /// Its public ones: what a provider behind the Internet sees.
    pub public: Vec<IpAddr>,
}

/// Where a question leaves from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The address to bind; `None`: the kernel chooses.
    pub bind: Option<IpAddr>,
    /// For people.
    pub words: String,
    /// What the provider is to know, as far as this host can tell.
    pub known_as: String,
}

impl Own {
    /// Of the node that this configuration is for.
    pub fn of(config: &Config) -> Self {
        let host = config.host(config.side);
        let probe = config.pbx.probe.host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let listen: Vec<_> =
            host.listen_address.into_iter().chain(host.addresses.iter().copied()).chain(probe).collect();
        Self { listen, public: host.addresses.clone() }
    }

    /// Where a question to `target` leaves from: the PBX's own address where this host has it.
    pub fn source(&self, target: IpAddr) -> Source {
        // From a loopback address nothing gets out.
        let leads = |address: &IpAddr| !address.is_loopback() || target.is_loopback();
        let same =
            |address: &&IpAddr| address.is_ipv4() == target.is_ipv4() && !address.is_unspecified() && leads(address);
        let bind = self.listen.iter().filter(same).find(|address| UdpSocket::bind((**address, 0)).is_ok()).copied();
        let chosen = bind.or_else(|| reach::source(target));
        let words = match (bind, chosen) {
            (Some(address), _) => format!("from {address}"),
            (None, Some(address)) => {
                let wanted = self.listen.iter().find(same);
                let why = wanted.map_or_else(
                    || "this host is given none of its kind".to_owned(),
                    |wanted| format!("{wanted} is not on this host"),
                );
                format!("from {address}, as the kernel chose, because {why}")
            }
            (None, None) => "from an address that the kernel chose".to_owned(),
        };
        // Behind NAT the provider sees the public address.
        let public = self.public.iter().find(same).copied();
        let known_as =
            public.or(chosen).map_or_else(|| "this host's address".to_owned(), |address| address.to_string());
        Source { bind, words, known_as }
    }

    /// Whether this is an address of this node, or the one that a question to `target` leaves from.
    pub fn is_own(&self, host: &str, target: IpAddr) -> bool {
        host.parse::<IpAddr>().is_ok_and(|address| {
            self.listen.contains(&address) || self.public.contains(&address) || reach::source(target) == Some(address)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_question_leaves_from_the_pbx_s_own_address_and_where_that_is_elsewhere_it_is_said() {
        let own = Own { listen: vec![ip("127.0.0.9")], public: vec![ip("198.51.100.20")] };
        let here = own.source(ip("127.0.0.1"));
        assert_eq!((here.bind, here.words.as_str()), (Some(ip("127.0.0.9")), "from 127.0.0.9"));
        assert_eq!(here.known_as, "198.51.100.20", "behind NAT the provider sees the public address");
        let own = Own { listen: vec![ip("198.51.100.20"), ip("::")], public: vec![ip("198.51.100.20")] };
        let elsewhere = own.source(ip("127.0.0.1"));
        let words = "from 127.0.0.1, as the kernel chose, because 198.51.100.20 is not on this host";
        assert_eq!((elsewhere.bind, elsewhere.words.as_str()), (None, words));
    }

    #[test]
    fn a_pbx_that_is_probed_on_loopback_asks_no_provider_from_there() {
        let own = Own { listen: vec![ip("198.51.100.20"), ip("127.0.0.1")], public: vec![ip("198.51.100.20")] };
        assert_eq!(own.source(ip("192.0.2.1")).bind, None);
        assert_eq!(own.source(ip("127.0.0.5")).bind, Some(ip("127.0.0.1")));
    }

    #[test]
    fn own_are_the_addresses_that_are_given_and_the_one_that_the_kernel_takes() {
        let own = Own { listen: vec![ip("10.0.0.5")], public: vec![ip("198.51.100.20")] };
        for (host, expected) in [
            ("10.0.0.5", true),
            ("198.51.100.20", true),
            ("127.0.0.1", true),
            ("203.0.113.10", false),
            ("pbx.test", false),
        ] {
            assert_eq!(own.is_own(host, ip("127.0.0.1")), expected, "{host}");
        }
    }
}
