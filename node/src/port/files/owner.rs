//! Ids of a guest's files: as the guest knows them, and as the host does.

use std::io;

use rustix::io::Errno;

/// What a guest sees of an owner that it does not know.
const NOBODY: u32 = 65_534;

/// A run of ids: `inside..inside + count` in the guest are `outside..outside + count` here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    inside: u32,
    outside: u32,
    count: u32,
}

/// The user ids, or the group ids, that a guest knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ids(Vec<Run>);

impl Ids {
    /// The guest's are the host's.
    pub(super) fn same() -> Self {
        Ids(vec![Run { inside: 0, outside: 0, count: u32::MAX }])
    }

    /// The guest's ids from 0 are `count` of the host's from `base`.
    pub(super) fn range(base: u32, count: u32) -> Self {
        Ids(vec![Run { inside: 0, outside: base, count }])
    }

    /// Reads `/proc/PID/uid_map` or `gid_map`.
    pub(super) fn parse(text: &str) -> io::Result<Self> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "an id map of the kernel makes no sense");
        let run = |line: &str| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            match (numbers.next(), numbers.next(), numbers.next()) {
                (Some(Ok(inside)), Some(Ok(outside)), Some(Ok(count))) => Ok(Run { inside, outside, count }),
                _ => Err(bad()),
            }
        };
        text.lines().map(run).collect::<Result<_, _>>().map(Ids)
    }

    /// The guest's id of a host's.
    pub(super) fn inside(&self, outside: u32) -> Option<u32> {
        let run = self.0.iter().find(|run| outside >= run.outside && outside - run.outside < run.count)?;
        run.inside.checked_add(outside - run.outside)
    }

    /// The host's id of a guest's.
    pub(super) fn outside(&self, inside: u32) -> io::Result<u32> {
        let run = self.0.iter().find(|run| inside >= run.inside && inside - run.inside < run.count);
        let id = run.and_then(|run| run.outside.checked_add(inside - run.inside));
        id.ok_or_else(|| Errno::INVAL.into())
    }

    /// What the guest sees as the owner.
    pub(super) fn shown(&self, outside: u32) -> u32 {
        self.inside(outside).unwrap_or(NOBODY)
    }
}

/// Users and groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owners {
    pub(super) uids: Ids,
    pub(super) gids: Ids,
}

impl Owners {
    /// Whether the guest knows both owners of a file: then its root may do anything to it.
    pub(super) fn know(&self, uid: u32, gid: u32) -> bool {
        self.uids.inside(uid).is_some() && self.gids.inside(gid).is_some()
    }

    /// The guest's root on this host.
    pub(super) fn root(&self) -> io::Result<(u32, u32)> {
        Ok((self.uids.outside(0)?, self.gids.outside(0)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_both_ways() {
        let ids = Ids::parse("         0    1000000      1000\n      1000 1000 1\n      1001    1001001      64535\n")
            .unwrap();
        for (inside, outside) in [(0, 1_000_000), (999, 1_000_999), (1000, 1000), (1001, 1_001_001)] {
            assert_eq!(ids.outside(inside).unwrap(), outside);
            assert_eq!(ids.inside(outside), Some(inside));
        }
        assert_eq!((ids.inside(0), ids.shown(0), ids.shown(1_001_000)), (None, NOBODY, NOBODY));
        assert!(ids.outside(65_536).is_err());
        assert_eq!(Ids::same().outside(77).unwrap(), 77);
        assert_eq!(Ids::range(1_000_000, 65_536).inside(1_065_536), None);
        assert!(Ids::parse("0 x 1").is_err());
    }
}
