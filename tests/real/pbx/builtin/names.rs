//! Providers that are known by a name: SRV records lead to two servers, of which the first is dead. The built-in PBX
//! runs on a host of its own, as its resolver is the system's.

use std::process::Command;

use super::*;
use crate::lab::dns::{DnsServer, Kind, Options, ZONE};

/// Where the living server is; nobody listens at 10.77.1.3.
const ALIVE: &str = "10.77.1.2:5060";

#[test]
fn of_two_servers_that_srv_names_the_second_is_asked_when_the_first_is_dead() {
    if !have_all() || !Topology::possible() || !Kind::Bind.installed() {
        return;
    }
    let (hosts, dir) = (Topology::up(), tempfile::tempdir().expect("directory"));
    let inside = hosts.exec(Host::Inet);
    let records = ["udp", "tcp"]
        .map(|over| format!("_sip._{over} IN SRV 10 0 5060 dead.{ZONE}.\n_sip._{over} IN SRV 20 0 5060 alive.{ZONE}."));
    let names = ["dead IN A 10.77.1.3", "alive IN A 10.77.1.2"].map(str::to_owned);
    let options = Options {
        address: Host::Inet.address(),
        port: 53,
        prefix: inside.clone(),
        records: records.into_iter().chain(names).collect(),
        ..Options::default()
    };
    let _dns = DnsServer::start_with(Kind::Bind, dir.path(), options);
    let setup = Setup::at(ALIVE.parse().expect("an address")).with_tcp().inside(inside);
    let provider = Kamailio::started(setup.account("udp", "secret").account("tcp", "secret"));
    let child = std::env::current_exe().expect("this program").display().to_string();
    let mut argv = hosts.exec(Host::Backup);
    argv.extend([&child, "--exact", "pbx::builtin::names::child_registers_by_name", "--ignored"].map(str::to_owned));
    let output = Command::new(&argv[0]).args(&argv[1..]).output().expect("ip runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(provider.contacts("udp"), ["sip:udp@10.77.0.12:5060"]);
    assert_eq!(provider.contacts("tcp"), ["sip:tcp@10.77.0.12:5060;transport=tcp"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a child of of_two_servers_that_srv_names_the_second_is_asked_when_the_first_is_dead"]
async fn child_registers_by_name() {
    let udp = trunk("udp", &format!("sip:{ZONE}"), "udp", "secret", "");
    let tcp = trunk("tcp", &format!("sip:{ZONE}\\;transport=tcp"), "tcp", "secret", "");
    let lost = trunk("lost", &format!("sip:nobody.{ZONE}"), "lost", "secret", "");
    let mut own = Own::new(&(phone("100", "pw100") + &udp + &tcp + &lost));
    for listen in &mut own.plan.settings.listen {
        listen.address = SocketAddr::new(Host::Backup.address(), 5060);
    }
    let pbx = own.start().await;
    pbx.handle().register_trunks().await;
    let all = |view: &View| {
        ["udp", "tcp"].iter().all(|name| told(view, name).0 == TrunkState::Up)
            && told(view, "lost").0 == TrunkState::Down
    };
    let view = seen(&pbx.handle(), "those that there are are registered", all).await;
    let (_, code, said) = told(&view, "lost");
    assert!(code.is_none() && said.starts_with(&format!("nobody.{ZONE} cannot be resolved: ")), "{said}");
    pbx.stop().await;
}
