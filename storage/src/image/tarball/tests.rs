use super::*;

fn archive() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for name in ["first", "second"] {
        let mut header = Header::new_gnu();
        header.set_size(600);
        header.set_mode(0o4755);
        tar.append_data(&mut header, name, &[b'x'; 600][..]).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn members_and_their_bytes() {
    let bytes = archive();
    let mut reader = TarReader::new(bytes.as_slice());
    let first = reader.next().unwrap().unwrap();
    assert_eq!(
        (first.path.as_slice(), first.kind, first.mode, first.size),
        (&b"first"[..], MemberKind::File, 0o4755, 600)
    );
    // The first one's bytes are not read at all, the second one's are.
    let second = reader.next().unwrap().unwrap();
    let mut sum = 0;
    reader
        .data(&second, &mut |offset, run| {
            assert_eq!(offset, sum);
            sum += run.len() as u64;
            Ok(())
        })
        .unwrap();
    assert_eq!(sum, 600);
    assert_eq!(reader.next().unwrap(), None);
    reader.finish().unwrap();
}

#[test]
fn every_cut_is_noticed() {
    let bytes = archive();
    // The last block of the end mark is not needed to know that nothing is missing.
    for length in 0..bytes.len() - 512 {
        let mut reader = TarReader::new(&bytes[..length]);
        let end = loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "cut at {length}");
    }
}

#[test]
fn check_sums_are_checked() {
    let mut bytes = archive();
    bytes[3] ^= 1;
    assert!(TarReader::new(bytes.as_slice()).next().is_err());
}
