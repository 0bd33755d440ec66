//! Keep-alives of phones over UDP (RFC 5626 §4.4.2): a STUN binding request, answered with where it came from.
//!
//! Nothing else of STUN (RFC 8489) is here: no authentication, no relay.

use std::net::{IpAddr, SocketAddr};

const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_RESPONSE: [u8; 2] = [0x01, 0x01];
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const XOR_MAPPED_ADDRESS: [u8; 2] = [0x00, 0x20];
/// The header: type, length, cookie, transaction.
const HEADER_BYTES: usize = 20;

/// The answer, when the datagram is a binding request.
pub fn answer(datagram: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let (header, body) = datagram.split_at_checked(HEADER_BYTES)?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[..2] != BINDING_REQUEST || header[4..8] != MAGIC_COOKIE || length != body.len() {
        return None;
    }
    // RFC 8489 §14.2: port and address are XORed with the cookie, so that no NAT rewrites them; IPv6 also with the
    // transaction.
    let mask = &header[4..];
    let (family, address) = match from.ip().to_canonical() {
        IpAddr::V4(v4) => (1, v4.octets().to_vec()),
        IpAddr::V6(v6) => (2, v6.octets().to_vec()),
    };
    let mut value = vec![0, family];
    value.extend(from.port().to_be_bytes().iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    value.extend(address.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or_default().to_be_bytes();
    let mut answer = Vec::with_capacity(HEADER_BYTES + 4 + value.len());
    answer.extend(BINDING_RESPONSE);
    answer.extend(length(4 + value.len()));
    answer.extend(mask);
    answer.extend(XOR_MAPPED_ADDRESS);
    answer.extend(length(value.len()));
    answer.extend(value);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSACTION: [u8; 12] = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    fn request(body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        [&BINDING_REQUEST[..], &length, &MAGIC_COOKIE, &TRANSACTION, body].concat()
    }

    #[test]
    fn the_addresses_of_rfc_5769_are_written_as_there() {
        // RFC 5769 §2.2, §2.3.
        for (from, expected) in [
            ("192.0.2.1:32853", &b"\x00\x01\xa1\x47\xe1\x12\xa6\x43"[..]),
            (
                "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
                &b"\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9"[..],
            ),
        ] {
            let answer = answer(&request(b""), from.parse().expect("an address")).expect("an answer");
            assert_eq!(answer[24..], *expected, "{from}");
            assert_eq!((&answer[..2], &answer[8..20]), (&BINDING_RESPONSE[..], &TRANSACTION[..]));
            assert_eq!(usize::from(answer[3]), answer.len() - HEADER_BYTES);
        }
    }

    #[test]
    fn nothing_else_is_answered() {
        let from = "192.0.2.1:5060".parse().expect("an address");
        let good = request(b"\x80\x22\x00\x04test");
        assert!(answer(&good, from).is_some());
        assert!((0..good.len()).all(|end| answer(&good[..end], from).is_none()));
        assert!(answer(b"OPTIONS sip:pbx.test SIP/2.0\r\n\r\n", from).is_none());
        assert!(answer(&[&BINDING_RESPONSE[..], &good[2..]].concat(), from).is_none());
    }
}
