//! The demo's own name server in a process of its own, which can be stopped and whose clock can be shifted: the test
//! binary starts itself again with one test that never ends.

use std::net::SocketAddr;
use std::path::Path;

use hickory_proto::rr::TSigner;
use pbx_failover::adapters::dns::wire;
use pbx_failover::config::{PlainSecret, Secret, TsigAlgorithm, TsigKey};

use super::{ADMIN_SECRET, KEY, SECRET};

/// Names the child's test, in whichever test binary this is.
pub fn argv() -> Vec<String> {
    let (_, module) = module_path!().split_once("::").expect("a module of a test binary");
    let binary = std::env::current_exe().expect("this binary").display().to_string();
    vec![binary, "--exact".into(), format!("{module}::serve"), "--ignored".into()]
}

/// What the child is told.
pub fn environment(zone: &Path, addr: SocketAddr, algorithm: &str) -> [(&'static str, String); 3] {
    let zone = zone.display().to_string();
    [("DEMO_DNS_ZONE", zone), ("DEMO_DNS_ADDR", addr.to_string()), ("DEMO_DNS_ALGORITHM", algorithm.into())]
}

/// The rig's two keys.
pub fn keys(algorithm: &str) -> Vec<TSigner> {
    let algorithm = match algorithm {
        "hmac-sha256" => TsigAlgorithm::HmacSha256,
        "hmac-sha384" => TsigAlgorithm::HmacSha384,
        _ => TsigAlgorithm::HmacSha512,
    };
    let key = |name: &str, algorithm, secret: &str| {
        let key = TsigKey { name: name.into(), algorithm, secret: Secret::Plain(PlainSecret(secret.into())) };
        wire::signer(&key, &secret.to_owned().into()).expect("a good key")
    };
    vec![key(KEY, algorithm, SECRET), key("admin", TsigAlgorithm::HmacSha256, ADMIN_SECRET)]
}

/// Run by the rig as a process of its own: serves until it is killed.
#[test]
#[ignore = "the child of the rig"]
fn serve() {
    use pbx_failover::demo::dns::{Authority, Server, Zone};
    let Ok(addr) = std::env::var("DEMO_DNS_ADDR") else { return };
    let text = std::fs::read_to_string(std::env::var("DEMO_DNS_ZONE").unwrap()).unwrap();
    let authority =
        Authority::new(Zone::parse(super::ZONE, &text).unwrap(), keys(&std::env::var("DEMO_DNS_ALGORITHM").unwrap()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::bind(addr.parse().unwrap()).await.unwrap();
        server.serve(std::sync::Arc::new(std::sync::Mutex::new(authority))).await;
    });
}
