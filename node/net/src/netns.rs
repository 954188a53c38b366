//! A look into the network namespace of another process.
//!
//! Entering a namespace changes a thread for good, so it is done on a thread of its own that ends
//! afterwards; the threads of the async runtime never move.

use std::{fs::File, io, thread};

use nix::sched::{CloneFlags, setns};
use tokio::sync::oneshot;

use crate::{Error, Link, netlink};

/// The interfaces, with addresses and counters, in the network namespace of process `pid`: of a
/// container, its init. The caller makes sure that the number still means that process.
pub async fn netns_addresses(pid: u32) -> Result<Vec<Link>, Error> {
    let failed = |step, source| Error::Namespace { pid, step, source };
    let (answer, reply) = oneshot::channel();
    thread::Builder::new()
        .name("netns".to_owned())
        .spawn(move || {
            // A caller that went away wants no answer.
            let _ = answer.send(look(pid));
        })
        .map_err(|source| failed("start a thread to list the interfaces", source))?;
    let lost = |_| failed("list the interfaces", io::Error::other("the thread died"));
    reply.await.map_err(lost)?.map_err(|(step, source)| failed(step, source))
}

fn look(pid: u32) -> Result<Vec<Link>, (&'static str, io::Error)> {
    let namespace = File::open(format!("/proc/{pid}/ns/net")).map_err(|error| ("open the network namespace", error))?;
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| ("enter the network namespace", errno.into()))?;
    let list = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(netlink::links())
    };
    list().map_err(|error| ("list the interfaces", error))
}
