//! JSON-RPC 2.0 as Kamailio speaks it: one question, one answer, both one JSON document.
//!
//! Kamailio looks at the order of parameters only, so they are a list. How a document travels is the asker's; what an
//! error means to the PBX is decided in `adapters::pbx::kamailio`.

use serde_json::{Value, json};

/// Longest document that is looked at: Kamailio's own buffer for one (`JSONRPC_BUFFER_SIZE` of its module jsonrpcs is
/// 64 KiB) four times over.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

/// As much of a server's words as a line for people may hold.
const WORDS_CHARS_MAX: usize = 120;

/// The question `method` with these parameters, known by `id`.
pub fn question(id: u64, method: &str, params: &[Value]) -> Vec<u8> {
    let mut document = json!({"jsonrpc": "2.0", "method": method, "id": id});
    // Some versions refuse an empty list of parameters.
    if !params.is_empty() {
        document["params"] = json!(params);
    }
    document.to_string().into_bytes()
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// It did as asked; `Null` where it has nothing to tell.
    Result(Value),
    /// It did not.
    Error {
        /// Its code.
        code: i64,
        /// Its words, on one line.
        message: String,
    },
}

/// Why a document is no answer to our question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoReply {
    /// It answers another question: an earlier one, whose answer came late.
    #[error("it answers another question")]
    Another,
    /// It is longer than [`DOCUMENT_BYTES_MAX`].
    #[error("it is longer than {DOCUMENT_BYTES_MAX} bytes")]
    TooLong,
    /// It is no JSON-RPC.
    #[error("it is no JSON-RPC 2.0")]
    Strange,
}

/// Reads the answer to the question `id`.
///
/// # Errors
/// Why it is none.
pub fn reply(id: u64, document: &[u8]) -> Result<Reply, NoReply> {
    if document.len() > DOCUMENT_BYTES_MAX {
        return Err(NoReply::TooLong);
    }
    let document: Value = serde_json::from_slice(document).map_err(|_| NoReply::Strange)?;
    let Some(fields) = document.as_object().filter(|fields| fields.get("jsonrpc") == Some(&json!("2.0"))) else {
        return Err(NoReply::Strange);
    };
    let error = fields.get("error").and_then(Value::as_object);
    match fields.get("id") {
        Some(theirs) if theirs.as_u64() == Some(id) => {}
        // What could not be read has no id that could be answered with (JSON-RPC 2.0 §5).
        None | Some(Value::Null) if error.is_some() => {}
        Some(_) => return Err(NoReply::Another),
        None => return Err(NoReply::Strange),
    }
    Ok(match error {
        Some(error) => Reply::Error {
            code: error.get("code").and_then(Value::as_i64).unwrap_or_default(),
            message: plain(error.get("message").and_then(Value::as_str).unwrap_or("no reason given")),
        },
        None => Reply::Result(fields.get("result").cloned().unwrap_or(Value::Null)),
    })
}

fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from Kamailio 5.6.3.
    const UPTIME: &[u8] = b"{\n\t\"jsonrpc\":\t\"2.0\",\n\t\"result\":\t{\n\t\t\"uptime\":\t185\n\t},\n\t\"id\":\t7\n}";
    const UNKNOWN: &[u8] = br#"{"jsonrpc":"2.0","error":{"code":500,"message":"Method Not Found"},"id":7}"#;

    #[test]
    fn a_question_is_one_document_with_its_parameters_in_order() {
        let document = question(7, "htable.seti", &[json!("pbx_failover"), json!("serve"), json!(1)]);
        let document: Value = serde_json::from_slice(&document).expect("JSON");
        assert_eq!(document["params"], json!(["pbx_failover", "serve", 1]));
        assert_eq!((&document["id"], &document["jsonrpc"]), (&json!(7), &json!("2.0")));
        assert!(!String::from_utf8(question(7, "core.uptime", &[])).expect("UTF-8").contains("params"));
    }

    #[test]
    fn what_kamailio_answers_is_read() {
        assert_eq!(reply(7, UPTIME), Ok(Reply::Result(json!({"uptime": 185}))));
        let error = Reply::Error { code: 500, message: "Method Not Found".to_owned() };
        assert_eq!(reply(7, UNKNOWN), Ok(error));
        assert_eq!(reply(7, br#"{"jsonrpc":"2.0","id":7}"#), Ok(Reply::Result(Value::Null)));
    }

    #[test]
    fn the_answer_to_another_question_is_not_ours() {
        assert_eq!(reply(8, UPTIME), Err(NoReply::Another));
        assert_eq!(reply(7, br#"{"jsonrpc":"2.0","result":1,"id":"7"}"#), Err(NoReply::Another));
    }

    #[test]
    fn what_is_no_answer_is_told_from_one() {
        for document in
            [&b""[..], b"{", b"[]", b"7", br#"{"result":1,"id":7}"#, br#"{"jsonrpc":"2.0","result":1}"#, b"\xff\xfe"]
        {
            assert_eq!(reply(7, document), Err(NoReply::Strange), "{document:?}");
        }
        assert_eq!(reply(7, &vec![b' '; DOCUMENT_BYTES_MAX + 1]), Err(NoReply::TooLong));
        let unread = br#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"a\nb"},"id":null}"#;
        assert_eq!(reply(7, unread), Ok(Reply::Error { code: -32700, message: "a b".to_owned() }));
    }
}
