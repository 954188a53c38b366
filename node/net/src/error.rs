//! What can go wrong, with the bridge and the step in each text.

use std::{io, path::PathBuf};

use basalt_runtime::ExecError;

use crate::IfName;

/// Why the host could not be brought to, or read for, the wanted state.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    /// The specification contradicts itself.
    #[error("bridge {bridge}: {mistake}")]
    Invalid {
        /// The bridge.
        bridge: IfName,
        /// What is wrong.
        mistake: String,
    },
    /// Something else on the host has that name.
    #[error("interface {name} exists and is not ours; it was left alone")]
    Foreign {
        /// The interface.
        name: IfName,
    },
    /// The interface is not there.
    #[error("interface {name} does not exist")]
    NotFound {
        /// The interface.
        name: IfName,
    },
    /// A program is not installed.
    #[error("bridge {bridge}: program {program} is missing; install the package {package}")]
    MissingProgram {
        /// The bridge.
        bridge: IfName,
        /// The program.
        program: String,
        /// The Debian package that brings it.
        package: &'static str,
    },
    /// A program failed.
    #[error("bridge {bridge}: cannot {step}")]
    Command {
        /// The bridge.
        bridge: IfName,
        /// What it was run for.
        step: &'static str,
        /// How it failed.
        source: ExecError,
    },
    /// The kernel refused a change or a listing.
    #[error("interface {name}: cannot {step}")]
    Netlink {
        /// The interface, or `all`.
        name: String,
        /// What was asked for.
        step: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A kernel switch could not be set.
    #[error("bridge {bridge}: cannot set {key}={value}; where /proc/sys is read-only, set it on the host")]
    Sysctl {
        /// The bridge.
        bridge: IfName,
        /// The switch, as `sysctl` names it.
        key: String,
        /// The value it needs.
        value: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// Our own files could not be read or written.
    #[error("cannot {step} {}", .path.display())]
    File {
        /// What was to be done.
        step: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The DHCP daemon could not be found, signalled or ended.
    #[error("bridge {bridge}: cannot {step}")]
    Daemon {
        /// The bridge.
        bridge: IfName,
        /// What was to be done.
        step: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The network namespace of a process could not be looked into.
    #[error("cannot {step} of process {pid}")]
    Namespace {
        /// The process.
        pid: u32,
        /// What was to be done.
        step: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

/// An error of a command, with the package named when the program is missing.
pub(crate) fn command(bridge: &IfName, step: &'static str, source: ExecError) -> Error {
    let bridge = bridge.clone();
    match source {
        ExecError::NotFound { program } => {
            let package = if program == "nft" { "nftables" } else { "dnsmasq-base" };
            Error::MissingProgram { bridge, program, package }
        }
        ExecError::Spawn { .. } | ExecError::Failed { .. } | ExecError::Deadline { .. } | ExecError::Io { .. } => {
            Error::Command { bridge, step, source }
        }
    }
}
