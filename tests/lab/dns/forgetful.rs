//! A server that applies every update without looking at its prerequisites: a proxy's reaction before a real one.

use hickory_proto::op::{Message, OpCode};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, TSigResponseContext, TSigner};

use super::{Forward, KEY, SECRET};

/// A server that forgets to compare: drops the prerequisites, and signs again on both sides, since it knows the key.
pub fn without_prerequisites(request: &[u8], forward: Forward<'_>) -> Vec<u8> {
    let key = TSigner::new(secret_bytes(), TsigAlgorithm::HmacSha256, Name::from_ascii(KEY).unwrap(), 300).unwrap();
    let mut message = Message::from_vec(request).unwrap();
    let Some(client) = message.take_signature() else { return forward(request) };
    if message.op_code == OpCode::Update {
        message.answers.clear();
    }
    message.finalize(&key, client.data.time).unwrap();
    let mut answer = Message::from_vec(&forward(&message.to_vec().unwrap())).unwrap();
    answer.take_signature();
    let unsigned = answer.to_vec().unwrap();
    let context = TSigResponseContext::new(answer.id, client.data.time, key, client.data.mac.clone(), None);
    answer.set_signature(context.sign(&unsigned).unwrap());
    answer.to_vec().unwrap()
}

/// [`SECRET`] is the base64 of this.
fn secret_bytes() -> Vec<u8> {
    let repeated = b"secret".iter().copied().cycle();
    repeated.take(SECRET.len() / 4 * 3).collect()
}
