use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Feeds bytes in pieces of those sizes, over and over; all frames, and the error that ended it.
fn feed(decoder: &mut Decoder, bytes: &[u8], sizes: &[usize]) -> (Vec<Bytes>, Option<WireError>) {
    let mut frames = Vec::new();
    let mut sizes = sizes.iter().cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((*sizes.next().unwrap()).clamp(1, rest.len()));
        decoder.space().extend_from_slice(piece);
        rest = after;
        loop {
            match decoder.frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

#[test]
fn brackets_in_texts_are_no_brackets() {
    let text = br#"{"a":"}]\"{\\","b":[1,{"c":"\\\""}]} {"d":{}}
        {"#;
    for size in 1..text.len() {
        let mut decoder = Decoder::new(1 << 10);
        let (frames, error) = feed(&mut decoder, text, &[size]);
        assert_eq!(error, None);
        assert_eq!(frames, [&br#"{"a":"}]\"{\\","b":[1,{"c":"\\\""}]}"#[..], br#"{"d":{}}"#]);
        assert_eq!(decoder.held(), 1);
    }
}

#[test]
fn garbage_and_giants_end_the_stream() {
    let end = |bytes: &[u8]| feed(&mut Decoder::new(16), bytes, &[3]).1;
    assert_eq!(end(b"HTTP/1.1 400"), Some(WireError::Garbage(b'H')));
    assert_eq!(end(b"{}[]"), Some(WireError::Garbage(b'[')));
    assert_eq!(end(b"{}\x16\x03"), Some(WireError::Garbage(0x16)));
    assert_eq!(end(b"{\"a\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaa"), Some(WireError::TooLarge(16)));
    assert_eq!(end(b"{\"a\":\"12345678\"}"), None);
    assert_eq!(end(b"{\"a\":\"123456789\"}"), Some(WireError::TooLarge(16)));
    assert_eq!(end(&[b'{'; 64]), Some(WireError::TooLarge(16)));
}

#[test]
fn messages_are_told_apart() {
    let parse = |text: &'static str| Message::parse(&Bytes::from_static(text.as_bytes()));
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    assert_eq!(parse(r#"{"id":7,"error":null,"result":[1]}"#), Ok(Message::Reply { id: 7, outcome: Ok(bytes("[1]")) }));
    assert_eq!(
        parse(r#"{"id":7,"result":null,"error":{"error":"x"}}"#),
        Ok(Message::Reply { id: 7, outcome: Err(bytes(r#"{"error":"x"}"#)) })
    );
    assert_eq!(
        parse(r#"{"id":null,"method":"update","params":["m",{}]}"#),
        Ok(Message::Notification { method: "update".into(), params: bytes(r#"["m",{}]"#) })
    );
    assert_eq!(
        parse(r#"{"id":"echo","method":"ech\u006f","params":[]}"#),
        Ok(Message::Request { id: bytes("\"echo\""), method: "echo".into(), params: bytes("[]") })
    );
    for bad in ["{}", r#"{"id":"x","result":1}"#, r#"{"id":-1,"result":1}"#, r#"{"id":1,"result":}"#, "{\"\u{1}\":1}"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("\\\"{}[]\\")),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    /// However the stream is cut into reads, the same messages come out of it.
    #[test]
    fn cuts_do_not_matter(
        values in prop::collection::vec(value(), 0..6), sizes in prop::collection::vec(1usize..40, 1..8),
        blank in "[ \n\r\t]{0,3}",
    ) {
        let texts: Vec<String> = values.iter().map(|v| json!({"id": 1, "result": v}).to_string()).collect();
        let stream = texts.join(&blank);
        let mut decoder = Decoder::new(1 << 20);
        let (frames, error) = feed(&mut decoder, stream.as_bytes(), &sizes);
        prop_assert_eq!(error, None);
        prop_assert_eq!(&frames, &texts);
        for (frame, value) in frames.iter().zip(&values) {
            let Ok(Message::Reply { id: 1, outcome: Ok(result) }) = Message::parse(frame) else { panic!("{frame:?}") };
            prop_assert_eq!(&serde_json::from_slice::<Value>(&result).unwrap(), value);
        }
    }

    /// Any bytes: no panic, and never more held than the limit and one read.
    #[test]
    fn hostile_bytes_are_bounded(bytes in hostile(), sizes in prop::collection::vec(1usize..64, 1..8)) {
        const LIMIT: usize = 48;
        let mut decoder = Decoder::new(LIMIT);
        let (frames, _) = feed(&mut decoder, &bytes, &sizes);
        prop_assert!(decoder.held() <= LIMIT + 64);
        for frame in frames {
            prop_assert!(frame.len() <= LIMIT);
            if let Ok(Message::Reply { outcome: Ok(result), .. }) = Message::parse(&frame) {
                let _ = serde_json::from_slice::<crate::ovsdb::value::Datum>(&result);
            }
        }
    }
}

/// Bytes that look enough like messages to get somewhere.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let bit = prop_oneof![
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            "\"",
            "\\",
            ":",
            ",",
            " ",
            "null",
            "1e999",
            "\"id\":1",
            "\"result\":"
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
        prop::sample::select(vec![
            "{\"id\":1,\"result\":[\"map\",[[1,",
            "[\"set\",[",
            "[\"uuid\",",
            "{\"id\":1,\"result\":{}}"
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(bit, 0..60).prop_map(|bits| bits.concat())
}
