//! The checks and the Internet targets against real servers, and against sockets that misbehave.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use pbx_failover::adapters::checks;
use pbx_failover::config::{Check, CheckTarget, Host, InternetKind, InternetTarget, SipTransport};
use pbx_failover::host::tls;
use pbx_failover::units::{CheckName, ProbeAnswer, ProbeResult};

use crate::lab::process::Running;
use crate::lab::web::{Authority, RawTcp, RawUdp, Site, Web};
use crate::lab::{free_port, have, wait_until};

mod sip;
mod web;
mod whose_fault;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Longer than anything that answers needs.
const PATIENT: Duration = Duration::from_secs(5);
/// For questions that are not to be answered.
const SHORT: Duration = Duration::from_millis(300);

fn check(target: CheckTarget, timeout: Duration) -> Check {
    let once = NonZeroU32::MIN;
    Check { name: CheckName("it".to_owned()), target, interval: PATIENT, timeout, fall: once, rise: once }
}

fn host(address: IpAddr) -> Host {
    Host { node: "pbx-a".parse().expect("name"), addresses: vec![address], listen_address: None }
}

/// Asks one check at loopback, once.
async fn ask(target: CheckTarget, timeout: Duration) -> ProbeResult {
    tls::install_provider();
    checks::probe(&check(target, timeout), &host(LOOPBACK), None).expect("a good check").ask().await
}

/// Asks one Internet target, once.
async fn ask_internet(kind: InternetKind, timeout: Duration) -> ProbeResult {
    tls::install_provider();
    let target = InternetTarget { name: "it".to_owned(), kind };
    checks::internet::probe(&target, timeout).expect("a good target").ask().await
}

/// What was seen, and the warning.
pub fn up(result: &ProbeResult) -> (&str, Option<&str>) {
    match &result.answer {
        ProbeAnswer::Up { seen, warning } => (seen, warning.as_deref()),
        other => panic!("not up: {other:?}"),
    }
}

pub fn down(result: &ProbeResult) -> &str {
    match &result.answer {
        ProbeAnswer::Down(why) => why,
        other => panic!("not down: {other:?}"),
    }
}

pub fn unknown(result: &ProbeResult) -> &str {
    match &result.answer {
        ProbeAnswer::Unknown(why) => why,
        other => panic!("not unknown: {other:?}"),
    }
}

/// Runs the test `name` of this binary once more, behind `prefix` and with `env`, and expects it to pass there.
///
/// Gives false in that inner run, in which the test does its work.
pub fn run_inside(name: &str, prefix: &[&str], env: &[(&str, &str)]) -> bool {
    const INSIDE: &str = "PBX_FAILOVER_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let binary = std::env::current_exe().expect("this binary");
    let mut words = prefix.iter().map(std::ffi::OsStr::new).chain([binary.as_os_str()]);
    let output = Command::new(words.next().expect("a program"))
        .args(words)
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .envs(env.iter().copied())
        .output()
        .expect("the test runs again");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "inside {prefix:?}: {said}");
    true
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime")
}
