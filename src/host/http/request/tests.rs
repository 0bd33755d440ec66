//! What is refused when the file is loaded, and where a value may lead.

use std::time::Duration;

use super::*;

fn action(url: &str) -> ActionUrl {
    ActionUrl {
        name: "provider".into(),
        events: vec![EventName::Takeover],
        method: "POST".into(),
        url: url.into(),
        auth: None,
        headers: Vec::new(),
        encoding: Encoding::Json,
        body: Body::Empty,
        ca_file: None,
        expect_status: 200..=299,
        timeout: Duration::from_secs(1),
        retries: 0,
    }
}

fn faults(action: &ActionUrl) -> String {
    Prepared::new(action).err().unwrap_or_else(|| panic!("{action:?} passed")).join("\n")
}

fn values(reason: &str) -> Values {
    let mut values = samples(EventName::Takeover);
    values.insert("reason".to_owned(), reason.to_owned());
    values
}

fn json(text: &str) -> Body {
    Body::Fields(serde_json::from_str(text).unwrap())
}

#[test]
fn a_value_never_stands_in_scheme_host_port_or_user() {
    for url in [
        "{{ event }}://h.example/",
        "https://{{ node }}.example.com/",
        "https://h.example{{ node }}/",
        "https://h.example:{{ ttl }}/",
        "https://{{ node }}@h.example/",
        "https://robot:secret@h.example/",
        "https:{{ node }}",
        "ftp://h.example/",
        "//h.example/",
    ] {
        let fault = faults(&action(url));
        assert!(
            fault.starts_with("url: ") && (fault.contains("written out") || fault.contains("use auth")),
            "{url}: {fault}"
        );
    }
}

#[test]
fn a_url_whose_literal_parts_could_swallow_a_value_is_refused() {
    for (url, word) in [
        ("https://h.example/%{{ node }}", "%25"),
        ("https://h.example/%4{{ node }}", "%25"),
        ("https://h.example/#{{ node }}", "%23"),
        ("https://h.example/a\\{{ node }}", "backslash"),
        ("https://h.example/a b", "%20"),
        ("https://h.example/../{{ node }}", "lead elsewhere"),
        ("https://h.example/%2e%2E/", "lead elsewhere"),
        ("https://h.example:99999/", "port"),
    ] {
        let fault = faults(&action(url));
        assert!(fault.contains(word), "{url}: {fault}");
    }
}

#[test]
fn a_value_that_would_climb_out_of_its_segment_is_not_sent() {
    for (url, reason) in [
        ("https://h.example/a/{{ reason }}/b", ".."),
        ("https://h.example/a/{{ reason }}", "."),
        ("https://h.example/a/.{{ reason }}", "."),
        ("https://h.example/a/{{ reason }}{{ reason }}?x", "."),
    ] {
        let prepared = Prepared::new(&action(url)).unwrap_or_else(|faults| panic!("{url}: {faults:?}"));
        assert!(prepared.fill(&values(reason)).is_err_and(|fault| fault.contains("lead elsewhere")), "{url}");
    }
    let query = Prepared::new(&action("https://h.example/a?x={{ reason }}")).unwrap_or_else(|f| panic!("{f:?}"));
    assert_eq!(query.fill(&values("..")).map(|filled| filled.url.to_string()).unwrap(), "https://h.example/a?x=..");
}

#[test]
fn headers_that_frame_or_sign_the_request_are_the_robots_own() {
    for (name, value) in [
        ("Host", "h"),
        ("content-length", "3"),
        ("Transfer-Encoding", "chunked"),
        ("Idempotency-Key", "x"),
        ("bad name", "x"),
        ("X-Event", "a\r\nX-Other: b"),
    ] {
        let action = ActionUrl { headers: vec![(name.into(), value.into())], ..action("https://h.example/") };
        assert!(faults(&action).contains("headers: "), "{name}");
    }
}

#[test]
fn every_fault_is_told_at_once() {
    let action = ActionUrl {
        method: "TRACE".into(),
        headers: vec![("X-A".into(), "{{ evnt }}".into()), ("Host".into(), "x".into())],
        body: json(r#"{"a": {"b": ["{{ nod }}"]}}"#),
        ..action("https://{{ node }}/")
    };
    let faults = faults(&action);
    assert_eq!(faults.lines().count(), 5, "{faults}");
    assert!(faults.contains("body: a: b: {{ nod }}: no variable is called nod"), "{faults}");
}

#[test]
fn a_body_that_its_encoding_cannot_carry_is_refused() {
    let with = |encoding, body| faults(&ActionUrl { encoding, body, ..action("https://h.example/") });
    assert!(with(Encoding::Form, json(r#"{"a": {"b": "c"}}"#)).contains("use encoding: json"));
    assert!(with(Encoding::Form, Body::Text("a=b".into())).contains("encoding: text"));
    assert!(with(Encoding::Text, json(r#"{"a": "b"}"#)).contains("form or json"));
    assert!(with(Encoding::Json, json(r#"{"{{ event }}": "b"}"#)).contains("a name cannot hold"));
    assert!(with(Encoding::Json, Body::Text(r#"{"epoch": {{ epoch }}}"#.into())).contains("inside a string"));
}

#[test]
fn a_json_text_is_filled_inside_its_strings() {
    let body = Body::Text(r#"[{"e": "{{ \"up\" if event == 'failback' else reason }}", "n": 1}]"#.into());
    let prepared =
        Prepared::new(&ActionUrl { body, ..action("https://h.example/") }).unwrap_or_else(|f| panic!("{f:?}"));
    let text = prepared.fill(&values("\"}],\\{{ event }}\n")).map(|filled| filled.body.unwrap()).unwrap();
    assert_eq!(
        serde_json::from_str::<Json>(&text).unwrap(),
        serde_json::json!([{"e": "\"}],\\{{ event }}\n", "n": 1}])
    );
}

#[test]
fn a_value_too_long_for_a_url_is_told_without_the_value() {
    let prepared = Prepared::new(&action("https://h.example/?x={{ reason }}")).unwrap_or_else(|f| panic!("{f:?}"));
    let fault = prepared.fill(&values(&"x".repeat(URL_BYTES_MAX))).err().unwrap();
    assert_eq!(fault, "url: grows beyond 16384 bytes; put long values into the body");
}
