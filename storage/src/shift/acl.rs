//! POSIX ACLs as extended attributes: a version, then entries of tag, permissions and id.

/// The attributes that hold one.
pub(super) const NAMES: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];

const VERSION: [u8; 4] = [2, 0, 0, 0];
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;

/// The ACL with its ids moved; `None` when nothing changes, or when it is not one that we know.
pub(super) fn moved(value: &[u8], id: impl Fn(u32) -> u32) -> Option<Vec<u8>> {
    let entries = value.strip_prefix(&VERSION)?;
    if entries.len() % 8 != 0 {
        return None;
    }
    let mut out = VERSION.to_vec();
    for entry in entries.chunks_exact(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let old = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let new = if tag == USER || tag == GROUP { id(old) } else { old };
        out.extend_from_slice(&entry[..4]);
        out.extend_from_slice(&new.to_le_bytes());
    }
    (out != value).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_entries_move() {
        let owner = [1, 0, 6, 0, 255, 255, 255, 255];
        let user = [2, 0, 4, 0, 232, 3, 0, 0];
        let group = [8, 0, 4, 0, 1, 0, 0, 0];
        let acl = [&VERSION[..], &owner, &user, &group].concat();
        let found = moved(&acl, |id| id + 0x10000).unwrap();
        assert_eq!(found[4..12], owner);
        assert_eq!(found[12..20], [2, 0, 4, 0, 232, 3, 1, 0]);
        assert_eq!(found[20..28], [8, 0, 4, 0, 1, 0, 1, 0]);
        assert_eq!(moved(&acl, |id| id), None);
        assert_eq!(moved(&acl[..9], |id| id + 1), None);
        assert_eq!(moved(&[], |id| id + 1), None);
    }
}
