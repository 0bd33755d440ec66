//! What a good file means.

use std::net::IpAddr;
use std::time::Duration;

use crate::{EXAMPLE, SHORT, good, read, refusal};
use pbx_failover::config::{
    ActionUrl, CheckTarget, Config, DnsRecord, Driver, Epoch, FenceNeed, FenceWay, Files, InternetKind, MailTls,
    OldBinding, ReadBack, Role, SipTransport, SiteKind, StepDown, Surroundings, Trunk, Unreadable, digest_of_check,
    parse, restart_needed,
};
use pbx_failover::units::{EventName, Side, TrunkKind};

fn warnings(text: &str) -> Vec<String> {
    read(text).unwrap_or_else(|refused| panic!("{refused}")).warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn the_shortest_file_loads_with_everything_that_it_leaves_out() {
    let config = good(SHORT);
    assert_eq!((config.node.as_str(), config.side), ("pbx-b", Side::Backup));
    assert_eq!(config.monitor.checks.len(), 2);
    assert_eq!(config.monitor.checks[0].interval, Duration::from_secs(5));
    assert_eq!(config.internet.targets.len(), 3);
    assert_eq!(config.internet.need.get(), 2);
    assert_eq!(config.epoch, Epoch::Dns { record: "_pbx-failover.pbx.example.com".to_owned(), update: 0 });
    assert_eq!((config.pbx.probe.host.as_str(), config.pbx.probe.port), ("198.51.100.20", 5060));
    let email = config.notify.email.expect("email");
    assert_eq!((email.host.as_str(), email.port, email.tls), ("smtp.example.com", 587, MailTls::StartTls));
    assert_eq!(email.from, "robot@example.com");
    assert!(warnings(SHORT).is_empty(), "{:?}", warnings(SHORT));
}

#[test]
fn the_example_loads_without_a_warning() {
    let config = good(EXAMPLE);
    assert_eq!(config.dns.updates[0].records.len(), 4, "A of the bare name and three more");
    assert!(warnings(EXAMPLE).is_empty(), "{:#?}", warnings(EXAMPLE));
}

/// The example with each `#|` line in its sibling's place, one at a time.
fn alternatives() -> Vec<(String, String)> {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(alternative) = line.trim_start().strip_prefix("#| ") else { continue };
        let sibling = (0..index).rev().find(|i| !lines[*i].trim_start().starts_with("#|")).expect("a line above");
        let indent = &line[..line.len() - line.trim_start().len()];
        let mut changed = lines.clone();
        let replaced = format!("{indent}{alternative}");
        changed[sibling] = &replaced;
        found.push((replaced.clone(), changed.join("\n")));
    }
    found
}

#[test]
fn each_commented_alternative_of_the_example_loads_in_its_siblings_place() {
    let alternatives = alternatives();
    assert!(alternatives.len() >= 30, "only {}", alternatives.len());
    for (line, text) in &alternatives {
        let Err(refused) = read(text) else { continue };
        panic!("{line}\n{refused}");
    }
    // Some of them, to see that they were really put in place.
    let with = |start: &str| -> Config {
        let (_, text) = alternatives.iter().find(|(line, _)| line.trim().starts_with(start)).expect(start);
        good(text)
    };
    assert!(matches!(with("command: { passive").pbx.driver, Driver::Command(_)));
    assert_eq!(with("working_dir: [").pbx.working_dirs.len(), 2);
    assert_eq!(with("store: local").epoch, Epoch::Local);
    assert_eq!(with("page: \"\"").page, None);
    assert!(matches!(with("targets: [").internet.targets[1].kind, InternetKind::Dns { port: 53, .. }));
}

#[test]
fn the_host_name_is_the_default_of_node_with_or_without_its_domain() {
    let as_host = |host_name: &str| {
        let surroundings = Surroundings { host_name: host_name.to_owned(), files: Files::Ignored };
        parse(SHORT, "/etc/failover.yaml".as_ref(), &surroundings)
    };
    let side = |host_name: &str| as_host(host_name).expect("good").config.side;
    assert_eq!(side("PBX-B"), Side::Backup);
    assert_eq!(side("pbx-b.example.com"), Side::Backup);
    for primary in ["pbx-a", "pbx-a.example.com"] {
        let config = as_host(primary).expect("good").config;
        assert_eq!((config.node.as_str(), config.side, config.role), ("pbx-a", Side::Primary, Role::Primary));
    }
    let refused = as_host("web1").expect_err("neither").to_string();
    assert!(refused.contains("node: web1 (the host name) is neither primary.node"), "{refused}");
}

#[test]
fn an_observer_is_a_third_host_that_says_so() {
    let observer = format!("node: eyes\nrole: observer\nagent: {{ token: {{ env: T }} }}\n{SHORT}");
    let config = good(&observer);
    assert_eq!((config.node.as_str(), config.role), ("eyes", Role::Observer));
    assert_eq!(config.agent.door.map(|door| door.listen.to_string()), Some("0.0.0.0:8471".to_owned()));
    let refused = read(&observer.replace("role: observer\n", "")).expect_err("no role").to_string();
    assert!(refused.contains("node: eyes is neither"), "{refused}");
}

#[test]
fn witnesses_are_asked_by_address_and_observers_by_https() {
    let witness = r#"witness: { primary_site: ["tcp://203.0.113.1:443", "icmp://203.0.113.1", "icmp://[2001:db8::1]", "tcp://[2001:db8::1]:22"],
      observers: [{ url: "https://observer.example.net:8471/", token: { env: T } }] }"#;
    let witness = good(&format!("{SHORT}{witness}\n")).witness;
    let kinds: Vec<_> = witness.primary_site.iter().map(|place| place.kind).collect();
    assert_eq!(
        kinds,
        [
            SiteKind::Tcp("203.0.113.1:443".parse().expect("a place")),
            SiteKind::Icmp("203.0.113.1".parse().expect("an address")),
            SiteKind::Icmp("2001:db8::1".parse().expect("an address")),
            SiteKind::Tcp("[2001:db8::1]:22".parse().expect("a place")),
        ]
    );
    assert_eq!(witness.primary_site[1].name, "icmp://203.0.113.1");
    assert_eq!(witness.observers[0].url, "https://observer.example.net:8471");
    assert_eq!(witness.observers[0].certificate, None);
}

#[test]
fn a_fence_is_a_command_or_a_request_and_is_read_back_in_either_way() {
    let fence = |text: &str| good(&format!("{SHORT}fence: {text}\n")).fence;
    assert_eq!(fence("{}"), None);
    assert_eq!(fence("{ command: [], read_back: {}, required: false }"), None);
    let by_command = fence("{ command: [/bin/off, pbx-a], required: true, timeout: 5s }").expect("a fence");
    assert_eq!(by_command.cut, FenceWay::Command(vec!["/bin/off".to_owned(), "pbx-a".to_owned()]));
    assert_eq!((by_command.read_back, by_command.need), (None, FenceNeed::Required));
    assert_eq!(by_command.timeout, Duration::from_secs(5));
    let by_request = fence(
        "{ http: { url: \"https://bmc/off\", body: { ResetType: ForceOff } }, \
         read_back: { http: { url: \"https://bmc/\", expect_body: Off } } }",
    );
    let by_request = by_request.expect("a fence");
    assert_eq!((by_request.need, by_request.timeout), (FenceNeed::Optional, Duration::from_secs(30)));
    let FenceWay::Http(request) = by_request.cut else { panic!("a request") };
    assert_eq!((request.method.as_str(), request.retries), ("POST", 0));
    let Some(ReadBack::Http { request, expect_body }) = by_request.read_back else { panic!("a request") };
    assert_eq!((request.method.as_str(), expect_body.as_str()), ("GET", "Off"));
}

#[test]
fn the_agent_and_its_peer_are_read_with_their_ways_out() {
    let agent = good(SHORT).agent;
    assert_eq!((agent.door, agent.step_down, agent.unreadable), (None, StepDown::Stop, Unreadable::Keep));
    let text = format!(
        "{SHORT}agent: {{ listen: \"127.0.0.1:9\", token: {{ env: T }}, step_down: unregister_trunks, \
         epoch_unreadable: {{ after: 5m, do: stop }} }}\n\
         peer: {{ url: \"https://203.0.113.10:8471\", token: {{ env: T }}, certificate: {{ file: /etc/a.crt }} }}\n"
    );
    let config = good(&text);
    assert_eq!((config.agent.step_down, config.agent.unreadable), (StepDown::UnregisterTrunks, Unreadable::Stop));
    assert_eq!(config.agent.unreadable_after, Duration::from_secs(300));
    let door = config.agent.door.expect("it has a token");
    assert_eq!(door.tls.certificate.to_str(), Some("/etc/pbx-failover/agent.crt"));
    assert_eq!(config.peer.expect("a peer").certificate, Some("/etc/a.crt".into()));
}

#[test]
fn a_trunk_is_read_with_its_proof_its_provider_and_what_moves_it() {
    let with = |trunk: &str, events: &str| {
        let driver = "{ systemd: { unit: pbx.service } } }";
        let asterisk = "{ asterisk: { password: { env: AMI } } }";
        let url =
            format!("action_urls: [{{ name: provider, url: \"https://sip.example.net/\", events: [{events}] }}]\n");
        SHORT.replace(driver, &format!("{asterisk}, trunks: {{ carrier: {{ {trunk} }} }} }}")) + &url
    };
    let one = |trunk: &str| good(&with(trunk, "takeover, failback")).pbx.trunks.remove(0);
    assert_eq!(one(""), Trunk::new("carrier", TrunkKind::Register));
    let text = "kind: fqdn, fqdn: PBX.example.com., proof: options, provider: \"sip:sip.example.net;transport=tcp\"";
    let asked = one(text);
    assert!(asked.is_only_asked());
    assert_eq!(asked.fqdn.as_deref(), Some("pbx.example.com"));
    assert_eq!(asked.provider.as_deref(), Some("sip:sip.example.net;transport=tcp"));
    assert_eq!(one("clear_old_binding: true").old_binding, OldBinding::Cleared);
    assert_eq!(one("kind: ip, move: provider").move_url.as_deref(), Some("provider"));
    let silent = refusal(&with("kind: ip, move: provider", "drill"));
    assert!(silent.contains("pbx.trunks.carrier.move: provider is not sent at a takeover"), "{silent}");
}

fn records(primary: &str, backup: &str) -> Vec<DnsRecord> {
    let text = SHORT
        .replace("address: 203.0.113.10", &format!("addresses: [{primary}]"))
        .replace("address: 198.51.100.20", &format!("addresses: [{backup}]"));
    good(&text).dns.updates.remove(0).records
}

#[test]
fn a_bare_name_moves_a_and_aaaa_and_deletes_the_family_that_the_serving_side_lacks() {
    let told = |records: Vec<DnsRecord>| -> Vec<String> {
        records.iter().map(|r| format!("{} {} {:?} {:?}", r.name, r.rtype, r.primary, r.backup)).collect()
    };
    assert_eq!(
        told(records("192.0.2.1", "192.0.2.2")),
        [r#"pbx.example.com A ["192.0.2.1"] ["192.0.2.2"]"#],
        "a family that nobody has is left out"
    );
    assert_eq!(
        told(records("192.0.2.1, \"2001:DB8::1\"", "192.0.2.2")),
        [r#"pbx.example.com A ["192.0.2.1"] ["192.0.2.2"]"#, r#"pbx.example.com AAAA ["2001:db8::1"] []"#],
        "AAAA is deleted while the backup serves"
    );
    assert_eq!(
        told(records("\"2001:db8::1\"", "192.0.2.2, 192.0.2.3")),
        [r#"pbx.example.com A [] ["192.0.2.2", "192.0.2.3"]"#, r#"pbx.example.com AAAA ["2001:db8::1"] []"#]
    );
}

#[test]
fn record_values_are_brought_into_the_form_in_which_they_are_compared() {
    let text = SHORT.replace(
        "records: [pbx.example.com]",
        r#"ttl: 60, records: [{ name: _SIP._udp.Example.com., type: SRV, ttl: 45, primary: ["10  10 05060 A.example.com."], backup: [] },
           { name: v6.example.com, type: AAAA, primary: ["2001:0DB8:0::1"], backup: [] }]"#,
    );
    let records = good(&text).dns.updates.remove(0).records;
    assert_eq!(records[0].name, "_sip._udp.example.com");
    assert_eq!(records[0].primary, ["10 10 5060 a.example.com."]);
    assert_eq!((records[0].ttl_s.get(), records[1].ttl_s.get()), (45, 60));
    assert_eq!(records[1].primary, ["2001:db8::1"]);
}

#[test]
fn the_epoch_lives_in_the_innermost_zone_that_holds_its_name() {
    let outer = "{ server: 192.0.2.53, zone: example.com, key: { name: k, secret: { env: K } } }";
    let inner = "{ server: 192.0.2.54, zone: pbx.example.com, key: { name: k, secret: { env: K } } }";
    let start = SHORT.find("updates: [").expect("updates");
    let end = SHORT[start..].find("] }\nnotify").expect("end") + start;
    let text = format!("{}updates: [{outer}, {inner}{}", &SHORT[..start], &SHORT[end..]);
    assert_eq!(good(&text).epoch, Epoch::Dns { record: "_pbx-failover.pbx.example.com".to_owned(), update: 1 });
}

#[test]
fn the_mail_port_follows_the_security_and_an_own_port_wins() {
    let email = |settings: &str| {
        let text = SHORT.replace("smtp: smtp.example.com", settings);
        good(&text).notify.email.map(|email| (email.host, email.port)).expect("email")
    };
    assert_eq!(email("smtp: relay, tls: starttls").1, 587);
    assert_eq!(email("smtp: relay, tls: tls").1, 465);
    assert_eq!(email("smtp: relay, tls: none").1, 25);
    assert_eq!(email("smtp: \"relay:2525\", tls: none"), ("relay".to_owned(), 2525));
    assert_eq!(email("smtp: \"[::1]:25\", tls: none, username: u, password: p"), ("::1".to_owned(), 25));
}

#[test]
fn sip_targets_are_read_with_their_transport_and_its_port() {
    let sip = |uri: &str| match good(&SHORT.replace("sip:pbx.example.com", uri)).monitor.checks.remove(1).target {
        CheckTarget::Sip { host, port, transport, .. } => (host, port, transport),
        other => panic!("{other:?}"),
    };
    assert_eq!(sip("sip:pbx.example.com"), ("pbx.example.com".to_owned(), 5060, SipTransport::Udp));
    assert_eq!(sip("sips:pbx.example.com"), ("pbx.example.com".to_owned(), 5061, SipTransport::Tls));
    assert_eq!(sip("sip:192.0.2.7:5080;transport=TCP"), ("192.0.2.7".to_owned(), 5080, SipTransport::Tcp));
    assert_eq!(sip("sip:[2001:db8::1]:5062;transport=tls"), ("2001:db8::1".to_owned(), 5062, SipTransport::Tls));
}

fn action(settings: &str) -> ActionUrl {
    let text = format!(
        "{SHORT}action_urls: [{{ name: n, events: [takeover], url: \"https://h/?a={{{{ id }}}}\", {settings} }}]"
    );
    good(&text).action_urls.remove(0)
}

#[test]
fn templates_are_kept_as_written_and_the_method_follows_the_body() {
    let plain = action("retries: 0");
    assert_eq!((plain.url.as_str(), plain.method.as_str(), plain.retries), ("https://h/?a={{ id }}", "GET", 0));
    assert_eq!(action("body: { a: 1, b: \"{{ epoch }}\" }").method, "POST");
    assert_eq!(action("method: PUT, encoding: text, body: \"{{ event }}\"").method, "PUT");
    assert_eq!(action("headers: { X-Id: 7 }").headers, [("X-Id".to_owned(), "7".to_owned())]);
}

#[test]
fn a_webhook_may_carry_the_message_itself() {
    let body = "body: { text: \"{{ subject }}: {{ text }}\" }";
    let text =
        SHORT.replace("notify:  {", &format!("notify:  {{ webhooks: [{{ name: chat, url: \"https://h/\", {body} }}],"));
    assert_eq!(good(&text).notify.webhooks.len(), 1);
}

#[test]
fn webhooks_are_told_everything_but_rehearsals() {
    let text = SHORT.replace("notify:  {", "notify:  { webhooks: [{ name: chat, url: \"https://h/\" }],");
    let events = good(&text).notify.webhooks.remove(0).events;
    assert_eq!(events.len(), EventName::ALL.len() - 2);
    assert!(!events.contains(&EventName::Drill) && !events.contains(&EventName::Test));
}

#[test]
fn heartbeat_files_lie_in_the_first_working_directory() {
    let text = SHORT.replace("checks: {", "checks: { beat: { heartbeat: .beat },");
    let CheckTarget::Heartbeat { file, .. } = good(&text).monitor.checks.remove(0).target else { panic!() };
    assert_eq!(file.to_str(), Some("/usr/local/pbx/.beat"));
}

#[test]
fn what_is_legal_but_unwise_is_a_warning() {
    let lab = SHORT.replace("198.51.100.20", "203.0.113.10");
    for (text, words) in [
        (lab.as_str(), "backup: 203.0.113.10 is the primary's address too"),
        (&SHORT.replace("store: dns", "store: local"), "epoch.store: the record is not used with store: local"),
        (&SHORT.replace("epoch: ", "takeover: { hold_down: 0s }\nepoch: "), "takeover.hold_down: a restart"),
        (&SHORT.replace("epoch: ", "internet: { need: 1 }\nepoch: "), "internet.need: one answer is little proof"),
        (
            &SHORT.replace("epoch: ", "internet: { need: 1, targets: [\"tcp://192.0.2.1:80\"] }\nepoch: "),
            "internet.targets: 1 targets are few",
        ),
        (&SHORT.replace("192.0.2.53", "203.0.113.10"), "dns.updates[0].server: the master has the primary's address"),
        (&SHORT.replace("records: [", "ttl: 3600, records: ["), "phones keep the dead address for up to 3600 s"),
        (&SHORT.replace(", sip: { sip: \"sip:pbx.example.com\" }", ""), "no check asks the PBX by SIP"),
        (&SHORT.replace("updates:", "mode: none, updates:"), "dns.mode: in this mode the records below do not move"),
        (&SHORT[..SHORT.find("notify:").expect("notify")], "notify: nobody is told of anything"),
        (&format!("{SHORT}fence: {{ command: [/bin/off] }}\n"), "fence: is believed by its own word"),
    ] {
        let said = warnings(text);
        assert!(said.iter().any(|line| line.contains(words)), "{words}\n{said:#?}");
    }
}

#[test]
fn a_change_that_needs_a_restart_is_named_and_others_are_not() {
    let old = good(SHORT);
    let changed = |text: String| restart_needed(&old, &good(&text));
    assert!(changed(SHORT.to_owned()).is_empty());
    assert!(changed(SHORT.replace("monitor: {", "monitor: { fall: 9,")).is_empty());
    assert!(changed(SHORT.replace("name: k,", "name: other,")).is_empty(), "a key may be changed while we run");
    assert_eq!(changed(SHORT.replace("pbx-b", "pbx-c") + "node: pbx-c"), ["node", "backup.node"]);
    assert_eq!(changed(SHORT.replace("192.0.2.53", "192.0.2.54")), ["epoch"]);
    assert_eq!(changed(SHORT.replace("store: dns", "store: local")), ["epoch"]);
    assert_eq!(
        changed(format!("{SHORT}state_dir: /var/a\ncontrol: /run/a.sock\npage: \"\"\n")),
        ["state_dir", "control", "page"]
    );
}

#[test]
fn a_check_has_to_prove_itself_again_when_it_asks_something_else() {
    let primary: IpAddr = "203.0.113.10".parse().expect("address");
    let digest = |settings: &str, primary: IpAddr| {
        let text = SHORT.replace("http: \"https://pbx.example.com/\"", settings);
        digest_of_check(&good(&text).monitor.checks[0], primary)
    };
    let first = digest("http: \"https://pbx.example.com/\"", primary);
    assert_eq!(digest("http: \"https://pbx.example.com/\", interval: 1s, fall: 9", primary), first);
    assert_ne!(digest("http: \"https://pbx.example.com/x\"", primary), first);
    assert_ne!(digest("http: \"https://pbx.example.com/\", expect_body: ok", primary), first);
    assert_ne!(digest("tcp: 443", primary), first);
    assert_ne!(digest("http: \"https://pbx.example.com/\"", "203.0.113.11".parse().expect("address")), first);
}
