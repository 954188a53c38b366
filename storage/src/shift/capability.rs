//! File capabilities (`security.capability`): version 2 counts for the root of the initial user namespace, version 3
//! names the host's id of the root that it counts for.

/// The attribute's name.
pub(super) const NAME: &str = "security.capability";

const VERSION_MASK: u32 = 0xFF00_0000;
const V2: u32 = 0x0200_0000;
const V3: u32 = 0x0300_0000;

/// The capability for the moved root. Versions that we do not know stay as they are.
pub(super) fn moved(value: &[u8], id: impl Fn(u32) -> u32) -> Vec<u8> {
    let word = |at: usize| value.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(u32::from_le_bytes);
    let Some(magic) = word(0) else { return value.to_vec() };
    let root = match (magic & VERSION_MASK, value.len()) {
        (V2, 20) => 0,
        (V3, 24) => word(20).unwrap_or(0),
        _ => return value.to_vec(),
    };
    let (root, flags) = (id(root), magic & !VERSION_MASK);
    let mut out = (if root == 0 { V2 } else { V3 } | flags).to_le_bytes().to_vec();
    out.extend_from_slice(&value[4..20]);
    if root != 0 {
        out.extend_from_slice(&root.to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let v2 = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let v3 = moved(&v2, |id| id + 100_000);
        assert_eq!(v3.len(), 24);
        assert_eq!(v3[..4], [1, 0, 0, 3]);
        assert_eq!(v3[20..], 100_000u32.to_le_bytes());
        assert_eq!(moved(&v3, |id| id - 100_000), v2);
        assert_eq!(moved(&[1, 2], |id| id + 1), [1, 2]);
    }
}
