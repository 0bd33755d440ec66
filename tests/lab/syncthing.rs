//! Two Syncthings on loopback that keep one folder equal, each with its own home; nothing is announced, nothing leaves.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{Running, free_port, wait_until};

/// Both, with the folder `pbx`; ended when dropped.
pub struct Pair {
    primary: Instance,
    backup: Instance,
    _dir: tempfile::TempDir,
}

struct Instance {
    gui: SocketAddr,
    _process: Running,
}

impl Pair {
    /// What it needs, for [`super::have`].
    pub const PROGRAMS: [&'static str; 2] = ["syncthing", "curl"];

    /// The key of both interfaces.
    pub const KEY: &'static str = "key-of-the-lab";

    /// Keeps these two directories equal, the backup's with its interface at this port; returns once they are connected.
    pub fn start(primary: &Path, backup: &Path, port: u16) -> Self {
        let dir = tempfile::Builder::new().prefix("syncthing").tempdir().expect("directory");
        let homes = [dir.path().join("a"), dir.path().join("b")];
        let ids = homes.each_ref().map(|home| identity(home));
        let listens = [0; 2].map(|_| free_port());
        let [primary, backup] =
            [(0, 1, primary, free_port()), (1, 0, backup, port)].map(|(me, other, folder, port)| {
                let gui = SocketAddr::from(([127, 0, 0, 1], port));
                let config = CONFIG
                    .replace("@DIR@", &folder.display().to_string())
                    .replace("@ME@", &ids[me])
                    .replace("@OTHER@", &ids[other])
                    .replace("@OTHERS_PORT@", &listens[other].to_string())
                    .replace("@PORT@", &listens[me].to_string())
                    .replace("@GUI@", &gui.to_string())
                    .replace("@KEY@", Self::KEY);
                std::fs::write(homes[me].join("config.xml"), config).expect("written");
                let home = format!("--home={}", homes[me].display());
                let log = homes[me].join("log");
                let process = Running::start_with(&["syncthing", &home, "--no-browser"], &log, |command| {
                    command.env("STNOUPGRADE", "1").env("STNODEFAULTFOLDER", "1");
                });
                Instance { gui, _process: process }
            });
        let pair = Self { primary, backup, _dir: dir };
        wait_until("they are connected", Duration::from_secs(60), || {
            let connections = pair.backup.get("system/connections").unwrap_or_default()["connections"].clone();
            connections.as_object().is_some_and(|all| all.values().any(|one| one["connected"] == true))
        });
        pair
    }

    /// Whether the backup's folder is paused.
    pub fn is_paused(&self) -> Option<bool> {
        self.backup.get("config/folders/pbx")?["paused"].as_bool()
    }

    /// Pauses the backup's folder, or lets it sync, as a person does.
    pub fn pause(&self, paused: bool) {
        let body = format!("{{\"paused\":{paused}}}");
        let url = format!("http://{}/rest/config/folders/pbx", self.backup.gui);
        Instance::curl(&["-X", "PATCH", "-d", &body, &url]).expect("it answers");
    }

    /// Returns once the primary's has seen what lies in its directory now.
    pub fn wait_scanned(&self) {
        let url = format!("http://{}/rest/db/scan?folder=pbx", self.primary.gui);
        Instance::curl(&["-X", "POST", &url]).expect("it scans");
    }
}

impl Instance {
    fn get(&self, what: &str) -> Option<Value> {
        let answer = Self::curl(&[&format!("http://{}/rest/{what}", self.gui)])?;
        serde_json::from_slice(&answer).ok()
    }

    /// Asks with the key that both have.
    fn curl(arguments: &[&str]) -> Option<Vec<u8>> {
        let key = format!("X-API-Key: {}", Pair::KEY);
        let out = Command::new("curl").args(["-s", "-f", "-m", "20", "-H", &key]).args(arguments).output().ok()?;
        out.status.success().then_some(out.stdout)
    }
}

/// Makes an identity in `home`, and returns its id.
fn identity(home: &Path) -> String {
    std::fs::create_dir_all(home).expect("directory");
    let at = format!("--home={}", home.display());
    let made = Command::new("syncthing").args(["generate", &at, "--no-default-folder"]).output().expect("it runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let home = format!("--home={}", home.display());
    let id = Command::new("syncthing").args([&home, "--device-id"]).output().expect("it runs");
    String::from_utf8(id.stdout).expect("text").trim().to_owned()
}

const CONFIG: &str = r#"<configuration version="35">
<folder id="pbx" label="pbx" path="@DIR@" type="sendreceive" rescanIntervalS="60" fsWatcherEnabled="true" fsWatcherDelayS="1">
<filesystemType>basic</filesystemType><device id="@ME@"></device><device id="@OTHER@"></device>
<minDiskFree unit="%">0</minDiskFree><maxConflicts>10</maxConflicts></folder>
<device id="@ME@" name="me"><address>dynamic</address></device>
<device id="@OTHER@" name="other"><address>tcp://127.0.0.1:@OTHERS_PORT@</address></device>
<gui enabled="true"><address>@GUI@</address><apikey>@KEY@</apikey></gui>
<options><listenAddress>tcp://127.0.0.1:@PORT@</listenAddress><globalAnnounceEnabled>false</globalAnnounceEnabled>
<localAnnounceEnabled>false</localAnnounceEnabled><relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled>
<urAccepted>-1</urAccepted><crashReportingEnabled>false</crashReportingEnabled>
<reconnectionIntervalS>2</reconnectionIntervalS><startBrowser>false</startBrowser>
<autoUpgradeIntervalH>0</autoUpgradeIntervalH></options></configuration>
"#;
