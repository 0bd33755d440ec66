//! The keys of `pbx.driver`: one map for each driver.

use super::{BOOL, CERTIFICATE, EXPIRES, PATH, SOME_TIME, key, later};
use crate::config::shape::Need::{Default, May, Must};
use crate::config::shape::Shape;

pub const DRIVER: Shape = Shape::OneOf(&[
    key(
        "systemd",
        May,
        Shape::Map(&[
            key("unit", Must, Shape::Text("a unit such as pbx.service"), "The unit; its start is the reload."),
            key("start_timeout", Default("60s"), SOME_TIME, "How long its start may take."),
        ]),
        "Anything that runs as a unit.",
    ),
    key(
        "command",
        May,
        Shape::Map(&[
            key("passive", Must, Shape::Command, "Makes sure that the PBX does not serve."),
            key("reload", Must, Shape::Command, "Makes it run the working directory."),
            key("accept_registrations", Default("[]"), Shape::Command, "Makes it accept registrations."),
            key("register_trunks", Default("[]"), Shape::Command, "Makes it register its trunks."),
            key("status", Default("[]"), Shape::Command, "Prints its status as JSON."),
            key("drain", Default("[]"), Shape::Command, "Exits 0 when no call is up."),
            key("unregister_trunks", Default("[]"), Shape::Command, "Gives the trunks up."),
            key("stop_accepting", Default("[]"), Shape::Command, "Makes it passive for a failback."),
        ]),
        "One command for each verb; an empty one means that there is nothing to do.",
    ),
    key("builtin", May, BUILTIN, "The survival PBX inside the robot; it connects no calls yet."),
    key("asterisk", May, ASTERISK, "Asterisk, over its manager interface (AMI)."),
    key("freeswitch", May, FREESWITCH, "FreeSWITCH, over its event socket (ESL); experimental."),
    key("kamailio", May, KAMAILIO, "Kamailio over JSON-RPC."),
]);

const KAMAILIO: Shape = Shape::Map(&[
    key(
        "jsonrpc",
        Default("unix:///run/kamailio/kamailio_rpc.sock"),
        Shape::Text("unix:///PATH of a datagram socket, or http://ADDRESS:PORT/PATH on this host"),
        "Where its module jsonrpcs listens: unix:///PATH, or http://… through xhttp.",
    ),
    key("unit", Default("kamailio.service"), Shape::Text("a unit such as kamailio.service"), "Its unit."),
    key("start_timeout", Default("60s"), SOME_TIME, "How long its start may take."),
    key(
        "passive",
        Default("stopped"),
        Shape::Choice(&["stopped", "gate"], &[]),
        "stopped: its unit; gate: it runs, and its script answers 503.",
    ),
    key(
        "gate",
        Default("{}"),
        Shape::Map(&[
            key("htable", Default("pbx_failover"), Shape::Text("the name of a table"), "The table, in memory only."),
            key("key", Default("serve"), Shape::Text("the name of an entry"), "The entry that is 1 while it serves."),
        ]),
        "passive gate: what the script asks.",
    ),
    key(
        "reload",
        Default("[htable.reload, domain.reload, dispatcher.reload]"),
        Shape::List("commands", &Shape::Text("a command of its RPC without parameters, such as domain.reload")),
        "passive gate: how it reads its tables again; what it does not have is passed over. uac.reg_reload follows.",
    ),
]);

const FREESWITCH: Shape = Shape::Map(&[
    key("esl", Default(r#""127.0.0.1:8021""#), Shape::Text("a place such as 127.0.0.1:8021"), "Its event socket."),
    key("password", Must, Shape::Secret, "The event socket's password; the stock one is refused."),
    key(
        "profiles",
        Default("[external, internal]"),
        Shape::List("profiles", &Shape::Text("a profile such as internal")),
        "Its SIP profiles: those must run.",
    ),
    key("unit", Default("freeswitch.service"), Shape::Text("a unit such as freeswitch.service"), "Its unit."),
    key("start_timeout", Default("60s"), SOME_TIME, "How long its start may take, until its profiles run."),
    key(
        "passive",
        Default("stopped"),
        Shape::Choice(&["stopped", "standby"], &[]),
        "What it does while this node is passive.",
    ),
]);

const ASTERISK: Shape = Shape::Map(&[
    key(
        "ami",
        Default(r#""127.0.0.1:5038""#),
        Shape::Text("a place such as 127.0.0.1:5038 or tls://HOST:5039"),
        "Where AMI listens; tls:// for TLS.",
    ),
    key(
        "certificate",
        May,
        Shape::Map(&[key("file", Must, PATH, "The certificate (PEM), a copy of tlscertfile in manager.conf.")]),
        "tls: its certificate, and no other; without it, one of the system's authorities must vouch for it.",
    ),
    key("username", Default("robot"), Shape::Text("a user of manager.conf"), "Its user in manager.conf."),
    key("password", Must, Shape::Secret, "Its secret in manager.conf."),
    key("unit", Default("asterisk.service"), Shape::Text("a unit such as asterisk.service"), "Its unit."),
    key("start_timeout", Default("60s"), SOME_TIME, "How long its start may take, until it has fully booted."),
    key(
        "takeover",
        Default("start"),
        Shape::Choice(&["start", "reload"], &[]),
        "An Asterisk that runs already at a takeover is started anew, or reloaded.",
    ),
    key("config", Default("pjsip.conf"), PATH, "Its pjsip.conf; relative to the working directory that holds it."),
]);

const BUILTIN: Shape = Shape::Map(&[
    key(
        "listen",
        Default(r#"["udp://0.0.0.0:5060", "tcp://0.0.0.0:5060"]"#),
        Shape::List("places", &Shape::Text("a place such as udp://0.0.0.0:5060")),
        "Where phones find it while this node serves: udp, tcp, tls.",
    ),
    key(
        "accounts",
        Default("pjsip.conf"),
        PATH,
        "The accounts, as Asterisk writes them; relative to the working directory.",
    ),
    key("realm", Default(r#""""#), Shape::Text("a realm"), "The realm of accounts that name none; empty: the file's."),
    key("min_expires", Default("60s"), EXPIRES, "The shortest registration of a phone."),
    key("max_expires", Default("5m"), EXPIRES, "The longest registration of a phone."),
    key("tls", May, CERTIFICATE, "What it shows to phones over tls."),
    key("lab", Default("false"), BOOL, "true: I know that it connects no calls, emergency calls among them."),
    later("calls", "How calls are connected."),
]);
