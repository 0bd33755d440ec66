//! The keys of `failback`: how service is given back, and how what was changed here goes home.

use super::{ANY_TIME, BOOL, PATH, SOME_TIME, key};
use crate::config::shape::Need::{Default, May, Must};
use crate::config::shape::Shape;

pub const FAILBACK: Shape = Shape::Map(&[
    key("drain", Default("15m"), ANY_TIME, "How long to wait for a moment without calls."),
    key("lower_ttl_first", Default("false"), BOOL, "Lower the records' TTL first, and wait the old one out."),
    key(
        "return_data",
        Default("[]"),
        Shape::Command,
        "Carries changed files home, where return_to is not wanted; run twice, with PBX_FAILOVER_PASS and PBX_FAILOVER_LIST.",
    ),
    key(
        "return_rest",
        Default("[]"),
        Shape::Command,
        "Carries what return_data left, once the primary serves; it must heed PBX_FAILOVER_LIST.",
    ),
    key(
        "return_to",
        May,
        Shape::Map(&[
            key("rsync", Must, Shape::Text("USER@HOST"), "The primary, as ssh reaches it."),
            key("dirs", Default("[]"), Shape::List("paths", &PATH), "The working directories there; default: as here."),
            key("ssh_key", May, PATH, "The private key; default: what ssh finds."),
            key("port", Default("22"), Shape::Whole(1, 65_535), "The port of sshd there."),
            key("known_hosts", May, PATH, "Who is known; default: what ssh reads. An unknown host is refused."),
            key(
                "max_kib_s",
                Default("0"),
                Shape::Whole(0, 10_000_000),
                "So fast at most while phones are served, KiB a second; 0: as fast as it goes.",
            ),
        ]),
        "Carries changed files home by rsync over ssh, and reads them back there.",
    ),
    key("return_limit", Default("2m"), SOME_TIME, "The bound of the last delta, while nobody serves."),
    key("start_primary", Default("[]"), Shape::Command, "Starts the primary; empty: a person does, its guard lets it."),
    key("wait_for_primary", Default("90s"), SOME_TIME, "How long it may take before service is taken back."),
]);
