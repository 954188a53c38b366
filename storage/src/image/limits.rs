//! How much an image may hold. The point is not taste but that no upload can fill a disk or the agent's memory.

/// Bounds on what is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all files together, at most. A pool lowers it to its free space.
    pub bytes: u64,
    /// Unpacked bytes per packed byte, at most, once `ratio_floor` is passed.
    pub ratio: u64,
    /// Up to here the ratio is not asked: small honest archives may pack well.
    pub ratio_floor: u64,
    /// Entries, at most.
    pub entries: u64,
    /// Folders inside folders, at most.
    pub depth: usize,
    /// Bytes of one path, at most.
    pub path: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { bytes: u64::MAX, ratio: 100, ratio_floor: 512 << 20, entries: 2_000_000, depth: 128, path: 4095 }
    }
}

impl Limits {
    /// Bytes that an archive of `packed` bytes may unpack to.
    pub fn allowed(&self, packed: u64) -> u64 {
        self.bytes.min(packed.saturating_mul(self.ratio).max(self.ratio_floor))
    }
}
