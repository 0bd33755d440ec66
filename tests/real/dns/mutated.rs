//! Broken answers: real ones, recorded through a proxy and then mutated, go through the decoder.

use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use pbx_failover::adapters::dns::wire::{self, Request};
use pbx_failover::adapters::dns::{DnsEpoch, rrset};
use pbx_failover::ports::{EpochStore, Names};
use pbx_failover::units::Side;

use super::{claimed, done, names, order, zone};
use crate::epoch::{update, with_server};
use crate::lab::damage::damage;
use crate::lab::dns::{EPOCH, Kind, Proxy, Reaction, SECRET};

#[test]
fn a_hundred_thousand_mutated_answers_neither_panic_nor_pass() {
    const ROUNDS: u64 = 100_000;
    // Real answers, recorded through the proxy: reads, an update, refusals, the name servers.
    let corpus = std::sync::Arc::new(std::sync::Mutex::new(Vec::<(Vec<u8>, Vec<u8>)>::new()));
    for kind in Kind::ALL.into_iter().filter(|kind| kind.installed()) {
        with_server(kind, async |server| {
            let (proxy, log) = (Proxy::start(server.addr), corpus.clone());
            proxy.react(move |request, forward| {
                let answer = forward(request);
                log.lock().unwrap().push((request.to_vec(), answer.clone()));
                Reaction::Answer(answer)
            });
            let epoch = claimed(proxy.addr).await;
            done(&names(vec![zone(proxy.addr)]).redirect(&order(Side::Backup, &epoch)).await);
            DnsEpoch::new(&update(proxy.addr), EPOCH).conformance().await.unwrap();
            let mut wrong = update(proxy.addr);
            wrong.key.name = "nobody".into();
            DnsEpoch::new(&wrong, EPOCH).read().await.unwrap_err();
        });
    }
    let corpus = std::mem::take(&mut *corpus.lock().unwrap());
    if corpus.is_empty() {
        return;
    }
    let signed = wire::signer(&update("127.0.0.1:1".parse().unwrap()).key, &SECRET.to_owned().into()).unwrap();
    let now_s = 1_800_000_000;
    let mut random = fastrand::Rng::with_seed(0x5eed);
    let (mut judged, mut longest) = (0_u64, Duration::ZERO);
    for round in 0..ROUNDS {
        let (_, answer) = &corpus[random.usize(..corpus.len())];
        let mut answer = answer.clone();
        // A fresh question with the recorded one's shape; the id is made to fit, so that the decoder gets further.
        let recorded = Message::from_vec(&answer).unwrap();
        let Some(question) = recorded.queries.first() else { continue };
        let key = (round % 2 == 0).then_some(&signed);
        let request = if recorded.op_code == hickory_proto::op::OpCode::Update {
            Request::update(question.name(), Vec::new(), Vec::new(), &signed, now_s).unwrap()
        } else {
            Request::query(question.name(), question.query_type(), key, now_s).unwrap()
        };
        answer[..2].copy_from_slice(&request.bytes[..2]);
        for _ in 0..=random.usize(..6) {
            damage(&mut answer, &mut random);
        }
        let start = Instant::now();
        if let Ok(message) = request.judge(&answer, now_s) {
            assert!(key.is_none(), "round {round}: a changed answer passed for signed");
            for record in &message.answers {
                let _ = rrset::text(&record.data);
            }
            judged += 1;
        }
        longest = longest.max(start.elapsed());
    }
    println!(
        "{ROUNDS} mutated answers of {}: {judged} unsigned ones were read, the slowest took {longest:?}",
        corpus.len()
    );
    assert!(judged > 100, "the mutations go deep enough to matter: {judged}");
    assert!(longest < Duration::from_secs(1));
}
