use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Datum {
    serde_json::from_str(text).unwrap()
}

#[test]
fn every_form_of_the_rfc() {
    let row = Uuid::from_u128(7);
    let cases = [
        ("7", Datum::from(7)),
        ("-9223372036854775808", Datum::from(i64::MIN)),
        ("1.5", Datum::from(Atom::Real(1.5))),
        ("1.0", Datum::from(1)),
        ("\"x\\u00e9\"", Datum::from("xé")),
        ("true", Datum::from(true)),
        ("[\"uuid\",\"00000000-0000-0000-0000-000000000007\"]", Datum::from(row)),
        ("[\"named-uuid\",\"r1\"]", Datum::from(Atom::Named("r1".into()))),
        ("[\"set\",[]]", Datum::empty()),
        ("[\"set\",[\"x\"]]", Datum::from("x")),
        ("[\"set\",[2,1]]", Datum::set([1, 2])),
        ("[\"map\",[]]", Datum::Map(BTreeMap::new())),
        ("[\"map\",[[\"k\",\"v\"]]]", Datum::map([("k", "v")])),
    ];
    for (text, wanted) in cases {
        assert_eq!(read(text), wanted, "{text}");
    }
    assert_eq!(serde_json::to_string(&Datum::set([2, 1])).unwrap(), "[\"set\",[1,2]]");
    assert_eq!(serde_json::to_string(&Datum::from("x")).unwrap(), "\"x\"");
    assert_eq!(read("[\"map\",[[\"a\",\"1\"],[\"b\",\"2\"]]]").get("b"), Some("2"));
}

#[test]
fn what_is_no_value_is_refused() {
    for text in [
        "null",
        "{}",
        "[]",
        "[\"set\"]",
        "[\"set\",1]",
        "[\"set\",[[\"set\",[]]]]",
        "[\"uuid\",\"x\"]",
        "[\"uuid\",\"00000000-0000-0000-0000-000000000007\",1]",
        "[\"map\",[[1]]]",
        "[\"map\",[[1,2,3]]]",
        "[\"other\",1]",
        "18446744073709551615",
    ] {
        assert!(serde_json::from_str::<Datum>(text).is_err(), "{text}");
    }
}

#[test]
fn differences_apply() {
    let applied = |mut now: Datum, change: Datum, single| {
        now.apply(change, single);
        now
    };
    assert_eq!(applied("a".into(), "b".into(), true), "b".into());
    assert_eq!(applied(Datum::set([1, 2]), Datum::set([2, 3]), false), Datum::set([1, 3]));
    assert_eq!(applied("a".into(), Datum::empty(), true), Datum::empty());
    assert_eq!(applied(Datum::map([("a", "1")]), Datum::map([("b", "2")]), true), Datum::map([("b", "2")]));
    let (old, change) = (Datum::map([("a", "1"), ("b", "2")]), Datum::map([("a", "1"), ("b", "3"), ("c", "4")]));
    assert_eq!(applied(old, change, false), Datum::map([("b", "3"), ("c", "4")]));
}

fn atom() -> impl Strategy<Value = Atom> {
    prop_oneof![
        any::<i64>().prop_map(Atom::Integer),
        any::<i32>().prop_map(|n| Atom::real(f64::from(n) / 4.0)),
        any::<bool>().prop_map(Atom::Boolean),
        any::<String>().prop_map(Atom::String),
        any::<u128>().prop_map(|n| Atom::Uuid(Uuid::from_u128(n))),
        "[a-z_]{1,8}".prop_map(Atom::Named),
    ]
}

fn datum() -> impl Strategy<Value = Datum> {
    prop_oneof![
        prop::collection::btree_set(atom(), 0..5).prop_map(Datum::Set),
        prop::collection::btree_map(atom(), atom(), 0..5).prop_map(Datum::Map),
    ]
}

proptest! {
    #[test]
    fn written_and_read_it_is_the_same(value in datum()) {
        let text = serde_json::to_string(&value).unwrap();
        prop_assert_eq!(read(&text), value, "{}", text);
    }

    #[test]
    fn the_difference_of_two_sets_leads_from_one_to_the_other(
        a in prop::collection::btree_set(atom(), 0..6), b in prop::collection::btree_set(atom(), 0..6),
    ) {
        let mut now = Datum::Set(a.clone());
        now.apply(Datum::Set(a.symmetric_difference(&b).cloned().collect()), false);
        prop_assert_eq!(now, Datum::Set(b));
    }
}
