//! Asterisk's manager interface (AMI): bytes ⇄ packets of `Key: Value` lines, each packet ended by an empty line.
//!
//! What a server greets with, and what a packet means, is for whoever asks. Everything is bounded, since what stands at
//! a port need not be Asterisk. Read `adapters/pbx/asterisk/client.rs` next. Facts are those of Asterisk 16 and 22.

use std::fmt;

/// A longer line is none of AMI's: Asterisk itself reads 1,024 bytes, and writes lists of contacts on one line.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// A packet has some tens of lines; an endpoint's detail about two hundred.
pub const FIELDS_MAX: usize = 1_000;

/// All lines of a packet together.
pub const PACKET_BYTES_MAX: usize = 256 * 1024;

/// Bytes that wait for the end of their packet: one packet, and a bit of the next.
const BUFFER_BYTES_MAX: usize = PACKET_BYTES_MAX + LINE_BYTES_MAX;

/// What AMI greets with, before its version.
const GREETING: &str = "Asterisk Call Manager/";

/// An answer, or an event.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Packet {
    fields: Vec<(String, String)>,
}

impl Packet {
    /// The first value of this key, whatever its case; empty where there is none.
    pub fn text(&self, key: &str) -> &str {
        let found = self.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
        found.map_or("", |(_, value)| value.as_str())
    }

    /// The value of this key as a number, where it is one.
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.text(key).parse().ok()
    }

    /// Whether it is an event of this name.
    pub fn is_event(&self, name: &str) -> bool {
        self.text("Event").eq_ignore_ascii_case(name)
    }

    /// Whether it answers the action with this id: as its response, or as an event of its list.
    pub fn answers(&self, action_id: &str) -> bool {
        self.text("ActionID") == action_id
    }

    /// How it stands in what it answers.
    pub fn part(&self) -> Part {
        let list = self.text("EventList");
        if !self.text("Event").is_empty() {
            return if list.eq_ignore_ascii_case("Complete") { Part::Last } else { Part::Item };
        }
        match self.text("Response") {
            word if word.eq_ignore_ascii_case("Error") => Part::Error,
            _ if list.eq_ignore_ascii_case("start") => Part::First,
            _ => Part::Whole,
        }
    }
}

/// How a packet stands in the answer to an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The whole answer.
    Whole,
    /// A refusal; its `Message` says why.
    Error,
    /// The beginning of a list: items follow.
    First,
    /// One event, of a list or of its own accord.
    Item,
    /// The end of a list.
    Last,
}

/// An answer may hold passwords: `PJSIPShowRegistrationsOutbound` tells those of the trunks.
impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |key| (!self.text(key).is_empty()).then(|| self.text(key));
        f.debug_struct("Packet")
            .field("response", &named("Response"))
            .field("event", &named("Event"))
            .field("fields", &self.fields.len())
            .finish()
    }
}

/// Why what was received cannot be AMI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// A line, a packet or its number of lines is larger than AMI's are.
    TooLarge,
    /// A line has no colon.
    NoField,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "it says more than AMI ever does",
            Self::NoField => "it says a line that is no `Key: Value`",
        })
    }
}

/// Makes packets of bytes, however they arrive.
#[derive(Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Up to here the buffer was read.
    read: usize,
    packet: Packet,
    bytes: usize,
}

impl Decoder {
    /// Takes what arrived.
    ///
    /// # Errors
    /// When more waits than a packet may have: ask for packets between two calls.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        self.buffer.drain(..self.read);
        self.read = 0;
        if self.buffer.len() + bytes.len() > BUFFER_BYTES_MAX {
            return Err(Malformed::TooLarge);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The version that the server's first line greets with; `None` until that line is whole.
    ///
    /// # Errors
    /// What it greets with instead, as far as it may be shown.
    pub fn greeting(&mut self) -> Option<Result<String, String>> {
        let Some(line) = self.line() else {
            // Who never ends a line is no Asterisk, and shall not be waited for.
            let begun = String::from_utf8_lossy(self.rest());
            let fits = begun.len() < GREETING.len() && GREETING.starts_with(&*begun) || begun.starts_with(GREETING);
            return (!begun.is_empty() && !fits).then(|| Err(shown(&begun)));
        };
        let line = line.ok()?;
        Some(match line.strip_prefix(GREETING) {
            Some(version) => Ok(shown(version)),
            None => Err(shown(&line)),
        })
    }

    /// The next packet that is whole.
    ///
    /// # Errors
    /// When this can be no AMI; nothing that follows can be understood then.
    pub fn packet(&mut self) -> Option<Result<Packet, Malformed>> {
        loop {
            let line = match self.line()? {
                Ok(line) => line,
                Err(malformed) => return Some(Err(malformed)),
            };
            if line.is_empty() {
                if self.packet.fields.is_empty() {
                    // A refusal ends with two empty lines.
                    continue;
                }
                self.bytes = 0;
                return Some(Ok(std::mem::take(&mut self.packet)));
            }
            self.bytes += line.len();
            if self.packet.fields.len() >= FIELDS_MAX || self.bytes > PACKET_BYTES_MAX {
                return Some(Err(Malformed::TooLarge));
            }
            let Some((key, value)) = line.split_once(':') else { return Some(Err(Malformed::NoField)) };
            self.packet.fields.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.read..]
    }

    fn line(&mut self) -> Option<Result<String, Malformed>> {
        let rest = self.rest();
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            return (rest.len() > LINE_BYTES_MAX).then_some(Err(Malformed::TooLarge));
        };
        if end > LINE_BYTES_MAX {
            return Some(Err(Malformed::TooLarge));
        }
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        let line = String::from_utf8_lossy(line).into_owned();
        self.read += end + 1;
        Some(Ok(line))
    }
}

/// It may hold passwords.
impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("waiting", &self.rest().len()).finish_non_exhaustive()
    }
}

/// Foreign text in a line of ours: short, and without what could move a cursor.
pub fn shown(text: &str) -> String {
    /// The longest of Asterisk's own sentences that we show has some fifty.
    const SHOWN_CHARS_MAX: usize = 120;
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect::<String>().trim().to_owned()
}

/// The bytes of an action; `None` when a value holds a line end and would thereby say something else.
pub fn action(name: &str, action_id: &str, fields: &[(&str, &str)]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for (key, value) in [("Action", name), ("ActionID", action_id)].iter().chain(fields) {
        if [key, value].iter().any(|text| text.contains(['\r', '\n', '\0'])) {
            return None;
        }
        for part in [key, ": ", value, "\r\n"] {
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    bytes.extend_from_slice(b"\r\n");
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packets(bytes: &[u8], at_once: usize) -> Result<Vec<Packet>, Malformed> {
        let mut decoder = Decoder::default();
        let mut packets = Vec::new();
        for chunk in bytes.chunks(at_once.max(1)) {
            decoder.push(chunk)?;
            while let Some(packet) = decoder.packet() {
                packets.push(packet?);
            }
        }
        Ok(packets)
    }

    #[test]
    fn a_list_is_a_beginning_its_items_and_an_end() {
        // As Asterisk 22.10 says it, an event of its own accord among it.
        let said = b"Response: Success\r\nActionID: 7\r\nEventList: start\r\nMessage: Following are Events\r\n\r\n\
            Event: OutboundRegistrationDetail\r\nActionID: 7\r\nObjectName: carrier\r\nStatus: Registered\r\n\r\n\
            Event: Registry\r\nPrivilege: system,all\r\nStatus: Registered\r\n\r\n\
            Event: OutboundRegistrationDetailComplete\r\nActionID: 7\r\nEventList: Complete\r\nListItems: 1\r\n\r\n\
            Response: Error\r\nActionID: 8\r\nMessage: No Contacts found\r\n\r\n\r\n\
            Response: Success\r\nActionID: 9\r\nPing: Pong\r\n\r\n";
        for at_once in [1, 7, 4096] {
            let packets = packets(said, at_once).expect("AMI");
            let parts: Vec<_> = packets.iter().map(Packet::part).collect();
            assert_eq!(parts, [Part::First, Part::Item, Part::Item, Part::Last, Part::Error, Part::Whole]);
            assert_eq!(packets[1].text("objectname"), "carrier");
            assert!(packets[1].answers("7") && !packets[2].answers("7") && packets[2].is_event("registry"));
            assert_eq!(packets[3].number("ListItems"), Some(1));
            assert_eq!(packets[4].number::<u32>("ListItems"), None);
        }
    }

    #[test]
    fn a_greeting_tells_asterisk_from_everything_else_as_soon_as_it_can() {
        let greeting = |said: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.push(said).expect("short");
            decoder.greeting()
        };
        assert_eq!(greeting(b"Asterisk Call Manager/11.0.0\r\n"), Some(Ok("11.0.0".to_owned())));
        assert_eq!(greeting(b"Asterisk Call Ma"), None);
        assert_eq!(greeting(b"Asterisk Call Manager/5.0"), None);
        assert_eq!(greeting(b""), None);
        assert_eq!(greeting(b"SSH-2.0-OpenSSH_9.2\r\n"), Some(Err("SSH-2.0-OpenSSH_9.2".to_owned())));
        assert_eq!(greeting(b"Content-Type: auth/request\n\n"), Some(Err("Content-Type: auth/request".to_owned())));
        assert_eq!(greeting(b"\x15\x03\x01"), Some(Err(String::new())), "a TLS alert has no line end");
    }

    #[test]
    fn what_is_larger_than_ami_is_refused_and_not_kept() {
        let line = vec![b'a'; LINE_BYTES_MAX + 1];
        assert_eq!(packets(&line, 4096), Err(Malformed::TooLarge));
        assert_eq!(packets(&b"a: b\r\n".repeat(FIELDS_MAX + 1), 4096), Err(Malformed::TooLarge));
        let long = [b"a: ".to_vec(), vec![b'b'; LINE_BYTES_MAX - 10], b"\r\n".to_vec()].concat();
        assert_eq!(packets(&long.repeat(5), 4096), Err(Malformed::TooLarge));
        assert_eq!(Decoder::default().push(&vec![0; BUFFER_BYTES_MAX + 1]), Err(Malformed::TooLarge));
        assert_eq!(packets(b"HTTP/1.1 400 Bad Request\r\n", 4096), Err(Malformed::NoField));
    }

    #[test]
    fn no_password_is_shown_by_debug() {
        let packets = packets(b"Event: AuthDetail\r\nPassword: hunter2\r\n\r\n", 4096).expect("AMI");
        assert_eq!(packets[0].text("Password"), "hunter2");
        assert_eq!(format!("{:?}", packets[0]), r#"Packet { response: None, event: Some("AuthDetail"), fields: 2 }"#);
        let mut decoder = Decoder::default();
        decoder.push(b"Secret: hunter2").expect("short");
        assert!(!format!("{decoder:?}").contains("hunter2"));
    }

    #[test]
    fn a_value_with_a_line_end_makes_no_action() {
        assert_eq!(action("Ping", "1", &[]).as_deref(), Some(&b"Action: Ping\r\nActionID: 1\r\n\r\n"[..]));
        for bad in ["a\r\nAction: Command", "a\nb", "a\0"] {
            assert_eq!(action("PJSIPRegister", "1", &[("Registration", bad)]), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_keep_more_than_its_limit(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..20)
        ) {
            let mut decoder = Decoder::default();
            'all: for chunk in &chunks {
                let _ = decoder.greeting();
                if decoder.push(chunk).is_err() { break; }
                while let Some(packet) = decoder.packet() {
                    if packet.is_err() { break 'all; }
                }
                prop_assert!(decoder.buffer.len() <= BUFFER_BYTES_MAX);
            }
        }

        #[test]
        fn what_an_action_says_is_read_back_in_any_pieces(
            fields in prop::collection::vec(("[A-Za-z]{1,20}", "[ -9;-~äö]{0,40}"), 0..20), at_once in 1_usize..50
        ) {
            let pairs: Vec<_> = fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let bytes = action("Test", "id", &pairs).expect("no line ends");
            let packets = packets(&bytes, at_once).expect("AMI");
            prop_assert_eq!(packets.len(), 1);
            let read: Vec<_> = packets[0].fields[2..].iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let said: Vec<_> = pairs.iter().map(|(key, value)| (*key, value.trim())).collect();
            prop_assert_eq!(read, said);
        }
    }
}
