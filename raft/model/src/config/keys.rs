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
    key("environment.*", Check::Text, "", "Environment of the guest's init and of programs run in it."),
    key("image.*", Check::Text, "", "Properties of the image that the instance was made from."),
    live("limits.cpu", Check::Cpu, "all", "How many CPUs (2) or which (0-3)."),
    live("limits.cpu.allowance", Check::Allowance, "100%", "Share under contention (50%) or hard quota (25ms/100ms)."),
    live("limits.memory", Check::Memory, "all", "Size (512MiB) or share of the host's memory (50%)."),
    live("limits.processes", Check::Number(1, 4_194_304), "unlimited", "How many processes the guest may have."),
    key("raw.lxc", Check::Text, "", "Lines for LXC's own configuration, last."),
    key("security.nesting", Check::Bool, "false", "Whether containers may be run inside."),
    key("security.privileged", Check::Bool, "false", "Whether root in the guest is root on the host."),
    live("security.protection.delete", Check::Bool, "false", "Refuse to delete the instance."),
    live("user.*", Check::Text, "", "Free for users."),
    live("volatile.*", Check::Text, "", "Set by Basalt itself."),
];

/// Cluster-wide keys (`GET /1.0`).
pub const CLUSTER: &[Key] = &[
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
    live("user.*", Check::Text, "", "Free for users."),
];

/// Keys of members.
pub const MEMBER: &[Key] = &[
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
    live("ipv4.address", Check::Subnet4, "auto", "The bridge's address and prefix; auto picks a free private subnet."),
    live("ipv4.dhcp", Check::Bool, "true", "Whether DHCP is served."),
    live("ipv4.dhcp.expiry", Check::Text, "1h", "How long a DHCP lease lasts."),
    live("ipv4.dhcp.ranges", Check::Ranges4, "the whole subnet", "Addresses that DHCP gives out."),
    live("ipv4.nat", Check::Bool, "true when the address is auto", "Whether traffic to other networks is masqueraded."),
    live("ipv6.address", Check::Subnet6, "none", "The bridge's IPv6 address and prefix."),
    live("ipv6.nat", Check::Bool, "false", "Whether IPv6 traffic to other networks is masqueraded."),
    live("user.*", Check::Text, "", "Free for users."),
];

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
    key("features.images", Check::OneOf(&["false"]), "false", "Images are shared by all projects."),
    key("features.networks", Check::OneOf(&["false"]), "false", "Networks are shared by all projects."),
    key("features.profiles", Check::OneOf(&["true"]), "true", "Each project has profiles of its own."),
    key("features.storage.volumes", Check::OneOf(&["true"]), "true", "Each project has volumes of its own."),
    live("user.*", Check::Text, "", "Free for users."),
];
