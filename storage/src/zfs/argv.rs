//! Every command that this driver runs, as pure functions. The golden test shows them all.

use std::path::Path;
use std::time::Duration;

use basalt_runtime::Invocation;

use super::Flavour;
use super::names::{Dataset, text};

const QUICK: Duration = Duration::from_secs(60);
/// Scans devices, writes labels, replays logs.
const POOL: Duration = Duration::from_secs(180);
/// Frees blocks while others write.
const DESTROY: Duration = Duration::from_secs(300);

/// A property and its value.
pub(super) type Property<'a> = (&'a str, &'a str);

fn zfs(verb: &str) -> Invocation {
    Invocation::new("zfs").arg(verb).deadline(QUICK)
}

fn zpool(verb: &str) -> Invocation {
    Invocation::new("zpool").arg(verb).deadline(POOL)
}

fn options(invocation: Invocation, flag: &str, properties: &[Property<'_>]) -> Invocation {
    properties.iter().fold(invocation, |all, (name, value)| all.arg(flag).arg(format!("{name}={value}")))
}

/// Whether anybody answers.
pub(super) fn ping() -> Invocation {
    Invocation::new("zpool").args(["list", "-H", "-o", "name"]).deadline(Duration::from_secs(20))
}

pub(super) fn health(pool: &str) -> Invocation {
    Invocation::new("zpool").args(["list", "-H", "-o", "health", pool]).deadline(QUICK)
}

pub(super) fn create_pool(flavour: Flavour, pool: &str, vdev: &Path, stamps: &[Property<'_>]) -> Invocation {
    let mut command = zpool("create").args(["-o", "cachefile=none"]);
    let common = [("canmount", "off"), ("mountpoint", "none"), ("devices", "off"), ("atime", "off")];
    let own: &[Property<'_>] = match flavour {
        Flavour::Kernel => {
            command = command.args(["-o", "ashift=12"]);
            &[("xattr", "sa"), ("acltype", "posixacl"), ("compression", "on")]
        }
        Flavour::Fuse => &[("xattr", "on")],
    };
    for properties in [&common[..], own, stamps] {
        command = options(command, "-O", properties);
    }
    command.arg(pool).arg(text(vdev))
}

/// `folder` holds the pool's file or device, or links to it.
pub(super) fn import_pool(flavour: Flavour, pool: &str, folder: &Path) -> Invocation {
    let command = zpool("import").args(["-o", "cachefile=none", "-d"]).arg(text(folder));
    match flavour {
        Flavour::Kernel => command.args(["-N", pool]),
        // It knows no -N, and mounts nothing of ours by itself as all is `noauto`.
        Flavour::Fuse => command.arg(pool),
    }
}

pub(super) fn destroy_pool(pool: &str) -> Invocation {
    zpool("destroy").arg(pool)
}

/// Properties of a dataset, or of all below it too.
pub(super) fn get(dataset: &str, recursive: bool, properties: &[&str]) -> Invocation {
    let command = zfs("get").args(["-H", "-p"]);
    let command = if recursive { command.arg("-r") } else { command };
    command.args(["-o", "name,property,value,source"]).arg(properties.join(",")).arg(dataset)
}

/// A dataset that only holds others.
pub(super) fn create_folder(dataset: &str) -> Invocation {
    zfs("create").args(["-o", "canmount=off", "-o", "mountpoint=none", dataset])
}

pub(super) fn create(dataset: &Dataset, properties: &[Property<'_>]) -> Invocation {
    mounted(zfs("create"), dataset, properties).arg(&dataset.name)
}

pub(super) fn clone(snapshot: &str, dataset: &Dataset, properties: &[Property<'_>]) -> Invocation {
    mounted(zfs("clone"), dataset, properties).arg(snapshot).arg(&dataset.name)
}

/// A clone that is not to be mounted as long as it has this name.
pub(super) fn clone_unmounted(snapshot: &str, dataset: &str, properties: &[Property<'_>]) -> Invocation {
    let command = zfs("clone").args(["-o", "canmount=noauto", "-o", "mountpoint=none"]);
    options(command, "-o", properties).args([snapshot, dataset])
}

fn mounted(command: Invocation, dataset: &Dataset, properties: &[Property<'_>]) -> Invocation {
    let mount = text(&dataset.mount);
    let command = options(command, "-o", &[("canmount", "noauto"), ("mountpoint", &mount)]);
    options(command, "-o", properties)
}

pub(super) fn set(dataset: &str, property: Property<'_>) -> Invocation {
    zfs("set").arg(format!("{}={}", property.0, property.1)).arg(dataset)
}

pub(super) fn inherit(dataset: &str, property: &str) -> Invocation {
    zfs("inherit").args([property, dataset])
}

pub(super) fn snapshot(snapshot: &str) -> Invocation {
    zfs("snapshot").arg(snapshot)
}

/// Takes the dataset back to its newest snapshot.
pub(super) fn rollback(snapshot: &str) -> Invocation {
    zfs("rollback").arg(snapshot).deadline(DESTROY)
}

pub(super) fn rename(from: &str, to: &str) -> Invocation {
    zfs("rename").args([from, to])
}

pub(super) fn mount(dataset: &str) -> Invocation {
    zfs("mount").arg(dataset)
}

pub(super) fn unmount(dataset: &str) -> Invocation {
    zfs("unmount").arg(dataset)
}

/// The dataset with its snapshots and all below it; never clones of them.
pub(super) fn destroy(dataset: &str) -> Invocation {
    zfs("destroy").args(["-r", dataset]).deadline(DESTROY)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line a command. `BASALT_BLESS=1` rewrites the file.
    #[test]
    fn golden() {
        let volume = Dataset { name: "p/instances/i".into(), mount: "/s/instances/i".into() };
        let stamps = [("basalt:member", "n1"), ("basalt:pool", "default")];
        let image = Path::new("/s/disks/default.img");
        let all = [
            ping(),
            health("p"),
            create_pool(Flavour::Kernel, "p", image, &stamps),
            create_pool(Flavour::Fuse, "p", image, &stamps),
            import_pool(Flavour::Kernel, "p", Path::new("/s/disks")),
            import_pool(Flavour::Fuse, "p", Path::new("/s/disks")),
            destroy_pool("p"),
            get("p/instances/i", false, &["mounted", "basalt:epoch"]),
            get("p", true, &["used"]),
            create_folder("p/images"),
            create(&volume, &[("refquota", "1024")]),
            clone("p/images/f@readonly", &volume, &[("basalt:epoch", "3")]),
            clone_unmounted("p/instances/i@snap-s", "p/branches/i.next", &[("basalt:epoch", "3")]),
            set("p/instances/i", ("refquota", "none")),
            inherit("p", "basalt:pool"),
            snapshot("p/images/f@readonly"),
            rollback("p/instances/i@snap-s"),
            rename("p/images/f", "p/deleted/f"),
            mount("p/instances/i"),
            unmount("p/instances/i"),
            destroy("p/instances/i"),
        ];
        let found: String = all.iter().map(|command| format!("{} {:?}\n", command, command.deadline)).collect();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/zfs/argv.golden");
        if std::env::var_os("BASALT_BLESS").is_some() {
            std::fs::write(path, &found).unwrap();
        }
        assert_eq!(found, std::fs::read_to_string(path).unwrap());
    }
}
