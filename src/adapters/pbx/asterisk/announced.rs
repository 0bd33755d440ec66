//! The addresses that Asterisk's transports listen at and write into Contact, Via and SDP: are they this host's?
//!
//! Read from `pjsip.conf` with all that it includes, also outside the working directory: what is in effect after a start.

use std::net::{IpAddr, SocketAddr};

use super::baseline::{Baseline, Held, KEYS};
use crate::config::Host;
use crate::units::finding::{Finding, Level};
use crate::wire::asterisk_conf::{Section, Value, Weight};

const ABOUT: &str = "pbx announces";

/// More transports than a person may want to read of.
const TRANSPORTS_MAX: usize = 20;

/// What each transport would do on the host `own`.
pub fn announced(held: &Held, own: &Host) -> Vec<Finding> {
    let is_transport =
        |section: &Section<'_>| section.last(0_usize).is_some_and(|kind| kind.text.eq_ignore_ascii_case("transport"));
    held.conf.sections().filter(is_transport).take(TRANSPORTS_MAX).flat_map(|section| one(&section, own)).collect()
}

/// The first thing that is wrong with them, in one line.
pub fn wrong(baseline: &Baseline, own: &Host) -> Option<String> {
    let found = announced(&baseline.held()?, own);
    found.into_iter().find(|finding| finding.level > Level::Skipped).map(|finding| finding.text)
}

fn one(section: &Section<'_>, own: &Host) -> Vec<Finding> {
    let value = |key: &str| KEYS.iter().position(|known| *known == key).and_then(|at| section.last(at));
    let hint = "write it in a file of each host outside the synced tree, and #include that";
    let mut findings = Vec::new();
    let place = |value: &Value<'_>, what: String| {
        let remark = value.remark(Weight::Fault, what, "");
        format!("{}:{}: {}", remark.file, remark.line, remark.what)
    };
    let name = section.name();
    if let Some(bind) = value("bind")
        && let Some(address) = address(bind.text)
        && !address.is_unspecified()
        && !address.is_loopback()
        && !own.has(address)
    {
        let text = format!("[{name}] bind={address} is no address of {}: Asterisk does not listen there", own.node);
        findings.push(Finding::problem(ABOUT, place(&bind, text), hint));
    }
    let mut told = Vec::new();
    for key in ["external_signaling_address", "external_media_address"] {
        let Some(given) = value(key) else {
            if let Some(inside) = own.listen_address
                && !own.addresses.contains(&inside)
            {
                let text = format!("[{name}] has no {key}, and {} is behind NAT: it announces {inside}", own.node);
                findings.push(Finding::warning(ABOUT, text, format!("write {key}={}; {hint}", own.address())));
            }
            continue;
        };
        match address(given.text) {
            Some(address) if own.addresses.contains(&address) => told.push(format!("{key}={address}")),
            Some(address) => {
                let text =
                    format!("[{name}] {key}={address} is not {}'s: REGISTER works and audio is one-way", own.node);
                findings.push(Finding::problem(ABOUT, place(&given, text), hint));
            }
            // It follows the service, unless a resolver keeps the old answer when Asterisk starts.
            None => told.push(format!("{key} is a name: what it leads to when Asterisk starts is not proved")),
        }
    }
    if findings.is_empty() {
        let told = if told.is_empty() { "the address of each socket".to_owned() } else { told.join(", ") };
        findings.push(Finding::ok(ABOUT, format!("[{name}] {told}")));
    }
    findings
}

/// The address in `192.0.2.1`, `192.0.2.1:5060`, `2001:db8::1`, `[2001:db8::1]:5060`.
fn address(text: &str) -> Option<IpAddr> {
    let whole = text.parse::<SocketAddr>().map(|place| place.ip());
    whole.or_else(|_| text.trim_matches(['[', ']']).parse()).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn told(text: &str, own: &Host) -> Vec<(Level, String)> {
        let dir = tempfile::tempdir().expect("directory");
        let outside = tempfile::tempdir().expect("directory");
        let path = dir.path().join("pjsip.conf");
        let include = outside.path().join("host.conf");
        fs::write(&path, format!("#include {}\n", include.display())).expect("written");
        fs::write(&include, text).expect("written");
        let held = Baseline::new(vec![path], dir.path().join("count")).held().expect("read");
        let inside = include.display().to_string();
        announced(&held, own).into_iter().map(|f| (f.level, f.text.replace(&inside, "F"))).collect()
    }

    fn host(listen: Option<&str>) -> Host {
        Host {
            node: "pbx-b".parse().expect("a name"),
            addresses: vec!["198.51.100.20".parse().expect("an address")],
            listen_address: listen.map(|text| text.parse().expect("an address")),
        }
    }

    #[test]
    fn an_address_of_another_host_is_told_with_its_line_also_in_a_file_outside() {
        let good = "[t]\ntype=transport\nbind=0.0.0.0:5060\nexternal_media_address=198.51.100.20\n\
                    external_signaling_address=198.51.100.20\n";
        let fine = "[t] external_signaling_address=198.51.100.20, external_media_address=198.51.100.20";
        assert_eq!(told(good, &host(Some("10.0.0.2"))), [(Level::Ok, fine.to_owned())]);
        let bad = good.replacen("198.51.100.20", "203.0.113.1", 1);
        let text = "F:4: [t] external_media_address=203.0.113.1 is not pbx-b's: REGISTER works and audio is one-way";
        assert_eq!(told(&bad, &host(None)), [(Level::Problem, text.to_owned())]);
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("pjsip.conf");
        let baseline = Baseline::new(vec![path.clone()], dir.path().join("count"));
        fs::write(&path, good).expect("written");
        assert_eq!(wrong(&baseline, &host(None)), None);
        fs::write(&path, &bad).expect("written");
        assert_eq!(wrong(&baseline, &host(None)), Some(text.replacen('F', &path.display().to_string(), 1)));
        let bad = good.replace("0.0.0.0:5060", "[2001:db8::9]:5060");
        let text = "F:3: [t] bind=2001:db8::9 is no address of pbx-b: Asterisk does not listen there";
        assert_eq!(told(&bad, &host(None)), [(Level::Problem, text.to_owned())]);
    }

    #[test]
    fn behind_nat_a_transport_that_announces_nothing_is_told() {
        let bare = "[t]\ntype=transport\nbind=0.0.0.0\n";
        assert_eq!(told(bare, &host(None)), [(Level::Ok, "[t] the address of each socket".to_owned())]);
        let told = told(bare, &host(Some("10.0.0.2")));
        let text = "[t] has no external_signaling_address, and pbx-b is behind NAT: it announces 10.0.0.2";
        assert_eq!((told.len(), &told[0]), (2, &(Level::Warning, text.to_owned())));
    }
}
