//! The demo's name server beside BIND: the same messages, byte for byte, must have the same answer and the same effect.
//!
//! Nothing but UPDATE itself brings both to the same state, so that one difference would show in all that follows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::tsig::{TSIG, TsigAlgorithm, TsigError, make_tsig_record, signed_bitmessage_to_buf};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigner};
use pbx_failover::demo::dns::{Authority, Transport, Zone};

use crate::lab::dns::{DnsServer, KEY, Kind, SECRET, ZONE, demo};

/// Every name that a message writes; together with [`BASE`] it says what each case starts from.
const NAMES: [&str; 9] = ["pbx", "two", "text", "alias", "_sip._udp", "a.deep", "deep", "new", "*.wild"];

const BASE: [&str; 10] = [
    "pbx IN 30 A 10.77.0.11",
    "pbx IN 30 AAAA fd77::11",
    "two IN 30 A 10.77.0.1",
    "two IN 30 A 10.77.0.2",
    "text IN 30 TXT one",
    "alias IN 30 CNAME pbx.lab.test.",
    "_sip._udp IN 30 SRV 10 0 5060 pbx.lab.test.",
    "a.deep IN 30 A 10.77.0.3",
    "*.wild IN 30 TXT any",
    "@ IN 60 NS ns.lab.test.",
];

/// Title, prerequisites, updates. Names are relative to the zone unless they end with a dot.
const UPDATES: [(&str, &[&str], &[&str]); 86] = [
    // §3.2.1 to §3.2.3: each kind of prerequisite, met and not.
    ("nothing at all", &[], &[]),
    ("RRset exists: met", &["pbx ANY 0 A"], &["new IN 30 A 10.0.0.1"]),
    ("RRset exists: not met", &["text ANY 0 A"], &["new IN 30 A 10.0.0.1"]),
    ("RRset exists: no such name", &["none ANY 0 A"], &["new IN 30 A 10.0.0.1"]),
    ("RRset exists at the apex", &["@ ANY 0 SOA", "@ ANY 0 NS"], &["new IN 30 A 10.0.0.1"]),
    ("RRset exists: an alias is not followed", &["alias ANY 0 A"], &["new IN 30 A 10.0.0.1"]),
    ("RRset exists: a wildcard does not count", &["x.wild ANY 0 TXT"], &["new IN 30 A 10.0.0.1"]),
    ("RRset does not exist: met", &["text NONE 0 A"], &["new IN 30 A 10.0.0.1"]),
    ("RRset does not exist: not met", &["pbx NONE 0 A"], &["new IN 30 A 10.0.0.1"]),
    ("RRset does not exist: a wildcard does not count", &["x.wild NONE 0 TXT"], &["new IN 30 A 10.0.0.1"]),
    ("name in use: met", &["pbx ANY 0 ANY"], &["new IN 30 A 10.0.0.1"]),
    ("name in use: not met", &["none ANY 0 ANY"], &["new IN 30 A 10.0.0.1"]),
    ("name in use: only names below it", &["deep ANY 0 ANY"], &["new IN 30 A 10.0.0.1"]),
    ("name not in use: met", &["none NONE 0 ANY"], &["new IN 30 A 10.0.0.1"]),
    ("name not in use: only names below it", &["deep NONE 0 ANY"], &["new IN 30 A 10.0.0.1"]),
    ("name not in use: not met", &["pbx NONE 0 ANY"], &["new IN 30 A 10.0.0.1"]),
    ("equal: one value", &["pbx IN 0 A 10.77.0.11"], &["new IN 30 A 10.0.0.1"]),
    ("equal: another value", &["pbx IN 0 A 10.77.0.12"], &["new IN 30 A 10.0.0.1"]),
    ("equal: two values in any order", &["two IN 0 A 10.77.0.2", "two IN 0 A 10.77.0.1"], &["new IN 30 A 10.0.0.1"]),
    ("equal: one of two", &["two IN 0 A 10.77.0.2"], &["new IN 30 A 10.0.0.1"]),
    ("equal: one too many", &["pbx IN 0 A 10.77.0.11", "pbx IN 0 A 10.77.0.12"], &["new IN 30 A 10.0.0.1"]),
    (
        "equal: gathered although not side by side",
        &["two IN 0 A 10.77.0.2", "pbx IN 0 A 10.77.0.11", "two IN 0 A 10.77.0.1"],
        &["new IN 30 A 10.0.0.1"],
    ),
    ("equal: names in values in any case", &["_SIP._udp IN 0 SRV 10 0 5060 PBX.Lab.Test."], &["new IN 30 A 10.0.0.1"]),
    ("equal: text in another case", &["text IN 0 TXT One"], &["new IN 30 A 10.0.0.1"]),
    ("equal: no such RRset", &["none IN 0 TXT one"], &["new IN 30 A 10.0.0.1"]),
    ("equal and exists together", &["text IN 0 TXT one", "pbx ANY 0 A", "new NONE 0 ANY"], &["new IN 30 A 10.0.0.1"]),
    ("the second of two is not met", &["text IN 0 TXT one", "pbx NONE 0 A"], &["new IN 30 A 10.0.0.1"]),
    ("prerequisite with a TTL", &["pbx ANY 1 A"], &["new IN 30 A 10.0.0.1"]),
    ("prerequisite with a TTL and a value", &["pbx IN 30 A 10.77.0.11"], &["new IN 30 A 10.0.0.1"]),
    ("prerequisite outside the zone", &["pbx.other.test. ANY 0 A"], &["new IN 30 A 10.0.0.1"]),
    ("prerequisite of a class that is none", &["pbx CH 0 A"], &["new IN 30 A 10.0.0.1"]),
    ("prerequisite ANY with a value", &["pbx ANY 0 A 10.77.0.11"], &["new IN 30 A 10.0.0.1"]),
    ("prerequisite NONE with a value", &["pbx NONE 0 A 10.77.0.11"], &["new IN 30 A 10.0.0.1"]),
    ("prerequisite of the zone's class without a value", &["pbx IN 0 A"], &["new IN 30 A 10.0.0.1"]),
    ("unmet prerequisite and an update outside", &["pbx NONE 0 A"], &["pbx.other.test. IN 30 A 10.0.0.1"]),
    ("unmet prerequisite and an update without a value", &["pbx NONE 0 A"], &["new IN 30 A"]),
    ("equal: a value twice", &["text IN 0 TXT one", "text IN 0 TXT one"], &["new IN 30 A 10.0.0.1"]),
    ("prerequisite of a type that is no data", &["pbx ANY 0 AXFR"], &["new IN 30 A 10.0.0.1"]),
    ("prerequisites alone: met", &["pbx ANY 0 A"], &[]),
    ("prerequisites alone: not met", &["pbx NONE 0 A"], &[]),
    // §3.4.2.2: adding.
    ("add a name", &[], &["new IN 30 TXT \"two words\""]),
    ("add a name below another", &[], &["x.new IN 30 A 10.0.0.1", "x.new ANY 0 ANY"]),
    ("add a value", &[], &["pbx IN 30 A 10.77.0.12"]),
    ("add what is there", &[], &["pbx IN 30 A 10.77.0.11"]),
    ("add what is there with another TTL", &[], &["pbx IN 60 A 10.77.0.11"]),
    ("add a value with another TTL", &[], &["pbx IN 60 A 10.77.0.12"]),
    ("add the same twice", &[], &["new IN 30 A 10.0.0.1", "new IN 30 A 10.0.0.1"]),
    ("add in another case", &[], &["PBX IN 30 A 10.77.0.13", "_sip._udp IN 30 SRV 10 0 5060 PBX.lab.test."]),
    ("add CNAME at a new name", &[], &["new IN 30 CNAME pbx.lab.test."]),
    ("add CNAME in place of CNAME", &[], &["alias IN 30 CNAME two.lab.test."]),
    ("add CNAME beside A", &[], &["pbx IN 30 CNAME two.lab.test."]),
    ("add A beside CNAME", &[], &["alias IN 30 A 10.0.0.1"]),
    ("add A, then CNAME", &[], &["new IN 30 A 10.0.0.1", "new IN 30 CNAME two.lab.test."]),
    ("A gives way to CNAME", &[], &["pbx ANY 0 ANY", "pbx IN 30 CNAME two.lab.test."]),
    ("add CNAME at the apex", &[], &["@ IN 30 CNAME pbx.lab.test."]),
    ("add SOA with a serial that is too low", &[], &["@ IN 60 SOA ns.lab.test. h.lab.test. 1 3600 600 86400 60"]),
    ("add SOA elsewhere", &[], &["pbx IN 60 SOA ns.lab.test. h.lab.test. 4000000 3600 600 86400 60"]),
    ("add SOA with a higher serial", &[], &["@ IN 60 SOA ns.lab.test. h.lab.test. 5000 3600 601 86400 60"]),
    ("add SOA with the same serial", &[], &["@ IN 60 SOA ns.lab.test. h.lab.test. 5000 3600 602 86400 60"]),
    ("add SOA with a serial half a circle ahead", &[], &["@ IN 60 SOA ns.lab.test. h.lab.test. 3000000000 1 1 1 1"]),
    (
        "add SOA and a record",
        &[],
        &["@ IN 60 SOA ns.lab.test. h.lab.test. 10000 3600 600 86400 60", "new IN 30 A 10.0.0.1"],
    ),
    ("add NS at the apex", &[], &["@ IN 60 NS ns.other.test."]),
    ("add of type ANY", &[], &["new IN 0 ANY"]),
    ("add of a type that is no data", &[], &["new IN 0 TYPE253 10.0.0.1"]),
    ("add without a value", &[], &["new IN 30 A"]),
    ("add outside the zone", &[], &["new IN 30 A 10.0.0.1", "pbx.other.test. IN 30 A 10.0.0.1"]),
    ("add of another class", &[], &["new CH 30 A 10.0.0.1"]),
    // §3.4.2.3 and §3.4.2.4: deleting.
    ("delete an RRset", &[], &["pbx ANY 0 A"]),
    ("delete an RRset that is not there", &[], &["pbx ANY 0 TXT"]),
    ("delete a name", &[], &["pbx ANY 0 ANY"]),
    ("delete a name that is not there", &[], &["none ANY 0 ANY"]),
    ("delete one value", &[], &["two NONE 0 A 10.77.0.1"]),
    ("delete all values one by one", &[], &["two NONE 0 A 10.77.0.1", "two NONE 0 A 10.77.0.2"]),
    ("delete a value that is not there", &[], &["two NONE 0 A 10.77.0.9"]),
    ("delete the apex's name", &[], &["@ IN 30 TXT apex", "@ ANY 0 ANY"]),
    ("delete the apex's SOA and NS", &[], &["@ ANY 0 SOA", "@ ANY 0 NS"]),
    ("delete the apex's last NS", &[], &["@ NONE 0 NS ns.lab.test."]),
    (
        "delete one NS of two, then the last",
        &[],
        &["@ IN 60 NS ns.other.test.", "@ NONE 0 NS ns.lab.test.", "@ NONE 0 NS ns.other.test."],
    ),
    ("delete a value that has none", &[], &["two NONE 0 A"]),
    ("delete a value of type ANY", &[], &["two NONE 0 ANY"]),
    ("delete an RRset of a type that is no data", &[], &["two ANY 0 AXFR"]),
    ("delete a value in another case", &[], &["_sip._udp NONE 0 SRV 10 0 5060 PBX.LAB.test."]),
    ("delete with a TTL", &[], &["pbx ANY 1 A"]),
    ("delete of an RRset with a value", &[], &["pbx ANY 0 A 10.77.0.11"]),
    ("replace in one message", &["pbx IN 0 A 10.77.0.11"], &["pbx ANY 0 A", "pbx IN 30 A 10.77.0.12"]),
    ("replace by the same", &[], &["pbx ANY 0 A", "pbx IN 30 A 10.77.0.11"]),
];

/// Where the two differ, and why.
const DIFFERENCES: [(&str, &str); 13] = [
    ("another class", "RFC 2136 §3.1.2 says NOTAUTH, as we do; BIND knows no such class: NOTIMP"),
    ("class ANY", "RFC 2136 §3.1.2 says NOTAUTH, as we do; BIND takes ANY for no class of a zone: FORMERR"),
    ("with EDNS of the future", "RFC 8945 §5.3: our BADVERS is signed; BIND answers before it looks at TSIG"),
    ("unmet prerequisite and an update outside", "RFC 2136 §3.2 comes before §3.4; BIND looks at the names first"),
    ("unmet prerequisite and an update without a value", "RFC 2136 §3.2 comes before §3.4; BIND's parser before both"),
    ("update, MAC of 16", "RFC 8945 §5.2.4 has BADTRUNC; we take a truncated MAC for a wrong one"),
    ("update, MAC of 31", "likewise"),
    ("query, MAC of 16", "likewise"),
    ("query, MAC of 31", "likewise"),
    ("update, an error in the request", "RFC 8945 §4.2: it must be 0. We say FORMERR; BIND NOERROR, with no effect"),
    ("query, an error in the request", "likewise"),
    ("update, one byte too many", "RFC 8945 §4.3.3: no MAC covers it. We say FORMERR; BIND overlooks it"),
    ("query, one byte too many", "likewise"),
];

/// One record: name, class, TTL, type, and perhaps a value.
fn line(text: &str) -> Record {
    let mut words = text.splitn(5, ' ');
    let mut word = || words.next().unwrap();
    let name = match word() {
        "@" => format!("{ZONE}."),
        absolute if absolute.ends_with('.') => absolute.to_owned(),
        relative => format!("{relative}.{ZONE}."),
    };
    let (class, ttl_s, rtype) = (word().parse().unwrap(), word().parse().unwrap(), word());
    let rtype: RecordType = rtype
        .strip_prefix("TYPE")
        .map_or_else(|| rtype.parse().unwrap(), |number| RecordType::from(number.parse::<u16>().unwrap()));
    let name = Name::from_ascii(name).unwrap();
    let mut record = match words.next() {
        None => Record::update0(name, ttl_s, rtype),
        Some(value) => {
            let rdata = match rtype {
                RecordType::Unknown(_) => {
                    RData::Unknown { code: rtype, rdata: hickory_proto::rr::rdata::NULL::with(value.into()) }
                }
                rtype => RData::try_from_str(rtype, value).unwrap(),
            };
            Record::from_rdata(name, ttl_s, rdata)
        }
    };
    record.dns_class = class;
    record
}

fn update(prerequisites: &[&str], updates: &[&str]) -> Message {
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    message.metadata.id = 7;
    message.add_query(Query::query(Name::from_ascii(format!("{ZONE}.")).unwrap(), RecordType::SOA));
    message.answers = prerequisites.iter().map(|text| line(text)).collect();
    message.authorities = updates.iter().map(|text| line(text)).collect();
    message
}

fn query(name: &str, rtype: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.id = 8;
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(line(&format!("{name} IN 0 A")).name, rtype));
    message
}

fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn signed(mut message: Message, key: &TSigner) -> Vec<u8> {
    message.finalize(key, now_s()).unwrap();
    message.to_vec().unwrap()
}

/// BIND and ours, with the same zone and keys.
struct Pair {
    bind: TcpStream,
    ours: Authority,
    key: TSigner,
    resets: u32,
    _server: DnsServer,
    _dir: tempfile::TempDir,
}

impl Pair {
    /// `None` where BIND is not installed.
    fn start() -> Option<Self> {
        if !Kind::Bind.installed() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let server = DnsServer::start(Kind::Bind, dir.path());
        let text =
            std::fs::read_to_string(dir.path().join(format!("Bind-{}/lab.test.zone", server.addr.port()))).unwrap();
        let keys = demo::keys("hmac-sha256");
        let key = keys[1].clone();
        let ours = Authority::new(Zone::parse(ZONE, &text).unwrap(), keys);
        let bind = TcpStream::connect(server.addr).unwrap();
        bind.set_nodelay(true).unwrap();
        bind.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut pair = Self { bind, ours, key, resets: 0, _server: server, _dir: dir };
        pair.reset();
        Some(pair)
    }

    fn ask_bind(&mut self, bytes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(bytes.len()).unwrap();
        self.bind.write_all(&[&length.to_be_bytes(), bytes].concat()).unwrap();
        let mut length = [0; 2];
        self.bind.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        self.bind.read_exact(&mut answer).unwrap();
        answer
    }

    /// BIND's answer and ours.
    fn ask(&mut self, bytes: &[u8]) -> [Vec<u8>; 2] {
        [self.ask_bind(bytes), self.ours.answer(bytes, Transport::Tcp, now_s()).expect("an answer")]
    }

    /// Brings both to [`BASE`], with one serial.
    fn reset(&mut self) {
        self.resets += 1;
        let gone = NAMES.iter().map(|name| format!("{name} ANY 0 ANY"));
        let apex = ["A", "TXT"].map(|rtype| format!("@ ANY 0 {rtype}"));
        let added = BASE.iter().map(ToString::to_string);
        let serial = 10 * self.resets;
        let rest = [
            "@ NONE 0 NS ns.other.test.".to_owned(),
            format!("@ IN 60 SOA ns.lab.test. h.lab.test. {serial} 3600 600 86400 60"),
        ];
        let lines: Vec<String> = gone.chain(apex).chain(added).chain(rest).collect();
        let message = signed(update(&[], &lines.iter().map(String::as_str).collect::<Vec<_>>()), &self.key);
        let [bind, ours] = self.ask(&message).map(|answer| verdict(&answer));
        assert!(bind.starts_with("NoError") && ours == bind, "{bind}, {ours}");
    }

    /// What differs in the zones, by every name that is written to.
    fn states(&mut self) -> [BTreeSet<String>; 2] {
        let mut states = [BTreeSet::new(), BTreeSet::new()];
        for name in NAMES.iter().chain(&["@", "none", "x.new"]) {
            let question = query(name, RecordType::ANY).to_vec().unwrap();
            for (state, answer) in states.iter_mut().zip(self.ask(&question)) {
                let answer = Message::from_vec(&answer).unwrap();
                state.insert(format!("{name} {} {}", answer.response_code, answer.authoritative));
                state.extend(answer.answers.iter().map(text));
            }
        }
        states
    }
}

/// A record as text, in which case means nothing where it means nothing.
fn text(record: &Record) -> String {
    let mut record = record.clone();
    record.name = record.name.to_lowercase();
    let text = record.to_string();
    if matches!(record.data, RData::TXT(_)) { text } else { text.to_lowercase() }
}

/// What an answer says of the message as a whole.
fn verdict(answer: &[u8]) -> String {
    let Ok(answer) = Message::from_vec(answer) else { return "broken".to_owned() };
    // BIND's parser refuses some of what our rules refuse (RFC 2136 §3.2.5), before it has looked at the TSIG.
    if answer.response_code == ResponseCode::FormErr {
        return "FormErr".to_owned();
    }
    let seal = answer.signature().map(|record| {
        let TSIG { error, mac, other, .. } = &record.data;
        format!("{error:?}, MAC of {}, other of {}", mac.len(), other.len())
    });
    format!("{:?} {}", answer.response_code, seal.unwrap_or_else(|| "unsigned".to_owned()))
}

/// Asserts that both say and do the same, except where [`DIFFERENCES`] says why not.
fn compare(pair: &mut Pair, differences: &mut Vec<String>, title: &str, bytes: &[u8]) -> String {
    let [bind, ours] = pair.ask(bytes).map(|answer| verdict(&answer));
    let states = pair.states();
    if bind != ours {
        differences.push(format!("{title}: BIND {bind}; ours {ours}"));
    }
    for (whose, at, other) in [("only BIND", 0, 1), ("only ours", 1, 0)] {
        differences.extend(states[at].difference(&states[other]).map(|line| format!("{title}: {whose}: {line}")));
    }
    bind
}

fn judge(asked: usize, differences: &[String]) {
    let reason = |line: &String| {
        DIFFERENCES.iter().find_map(|(title, why)| line.starts_with(&format!("{title}: ")).then_some(*why))
    };
    for line in differences {
        println!("{line} ({})", reason(line).unwrap_or("?"));
    }
    println!("{asked} messages to BIND and to ours, {} differences", differences.len());
    assert!(differences.iter().all(|line| reason(line).is_some()), "a difference has no reason");
}

#[test]
fn every_kind_of_update_has_the_same_answer_and_effect() {
    let Some(mut pair) = Pair::start() else { return };
    let mut differences = Vec::new();
    for (title, prerequisites, updates) in UPDATES {
        pair.reset();
        let message = signed(update(prerequisites, updates), &pair.key);
        compare(&mut pair, &mut differences, title, &message);
    }
    judge(UPDATES.len(), &differences);
}

#[test]
fn a_thousand_random_updates_have_the_same_answer_and_effect() {
    let Some(mut pair) = Pair::start() else { return };
    let mut random = Random(fastrand::Rng::with_seed(0x5eed));
    let mut differences = Vec::new();
    let mut verdicts = BTreeMap::<String, u32>::new();
    for round in 0..1_000 {
        let [prerequisites, updates] = [random.below(3), 1 + random.below(4)];
        let prerequisites: Vec<String> = (0..prerequisites).map(|_| random.prerequisite()).collect();
        let updates: Vec<String> = (0..updates).map(|_| random.update()).collect();
        let [lines, more] =
            [&prerequisites, &updates].map(|lines| lines.iter().map(String::as_str).collect::<Vec<_>>());
        let title = format!("round {round}, {lines:?}, {more:?}");
        let message = signed(update(&lines, &more), &pair.key);
        let answer = compare(&mut pair, &mut differences, &title, &message);
        *verdicts.entry(answer).or_default() += 1;
        assert!(differences.is_empty(), "{differences:#?}");
    }
    println!("1,000 random updates, no difference: {verdicts:?}");
    assert!(verdicts.len() >= 5 && verdicts.values().all(|times| *times > 10), "{verdicts:?}");
}

/// Pieces of messages, of which there are few, so that they meet; it replays from its seed.
struct Random(fastrand::Rng);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0.usize(..limit)
    }

    fn one_of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    fn name(&mut self) -> &'static str {
        self.one_of(&["pbx", "PBX", "two", "alias", "a.deep", "deep", "new", "@"])
    }

    /// A type and a value, of which there are few, so that they meet.
    fn value(&mut self) -> &'static str {
        self.one_of(&[
            "A 10.77.0.11",
            "A 10.77.0.1",
            "A 10.77.0.2",
            "TXT one",
            "TXT One",
            "CNAME pbx.lab.test.",
            "CNAME PBX.lab.test.",
            "NS ns.lab.test.",
            "NS ns.other.test.",
            "SRV 10 0 5060 pbx.lab.test.",
        ])
    }

    fn prerequisite(&mut self) -> String {
        let (name, value) = (self.name(), self.value());
        let rtype = value.split(' ').next().unwrap();
        match self.below(8) {
            0 | 1 => format!("{name} ANY 0 {rtype}"),
            2 | 3 => format!("{name} NONE 0 {rtype}"),
            4 => format!("{name} ANY 0 ANY"),
            5 => format!("{name} NONE 0 ANY"),
            _ => format!("{name} IN 0 {value}"),
        }
    }

    /// Not below the apex for NS, since we serve no delegation; and in one case: to BIND another case is a change, by
    /// which its serial rises, to RFC 2136 §1.1.1 it is none.
    fn update(&mut self) -> String {
        let (name, value) = (self.name().to_lowercase(), self.value().replace("PBX", "pbx"));
        let name = if value.starts_with("NS") { "@" } else { &name };
        let rtype = value.split(' ').next().unwrap();
        match self.below(10) {
            0..5 => format!("{name} IN {} {value}", self.one_of(&["30", "60"])),
            5 | 6 => format!("{name} NONE 0 {value}"),
            7 | 8 => format!("{name} ANY 0 {rtype}"),
            _ => format!("{name} ANY 0 ANY"),
        }
    }
}

#[test]
fn a_zone_section_that_is_not_ours_has_the_same_answer() {
    let Some(mut pair) = Pair::start() else { return };
    let good = || update(&[], &["new IN 30 A 10.0.0.1"]);
    let zone = |name: &str, rtype, class| {
        let mut message = good();
        let mut zone = Query::query(Name::from_ascii(name).unwrap(), rtype);
        zone.set_query_class(class);
        message.queries = vec![zone];
        message
    };
    let mut two = good();
    two.add_query(good().queries[0].clone());
    let mut none = good();
    none.queries.clear();
    let mut notify = good();
    notify.metadata.op_code = OpCode::Status;
    let mut edns = good();
    edns.set_edns(Edns::new());
    let mut future = good();
    future.set_edns(Edns::new()).edns.as_mut().unwrap().set_version(1);
    let messages = [
        ("another zone", zone("other.test.", RecordType::SOA, DNSClass::IN)),
        ("a zone above", zone("test.", RecordType::SOA, DNSClass::IN)),
        ("a name in the zone", zone("pbx.lab.test.", RecordType::SOA, DNSClass::IN)),
        ("in another case", zone("LAB.Test.", RecordType::SOA, DNSClass::IN)),
        ("another type", zone("lab.test.", RecordType::A, DNSClass::IN)),
        ("another class", zone("lab.test.", RecordType::SOA, DNSClass::CH)),
        ("class ANY", zone("lab.test.", RecordType::SOA, DNSClass::ANY)),
        ("two zones", two),
        ("no zone", none),
        ("another opcode", notify),
        ("with EDNS", edns),
        ("with EDNS of the future", future),
    ];
    let mut differences = Vec::new();
    let asked = messages.len();
    for (title, message) in messages {
        pair.reset();
        let message = signed(message, &pair.key);
        compare(&mut pair, &mut differences, title, &message);
    }
    judge(asked, &differences);
}

/// `message`, signed at will.
fn sealed(message: &Message, key: &TSigner, change: impl FnOnce(&mut Record<TSIG>)) -> Vec<u8> {
    let mut message = message.clone();
    let tsig = TSIG::new(key.algorithm().clone(), now_s(), 300, Vec::new(), message.id, None, Vec::new());
    let mut record = make_tsig_record(key.signer_name().clone(), tsig);
    change(&mut record);
    // A MAC that the change made is kept, else the right one for what the record says.
    if record.data.mac.is_empty() {
        record.data.mac = vec![0];
        message.set_signature(Box::new(record.clone()));
        let (tbs, _) = signed_bitmessage_to_buf(&message.to_vec().unwrap(), None, true).unwrap();
        record.data.mac = key.sign(&tbs).unwrap();
    }
    message.set_signature(Box::new(record));
    message.to_vec().unwrap()
}

#[test]
fn a_bad_signature_has_the_same_answer() {
    let Some(mut pair) = Pair::start() else { return };
    let key = pair.key.clone();
    let (good, asked) = (update(&[], &["new IN 30 A 10.0.0.1"]), query("pbx", RecordType::A));
    let other =
        TSigner::new(b"another secret".to_vec(), TsigAlgorithm::HmacSha256, key.signer_name().clone(), 300).unwrap();
    let sha512 = TSigner::new(key.key().to_vec(), TsigAlgorithm::HmacSha512, key.signer_name().clone(), 300).unwrap();
    let nobody =
        TSigner::new(key.key().to_vec(), TsigAlgorithm::HmacSha256, Name::from_ascii("nobody.").unwrap(), 300).unwrap();
    let truncated = |message: &Message, length: usize| {
        let whole = Message::from_vec(&sealed(message, &key, |_| {})).unwrap();
        let mut mac = whole.signature().unwrap().data.mac.clone();
        mac.resize(length, 0);
        sealed(message, &key, |record| record.data.mac = mac)
    };
    let mut cases = Vec::new();
    for (kind, message) in [("update", &good), ("query", &asked)] {
        let mut add = |title: &str, bytes| cases.push((format!("{kind}, {title}"), bytes));
        add("good", sealed(message, &key, |_| {}));
        add("unsigned", message.to_vec().unwrap());
        add("wrong secret", sealed(message, &other, |_| {}));
        add("unknown key", sealed(message, &nobody, |_| {}));
        add("key of another algorithm", sealed(message, &sha512, |_| {}));
        add(
            "algorithm of the future",
            sealed(message, &key, |record| {
                record.data.algorithm = TsigAlgorithm::Unknown(Name::from_ascii("hmac-sha1024").unwrap());
            }),
        );
        add("key name in capitals", sealed(message, &key, |record| record.name = Name::from_ascii("ADMIN.").unwrap()));
        add(
            "algorithm in capitals",
            sealed(message, &key, |record| {
                record.data.algorithm = TsigAlgorithm::Unknown(Name::from_ascii("HMAC-SHA256").unwrap());
            }),
        );
        for off_s in [-3600_i64, -310, -290, 290, 310, 3600] {
            let time_s = now_s().checked_add_signed(off_s).unwrap();
            add(&format!("{off_s} s"), sealed(message, &key, |record| record.data.time = time_s));
        }
        add("the year 1970", sealed(message, &key, |record| record.data.time = 0));
        add("the end of time", sealed(message, &key, |record| record.data.time = (1 << 48) - 1));
        add(
            "a short fudge",
            sealed(message, &key, |record| {
                record.data.time = now_s() - 20;
                record.data.fudge = 10;
            }),
        );
        add(
            "a long fudge",
            sealed(message, &key, |record| {
                record.data.time = now_s() - 500;
                record.data.fudge = 600;
            }),
        );
        for length in [1, 9, 15, 16, 31, 33, 64] {
            add(&format!("MAC of {length}"), truncated(message, length));
        }
        add("class IN", sealed(message, &key, |record| record.dns_class = DNSClass::IN));
        add("with a TTL", sealed(message, &key, |record| record.ttl = 1));
        add("an error in the request", sealed(message, &key, |record| record.data.error = Some(TsigError::BadSig)));
        let mut forwarded = sealed(message, &key, |_| {});
        forwarded[0] ^= 0x55;
        add("forwarded with another id", forwarded);
        let mut changed = sealed(message, &key, |_| {});
        changed[12 + 1] ^= 0x20;
        add("one letter's case changed", changed);
        let mut trailing = sealed(message, &key, |_| {});
        trailing.push(0);
        add("one byte too many", trailing);
        let mut cut = sealed(message, &key, |_| {});
        cut.pop();
        add("one byte too few", cut);
        let mut followed = sealed(message, &key, |_| {});
        followed[11] += 1;
        let mut alone = Message::query();
        alone.add_additional(line("pbx IN 0 A 10.0.0.1"));
        followed.extend_from_slice(&alone.to_vec().unwrap()[12..]);
        add("a record after TSIG", followed);
        let twice = sealed(message, &key, |_| {});
        let mut bytes = twice.clone();
        bytes[11] += 1;
        let unsigned = message.to_vec().unwrap().len();
        bytes.extend_from_slice(&twice[unsigned..]);
        add("two TSIGs", bytes);
    }
    let mut differences = Vec::new();
    for (title, bytes) in &cases {
        pair.reset();
        compare(&mut pair, &mut differences, title, bytes);
    }
    judge(cases.len(), &differences);
}

#[test]
fn questions_have_the_same_answer() {
    let Some(mut pair) = Pair::start() else { return };
    let more = [
        "new IN 30 CNAME alias.lab.test.",
        "a.deep IN 30 TXT deep",
        "x.new IN 30 CNAME none.lab.test.",
        "y.new IN 30 CNAME pbx.other.test.",
        "z.new IN 30 CNAME circle.new.lab.test.",
        "circle.new IN 30 CNAME z.new.lab.test.",
        "self.new IN 30 CNAME self.new.lab.test.",
        "wild.new IN 30 CNAME x.wild.lab.test.",
        "*.alias2 IN 30 CNAME pbx.lab.test.",
        "below.*.odd IN 30 TXT odd",
        "b.wild IN 30 A 10.0.0.1",
        "c.d.wild IN 30 A 10.0.0.1",
    ];
    let message = signed(update(&[], &more), &pair.key);
    pair.ask(&message);
    let mut differences = Vec::new();
    let names = [
        "pbx",
        "PBX",
        "two",
        "text",
        "alias",
        "new",
        "x.new",
        "y.new",
        "z.new",
        "self.new",
        "wild.new",
        "deep",
        "a.deep",
        "none",
        "x.none",
        "@",
        "_sip._udp",
        "x.wild",
        "x.y.wild",
        "b.wild",
        "x.b.wild",
        "d.wild",
        "x.d.wild",
        "wild",
        "*.wild",
        "x.alias2",
        "x.odd",
        "*.odd",
        "x.*.odd",
        "x.pbx",
        "pbx.other.test.",
        "test.",
        ".",
    ];
    // Not SOA: to that alone BIND answers NXDOMAIN with a TTL of 0 in the SOA, which no RFC has.
    let types = ["A", "AAAA", "TXT", "SRV", "CNAME", "NS", "MX", "ANY"];
    let mut asked = 0;
    for name in names {
        for rtype in types {
            asked += 1;
            let mut message = query(name, rtype.parse().unwrap());
            message.metadata.recursion_desired = asked % 2 == 0;
            if asked % 3 == 0 {
                message.set_edns(Edns::new());
            }
            let [bind, ours] = pair.ask(&message.to_vec().unwrap()).map(|answer| said(&answer));
            if bind != ours {
                differences.push(format!("{name} {rtype}: BIND {bind:#?}, ours {ours:#?}"));
            }
        }
    }
    judge(asked, &differences);
}

/// An answer as far as it must be the same: not which additional records come along, and in what order.
fn said(answer: &[u8]) -> (String, BTreeSet<String>, BTreeSet<String>) {
    let answer = Message::from_vec(answer).unwrap();
    let head = format!(
        "{:?} aa={} rd={} tc={} edns={}",
        answer.response_code,
        answer.authoritative,
        answer.recursion_desired,
        answer.truncation,
        answer.edns.is_some()
    );
    // Beside an answer BIND names the zone's servers.
    let soa = answer.authorities.iter().filter(|record| record.record_type() == RecordType::SOA);
    (head, answer.answers.iter().map(text).collect(), soa.map(text).collect())
}

/// What a program of BIND says when it is given `script`, output and errors.
fn told(program: &str, arguments: &[&str], script: &str) -> String {
    let mut command = Command::new(program);
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn dig_is_satisfied_over_udp_and_tcp_with_and_without_a_key() {
    if !Kind::Demo.installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = DnsServer::start(Kind::Demo, dir.path());
    server.set(
        "long.lab.test",
        "TXT",
        &["a", "b", "c"].map(|letter| format!("\"{}\"", letter.repeat(250))).each_ref().map(String::as_str),
    );
    let (ip, port, key) =
        (format!("@{}", server.addr.ip()), server.addr.port().to_string(), format!("hmac-sha256:{KEY}:{SECRET}"));
    let dig = |arguments: &[&str]| told("dig", &[&[&ip, "-p", &port, "+tries=1", "+time=5"], arguments].concat(), "");
    let wrong = format!("hmac-sha256:{KEY}:d3Jvbmc=");
    for (arguments, wanted) in [
        (&["pbx.lab.test", "A"][..], &["NOERROR", "flags: qr aa rd;", "30\tIN\tA\t10.77.0.11", "udp: 1232"][..]),
        (&["+noedns", "+norecurse", "pbx.lab.test", "A"], &["flags: qr aa;", "10.77.0.11"]),
        (&["+tcp", "+dnssec", "pbx.lab.test", "AAAA"], &["flags: do; udp: 1232", "fd77::11"]),
        (&["-y", &key, "pbx.lab.test", "A"], &["TSIG PSEUDOSECTION", "NOERROR", "10.77.0.11"]),
        (&["-y", &key, "+tcp", "none.lab.test", "A"], &["TSIG PSEUDOSECTION", "NXDOMAIN", "IN\tSOA"]),
        (&["-y", &wrong, "pbx.lab.test", "A"], &["NOTAUTH", "BADSIG"]),
        (&["-y", "hmac-sha256:nobody:d3Jvbmc=", "pbx.lab.test", "A"], &["NOTAUTH", "BADKEY"]),
        (&["+noedns", "long.lab.test", "TXT"], &["Truncated, retrying in TCP mode", "ANSWER: 3"]),
        (&["+noedns", "+ignore", "long.lab.test", "TXT"], &["flags: qr aa tc rd", "ANSWER: 0"]),
        (&["_sip._udp.lab.test", "ANY"], &["IN\tSRV\t10 0 5060 pbx-a.lab.test.", "pbx-a.lab.test.\t\t60\tIN\tA"]),
        (&["+edns=1", "+noednsneg", "pbx.lab.test", "A"], &["BADVERS"]),
        (&["other.test", "A"], &["REFUSED"]),
        (&["version.bind", "CH", "TXT"], &["REFUSED"]),
        (&["+onesoa", "lab.test", "AXFR"], &["Transfer failed"]),
        (&["+opcode=notify", "lab.test", "SOA"], &["NOTIMP"]),
    ] {
        let said = dig(arguments);
        let missing: Vec<_> = wanted.iter().filter(|wanted| !said.contains(**wanted)).collect();
        assert!(missing.is_empty(), "{arguments:?} lacks {missing:?}: {said}");
        let bad = ["NOTAUTH", "Couldn't verify"].iter().any(|bad| said.contains(bad));
        assert!(wanted.contains(&"NOTAUTH") || !bad, "{arguments:?}: {said}");
    }
}

#[test]
fn nsupdate_is_satisfied_over_udp_and_tcp() {
    if !Kind::Demo.installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = DnsServer::start(Kind::Demo, dir.path());
    let key = format!("hmac-sha256:{KEY}:{SECRET}");
    let good: &[&str] = &["-y", &key];
    let tcp: &[&str] = &["-v", "-y", &key];
    for (arguments, script, wanted) in [
        (good, "prereq yxrrset pbx.lab.test A\nupdate add new.lab.test 30 A 10.0.0.1", ""),
        (tcp, "prereq yxrrset pbx.lab.test A 10.77.0.11\nupdate add new.lab.test 30 A 10.0.0.2", ""),
        (tcp, "prereq nxdomain none.lab.test\nprereq yxdomain new.lab.test\nupdate delete new.lab.test A 10.0.0.1", ""),
        (good, "prereq nxrrset pbx.lab.test A\nupdate delete pbx.lab.test", "update failed: YXRRSET"),
        (tcp, "prereq yxrrset pbx.lab.test A 10.77.0.12\nupdate delete pbx.lab.test", "update failed: NXRRSET"),
        (tcp, "prereq nxdomain pbx.lab.test\nupdate delete pbx.lab.test", "update failed: YXDOMAIN"),
        (tcp, "prereq yxdomain none.lab.test\nupdate delete pbx.lab.test", "update failed: NXDOMAIN"),
        (&[], "update delete pbx.lab.test", "update failed: REFUSED"),
        (&["-y", "hmac-sha256:nobody:d3Jvbmc="], "update delete pbx.lab.test", "NOTAUTH(BADKEY)"),
        (&["-y", "hmac-sha256:robot:d3Jvbmc="], "update delete pbx.lab.test", "NOTAUTH(BADSIG)"),
        (tcp, "zone lab.test\nupdate add pbx.other.test 30 A 10.0.0.1", "update failed: NOTZONE"),
        (tcp, "zone other.test\nupdate add pbx.other.test 30 A 10.0.0.1", "update failed: NOTAUTH"),
    ] {
        let script = format!("server {} {}\n{script}\nsend\n", server.addr.ip(), server.addr.port());
        let said = told("nsupdate", arguments, &script);
        assert!(if wanted.is_empty() { said.is_empty() } else { said.contains(wanted) }, "{script}{said}");
    }
    assert_eq!(server.query("new.lab.test", "A"), ["10.0.0.2"]);
    assert_eq!(server.query("pbx.lab.test", "A"), ["10.77.0.11"]);
}
