//! Whether a file of configuration is whole, as far as its content tells: by the format that its name says.
//!
//! Only what no program would write is a fault. A text cut at the end of a line is well-formed; that it is shorter than
//! before is for the gate to see.

use quick_xml::Reader;
use quick_xml::events::Event;
use serde::de::IgnoredAny;

use super::survey::Fault;

/// Larger files are not read: no configuration is so large.
pub const READ_MAX: u64 = 4 << 20;

/// What a file of configuration is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// XML, or pieces of it (FreeSWITCH includes).
    Xml,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Sections and keys (Asterisk, and most others that end in `.conf` and `.ini`).
    Sections,
    /// Text in a language of its own.
    Text,
}

impl Format {
    /// What the name says; for a file that counts as configuration.
    pub fn of(name: &[u8]) -> Self {
        let extension = name.rsplit(|byte| *byte == b'.').next().unwrap_or_default().to_ascii_lowercase();
        match extension.as_slice() {
            b"xml" => Self::Xml,
            b"json" => Self::Json,
            b"yaml" | b"yml" => Self::Yaml,
            b"conf" | b"ini" => Self::Sections,
            _ => Self::Text,
        }
    }
}

/// What is wrong with this content; `None`: nothing that it shows.
pub fn fault(format: Format, content: &[u8]) -> Option<Fault> {
    if content.is_empty() {
        return Some(Fault::Empty);
    }
    if content.contains(&0) && !is_utf_16(content) {
        return Some(Fault::Nul);
    }
    let malformed = match format {
        Format::Xml => xml(content),
        Format::Json => serde_json::from_slice::<IgnoredAny>(content).map(drop).map_err(|error| error.to_string()),
        Format::Yaml => yaml(content),
        Format::Sections => sections(content),
        Format::Text => Ok(()),
    };
    malformed.err().map(|why| Fault::Malformed(one_line(&why)))
}

/// Whether a text ends within a line.
pub fn ends_within_line(content: &[u8]) -> bool {
    content.last().is_some_and(|last| *last != b'\n')
}

/// With a byte order mark: half of its bytes may be NUL.
fn is_utf_16(content: &[u8]) -> bool {
    matches!(content, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..])
}

fn xml(content: &[u8]) -> Result<(), String> {
    if is_utf_16(content) {
        return Ok(());
    }
    let mut reader = Reader::from_reader(content);
    reader.config_mut().allow_dangling_amp = true;
    let mut open = 0_u64;
    loop {
        match reader.read_event() {
            Ok(Event::Start(_)) => open += 1,
            Ok(Event::End(_)) => open = open.saturating_sub(1),
            Ok(Event::Eof) if open > 0 => return Err(format!("it ends with {open} elements open")),
            Ok(Event::Eof) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(format!("byte {}: {error}", reader.error_position())),
        }
    }
}

fn yaml(content: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(content).map_err(|error| error.to_string())?;
    for event in saphyr_parser::Parser::new_from_str(text) {
        event.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// A section whose name is not closed: what else is a fault differs from program to program.
fn sections(content: &[u8]) -> Result<(), String> {
    for (number, line) in content.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.starts_with(b"[") && !line.contains(&b']') {
            return Err(format!("line {}: the name of a section is not closed", number + 1));
        }
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(160).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(name: &str, content: &str) -> Option<String> {
        fault(Format::of(name.as_bytes()), content.as_bytes()).map(|fault| fault.to_string())
    }

    #[test]
    fn what_a_pbx_reads_is_whole() {
        for (name, content) in [
            ("pjsip.conf", "[100](phone)\ntype=endpoint ; \\; [x\n#include x.conf\n"),
            ("extensions.conf", "[a]\nexten => 1,1,Set(x=${IF($[1]?a:b)})"),
            ("a.xml", "<include>\n  <X-PRE-PROCESS cmd=\"set\" data=\"a=b\"/><!-- & --></include>"),
            ("two.xml", "<?xml version=\"1.0\"?><a/><b>&amp; & c</b>"),
            ("a.json", "{\"a\": [1, 2]}"),
            ("a.yaml", "a: 1\nb: [x, y]\n---\nc: 2\n"),
            ("kamailio.cfg", "if (x) { [y"),
            ("A.CONF", "[a]\n"),
        ] {
            assert_eq!(of(name, content), None, "{name}");
        }
    }

    #[test]
    fn what_is_cut_emptied_or_zeroed_is_named_with_its_place() {
        for (name, content, said) in [
            ("pjsip.conf", "", "is empty"),
            ("pjsip.conf", "[a]\n\0\0\0\0", "is filled with NUL bytes"),
            ("pjsip.conf", "[a]\ntype=x\n[b", "cannot be read: line 3: the name of a section is not closed"),
            ("a.xml", "<a><b></b>", "cannot be read: it ends with 1 elements open"),
            ("a.xml", "<a></b>", "cannot be read: byte"),
            ("a.xml", "<a><b attr=\"x", "cannot be read: byte"),
            ("a.json", "{\"a\": [1, 2", "cannot be read: EOF while parsing a list at line 1 column 11"),
            ("a.yml", "a: [1, 2\nb: }", "cannot be read: "),
        ] {
            let fault = of(name, content).unwrap_or_else(|| panic!("{name}: {content}"));
            assert!(fault.starts_with(said), "{content}: {fault}");
        }
        assert!(ends_within_line(b"a") && !ends_within_line(b"a\n") && !ends_within_line(b""));
    }

    #[test]
    fn a_text_in_utf_16_is_not_taken_for_zeroed() {
        assert_eq!(fault(Format::Xml, b"\xff\xfe<\0a\0/\0>\0"), None);
    }

    proptest! {
        #[test]
        fn no_content_makes_it_panic(content: Vec<u8>) {
            for format in [Format::Xml, Format::Json, Format::Yaml, Format::Sections, Format::Text] {
                if let Some(fault) = fault(format, &content) {
                    prop_assert!(!fault.to_string().contains('\n'));
                }
            }
        }
    }
}
