//! Every key of failover.yaml: what it wants, what holds without it, what it means.
//!
//! The loader, the schema and the tests read this one table; a key that is not here does not exist. Keys of later
//! work are named, so that they are refused with "not yet" instead of being called unknown. They are refused even
//! with their default value: a file that says `fence:` must not look as if it fenced.

mod driver;
mod failback;
mod sync;

use std::time::Duration;

use super::duration::DURATION_MAX;
use super::shape::{Key, Need, Shape};
use Need::{Default, Later, May, Must};
use driver::DRIVER;
use failback::FAILBACK;
use sync::SYNC;

const fn key(name: &'static str, need: Need, shape: Shape, doc: &'static str) -> Key {
    Key { name, need, shape, doc }
}

/// A key of later work.
const fn later(name: &'static str, doc: &'static str) -> Key {
    key(name, Later, Shape::Any, doc)
}

const fn from_ms(min_ms: u64, max: Duration) -> Shape {
    Shape::Duration(Duration::from_millis(min_ms), max)
}

/// Any duration, zero too.
const ANY_TIME: Shape = from_ms(0, DURATION_MAX);
/// Any duration but zero; a millisecond is already absurd, but not harmful.
const SOME_TIME: Shape = from_ms(1, DURATION_MAX);
/// How often a check may run: below 20 ms it is an attack, above an hour no watch.
const INTERVAL: Shape = from_ms(20, Duration::from_secs(3600));
/// How long one answer may take: longer than ten minutes nobody waits.
const TIMEOUT: Shape = from_ms(1, Duration::from_secs(600));
/// How long a registration may last: SIP counts seconds.
const EXPIRES: Shape = from_ms(1000, DURATION_MAX);
/// Results in a row; more than a thousand never happens.
const IN_A_ROW: Shape = Shape::Whole(1, 1000);
/// Seconds; 0 is not cached at all, and a day is far beyond what a failover can bear.
const TTL: Shape = Shape::Whole(1, 86_400);

const BOOL: Shape = Shape::Bool;
const PATH: Shape = Shape::Text("a path");
const ADDRESS: Shape = Shape::Text("an IP address such as 203.0.113.10 or 2001:db8::10");
const DNS_NAME: Shape = Shape::Text("a DNS name such as pbx.example.com");
const STATUS: Shape = Shape::Text("a range of HTTP status codes such as 200-299");
const URL: Shape = Shape::Private("a URL that begins with http:// or https://");

/// A request by HTTP, and what beside it belongs to its use.
macro_rules! request {
    ($($own:expr),*) => {
        Shape::Map(&[
            $($own,)*
            key(
                "method",
                May,
                Shape::Choice(&["GET", "POST", "PUT", "PATCH", "DELETE"], &[]),
                "Default: POST with a body, GET without.",
            ),
            key("url", Must, URL, "The URL; values in {{ }} are escaped for where they stand."),
            key(
                "auth",
                May,
                Shape::OneOf(&[
                    key(
                        "basic",
                        May,
                        Shape::Map(&[
                            key("username", Must, Shape::Text("a user name"), "The user name."),
                            key("password", Must, Shape::Secret, "The password."),
                        ]),
                        "User name and password.",
                    ),
                    key("bearer", May, Shape::Secret, "A token."),
                ]),
                "How the request authenticates.",
            ),
            key("headers", Default("{}"), Shape::Named("headers", &Shape::Private("a text")), "Additional headers."),
            key("encoding", Default("json"), Shape::Choice(&["form", "json", "text"], &[]), "How the body is written."),
            key("body", May, Shape::Any, "Names and values for form and json, a text for text."),
            key("ca_file", Default(r#""""#), PATH, "An own CA (PEM) beside the system's."),
            key("expect_status", Default("200-299"), STATUS, "Good status codes."),
            key("timeout", Default("10s"), TIMEOUT, "How long an answer may take."),
        ])
    };
}

/// The top level.
pub const TOP: Shape = Shape::Map(&[
    key("node", May, NODE, "This host's own name; default: the host name."),
    key(
        "role",
        May,
        Shape::Choice(&["backup", "primary", "observer"], &[]),
        "What this host does: the robot, the primary's agent, or an observer elsewhere; default: from node.",
    ),
    key("primary", Must, HOST, "The host that serves while all is well."),
    key("backup", Must, HOST, "The host that this robot lives on."),
    key("monitor", Must, MONITOR, "How the primary is watched."),
    key("internet", Default("{}"), INTERNET, "Is the rest of the world there? A cut-off backup never takes over."),
    key("witness", Default("{}"), WITNESS, "Who else sees the primary, or its site."),
    key("takeover", Default("{}"), TAKEOVER, "When to take over."),
    key("epoch", Default("{}"), EPOCH, "Who may serve: one node at a time."),
    key("fence", Default("{}"), FENCE, "How the primary is cut off for certain, after the claim."),
    key("pbx", Must, PBX, "The PBX on this node."),
    key("sync", Default("{}"), SYNC, "The sync that keeps the working directory equal."),
    key("dns", Default("{}"), DNS, "The DNS records that move with the service."),
    key(
        "action_urls",
        Default("[]"),
        Shape::List("action URLs", &ACTION_URL),
        "HTTP requests sent when service moves.",
    ),
    key("notify", Default("{}"), NOTIFY, "Who is told."),
    key("agent", Default("{}"), AGENT, "On the primary: its agent. On an observer: where it tells its view."),
    key("peer", May, PEER, "On the backup: where the primary's agent is asked."),
    key("failback", Default("{}"), FAILBACK, "How service is given back; a person asks for it."),
    key("state_dir", Default("/var/lib/pbx-failover"), PATH, "Where the robot keeps its memory."),
    key("control", Default("/run/pbx-failover/control.sock"), PATH, "The control socket."),
    key(
        "page",
        Default("127.0.0.1:8470"),
        Shape::Text("an address and port such as 127.0.0.1:8470, or \"\""),
        "Where /healthz and /active are served; \"\" turns it off.",
    ),
]);

const NODE: Shape = Shape::Text("a node name such as pbx-b");

const HOST: Shape = Shape::Map(&[
    key("node", Must, NODE, "The host's name, which stays when roles swap."),
    key("address", May, ADDRESS, "Its public address; exactly one of address and addresses."),
    key("addresses", May, Shape::List("IP addresses", &ADDRESS), "Its public addresses; the first is asked."),
    key("listen_address", Default(r#""""#), ADDRESS, "Where its PBX listens, when NAT hides the public address."),
]);

const MONITOR: Shape = Shape::Map(&[
    key("interval", Default("5s"), INTERVAL, "From start to start while all is well."),
    key("fast_interval", Default("1s"), INTERVAL, "Pause after a check's end, from the first failure to the verdict."),
    key("timeout", Default("3s"), TIMEOUT, "How long an answer may take."),
    key("fall", Default("3"), IN_A_ROW, "Failures in a row that flip a check to down."),
    key("rise", Default("3"), IN_A_ROW, "Successes in a row that flip a check to up."),
    key("down_when", Default("all"), Shape::Choice(&["all", "any"], &[]), "All or any of the voting checks are down."),
    key(
        "half_dead",
        Default("{takeover_after: 2m}"),
        Shape::Either(&[
            Shape::Map(&[key("takeover_after", Must, ANY_TIME, "How long a deciding check must stay down.")]),
            Shape::Choice(&["alert"], &[]),
        ]),
        "What half a primary leads to.",
    ),
    key("site_cut", Default("takeover"), Shape::Choice(&["takeover", "wait"], &[]), "What a silent site leads to."),
    key("checks", Must, Shape::Named("checks", &CHECK), "The checks by name; at least one must vote (http, sip, tcp)."),
]);

const CHECK: Shape = Shape::Map(&[
    key("http", May, URL, "A web server, asked at primary.address under the URL's host name."),
    key("sip", May, Shape::Text("a SIP URI such as sip:pbx.example.com"), "SIP OPTIONS, sent to primary.address."),
    key("tcp", May, Shape::Whole(1, 65_535), "A TCP port of primary.address."),
    key("heartbeat", May, PATH, "A file in the working directory: evidence, never a vote."),
    key("expect_status", Default("200-399"), STATUS, "http: good status codes."),
    key("expect_body", Default(r#""""#), Shape::Private("a text"), "http: a text that the body must hold."),
    key("ca_file", Default(r#""""#), PATH, "http: an own CA (PEM) beside the system's."),
    key("alive", Default("[]"), Shape::List("SIP codes", &Shape::Whole(200, 699)), "sip: further codes that are life."),
    key("max_age", Default("2m"), SOME_TIME, "heartbeat: older is stale."),
    key("interval", May, INTERVAL, "Default: monitor.interval."),
    key("timeout", May, TIMEOUT, "Default: monitor.timeout."),
    key("fall", May, IN_A_ROW, "Default: monitor.fall."),
    key("rise", May, IN_A_ROW, "Default: monitor.rise."),
]);

const WITNESS: Shape = Shape::Map(&[
    key(
        "primary_site",
        Default("[]"),
        Shape::List("places", &Shape::Text("a place such as tcp://203.0.113.1:443 or icmp://203.0.113.1")),
        "Something beside the primary, such as its router: tells a dead primary from a dead site.",
    ),
    key(
        "observers",
        Default("[]"),
        Shape::List("observers", &PEER),
        "Robots elsewhere (role: observer); one that sees the primary alive forbids a takeover.",
    ),
]);

const PEER: Shape = Shape::Map(&[
    key("url", Must, URL, "Its address, such as https://203.0.113.10:8471."),
    key("token", Must, Shape::Secret, "The token that its agent.token holds."),
    key(
        "certificate",
        May,
        Shape::Map(&[key("file", Must, PATH, "The certificate (PEM), a copy of its agent.tls.certificate.")]),
        "Its certificate, and no other; without it, one of the system's authorities must vouch for it.",
    ),
]);

const FENCE: Shape = Shape::Map(&[
    key("command", Default("[]"), Shape::Command, "Cuts the primary off; or http."),
    key("http", May, request!(), "The request that cuts it off, such as Redfish or a cloud's API."),
    key(
        "read_back",
        Default("{}"),
        Shape::Map(&[
            key("command", Default("[]"), Shape::Command, "Exits 0 when the primary is off, 1 when it is on."),
            key(
                "http",
                May,
                request!(key(
                    "expect_body",
                    Must,
                    Shape::Private("a text such as Off"),
                    "A text that the answer holds when the primary is off.",
                )),
                "The request that asks whether it is off.",
            ),
        ]),
        "How it is seen that the primary is off; without it the fence's own word counts.",
    ),
    key("required", Default("false"), BOOL, "true: without it the takeover halts for a person."),
    key("timeout", Default("30s"), TIMEOUT, "How long it may take until the primary is seen to be off."),
]);

const AGENT: Shape = Shape::Map(&[
    key(
        "listen",
        Default("0.0.0.0:8471"),
        Shape::Text("an address and port such as 0.0.0.0:8471"),
        "Where it answers the backup over TLS, once token is set.",
    ),
    key(
        "token",
        May,
        Shape::Secret,
        "What the backup must know; `pbx-failover keys` makes it, 16 bytes are the least. None: it answers nobody.",
    ),
    key(
        "tls",
        Default("{}"),
        Shape::Map(&[
            key("certificate", Default("/etc/pbx-failover/agent.crt"), PATH, "Its certificate (PEM)."),
            key("key", Default("/etc/pbx-failover/agent.key"), PATH, "Its private key (PEM)."),
        ]),
        "What it shows; `pbx-failover keys` makes both.",
    ),
    key(
        "step_down",
        Default("stop"),
        Shape::Choice(&["stop", "unregister_trunks", "alert"], &[]),
        "What the primary's PBX does when the epoch names another.",
    ),
    key(
        "epoch_unreadable",
        Default("{}"),
        Shape::Map(&[
            key("after", Default("60s"), SOME_TIME, "Once the epoch could not be read for so long."),
            key(
                "do",
                Default("keep"),
                Shape::Choice(&["keep", "unregister_trunks", "stop"], &[]),
                "What the primary's PBX does then.",
            ),
        ]),
        "What the primary does while nobody can tell it who may serve.",
    ),
]);

const INTERNET: Shape = Shape::Map(&[
    key("need", Default("2"), Shape::Whole(1, 100), "How many targets must answer."),
    key(
        "targets",
        Default(r#"["tls://1.1.1.1:443", "tls://8.8.8.8:443", "tls://9.9.9.9:443"]"#),
        Shape::List("targets", &Shape::Private("a target such as tls://1.1.1.1:443")),
        "Whom to ask, by address, in different networks: tls (certificate checked), tcp, dns://HOST:53, http(s) URL.",
    ),
]);

const TAKEOVER: Shape = Shape::Map(&[
    key("automatic", Default("true"), BOOL, "false: alert only."),
    key("hold_down", Default("60s"), ANY_TIME, "Believe it for so long; longer than the PBX needs to restart."),
    key("startup_grace", Default("2m"), ANY_TIME, "No takeover so soon after the robot's own start."),
    key("hold_off", Default("2m"), ANY_TIME, "No takeover so soon after the service was given back."),
]);

const EPOCH: Shape = Shape::Map(&[
    key(
        "store",
        Default("local"),
        Shape::Either(&[Shape::Choice(&["dns", "local"], &["etcd"]), Shape::Map(&[later("etcd", "An etcd cluster.")])]),
        "Where the epoch lives; local protects against nothing.",
    ),
    key("record", May, DNS_NAME, "store dns: the TXT record, in the zone of one of dns.updates."),
]);

const PBX: Shape = Shape::Map(&[
    key(
        "working_dir",
        Must,
        Shape::Either(&[PATH, Shape::List("paths", &PATH)]),
        "The synced directory of the PBX, or several.",
    ),
    key("before_reload", Default("[]"), Shape::Command, "Run before reload, to restore a synced database dump."),
    key("give_up_after", Default("5m"), SOME_TIME, "Stop trying after so long; only when the primary could serve."),
    key("driver", Must, DRIVER, "How the PBX is handled; exactly one."),
    key(
        "probe",
        Default(r#""""#),
        Shape::Text("a SIP URI such as sip:127.0.0.1:5060"),
        "Our own registrar, asked after accept_registrations; default: sip:LISTEN_ADDRESS:5060.",
    ),
    key(
        "certificates",
        Default("[]"),
        Shape::List("paths", &PATH),
        "Certificates (PEM) that it shows, for check; those that its settings in working_dir name are found.",
    ),
    key("trunks", Default("{}"), Shape::Named("trunks", &TRUNK), "The trunks, by the name that the PBX gives them."),
]);

const CERTIFICATE: Shape = Shape::Map(&[
    key("certificate", Must, PATH, "The certificate, and those between it and its root (PEM)."),
    key("key", Must, PATH, "Its private key (PEM)."),
]);

const TRUNK: Shape = Shape::Map(&[
    key("kind", Default("register"), Shape::Choice(&["register", "ip", "fqdn"], &[]), "How it reaches its provider."),
    key("required", Default("true"), BOOL, "Must it be up?"),
    key("proof", Default("registered"), Shape::Choice(&["registered", "options"], &[]), "What proves that it is up."),
    key(
        "provider",
        Default(r#""""#),
        Shape::Text("a SIP URI such as sip:sip.example.net"),
        "The provider's server, asked OPTIONS by `check`, and as the proof where proof says so.",
    ),
    key(
        "clear_old_binding",
        Default("false"),
        BOOL,
        "Remove what the provider holds of others, the dead primary, once the service is claimed.",
    ),
    key(
        "fqdn",
        Default(r#""""#),
        Shape::Text("a DNS name such as pbx.example.com"),
        "Kind fqdn: the name that the provider looks up.",
    ),
    key("move", Default(r#""""#), Shape::Text("the name of an action URL"), "The action URL that moves its numbers."),
]);

const DNS: Shape = Shape::Map(&[
    key("mode", Default("replace"), Shape::Choice(&["replace", "static-srv", "none"], &[]), "Do the records move?"),
    key("updates", Default("[]"), Shape::List("updates", &UPDATE), "One entry for each zone and its master."),
]);

const UPDATE: Shape = Shape::Map(&[
    key("server", Must, SERVER, "The master, by address; one, not a name that moves. Default port: 53."),
    key("zone", Must, DNS_NAME, "The zone."),
    key("key", Must, TSIG, "The TSIG key."),
    key("ttl", Default("30"), TTL, "TTL of the records, seconds."),
    key("if_changed", Default("stop"), Shape::Choice(&["stop", "overwrite"], &[]), "A record that somebody changed."),
    key("verify", Default("[]"), Shape::List("servers", &SERVER), "Whom to ask afterwards; empty: every NS."),
    key(
        "records",
        Default("[]"),
        Shape::List("records", &Shape::Either(&[DNS_NAME, RECORD])),
        "A bare name means A and AAAA from primary and backup.",
    ),
]);

const SERVER: Shape = Shape::Text("an address with a port such as 192.0.2.53:53");

const TSIG: Shape = Shape::Map(&[
    key("name", Must, DNS_NAME, "Its name, exactly as at the server."),
    key(
        "algorithm",
        Default("hmac-sha256"),
        Shape::Choice(&["hmac-sha256", "hmac-sha384", "hmac-sha512"], &[]),
        "Its algorithm.",
    ),
    key("secret", Must, Shape::Secret, "Its secret, base64."),
]);

const VALUES: Shape = Shape::List("values", &Shape::Text("a record's value"));

const RECORD: Shape = Shape::Map(&[
    key("name", Must, DNS_NAME, "The owner's name."),
    key("type", Must, Shape::Choice(&["A", "AAAA", "SRV", "TXT", "CNAME"], &[]), "The record type."),
    key("ttl", May, TTL, "Default: the ttl of the update."),
    key("primary", Must, VALUES, "Its values while the primary serves; an empty list deletes the RRset."),
    key("backup", Must, VALUES, "Its values while the backup serves; an empty list deletes the RRset."),
]);

const EVENTS: Shape = Shape::List(
    "events",
    &Shape::Choice(
        &[
            "takeover",
            "failback",
            "primary-down",
            "primary-back",
            "disarmed",
            "armed",
            "step-retries",
            "step-given-up",
            "backup-failed",
            "taken-back",
            "halted",
            "both-may-serve",
            "epoch-trouble",
            "stepped-down",
            "serves-again",
            "peer-trouble",
            "not-passive",
            "passive-again",
            "data-trouble",
            "data-well",
            "sync-trouble",
            "sync-well",
            "drill",
        ],
        &[],
    ),
);

/// An action URL; a webhook differs only in its events' default.
macro_rules! message {
    ($events:expr) => {
        request!(
            key("name", Must, Shape::Text("a name such as provider"), "Its name."),
            key("events", $events, EVENTS, "When it is sent; webhooks: every event but drill."),
            key("retries", Default("5"), Shape::Whole(0, 100), "How often to try again, with back-off."),
            later("preset", "Ready-made webhooks (slack, teams, sms).")
        )
    };
}

const ACTION_URL: Shape = message!(Must);
const WEBHOOK: Shape = message!(Default(
    "[takeover, failback, primary-down, primary-back, disarmed, armed, step-retries, step-given-up, \
     backup-failed, taken-back, halted, both-may-serve, epoch-trouble, stepped-down, serves-again, peer-trouble, \
     not-passive, passive-again, data-trouble, data-well, \
     sync-trouble, sync-well]"
));

const NOTIFY: Shape = Shape::Map(&[
    key("email", May, EMAIL, "By mail."),
    key("webhooks", Default("[]"), Shape::List("webhooks", &WEBHOOK), "By HTTP, written as action_urls."),
    key("command", Default("[]"), Shape::Command, "By a command, which finds the variables in its environment."),
    key("repeat", Default("15m"), from_ms(1000, DURATION_MAX), "How often an alarm repeats until `ack`."),
    key(
        "dead_man",
        Default("{}"),
        Shape::Map(&[
            key("url", Default(r#""""#), URL, "A monitor of your choice; \"\" turns it off."),
            key("every", Default("1m"), from_ms(1000, DURATION_MAX), "How often."),
        ]),
        "Outbound heartbeat, sent only while armed.",
    ),
]);

const EMAIL: Shape = Shape::Map(&[
    key("smtp", Must, Shape::Text("a host and port such as smtp.example.com:587"), "The relay; the port follows tls."),
    key("tls", Default("starttls"), Shape::Choice(&["starttls", "tls", "none"], &[]), "How it is secured."),
    key("ca_file", Default(r#""""#), PATH, "An own CA (PEM) beside the system's."),
    key("username", Default(r#""""#), Shape::Text("a user name"), "User name, where the relay wants one."),
    key("password", Default(r#""""#), Shape::Secret, "Password."),
    key("from", May, MAILBOX, "Sender; default: robot@ and the domain of the first receiver."),
    key("to", Must, Shape::List("mail addresses", &MAILBOX), "Receivers."),
]);

const MAILBOX: Shape = Shape::Text("a mail address such as ops@example.com");
