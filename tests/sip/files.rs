//! The corpus itself: the manifest and the files belong together, and the bytes are what was written.

use std::collections::BTreeSet;
use std::fs;

use crate::corpus::{Kind, folder, samples};

#[test]
fn each_file_is_in_the_manifest_once_and_the_other_way_round() {
    let named: Vec<String> = samples().into_iter().map(|sample| sample.name).collect();
    let once: BTreeSet<&String> = named.iter().collect();
    assert_eq!(once.len(), named.len(), "a file stands twice in the manifest");
    for sub in ["answers", "odd", "rfc5118"] {
        for entry in fs::read_dir(folder().join(sub)).expect("a folder of the corpus") {
            let name = format!("{sub}/{}", entry.expect("an entry").file_name().display());
            assert!(once.contains(&name), "{name} is not in the manifest");
        }
    }
}

#[test]
fn each_kind_of_message_is_there() {
    let samples = samples();
    let count = |kind| samples.iter().filter(|sample| sample.kind == kind).count();
    assert!(count(Kind::Request) >= 100 && count(Kind::Response) >= 20, "{} messages", samples.len());
    assert!(count(Kind::Stream) >= 5 && count(Kind::Noise) >= 5, "{} messages", samples.len());
    for verdict in ["serve", "silence", "400", "416", "420", "501", "505", "481", "415"] {
        assert!(samples.iter().any(|sample| sample.may(verdict)), "nothing asks for {verdict}");
    }
}

#[test]
fn no_tool_has_changed_the_ends_of_lines() {
    let bare = |bytes: &[u8]| bytes.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r');
    for sample in samples().iter().filter(|sample| sample.kind != Kind::Noise) {
        // A body may hold anything.
        let head = sample.bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap_or(sample.bytes.len());
        assert_eq!(bare(&sample.bytes[..head]), sample.name == "odd/bare-lf.dat", "{}", sample.name);
    }
}
