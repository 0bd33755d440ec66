//! Small texts with a grammar: names, addresses, ports, status ranges, URIs.
//!
//! Each reader answers with the value, or with what is wrong and the fix. Values are quoted only where they cannot
//! be secrets.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use reqwest::Url;

use super::hints::quote;
use super::model::{InternetKind, SipTransport};

/// A value, or what is wrong and what to do.
pub type Read<T> = Result<T, (String, String)>;

fn wrong<T>(what: impl Into<String>, fix: impl Into<String>) -> Read<T> {
    Err((what.into(), fix.into()))
}

/// A whole number in decimal digits.
pub fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Whether an unquoted text reads as a JSON number. `007` and `1e3` do not.
pub fn is_number(text: &str) -> bool {
    let body = text.strip_prefix('-').unwrap_or(text);
    let (int, fraction) = body.split_once('.').unwrap_or((body, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    digits(int) && digits(fraction) && (int.len() == 1 || !int.starts_with('0'))
}

/// A host's own address: no name, nothing that stands for all or many hosts.
pub fn address(text: &str) -> Read<IpAddr> {
    let Ok(address) = text.parse::<IpAddr>() else {
        return wrong(format!("{} is no IP address", quote(text)), "write an address, such as 203.0.113.10");
    };
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || broadcast {
        return wrong(format!("{address} is no address of one host"), "write the address that phones reach");
    }
    Ok(address)
}

/// `ADDRESS[:PORT]` or `[V6]:PORT`.
pub fn socket(text: &str, default_port: Option<u16>) -> Read<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>()
        && let Some(port) = default_port
    {
        return Ok(SocketAddr::new(address, port));
    }
    match text.parse::<SocketAddr>() {
        Ok(socket) if socket.port() == 0 => wrong("port 0 is no port", "write a port from 1 to 65535"),
        Ok(socket) => Ok(socket),
        Err(_) => {
            let fix = "write an address with its port, such as 192.0.2.53:53 or \"[2001:db8::53]:53\"";
            wrong(format!("{} is no address with a port", quote(text)), fix)
        }
    }
}

/// `HOST[:PORT]`, the host being a name or an address (IPv6 in brackets when a port follows).
pub fn host_port(text: &str, default_port: Option<u16>) -> Read<(String, u16)> {
    let bad = || ("names no host and port".to_owned(), "write HOST:PORT, such as 198.51.100.7:443".to_owned());
    let (host, port) = if let Ok(IpAddr::V6(v6)) = text.parse() {
        (v6.to_string(), None)
    } else if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
        (host.to_owned(), if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(bad)?) })
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (text.to_owned(), None),
        }
    };
    if host.parse::<IpAddr>().is_err() {
        dns_name(&host).map_err(|_| bad())?;
    }
    let port = match port {
        Some(port) => whole(port).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
        None => default_port,
    };
    Ok((host, port.ok_or_else(bad)?))
}

/// Longest DNS name in text (RFC 1035 §2.3.4).
pub const DNS_NAME_BYTES_MAX: usize = 253;

/// A DNS name of letters, digits, `-` and `_`: lower case, without the final dot.
pub fn dns_name(text: &str) -> Read<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let fix = "write a name such as pbx.example.com";
    if name.contains('*') {
        return wrong("is a wildcard", "write the one name that phones ask for");
    }
    if name.is_empty() || name.len() > DNS_NAME_BYTES_MAX {
        return wrong("is no DNS name: 1 to 253 characters", fix);
    }
    if !name.is_ascii() {
        return wrong("is no DNS name: it holds more than ASCII", "write its xn-- form");
    }
    for label in name.split('.') {
        let good = (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-');
        if !good {
            return wrong(format!("{} is no DNS name", quote(text)), fix);
        }
    }
    Ok(name.to_ascii_lowercase())
}

/// Whether `name` lies in `zone` (or is it).
pub fn in_zone(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// `200-399`, or one code.
pub fn status_range(text: &str) -> Read<RangeInclusive<u16>> {
    let code = |part: &str| whole(part).and_then(|n| u16::try_from(n).ok()).filter(|n| (100..=599).contains(n));
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    match (code(from.trim()), code(to.trim())) {
        (Some(from), Some(to)) if from <= to => Ok(from..=to),
        (Some(_), Some(_)) => wrong("is an empty range", "write the smaller code first, such as 200-399"),
        _ => wrong("is no range of HTTP status codes", "write codes from 100 to 599, such as 200-399"),
    }
}

/// An http or https URL, never quoted: it may hold secrets.
pub fn http_url(text: &str) -> Read<Url> {
    let Ok(url) = Url::parse(text) else {
        return wrong("is no URL", "write it out, such as https://pbx.example.com/");
    };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return wrong("is no http or https URL", "begin with https:// and the host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("holds a user name or password, which would stand in logs", "take it out of the URL");
    }
    Ok(url)
}

/// `sip:HOST[:PORT][;transport=udp|tcp|tls]`, or `sips:` for TLS.
pub fn sip_uri(text: &str) -> Read<(String, u16, SipTransport)> {
    let fix = "write sip:HOST or sip:HOST:PORT;transport=tcp";
    let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
    let secure = match scheme.to_ascii_lowercase().as_str() {
        "sip" => false,
        "sips" => true,
        _ => return wrong("is no SIP URI", fix),
    };
    let mut parts = rest.split(';');
    let host = parts.next().unwrap_or("");
    if host.contains('@') {
        return wrong("holds a user", "OPTIONS go to the server itself: write sip:HOST");
    }
    let mut transport = if secure { SipTransport::Tls } else { SipTransport::Udp };
    for parameter in parts {
        transport = match parameter.to_ascii_lowercase().as_str() {
            "transport=udp" if !secure => SipTransport::Udp,
            "transport=tcp" if !secure => SipTransport::Tcp,
            "transport=tls" => SipTransport::Tls,
            _ => return wrong("has a parameter that is not known", "only ;transport=udp, tcp or tls is"),
        };
    }
    let default_port = if transport == SipTransport::Tls { 5061 } else { 5060 };
    match host_port(host, Some(default_port)) {
        Ok((host, port)) => Ok((host, port, transport)),
        Err(_) => wrong("has no good host and port", fix),
    }
}

/// `udp://ADDRESS:PORT`, `tcp://` or `tls://`; the address may be 0.0.0.0 or [::], which is every one.
pub fn listen(text: &str) -> Read<(SipTransport, SocketAddr)> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (transport, port) = match scheme {
        "udp" => (SipTransport::Udp, 5060),
        "tcp" => (SipTransport::Tcp, 5060),
        "tls" => (SipTransport::Tls, 5061),
        _ => return wrong("does not say how", "write udp://0.0.0.0:5060, tcp://0.0.0.0:5060 or tls://0.0.0.0:5061"),
    };
    if rest.parse::<std::net::Ipv6Addr>().is_ok() {
        // `::1:5060` is an address of its own, and not the one that is meant.
        return wrong("is an IPv6 address without brackets", "write udp://[::1]:5060");
    }
    socket(rest, Some(port)).map(|address| (transport, address))
}

/// One Internet target.
pub fn internet_target(text: &str) -> Read<InternetKind> {
    let fix = "write tls://HOST:443, tcp://HOST:PORT, dns://HOST:53 or an http(s) URL";
    let Some((scheme, rest)) = text.split_once("://") else {
        return wrong("does not say how to ask", fix);
    };
    let host_port = |default| host_port(rest.strip_suffix('/').unwrap_or(rest), default);
    match scheme {
        "tls" => host_port(Some(443)).map(|(host, port)| InternetKind::Tls { host, port }),
        "tcp" => host_port(None).map(|(host, port)| InternetKind::Tcp { host, port }),
        "dns" => host_port(Some(53)).map(|(host, port)| InternetKind::Dns { host, port }),
        "http" | "https" => http_url(text).map(|url| InternetKind::Http { url: url.to_string() }),
        "icmp" => wrong("an echo is too easily answered by a middlebox", fix),
        _ => wrong("is no way to ask that is known", fix),
    }
}

/// A name that people type: of a check, a trunk, an action URL.
pub fn plain_name(text: &str) -> Read<String> {
    let good = (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && !text.starts_with(['-', '.']);
    if good {
        return Ok(text.to_owned());
    }
    wrong("is no good name", "write 1 to 63 letters, digits, '-', '_' or '.', not beginning with '-' or '.'")
}
