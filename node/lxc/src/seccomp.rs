//! The system calls that no container may make, whatever its privileges: they act on the host's kernel, or reach files
//! outside of its own mounts. An LXC profile of the second version.

/// The profile's text. `lxc-start` translates it for every architecture that the kernel runs.
pub(crate) const PROFILE: &str = "\
2
denylist
reject_force_umount
[all]
# Another kernel, or code in this one.
kexec_load errno 1
kexec_file_load errno 1
init_module errno 1
finit_module errno 1
delete_module errno 1
# Opens files by number, past every mount and path check.
open_by_handle_at errno 1
# The host's clock-independent accounting, swap and process accounting.
swapon errno 1
swapoff errno 1
acct errno 1
";
