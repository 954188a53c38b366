//! Exec, console and logs of this member's guests.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use basalt_api::port::{ExecRequest, GuestIo, GuestProcess, Guests, PortError};
use basalt_driver::{Error, GuestAccess, InstanceDriver};
use basalt_model::instance::Kind;
use basalt_model::{Cluster, InstanceId};

/// Guests, through their drivers.
#[derive(Debug)]
pub struct NodeGuests {
    pub cluster: Arc<dyn Cluster>,
    pub drivers: BTreeMap<Kind, Arc<dyn InstanceDriver>>,
}

impl NodeGuests {
    fn access(&self, id: InstanceId) -> Result<&dyn GuestAccess, PortError> {
        let view = self.cluster.view();
        let instance = view.instances.get(&id).ok_or_else(|| PortError::NotFound("Instance not found".into()))?;
        let driver = self.drivers.get(&instance.spec.kind).and_then(|driver| driver.access());
        driver.ok_or_else(|| PortError::Invalid("this kind of instance cannot be entered".into()))
    }
}

fn error(error: Error) -> PortError {
    match error {
        Error::NotFound { .. } | Error::NotRunning { .. } => PortError::NotRunning,
        Error::Unsupported(why) => PortError::Invalid(why),
        Error::Epoch { .. } | Error::Timeout { .. } => PortError::Conflict(error.to_string()),
        Error::Host(_) | Error::Step { .. } => PortError::Internal(error.to_string()),
    }
}

#[derive(Debug)]
struct Process(Box<dyn basalt_driver::GuestProcess>);

#[async_trait]
impl GuestProcess for Process {
    fn signal(&self, signal: i32) -> Result<(), PortError> {
        self.0.signal(signal).map_err(error)
    }

    fn resize(&self, columns: u16, rows: u16) -> Result<(), PortError> {
        self.0.resize(columns, rows).map_err(error)
    }

    async fn wait(&mut self) -> Result<i32, PortError> {
        self.0.wait().await.map_err(error)
    }
}

type Opened = (GuestIo, Box<dyn GuestProcess>);

fn opened((io, process): (basalt_driver::GuestIo, Box<dyn basalt_driver::GuestProcess>)) -> Opened {
    let io = match io {
        basalt_driver::GuestIo::Terminal(master) => GuestIo::Terminal(master),
        basalt_driver::GuestIo::Pipes { stdin, stdout, stderr } => GuestIo::Pipes { stdin, stdout, stderr },
    };
    (io, Box::new(Process(process)))
}

#[async_trait]
impl Guests for NodeGuests {
    async fn exec(&self, id: InstanceId, request: ExecRequest) -> Result<Opened, PortError> {
        let request = basalt_driver::ExecRequest {
            command: request.command,
            environment: request.environment,
            cwd: request.cwd,
            uid: request.uid,
            gid: request.gid,
            terminal: request.terminal,
        };
        self.access(id)?.exec(id, request).await.map(opened).map_err(error)
    }

    async fn console(&self, id: InstanceId) -> Result<Opened, PortError> {
        self.access(id)?.console(id).await.map(opened).map_err(error)
    }

    async fn console_log(&self, id: InstanceId) -> Result<Vec<u8>, PortError> {
        self.access(id)?.console_log(id).await.map_err(error)
    }

    async fn clear_console_log(&self, id: InstanceId) -> Result<(), PortError> {
        self.access(id)?.clear_console_log(id).await.map_err(error)
    }

    async fn engine_log(&self, id: InstanceId) -> Result<Vec<u8>, PortError> {
        self.access(id)?.engine_log(id).await.map_err(error)
    }
}
