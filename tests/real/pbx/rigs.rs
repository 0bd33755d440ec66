//! The rigs themselves: a cut cuts what it says, and Kamailio does as a PBX does.

use super::*;

#[test]
fn the_rig_of_namespaces_cuts_what_it_says_and_nothing_else() {
    if !Topology::possible() || !have(&["ping"]) {
        return;
    }
    let left = "pbxfo-999999999-0-inet"; // no process has that id
    assert!(std::process::Command::new("ip").args(["netns", "add", left]).status().expect("ip runs").success());
    let net = Topology::up();
    assert!(!Path::new("/run/netns").join(left).exists(), "what a dead test left is removed");
    let ping = |from, to: &str| net.run(from, &["ping", "-c1", "-W0.3", to]).0;
    let seen = || {
        (
            ping(Host::Backup, "10.77.0.11"),
            ping(Host::Backup, "10.77.1.2"),
            ping(Host::Primary, "10.77.1.2"),
            ping(Host::Phones, "10.77.0.11"),
        )
    };
    let well = || seen() == (true, true, true, true);
    wait_until("all see each other", Duration::from_secs(5), well);
    for (cut, expected) in [
        (Cut::Lan, (false, true, true, true)),
        (Cut::LanOneWay, (false, true, true, true)),
        (Cut::InetBackup, (true, false, true, true)),
        (Cut::InetPrimary, (true, true, false, true)),
        (Cut::InetAll, (true, false, false, true)),
        (Cut::InetReject, (true, false, false, true)),
        (Cut::PrimaryPort, (false, true, false, false)),
        (Cut::PrimaryDown, (false, true, false, false)),
        (Cut::BackupPort, (false, false, true, true)),
        (Cut::BackupDown, (false, false, true, true)),
        (Cut::Web, (true, true, true, true)),
        (Cut::Sip, (true, true, true, true)),
    ] {
        net.cut(cut);
        assert_eq!(seen(), expected, "{cut:?}");
        net.heal();
        wait_until(&format!("healed after {cut:?}"), Duration::from_secs(5), well);
    }
    let (_, said) = net.run(Host::Backup, &["cat", "/etc/resolv.conf"]);
    assert_eq!(said, "nameserver 10.77.1.1\n");
}

#[test]
fn a_phone_in_the_rig_registers_across_hosts_and_cuts_of_sip_and_web_are_told_apart() {
    if !Topology::possible() || !have(&kamailio::PROGRAMS) || !have(&["sipp", "nginx", "curl"]) {
        return;
    }
    let net = Topology::up();
    let dir = tempfile::tempdir().expect("directory");
    let provider = SocketAddr::new("10.77.1.5".parse().expect("an address"), 5060);
    let provider = Kamailio::started(Setup::at(provider).inside(net.exec(Host::Inet)).account("trunk1", "secret"));
    let setup = Setup::at(SocketAddr::new(Host::Primary.address(), 5060)).inside(net.exec(Host::Primary));
    let primary =
        Kamailio::started(setup.account("100", "pw100").trunk("carrier", provider.address(), "trunk1", "secret"));
    primary.verb("register_trunks");
    assert_eq!(provider.contacts("trunk1"), ["sip:carrier@10.77.0.11:5060"]);
    let phone = Phone::new("100", "pw100").inside(net.exec(Host::Phones), Host::Phones.address());
    phone.register(primary.address()).expect("the phone registers");

    let config = dir.path().join("nginx.conf");
    let text = "daemon off; pid nginx.pid; error_log stderr; events {} http { access_log off; server { listen 80; \
                location / { return 200 well; } } }";
    std::fs::write(&config, text).expect("config");
    let mut argv = net.exec(Host::Primary);
    argv.extend(
        ["nginx", "-p", &dir.path().display().to_string(), "-c", &config.display().to_string()].map(str::to_owned),
    );
    let argv: Vec<_> = argv.iter().map(String::as_str).collect();
    let _web = Running::start(&argv, &dir.path().join("log"));
    let curl = || net.run(Host::Backup, &["curl", "-sS", "-m1", "http://10.77.0.11/"]);
    wait_until("nginx answers", Duration::from_secs(5), || curl() == (true, "well".to_owned()));

    net.cut(Cut::Sip);
    assert_eq!((phone.knock(primary.address()), curl().0), (None, true));
    net.heal();
    net.cut(Cut::Web);
    assert_eq!(phone.knock(primary.address()), Some(401));
    let (answered, said) = curl();
    assert!(!answered && said.contains("timed out"), "{said}");
    net.heal();
    net.cut(Cut::WebReset);
    let (answered, said) = curl();
    assert!(!answered && said.contains("connect to 10.77.0.11"), "{said}");
    net.heal();
    assert!(curl().0);
}

#[test]
fn the_rig_of_kamailio_registers_phones_and_its_trunk() {
    if !have(&kamailio::PROGRAMS) || !have(&sipp::PROGRAMS) {
        return;
    }
    let provider = Kamailio::started(Setup::at(loopback()).account("trunk1", "secret"));
    let pbx = Kamailio::new(Setup::at(loopback()).with_tcp().account("100", "pw100").trunk(
        "carrier",
        provider.address(),
        "trunk1",
        "secret",
    ));
    let phone = Phone::new("100", "pw100");
    assert_eq!(phone.knock(pbx.address()), None, "nobody answers before the start");
    for verb in ["reload", "accept_registrations"] {
        pbx.verb(verb);
        pbx.verb(verb);
    }
    assert_eq!(provider.contacts("trunk1"), Vec::<String>::new(), "the trunk waits for its verb");
    pbx.verb("register_trunks");
    pbx.verb("register_trunks");
    assert_eq!(provider.contacts("trunk1"), [format!("sip:carrier@{}", pbx.address())]);
    phone.register(pbx.address()).expect("the phone registers");
    phone.clone().over_tcp().register(pbx.address()).expect("over TCP too");
    assert_eq!(phone.knock(pbx.address()), Some(401));
    Phone::new("100", "wrong").register(pbx.address()).expect_err("a wrong password is refused");
    assert_eq!(
        pbx.verb("status"),
        r#"{"serving": true, "registrations": 1, "calls": 0, "trunks": [{"name": "carrier", "state": "up"}]}"#
    );
    pbx.verb("unregister_trunks");
    pbx.verb("unregister_trunks");
    assert_eq!(provider.contacts("trunk1"), Vec::<String>::new());
    pbx.verb("register_trunks");
    assert_eq!(provider.contacts("trunk1").len(), 1, "it can be registered again");
    pbx.signal_main("KILL");
    assert_eq!(phone.knock(pbx.address()), Some(401), "the children of a killed Kamailio go on serving");
    pbx.stop();
    pbx.stop();
    assert_eq!(phone.knock(pbx.address()), None, "nobody answers after the stop");
}
