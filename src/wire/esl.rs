//! FreeSWITCH's event socket: frames, commands, and the answers that the driver asks for.
//!
//! A frame is lines `Name: value`, an empty line, and as many bytes as `Content-Length` says. Written from the source
//! of `mod_event_socket` and `mod_sofia`. When to say what is the driver's.

/// Longest head of a frame: the longest that the module writes has some hundred bytes.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Longest body of a frame: an answer to one of our questions has some kilobytes.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// Longest command that is sent; the module reads lines of up to 64 KiB.
pub const COMMAND_BYTES_MAX: usize = 1024;

/// The password of `event_socket.conf.xml` as it is delivered, known to everybody.
pub const STOCK_PASSWORD: &str = "ClueCon";

/// Longest name of a profile or a gateway.
const NAME_BYTES_MAX: usize = 100;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It asks for the password.
    AuthRequest,
    /// It answers a command of the socket itself, in `reply`.
    CommandReply,
    /// It answers `api`, in `body`.
    ApiResponse,
    /// It refuses our address.
    RudeRejection,
    /// It hangs up.
    DisconnectNotice,
    /// Something else: an event, a log line.
    Other,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// The value of `Reply-Text`, or empty.
    pub reply: String,
    /// What follows the empty line, or empty.
    pub body: String,
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// No empty line within [`HEAD_BYTES_MAX`].
    #[error("its head is longer than {HEAD_BYTES_MAX} bytes")]
    LongHead,
    /// More than [`BODY_BYTES_MAX`].
    #[error("its answer is longer than {BODY_BYTES_MAX} bytes")]
    LongBody,
    /// A line without a colon, or no `Content-Type`.
    #[error("it speaks another protocol")]
    NotEsl,
    /// `Content-Length` is no number.
    #[error("its Content-Length is no number")]
    BadLength,
}

/// The first frame of `bytes` and how many bytes it takes; `None` while it is not all there.
///
/// # Errors
/// When no more bytes can make it a frame.
pub fn decode(bytes: &[u8]) -> Result<Option<(Frame, usize)>, BadFrame> {
    // Line ends before a head are passed over, as FreeSWITCH's own client does.
    let start = bytes.iter().take_while(|&&b| b == b'\n' || b == b'\r').count();
    let mut kind = None;
    let mut reply = String::new();
    let mut length = 0;
    let mut at = start;
    loop {
        let Some(line_bytes) = bytes[at..].iter().position(|&b| b == b'\n') else {
            let begun = &bytes[at..];
            // What does not begin as a line of a head is told at once, not waited for.
            return match () {
                () if bytes.len() - start > HEAD_BYTES_MAX => Err(BadFrame::LongHead),
                () if at == start && !could_begin(begun) => Err(BadFrame::NotEsl),
                () => Ok(None),
            };
        };
        let line = bytes[at..at + line_bytes].strip_suffix(b"\r").unwrap_or(&bytes[at..at + line_bytes]);
        at += line_bytes + 1;
        if at - start > HEAD_BYTES_MAX {
            return Err(BadFrame::LongHead);
        }
        if line.is_empty() {
            break;
        }
        let line = String::from_utf8_lossy(line);
        let (name, value) = line.split_once(':').ok_or(BadFrame::NotEsl)?;
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "content-type" => kind = Some(kind_of(value)),
            "reply-text" => value.clone_into(&mut reply),
            "content-length" => length = value.parse().map_err(|_| BadFrame::BadLength)?,
            _ => {}
        }
    }
    let kind = kind.ok_or(BadFrame::NotEsl)?;
    if length > BODY_BYTES_MAX {
        return Err(BadFrame::LongBody);
    }
    let Some(body) = bytes.get(at..at + length) else { return Ok(None) };
    let body = String::from_utf8_lossy(body).into_owned();
    Ok(Some((Frame { kind, reply, body }, at + length)))
}

/// Whether bytes without a line end may be the beginning of a head: a name of letters, then a colon.
fn could_begin(bytes: &[u8]) -> bool {
    let name = bytes.split(|&b| b == b':').next().unwrap_or_default();
    name.len() <= 64 && name.iter().all(|b| b.is_ascii_alphabetic() || *b == b'-')
}

fn kind_of(content_type: &str) -> Kind {
    match content_type {
        "auth/request" => Kind::AuthRequest,
        "command/reply" => Kind::CommandReply,
        "api/response" => Kind::ApiResponse,
        "text/rude-rejection" => Kind::RudeRejection,
        "text/disconnect-notice" => Kind::DisconnectNotice,
        _ => Kind::Other,
    }
}

/// A command as it is sent; `None` when it could be more than one command, or is too long.
pub fn command(line: &str) -> Option<Vec<u8>> {
    let good = !line.is_empty() && line.len() <= COMMAND_BYTES_MAX && !line.chars().any(char::is_control);
    good.then(|| format!("{line}\n\n").into_bytes())
}

/// Whether a text may be the name of a profile or a gateway in a command: one word that means nothing else there.
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-@:+".contains(&b);
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}

/// How a gateway stands with its provider: `sofia_state_names` of `mod_sofia`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayState {
    /// It is about to register.
    Unreged,
    /// Its REGISTER is on its way.
    Trying,
    /// Its REGISTER was answered well, this moment.
    Register,
    /// It is registered.
    Reged,
    /// It is about to unregister.
    Unregister,
    /// Its REGISTER was refused.
    Failed,
    /// It was refused, and waits to ask again.
    FailWait,
    /// Its registration has run out.
    Expired,
    /// It does not register.
    NoReg,
    /// It is down.
    Down,
    /// Its REGISTER was not answered.
    Timeout,
    /// A word of another version.
    Other,
}

impl GatewayState {
    fn of(word: &str) -> Self {
        match word {
            "UNREGED" => Self::Unreged,
            "TRYING" => Self::Trying,
            "REGISTER" => Self::Register,
            "REGED" => Self::Reged,
            "UNREGISTER" => Self::Unregister,
            "FAILED" => Self::Failed,
            "FAIL_WAIT" => Self::FailWait,
            "EXPIRED" => Self::Expired,
            "NOREG" => Self::NoReg,
            "DOWN" => Self::Down,
            "TIMEOUT" => Self::Timeout,
            _ => Self::Other,
        }
    }
}

/// A gateway, as `sofia xmlstatus gateway NAME` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// The profile that it belongs to.
    pub profile: String,
    /// How it stands.
    pub state: GatewayState,
    /// FreeSWITCH's word for that.
    pub word: String,
    /// Whether its OPTIONS are answered; `None` when it sends none.
    pub answers: Option<bool>,
    /// When it asks again: `28s` or `NEVER`; empty when it does not wait.
    pub retry: String,
}

/// Reads it; `None` when there is no such gateway, or the text is none of it.
pub fn gateway(text: &str) -> Option<Gateway> {
    let word = element(text, "state")?.to_owned();
    let pings = element(text, "pingfreq").and_then(|freq| freq.parse::<u32>().ok()).is_some_and(|freq| freq > 0);
    Some(Gateway {
        profile: element(text, "profile").unwrap_or_default().to_owned(),
        state: GatewayState::of(&word),
        word,
        answers: pings.then(|| element(text, "status") == Some("UP")),
        retry: element(text, "retry").unwrap_or_default().to_owned(),
    })
}

/// The text of the first element of this name; the module writes one element a line, without attributes.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line =
        text.lines().map(str::trim).find_map(|line| line.strip_prefix('<')?.strip_prefix(name)?.strip_prefix('>'));
    line?.split_once("</").map(|(value, _)| value.trim())
}

/// The number in `12 total.`, the answer to every `show … count`.
pub fn total(text: &str) -> Option<u32> {
    text.lines().find_map(|line| line.trim().strip_suffix("total.")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GREETING: &[u8] = b"Content-Type: auth/request\n\n";

    fn frame(kind: Kind, reply: &str, body: &str) -> Frame {
        Frame { kind, reply: reply.to_owned(), body: body.to_owned() }
    }

    #[test]
    fn a_conversation_is_cut_into_its_frames() {
        let mut bytes = GREETING.to_vec();
        bytes.extend(b"Content-Type: command/reply\r\nReply-Text: +OK accepted\r\n\r\n");
        bytes.extend(
            b"Content-Type: api/response\nContent-Length: 12\n\n\n0 total.\n\n\nContent-Type: text/disconnect-notice\n",
        );
        let mut frames = Vec::new();
        while let Some((frame, used)) = decode(&bytes).expect("frames") {
            frames.push(frame);
            bytes.drain(..used);
        }
        let api = "\n0 total.\n\n\n";
        assert_eq!(
            frames,
            [
                frame(Kind::AuthRequest, "", ""),
                frame(Kind::CommandReply, "+OK accepted", ""),
                frame(Kind::ApiResponse, "", api)
            ]
        );
        assert_eq!(total(api), Some(0));
        assert_eq!(bytes, b"Content-Type: text/disconnect-notice\n", "the rest is on its way");
    }

    #[test]
    fn another_protocol_is_seen_at_its_first_bytes() {
        for bytes in [
            &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
            b"SSH-2.0-Open",
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\x15\x03\x01\0",
            b"220 a",
        ] {
            assert_eq!(decode(bytes), Err(BadFrame::NotEsl), "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(decode(b"Asterisk Call Manager/9.0.0\r\n"), Err(BadFrame::NotEsl));
        assert_eq!(decode(b"Server: x\n\n"), Err(BadFrame::NotEsl), "no Content-Type");
    }

    #[test]
    fn what_would_grow_without_end_is_refused() {
        let head = |value: &str| format!("Content-Type: api/response\nContent-Length: {value}\n\n").into_bytes();
        assert_eq!(decode(&head("262145")), Err(BadFrame::LongBody));
        assert_eq!(decode(&head("99999999999999999999")), Err(BadFrame::BadLength));
        assert_eq!(decode(&head("-1")), Err(BadFrame::BadLength));
        let line = b"Content-Type: x\n".repeat(HEAD_BYTES_MAX / 16 + 1);
        assert_eq!(decode(&line), Err(BadFrame::LongHead));
        assert_eq!(decode(&[&b"A: "[..], &vec![b'a'; HEAD_BYTES_MAX]].concat()), Err(BadFrame::LongHead));
    }

    #[test]
    fn a_command_is_one_line_and_a_name_one_word() {
        assert_eq!(command("api reloadxml").as_deref(), Some(&b"api reloadxml\n\n"[..]));
        for bad in ["", "api a\n\napi fsctl shutdown", "api a\r", &"a".repeat(COMMAND_BYTES_MAX + 1)] {
            assert_eq!(command(bad), None);
        }
        for good in ["carrier", "sip.example.com", "external::carrier", "a_b-c"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "two words", "a\n", "a|b", "${x}", &"a".repeat(101)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_gateway_is_read_with_its_state_and_ping() {
        let text = "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n  <gateway>\n    <name>carrier</name>\n    \
                    <profile>external</profile>\n    <from>&lt;sip:trunk1@sip.example.com&gt;</from>\n    \
                    <pingfreq>25</pingfreq>\n    <state>FAIL_WAIT</state>\n    <status>DOWN</status>\n    \
                    <retry>28s</retry>\n  </gateway>\n";
        let read = gateway(text).expect("a gateway");
        assert_eq!(
            (read.profile.as_str(), read.state, read.answers),
            ("external", GatewayState::FailWait, Some(false))
        );
        assert_eq!((read.word.as_str(), read.retry.as_str()), ("FAIL_WAIT", "28s"));
        let quiet = gateway(&text.replace("25", "0").replace("FAIL_WAIT", "NEW")).expect("a gateway");
        assert_eq!((quiet.state, quiet.answers), (GatewayState::Other, None));
        assert_eq!(gateway("Invalid Gateway!\n"), None);
        assert_eq!(total("-ERR show Command not found!\n"), None);
        assert_eq!(total("\n1 total.\n"), Some(1));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_bring_it_down_and_it_never_takes_more_than_there_is(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Some((_, used))) = decode(&bytes) {
                prop_assert!(used <= bytes.len());
            }
            let text = String::from_utf8_lossy(&bytes);
            let _ = (gateway(&text), total(&text), is_name(&text));
        }

        #[test]
        fn a_frame_is_the_same_however_it_is_cut(body in "[ -~\n]{0,80}", cut in 0usize..200) {
            let whole = format!("Content-Type: api/response\nContent-Length: {}\n\n{body}", body.len()).into_bytes();
            let cut = cut.min(whole.len());
            if cut < whole.len() {
                prop_assert_eq!(decode(&whole[..cut]), Ok(None));
            }
            prop_assert_eq!(decode(&whole), Ok(Some((frame(Kind::ApiResponse, "", &body), whole.len()))));
        }

        #[test]
        fn a_command_never_becomes_two(line in "[ -~\n\r]{0,40}") {
            if let Some(bytes) = command(&line) {
                let text = String::from_utf8(bytes).expect("it was a text");
                prop_assert_eq!(text.strip_suffix("\n\n").map(|line| line.contains('\n')), Some(false));
            }
        }
    }
}
