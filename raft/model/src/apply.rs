//! Apply: what each command does to the state. Validates, never chooses.
//!
//! One file per object. Each handler first checks everything, then changes: a refused command leaves no trace.

mod acl;
mod address;
mod address_set;
mod cluster;
mod copy;
mod evacuation;
mod identity;
mod image;
mod instance;
mod limits;
mod listen;
mod member;
mod network;
mod pool;
mod profile;
mod project;
mod relocate;
mod remake;
mod snapshot;
mod warning;
mod zone;

use serde::{Deserialize, Serialize};

use crate::command::Expect;
use crate::{ClusterState, Command, Generation, Version};

/// A command was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Where in the log; filled in by whoever runs the log.
    pub version: Version,
}

/// A command was refused; the same on every replica, and nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejected {
    /// `what` is the kind of object as users call it.
    #[error("{what} not found: {name}")]
    NotFound { what: String, name: String },
    #[error("{what} already exists: {name}")]
    AlreadyExists { what: String, name: String },
    /// Somebody else changed it since it was read (`If-Match`).
    #[error("ETag doesn't match: the {what} was changed by somebody else (now at generation {generation})")]
    Changed { what: String, generation: Generation },
    /// Its present state does not allow this.
    #[error("{0}")]
    Busy(String),
    /// A field is not acceptable.
    #[error("{field}: {why}")]
    Invalid { field: String, why: String },
    /// The epoch, id or counter is not the present one: plan afresh.
    #[error("{0}")]
    Stale(String),
    /// Not all members understand this command yet.
    #[error("needs cluster feature level {needs}, the cluster is at {at}: upgrade all members first")]
    FeatureLevel { needs: u32, at: u32 },
    /// A token that is unknown, expired, used, or of another kind.
    #[error("the token is not valid: {0}")]
    Token(String),
    /// Somebody else has it; says who.
    #[error("{0}")]
    Taken(String),
}

pub(crate) use acl::check as check_acl;
pub(crate) use zone::check as check_zone;

pub(crate) type Outcome = Result<(), Rejected>;

pub(crate) fn not_found(what: &str, name: impl ToString) -> Rejected {
    Rejected::NotFound { what: what.into(), name: name.to_string() }
}

pub(crate) fn exists(what: &str, name: impl ToString) -> Rejected {
    Rejected::AlreadyExists { what: what.into(), name: name.to_string() }
}

pub(crate) fn invalid(field: &str, why: impl ToString) -> Rejected {
    Rejected::Invalid { field: field.into(), why: why.to_string() }
}

/// Compare-and-set of a generation.
pub(crate) fn expect_generation(what: &str, expect: Option<Generation>, found: Generation) -> Outcome {
    match expect {
        Some(generation) if generation != found => Err(Rejected::Changed { what: what.into(), generation: found }),
        Some(_) | None => Ok(()),
    }
}

/// The generation that something gets, if what is there is as expected.
pub(crate) fn next_generation(
    what: &str,
    name: impl ToString,
    found: Option<Generation>,
    expect: Expect,
) -> Result<Generation, Rejected> {
    match (expect, found) {
        (Expect::Absent, Some(_)) => Err(exists(what, name)),
        (Expect::Present(_), None) => Err(not_found(what, name)),
        (Expect::Absent, None) => Ok(Generation(1)),
        (Expect::Present(expect), Some(found)) => {
            expect_generation(what, expect, found)?;
            Ok(found.next())
        }
    }
}

impl ClusterState {
    /// Applies one command: a pure function of the state and the command.
    ///
    /// # Errors
    /// A refusal, with the state unchanged.
    pub fn apply(&mut self, command: &Command) -> Result<(), Rejected> {
        let begins = matches!(command, Command::Cluster(crate::command::ClusterCommand::Init(_)));
        if !begins && command.feature_level() > self.feature_level {
            return Err(Rejected::FeatureLevel { needs: command.feature_level(), at: self.feature_level });
        }
        match limits::scope(self, command) {
            limits::Scope::Nothing => self.change(command),
            scope => {
                // The state after the change is what limits are about; a refusal must leave no trace of it.
                let before = self.clone();
                let outcome = self.change(command).and_then(|()| limits::check(self, &scope));
                if outcome.is_err() {
                    *self = before;
                }
                outcome
            }
        }
    }

    fn change(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Cluster(c) => cluster::apply(self, c),
            Command::Member(c) => member::apply(self, c),
            Command::Identity(c) => identity::apply(self, c),
            Command::Instance(c) => instance::apply(self, c),
            Command::Image(c) => image::apply(self, c),
            Command::Profile(c) => profile::apply(self, c),
            Command::Project(c) => project::apply(self, c),
            Command::Network(c) => network::apply(self, c),
            Command::Pool(c) => pool::apply(self, c),
            Command::Snapshot(c) => snapshot::apply(self, c),
            Command::Warning(c) => warning::apply(self, c),
            Command::Acl(c) => acl::apply(self, c),
            Command::Zone(c) => zone::apply(self, c),
            Command::AddressSet(c) => address_set::apply(self, c),
        }
    }
}
