//! openraft's own conformance suite on our store.

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;
use tokio::sync::watch;

use super::{Log, Machine};
use crate::metrics::Metrics;
use crate::types::TypeConfig;

struct Builder;

impl StoreBuilder<TypeConfig, Log, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Log, Machine), StorageError<TypeConfig>> {
        let dir = TempDir::new().expect("a temporary folder");
        let metrics = Metrics::register(&prometheus::Registry::new()).expect("an empty registry");
        Log::create(dir.path(), 256 << 10).expect("an empty log");
        let log = Log::open(dir.path(), 256 << 10, metrics.clone()).expect("the log opens");
        let machine = Machine::open(dir.path().to_owned(), watch::Sender::default(), metrics).expect("no snapshot");
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    Suite::test_all(Builder).await.expect("openraft's conformance suite");
}
