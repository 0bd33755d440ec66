//! What fail2ban would do, in its own words: the lists that `fail2ban-client -d` prints, one order a line.
//!
//! fail2ban's own reader has merged its files, defaults and interpolations by then, so that none of its rules is repeated
//! here. Only whom each jail passes over is kept.

use std::net::IpAddr;

/// More jails, or addresses in one, than a person would read.
const ITEMS_MAX: usize = 1000;

/// Jails that watch SIP have one of these words in their name.
const TELEPHONY: [&str; 7] = ["asterisk", "kamailio", "freeswitch", "opensips", "freepbx", "pjsip", "sip"];

/// A jail that is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jail {
    /// Its name.
    pub name: String,
    /// Addresses, networks and host names that it never bans, as written.
    pub ignored: Vec<String>,
    /// Whether it passes over this host's own addresses; the default.
    pub ignores_self: bool,
    /// Whether a command decides too: then nobody can say who is passed over.
    pub asks_command: bool,
}

impl Jail {
    /// Whether it watches telephony, as far as its name tells.
    pub fn is_telephony(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        TELEPHONY.iter().any(|word| name.contains(word))
    }

    /// Whether one of its addresses or networks holds this address.
    pub fn ignores(&self, address: IpAddr) -> bool {
        self.ignored.iter().any(|one| holds(one, address))
    }

    /// The host names in its list.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let is_name = |one: &&String| one.contains(|c: char| c.is_alphabetic()) && !one.contains([':', '/']);
        self.ignored.iter().filter(is_name).map(String::as_str)
    }
}

/// Whether an address or network (`192.0.2.0/24`, `192.0.2.0/255.255.255.0`) holds an address.
fn holds(network: &str, address: IpAddr) -> bool {
    let (base, length) = match network.split_once('/') {
        Some((base, length)) => (base, Some(length)),
        None => (network, None),
    };
    let Ok(base) = base.parse::<IpAddr>() else { return false };
    let (base, address) = (base.to_canonical(), address.to_canonical());
    if base.is_ipv4() != address.is_ipv4() {
        return false;
    }
    let bits = if base.is_ipv4() { 32 } else { 128 };
    let prefix = match length {
        None => bits,
        Some(length) => match (length.parse::<u32>(), length.parse::<std::net::Ipv4Addr>()) {
            (Ok(prefix), _) if prefix <= bits => prefix,
            (_, Ok(mask)) if bits == 32 => mask.to_bits().leading_ones(),
            _ => return false,
        },
    };
    let number = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let differing = number(base) ^ number(address);
    differing.checked_shr(bits - prefix).unwrap_or(0) == 0
}

/// The jails that are on, in their order.
pub fn jails(dump: &str) -> Vec<Jail> {
    let mut jails: Vec<Jail> = Vec::new();
    for line in dump.lines() {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["add", name, ..] if jails.len() < ITEMS_MAX => {
                let name = (*name).to_owned();
                jails.push(Jail { name, ignored: Vec::new(), ignores_self: true, asks_command: false });
            }
            ["set" | "multi-set", name, key, values @ ..] => {
                let Some(jail) = jails.iter_mut().find(|jail| jail.name == *name) else { continue };
                match *key {
                    "addignoreip" => {
                        let room = ITEMS_MAX.saturating_sub(jail.ignored.len());
                        jail.ignored.extend(values.iter().take(room).map(|value| (*value).to_owned()));
                    }
                    "ignoreself" => {
                        let no = ["false", "no", "off", "0"];
                        jail.ignores_self =
                            !values.first().is_some_and(|v| no.iter().any(|no| v.eq_ignore_ascii_case(no)));
                    }
                    "ignorecommand" => jail.asks_command = values.first().is_some_and(|value| !value.is_empty()),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    jails
}

/// The words of a list as Python prints it: `['set', 'asterisk', 'ignoreself', False]`.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = line.trim().chars().peekable();
    while let Some(c) = chars.next() {
        if words.len() > ITEMS_MAX {
            break;
        }
        match c {
            '\'' | '"' => {
                let mut word = String::new();
                while let Some(inner) = chars.next() {
                    match inner {
                        '\\' => word.extend(chars.next()),
                        end if end == c => break,
                        other => word.push(other),
                    }
                }
                words.push(word);
            }
            c if c.is_alphanumeric() => {
                let mut word = String::from(c);
                while let Some(next) = chars.next_if(|next| !matches!(next, ',' | ']' | ' ')) {
                    word.push(next);
                }
                words.push(word);
            }
            _ => {}
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DUMP: &str = "\
['set', 'syslogsocket', 'auto']
['add', 'sshd', 'auto']
['add', 'asterisk', 'auto']
['set', 'asterisk', 'ignorecommand', '']
['set', 'asterisk', 'ignoreself', False]
['set', 'asterisk', 'addignoreip', '127.0.0.1/8', '::1', '203.0.113.0/28', 'pbx.example.com']
['multi-set', 'asterisk', 'addfailregex', [\"it's <HOST> 'x'\", 'a']]
";

    #[test]
    fn the_orders_of_a_dump_are_read() {
        let jails = jails(DUMP);
        let names: Vec<_> = jails.iter().map(|jail| (jail.name.as_str(), jail.is_telephony())).collect();
        assert_eq!(names, [("sshd", false), ("asterisk", true)]);
        assert!(jails[0].ignores_self && !jails[1].ignores_self && !jails[1].asks_command);
        assert_eq!(jails[1].names().collect::<Vec<_>>(), ["pbx.example.com"]);
        assert_eq!(jails[1].ignored.len(), 4);
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        for (network, address, expected) in [
            ("203.0.113.0/28", "203.0.113.15", true),
            ("203.0.113.0/28", "203.0.113.16", false),
            ("203.0.113.0/255.255.255.240", "203.0.113.15", true),
            ("203.0.113.0/255.255.255.240", "203.0.113.16", false),
            ("203.0.113.1", "203.0.113.1", true),
            ("203.0.113.1", "203.0.113.10", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("::/0", "2001:db8::1", true),
            ("::/0", "203.0.113.1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("203.0.113.1/33", "203.0.113.1", false),
            ("pbx.example.com", "203.0.113.1", false),
        ] {
            assert_eq!(holds(network, address.parse().expect("address")), expected, "{network} {address}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,200}") {
            let _ = jails(&text);
            let _ = holds(&text, IpAddr::from([203, 0, 113, 1]));
        }
    }
}
