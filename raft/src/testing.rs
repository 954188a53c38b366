//! A cluster of one without consensus: the same apply, in memory.
use async_trait::async_trait;
use basalt_model::command::Init;
use basalt_model::port::Standing;
use basalt_model::{Applied, Cluster, ClusterState, Command, NodeId, ProposeError, ReadError, StateView, Version};
use std::sync::Arc;
use tokio::sync::watch;

/// Same apply, no consensus: for tests of what stands on the `Cluster` port, and for the simulation.
#[derive(Debug)]
pub struct LocalCluster {
    me: NodeId,
    view: watch::Sender<StateView>,
}

impl LocalCluster {
    /// A cluster that is not initialised yet, seen from member `me`.
    pub fn new(me: NodeId) -> Arc<Self> {
        Arc::new(LocalCluster { me, view: watch::Sender::new(StateView::default()) })
    }

    /// A cluster that has begun with `init`; member 1 sees it.
    pub fn begun(init: Init) -> Arc<Self> {
        let cluster = Self::new(NodeId(1));
        cluster
            .apply(&Command::Cluster(basalt_model::command::ClusterCommand::Init(Box::new(init))))
            .expect("a fresh state accepts Init");
        cluster
    }

    /// The same replicated state, seen from another member.
    pub fn seen_from(&self, me: NodeId) -> Arc<Self> {
        Arc::new(LocalCluster { me, view: self.view.clone() })
    }

    /// Applies a command at once.
    pub fn apply(&self, command: &Command) -> Result<Applied, ProposeError> {
        let mut answer = Ok(());
        let mut version = Version::default();
        self.view.send_modify(|view| {
            let mut state: ClusterState = (**view).clone();
            answer = state.apply(command);
            version = view.version.next();
            // A refused command takes a place in the log as well.
            *view = StateView::new(version, Arc::new(state));
        });
        answer?;
        Ok(Applied { version })
    }

    /// Changes with every command.
    pub fn watch(&self) -> watch::Receiver<StateView> {
        self.view.subscribe()
    }
}

#[async_trait]
impl Cluster for LocalCluster {
    async fn propose(&self, command: Command) -> Result<Applied, ProposeError> {
        let initialises = matches!(command, Command::Cluster(basalt_model::command::ClusterCommand::Init(_)));
        if !initialises && !self.view.borrow().initialised() {
            return Err(ProposeError::NoLeader(crate::handle::NOT_INITIALISED.into()));
        }
        self.apply(&command)
    }

    fn view(&self) -> StateView {
        self.view.borrow().clone()
    }

    async fn linearizable(&self) -> Result<StateView, ReadError> {
        Ok(self.view())
    }

    async fn changed_since(&self, version: Version) -> StateView {
        let mut watch = self.view.subscribe();
        let changed = watch.wait_for(|view| view.version > version).await;
        changed.expect("the sender lives in self").clone()
    }

    fn standing(&self) -> Standing {
        let view = self.view();
        Standing {
            me: self.me,
            leader: view.initialised().then_some(NodeId(1)),
            term: 1,
            voters: view.members.keys().copied().take(3).collect(),
            learners: view.members.keys().copied().skip(3).collect(),
            last_contact: Some(std::time::Duration::ZERO),
            stale: false,
            last_log: view.version.0,
            applied: view.version,
        }
    }
}
