//! What `check` says about Asterisk before the bad day: settings that defeat a failover, and what is missing for one.
//!
//! It reads files of the working directory, the unit and, where Asterisk runs, AMI. It changes nothing. Defaults are
//! those of Asterisk 16 and 22.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::announced::announced;
use super::baseline::{Baseline, Held, KEYS};
use super::{AsteriskPbx, said};
use crate::adapters::pbx::builtin::accounts::disk::Disk;
use crate::host::secret;
use crate::units::finding::{Finding, Level};
use crate::units::{Side, TrunkKind};
use crate::wire::asterisk_conf::{self, Section, Weight};

const ABOUT: &str = "pbx asterisk";

/// As many remarks on registrations as a person may want to read.
const REMARKS_MAX: usize = 40;

/// A registration that lasts longer keeps calls at a dead primary for so long.
const EXPIRATION_MAX_S: u64 = 300;

/// Longer is no delay that users would not notice.
const DELAY_MAX_S: u64 = 1;

/// Asterisk waits for about so long, several times.
const RESOLVER_LIMIT: Duration = Duration::from_secs(2);

/// More are not asked: resolvers read three lines.
const RESOLVERS_MAX: usize = 3;

/// Where this host's resolvers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";

impl AsteriskPbx {
    pub(super) async fn find(&self) -> Vec<Finding> {
        let trunks: Vec<_> =
            self.site.trunks.iter().filter(|trunk| trunk.kind == TrunkKind::Register).cloned().collect();
        let names: Vec<String> = trunks.into_iter().map(|trunk| trunk.name).collect();
        let password = secret::read(&self.manager.password).ok();
        let username = self.manager.username.clone();
        let own = self.own.clone();
        let looked = self
            .with_files(move |baseline| {
                let mut findings = files(baseline, &names);
                if let (Some(held), Some(own)) = (baseline.held(), &own) {
                    findings.extend(announced(&held, own));
                }
                if let Some(config) = baseline.config() {
                    let expected = password.as_ref().map(ExposeSecret::expose_secret);
                    findings.extend(manager(&config.with_file_name("manager.conf"), &username, expected));
                }
                findings
            })
            .await;
        let mut findings = looked.unwrap_or_default();
        findings.push(self.spoken().await);
        if self.side == Side::Backup
            && let Some(word) = self.unit.enabled_at_boot().await
        {
            findings.push(boot(self.unit.name(), &word));
        }
        findings.extend(resolvers(Path::new(RESOLV_CONF), 53).await);
        findings
    }

    /// Whether AMI answers; nobody is there to answer while it is passive.
    async fn spoken(&self) -> Finding {
        const ABOUT: &str = "pbx ami";
        if let Some(idle) = self.unit.gone().await {
            return Finding { level: Level::Skipped, ..Finding::ok(ABOUT, format!("not asked: {idle}")) };
        }
        let asked = match self.session().await {
            Ok(mut session) => said::endpoints(&mut session).await,
            Err(trouble) => Err(trouble),
        };
        match asked {
            Ok(endpoints) => Finding::ok(ABOUT, format!("{} answers: {endpoints} endpoints", self.manager.name())),
            Err(trouble) => {
                let why = trouble.to_string();
                let (what, hint) = why.split_once("; ").unwrap_or((&why, "see pbx.driver.asterisk"));
                Finding::problem(ABOUT, what, hint)
            }
        }
    }
}

fn boot(unit: &str, word: &str) -> Finding {
    if matches!(word, "enabled" | "enabled-runtime" | "alias") {
        let text =
            format!("{unit} is started at boot ({word}): this host would serve beside the primary, with old data");
        return Finding::problem(ABOUT, text, format!("systemctl disable {unit}; the robot starts it"));
    }
    Finding::ok(ABOUT, format!("{unit} is not started at boot ({word})"))
}

fn files(baseline: &Baseline, trunks: &[String]) -> Vec<Finding> {
    let Some(held) = baseline.held() else {
        if let Some(path) = baseline.config() {
            let text = format!("{} may not be read by this user: a copy that was cut is not seen", path.display());
            let hint = "put the robot's user into the file's group (usermod -aG asterisk pbx-failover) and restart it";
            return vec![Finding::warning(ABOUT, text, hint)];
        }
        return vec![Finding::warning(
            ABOUT,
            format!(
                "{} is not there: only the number of endpoints that it last served tells a cut copy",
                baseline.place()
            ),
            "correct pbx.driver.asterisk.config, unless its endpoints are in a database",
        )];
    };
    let mut findings = vec![match baseline.whole() {
        Ok(_) => Finding::ok(ABOUT, format!("{} endpoints in {}", held.endpoints, baseline.place())),
        Err(why) => {
            let (what, hint) = why.split_once("; ").unwrap_or((&why, "copy it again"));
            Finding::problem(ABOUT, what, hint)
        }
    }];
    findings.extend(registrations(&held));
    let is_there = |name: &String| registered(&held).any(|section| section.name() == name);
    findings.extend(trunks.iter().filter(|name| !is_there(name)).map(|name| {
        let text = format!("the trunk {name} has no section of type=registration in {}", baseline.place());
        Finding::problem(ABOUT, text, "name it in pbx.trunks as its section is called")
    }));
    findings
}

fn registered(held: &Held) -> impl Iterator<Item = Section<'_>> {
    held.conf
        .sections()
        .filter(|section| section.last(0_usize).is_some_and(|kind| kind.text.eq_ignore_ascii_case("registration")))
}

/// A setting of a registration that defeats a failover.
struct Trap {
    key: &'static str,
    default: &'static str,
    is_bad: fn(&str) -> bool,
    does: &'static str,
    write: &'static str,
}

const TRAPS: &[Trap] = &[
    Trap {
        key: "auth_rejection_permanent",
        default: "yes",
        is_bad: |value| ["yes", "true", "y", "t", "1", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes)),
        does: "one refused login ends all attempts",
        write: "auth_rejection_permanent=no",
    },
    Trap {
        key: "forbidden_retry_interval",
        default: "0",
        is_bad: |value| value.parse() == Ok(0_u64),
        does: "one 403, as a provider says while it still holds the primary, ends all attempts",
        write: "forbidden_retry_interval=60",
    },
    Trap {
        key: "max_retries",
        default: "10",
        is_bad: |value| value.parse().is_ok_and(|retries: u64| retries < 1000),
        does: "it gives up after so many attempts, and an outage may be longer",
        write: "max_retries=10000",
    },
    Trap {
        key: "max_random_initial_delay",
        default: "10",
        is_bad: |value| value.parse().is_ok_and(|delay_s: u64| delay_s > DELAY_MAX_S),
        does: "after a takeover it waits for up to so many seconds before it registers",
        write: "max_random_initial_delay=0",
    },
    Trap {
        key: "expiration",
        default: "3600",
        is_bad: |value| value.parse().is_ok_and(|expires_s: u64| expires_s > EXPIRATION_MAX_S),
        does: "for so many seconds a provider may send calls to the dead primary",
        write: "expiration=120",
    },
];

fn registrations(held: &Held) -> Vec<Finding> {
    let mut findings = Vec::new();
    for section in registered(held) {
        for trap in TRAPS {
            let Some(at) = KEYS.iter().position(|key| *key == trap.key) else { continue };
            let value = section.last(at);
            let written = value.map_or(trap.default, |value| value.text);
            if !(trap.is_bad)(written) {
                continue;
            }
            let by_default = if value.is_some() { "" } else { ", by default" };
            let what = format!("[{}] {}={written}{by_default}: {}", section.name(), trap.key, trap.does);
            let remark = match value {
                Some(value) => value.remark(Weight::Fault, what, ""),
                None => section.remark(Weight::Fault, what, ""),
            };
            let text = format!("{}:{}: {}", remark.file, remark.line, remark.what);
            findings.push(Finding::warning(ABOUT, text, format!("write {}", trap.write)));
            if findings.len() >= REMARKS_MAX {
                return findings;
            }
        }
    }
    findings
}

/// The keys of `manager.conf` that decide whether the robot is let in.
const MANAGER_KEYS: &[&str] = &["enabled", "secret", "read", "write"];

/// Whether `manager.conf` in the working directory lets the robot in: on a passive host nobody is there to ask.
fn manager(path: &Path, username: &str, password: Option<&str>) -> Vec<Finding> {
    const ABOUT: &str = "pbx ami";
    if !path.exists() {
        return Vec::new();
    }
    let file = path.display();
    let mut disk = Disk::new(path, &[]);
    let (text, _) = disk.root(path);
    let conf = asterisk_conf::read(text, &mut disk, MANAGER_KEYS);
    let mut findings = Vec::new();
    let mut problem = |text: String, hint: &str| findings.push(Finding::problem(ABOUT, text, hint));
    let is_on = |value: &str| ["yes", "true", "y", "t", "1", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes));
    let general = conf.named("general").last();
    if !general.and_then(|section| section.last(0_usize)).is_some_and(|value| is_on(value.text)) {
        problem(format!("{file}: AMI is not enabled"), "write enabled=yes into its [general]");
    }
    let Some(user) = conf.named(username).last() else {
        problem(format!("{file} has no user [{username}]"), "add it, or correct pbx.driver.asterisk.username");
        return findings;
    };
    if let (Some(password), Some(secret)) = (password, user.last(1_usize))
        && secret.text != password
    {
        problem(
            format!("{file}: the secret of [{username}] is not pbx.driver.asterisk.password"),
            "write the same into both",
        );
    }
    let classes: HashMap<_, _> = [("read", 2_usize), ("write", 3)].into_iter().collect();
    for (key, at) in classes {
        let has = |value: asterisk_conf::Value<'_>| value.list().any(|class| matches!(class, "system" | "all"));
        if !user.last(at).is_some_and(has) {
            problem(format!("{file}: [{username}] has no {key} = system"), "add it: the robot needs no other class");
        }
    }
    findings
}

/// Whether each of this host's resolvers answers: Asterisk boots 5 to 11 s later where one is silent.
async fn resolvers(path: &Path, port: u16) -> Vec<Finding> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok());
    let mut findings = Vec::new();
    for server in servers.take(RESOLVERS_MAX) {
        if !answers(server, port).await {
            let text = format!("the resolver {server} of {} does not answer", path.display());
            let hint = "Asterisk starts 5 to 11 s later, and may not find its providers: name one that answers";
            findings.push(Finding::warning("pbx resolver", text, hint));
        }
    }
    findings
}

/// Whether anything comes back for the name servers of the root, be it a refusal.
async fn answers(server: IpAddr, port: u16) -> bool {
    // RFC 1035 §4.1: id, RD, one question: the root's NS, class IN.
    const QUESTION: [u8; 17] = [0x70, 0x62, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
    let own: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    let ask = async {
        let socket = UdpSocket::bind((own, 0)).await?;
        socket.connect((server, port)).await?;
        socket.send(&QUESTION).await?;
        socket.recv(&mut [0; 512]).await
    };
    matches!(timeout(RESOLVER_LIMIT, ask).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn texts(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(|finding| finding.text.clone()).collect()
    }

    #[test]
    fn each_setting_of_a_registration_that_defeats_a_failover_is_named_with_its_line() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("pjsip.conf");
        let good = TRAPS.iter().fold(String::new(), |text, trap| format!("{text}{}\n", trap.write));
        let text = format!(
            "[good]\ntype=registration\n{good}[bad]\ntype=registration\nexpiration=600\n[phone]\ntype=endpoint\n"
        );
        fs::write(&path, text).expect("written");
        let baseline = Baseline::new(vec![path.clone()], dir.path().join("count"));
        let findings = files(&baseline, &["good".to_owned(), "gone".to_owned()]);
        let (path, texts) = (path.display(), texts(&findings));
        assert_eq!(texts.len(), 1 + TRAPS.len() + 1, "{texts:?}");
        assert_eq!(texts[0], format!("1 endpoints in {path}"));
        assert_eq!(
            texts[1],
            format!("{path}:8: [bad] auth_rejection_permanent=yes, by default: one refused login ends all attempts")
        );
        assert!(texts[5].starts_with(&format!("{path}:10: [bad] expiration=600: for so many seconds")), "{texts:?}");
        assert!(texts[6].starts_with("the trunk gone has no section"), "{texts:?}");
        assert_eq!(findings[1].hint.as_deref(), Some("write auth_rejection_permanent=no"));
    }

    #[test]
    fn a_manager_that_would_not_let_the_robot_in_is_seen_before_it_runs() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("manager.conf");
        let look = |text: &str| {
            fs::write(&path, text).expect("written");
            let mut texts = texts(&manager(&path, "robot", Some("right")));
            texts.sort();
            texts.into_iter().map(|text| text.replace(&path.display().to_string(), "F")).collect::<Vec<_>>()
        };
        let user = "[robot]\nsecret=right\nread=system\nwrite=system,call\n";
        assert_eq!(look(&format!("[general]\nenabled=yes\n{user}")), Vec::<String>::new());
        assert_eq!(look(user), ["F: AMI is not enabled"]);
        assert_eq!(look("[general]\nenabled=yes\n"), ["F has no user [robot]"]);
        let found = look("[general]\nenabled=yes\n[robot]\nsecret=wrong\nread=all\n");
        assert_eq!(
            found,
            ["F: [robot] has no write = system", "F: the secret of [robot] is not pbx.driver.asterisk.password"]
        );
    }

    #[test]
    fn a_backup_whose_boot_starts_it_is_a_problem() {
        assert_eq!(boot("asterisk.service", "enabled").level, Level::Problem);
        for word in ["disabled", "static", "masked", "linked"] {
            assert_eq!(boot("asterisk.service", word).level, Level::Ok, "{word}");
        }
    }

    #[tokio::test]
    async fn a_resolver_that_refuses_answers_and_a_silent_one_is_told() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("resolv.conf");
        fs::write(&path, "# mine\nnameserver 127.0.0.1\nnameserver no address\n").expect("written");
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
        let port = server.local_addr().expect("address").port();
        assert_eq!(
            texts(&resolvers(&path, port).await),
            [format!("the resolver 127.0.0.1 of {} does not answer", path.display())]
        );
        let answering = async {
            for _ in 0..2 {
                let (_, from) = server.recv_from(&mut [0; 512]).await.expect("a question");
                server.send_to(b"pb\x80\x05", from).await.expect("sent");
            }
        };
        assert_eq!(tokio::join!(resolvers(&path, port), answering).0, []);
    }
}
