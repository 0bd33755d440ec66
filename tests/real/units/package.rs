//! A package of the PBX, built with dpkg-deb and installed with dpkg on a machine with a real systemd: what its
//! maintainer scripts do to the passive PBX, and to the one that serves.

use std::path::Path;
use std::process::Command;

use crate::lab::nspawn::Machine;
use crate::lab::{have, wait_until};

use super::machines::{PATIENCE, install};

/// As debhelper 13 writes it for a unit (autoscripts `postinst-systemd-enable` and `postinst-systemd-restart`).
const POSTINST: &str = r#"#!/bin/sh
set -e
if [ "$1" = "configure" ]; then
    deb-systemd-helper unmask 'pbx.service' >/dev/null || true
    if deb-systemd-helper --quiet was-enabled 'pbx.service'; then
        deb-systemd-helper enable 'pbx.service' >/dev/null || true
    else
        deb-systemd-helper update-state 'pbx.service' >/dev/null || true
    fi
    if [ -d /run/systemd/system ]; then
        systemctl --system daemon-reload >/dev/null || true
        if [ -n "$2" ]; then
            _dh_action=restart
        else
            _dh_action=start
        fi
        deb-systemd-invoke $_dh_action 'pbx.service' >/dev/null || true
    fi
fi
"#;

/// As vendors write it by hand.
const POSTINST_BY_HAND: &str = "#!/bin/sh\nset -e\nsystemctl daemon-reload\nsystemctl restart pbx\n";

/// The package at `version` with this script, in `dir`; where the machine sees it.
fn package(dir: &Path, version: &str, postinst: &str) -> String {
    let tree = dir.join(version);
    let program = format!("#!/bin/sh\necho version {version}\nexec sleep infinity\n");
    let control = format!(
        "Package: pbx\nVersion: {version}\nArchitecture: all\nMaintainer: PBX <pbx@example.com>\nDescription: a PBX\n"
    );
    let unit = "[Unit]\nDescription=PBX\n[Service]\nExecStart=/usr/bin/pbx\n[Install]\nWantedBy=multi-user.target\n";
    for (path, text, mode) in [
        ("DEBIAN/control", control.as_str(), "644"),
        ("DEBIAN/postinst", postinst, "755"),
        ("usr/bin/pbx", &program, "755"),
        ("lib/systemd/system/pbx.service", unit, "644"),
    ] {
        let file = tree.join(path);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("its folder");
        std::fs::write(&file, text).expect("a file of the package");
        assert!(Command::new("chmod").arg(mode).arg(&file).status().expect("chmod runs").success());
    }
    let name = format!("pbx_{version}.deb");
    let mut dpkg_deb = Command::new("dpkg-deb");
    let output = dpkg_deb.args(["--root-owner-group", "--build"]).arg(&tree).arg(dir.join(&name)).output();
    let output = output.expect("dpkg-deb runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    format!("/packages/{name}")
}

#[test]
fn an_upgrade_of_its_package_does_not_start_a_passive_pbx_and_restarts_the_one_that_serves() {
    if !have(&["dpkg-deb"]) || !Machine::possible() {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let mut machine = Machine::new("pbx-b", None).binds(dir.path(), "/packages");
    machine.boot();
    let install_package = |version: &str, postinst: &str| {
        machine.must(&["dpkg", "--install", &package(dir.path(), version, postinst)]);
        let shown = machine.must(&["dpkg-query", "--show", "--showformat=${Version} ${Status}", "pbx"]);
        assert_eq!(shown, format!("{version} install ok installed"));
    };
    let serves = |version: &str| {
        let said = format!("version {version}");
        wait_until(&said, PATIENCE, || machine.journal("pbx.service").contains(&said));
    };
    let state = |property: &str| machine.unit("pbx.service", property);

    // What the drop-in is for: without it the scripts start a PBX that was stopped, and one by hand a disabled one too.
    install_package("1.0", POSTINST);
    serves("1.0");
    machine.must(&["systemctl", "stop", "pbx.service"]);
    install_package("1.1", POSTINST);
    serves("1.1");
    machine.must(&["systemctl", "disable", "--quiet", "--now", "pbx.service"]);
    install_package("1.2", POSTINST);
    assert_eq!(state("ActiveState"), "inactive", "deb-systemd-invoke leaves a disabled unit alone");
    install_package("1.3", POSTINST_BY_HAND);
    serves("1.3");

    // With it nothing starts the passive one, also when it is enabled.
    install(&machine, "pbx.service.d/pbx-failover.conf", "/etc/systemd/system/pbx.service.d/pbx-failover.conf");
    machine.must(&["systemctl", "daemon-reload"]);
    machine.must(&["systemctl", "stop", "pbx.service"]);
    machine.must(&["systemctl", "enable", "--quiet", "pbx.service"]);
    for (version, postinst) in [("1.4", POSTINST), ("1.5", POSTINST_BY_HAND)] {
        install_package(version, postinst);
        assert_eq!((state("ActiveState").as_str(), state("ConditionResult").as_str()), ("inactive", "no"), "{version}");
        assert!(!machine.journal("pbx.service").contains(&format!("version {version}")), "{version}");
    }

    // One that serves goes on with the new version.
    machine.write("/run/pbx-failover/active", "started pbx-b 2026-11-20T10:00:00Z\n");
    machine.must(&["systemctl", "start", "pbx.service"]);
    serves("1.5");
    install_package("1.6", POSTINST);
    assert_eq!(state("ActiveState"), "active");
    serves("1.6");
}
