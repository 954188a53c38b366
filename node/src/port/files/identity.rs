//! Doing something to files as a guest's root.
//!
//! What is made on a mount with an id map must belong to an id of the map, else the kernel refuses (`EOVERFLOW`). So the
//! thread takes the host's id of the guest's root for file access alone (`setfsuid`, which is per thread), and keeps the
//! capabilities by which root passes over modes, which the kernel takes away with the id. What that would allow beyond
//! the guest's own rights, the caller refuses (`root`).

use std::io;

use nix::unistd::{Gid, Uid, getegid, geteuid, setfsgid, setfsuid};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// Does `work` with this owner's rights and root's power over modes. The thread is itself again afterwards, also after a
/// panic.
pub(super) fn act_as<T>(uid: u32, gid: u32, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let me = (geteuid(), getegid());
    let wanted = (Uid::from_raw(uid), Gid::from_raw(gid));
    // Not root: then files are our own whatever is asked for, as in a developer's test.
    if me == wanted || (uid == 0 && !me.0.is_root()) {
        return work();
    }
    let _mask = Mask::put_on(me, wanted)?;
    work()
}

struct Mask {
    me: (Uid, Gid),
    powers: CapabilitySets,
}

impl Mask {
    fn put_on(me: (Uid, Gid), (uid, gid): (Uid, Gid)) -> io::Result<Mask> {
        let powers = capabilities(None)?;
        let mask = Mask { me, powers };
        setfsgid(gid);
        setfsuid(uid);
        // Each call tells the id that was in force before it, and nothing about success.
        if setfsgid(gid) != gid || setfsuid(uid) != uid {
            return Err(Errno::PERM.into());
        }
        let over_modes = CapabilitySet::CHOWN
            | CapabilitySet::DAC_OVERRIDE
            | CapabilitySet::DAC_READ_SEARCH
            | CapabilitySet::FOWNER
            | CapabilitySet::FSETID;
        let effective = capabilities(None)?.effective | (over_modes & powers.permitted);
        set_capabilities(None, CapabilitySets { effective, ..powers })?;
        Ok(mask)
    }
}

impl Drop for Mask {
    fn drop(&mut self) {
        setfsuid(self.me.0);
        setfsgid(self.me.1);
        let back = set_capabilities(None, self.powers);
        let (uid, gid) = (setfsuid(self.me.0), setfsgid(self.me.1));
        // Taking back one's own ids and permitted capabilities cannot fail; a thread that is another must not go on.
        assert!(back.is_ok() && (uid, gid) == self.me, "a thread could not become itself again: {back:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_is_itself_again() {
        if !geteuid().is_root() {
            println!("skipped: not root");
            return;
        }
        let before = capabilities(None).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        act_as(1_000_000, 1_000_001, || {
            // Over modes, as root.
            std::fs::write(file.path(), "x")?;
            std::fs::write(dir.path().join("made"), "x")
        })
        .unwrap();
        let made = std::fs::metadata(dir.path().join("made")).unwrap();
        use std::os::unix::fs::MetadataExt;
        assert_eq!((made.uid(), made.gid()), (1_000_000, 1_000_001));
        let panicked = std::panic::catch_unwind(|| act_as(5, 5, || -> io::Result<()> { panic!("thud") }));
        assert!(panicked.is_err());
        std::fs::write(dir.path().join("ours"), "x").unwrap();
        assert_eq!(std::fs::metadata(dir.path().join("ours")).unwrap().uid(), 0);
        assert_eq!(capabilities(None).unwrap(), before);
    }
}
