//! Files that nobody meant: mutated, endless, exploding. No panic, no secret in what is said, no long wait.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::{EXAMPLE, SHORT, read, refusal};

/// A text that stands wherever a secret may stand, and must never come out again.
const SECRET: &str = "hunter2-S3CR3T-and-more-of-it";

/// The example with plain secrets in every place that takes one.
fn with_secrets() -> String {
    let mut text = String::new();
    for line in EXAMPLE.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let mut line = line.to_owned();
        while let Some(start) = line.find("{ file: ") {
            let end = line[start..].find('}').expect("closed") + start + 1;
            line.replace_range(start..end, SECRET);
        }
        text.push_str(&line);
        text.push('\n');
    }
    // A certificate is no secret, and is never written out in the file.
    text.replace(&format!("certificate: {SECRET}"), "certificate: { file: /etc/pbx-failover/agent.crt }")
        .replace(r#"password: """#, &format!("password: {SECRET}"))
        .replace(r#"username: """#, "username: robot")
        .replace("X-Event: \"{{ event }}\"", &format!("Authorization: \"Bearer {SECRET}\""))
        .replace("update?name=", &format!("update?token={SECRET}&name="))
        .replace("event: \"{{ event }}\"", &format!("token: {SECRET}"))
        .replace("dead_man: { url: \"\"", &format!("dead_man: {{ url: \"https://m.example.net/{SECRET}\""))
        .replace("before_reload: []", &format!("before_reload: [/bin/dump, --password, {SECRET}]"))
}

/// All that the loader says about a text.
fn said(text: &str) -> String {
    match read(text) {
        Ok(loaded) => format!("{:?} {:?}", loaded.config, loaded.warnings),
        Err(refused) => format!("{refused} {refused:?} {}", serde_json::to_string(&refused).expect("json")),
    }
}

#[test]
fn a_configuration_shows_no_secret_when_it_is_printed() {
    let text = with_secrets();
    assert!(text.matches(SECRET).count() >= 8, "{text}");
    let tsig = "secret: c2VjcmV0c2VjcmV0"; // which must be base64
    let text = text.replace(&format!("secret: {SECRET}"), tsig);
    let loaded = read(&text).unwrap_or_else(|refused| panic!("{refused}"));
    let mut config = loaded.config;
    // Arguments of commands are for everybody to see anyway, in the list of processes.
    config.pbx.before_reload.clear();
    let shown = format!("{config:?}");
    assert!(!shown.contains(SECRET) && !shown.contains("c2VjcmV0"), "{shown}");
}

#[test]
fn no_mistake_brings_a_secret_to_light() {
    let text = with_secrets();
    for (from, to) in [
        ("password: ", "password:"),
        ("password: ", "password: x: "),
        ("password: ", "passwort: "),
        ("password: ", "- "),
        ("password: ", ""),
        ("secret: ", "secret:"),
        ("secret: ", "secret: { "),
        ("secret: ", "secret: { file: { "),
        ("secret: ", "secret: [ "),
        ("secret: ", "secret: !tag "),
        ("secret: ", "secret: &anchor "),
        ("secret: ", "secret: * "),
        ("secret: ", "algorithm: "),
        ("Bearer ", "Bearer\\n"),
        ("Authorization: ", "Authorization:"),
        ("Authorization: ", ""),
        ("token=", "{{ token"),
        ("https://dns", "htps://dns"),
        ("https://m.", "m."),
        ("--password, ", "--password: "),
        (SECRET, "\"hunter2-S3CR3T"),
        (SECRET, "hunter2-S3CR3T: hunter2-S3CR3T"),
        (SECRET, "{ hunter2-S3CR3T }"),
        (SECRET, "{ hunter2-S3CR3T: 1 }"),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text, "{from}");
        let said = refusal(&changed);
        assert!(!said.contains(SECRET), "{from} → {to}:\n{said}");
    }
}

#[test]
fn an_alias_bomb_is_refused_and_costs_nothing() {
    let mut text = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (new, old) in ('b'..='z').zip('a'..='y') {
        let nine = vec![format!("*{old}"); 9].join(", ");
        text.extend([new.to_string(), format!(": &{new} [{nine}]\n")]);
    }
    let start = Instant::now();
    assert!(refusal(&text).contains("an anchor"));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn endless_nesting_costs_no_stack() {
    for (open, words) in [("[", "so deep"), ("{ a: ", "so deep"), ("- ", "so deep"), ("? ", "")] {
        let start = Instant::now();
        let said = refusal(&open.repeat(100_000));
        assert!(said.contains(words), "{open}: {said}");
        assert!(start.elapsed() < Duration::from_secs(5), "{open}: {:?}", start.elapsed());
    }
}

#[test]
fn a_file_of_endless_keys_or_one_endless_line_is_refused_in_time() {
    let keys = (0..60_000).map(|n| format!("k{n}: 1")).collect::<Vec<_>>().join("\n");
    let flow = format!("node: [{}]", "1,".repeat(200_000));
    let long = format!("node: {}", "x".repeat(500_000));
    let quoted = format!("node: \"{}", "\\n".repeat(200_000));
    for text in [keys, flow, long, quoted] {
        let start = Instant::now();
        refusal(&text);
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}: {}", start.elapsed(), &text[..20]);
    }
}

/// Whether each secret in `text` still stands behind the key or the words that `whole` has before one: moved behind
/// another key, as a name or a number, nothing tells that it is one.
fn secrets_stand_as_in(whole: &str, text: &str) -> bool {
    let before = |text: &str| -> Vec<String> {
        let chars_before = |at| text[..at].chars().rev().take(9).collect();
        text.match_indices(SECRET).map(|(at, _)| chars_before(at)).collect()
    };
    let places = before(whole);
    before(text).iter().all(|place| places.contains(place))
}

/// Pieces that a parser may stumble over.
const PIECES: [&str; 24] = [
    ":", ": ", "-", "- ", "[", "]", "{", "}", "\"", "'", "#", "&a ", "*a ", "!!x ", "|\n", ">\n", "\t", "\n", "\r\n",
    "? ", "---\n", "{{ ", "\u{feff}", "🌍",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_files_never_panic_and_never_tell_a_secret(
        short in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..4, any::<prop::sample::Index>()), 1..6),
    ) {
        let text = if short { SHORT.to_owned() } else { with_secrets() };
        let mut chars: Vec<char> = text.chars().collect();
        for (at, kind, other) in changes {
            let at = at.index(chars.len());
            match kind {
                0 => { chars.remove(at); }
                1 => { chars.splice(at..at, PIECES[other.index(PIECES.len())].chars()); }
                2 => { let with = other.index(chars.len()); chars.swap(at, with); }
                _ => { let end = (at + 1 + other.index(40)).min(chars.len()); chars.drain(at..end); }
            }
        }
        let whole = text;
        let text: String = chars.into_iter().collect();
        if let Err(refused) = read(&text) {
            let said = format!("{refused} {refused:?}");
            prop_assert!(!said.contains(SECRET) || !secrets_stand_as_in(&whole, &text), "{said}");
            prop_assert!(!refused.remarks.is_empty());
            for remark in &refused.remarks {
                // YAML ends a line at a lone carriage return too.
                let lines = text.matches(['\n', '\r']).count() + 2;
                prop_assert!(remark.line <= lines && !remark.fix.is_empty(), "{remark:?}");
            }
        }
    }

    #[test]
    fn files_of_any_text_never_panic(text in "(?s).{0,200}") {
        let _ = said(&text);
    }
}

#[test]
fn the_example_cut_off_after_any_line_never_panics() {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    for end in 0..lines.len() {
        let _ = said(&lines[..end].join("\n"));
    }
}
