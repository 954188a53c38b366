//! Images that came from elsewhere: on the leader, those that nobody wants any more go, and those that are to be kept
//! current are looked for at their sources.

use std::sync::Arc;
use std::time::{Duration, Instant};

use basalt_api::Api;
use basalt_model::command::ImageCommand;
use basalt_model::image::Image;
use basalt_model::{Cluster, Command, ImageKey, StateView, Timestamp};
use basalt_runtime::Shutdown;

use crate::fact::Clock;

/// How often the leader looks at what is due.
const PERIOD: Duration = Duration::from_secs(60);
/// Defaults of `images.remote_cache_expiry` (days) and `images.auto_update_interval` (hours).
const EXPIRY_DAYS: u64 = 10;
const INTERVAL_HOURS: u64 = 6;
/// A new leader does not begin by asking every server: leadership may go round more often than the interval.
const SETTLE: Duration = Duration::from_secs(300);

/// Looks until shutdown.
pub async fn run(cluster: Arc<dyn Cluster>, api: Arc<Api>, clock: Clock, shutdown: Shutdown) {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut due: Option<Instant> = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let standing = cluster.standing();
        if standing.leader != Some(standing.me) {
            due = None;
            continue;
        }
        let view = cluster.view();
        expire(&*cluster, &view, clock.now()).await;
        let Some(interval) = interval(&view) else { continue };
        let at = *due.get_or_insert_with(|| Instant::now() + SETTLE.min(interval));
        if Instant::now() >= at {
            due = Some(Instant::now() + interval);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = update(&cluster, &api, &view) => {}
            }
        }
    }
}

fn number(view: &StateView, key: &str, default: u64) -> u64 {
    view.config.get(key).and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Time between looks for newer images; `None` for never.
fn interval(view: &StateView) -> Option<Duration> {
    let hours = number(view, "images.auto_update_interval", INTERVAL_HOURS);
    (hours > 0).then(|| Duration::from_secs(hours * 3600))
}

async fn expire(cluster: &dyn Cluster, view: &StateView, now: Timestamp) {
    let days = number(view, "images.remote_cache_expiry", EXPIRY_DAYS);
    for (image, unused_since) in unwanted(view.images.values(), days, now) {
        tracing::info!(%image, days, "a cached image that nobody wanted goes");
        let command = ImageCommand::Expire { image, unused_since };
        if let Err(error) = cluster.propose(Command::Image(command)).await {
            tracing::debug!(%error, "a cached image stays for now");
        }
    }
}

/// Cached images that were not wanted for so many days, and since when; none when `days` is 0.
fn unwanted<'a>(
    images: impl Iterator<Item = &'a Image> + 'a,
    days: u64,
    now: Timestamp,
) -> impl Iterator<Item = (ImageKey, Timestamp)> + 'a {
    let old = move |image: &&Image| days > 0 && now >= image.wanted_at().plus_secs(days * 86_400);
    images.filter(|image| image.cached).filter(old).map(|image| (image.id(), image.wanted_at()))
}

async fn update(cluster: &Arc<dyn Cluster>, api: &Arc<Api>, view: &StateView) {
    for image in view.images.values().filter(|image| image.auto_update && image.update_source.is_some()) {
        // One after the other: a newer version of one is no reason to hurry.
        if let Err(error) = api.refresh_image(&image.id()).await {
            tracing::warn!(image = %image.id(), %error, "no newer image could be looked for");
        }
        let standing = cluster.standing();
        if standing.leader != Some(standing.me) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use basalt_model::image::Format;
    use basalt_model::instance::Kind;
    use basalt_model::{Fingerprint, ProjectName};

    fn image(digit: char, cached: bool, uploaded_at: u64, last_used_at: u64) -> Image {
        Image {
            project: ProjectName::default_project(),
            fingerprint: Fingerprint::new(digit.to_string().repeat(64)).unwrap(),
            kind: Kind::Container,
            architecture: "x86_64".into(),
            format: Format::Unified,
            filename: String::new(),
            size: 1,
            public: false,
            properties: Default::default(),
            created_at: Timestamp(1),
            uploaded_at: Timestamp(uploaded_at),
            expires_at: Timestamp::NEVER,
            last_used_at: Timestamp(last_used_at),
            holders: [basalt_model::NodeId(1)].into(),
            cached,
            auto_update: true,
            update_source: None,
            profiles: None,
        }
    }

    #[test]
    fn only_cached_ones_that_were_long_unused() {
        const DAY: u64 = 86_400_000_000;
        let images = [
            image('1', true, DAY, 0),
            image('2', true, DAY, 5 * DAY),
            image('3', false, DAY, 0),
            image('4', true, 5 * DAY, 0),
            image('5', true, 5 * DAY, DAY),
        ];
        let gone = |days, now: u64| -> Vec<char> {
            let found = unwanted(images.iter(), days, Timestamp(now));
            found.map(|(image, _)| image.name.as_str().chars().next().unwrap()).collect()
        };
        assert_eq!(gone(3, 4 * DAY), ['1', '5'], "a newer version inherits when its forerunner was used");
        assert_eq!(gone(3, 4 * DAY - 1), Vec::<char>::new());
        assert_eq!(gone(3, 8 * DAY), ['1', '2', '4', '5']);
        assert_eq!(gone(0, 99 * DAY), Vec::<char>::new());
    }
}
