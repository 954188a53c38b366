//! The differences between LXD and Incus, told apart by `User-Agent`, all in one place.

use http::HeaderMap;
use http::header::USER_AGENT;

use crate::metrics::Names;

/// Whom we speak to, hence as what we show ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `lxc`, pylxd, Ansible, and whoever does not say.
    Lxd,
    /// `incus` and tools built on its client.
    Incus,
}

impl Dialect {
    /// Reads the caller's `User-Agent`.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let agent = headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        match agent.to_ascii_lowercase().contains("incus") {
            true => Dialect::Incus,
            false => Dialect::Lxd,
        }
    }

    /// `environment.server`.
    pub(crate) fn server(self) -> &'static str {
        match self {
            Dialect::Lxd => "lxd",
            Dialect::Incus => "incus",
        }
    }

    /// `environment.server_version`: the version whose shapes we speak.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Dialect::Lxd => "5.0.2",
            Dialect::Incus => "6.0.4",
        }
    }

    /// Names of metrics, when none are asked for.
    pub(crate) fn metrics(self) -> Names {
        match self {
            Dialect::Lxd => Names::Lxd,
            Dialect::Incus => Names::Incus,
        }
    }
}

/// A request header that LXD's clients prefix with `X-LXD-` and Incus's with `X-Incus-`.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    ["x-incus-", "x-lxd-"].iter().find_map(|prefix| headers.get(format!("{prefix}{name}"))?.to_str().ok())
}

/// `?project=` texts that mean the default project: some tools send their language's word for nothing.
pub(crate) fn means_default(project: &str) -> bool {
    matches!(project, "" | "None")
}

/// What works here, in the words of both projects. Clients decide by these what to offer, so only what works is listed.
pub(crate) const EXTENSIONS: &[&str] = &[
    "api_filtering",
    "certificate_project",
    "certificate_token",
    "certificate_update",
    "cluster_internal_copy",
    "cluster_member_state",
    "clustering",
    "clustering_architecture",
    "clustering_config",
    "clustering_description",
    "clustering_edit_roles",
    "clustering_evacuation",
    "clustering_failure_domains",
    "clustering_groups",
    "clustering_join",
    "clustering_join_token",
    "clustering_roles",
    "clustering_server_address",
    "clustering_update_cert",
    "console",
    "console_force",
    "container_copy_project",
    "container_edit_metadata",
    "container_exec_recording",
    "container_exec_signal_handling",
    "container_exec_user_group_cwd",
    "container_full",
    "container_incremental_copy",
    "container_nic_ipfilter",
    "container_only_migration",
    "directory_manipulation",
    "etag",
    "event_lifecycle",
    "event_lifecycle_name_and_project",
    "event_lifecycle_requestor_address",
    "event_location",
    "event_project",
    "explicit_trust_token",
    "file_append",
    "file_delete",
    "file_get_symlink",
    "file_symlinks",
    "image_compression_algorithm",
    "image_copy_profile",
    "image_create_aliases",
    "image_force_refresh",
    "image_source_project",
    "image_types",
    "images_all_projects",
    "images_push_relay",
    "images_target_project",
    "instance_access",
    "instance_all_projects",
    "instance_allow_inconsistent_copy",
    "instance_auto_restart",
    "instance_bulk_state_change",
    "instance_create_start",
    "instance_get_full",
    "instance_move_config",
    "instance_nic_network",
    "instance_pool_move",
    "instance_project_move",
    "instances",
    "instances_rebuild",
    "instances_state_selective_recursion",
    "instances_state_total",
    "metadata_configuration",
    "metrics",
    "network",
    "network_acl",
    "network_acl_log",
    "network_acls_all_projects",
    "network_address_set",
    "network_allocations",
    "network_bridge_acl",
    "network_bridge_acl_devices",
    "network_dns",
    "network_dns_records",
    "network_forward",
    "network_leases",
    "network_load_balancer",
    "network_load_balancer_health_check",
    "network_load_balancer_state",
    "network_ovn_acl",
    "network_ovn_external_subnets",
    "network_ovn_nat",
    "network_ovn_state_addresses",
    "network_peer",
    "network_physical_ovn_ingress_mode",
    "network_state",
    "network_state_ovn",
    "network_state_ovn_lr",
    "network_state_ovn_ls",
    "network_type_ovn",
    "network_type_physical",
    "network_zones_all_projects",
    "networks_all_projects",
    "operations_get_query_all_projects",
    "patch",
    "profile_usedby",
    "profiles_all_projects",
    "project_access",
    "project_usage",
    "projects",
    "projects_force_delete",
    "projects_limits",
    "projects_limits_disk_pool",
    "projects_networks",
    "projects_networks_restricted_uplinks",
    "projects_networks_zones",
    "projects_restricted_cluster_groups",
    "projects_restricted_cluster_target",
    "projects_restrictions",
    "resources",
    "resources_v2",
    "server_supported_storage_drivers",
    "snapshot_expiry",
    "snapshot_expiry_creation",
    "snapshot_schedule_aliases",
    "snapshot_scheduling",
    "storage",
    "usedby_consistency",
    "warnings",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_told_apart() {
        let of = |agent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(USER_AGENT, agent.parse().unwrap());
            Dialect::of(&headers)
        };
        assert_eq!(of("Incus 6.0.4 (Linux; x86_64; 6.1.0)"), Dialect::Incus);
        assert_eq!(of("LXD 5.0.2 (Linux; x86_64; 6.1.0)"), Dialect::Lxd);
        assert_eq!(of("python-requests/2.28"), Dialect::Lxd);
        assert_eq!(Dialect::of(&HeaderMap::new()), Dialect::Lxd);
    }

    #[test]
    fn extensions_are_sorted_and_unique() {
        assert!(EXTENSIONS.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
