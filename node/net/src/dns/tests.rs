use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use basalt_model::network::zone::content::Seen;
use basalt_model::network::zone::entry::Entry;
use basalt_model::network::zone::{Record, Zone};
use basalt_model::{ClusterState, Generation, ProjectName, RecordName, StateView, Version, ZoneName};
use basalt_runtime::Shutdown;
use domain::base::iana::{Opcode, Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name};
use domain::rdata::tsig::Time48;
use domain::rdata::{AllRecordData, Soa};
use domain::tsig::{Algorithm, ClientSequence, Key};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

// Not `reply`, which would hide a panic.
use super::answer::{Reply, Transport, answer as reply};
use super::{Book, Serials, serve};

const PEER: &str = "192.0.2.1";
const STRANGER: &str = "192.0.2.2";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A zone with a peer by address, one by key and one by both, and as many records as wanted.
fn state(records: usize) -> ClusterState {
    let mut state = ClusterState::default();
    let mut zone = Zone::new(ZoneName::new("lab.example").unwrap(), ProjectName::default_project());
    let keys = [
        ("peers.home.address", PEER),
        ("peers.key.key", "c2VjcmV0"),
        ("peers.both.address", "192.0.2.3"),
        ("peers.both.key", "b3RoZXI="),
        ("dns.nameservers", "ns1.example.org"),
    ];
    zone.config = keys.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    for number in 0..records {
        let name = RecordName::new(format!("r{number}")).unwrap();
        let entries = [("A", "192.0.2.9"), ("TXT", "some text that takes room"), ("MX", "10 mail")];
        let entries = entries.map(|(kind, value)| Entry { kind: kind.into(), ttl: 60, value: value.into() }).into();
        let (description, config, generation) = (String::new(), BTreeMap::new(), Generation(1));
        zone.records.insert(name.clone(), Record { name, description, config, entries, generation });
    }
    state.zones.insert(zone.name.clone(), zone);
    state
}

fn view(state: &ClusterState, version: u64) -> StateView {
    StateView::new(Version(version), Arc::new(state.clone()))
}

fn book(records: usize) -> Book {
    Book::of(&view(&state(records), 7), &Seen::new(), &mut Serials::default())
}

fn key(name: &str, secret: &[u8]) -> Key {
    Key::new(Algorithm::Sha256, secret, name.parse().unwrap(), None, None).unwrap()
}

fn question(zone: &str, kind: Rtype) -> Vec<u8> {
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(4711);
    let mut question = message.question();
    question.push((Name::vec_from_str(zone).unwrap(), kind)).unwrap();
    question.finish()
}

fn signed(zone: &str, kind: Rtype, key: Key, at: Time48) -> (Vec<u8>, ClientSequence<Key>) {
    let mut question = MessageBuilder::new_vec().question();
    question.push((Name::vec_from_str(zone).unwrap(), kind)).unwrap();
    let mut message = question.additional();
    let sequence = ClientSequence::request(key, &mut message, at).unwrap();
    (message.finish(), sequence)
}

fn one(reply: Reply) -> Message<Vec<u8>> {
    match reply {
        Reply::One(bytes) => Message::from_octets(bytes).unwrap(),
        Reply::Nothing => panic!("nothing is answered"),
        Reply::Whole(_) => panic!("the whole zone is answered"),
    }
}

fn whole(reply: Reply) -> Vec<Message<Vec<u8>>> {
    let Reply::Whole(mut transfer) = reply else { panic!("not the whole zone: {:?}", one(reply)) };
    let messages = std::iter::from_fn(|| transfer.next());
    messages.map(|bytes| Message::from_octets(bytes.unwrap()).unwrap()).collect()
}

fn types(messages: &[Message<Vec<u8>>]) -> Vec<Rtype> {
    let answers = messages.iter().flat_map(|m| m.answer().unwrap().map(|record| record.unwrap().rtype()));
    answers.collect()
}

fn serial(message: &Message<Vec<u8>>) -> u32 {
    let mut soas = message.answer().unwrap().limit_to::<Soa<_>>();
    soas.next().unwrap().unwrap().data().serial().into_int()
}

#[test]
fn a_zone_goes_to_the_address_that_it_names() {
    let book = book(3);
    for (from, zone, kind, transport) in [
        (STRANGER, "lab.example", Rtype::AXFR, Transport::Tcp),
        (STRANGER, "lab.example", Rtype::SOA, Transport::Udp),
        ("192.0.2.3", "lab.example", Rtype::AXFR, Transport::Tcp),
        (PEER, "nonesuch.example", Rtype::AXFR, Transport::Tcp),
        (PEER, "r1.lab.example", Rtype::A, Transport::Udp),
        (PEER, "lab.example", Rtype::NS, Transport::Tcp),
        (PEER, "lab.example", Rtype::AXFR, Transport::Udp),
    ] {
        let answer = one(reply(&book, &question(zone, kind), ip(from), transport));
        assert_eq!((answer.header().rcode(), answer.header().id()), (Rcode::REFUSED, 4711), "{from} {zone} {kind}");
        assert_eq!(answer.header_counts().ancount(), 0);
    }
    let soa = one(reply(&book, &question("LAB.example", Rtype::SOA), ip(PEER), Transport::Udp));
    assert!(soa.header().aa() && soa.header().qr() && serial(&soa) == 7);
    // The way of a socket that hears both families.
    let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
    for kind in [Rtype::AXFR, Rtype::IXFR] {
        let all = whole(reply(&book, &question("lab.example", kind), mapped, Transport::Tcp));
        let found = types(&all);
        assert_eq!((found.len(), found[0], found[1], found[11]), (12, Rtype::SOA, Rtype::NS, Rtype::SOA));
    }
}

#[test]
fn a_zone_goes_to_whoever_signs_with_its_key() {
    let book = book(2000);
    let (request, mut sequence) = signed("lab.example", Rtype::AXFR, key("lab.example_key", b"secret"), Time48::now());
    let messages = whole(reply(&book, &request, ip(STRANGER), Transport::Tcp));
    assert!(messages.len() > 2, "a zone of this size takes several messages");
    assert_eq!(types(&messages).len(), 2000 * 3 + 1 + 2);
    for mut message in messages {
        assert!(message.as_slice().len() <= usize::from(u16::MAX));
        sequence.answer(&mut message, Time48::now()).unwrap();
    }
    sequence.done().unwrap();
    // The answer to a question is signed as well.
    let (request, mut sequence) = signed("lab.example", Rtype::SOA, key("lab.example_key", b"secret"), Time48::now());
    let mut soa = one(reply(&book, &request, ip(STRANGER), Transport::Udp));
    sequence.answer(&mut soa, Time48::now()).unwrap();
    assert_eq!(serial(&soa), 7);
}

#[test]
fn a_signature_that_is_wrong_opens_nothing() {
    let book = book(1);
    let old = Time48::from_u64(1_000_000);
    for (name, secret, from, at) in [
        ("lab.example_key", b"guess!", PEER, Time48::now()),
        ("lab.example_nobody", b"secret", PEER, Time48::now()),
        ("lab.example_key", b"secret", STRANGER, old),
    ] {
        let (request, _) = signed("lab.example", Rtype::AXFR, key(name, secret), at);
        let answer = one(reply(&book, &request, ip(from), Transport::Tcp));
        assert_eq!(answer.header().rcode(), Rcode::NOTAUTH, "{name}");
        assert_eq!(answer.header_counts().ancount(), 0);
    }
    // One that must do both has done half.
    let both = || key("lab.example_both", b"other");
    let (request, _) = signed("lab.example", Rtype::AXFR, both(), Time48::now());
    let answer = one(reply(&book, &request, ip(STRANGER), Transport::Tcp));
    assert_eq!(answer.header().rcode(), Rcode::REFUSED);
    let (request, _) = signed("lab.example", Rtype::AXFR, both(), Time48::now());
    assert_eq!(whole(reply(&book, &request, ip("192.0.2.3"), Transport::Tcp)).len(), 1);
}

#[test]
fn records_can_be_read_back() {
    let mut state = state(0);
    let mut zone = state.zones.values().next().unwrap().clone();
    let values = [
        ("A", "192.0.2.9"),
        ("AAAA", "2001:db8::9"),
        ("CAA", "0 issue \"ca.example\""),
        ("MX", "10 mail"),
        ("SRV", "1 2 3 ."),
        ("SSHFP", "4 2 0aff"),
        ("TLSA", "3 1 1 0aff"),
        ("TXT", "\"one two\" three"),
    ];
    let entries = values.map(|(kind, value)| Entry { kind: kind.into(), ttl: 60, value: value.into() }).into();
    let name = RecordName::new("@").unwrap();
    let (description, config, generation) = (String::new(), BTreeMap::new(), Generation(1));
    zone.records.insert(name.clone(), Record { name, description, config, entries, generation });
    state.zones.insert(zone.name.clone(), zone);
    let book = Book::of(&view(&state, 7), &Seen::new(), &mut Serials::default());
    let all = whole(reply(&book, &question("lab.example", Rtype::AXFR), ip(PEER), Transport::Tcp));
    let records = all[0].answer().unwrap().limit_to::<AllRecordData<_, _>>();
    let shown: Vec<String> = records.map(|record| record.unwrap().data().to_string()).collect();
    // The library shows the bytes of types that it does not know.
    for wanted in [
        "192.0.2.9",
        "2001:db8::9",
        "10 mail.lab.example",
        "1 2 3 .",
        r"\# 4 04 02 0a ff",
        r"\# 5 03 01 01 0a ff",
        r"\# 17 00 05 69 73 73 75 65 63 61 2e 65 78 61 6d 70 6c 65",
        "ns1.example.org",
    ] {
        let same = |text: &String| text.trim_end_matches('.') == wanted.trim_end_matches('.');
        assert!(shown.iter().any(same), "{wanted}: {shown:?}");
    }
    assert!(shown.iter().any(|text| text.contains("one two") && text.contains("three")), "{shown:?}");
}

#[test]
fn serials_grow_with_what_changes() {
    let at = |serials: &mut Serials, records: usize, version: u64| {
        let book = Book::of(&view(&state(records), version), &Seen::new(), serials);
        serial(&one(reply(&book, &question("lab.example", Rtype::SOA), ip(PEER), Transport::Udp)))
    };
    let mut serials = Serials::default();
    assert_eq!(at(&mut serials, 1, 10), 10);
    assert_eq!(at(&mut serials, 1, 20), 10, "nothing of the zone has changed");
    assert_eq!(at(&mut serials, 2, 30), 30);
    assert_eq!(at(&mut serials, 1, 30), 31, "it has changed without the state");
    let mut old = Serials::default();
    assert_eq!(at(&mut old, 1, (1 << 32) - 1), u32::MAX);
    assert_eq!(at(&mut old, 2, (1 << 32) + 5), 5, "they go round");
}

/// Whatever comes, nothing breaks, and nobody who is no peer gets a record.
#[test]
fn garbage_is_dropped_or_refused() {
    let book = book(3);
    let good = question("lab.example", Rtype::AXFR);
    // From there, a key that is right is not enough.
    let (signed, _) = signed("lab.example", Rtype::AXFR, key("lab.example_both", b"other"), Time48::now());
    let mut packets: Vec<Vec<u8>> = Vec::new();
    for whole in [&good, &signed] {
        packets.extend((0..whole.len()).map(|length| whole[..length].to_vec()));
        for at in 0..whole.len() {
            packets.extend([0, 1, 0x0c, 0x7f, 0x80, 0xc0, 0xff].map(|byte| {
                let mut packet = whole.clone();
                packet[at] = byte;
                packet
            }));
        }
    }
    // Two signatures, and one that is not the last record.
    let record = &signed[good.len()..];
    for more in [record, &[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]] {
        let mut packet = [&signed[..], more].concat();
        packet[11] = 2;
        packets.push(packet);
    }
    let mut notify = MessageBuilder::new_vec();
    notify.header_mut().set_opcode(Opcode::NOTIFY);
    packets.push(notify.finish());
    packets.push([vec![0; 4], vec![0xff; 4092]].concat());
    for packet in packets {
        for transport in [Transport::Udp, Transport::Tcp] {
            match reply(&book, &packet, ip(STRANGER), transport) {
                Reply::Nothing => {}
                Reply::One(answer) => {
                    assert_eq!(Message::from_octets(&answer[..]).unwrap().header_counts().ancount(), 0);
                    // A name may have been a pointer to another; no more than that is added.
                    assert!(answer.len() <= packet.len() + 255, "more comes back than went in: {packet:?}");
                }
                Reply::Whole(_) => panic!("{packet:?}"),
            }
        }
    }
    // An answer is no request: two servers could talk for ever.
    let mut answer = good;
    answer[2] |= 0x80;
    assert!(matches!(reply(&book, &answer, ip(PEER), Transport::Udp), Reply::Nothing));
}

async fn ask(stream: &mut tokio::net::TcpStream, request: &[u8]) -> std::io::Result<Message<Vec<u8>>> {
    stream.write_u16(request.len() as u16).await?;
    stream.write_all(request).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(Message::from_octets(answer).unwrap())
}

#[tokio::test]
#[allow(clippy::disallowed_methods)] // no supervisor in a test
async fn sockets_are_bounded_and_serve_on() {
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut state = state(3);
    let mut zone = state.zones.values().next().unwrap().clone();
    zone.config.insert("peers.home.address".into(), "127.0.0.1".into());
    state.zones.insert(zone.name.clone(), zone);
    let write = |state: &ClusterState| Arc::new(Book::of(&view(state, 7), &Seen::new(), &mut Serials::default()));
    let (books, book) = watch::channel(write(&state));
    let shutdown = Shutdown::new();
    let server = tokio::spawn(serve(address, book, shutdown.clone()));
    let connect = async || {
        let listens = async {
            loop {
                match tokio::net::TcpStream::connect(address).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), listens).await.expect("it listens")
    };
    let request = question("lab.example", Rtype::AXFR);
    // Places of those who were cut off are free again soon, not at once.
    let served = async || loop {
        let mut stream = connect().await;
        if let Ok(answer) = ask(&mut stream, &request).await {
            return (stream, answer);
        }
    };
    let (mut held, answer) = served().await;
    assert_eq!(types(&[answer]).len(), 12);
    // A length that no request has, and a client that says nothing of use: both are cut off.
    let mut large = connect().await;
    large.write_all(&[0xff, 0xff, 0, 0]).await.unwrap();
    assert!(large.read_u16().await.is_err());
    let mut short = connect().await;
    short.write_all(&[0, 3, 1, 2, 3]).await.unwrap();
    assert!(short.read_u16().await.is_err());
    // So many from one address, and no more; a place that is given back can be taken.
    let mut crowd = Vec::new();
    for _ in 0..7 {
        crowd.push(tokio::time::timeout(Duration::from_secs(10), served()).await.unwrap());
    }
    assert!(ask(&mut connect().await, &request).await.is_err(), "the ninth is turned away");
    assert!(ask(&mut held, &request).await.is_ok(), "who is there is served on");
    crowd.pop();
    tokio::time::timeout(Duration::from_secs(10), served()).await.unwrap();
    // What changes is told to those who are connected.
    let none = ClusterState::default();
    books.send_replace(write(&none));
    assert_eq!(ask(&mut held, &request).await.unwrap().header().rcode(), Rcode::REFUSED);
    shutdown.cancel();
    server.await.unwrap().unwrap();
}
