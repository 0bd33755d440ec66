//! Every default, key by key: pinned here, and the same whether it is written or left out.

use serde_json::{Value, json};

use crate::{EXAMPLE, good};
use pbx_failover::config::{Config, SourceText, schema};

/// The defaults that failover.yaml promises. `*` is a name, `[]` an item.
const DEFAULTS: &[(&str, &str)] = &[
    ("primary.listen_address", r#""""#),
    ("backup.listen_address", r#""""#),
    ("monitor.interval", r#""5s""#),
    ("monitor.fast_interval", r#""1s""#),
    ("monitor.timeout", r#""3s""#),
    ("monitor.fall", "3"),
    ("monitor.rise", "3"),
    ("monitor.down_when", r#""all""#),
    ("monitor.half_dead", r#"{"takeover_after":"2m"}"#),
    ("monitor.site_cut", r#""takeover""#),
    ("monitor.checks.*.expect_status", r#""200-399""#),
    ("monitor.checks.*.expect_body", r#""""#),
    ("monitor.checks.*.ca_file", r#""""#),
    ("monitor.checks.*.alive", "[]"),
    ("monitor.checks.*.max_age", r#""2m""#),
    ("internet", "{}"),
    ("internet.need", "2"),
    ("internet.targets", r#"["tls://1.1.1.1:443","tls://8.8.8.8:443","tls://9.9.9.9:443"]"#),
    ("witness", "{}"),
    ("witness.primary_site", "[]"),
    ("witness.observers", "[]"),
    ("takeover", "{}"),
    ("takeover.automatic", "true"),
    ("takeover.hold_down", r#""60s""#),
    ("takeover.startup_grace", r#""2m""#),
    ("takeover.hold_off", r#""2m""#),
    ("epoch", "{}"),
    ("epoch.store", r#""local""#),
    ("fence", "{}"),
    ("fence.command", "[]"),
    ("fence.http.headers", "{}"),
    ("fence.http.encoding", r#""json""#),
    ("fence.http.ca_file", r#""""#),
    ("fence.http.expect_status", r#""200-299""#),
    ("fence.http.timeout", r#""10s""#),
    ("fence.read_back", "{}"),
    ("fence.read_back.command", "[]"),
    ("fence.read_back.http.headers", "{}"),
    ("fence.read_back.http.encoding", r#""json""#),
    ("fence.read_back.http.ca_file", r#""""#),
    ("fence.read_back.http.expect_status", r#""200-299""#),
    ("fence.read_back.http.timeout", r#""10s""#),
    ("fence.required", "false"),
    ("fence.timeout", r#""30s""#),
    ("pbx.before_reload", "[]"),
    ("pbx.give_up_after", r#""5m""#),
    ("pbx.driver.systemd.start_timeout", r#""60s""#),
    ("pbx.driver.command.accept_registrations", "[]"),
    ("pbx.driver.command.register_trunks", "[]"),
    ("pbx.driver.command.status", "[]"),
    ("pbx.driver.command.drain", "[]"),
    ("pbx.driver.command.unregister_trunks", "[]"),
    ("pbx.driver.command.stop_accepting", "[]"),
    ("pbx.probe", r#""""#),
    ("pbx.certificates", "[]"),
    ("pbx.trunks", "{}"),
    ("pbx.trunks.*.kind", r#""register""#),
    ("pbx.trunks.*.required", "true"),
    ("pbx.trunks.*.proof", r#""registered""#),
    ("pbx.trunks.*.provider", r#""""#),
    ("pbx.trunks.*.clear_old_binding", "false"),
    ("pbx.trunks.*.fqdn", r#""""#),
    ("pbx.trunks.*.move", r#""""#),
    ("sync", "{}"),
    ("sync.settle", r#""3s""#),
    ("sync.stop", "[]"),
    ("sync.start", "[]"),
    ("sync.max_age", "{}"),
    ("sync.max_age.warn", r#""15m""#),
    ("sync.max_age.hold", r#""24h""#),
    ("sync.on_hold", r#""last_good""#),
    ("sync.fence", "{}"),
    ("sync.fence.units", "[]"),
    ("sync.fence.syncthing.url", r#""http://127.0.0.1:8384""#),
    ("sync.fence.syncthing.ca_file", r#""""#),
    ("sync.hold_back", "[]"),
    ("sync.keep_snapshots", "3"),
    ("sync.snapshots_max", r#""2GB""#),
    ("sync.ignore", "[]"),
    ("sync.rules", "[]"),
    ("sync.classes", "{}"),
    ("sync.classes.voicemail", "[]"),
    ("sync.classes.recording", "[]"),
    ("sync.classes.cdr", "[]"),
    ("sync.classes.config", "[]"),
    ("sync.classes.other", "[]"),
    ("sync.dump.max_age", r#""26h""#),
    ("dns", "{}"),
    ("dns.mode", r#""replace""#),
    ("dns.updates", "[]"),
    ("dns.updates[].key.algorithm", r#""hmac-sha256""#),
    ("dns.updates[].ttl", "30"),
    ("pbx.driver.asterisk.ami", r#""127.0.0.1:5038""#),
    ("pbx.driver.asterisk.username", r#""robot""#),
    ("pbx.driver.asterisk.unit", r#""asterisk.service""#),
    ("pbx.driver.asterisk.start_timeout", r#""60s""#),
    ("pbx.driver.asterisk.takeover", r#""start""#),
    ("pbx.driver.asterisk.config", r#""pjsip.conf""#),
    ("pbx.driver.freeswitch.esl", r#""127.0.0.1:8021""#),
    ("pbx.driver.freeswitch.profiles", r#"["external","internal"]"#),
    ("pbx.driver.freeswitch.unit", r#""freeswitch.service""#),
    ("pbx.driver.freeswitch.start_timeout", r#""60s""#),
    ("pbx.driver.freeswitch.passive", r#""stopped""#),
    ("pbx.driver.builtin.listen", r#"["udp://0.0.0.0:5060","tcp://0.0.0.0:5060"]"#),
    ("pbx.driver.builtin.accounts", r#""pjsip.conf""#),
    ("pbx.driver.builtin.realm", r#""""#),
    ("pbx.driver.builtin.min_expires", r#""60s""#),
    ("pbx.driver.builtin.max_expires", r#""5m""#),
    ("pbx.driver.builtin.lab", "false"),
    ("pbx.driver.kamailio.jsonrpc", r#""unix:///run/kamailio/kamailio_rpc.sock""#),
    ("pbx.driver.kamailio.unit", r#""kamailio.service""#),
    ("pbx.driver.kamailio.start_timeout", r#""60s""#),
    ("pbx.driver.kamailio.passive", r#""stopped""#),
    ("pbx.driver.kamailio.gate", "{}"),
    ("pbx.driver.kamailio.gate.htable", r#""pbx_failover""#),
    ("pbx.driver.kamailio.gate.key", r#""serve""#),
    ("pbx.driver.kamailio.reload", r#"["htable.reload","domain.reload","dispatcher.reload"]"#),
    ("dns.updates[].if_changed", r#""stop""#),
    ("dns.updates[].verify", "[]"),
    ("dns.updates[].records", "[]"),
    ("action_urls", "[]"),
    ("action_urls[].headers", "{}"),
    ("action_urls[].encoding", r#""json""#),
    ("action_urls[].ca_file", r#""""#),
    ("action_urls[].expect_status", r#""200-299""#),
    ("action_urls[].timeout", r#""10s""#),
    ("action_urls[].retries", "5"),
    ("notify", "{}"),
    ("notify.email.tls", r#""starttls""#),
    ("notify.email.ca_file", r#""""#),
    ("notify.email.username", r#""""#),
    ("notify.email.password", r#""""#),
    ("notify.webhooks", "[]"),
    (
        "notify.webhooks[].events",
        r#"["takeover","failback","primary-down","primary-back","disarmed","armed","step-retries","step-given-up","backup-failed","taken-back","halted","both-may-serve","epoch-trouble","stepped-down","serves-again","peer-trouble","not-passive","passive-again","data-trouble","data-well","sync-trouble","sync-well"]"#,
    ),
    ("notify.webhooks[].headers", "{}"),
    ("notify.webhooks[].encoding", r#""json""#),
    ("notify.webhooks[].ca_file", r#""""#),
    ("notify.webhooks[].expect_status", r#""200-299""#),
    ("notify.webhooks[].timeout", r#""10s""#),
    ("notify.webhooks[].retries", "5"),
    ("notify.command", "[]"),
    ("notify.repeat", r#""15m""#),
    ("notify.dead_man", "{}"),
    ("notify.dead_man.url", r#""""#),
    ("notify.dead_man.every", r#""1m""#),
    ("agent", "{}"),
    ("agent.listen", r#""0.0.0.0:8471""#),
    ("agent.tls", "{}"),
    ("agent.tls.certificate", r#""/etc/pbx-failover/agent.crt""#),
    ("agent.tls.key", r#""/etc/pbx-failover/agent.key""#),
    ("agent.step_down", r#""stop""#),
    ("agent.epoch_unreadable", "{}"),
    ("agent.epoch_unreadable.after", r#""60s""#),
    ("agent.epoch_unreadable.do", r#""keep""#),
    ("failback", "{}"),
    ("failback.drain", r#""15m""#),
    ("failback.lower_ttl_first", "false"),
    ("failback.return_data", "[]"),
    ("failback.return_rest", "[]"),
    ("failback.return_to.dirs", "[]"),
    ("failback.return_to.max_kib_s", "0"),
    ("failback.return_to.port", "22"),
    ("failback.return_limit", r#""2m""#),
    ("failback.start_primary", "[]"),
    ("failback.wait_for_primary", r#""90s""#),
    ("state_dir", r#""/var/lib/pbx-failover""#),
    ("control", r#""/run/pbx-failover/control.sock""#),
    ("page", r#""127.0.0.1:8470""#),
];

/// Every property of the schema with its path.
fn properties(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    if let Some(map) = schema["properties"].as_object() {
        for (name, property) in map {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            found.push((path.clone(), property.clone()));
            properties(property, &path, found);
        }
    }
    if schema["additionalProperties"].is_object() {
        properties(&schema["additionalProperties"], &format!("{path}.*"), found);
    }
    if schema["items"].is_object() {
        properties(&schema["items"], &format!("{path}[]"), found);
    }
    for alternative in schema["anyOf"].as_array().into_iter().flatten() {
        properties(alternative, path, found);
    }
}

fn all_properties() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    properties(&schema(), "", &mut found);
    found
}

#[test]
fn the_defaults_are_those_that_the_reference_promises() {
    let mut told: Vec<(String, String)> = all_properties()
        .into_iter()
        .filter_map(|(path, property)| Some((path, property.get("default")?.to_string())))
        .collect();
    let mut promised: Vec<(String, String)> =
        DEFAULTS.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    told.sort();
    promised.sort();
    for (told, promised) in told.iter().zip(&promised) {
        assert_eq!(told, promised);
    }
    assert_eq!(told.len(), promised.len());
}

/// A configuration with every map and list that may hold keys, so that each default has a place to be written.
fn skeleton(driver: &str) -> Value {
    let secret = json!({"file": "/etc/pbx-failover/secret"});
    let request = json!({"name": "one", "events": ["takeover"], "url": "https://example.com/"});
    let mut driver_map = json!({});
    driver_map[driver] = match driver {
        "systemd" => json!({"unit": "pbx.service"}),
        "asterisk" | "freeswitch" => json!({"password": secret}),
        // Without it this driver is refused.
        "builtin" => json!({"lab": true}),
        "kamailio" => json!({"gate": {}}),
        _ => json!({"passive": ["/bin/p"], "reload": ["/bin/r"]}),
    };
    json!({
        "primary": {"node": "pbx-a", "address": "203.0.113.10"},
        "backup": {"node": "pbx-b", "address": "198.51.100.20"},
        "monitor": {"checks": {
            "web": {"http": "https://pbx.example.com/"},
            "sip": {"sip": "sip:pbx.example.com"},
            "beat": {"heartbeat": "beat"},
        }},
        "internet": {}, "witness": {}, "takeover": {}, "epoch": {}, "failback": {"return_to": {"rsync": "root@203.0.113.10"}},
        "sync": {"max_age": {}, "classes": {}, "fence": {"syncthing": {"api_key": "k", "folders": ["pbx"]}}, "dump": {"file": "dump.sql"}},
        "fence": {
            "http": {"url": "https://example.com/off"},
            "read_back": {"http": {"url": "https://example.com/", "expect_body": "off"}},
        },
        "agent": {"token": secret, "tls": {}, "epoch_unreadable": {}},
        "pbx": {"working_dir": "/var/lib/pbx", "driver": driver_map, "trunks": {"carrier": {}}},
        "dns": {"updates": [{"server": "192.0.2.53", "zone": "example.com", "key": {"name": "k", "secret": secret}}]},
        "action_urls": [request],
        "notify": {
            "email": {"smtp": "smtp.example.com", "to": ["me@example.com"]},
            "webhooks": [{"name": "two", "url": "https://example.com/"}],
            "dead_man": {},
        },
    })
}

fn debug(json: &Value) -> String {
    let mut config: Config = good(&json.to_string());
    config.text = SourceText(String::new());
    format!("{config:#?}")
}

#[test]
fn a_default_means_the_same_written_or_left_out() {
    for (path, text) in DEFAULTS {
        let driver = ["command", "builtin", "asterisk", "freeswitch", "kamailio"]
            .into_iter()
            .find(|driver| path.contains(&format!(".{driver}.")));
        let driver = driver.unwrap_or("systemd");
        let check = match path.rsplit('.').next() {
            Some("alive") => "sip",
            Some("max_age") => "beat",
            _ => "web",
        };
        let mut json = skeleton(driver);
        let before = debug(&json);
        let pointer = path
            .replace("checks.*", &format!("checks.{check}"))
            .replace("trunks.*", "trunks.carrier")
            .replace("[]", ".0")
            .replace('.', "/");
        let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", &pointer));
        let parent = if parent.is_empty() { String::new() } else { format!("/{parent}") };
        let value: Value = serde_json::from_str(text).expect("JSON");
        if json.pointer(&format!("/{pointer}")).is_some() {
            continue; // a map or list that the skeleton needs
        }
        json.pointer_mut(&parent).unwrap_or_else(|| panic!("{path}: {parent}"))[key] = value;
        assert_eq!(debug(&json), before, "{path}");
    }
}

#[test]
fn every_key_stands_in_the_example_and_has_a_meaning() {
    for (path, property) in all_properties() {
        let key = path.rsplit('.').next().expect("a key");
        assert!(EXAMPLE.contains(&format!("{key}: ")) || EXAMPLE.contains(&format!("{key}:\n")), "{path}");
        assert!(
            property["description"].as_str().is_some_and(|doc| doc.ends_with(['.', '?'])),
            "{path} has no description"
        );
    }
}

#[test]
fn the_schema_refuses_unknown_keys_and_knows_no_later_ones() {
    let schema = schema();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["required"], json!(["primary", "backup", "monitor", "pbx"]));
    assert!(schema["properties"]["epoch"]["properties"]["etcd"].is_null(), "epoch.etcd");
    assert_eq!(schema["properties"]["pbx"]["properties"]["driver"]["maxProperties"], 1);
}
