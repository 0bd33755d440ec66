//! The page docs/recipes/asterisk.md, walked on two machines: its files and commands as they stand there, Debian's own
//! `asterisk.service`, the robot and the agent as their own user under the shipped rule and drop-ins.

use std::fs;

use crate::lab::asterisk::modules_for_calls;
use crate::lab::kamailio::{self, Kamailio, Setup};
use crate::lab::netns::Host;
use crate::lab::nspawn::Machine;
use crate::lab::robot::step;
use crate::lab::suite::Suite;
use crate::lab::{have, wait_until};

use super::machines::{PATIENCE, World, wait_status};
use super::pages::{RENAME, block, blocks, checked, fails_back, machine, type_in, with_guard, with_robot};

const PAGE: &str = include_str!("../../../docs/recipes/asterisk.md");

/// A machine with Debian's Asterisk, as its package leaves it: enabled, with the files of the page.
fn with_asterisk(world: &World, suite: &Suite, host: Host) -> Machine {
    let mut machine = machine(world, host).binds(&suite.path(""), "/opt/suite");
    machine.write_with("/usr/sbin/asterisk", "#!/bin/sh\nexec /opt/suite/run usr/sbin/asterisk \"$@\"\n", 0o755);
    let unit = fs::read_to_string(suite.path("usr/lib/systemd/system/asterisk.service")).expect("Debian's unit");
    machine.write("/usr/lib/systemd/system/asterisk.service", &unit);
    let runs = "[Service]\nRuntimeDirectory=asterisk\n";
    machine.write("/usr/lib/systemd/system/asterisk.service.d/runtime.conf", runs);
    machine.write("/usr/lib/sysusers.d/asterisk.conf", "u asterisk - \"Asterisk\" /var/lib/asterisk\n");
    machine.boot();
    machine.must(&["systemd-sysusers"]);
    for dir in ["/var/lib/asterisk", "/var/log/asterisk", "/var/spool/asterisk", "/etc/asterisk"] {
        machine.must(&["install", "-d", "-o", "asterisk", "-g", "asterisk", "-m", "0750", dir]);
    }
    let modules =
        ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu"].map(|dir| format!("{dir}/asterisk/modules"));
    let modules = modules.into_iter().find(|dir| suite.path(dir).exists()).expect("the modules lie beside the program");
    let ini = blocks(PAGE, "ini");
    let accounts = "[100]\ntype=endpoint\ncontext=phones\ndisallow=all\nallow=ulaw\nauth=100\naors=100\n\
                    [100]\ntype=auth\nauth_type=userpass\nusername=100\npassword=pw100\n\
                    [100]\ntype=aor\nmax_contacts=1\nremove_existing=yes\ndefault_expiration=120\nmaximum_expiration=300\n\
                    [carrier]\ntype=auth\nauth_type=userpass\nusername=office\npassword=pw\n";
    let pjsip =
        format!("{}{}{accounts}", block(&ini, "#include host.d/transport.conf"), block(&ini, "type=registration"));
    let manager = block(&ini, "[robot]").replace("the same text as in /etc/pbx-failover/ami.secret", "of the lab");
    let transport =
        block(&ini, "external_media_address").replace(&Host::Backup.address().to_string(), &host.address().to_string());
    let directories =
        format!("[directories]\nastmoddir => /opt/suite/{modules}\nastdatadir => /opt/suite/usr/share/asterisk\n");
    for (name, text) in [
        ("asterisk.conf", directories.as_str()),
        ("modules.conf", &modules_for_calls()),
        ("extensions.conf", "[phones]\nexten = _X.,1,Dial(PJSIP/${EXTEN})\n"),
        ("logger.conf", "[general]\n[logfiles]\n"),
        ("pjsip.conf", &pjsip),
        ("manager.conf", &manager),
        ("host.d/transport.conf", &transport),
    ] {
        let path = format!("/etc/asterisk/{name}");
        machine.write_with(&path, text, 0o640);
        machine.must(&["chown", "root:asterisk", &path]);
    }
    machine.must(&["chmod", "0755", "/etc/asterisk/host.d"]);
    machine.must(&["systemctl", "daemon-reload"]);
    machine.must(&["systemctl", "enable", "--quiet", "--now", "asterisk.service"]);
    machine
}

#[test]
fn the_recipe_for_asterisk_leads_word_by_word_to_a_first_takeover_and_home() {
    if !have(&kamailio::PROGRAMS) {
        return;
    }
    let (Some(suite), Some(world)) = (Suite::forky(), World::up()) else { return };
    let provider = std::net::SocketAddr::from(([10, 77, 1, 5], 5060));
    let provider = Kamailio::started(Setup::at(provider).inside(world.net.exec(Host::Inet)).account("office", "pw"));
    let registered = |host: Host| provider.contacts("office").join(" ").contains(&format!("@{}", host.address()));

    let primary = with_asterisk(&world, &suite, Host::Primary);
    let yaml = blocks(PAGE, "yaml").concat();
    let pbx = &yaml[yaml.find("pbx:\n").expect("its section")..yaml.find("epoch:").expect("the next")];
    with_robot(&world, &primary, Host::Primary, pbx);
    let commands = blocks(PAGE, "sh");
    let commands = block(&commands, "usermod");
    type_in(&primary, commands.lines().find(|line| line.contains("usermod")).expect("the group"));
    type_in(&primary, &RENAME.replace("UNIT", "asterisk.service"));
    with_guard(&primary, "asterisk.service");
    primary.must(&["systemctl", "restart", "asterisk.service"]);
    wait_until("the primary serves, with its trunk", PATIENCE, || {
        world.serves(Host::Primary) && registered(Host::Primary)
    });

    let backup = with_asterisk(&world, &suite, Host::Backup);
    with_robot(&world, &backup, Host::Backup, pbx);
    type_in(&backup, commands);
    assert!(!world.serves(Host::Backup), "it is passive");
    backup.must(&["systemctl", "enable", "--quiet", "--now", "pbx-failover.service"]);
    wait_status(&backup, "armed", |s| s["verdict"] == "primary-up" && s["armed"]["ok"] == true);
    let check = checked(&backup);
    assert!(check.contains("asterisk.service is not started at boot"), "{check}");

    primary.must(&["systemctl", "stop", "asterisk"]);
    let proved = |status: &serde_json::Value| {
        status["state"] == "active"
            && step(status, "reload")["proof"]
                .as_str()
                .is_some_and(|said| said.contains("asterisk.service is active; 1 endpoints"))
            && step(status, "register_trunks")["proof"].as_str().is_some_and(|said| said.contains("carrier up"))
    };
    wait_status(&backup, "active, with the proofs of the page", proved);
    assert!(registered(Host::Backup));
    world.phone.register(std::net::SocketAddr::new(Host::Backup.address(), 5060)).expect("a phone registers");
    for verb in ["stop", "start", "restart"] {
        let (_, said) =
            backup.exec(&["runuser", "-u", "nobody", "--", "systemctl", "--no-ask-password", verb, "asterisk"]);
        assert!(!said.is_empty(), "nobody else may {verb} it");
    }

    fails_back(&primary, &backup, "asterisk.service");
    wait_until("the primary has its trunk again", PATIENCE, || registered(Host::Primary));
    assert!(world.serves(Host::Primary) && !world.serves(Host::Backup));
    assert!(primary.active("asterisk.service") && !backup.active("asterisk.service"));
}
