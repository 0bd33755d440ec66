//! The keys of `sync`: what the gate before a load asks of the working directory, and how the sync is stopped and started.

use super::{ANY_TIME, PATH, SOME_TIME, key};
use crate::config::shape::Need::{Default, May, Must};
use crate::config::shape::Shape;

const PATTERN: Shape = Shape::Text("a pattern of paths such as log/ or *.conf");
const PATTERNS: Shape = Shape::List("patterns", &PATTERN);

pub const SYNC: Shape = Shape::Map(&[
    key("settle", Default("3s"), ANY_TIME, "No change for so long before the directory counts as whole."),
    key(
        "max_age",
        Default("{}"),
        Shape::Map(&[
            key("warn", Default("15m"), SOME_TIME, "Older data is a warning."),
            key(
                "hold",
                Default("24h"),
                SOME_TIME,
                "Older data does not pass the gate; without a heartbeat it is a warning.",
            ),
        ]),
        "How old the data may be, by the primary's heartbeat file where there is one; else only told, by the newest change.",
    ),
    key(
        "on_hold",
        Default("last_good"),
        Shape::Choice(&["last_good", "go", "hold"], &[]),
        "What happens when the data does not pass the gate: its last good snapshot, what is there, or nothing is loaded.",
    ),
    key(
        "hold_back",
        Default("[]"),
        PATTERNS,
        "Spools that act on start: moved aside before the reload, and listed until a person puts them back.",
    ),
    key("stop", Default("[]"), Shape::Command, "Run at takeover, to stop the inbound sync."),
    key("start", Default("[]"), Shape::Command, "Run at failback."),
    key(
        "keep_snapshots",
        Default("3"),
        Shape::Whole(0, 100),
        "How many snapshots are kept: last good ones, those of takeovers, those before a restore; 0: none.",
    ),
    key(
        "snapshots_max",
        Default("2GB"),
        Shape::Text("a size such as 500MB or 2GB"),
        "How much room all snapshots may take in state_dir; the oldest go, never the newest good one nor that of the running service.",
    ),
    key("ignore", Default("[]"), PATTERNS, "What is not looked at, such as logs that this host writes."),
    key(
        "rules",
        Default("[]"),
        Shape::List(
            "rules",
            &Shape::Map(&[
                key("path", Must, PATTERN, "Which files; the first rule that fits counts."),
                key(
                    "on_fault",
                    Must,
                    Shape::Choice(&["ignore", "warn", "hold"], &[]),
                    "What follows when such a file is cut, emptied or malformed.",
                ),
            ]),
        ),
        "What a broken file means, where it is not as with any file of configuration (hold).",
    ),
    key(
        "classes",
        Default("{}"),
        Shape::Map(&[
            key("voicemail", Default("[]"), PATTERNS, "Messages that callers left."),
            key("recording", Default("[]"), PATTERNS, "Recorded calls."),
            key("cdr", Default("[]"), PATTERNS, "Call records."),
            key("config", Default("[]"), PATTERNS, "What the PBX is told to do; only these files are read."),
            key("other", Default("[]"), PATTERNS, "Anything else."),
        ]),
        "What a file is, before what is known of Asterisk, FreePBX, FreeSWITCH and Vodia.",
    ),
    key(
        "dump",
        May,
        Shape::Map(&[
            key("file", Must, PATH, "The dump, in the working directory."),
            key("max_age", Default("26h"), SOME_TIME, "An older one does not pass the gate."),
        ]),
        "A database dump that before_reload restores: it must be young and whole.",
    ),
]);
