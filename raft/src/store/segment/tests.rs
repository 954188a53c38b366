use std::path::Path;

use proptest::prelude::*;

use super::*;

proptest! {
    /// Whatever bytes a file holds, looking at it ends, and nothing in it is believed without its checksum.
    #[test]
    fn garbage_is_never_believed(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let found = scan(Path::new("x"), &bytes, true);
        prop_assert!(found.is_err());
        let _ = records(&bytes).count();
        let _ = never_used(&bytes, 1);
    }

    #[test]
    fn what_is_put_is_found(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8)) {
        let head = Head { number: 3, salt: 77, first_sequence: 9 };
        let mut bytes = head.encode().to_vec();
        for (sequence, payload) in (9..).zip(&payloads) {
            put_frame(&mut bytes, payload, sequence, 77);
        }
        bytes.resize(bytes.len() + 4096, 0);
        let found = scan(Path::new("x"), &bytes, false).expect("a good segment");
        prop_assert_eq!(&found.payloads, &payloads.iter().map(Vec::as_slice).collect::<Vec<_>>());
        prop_assert_eq!(found.next_sequence, 9 + payloads.len() as u64);
        prop_assert!(!found.torn);
    }
}

#[test]
fn records_come_back() {
    let mut payload = Vec::new();
    put_record(&mut payload, Kind::Vote, &7u64).unwrap();
    put_record(&mut payload, Kind::Entry, &"text").unwrap();
    let found: Result<Vec<_>, _> = records(&payload).collect();
    let kinds: Vec<Kind> = found.unwrap().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Kind::Vote, Kind::Entry]);
    payload[0] = 99;
    assert!(records(&payload).next().unwrap().is_err());
}
