//! The law of templates: whatever the values, what the receiver parses is exactly those values in their places.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use pbx_failover::adapters::courier;
use pbx_failover::config::{ActionUrl, Body, Encoding};
use pbx_failover::units::{Delivery, DeliveryOutcome};
use proptest::prelude::*;

use super::{action, delivery, nobody};
use crate::lab::http::{Received, Receiver, Reply};

/// Characters that mean something somewhere: in a URL, a header, a form, JSON, a template, or a shell.
const NASTY: &[char] = &[
    '\r',
    '\n',
    '\0',
    '\t',
    ' ',
    '"',
    '\'',
    '\\',
    '{',
    '}',
    '%',
    '&',
    '#',
    '?',
    '/',
    '=',
    '+',
    ';',
    ':',
    '@',
    '.',
    ',',
    '<',
    '>',
    '[',
    ']',
    '|',
    '^',
    '`',
    '~',
    '$',
    '!',
    '*',
    '(',
    ')',
    '2',
    'e',
    'E',
    'F',
    '\u{7f}',
    '\u{85}',
    '\u{2028}',
    '\u{feff}',
    '\u{fffd}',
    'ä',
    '中',
    '\u{1f4de}',
];

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::collection::vec(prop::sample::select(NASTY), 0..24).prop_map(|v| v.into_iter().collect()),
        prop::collection::vec(any::<char>(), 0..24).prop_map(|v| v.into_iter().collect()),
        prop::sample::select(
            &["..", ".", "%2e%2e", "{{ node }}", "\r\nX-Evil: 1\r\n\r\nGET / HTTP/1.1", "a/../../b"][..]
        )
        .prop_map(str::to_owned),
    ]
}

/// One receiver and one runtime for all cases: a case is then a single request.
static RECEIVER: LazyLock<Receiver> = LazyLock::new(|| Receiver::plain(&[Reply::Status(200)]));
static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime"));

fn send(action: &ActionUrl, reason: &str, dns_name: &str) -> Result<Received, String> {
    let couriers = courier::couriers_of(std::slice::from_ref(action), &nobody()).expect("good templates");
    let mut delivery: Delivery = delivery(courier::action_url(&action.name));
    delivery.variables.insert("reason".into(), reason.into());
    delivery.variables.insert("dns_name".into(), dns_name.into());
    match RUNTIME.block_on(couriers[&delivery.target].deliver(&delivery)) {
        DeliveryOutcome::Accepted(_) => {
            let mut all = RECEIVER.take();
            assert_eq!(all.len(), 1, "one delivery is one request: {all:?}");
            Ok(all.remove(0))
        }
        DeliveryOutcome::Rejected(line) => Err(line),
        DeliveryOutcome::Retry(line) => panic!("{line}"),
    }
}

/// RFC 3986 §2.1; panics on a broken escape.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let hex = std::str::from_utf8(&tail[..2]).expect("hex");
            bytes.push(u8::from_str_radix(hex, 16).expect("hex"));
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

fn pairs(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .map(|pair| {
            assert!(!pair.contains('+'), "a plus would be read as a space: {pair}");
            let (name, value) = pair.split_once('=').expect("name=value");
            (decode(name), decode(value))
        })
        .collect()
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_receiver_parses_exactly_the_values_in_their_places(a in value(), b in value()) {
        let url = format!(
            "http://127.0.0.1:{}/to/{{{{ reason }}}}/x-{{{{ dns_name }}}}?r={{{{ reason }}}}&d={{{{ dns_name }}}}",
            RECEIVER.port
        );
        let body = serde_json::json!({"r": "{{ reason }}", "d": "<{{ dns_name }}>"});
        let Body::Fields(flat) = Body::Fields(body.as_object().unwrap().clone()) else { unreachable!() };
        let nested = serde_json::json!({"o": {"l": ["{{ reason }}", 1, {"d": "a{{ dns_name }}\"b"}]}});
        let text = Body::Text("r={{ reason }} d={{ dns_name }}".to_owned());
        let bodies = [
            (Encoding::Form, Body::Fields(flat)),
            (Encoding::Json, Body::Fields(nested.as_object().unwrap().clone())),
            (Encoding::Text, text),
        ];
        for (encoding, body) in bodies {
            let action = ActionUrl {
                encoding,
                body,
                headers: vec![("X-Reason".into(), "<{{ reason }}>".into())],
                ..action(&url)
            };
            let request = match send(&action, &a, &b) {
                Ok(request) => request,
                // The one value that no URL can carry as a segment of its path (RFC 3986 §5.2.4).
                Err(line) => {
                    prop_assert!([".", ".."].contains(&a.as_str()) && line.contains("lead elsewhere"), "{a:?}: {line}");
                    continue;
                }
            };
            prop_assert_eq!(&request.method, "POST");

            let (path, query) = request.target.split_once('?').expect("a query");
            let segments: Vec<_> = path.split('/').map(decode).collect();
            prop_assert_eq!(segments, ["", "to", &a, &format!("x-{b}")]);
            prop_assert_eq!(pairs(query), owned(&[("r", &a), ("d", &b)]));

            let names: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
            let mut sorted = names.clone();
            sorted.sort_unstable();
            prop_assert_eq!(
                sorted,
                ["accept", "content-length", "content-type", "host", "idempotency-key", "user-agent", "x-reason"]
            );
            let spaced: String = a.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            prop_assert_eq!(request.header("x-reason"), Some(format!("<{spaced}>")));
            prop_assert_eq!(request.header("host"), Some(format!("127.0.0.1:{}", RECEIVER.port)));

            let sent = String::from_utf8(request.body.clone()).expect("UTF-8");
            match encoding {
                Encoding::Form => {
                    let got: BTreeMap<_, _> = pairs(&sent).into_iter().collect();
                    let wanted: BTreeMap<_, _> = owned(&[("r", &a), ("d", &format!("<{b}>"))]).into_iter().collect();
                    prop_assert_eq!(got, wanted);
                }
                Encoding::Json => {
                    let got: serde_json::Value = serde_json::from_str(&sent).expect("JSON");
                    prop_assert_eq!(got, serde_json::json!({"o": {"l": [&a, 1, {"d": format!("a{b}\"b")}]}}));
                }
                Encoding::Text => prop_assert_eq!(sent, format!("r={a} d={b}")),
            }
        }
    }
}
