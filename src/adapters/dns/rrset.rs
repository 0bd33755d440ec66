//! RRset values: presentation form ⇄ wire form, and one normal text to compare them by.

use hickory_proto::rr::rdata::{CNAME, SRV, TXT};
use hickory_proto::rr::{RData, RecordType};

use super::wire::{self, Fault};

/// Most values of one RRset: far more than a PBX has, far less than a message holds.
pub const VALUES_MAX: usize = 64;

/// The record type of a configured name.
///
/// # Errors
/// A type that this program does not move.
pub fn rtype(text: &str) -> Result<RecordType, Fault> {
    Ok(match text {
        "A" => RecordType::A,
        "AAAA" => RecordType::AAAA,
        "SRV" => RecordType::SRV,
        "TXT" => RecordType::TXT,
        "CNAME" => RecordType::CNAME,
        _ => return Err(Fault::Name(format!("records of type {text} are not moved; A, AAAA, SRV, TXT, CNAME are"))),
    })
}

/// Reads values in presentation form (RFC 1035 §5.1). Names are taken as absolute, with or without the final dot.
///
/// # Errors
/// Names the value that is none of this type.
pub fn parse(rtype: RecordType, values: &[String]) -> Result<Vec<RData>, Fault> {
    if values.len() > VALUES_MAX {
        return Err(Fault::Name(format!("{} values; at most {VALUES_MAX} of a name and type", values.len())));
    }
    let read = |value: &String| {
        parse_one(rtype, value).ok_or_else(|| Fault::Name(format!("{value:?} is no value of a record of type {rtype}")))
    };
    values.iter().map(read).collect()
}

fn parse_one(rtype: RecordType, value: &str) -> Option<RData> {
    let mut words = value.split_ascii_whitespace();
    let data = match rtype {
        RecordType::A => RData::A(words.next()?.parse::<std::net::Ipv4Addr>().ok()?.into()),
        RecordType::AAAA => RData::AAAA(words.next()?.parse::<std::net::Ipv6Addr>().ok()?.into()),
        RecordType::CNAME => RData::CNAME(CNAME(wire::name(words.next()?).ok()?)),
        RecordType::SRV => {
            let mut number = || words.next()?.parse().ok();
            let (priority, weight, port) = (number()?, number()?, number()?);
            RData::SRV(SRV::new(priority, weight, port, wire::name(words.next()?).ok()?))
        }
        RecordType::TXT => {
            let strings = strings(value)?;
            return Some(RData::TXT(TXT::from_bytes(strings.iter().map(Vec::as_slice).collect())));
        }
        _ => return None,
    };
    words.next().is_none().then_some(data)
}

/// The character-strings of a TXT value: quoted or bare, with `\X` and `\DDD`; each at most 255 bytes.
fn strings(value: &str) -> Option<Vec<Vec<u8>>> {
    let mut bytes = value.bytes().peekable();
    let mut strings = Vec::new();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        let Some(first) = bytes.peek() else { break };
        let quoted = *first == b'"';
        if quoted {
            bytes.next();
        }
        let mut string = Vec::new();
        loop {
            match bytes.next() {
                None if quoted => return None,
                None => break,
                Some(b'"') if quoted => break,
                Some(b) if !quoted && b.is_ascii_whitespace() => break,
                Some(b'\\') => {
                    let escaped = bytes.next()?;
                    if escaped.is_ascii_digit() {
                        let digits = [escaped, bytes.next()?, bytes.next()?];
                        string.push(std::str::from_utf8(&digits).ok()?.parse().ok()?);
                    } else {
                        string.push(escaped);
                    }
                }
                Some(b) => string.push(b),
            }
        }
        if string.len() > usize::from(u8::MAX) {
            return None;
        }
        strings.push(string);
    }
    if strings.is_empty() { None } else { Some(strings) }
}

/// One value as text that is equal when the values are: lower-case names with the final dot, quoted strings.
pub fn text(value: &RData) -> String {
    match value {
        RData::A(a) => a.to_string(),
        RData::AAAA(a) => a.to_string(),
        RData::CNAME(target) => target.0.to_lowercase().to_ascii(),
        RData::SRV(srv) => {
            format!("{} {} {} {}", srv.priority, srv.weight, srv.port, srv.target.to_lowercase().to_ascii())
        }
        RData::TXT(txt) => {
            let quoted: Vec<String> = txt.txt_data.iter().map(|string| quote(string)).collect();
            quoted.join(" ")
        }
        other => other.to_string(),
    }
}

/// Values as sorted texts without doubles: what is compared, shown and remembered.
pub fn texts(values: &[RData]) -> Vec<String> {
    let mut texts: Vec<String> = values.iter().map(text).collect();
    texts.sort();
    texts.dedup();
    texts
}

/// For people: `10.0.0.1, 10.0.0.2`, or `(none)`.
pub fn shown(texts: &[String]) -> String {
    if texts.is_empty() { "(none)".to_owned() } else { texts.join(", ") }
}

fn quote(string: &[u8]) -> String {
    let byte = |byte: &u8| match byte {
        b'"' | b'\\' => format!("\\{}", char::from(*byte)),
        b' '..=b'~' => char::from(*byte).to_string(),
        other => format!("\\{other:03}"),
    };
    format!("\"{}\"", string.iter().map(byte).collect::<Vec<_>>().concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(rtype: RecordType, value: &str) -> Option<String> {
        parse(rtype, &[value.to_owned()]).ok().map(|v| text(&v[0]))
    }

    #[test]
    fn equal_values_have_one_text() {
        assert_eq!(normal(RecordType::AAAA, "2001:DB8:0::0010").unwrap(), "2001:db8::10");
        assert_eq!(normal(RecordType::SRV, "10 0  5060 PBX-a.Example.com").unwrap(), "10 0 5060 pbx-a.example.com.");
        assert_eq!(normal(RecordType::CNAME, "pbx-a.example.com.").unwrap(), "pbx-a.example.com.");
        assert_eq!(normal(RecordType::TXT, "bare \"two words\"").unwrap(), "\"bare\" \"two words\"");
        assert_eq!(normal(RecordType::TXT, r#""a\"b\\c\255""#).unwrap(), r#""a\"b\\c\255""#);
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        for (rtype, bad) in [
            (RecordType::A, "2001:db8::1"),
            (RecordType::A, "10.0.0.1 10.0.0.2"),
            (RecordType::AAAA, "10.0.0.1"),
            (RecordType::SRV, "10 0 70000 a."),
            (RecordType::SRV, "10 0 5060"),
            (RecordType::TXT, "\"open"),
            (RecordType::TXT, "\\999"),
            (RecordType::TXT, " "),
        ] {
            assert_eq!(normal(rtype, bad), None, "{bad}");
        }
    }
}
