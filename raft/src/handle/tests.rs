//! A member on a disk that fills up: a small tmpfs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use basalt_model::command::ProjectCommand;
use basalt_model::member::{Announcement, Duty, Health, Member};
use basalt_model::project::Project;
use basalt_model::{Generation, MemberName, ProjectName, Timestamp};
use basalt_runtime::Shutdown;
use tempfile::TempDir;

use super::*;
use crate::pki;

const SIZE: u64 = 1 << 20;
const SEGMENT: u64 = 128 << 10;

/// A file system of `SIZE` bytes that goes with this.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, said aloud, where it cannot be mounted.
    fn mount() -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let options = format!("size={SIZE},mode=0700");
        let flags = nix::mount::MsFlags::empty();
        match nix::mount::mount(Some("tmpfs"), dir.path(), Some("tmpfs"), flags, Some(options.as_str())) {
            Ok(()) => Some(SmallDisk(dir)),
            Err(error) => {
                println!("skipped: a tmpfs cannot be mounted here: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all space that is left.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[7; 512]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

async fn open(dir: &Path) -> Arc<RaftCluster> {
    let options = Options {
        segment_bytes: SEGMENT,
        snapshot_every: 100_000,
        ..Options::new(dir.join("raft"), dir.join("identity"))
    };
    let supervisor = Supervisor::new(Shutdown::new());
    let began = Instant::now();
    loop {
        match RaftCluster::open(options.clone(), &supervisor, &prometheus::Registry::new()).await {
            Err(Error::InUse(_)) if began.elapsed() < Duration::from_secs(10) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            opened => return opened.unwrap(),
        }
    }
}

async fn bootstrapped(dir: &Path) -> Arc<RaftCluster> {
    let cluster = open(dir).await;
    let cluster_id = uuid::Uuid::from_u128(7);
    let secrets = pki::make_secrets(cluster_id, &[]).unwrap();
    let name = MemberName::new("node1").unwrap();
    let request = pki::node_request(&name).unwrap();
    let certificate = pki::sign_node(&secrets, &request.csr, NodeId(1), &name).unwrap();
    let member = Member {
        id: NodeId(1),
        name,
        certificate: pki::fingerprint(&certificate).unwrap(),
        certificate_pem: certificate.clone(),
        joined_at: Timestamp(1),
        redeemed: None,
        awaited: false,
        duty: Duty::Active,
        order: None,
        health: Health::Online,
        failure_domain: String::new(),
        description: String::new(),
        groups: Default::default(),
        roles: Default::default(),
        config: Default::default(),
        announced: Announcement { feature_level: 1, ..Announcement::default() },
    };
    let ca_certificate = secrets.ca_certificate.clone();
    let identity = NodeIdentity { node_id: NodeId(1), cluster_id, key: request.key, certificate, ca_certificate };
    cluster.bootstrap(Init { cluster_id, secrets, member, at: Timestamp(1) }, identity).await.unwrap();
    cluster
}

fn name(i: usize) -> ProjectName {
    ProjectName::new(format!("p{i}")).unwrap()
}

async fn write(cluster: &RaftCluster, i: usize) -> Result<Applied, ProposeError> {
    let project = Project {
        name: name(i),
        description: "x".repeat(3000),
        config: BTreeMap::new(),
        created_at: Timestamp(1),
        generation: Generation(1),
    };
    cluster.propose(Command::Project(ProjectCommand::Add(project))).await
}

/// Writes until it is refused; says how often it was acknowledged.
async fn write_until_refused(cluster: &RaftCluster, from: usize) -> (usize, ProposeError) {
    for i in from.. {
        if let Err(refused) = write(cluster, i).await {
            return (i, refused);
        }
    }
    unreachable!("it is refused at some point")
}

async fn heals(cluster: &RaftCluster, next: usize) {
    let began = Instant::now();
    while let Err(error) = write(cluster, next).await {
        assert!(began.elapsed() < Duration::from_secs(15), "not healed: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_with_the_reason_and_heals() {
    let Some(disk) = SmallDisk::mount() else { return };
    let cluster = bootstrapped(disk.path()).await;
    write(&cluster, 0).await.unwrap();
    let ballast = disk.fill();
    let (acknowledged, refused) = write_until_refused(&cluster, 1).await;
    assert!(matches!(&refused, ProposeError::Storage(why) if why.contains("No space")), "{refused}");
    assert!(cluster.linearizable().await.is_ok(), "reading goes on");
    assert!(cluster.leadership().borrow().mine, "and it is still there");
    let (again, _) = write_until_refused(&cluster, acknowledged).await;
    assert_eq!(again, acknowledged);
    std::fs::remove_file(ballast).unwrap();
    heals(&cluster, acknowledged).await;
    cluster.shutdown().await;
    drop(cluster);
    let cluster = open(disk.path()).await;
    let view = cluster.linearizable().await.unwrap();
    assert!((0..=acknowledged).all(|i| view.projects.contains_key(&name(i))), "nothing acknowledged is lost");
    assert_eq!(view.projects.len(), acknowledged + 2, "nothing refused has happened");
    cluster.shutdown().await;
}

/// What is kept for the engine's own entries is used up too: the engine stops, and starts again when there is space.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_so_full_that_the_engine_stops_heals_too() {
    let Some(disk) = SmallDisk::mount() else { return };
    let cluster = bootstrapped(disk.path()).await;
    let ballast = disk.fill();
    let (acknowledged, _) = write_until_refused(&cluster, 0).await;
    let core = cluster.core().unwrap();
    while core.raft.write_blank().await.is_ok() {}
    let began = Instant::now();
    while cluster.core().is_ok() {
        assert!(began.elapsed() < Duration::from_secs(10), "the engine has not stopped");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = write(&cluster, acknowledged).await.unwrap_err();
    assert!(matches!(refused, ProposeError::Storage(_)), "{refused}");
    assert!(cluster.view().projects.contains_key(&name(acknowledged - 1)), "still readable");
    drop(core);
    std::fs::remove_file(ballast).unwrap();
    heals(&cluster, acknowledged).await;
    let view = cluster.linearizable().await.unwrap();
    assert!((0..=acknowledged).all(|i| view.projects.contains_key(&name(i))), "nothing acknowledged is lost");
    cluster.shutdown().await;
}
