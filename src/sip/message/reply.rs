//! Answers to what we asked, as far as anybody here needs them.

use sipx_sip::{Header, HeaderName, Headers, Response, Uri, Via};

use super::{call_id, cseq, first_hop, header_number, one_line, text};
use crate::sip::digest::Challenge;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code, 100 to 699.
    pub code: u16,
    /// The reason phrase, lossy UTF-8, without control characters, bounded; may be empty.
    pub reason: String,
    /// `Retry-After`, seconds, where it is there and readable.
    pub retry_after_s: Option<u32>,
    /// `Min-Expires`, seconds: what a 423 asks for.
    pub min_expires_s: Option<u32>,
    /// `Expires`, seconds: what a registrar gives to contacts without a time of their own.
    pub expires_s: Option<u32>,
    /// The challenges of a 401 or 407 that can be answered, in the server's order (RFC 8760: it prefers the first).
    pub challenges: Vec<Challenge>,
    /// The contacts, with their seconds: of a registrar, all bindings of the address of record (RFC 3261 §10.3).
    pub contacts: Vec<(String, Option<u32>)>,
    pub(super) branch: Option<String>,
    pub(super) call_id: Option<String>,
    pub(super) cseq_method: Option<String>,
}

impl Reply {
    pub(super) fn new(response: &Response) -> Self {
        let headers = &response.headers;
        let code = response.status.code();
        Self {
            code,
            reason: one_line(&response.reason),
            retry_after_s: header_number(headers, &HeaderName::RetryAfter),
            min_expires_s: header_number(headers, &HeaderName::MinExpires),
            expires_s: header_number(headers, &HeaderName::Expires),
            challenges: match code {
                401 => challenges(headers, &HeaderName::WwwAuthenticate),
                407 => challenges(headers, &HeaderName::ProxyAuthenticate),
                _ => Vec::new(),
            },
            contacts: contacts(headers),
            branch: top_branch(headers),
            call_id: call_id(headers),
            cseq_method: cseq(headers).map(|cseq| text(cseq.method.as_bytes())),
        }
    }

    /// Whether it ends the transaction (RFC 3261 §7.2: 1xx does not).
    pub fn is_final(&self) -> bool {
        self.code >= 200
    }

    /// The branch of its topmost Via, by which a transaction knows its answer.
    pub fn branch(&self) -> Option<&str> {
        self.branch.as_deref()
    }

    /// The seconds that a registrar gave to the binding of `contact`; `None` when it holds none.
    pub fn granted_s(&self, contact: &str) -> Option<u32> {
        let ours = Uri::parse(contact.as_bytes().to_vec().into()).ok()?;
        let same = |uri: &str| {
            uri == contact || Uri::parse(uri.as_bytes().to_vec().into()).is_ok_and(|uri| uri.equivalent(&ours))
        };
        let (_, expires) = self.contacts.iter().find(|(uri, _)| same(uri))?;
        // RFC 3261 §10.2.4: an hour, when nobody says.
        Some(expires.or(self.expires_s).unwrap_or(3600))
    }
}

fn challenges(headers: &Headers, name: &HeaderName) -> Vec<Challenge> {
    headers.get_all(name).filter_map(|header| Challenge::read(&header.value())).collect()
}

fn contacts(headers: &Headers) -> Vec<(String, Option<u32>)> {
    let values = headers.get_all(&HeaderName::Contact).map(Header::value);
    let parsed = values.filter_map(|value| sipx_sip::Address::parse_list(&value, "Contact").ok()).flatten();
    let one = |address: sipx_sip::Address| {
        let expires = address.param("expires").and_then(super::leading_number);
        (address.uri.to_string(), expires)
    };
    parsed.map(one).collect()
}

fn top_branch(headers: &Headers) -> Option<String> {
    let value = headers.get(&HeaderName::Via).map(Header::value)?;
    Via::parse_one(first_hop(&value)).ok()?.branch().map(text)
}
