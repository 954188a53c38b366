use super::entry::{Data, Entry};
use super::*;

fn zone(pairs: &[(&str, &str)]) -> Zone {
    let mut zone = Zone::new(ZoneName::new("lab.example").unwrap(), ProjectName::default_project());
    zone.config = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    zone
}

fn entry(kind: &str, value: &str) -> Entry {
    Entry { kind: kind.into(), ttl: 0, value: value.into() }
}

fn with(name: &str, entries: Vec<Entry>) -> Zone {
    let mut zone = zone(&[]);
    let name = RecordName::new(name).unwrap();
    let (description, config, generation) = (String::new(), BTreeMap::new(), Generation(1));
    zone.records.insert(name.clone(), Record { name, description, config, entries, generation });
    zone
}

#[test]
fn peers_say_where_they_are_or_what_they_sign_with() {
    let zone = zone(&[
        ("peers.a.address", "192.0.2.1"),
        ("peers.b.key", "c2VjcmV0"),
        ("peers.a.key", ""),
        ("dns.nameservers", "ns1.example.org., ns2.example.org"),
        ("user.x", "y"),
    ]);
    check(&zone).unwrap();
    let peers = zone.peers();
    assert_eq!(peers["a"], ZonePeer { address: Some("192.0.2.1".parse().unwrap()), key: None });
    assert_eq!(peers["b"], ZonePeer { address: None, key: Some(b"secret".to_vec()) });
    assert_eq!(zone.nameservers(), ["ns1.example.org", "ns2.example.org"]);
    assert!(zone.tells_of_nat());
}

#[test]
fn keys_that_mean_nothing_are_named() {
    for (key, value) in [
        ("peers.a.address", "192.0.2.1/24"),
        ("peers.a.key", "not base64!"),
        ("peers.a.colour", "red"),
        ("peers..key", "c2VjcmV0"),
        ("peers.a b.key", "c2VjcmV0"),
        ("network.nat", "maybe"),
        ("dns.nameservers", "a b"),
        ("colour", "red"),
    ] {
        let wrong = check(&zone(&[(key, value)])).unwrap_err();
        assert_eq!(wrong.key, format!("config.{key}"));
        assert!(!key.ends_with(".key") || !wrong.why.contains(value), "a secret is told: {wrong:?}");
    }
}

#[test]
fn entries_are_understood() {
    for (kind, value, data) in [
        ("a", "192.0.2.9", Data::A("192.0.2.9".parse().unwrap())),
        ("AAAA", "2001:db8::9", Data::Aaaa("2001:db8::9".parse().unwrap())),
        ("CNAME", "WWW", Data::Cname("www".into())),
        ("NS", "ns1.example.org.", Data::Ns("ns1.example.org.".into())),
        ("MX", "10  mail", Data::Mx(10, "mail".into())),
        ("SRV", "0 5 5060 @", Data::Srv(0, 5, 5060, "@".into())),
        ("SSHFP", "4 2 0aff", Data::Sshfp(4, 2, vec![10, 255])),
        ("TLSA", "3 1 1 00", Data::Tlsa(3, 1, 1, vec![0])),
        ("CAA", "0 issue \"ca.example\"", Data::Caa(0, "issue".into(), b"ca.example".to_vec())),
        ("TXT", "one two", Data::Txt(vec![b"one".to_vec(), b"two".to_vec()])),
        ("TXT", r#""v=spf1 -all" "\"\097""#, Data::Txt(vec![b"v=spf1 -all".to_vec(), b"\"a".to_vec()])),
        ("TXT", "\"\"", Data::Txt(vec![vec![]])),
        ("TXT", &"x".repeat(300), Data::Txt(vec![vec![b'x'; 255], vec![b'x'; 45]])),
    ] {
        assert_eq!(entry(kind, value).data(), Ok(data), "{kind} {value}");
    }
}

#[test]
fn entries_that_cannot_be_said_name_the_field() {
    for (kind, value, field) in [
        ("A", "2001:db8::9", "value"),
        ("AAAA", "192.0.2.9", "value"),
        ("CNAME", "a b", "value"),
        ("CNAME", "a..b", "value"),
        ("MX", "mail", "value"),
        ("MX", "70000 mail", "value"),
        ("SRV", "0 5 mail", "value"),
        ("SSHFP", "4 2 abc", "value"),
        ("SSHFP", "4 2 äb", "value"),
        ("TXT", "", "value"),
        ("TXT", "\"open", "value"),
        ("TXT", "a\\", "value"),
        ("TXT", "a\\999", "value"),
        ("CAA", "0 issue", "value"),
        ("SOA", "x", "type"),
        ("", "x", "type"),
    ] {
        assert_eq!(entry(kind, value).data().unwrap_err().key, field, "{kind} {value}");
    }
    let old = Entry { ttl: u32::MAX, ..entry("A", "192.0.2.9") };
    assert_eq!(old.data().unwrap_err().key, "ttl");
}

#[test]
fn an_alias_is_alone_and_nothing_is_there_twice() {
    let (one, other) = (entry("A", "192.0.2.9"), entry("A", "192.0.2.10"));
    check(&with("www", vec![one.clone(), other])).unwrap();
    check(&with("_sip._tcp", vec![entry("SRV", "0 5 5060 www")])).unwrap();
    for (name, entries, field) in [
        ("www", vec![one.clone(), one.clone()], "entries[1].value"),
        ("www", vec![one.clone(), entry("CNAME", "b")], "entries[1].type"),
        ("@", vec![entry("CNAME", "b")], "entries[0].type"),
        ("www", vec![entry("A", "x")], "entries[0].value"),
    ] {
        assert_eq!(check(&with(name, entries)).unwrap_err().key, field);
    }
}

#[test]
fn names_have_room() {
    for good in ["@", "*", "*.web", "www", "_sip._tcp", "1"] {
        assert!(RecordName::new(good).is_ok(), "{good}");
    }
    for bad in ["", ".", "a.", ".a", "a..b", "WWW", "a b", "a.*", "ä", &"x".repeat(64)] {
        assert!(RecordName::new(bad).is_err(), "{bad}");
    }
    for bad in ["", ".", "lab.", "Lab", "a/b", "a b", "a_b", "*.lab", &["x"; 100].join(".")] {
        assert!(ZoneName::new(bad).is_err(), "{bad}");
    }
    let long = ["abcdefgh"; 20].join(".");
    let mut zone = with(&long, vec![]);
    check(&zone).unwrap();
    zone.name = ZoneName::new(long).unwrap();
    assert_eq!(check(&zone).unwrap_err().key, "name");
}
