//! The page docs/recipes/kamailio.md, walked on two machines: its lines within a `kamailio.cfg`, Debian's own unit, the
//! backup stopped while it is passive, the robot and the agent as their own user.

use std::net::SocketAddr;

use crate::lab::kamailio::{self, Kamailio, Setup};
use crate::lab::netns::Host;
use crate::lab::nspawn::Machine;
use crate::lab::robot::step;
use crate::lab::{have, wait_until};

use super::machines::{PATIENCE, World, install, wait_status};
use super::pages::{RENAME, block, blocks, checked, fails_back, machine, type_in, with_guard, with_robot};

const PAGE: &str = include_str!("../../../docs/recipes/kamailio.md");
const UNIT: &str = "kamailio.service";

/// What stands before the lines of the page in this office's `kamailio.cfg`.
const HEAD: &str = "#!KAMAILIO\ndebug=0\nlog_stderror=no\nchildren=1\ntcp_children=1\nauto_aliases=no\n";
const MODULES: [&str; 11] =
    ["pv", "textops", "siputils", "tm", "sl", "rr", "maxfwd", "usrloc", "registrar", "auth", "db_text"];
/// And what stands after them: one account, and calls between phones.
const TAIL: &str = r#"modparam("uac", "restore_mode", "none")
modparam("uac", "reg_db_url", "text:///etc/kamailio/trunks")
modparam("usrloc", "db_mode", 0)
modparam("dialog", "dlg_match_mode", 1)
request_route {
  if (is_method("REGISTER")) {
    if (!pv_www_authenticate("lab", "pw100", "0")) { auth_challenge("lab", "1"); exit; }
    save("location");
    exit;
  }
  if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
  if (is_method("INVITE") && !has_totag()) { record_route(); dlg_manage(); }
  if (has_totag()) { loose_route(); } else if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
  t_relay();
}
"#;

/// A machine with Debian's Kamailio, enabled, and the files of the page.
fn with_kamailio(world: &World, host: Host) -> Machine {
    let mut machine = machine(world, host);
    let pages = blocks(PAGE, "kamailio");
    let addresses =
        block(&pages, "reg_contact_addr").replace(&Host::Backup.address().to_string(), &host.address().to_string());
    let modules = MODULES.map(|name| format!("loadmodule \"{name}.so\"\n")).concat();
    let config = format!("{HEAD}{modules}{}{TAIL}", block(&pages, "jsonrpcs"));
    let provider = SocketAddr::from(([10, 77, 1, 5], 5060));
    // The rig knows how a table of trunks is written.
    let tables = Kamailio::new(Setup::at(provider).trunk("carrier", provider, "office", "pw"));
    machine.write("/etc/kamailio-local/addresses.cfg", &addresses);
    machine.write("/etc/kamailio/kamailio.cfg", &config);
    for name in ["uacreg", "version"] {
        let table = std::fs::read_to_string(tables.work_dir().join("trunks").join(name)).expect("a table");
        machine.write(&format!("/etc/kamailio/trunks/{name}"), &table);
    }
    machine.boot();
    // The root's own package must not start by itself.
    machine.must(&["systemctl", "unmask", "--quiet", UNIT]);
    machine.must(&["systemctl", "enable", "--quiet", "--now", UNIT]);
    machine
}

#[test]
fn the_recipe_for_kamailio_leads_to_a_first_takeover_and_home() {
    if !have(&kamailio::PROGRAMS) {
        return;
    }
    let Some(world) = World::up() else { return };
    let provider = SocketAddr::from(([10, 77, 1, 5], 5060));
    let provider = Kamailio::started(Setup::at(provider).inside(world.net.exec(Host::Inet)).account("office", "pw"));
    let registered = |host: Host| provider.contacts("office").join(" ").contains(&format!("@{}", host.address()));
    let yaml = blocks(PAGE, "yaml");
    let section = PAGE.split("   ```yaml\n").nth(1).and_then(|rest| rest.split("   ```").next()).expect("a block");
    let pbx = section
        .lines()
        .map(|line| line.strip_prefix("   ").unwrap_or(line))
        .fold(String::new(), |text, line| text + line + "\n");
    assert!(yaml.len() == 2 && !pbx.contains("gate"), "the page has two sections `pbx`: {pbx}");

    let primary = with_kamailio(&world, Host::Primary);
    with_robot(&world, &primary, Host::Primary, &pbx);
    type_in(&primary, "usermod -aG kamailio pbx-failover");
    type_in(&primary, &RENAME.replace("UNIT", UNIT));
    with_guard(&primary, UNIT);
    primary.must(&["systemctl", "restart", UNIT]);
    wait_until("the primary serves, with its trunk", PATIENCE, || {
        world.serves(Host::Primary) && registered(Host::Primary)
    });

    let backup = with_kamailio(&world, Host::Backup);
    with_robot(&world, &backup, Host::Backup, &pbx);
    install(&backup, "pbx.service.d/pbx-failover.conf", &format!("/etc/systemd/system/{UNIT}.d/pbx-failover.conf"));
    type_in(&backup, "usermod -aG kamailio pbx-failover");
    type_in(&backup, &RENAME.replace("UNIT", UNIT));
    type_in(&backup, &format!("systemctl disable --now {UNIT}\nsystemctl daemon-reload"));
    assert!(!world.serves(Host::Backup), "it is passive");
    backup.must(&["systemctl", "enable", "--quiet", "--now", "pbx-failover.service"]);
    wait_status(&backup, "armed", |s| s["verdict"] == "primary-up" && s["armed"]["ok"] == true);
    checked(&backup);

    primary.must(&["systemctl", "stop", UNIT]);
    let proved = |status: &serde_json::Value| {
        let up = || step(status, "register_trunks")["proof"].as_str().is_some_and(|said| said.contains("carrier up"));
        status["state"] == "active" && up()
    };
    wait_status(&backup, "active, with its trunk", proved);
    assert!(registered(Host::Backup));
    world.phone.register(SocketAddr::new(Host::Backup.address(), 5060)).expect("a phone registers");

    fails_back(&primary, &backup, UNIT);
    wait_until("the primary has its trunk again", PATIENCE, || registered(Host::Primary));
    assert!(world.serves(Host::Primary) && !world.serves(Host::Backup));
}
