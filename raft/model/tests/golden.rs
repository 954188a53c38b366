//! The encoding of every command, pinned: what one version wrote into the log, the next must read.
//!
//! Each sample is written down as JSON, encoded as named MessagePack (as `basalt-raft` does) and compared with a golden
//! file per family. A golden file may only grow: `UPDATE_GOLDEN=1` rewrites them, and the diff must show additions only,
//! unless nothing was released yet.

#![allow(clippy::unwrap_used)]
#![allow(clippy::too_many_lines, reason = "lists of every command")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

use basalt_model::Command;
use basalt_model::command::{
    AclCommand, AddressSetCommand, ClusterCommand, IdentityCommand, ImageCommand, InstanceCommand, MemberCommand,
    NetworkCommand, PoolCommand, ProfileCommand, ProjectCommand, SnapshotCommand, WarningCommand, ZoneCommand,
};

const ID: &str = "0189f7ea-0b5c-7c3e-8f00-000000000001";
const SNAP: &str = "0189f7ea-0b5c-7c3e-8f00-000000000002";
const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// One sample of every command, with every field set.
fn samples() -> Vec<Command> {
    let announcement = r#"{"api_address":"10.0.0.1:8443","cluster_address":"10.0.0.1:8444","version":"1","feature_level":1,
        "architecture":"x86_64","cpus":8,"memory":17179869184,"drivers":{"container":"5.0.2"},"storage_drivers":{"zfs":"2.1"}}"#;
    let member = format!(
        r#"{{"id":2,"name":"node2","certificate":"{HASH}","certificate_pem":"PEM","joined_at":1700000000000000,
        "redeemed":"{HASH}","duty":"Active","health":{{"Offline":{{"since":5}}}},"failure_domain":"rack1","description":"d",
        "groups":["g"],"config":{{"user.a":"b"}},"announced":{announcement}}}"#
    );
    let secrets = r#"{"ca_certificate":"c","ca_key":"k","api_certificate":"a","api_key":"s"}"#;
    let trust = r#"{"Trust":{"name":"laptop","kind":"client","restricted":true,"projects":["default"]}}"#;
    let token = |grant: &str| {
        format!(r#"{{"id":"{ID}","secret_hash":"{HASH}","grant":{grant},"created_at":1,"expires_at":2}}"#)
    };
    let certificate = format!(
        r#"{{"fingerprint":"{HASH}","name":"laptop","kind":"metrics","certificate":"PEM","restricted":false,
        "projects":["default"],"description":"d"}}"#
    );
    let spec = format!(
        r#"{{"kind":"container","architecture":"x86_64","origin":{{"Image":"{HASH}"}},"description":"d","ephemeral":true,
        "config":{{"limits.cpu":"2"}},"devices":{{"root":{{"type":"disk","path":"/","pool":"p"}}}},"profiles":["default"]}}"#
    );
    let report =
        r#"{"epoch":3,"generation":2,"phase":"Running","made":true,"request":1,"reason":"r","at":1700000000000001}"#;
    let run = r#"{"intent":"Running","request":2,"start":1,"stop":{"force":true,"timeout_secs":30}}"#;
    let instance = format!(
        r#"{{"id":"{ID}","project":"default","name":"c1","created_at":1,"last_used_at":0,"generation":1,"spec":{spec},
        "target":{{"Member":"node1"}},"run":{run},"placement":{{"On":{{"node":1,"epoch":3}}}},"report":{report}}}"#
    );
    let empty = instance
        .replace(&format!(r#"{{"Image":"{HASH}"}}"#), r#""Empty""#)
        .replace(r#"{"Member":"node1"}"#, r#""Any""#)
        .replace(r#"{"On":{"node":1,"epoch":3}}"#, r#"{"Unplaced":{"refused":null}}"#)
        .replace(report, "null");
    let image = format!(
        r#"{{"fingerprint":"{HASH}","kind":"virtual-machine","architecture":"aarch64","format":"Split","filename":"f",
        "size":42,"public":true,"properties":{{"os":"Debian"}},"created_at":1,"uploaded_at":2,"expires_at":3,
        "last_used_at":4,"holders":[1,2]}}"#
    );
    let pulled = r#""cached":true,"auto_update":true,"update_source":{"server":"https://s","protocol":"simplestreams",
        "certificate":"PEM","alias":"debian/12","kind":"container"},"profiles":["default"]"#;
    let profile = r#"{"project":"default","name":"web","description":"d","config":{"limits.memory":"1GiB"},
        "devices":{"eth0":{"type":"nic","network":"br0"}},"generation":1}"#;
    let project = r#"{"name":"p2","description":"d","config":{"user.x":"y"},"created_at":1,"generation":1}"#;
    let network =
        r#"{"name":"br0","kind":"bridge","description":"d","config":{"ipv4.address":"10.1.0.1/24"},"generation":1}"#;
    let pool = r#"{"name":"p","kind":"zfs","description":"d","config":{"size":"5GiB"},"member_config":{"1":{"source":"/dev/x"}},
        "status":{"1":{"Ready":{"total":9}},"2":{"Failed":{"reason":"r"}}},"generation":1}"#;
    let trip =
        r#"{"origin":1,"target":"Any","starts":true,"leg":{"Out":{"from":1,"moves":true}},"order":7,"failed":"r"}"#;
    let texts = [
        format!(r#"{{"Cluster":{{"Init":{{"cluster_id":"{ID}","secrets":{secrets},"member":{member},"at":7}}}}}}"#),
        r#"{"Cluster":{"SetConfig":{"set":{"cluster.max_voters":"5","user.a":null},"expect":4}}}"#.into(),
        r#"{"Cluster":{"RaiseFeatureLevel":{"level":2}}}"#.into(),
        r#"{"Cluster":{"SetApiCertificate":{"certificate":"c","key":"k"}}}"#.into(),
        format!(r#"{{"Member":{{"Join":{{"token":"{ID}","secret_hash":"{HASH}","member":{member},"at":7}}}}}}"#),
        format!(r#"{{"Member":{{"Announce":{{"id":1,"announcement":{announcement}}}}}}}"#),
        format!(
            r#"{{"Member":{{"Announce":{{"id":1,"announcement":{}}}}}}}"#,
            announcement.replace(r#"{"zfs":"2.1"}}"#, r#"{"zfs":"2.1"},"chassis":"node1"}"#)
        ),
        r#"{"Member":{"Update":{"id":1,"failure_domain":"f","description":"d","groups":["g"],"config":{"user.a":"b"}}}}"#.into(),
        r#"{"Member":{"Rename":{"id":1,"name":"node9"}}}"#.into(),
        r#"{"Member":{"SetDuty":{"id":1,"duty":"Evacuated"}}}"#.into(),
        r#"{"Member":{"SetHealth":{"id":1,"health":"Online"}}}"#.into(),
        r#"{"Member":{"Remove":{"id":1,"force":true}}}"#.into(),
        r#"{"Member":{"AddGroup":{"name":"g","description":"d"}}}"#.into(),
        r#"{"Member":{"UpdateGroup":{"name":"g","description":"d","members":["node1"]}}}"#.into(),
        r#"{"Member":{"RenameGroup":{"name":"g","to":"h"}}}"#.into(),
        r#"{"Member":{"RemoveGroup":"g"}}"#.into(),
        r#"{"Member":{"Update":{"id":1,"failure_domain":"f","description":"d","groups":["g"],"config":{"user.a":"b"},
            "roles":["database-client","ovn-chassis"]}}}"#
            .into(),
        r#"{"Member":{"Order":{"id":1,"order":{"task":{"Empty":"Own"},"at":7}}}}"#.into(),
        r#"{"Member":{"Order":{"id":1,"order":{"task":"Fill","at":7}}}}"#.into(),
        r#"{"Member":{"OrderDone":{"id":1,"at":7}}}"#.into(),
        format!(r#"{{"Identity":{{"AddToken":{}}}}}"#, token(r#"{"Join":"node2"}"#)),
        format!(r#"{{"Identity":{{"AddToken":{}}}}}"#, token(trust)),
        format!(r#"{{"Identity":{{"RevokeToken":"{ID}"}}}}"#),
        format!(r#"{{"Identity":{{"RedeemTrust":{{"token":"{ID}","secret_hash":"{HASH}","certificate":{certificate},"at":7}}}}}}"#),
        format!(r#"{{"Identity":{{"AddCertificate":{certificate}}}}}"#),
        format!(r#"{{"Identity":{{"UpdateCertificate":{certificate}}}}}"#),
        format!(r#"{{"Identity":{{"RemoveCertificate":"{HASH}"}}}}"#),
        r#"{"Identity":{"DropExpired":{"at":7}}}"#.into(),
        format!(r#"{{"Instance":{{"Create":{instance}}}}}"#),
        format!(r#"{{"Instance":{{"Create":{empty}}}}}"#),
        format!(r#"{{"Instance":{{"Place":{{"id":"{ID}","node":1,"epoch":3}}}}}}"#),
        format!(r#"{{"Instance":{{"RefusePlacement":{{"id":"{ID}","reason":"r"}}}}}}"#),
        format!(r#"{{"Instance":{{"UpdateSpec":{{"id":"{ID}","expect":2,"spec":{spec}}}}}}}"#),
        format!(r#"{{"Instance":{{"Rename":{{"id":"{ID}","name":"c2"}}}}}}"#),
        format!(
            r#"{{"Instance":{{"SetRun":{{"id":"{ID}","intent":"Frozen","restart":true,
            "stop":{{"force":false,"timeout_secs":null}},"at":7}}}}}}"#
        ),
        format!(r#"{{"Instance":{{"Report":{{"id":"{ID}","report":{report}}}}}}}"#),
        format!(r#"{{"Instance":{{"Forget":{{"id":"{ID}","epoch":3}}}}}}"#),
        format!(
            r#"{{"Instance":{{"SetVolatile":{{"id":"{ID}","epoch":3,"set":{{"volatile.eth0.hwaddr":"x","volatile.a":null}}}}}}}}"#
        ),
        format!(r#"{{"Image":{{"Add":{image}}}}}"#),
        format!(r#"{{"Image":{{"Update":{{"fingerprint":"{HASH}","public":true,"expires_at":9,"properties":{{"os":"x"}}}}}}}}"#),
        format!(r#"{{"Image":{{"Remove":"{HASH}"}}}}"#),
        format!(r#"{{"Image":{{"AddHolder":{{"fingerprint":"{HASH}","node":2}}}}}}"#),
        format!(r#"{{"Image":{{"DropHolder":{{"fingerprint":"{HASH}","node":2}}}}}}"#),
        format!(r#"{{"Image":{{"SetAlias":{{"alias":{{"name":"a","target":"{HASH}","description":"d"}},"replace":true}}}}}}"#),
        r#"{"Image":{"RemoveAlias":"a"}}"#.into(),
        r#"{"Image":{"RenameAlias":{"name":"a","to":"b"}}}"#.into(),
        format!(r#"{{"Image":{{"Add":{}}}}}"#, image.replace(r#""holders":[1,2]"#, &format!(r#""holders":[1,2],{pulled}"#))),
        format!(
            r#"{{"Image":{{"Edit":{{"fingerprint":"{HASH}","edit":{{"public":true,"auto_update":true,"cached":true,
            "expires_at":9,"properties":{{"os":"x"}},"profiles":["default"]}}}}}}}}"#
        ),
        format!(r#"{{"Image":{{"Expire":{{"fingerprint":"{HASH}","unused_since":9}}}}}}"#),
        format!(r#"{{"Image":{{"Add":{}}}}}"#, image.replacen('{', r#"{"project":"p2","#, 1)),
        format!(
            r#"{{"Image":{{"Add":{}}}}}"#,
            image.replace(r#""holders":[1,2]"#, &format!(r#""holders":[1,2],{}"#, pulled.replace(r#""PEM","#, r#""PEM","project":"p9","#)))
        ),
        format!(r#"{{"Image":{{"Update":{{"fingerprint":"p2/{HASH}","public":true,"expires_at":9,"properties":{{}}}}}}}}"#),
        format!(r#"{{"Image":{{"Remove":"p2/{HASH}"}}}}"#),
        format!(
            r#"{{"Image":{{"SetAlias":{{"alias":{{"project":"p2","name":"a/b","target":"{HASH}","description":"d"}},
            "replace":false}}}}}}"#
        ),
        r#"{"Image":{"RemoveAlias":"a/b?project=p2"}}"#.into(),
        r#"{"Image":{"RenameAlias":{"name":"a/b?project=p2","to":"b"}}}"#.into(),
        format!(
            r#"{{"Image":{{"Edit":{{"fingerprint":"p2/{HASH}","edit":{{"public":false,"auto_update":false,"cached":false,
            "expires_at":0,"properties":{{}},"profiles":null}}}}}}}}"#
        ),
        format!(r#"{{"Image":{{"Expire":{{"fingerprint":"p2/{HASH}","unused_since":9}}}}}}"#),
        format!(r#"{{"Profile":{{"Add":{profile}}}}}"#),
        r#"{"Profile":{"Update":{"project":"default","name":"web","expect":1,"description":"d","config":{},"devices":{}}}}"#.into(),
        r#"{"Profile":{"Rename":{"project":"default","name":"web","to":"www"}}}"#.into(),
        r#"{"Profile":{"Remove":{"project":"default","name":"web"}}}"#.into(),
        format!(r#"{{"Project":{{"Add":{project}}}}}"#),
        r#"{"Project":{"Update":{"name":"p2","expect":null,"description":"d","config":{}}}}"#.into(),
        r#"{"Project":{"Rename":{"name":"p2","to":"p3"}}}"#.into(),
        r#"{"Project":{"Remove":"p2"}}"#.into(),
        format!(r#"{{"Network":{{"Add":{network}}}}}"#),
        r#"{"Network":{"Update":{"name":"br0","expect":1,"description":"d","config":{"ipv4.nat":"true"}}}}"#.into(),
        r#"{"Network":{"Rename":{"name":"br0","to":"br1"}}}"#.into(),
        r#"{"Network":{"Remove":"br0"}}"#.into(),
        r#"{"Network":{"Add":{"name":"net0","kind":"ovn","description":"d","config":{"network":"up0"},"generation":1,
            "number":3,"router":{"ipv4":"192.0.2.10","ipv6":"2001:db8::10"}}}}"#
            .into(),
        r#"{"Network":{"Add":{"name":"up0","kind":"physical","description":"d","config":{"parent":"eth1"},"generation":1}}}"#.into(),
        format!(
            r#"{{"Network":{{"Allocate":{{"addresses":[{{"instance":"{ID}","device":"eth0","network":"net0","ipv4":"10.1.0.2",
            "ipv6":"fd42::2"}}]}}}}}}"#
        ),
        r#"{"Network":{"AllocateUplink":{"network":"net0","ipv4":"192.0.2.10","ipv6":null}}}"#.into(),
        r#"{"Network":{"PutForward":{"network":"net0","forward":{"listen":"192.0.2.20","description":"d",
            "config":{"target_address":"10.1.0.2"},"ports":[{"description":"p","protocol":"tcp","listen_port":"80,90-91",
            "target_port":"8080","target_address":"10.1.0.3"}],"generation":1},"expect":"Absent"}}}"#
            .into(),
        r#"{"Network":{"RemoveForward":{"network":"net0","listen":"2001:db8::20"}}}"#.into(),
        r#"{"Network":{"PutBalancer":{"network":"net0","balancer":{"listen":"192.0.2.21","description":"d",
            "config":{"healthcheck":"true"},"backends":[{"name":"b","description":"","target_port":"80",
            "target_address":"10.1.0.2"}],"ports":[{"description":"","protocol":"udp","listen_port":"53",
            "target_backend":["b"]}],"generation":2},"expect":{"Present":2}}}}"#
            .into(),
        r#"{"Network":{"RemoveBalancer":{"network":"net0","listen":"192.0.2.21"}}}"#.into(),
        r#"{"Network":{"PutPeer":{"network":"net0","peer":{"name":"p","description":"d","config":{"user.a":"b"},
            "target":"net1","generation":1},"expect":{"Present":null}}}}"#
            .into(),
        r#"{"Network":{"RemovePeer":{"network":"net0","name":"p"}}}"#.into(),
        r#"{"Network":{"Add":{"name":"net0","project":"p2","kind":"ovn","description":"d","config":{"network":"none"},
            "generation":1}}}"#
            .into(),
        r#"{"Network":{"Rename":{"name":"p2/net0","to":"net1"}}}"#.into(),
        r#"{"Network":{"Remove":"p2/net1"}}"#.into(),
        format!(
            r#"{{"Network":{{"Allocate":{{"addresses":[{{"instance":"{ID}","device":"eth0","network":"p2/net0",
            "ipv4":"10.1.0.2","ipv6":null}}]}}}}}}"#
        ),
        r#"{"Network":{"PutPeer":{"network":"p2/net0","peer":{"name":"p","description":"","config":{},
            "target":"net1","generation":1},"expect":"Absent"}}}"#
            .into(),
        r#"{"Acl":{"Put":{"acl":{"name":"web","number":4,"description":"d","config":{"user.a":"b"},"ingress":[{"action":
            "allow-stateless","state":"logged","description":"r","source":"@external","destination":"10.1.0.2",
            "protocol":"tcp","source_port":"1-9","destination_port":"80","icmp_type":"","icmp_code":""}],"egress":[],
            "generation":1},"expect":"Absent"}}}"#
            .into(),
        r#"{"Acl":{"Rename":{"name":"web","to":"www"}}}"#.into(),
        r#"{"Acl":{"Remove":"web"}}"#.into(),
        r#"{"Acl":{"Put":{"acl":{"name":"web","project":"p2","number":5,"description":"d","config":{},"ingress":[],
            "egress":[],"generation":1},"expect":"Absent"}}}"#
            .into(),
        r#"{"Acl":{"Remove":"p2/web"}}"#.into(),
        r#"{"AddressSet":{"Put":{"set":{"name":"office","number":2,"description":"d","config":{"user.a":"b"},
            "addresses":["192.0.2.9","2001:db8::/32"],"generation":1},"expect":"Absent"}}}"#
            .into(),
        r#"{"AddressSet":{"Rename":{"name":"office","to":"home"}}}"#.into(),
        r#"{"AddressSet":{"Remove":"office"}}"#.into(),
        r#"{"AddressSet":{"Put":{"set":{"name":"office","project":"p2","number":3,"description":"","config":{},
            "addresses":[],"generation":1},"expect":"Absent"}}}"#
            .into(),
        r#"{"AddressSet":{"Rename":{"name":"p2/office","to":"home"}}}"#.into(),
        r#"{"Zone":{"Put":{"zone":{"name":"lab.example","project":"default","description":"d",
            "config":{"peers.ns.address":"192.0.2.1"},"generation":1},"expect":"Absent"}}}"#
            .into(),
        r#"{"Zone":{"Remove":"lab.example"}}"#.into(),
        r#"{"Zone":{"PutRecord":{"zone":"lab.example","record":{"name":"www","description":"d","config":{"user.a":"b"},
            "entries":[{"type":"A","ttl":60,"value":"192.0.2.9"}],"generation":1},"expect":{"Present":3}}}}"#
            .into(),
        r#"{"Zone":{"RemoveRecord":{"zone":"lab.example","name":"@"}}}"#.into(),
        format!(r#"{{"Pool":{{"Add":{pool}}}}}"#),
        r#"{"Pool":{"Update":{"name":"p","expect":1,"description":"d","config":{"size":"6GiB"}}}}"#.into(),
        r#"{"Pool":{"SetMemberConfig":{"name":"p","node":1,"config":{"source":"/dev/y"}}}}"#.into(),
        r#"{"Pool":{"Status":{"name":"p","node":1,"status":{"Ready":{"total":9}}}}}"#.into(),
        r#"{"Pool":{"Remove":"p"}}"#.into(),
        format!(
            r#"{{"Instance":{{"Restore":{{"id":"{ID}","snapshot":"{SNAP}","spec":{spec},
            "stop":{{"force":true,"timeout_secs":30}}}}}}}}"#
        ),
        format!(
            r#"{{"Instance":{{"Move":{{"id":"{ID}","to":2,"plan":{{"target":{{"Group":"g"}},"project":"p2","name":"c9","spec":{spec}}}}}}}}}"#
        ),
        format!(r#"{{"Instance":{{"AssignMove":{{"id":"{ID}","landing":4,"node":2}}}}}}"#),
        format!(r#"{{"Instance":{{"Landed":{{"id":"{ID}","landing":4,"at":7}}}}}}"#),
        format!(r#"{{"Instance":{{"AbortMove":{{"id":"{ID}","landing":4,"reason":"r"}}}}}}"#),
        format!(
            r#"{{"Instance":{{"Create":{}}}}}"#,
            instance.replace(
                &format!(r#"{{"Image":"{HASH}"}}"#),
                &format!(r#"{{"Copy":{{"source":"{ID}","point":"{SNAP}","snapshots":[["{SNAP}","{ID}"]]}}}}"#)
            )
        ),
        format!(
            r#"{{"Instance":{{"Move":{{"id":"{ID}","to":null,"expect":2,"plan":{{"target":"Any","project":"p2","name":"c9","spec":{spec}}}}}}}}}"#
        ),
        format!(
            r#"{{"Instance":{{"Trip":{{"id":"{ID}","step":{{"expect":null,"to":{trip},"run":["Stopped",{{"force":false,"timeout_secs":30}}],"at":7}}}}}}}}"#
        ),
        format!(
            r#"{{"Instance":{{"Trip":{{"id":"{ID}","step":{{"expect":{},"to":null,"run":null,"at":7}}}}}}}}"#,
            trip.replace(r#"{"Out":{"from":1,"moves":true}}"#, r#""Rest""#)
        ),
        format!(
            r#"{{"Instance":{{"Remake":{{"id":"{ID}","spec":{spec},"snapshots_too":true,"at":7,"expect":2}}}}}}"#
        ),
        format!(
            r#"{{"Snapshot":{{"Create":{{"instance":"{ID}","id":"{SNAP}","name":"s0","at":7,"expires_at":9}}}}}}"#
        ),
        format!(r#"{{"Snapshot":{{"Rename":{{"instance":"{ID}","id":"{SNAP}","name":"s1"}}}}}}"#),
        format!(r#"{{"Snapshot":{{"Update":{{"instance":"{ID}","id":"{SNAP}","expires_at":9}}}}}}"#),
        format!(r#"{{"Snapshot":{{"Delete":{{"instance":"{ID}","id":"{SNAP}"}}}}}}"#),
        format!(r#"{{"Snapshot":{{"Taken":{{"instance":"{ID}","id":"{SNAP}","epoch":3,"size":42}}}}}}"#),
        format!(r#"{{"Snapshot":{{"Failed":{{"instance":"{ID}","id":"{SNAP}","epoch":3,"reason":"r"}}}}}}"#),
        format!(r#"{{"Snapshot":{{"Forget":{{"instance":"{ID}","id":"{SNAP}","epoch":3}}}}}}"#),
        format!(
            r#"{{"Warning":{{"Raise":{{"id":"{ID}","cause":{{"kind":"PoolUnavailable","project":"default",
            "entity":"/1.0/storage-pools/p","node":1}},"message":"m","at":7}}}}}}"#
        ),
        format!(r#"{{"Warning":{{"Resolve":{{"id":"{ID}","at":7}}}}}}"#),
        format!(r#"{{"Warning":{{"SetStatus":{{"id":"{ID}","status":"Acknowledged"}}}}}}"#),
        format!(r#"{{"Warning":{{"Remove":"{ID}"}}}}"#),
    ];
    texts.iter().map(|text| serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))).collect()
}

/// Family and variant. No wildcard: a new variant does not compile here until it has its name, and fails until it has a
/// sample.
fn label(command: &Command) -> (&'static str, &'static str) {
    use Command as C;
    match command {
        C::Cluster(c) => (
            "cluster",
            match c {
                ClusterCommand::Init(_) => "Init",
                ClusterCommand::SetConfig { .. } => "SetConfig",
                ClusterCommand::RaiseFeatureLevel { .. } => "RaiseFeatureLevel",
                ClusterCommand::SetApiCertificate { .. } => "SetApiCertificate",
            },
        ),
        C::Member(c) => (
            "member",
            match c {
                MemberCommand::Join { .. } => "Join",
                MemberCommand::Announce { .. } => "Announce",
                MemberCommand::Update { .. } => "Update",
                MemberCommand::Rename { .. } => "Rename",
                MemberCommand::SetDuty { .. } => "SetDuty",
                MemberCommand::SetHealth { .. } => "SetHealth",
                MemberCommand::Remove { .. } => "Remove",
                MemberCommand::AddGroup(_) => "AddGroup",
                MemberCommand::UpdateGroup { .. } => "UpdateGroup",
                MemberCommand::RenameGroup { .. } => "RenameGroup",
                MemberCommand::RemoveGroup(_) => "RemoveGroup",
                MemberCommand::Order { .. } => "Order",
                MemberCommand::OrderDone { .. } => "OrderDone",
            },
        ),
        C::Identity(c) => (
            "identity",
            match c {
                IdentityCommand::AddToken(_) => "AddToken",
                IdentityCommand::RevokeToken(_) => "RevokeToken",
                IdentityCommand::RedeemTrust { .. } => "RedeemTrust",
                IdentityCommand::AddCertificate(_) => "AddCertificate",
                IdentityCommand::UpdateCertificate(_) => "UpdateCertificate",
                IdentityCommand::RemoveCertificate(_) => "RemoveCertificate",
                IdentityCommand::DropExpired { .. } => "DropExpired",
            },
        ),
        C::Instance(c) => (
            "instance",
            match c {
                InstanceCommand::Create(_) => "Create",
                InstanceCommand::Place { .. } => "Place",
                InstanceCommand::RefusePlacement { .. } => "RefusePlacement",
                InstanceCommand::UpdateSpec { .. } => "UpdateSpec",
                InstanceCommand::Rename { .. } => "Rename",
                InstanceCommand::SetRun { .. } => "SetRun",
                InstanceCommand::Report { .. } => "Report",
                InstanceCommand::Forget { .. } => "Forget",
                InstanceCommand::SetVolatile { .. } => "SetVolatile",
                InstanceCommand::Restore { .. } => "Restore",
                InstanceCommand::Move { .. } => "Move",
                InstanceCommand::AssignMove { .. } => "AssignMove",
                InstanceCommand::Landed { .. } => "Landed",
                InstanceCommand::AbortMove { .. } => "AbortMove",
                InstanceCommand::Trip { .. } => "Trip",
                InstanceCommand::Remake { .. } => "Remake",
            },
        ),
        C::Image(c) => (
            "image",
            match c {
                ImageCommand::Add(_) => "Add",
                ImageCommand::Update { .. } => "Update",
                ImageCommand::Remove(_) => "Remove",
                ImageCommand::AddHolder { .. } => "AddHolder",
                ImageCommand::DropHolder { .. } => "DropHolder",
                ImageCommand::SetAlias { .. } => "SetAlias",
                ImageCommand::RemoveAlias(_) => "RemoveAlias",
                ImageCommand::RenameAlias { .. } => "RenameAlias",
                ImageCommand::Edit { .. } => "Edit",
                ImageCommand::Expire { .. } => "Expire",
            },
        ),
        C::Profile(c) => (
            "profile",
            match c {
                ProfileCommand::Add(_) => "Add",
                ProfileCommand::Update { .. } => "Update",
                ProfileCommand::Rename { .. } => "Rename",
                ProfileCommand::Remove { .. } => "Remove",
            },
        ),
        C::Project(c) => (
            "project",
            match c {
                ProjectCommand::Add(_) => "Add",
                ProjectCommand::Update { .. } => "Update",
                ProjectCommand::Rename { .. } => "Rename",
                ProjectCommand::Remove(_) => "Remove",
            },
        ),
        C::Network(c) => (
            "network",
            match c {
                NetworkCommand::Add(_) => "Add",
                NetworkCommand::Update { .. } => "Update",
                NetworkCommand::Rename { .. } => "Rename",
                NetworkCommand::Remove(_) => "Remove",
                NetworkCommand::Allocate { .. } => "Allocate",
                NetworkCommand::AllocateUplink { .. } => "AllocateUplink",
                NetworkCommand::PutForward { .. } => "PutForward",
                NetworkCommand::RemoveForward { .. } => "RemoveForward",
                NetworkCommand::PutBalancer { .. } => "PutBalancer",
                NetworkCommand::RemoveBalancer { .. } => "RemoveBalancer",
                NetworkCommand::PutPeer { .. } => "PutPeer",
                NetworkCommand::RemovePeer { .. } => "RemovePeer",
            },
        ),
        C::Acl(c) => (
            "acl",
            match c {
                AclCommand::Put { .. } => "Put",
                AclCommand::Rename { .. } => "Rename",
                AclCommand::Remove(_) => "Remove",
            },
        ),
        C::AddressSet(c) => (
            "address_set",
            match c {
                AddressSetCommand::Put { .. } => "Put",
                AddressSetCommand::Rename { .. } => "Rename",
                AddressSetCommand::Remove(_) => "Remove",
            },
        ),
        C::Zone(c) => (
            "zone",
            match c {
                ZoneCommand::Put { .. } => "Put",
                ZoneCommand::Remove(_) => "Remove",
                ZoneCommand::PutRecord { .. } => "PutRecord",
                ZoneCommand::RemoveRecord { .. } => "RemoveRecord",
            },
        ),
        C::Warning(c) => (
            "warning",
            match c {
                WarningCommand::Raise { .. } => "Raise",
                WarningCommand::Resolve { .. } => "Resolve",
                WarningCommand::SetStatus { .. } => "SetStatus",
                WarningCommand::Remove(_) => "Remove",
            },
        ),
        C::Pool(c) => (
            "pool",
            match c {
                PoolCommand::Add(_) => "Add",
                PoolCommand::Update { .. } => "Update",
                PoolCommand::SetMemberConfig { .. } => "SetMemberConfig",
                PoolCommand::Status { .. } => "Status",
                PoolCommand::Remove(_) => "Remove",
            },
        ),
        C::Snapshot(c) => (
            "snapshot",
            match c {
                SnapshotCommand::Create { .. } => "Create",
                SnapshotCommand::Rename { .. } => "Rename",
                SnapshotCommand::Update { .. } => "Update",
                SnapshotCommand::Delete { .. } => "Delete",
                SnapshotCommand::Taken { .. } => "Taken",
                SnapshotCommand::Failed { .. } => "Failed",
                SnapshotCommand::Forget { .. } => "Forget",
            },
        ),
    }
}

/// How many variants there are, by family: one more here with each new one.
const VARIANTS: [(&str, usize); 14] = [
    ("acl", 3),
    ("address_set", 3),
    ("zone", 4),
    ("cluster", 4),
    ("member", 13),
    ("identity", 7),
    ("instance", 16),
    ("image", 10),
    ("profile", 4),
    ("project", 4),
    ("network", 12),
    ("pool", 5),
    ("snapshot", 7),
    ("warning", 4),
];

fn file(family: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{family}.txt"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn every_variant_has_a_sample() {
    let labels: BTreeSet<_> = samples().iter().map(label).collect();
    for (family, count) in VARIANTS {
        assert_eq!(labels.iter().filter(|(f, _)| *f == family).count(), count, "{family}");
    }
}

#[test]
fn encodings_are_what_they_were() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for (family, _) in VARIANTS {
        let samples: Vec<Command> = samples().into_iter().filter(|c| label(c).0 == family).collect();
        let lines: Vec<String> = samples
            .iter()
            .map(|sample| format!("{} {}", label(sample).1, hex(&rmp_serde::to_vec_named(sample).unwrap())))
            .collect();
        let path = file(family);
        if update {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let golden: Vec<&str> = golden.lines().collect();
        assert_eq!(golden.len(), lines.len(), "{family}: run with UPDATE_GOLDEN=1 and look at the difference");
        for ((golden, line), sample) in golden.iter().zip(&lines).zip(&samples) {
            assert_eq!(
                golden, line,
                "{family}: the encoding changed; UPDATE_GOLDEN=1 only if nobody has written it yet"
            );
            let bytes = unhex(golden.split_once(' ').unwrap().1);
            assert_eq!(&rmp_serde::from_slice::<Command>(&bytes).unwrap(), sample);
        }
    }
}
