//! The keys themselves.

use super::{Check, Key};

const fn key(name: &'static str, check: Check, default: &'static str, help: &'static str) -> Key {
    Key { name, check, default, live: false, help }
}

const fn live(name: &'static str, check: Check, default: &'static str, help: &'static str) -> Key {
    Key { name, check, default, live: true, help }
}

/// Keys of instances and profiles.
pub const INSTANCE: &[Key] = &[
    key(
        "boot.autorestart",
        Check::Bool,
        "false",
        "Start the guest again when it ends by itself, at most 10 times a minute.",
    ),
    key(
        "boot.autostart",
        Check::Bool,
        "last state",
        "Start the guest when its host has booted; unset restores the last state.",
    ),
    key(
        "boot.autostart.delay",
        Check::Number(0, 3600),
        "0",
        "Seconds to wait after starting this guest before the next one.",
    ),
    key("boot.autostart.priority", Check::Number(0, 1_000_000), "0", "Guests with a higher number start first."),
    live(
        "boot.host_shutdown_timeout",
        Check::Number(0, 86_400),
        "30",
        "Seconds that the guest has to shut down when its member is evacuated; then it is ended.",
    ),
    key(
        "cloud-init.network-config",
        Check::Text,
        "",
        "Network configuration for cloud-init, through the image's templates.",
    ),
    key("cloud-init.user-data", Check::Text, "", "User data for cloud-init, through the image's templates."),
    key("cloud-init.vendor-data", Check::Text, "", "Vendor data for cloud-init, through the image's templates."),
    live(
        "cluster.evacuate",
        Check::OneOf(&["auto", "migrate", "stop", "force-stop"]),
        "auto",
        "What becomes of it when its member is evacuated: stopped, moved and started (migrate), stopped where it is (stop, \
         force-stop), or moved if another member can take it, else stopped (auto).",
    ),
    key("environment.*", Check::Text, "", "Environment of the guest's init and of programs run in it."),
    key("image.*", Check::Text, "", "Properties of the image that the instance was made from."),
    live("limits.cpu", Check::Cpu, "all", "How many CPUs (2) or which (0-3)."),
    live("limits.cpu.allowance", Check::Allowance, "100%", "Share under contention (50%) or hard quota (25ms/100ms)."),
    live(
        "limits.cpu.priority",
        Check::Number(0, 10),
        "10",
        "Who goes first among guests with the same share of the CPUs: the one with the higher number.",
    ),
    key("limits.kernel.as", Check::Rlimit, "the host's", "Limit of each process: bytes of address space."),
    key("limits.kernel.core", Check::Rlimit, "the host's", "Limit of each process: bytes of a core dump."),
    key("limits.kernel.cpu", Check::Rlimit, "the host's", "Limit of each process: seconds of CPU time."),
    key("limits.kernel.data", Check::Rlimit, "the host's", "Limit of each process: bytes of data."),
    key("limits.kernel.fsize", Check::Rlimit, "the host's", "Limit of each process: bytes of a file."),
    key("limits.kernel.locks", Check::Rlimit, "the host's", "Limit of each process: file locks."),
    key("limits.kernel.memlock", Check::Rlimit, "the host's", "Limit of each process: bytes locked in memory."),
    key(
        "limits.kernel.nice",
        Check::Rlimit,
        "the host's",
        "Limit of each process: how high the priority may be raised (20 minus the nice value).",
    ),
    key("limits.kernel.nofile", Check::Rlimit, "the host's", "Limit of each process: open files."),
    key("limits.kernel.nproc", Check::Rlimit, "the host's", "Limit of each process: processes of a user."),
    key("limits.kernel.rtprio", Check::Rlimit, "the host's", "Limit of each process: real-time priority."),
    key("limits.kernel.sigpending", Check::Rlimit, "the host's", "Limit of each process: pending signals."),
    live("limits.memory", Check::Memory, "all", "Size (512MiB) or share of the host's memory (50%)."),
    live(
        "limits.memory.enforce",
        Check::OneOf(&["hard", "soft"]),
        "hard",
        "Whether limits.memory always holds, or only while the host is short of memory.",
    ),
    key("limits.memory.swap", Check::Bool, "true", "Whether the guest's memory may be swapped out."),
    live("limits.processes", Check::Number(1, 4_194_304), "unlimited", "How many processes the guest may have."),
    key("linux.sysctl.*", Check::Text, "", "Settings of the guest's kernel, such as linux.sysctl.net.ipv4.ip_forward."),
    key("raw.lxc", Check::Text, "", "Lines for LXC's own configuration, last."),
    key("security.nesting", Check::Bool, "false", "Whether containers may be run inside."),
    key("security.privileged", Check::Bool, "false", "Whether root in the guest is root on the host."),
    live("security.protection.delete", Check::Bool, "false", "Refuse to delete the instance."),
    live("snapshots.expiry", Check::Span, "never", "When snapshots are removed by themselves (3d, 4w)."),
    live("snapshots.pattern", Check::Text, "snap%d", "How snapshots without a name are called; %d is a number."),
    live("snapshots.schedule", Check::Schedule, "never", "When snapshots are taken by themselves (@daily)."),
    live("snapshots.schedule.stopped", Check::Bool, "false", "Whether they are taken of a stopped instance too."),
    live("user.*", Check::Text, "", "Free for users."),
    live("volatile.*", Check::Text, "", "Set by Basalt itself."),
];

/// Cluster-wide keys (`GET /1.0`).
pub const CLUSTER: &[Key] = &[
    live(
        "cluster.images_minimal_replica",
        Check::OneOf(&["-1", "1", "2", "3", "4", "5", "6", "7", "8", "9"]),
        "3",
        "How many members hold a copy of each image; -1 for all of them.",
    ),
    live("cluster.join_token_expiry", Check::Expiry, "3H", "How long a join token can be redeemed."),
    live("cluster.max_voters", Check::OneOf(&["3", "5"]), "3", "How many members vote in the Raft group."),
    live(
        "cluster.offline_threshold",
        Check::Number(5, 3600),
        "20",
        "Seconds of silence after which a member counts as offline.",
    ),
    live("core.metrics_authentication", Check::Bool, "true", "Whether /1.0/metrics needs a trusted certificate."),
    live("core.remote_token_expiry", Check::Expiry, "none", "How long a trust token can be redeemed."),
    live(
        "images.auto_update_cached",
        Check::Bool,
        "true",
        "Whether images that came with an instance are kept current.",
    ),
    live(
        "images.auto_update_interval",
        Check::Number(0, 8760),
        "6",
        "Hours between looks for newer images at their sources; 0 for never.",
    ),
    live(
        "images.remote_allowed_addresses",
        Check::Networks,
        "none",
        "Networks in which image servers may be though they are loopback or link-local (127.0.0.0/8,fe80::/10).",
    ),
    live(
        "images.remote_cache_expiry",
        Check::Number(0, 36_500),
        "10",
        "Days after which an image that came with an instance goes again when unused; 0 for never.",
    ),
    live("images.remote_size_limit", Check::Size, "20GiB", "Largest image that is pulled from another server."),
    live(
        "network.ovn.ca_cert",
        Check::Text,
        "none",
        "Certificate (PEM) of the authority that signed those of OVN's databases.",
    ),
    live("network.ovn.client_cert", Check::Text, "none", "Certificate (PEM) that is shown to OVN's databases."),
    live("network.ovn.client_key", Check::Text, "none", "The key (PEM) of that certificate."),
    live(
        "network.ovn.northbound_connection",
        Check::Remotes,
        "none",
        "Where OVN's northbound database is; networks of type ovn need it.",
    ),
    live("user.*", Check::Text, "", "Free for users."),
];

/// Keys of members.
pub const MEMBER: &[Key] = &[
    live(
        "core.dns_address",
        Check::Listen,
        "none",
        "Where the member gives network zones to their peers; on port 53 unless another is said.",
    ),
    live(
        "scheduler.instance",
        Check::OneOf(&["all", "group", "manual"]),
        "all",
        "Who may place instances here: the scheduler, only requests for one of its groups, or only requests for it by name.",
    ),
    live("user.*", Check::Text, "", "Free for users."),
];

/// Keys of bridge networks.
pub const NETWORK: &[Key] = &[
    live("bridge.mtu", Check::Number(576, 65_535), "1500", "MTU of the bridge."),
    live("dns.domain", Check::Domain, "basalt", "Domain of the names that DHCP clients get."),
    live("dns.zone.forward", Check::Domains, "none", "Zones that tell of its names, at most one of each project."),
    live("dns.zone.reverse.ipv4", Check::Domain, "none", "Zone that tells of its IPv4 addresses."),
    live("dns.zone.reverse.ipv6", Check::Domain, "none", "Zone that tells of its IPv6 addresses."),
    live("ipv4.address", Check::Subnet4, "auto", "The bridge's address and prefix; auto picks a free private subnet."),
    live("ipv4.dhcp", Check::Bool, "true", "Whether DHCP is served."),
    live("ipv4.dhcp.expiry", Check::Text, "1h", "How long a DHCP lease lasts."),
    live("ipv4.dhcp.ranges", Check::Ranges4, "the whole subnet", "Addresses that DHCP gives out."),
    live("ipv4.nat", Check::Bool, "true when the address is auto", "Whether traffic to other networks is masqueraded."),
    live("ipv4.ovn.ranges", Check::Ranges4, "none", "Addresses for the routers of logical networks on this bridge."),
    live("ipv6.address", Check::Subnet6, "none", "The bridge's IPv6 address and prefix."),
    live("ipv6.nat", Check::Bool, "false", "Whether IPv6 traffic to other networks is masqueraded."),
    live(
        "security.acls",
        Check::Text,
        "none",
        "Access control lists, with commas between, for what crosses between the bridge and all beyond it, its member \
         included. Guests of one bridge reach each other as before. Their rules may be about addresses only.",
    ),
    live("security.acls.default.egress.action", ACTION, "reject", "What becomes of the rest of what guests send."),
    live("security.acls.default.egress.logged", Check::Bool, "false", "Whether that is logged, by the kernel."),
    live("security.acls.default.ingress.action", ACTION, "reject", "What becomes of the rest of what is sent to them."),
    live("security.acls.default.ingress.logged", Check::Bool, "false", "Whether that is logged, by the kernel."),
    live("user.*", Check::Text, "", "Free for users."),
];

/// Keys of logical networks.
pub const NETWORK_OVN: &[Key] = &[
    live("bridge.mtu", Check::Number(576, 65_535), "1442", "MTU of the network's interfaces."),
    live("dns.domain", Check::Domain, "basalt", "Domain of the names of instances."),
    live("dns.zone.forward", Check::Domains, "none", "Zones that tell of its names, at most one of each project."),
    live("dns.zone.reverse.ipv4", Check::Domain, "none", "Zone that tells of its IPv4 addresses."),
    live("dns.zone.reverse.ipv6", Check::Domain, "none", "Zone that tells of its IPv6 addresses."),
    live("ipv4.address", Check::Subnet4, "auto", "The router's address and prefix; auto picks a free private subnet."),
    live("ipv4.dhcp", Check::Bool, "true", "Whether DHCP is served."),
    live("ipv4.dhcp.ranges", Check::Ranges4, "the whole subnet", "Addresses that instances get."),
    live("ipv4.nat", Check::Bool, "true when the address is auto", "Whether traffic leaves with the router's address."),
    live("ipv6.address", Check::Subnet6, "auto", "The router's IPv6 address and prefix."),
    live("ipv6.nat", Check::Bool, "true when the address is auto", "The same for IPv6."),
    live("network", Check::NetworkName, "the only physical network", "The uplink, or none for an isolated network."),
    live(
        "security.acls",
        Check::Text,
        "none",
        "Access control lists that all interfaces on the network have, with commas between.",
    ),
    live(
        "security.acls.default.egress.action",
        ACTION,
        "reject",
        "What becomes of traffic from interfaces with lists.",
    ),
    live("security.acls.default.egress.logged", Check::Bool, "false", "Whether that is logged."),
    live("security.acls.default.ingress.action", ACTION, "reject", "What becomes of traffic to interfaces with lists."),
    live("security.acls.default.ingress.logged", Check::Bool, "false", "Whether that is logged."),
    live("user.*", Check::Text, "", "Free for users."),
    live("volatile.network.ipv4.address", Check::Text, "", "The router's address on the uplink; shown only."),
    live("volatile.network.ipv6.address", Check::Text, "", "The same of IPv6."),
];

/// Keys of uplinks.
pub const NETWORK_PHYSICAL: &[Key] = &[
    live("dns.nameservers", Check::Addresses, "none", "Name servers for instances on logical networks behind it."),
    live("ipv4.gateway", Check::Gateway4, "none", "The next hop, with the prefix length of the subnet there."),
    live("ipv4.ovn.ranges", Check::Ranges4, "none", "Addresses for the routers of logical networks."),
    live("ipv4.routes", Check::Networks4, "none", "More subnets that are routed here."),
    live("ipv6.gateway", Check::Gateway6, "none", "The next hop of IPv6, with its prefix length."),
    live("ipv6.ovn.ranges", Check::Ranges6, "the whole subnet", "IPv6 addresses for the routers of logical networks."),
    live("ipv6.routes", Check::Networks6, "none", "More IPv6 subnets that are routed here."),
    live(
        "ovn.ingress_mode",
        Check::OneOf(&["l2proxy", "routed"]),
        "l2proxy",
        "Whether routers answer for the addresses behind them (l2proxy), or the next hop has routes to them.",
    ),
    key("parent", Check::Interface, "", "The interface, or Open vSwitch bridge, of every member that leads out."),
    live("user.*", Check::Text, "", "Free for users."),
];

/// Keys of devices of type `nic`.
pub const NIC: &[Key] = &[
    key("hwaddr", Check::Text, "drawn once", "The interface's hardware address."),
    key("ipv4.address", Check::Addresses, "chosen by the network", "The address that DHCP gives to it."),
    live("ipv4.routes", Check::Networks4, "none", "Subnets behind the instance; networks of type ovn."),
    live("ipv4.routes.external", Check::Networks4, "none", "The same, known to the uplink too."),
    key("ipv6.address", Check::Addresses, "chosen by the network", "Its IPv6 address."),
    live("ipv6.routes", Check::Networks6, "none", "IPv6 subnets behind the instance; networks of type ovn."),
    live("ipv6.routes.external", Check::Networks6, "none", "The same, known to the uplink too."),
    live("limits.egress", Check::Rate, "unlimited", "How much the instance may send; what is more is dropped."),
    live("limits.ingress", Check::Rate, "unlimited", "How much it may receive."),
    live("limits.max", Check::Rate, "unlimited", "Both at once; takes the place of the two."),
    live(
        "limits.priority",
        Check::Number(0, 4_294_967_295),
        "0",
        "Priority, for the host's queues, of what the instance sends; bridges only.",
    ),
    key("mtu", Check::Number(576, 65_535), "the network's", "MTU of the interface in the instance."),
    key("name", Check::Interface, "the next free ethN", "What the instance calls it."),
    key("network", Check::NetworkName, "", "The managed network that it is on."),
    key("nictype", Check::OneOf(&["bridged"]), "", "With parent, in place of network."),
    key("parent", Check::Interface, "", "A bridge that the member has, in place of network."),
    live(
        "security.acls",
        Check::Text,
        "none",
        "Access control lists beside those of the network. On a bridge they are about what crosses between it and all \
         beyond it; the interface must have ipv4.address, and is held to its addresses.",
    ),
    live("security.acls.default.egress.action", ACTION, "the network's", "What becomes of the rest of what it sends."),
    live("security.acls.default.egress.logged", Check::Bool, "the network's", "Whether that is logged."),
    live("security.acls.default.ingress.action", ACTION, "the network's", "The same of what it would receive."),
    live("security.acls.default.ingress.logged", Check::Bool, "the network's", "Whether that is logged."),
    live(
        "security.ipv4_filtering",
        Check::Bool,
        "false",
        "Drop what comes from other IPv4 addresses than ipv4.address, which must be set; bridges only, and with \
         security.mac_filtering.",
    ),
    live(
        "security.ipv6_filtering",
        Check::Bool,
        "false",
        "The same of IPv6; addresses that follow from the hardware address, and those of the link, are its own too.",
    ),
    live(
        "security.mac_filtering",
        Check::Bool,
        "true on type ovn",
        "Drop what comes from other hardware addresses; on networks of type ovn from other IP addresses too.",
    ),
    live("security.port_isolation", Check::Bool, "false", "Keep it from other isolated interfaces of the network."),
    key("type", Check::OneOf(&["nic"]), "", "Says that the device is an interface."),
    live("user.*", Check::Text, "", "Free for users."),
];

/// Keys of access control lists.
pub const ACL: &[Key] = &[live("user.*", Check::Text, "", "Free for users.")];

/// Keys of address sets.
pub const ADDRESS_SET: &[Key] = &[live("user.*", Check::Text, "", "Free for users.")];

/// Keys of network zones.
pub const ZONE: &[Key] = &[
    live("dns.nameservers", Check::Domains, "none", "The zone's name servers; most servers want at least one."),
    live("network.nat", Check::Bool, "true", "Whether it tells of subnets whose addresses are translated."),
    live(
        "peers.*",
        Check::Text,
        "",
        "Who may have the zone: peers.NAME.address is where it asks from, peers.NAME.key the secret (base64, HMAC-SHA256) \
         that it signs with; the name of the key is ZONE_NAME.",
    ),
    live("user.*", Check::Text, "", "Free for users."),
];

/// Keys of records of network zones.
pub const ZONE_RECORD: &[Key] = &[live("user.*", Check::Text, "", "Free for users.")];

/// Keys of forwards. On a bridge network a forward holds on each member that has the listening address.
pub const FORWARD: &[Key] = &[
    live("target_address", Check::Addresses, "none", "Where all goes that no port of the forward is about."),
    live("user.*", Check::Text, "", "Free for users."),
];

/// Keys of load balancers.
pub const BALANCER: &[Key] = &[
    live("healthcheck", Check::Bool, "false", "Whether backends that do not answer are left out."),
    live("healthcheck.failure_count", Check::Number(1, 100), "3", "Failed checks after which a backend is left out."),
    live("healthcheck.interval", Check::Number(1, 3600), "10", "Seconds between checks."),
    live("healthcheck.success_count", Check::Number(1, 100), "3", "Checks after which it is back."),
    live("healthcheck.timeout", Check::Number(1, 3600), "30", "Seconds after which a check has failed."),
    live("user.*", Check::Text, "", "Free for users."),
];

const ACTION: Check = Check::OneOf(&["allow", "allow-stateless", "drop", "reject"]);

/// Keys of storage pools.
pub const POOL: &[Key] = &[
    key("size", Check::Size, "a fifth of the free space", "Size of the loop file of a zfs pool; per member."),
    key(
        "source",
        Check::Text,
        "a loop file or folder of Basalt's own",
        "Path, device or dataset that holds the pool; per member.",
    ),
    key("zfs.pool_name", Check::Text, "basalt-<member>-<pool>", "Name of the zpool; per member."),
    live("user.*", Check::Text, "", "Free for users."),
];

/// Keys of projects.
pub const PROJECT: &[Key] = &[
    key(
        "features.images",
        Check::Bool,
        "false",
        "Whether the project has images and aliases of its own, and uses no others; fixed once it holds an instance or an \
         image. Not the default, so that projects can be used with the images that are there.",
    ),
    key(
        "features.networks",
        Check::Bool,
        "false",
        "Whether the project has networks, network ACLs and address sets of its own; fixed once it holds anything.",
    ),
    live("features.networks.zones", Check::Bool, "false", "Whether the project has network zones of its own."),
    key(
        "features.profiles",
        Check::Bool,
        "true",
        "Whether the project has profiles of its own; fixed once it has an instance or a profile but the default one.",
    ),
    key("features.storage.volumes", Check::OneOf(&["true"]), "true", "Each project has volumes of its own."),
    live("limits.containers", COUNT, "unlimited", "How many containers the project may hold."),
    live("limits.cpu", COUNT, "unlimited", "Sum of limits.cpu of its instances, which must all set it, as a count."),
    live("limits.disk", Check::Size, "unlimited", "Sum of the sizes of its root disks, which must all be set."),
    live("limits.disk.pool.*", Check::Size, "unlimited", "The same for one storage pool; 0 hides the pool."),
    live("limits.instances", COUNT, "unlimited", "How many instances the project may hold."),
    live("limits.memory", Check::Size, "unlimited", "Sum of limits.memory of its instances, which must all set it."),
    live("limits.networks", COUNT, "unlimited", "How many networks the project may hold."),
    live("limits.processes", COUNT, "unlimited", "Sum of limits.processes of its instances, which must all set it."),
    live("limits.virtual-machines", COUNT, "unlimited", "How many virtual machines the project may hold."),
    live(
        "restricted",
        Check::Bool,
        "false",
        "Block all that reaches beyond the project, but for what restricted.* allows.",
    ),
    live("restricted.backups", BLOCK, "block", "Backups of instances and volumes."),
    live("restricted.cluster.groups", Check::Text, "all", "The only cluster groups whose members may be used: a,b."),
    live("restricted.cluster.target", BLOCK, "block", "Choosing a member for an instance."),
    live("restricted.containers.lowlevel", BLOCK, "block", "Keys such as raw.lxc."),
    live("restricted.containers.nesting", BLOCK, "block", "security.nesting."),
    live(
        "restricted.containers.privilege",
        Check::OneOf(&["allow", "unprivileged"]),
        "unprivileged",
        "security.privileged.",
    ),
    live("restricted.devices.disk", MANAGED, "managed", "Disks: none but the root, those in a pool, or any."),
    live(
        "restricted.devices.disk.paths",
        Check::Paths,
        "all",
        "With any disk allowed: the folders of the host for them.",
    ),
    live("restricted.devices.gpu", BLOCK, "block", "Devices of type gpu."),
    live("restricted.devices.infiniband", BLOCK, "block", "Devices of type infiniband."),
    live("restricted.devices.nic", MANAGED, "managed", "Interfaces: none, those on a managed network, or any."),
    live("restricted.devices.pci", BLOCK, "block", "Devices of type pci."),
    live("restricted.devices.proxy", BLOCK, "block", "Devices of type proxy."),
    live("restricted.devices.unix-block", BLOCK, "block", "Devices of type unix-block."),
    live("restricted.devices.unix-char", BLOCK, "block", "Devices of type unix-char."),
    live("restricted.devices.unix-hotplug", BLOCK, "block", "Devices of type unix-hotplug."),
    live("restricted.devices.usb", BLOCK, "block", "Devices of type usb."),
    live("restricted.networks.access", Check::Text, "all", "The only networks that may be used: a,b."),
    live("restricted.networks.uplinks", Check::Text, "", "The uplinks that networks of the project may have: a,b."),
    live("restricted.snapshots", BLOCK, "block", "Snapshots of instances and volumes."),
    live("user.*", Check::Text, "", "Free for users."),
];

const COUNT: Check = Check::Number(0, 4_294_967_295);
const BLOCK: Check = Check::OneOf(&["allow", "block"]);
const MANAGED: Check = Check::OneOf(&["allow", "block", "managed"]);
