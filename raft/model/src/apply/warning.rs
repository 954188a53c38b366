//! Warnings.

use super::{Outcome, exists, invalid, not_found};
use crate::command::WarningCommand;
use crate::warning::{Cause, Status, Warning};
use crate::{ClusterState, Rejected, Timestamp, WarningId};

pub(super) fn apply(state: &mut ClusterState, command: &WarningCommand) -> Outcome {
    match command {
        WarningCommand::Raise { id, cause, message, at } => raise(state, *id, cause, (message.as_str(), *at)),
        WarningCommand::Resolve { id, at } => {
            let warning = find(state, *id)?;
            warning.status = Status::Resolved;
            warning.last_seen = warning.last_seen.max(*at);
            Ok(())
        }
        WarningCommand::SetStatus { id, status } => match status {
            Status::New | Status::Acknowledged => {
                find(state, *id)?.status = *status;
                Ok(())
            }
            Status::Resolved => Err(invalid("status", "only the end of its cause resolves a warning")),
        },
        WarningCommand::Remove(id) => match state.warnings.remove(id) {
            true => Ok(()),
            false => Err(not_found("warning", id)),
        },
    }
}

fn find(state: &mut ClusterState, id: WarningId) -> Result<&mut Warning, Rejected> {
    state.warnings.get_mut(&id).ok_or_else(|| not_found("warning", id))
}

fn raise(state: &mut ClusterState, id: WarningId, cause: &Cause, (message, at): (&str, Timestamp)) -> Outcome {
    let held = state.warnings.values().find(|w| w.cause == *cause).map(|w| w.id);
    match held {
        // Two producers around a change of leader saw the same: the second adds nothing.
        Some(held) => {
            let warning = find(state, held)?;
            if warning.status != Status::Resolved && warning.message == message {
                return Ok(());
            }
            if warning.status == Status::Resolved {
                warning.status = Status::New;
            }
            warning.message = message.to_owned();
            warning.count += 1;
            warning.last_seen = warning.last_seen.max(at);
        }
        None if state.warnings.contains_key(&id) => return Err(exists("warning", id)),
        None => {
            let warning = Warning {
                id,
                cause: cause.clone(),
                message: message.to_owned(),
                status: Status::New,
                count: 1,
                first_seen: at,
                last_seen: at,
            };
            state.warnings.insert(id, warning);
        }
    }
    Ok(())
}
