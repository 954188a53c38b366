//! What this host is as a chassis: written to the switch's database where the configuration says so, read from there
//! else.

use std::collections::BTreeMap;
use std::time::Duration;

use basalt_ovn::vswitch::{Error, Facts};
use basalt_runtime::{Backoff, Shutdown, chain};

use super::{DATAPATH, Overlay};

impl Overlay {
    /// Keeps the host's identity in the switch what the configuration says, and tells what it is. Ends at shutdown.
    pub async fn run(&self, shutdown: Shutdown) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        let mut watch = self.switch.watch();
        loop {
            let pause = match self.identify().await {
                Ok(facts) => {
                    backoff.reset();
                    self.tell(&facts);
                    None
                }
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(error, "this host's part in logical networks is not set");
                    Some(backoff.next_delay())
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = watch.changed(), if pause.is_none() => {}
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    async fn identify(&self) -> Result<Facts, Error> {
        let options = &self.options;
        let wanted = [
            ("system-id", options.chassis.clone()),
            ("ovn-encap-type", options.encap_type.clone()),
            ("ovn-encap-ip", options.encap_address.map(|ip| ip.to_string())),
            ("ovn-remote", options.southbound.clone()),
            (DATAPATH, options.datapath.clone()),
        ];
        // What is not configured is not ours to remove.
        let wanted: BTreeMap<_, _> = wanted
            .into_iter()
            .filter(|(_, value)| value.is_some())
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        self.switch.set_external(&wanted).await?;
        self.switch.facts().await
    }

    /// The name counts once there is a tunnel's end as well: else it could carry nothing.
    fn tell(&self, facts: &Facts) {
        let chassis = facts.system_id.clone().filter(|_| facts.encap_ip.is_some() && facts.remote.is_some());
        self.chassis.send_if_modified(|known| {
            let news = chassis.is_some() && *known != chassis;
            if news {
                tracing::info!(
                    chassis = chassis.as_deref().unwrap_or_default(),
                    "this host takes part in logical networks"
                );
                known.clone_from(&chassis);
            }
            news
        });
    }
}
