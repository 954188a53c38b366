//! Instances, and the programs that run in them.

use bytes::Bytes;
use http::Method;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

use basalt_api::dto::instance::{BulkState, Console, Exec, Full, Instance, Post, Put, Rebuild, Rename, StatePut};
use basalt_api::dto::operation::Operation;
use basalt_api::dto::state::State;

use crate::client::{Client, Tagged};
use crate::error::{Error, Result};
use crate::path::Path;
use crate::session::Session;

/// What a program left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// 0 to 255; 128 and more for a signal.
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

fn path(name: &str) -> Path {
    Path::of("instances").segment(name)
}

impl Client {
    /// Instances with their state, those that match the API's `filter` language if one is given.
    pub async fn instances(&self, filter: Option<&str>, all_projects: bool) -> Result<Vec<Full>> {
        let mut list = Path::of("instances").with("recursion", "2").with_some("filter", filter);
        if all_projects {
            list = list.with("all-projects", "true");
        }
        // A list of all projects may not name one.
        let client = if all_projects { self.in_project(None) } else { self.clone() };
        client.get(list).await
    }

    /// One instance, to be written back.
    pub async fn instance(&self, name: &str) -> Result<Tagged<Instance>> {
        self.get_tagged(path(name)).await
    }

    /// One instance with its state and snapshots.
    pub async fn instance_full(&self, name: &str) -> Result<Full> {
        self.get(path(name).with("recursion", "1")).await
    }

    /// Live state.
    pub async fn instance_state(&self, name: &str) -> Result<State> {
        self.get(path(name).segment("state")).await
    }

    /// Makes an instance; on the client's target, if it has one.
    pub async fn create_instance(&self, wanted: &Post) -> Result<Operation> {
        self.start(Method::POST, Path::of("instances"), Some(wanted)).await
    }

    /// Starts, stops, restarts, freezes or thaws it.
    pub async fn set_instance_state(&self, name: &str, wanted: &StatePut) -> Result<Operation> {
        self.start(Method::PUT, path(name).segment("state"), Some(wanted)).await
    }

    /// The same for all instances of the project.
    pub async fn set_all_instance_states(&self, wanted: &StatePut) -> Result<Operation> {
        let body = BulkState { state: wanted.clone() };
        self.start(Method::PUT, Path::of("instances"), Some(&body)).await
    }

    /// Replaces configuration, devices, profiles; waits.
    pub async fn replace_instance(&self, name: &str, wanted: &Put, etag: Option<&str>) -> Result<()> {
        self.replace(path(name), wanted, etag).await
    }

    /// Renames it, or moves it to the client's target.
    pub async fn move_instance(&self, name: &str, wanted: &Rename) -> Result<Operation> {
        self.start(Method::POST, path(name), Some(wanted)).await
    }

    /// Makes the root of a stopped instance anew.
    pub async fn rebuild_instance(&self, name: &str, wanted: &Rebuild) -> Result<Operation> {
        self.start(Method::POST, path(name).segment("rebuild"), Some(wanted)).await
    }

    /// Deletes a stopped instance.
    pub async fn delete_instance(&self, name: &str) -> Result<Operation> {
        self.start(Method::DELETE, path(name), None::<&()>).await
    }

    /// Starts a program in it and attaches to its streams. `wanted.wait_for_websocket` is set here.
    pub async fn exec(&self, name: &str, wanted: &Exec) -> Result<Session> {
        let wanted = Exec { wait_for_websocket: true, ..wanted.clone() };
        let operation = self.start(Method::POST, path(name).segment("exec"), Some(&wanted)).await?;
        Session::attach(self.clone(), operation, wanted.interactive).await
    }

    /// Runs a program to its end with `input` as its input, and gives all of its output.
    pub async fn run<I: AsyncRead + Unpin>(&self, name: &str, command: &[&str], input: I) -> Result<Output> {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        let session = self.exec(name, &Exec { command, ..Exec::default() }).await?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (_keep, control) = mpsc::channel(1);
        let ended = session.run(input, &mut stdout, &mut stderr, control).await?;
        Ok(Output { code: exit_code(&ended)?, stdout, stderr })
    }

    /// Attaches to its console; `force` takes it from another user.
    pub async fn console(&self, name: &str, wanted: &Console) -> Result<Session> {
        let operation = self.start(Method::POST, path(name).segment("console"), Some(wanted)).await?;
        Session::attach(self.clone(), operation, true).await
    }

    /// What its console showed.
    pub async fn console_log(&self, name: &str) -> Result<Bytes> {
        self.get_bytes(path(name).segment("console")).await
    }

    /// One of its engine's logs, such as `lxc.log`.
    pub async fn instance_log(&self, name: &str, file: &str) -> Result<Bytes> {
        self.get_bytes(path(name).segment("logs").segment(file)).await
    }
}

/// The exit code of the program behind a final exec operation.
pub fn exit_code(operation: &Operation) -> Result<i32> {
    let value = operation.metadata.as_ref().and_then(|metadata| metadata.get("return"));
    // Servers in Go send all numbers as floats.
    let code = value.and_then(|v| v.as_i64().or_else(|| v.as_f64().map(|f| f as i64)));
    code.and_then(|code| i32::try_from(code).ok())
        .ok_or_else(|| Error::protocol("exec", "the operation has no exit code"))
}
