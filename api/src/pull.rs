//! Images on their way in from other servers. Whoever asks for one that is being downloaded here, from the same server,
//! waits for the same download; it ends when nobody waits any more.
//!
//! A project gets no image because another one has it: a server that offers a fingerprint need not have what it stands for,
//! and what is in a project is nobody else's to have. So each project downloads once for itself.
//!
//! ```text
//!  request --look--> offer --in the project?--> that image
//!                      |
//!                      +--> Pull (one task, shared) --facts--> each waiter proposes the record; the first one wins
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use basalt_model::command::ImageCommand;
use basalt_model::image::{Alias, Image, Protocol, UpdateSource};
use basalt_model::{
    AliasKey, AliasName, Command, Fingerprint, ImageKey, ProfileName, ProjectName, StateView, Timestamp,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::call::propose;
use crate::clock;
use crate::error::Error;
use crate::operation::Handle;
use crate::port::ImageFacts;
use crate::port::remote::{Offer, RemoteImage};

/// Where clients look for how far a download is.
const PROGRESS: &str = "download_progress";

/// What the caller says of an image that is to be kept.
#[derive(Debug, Clone)]
pub(crate) struct Wishes {
    /// Whose it is to be.
    pub(crate) project: ProjectName,
    pub(crate) filename: String,
    pub(crate) public: bool,
    pub(crate) auto_update: bool,
    pub(crate) cached: bool,
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) aliases: Vec<AliasName>,
    pub(crate) profiles: Option<Vec<ProfileName>>,
    /// Overrides what the image says.
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) last_used_at: Timestamp,
    pub(crate) source: Option<UpdateSource>,
}

impl Wishes {
    /// An image of a project, and nothing more said.
    pub(crate) fn of(project: ProjectName) -> Self {
        Wishes {
            project,
            filename: String::new(),
            public: false,
            auto_update: false,
            cached: false,
            properties: BTreeMap::new(),
            aliases: Vec::new(),
            profiles: None,
            expires_at: None,
            last_used_at: Timestamp::NEVER,
            source: None,
        }
    }

    /// What the image is found by once it is there.
    pub(crate) fn image(&self, fingerprint: &Fingerprint) -> ImageKey {
        ImageKey { project: self.project.clone(), name: fingerprint.clone() }
    }
}

/// Downloads under way on this member.
#[derive(Debug, Default)]
pub(crate) struct Pulls(Mutex<BTreeMap<Origin, Weak<Pull>>>);

/// What is downloaded, and from where: what one server calls by a fingerprint another may only pretend to have.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Origin {
    server: String,
    protocol: Protocol,
    certificate: String,
    fingerprint: Option<Fingerprint>,
}

/// One of them, as those who wait for it hold it.
#[derive(Debug)]
struct Pull {
    stage: watch::Receiver<Stage>,
    cancel: CancellationToken,
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

#[derive(Debug, Clone)]
enum Stage {
    Under(String),
    Done(Result<ImageFacts, Error>),
}

impl Pulls {
    /// The download of `offer`, begun if there is none.
    fn join(&self, api: &Arc<Api>, wanted: &RemoteImage, offer: &Offer) -> Arc<Pull> {
        let key = Origin {
            server: wanted.source.server.clone(),
            protocol: wanted.source.protocol,
            certificate: wanted.source.certificate.clone(),
            fingerprint: offer.fingerprint.clone(),
        };
        let mut under = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        under.retain(|_, pull| pull.strong_count() > 0);
        if let Some(pull) = under.get(&key).and_then(Weak::upgrade) {
            return pull;
        }
        let (sender, stage) = watch::channel(Stage::Under(String::new()));
        let pull = Arc::new(Pull { stage, cancel: CancellationToken::new() });
        under.insert(key, Arc::downgrade(&pull));
        let (cancel, remotes) = (pull.cancel.clone(), api.ports.remotes.clone());
        let (wanted, offer) = (wanted.clone(), offer.clone());
        api.tasks.spawn("image pull", async move {
            let tell = |text: String| drop(sender.send_replace(Stage::Under(text)));
            let done = tokio::select! {
                () = cancel.cancelled() => return,
                done = remotes.pull(&wanted, &offer, &tell) => done,
            };
            sender.send_replace(Stage::Done(done.map_err(Error::from)));
        });
        pull
    }
}

impl Pull {
    /// Waits for its end. Dropping the future leaves the download, unless nobody else waits for it.
    async fn end(&self, handle: &Handle) -> Result<ImageFacts, Error> {
        let mut stage = self.stage.clone();
        loop {
            let now = stage.borrow_and_update().clone();
            match now {
                Stage::Done(result) => return result,
                Stage::Under(text) if text.is_empty() => {}
                Stage::Under(text) => handle.progress(PROGRESS, text),
            }
            if stage.changed().await.is_err() {
                return Err(Error::Unavailable("the download was given up: this member is stopping".into()));
            }
        }
    }
}

/// Gets the image that `wanted` names: the project's own if it has it, else downloaded now.
///
/// # Errors
/// It cannot be had; nothing is left then.
pub(crate) async fn pull(
    api: &Arc<Api>,
    wanted: &RemoteImage,
    wishes: &Wishes,
    handle: &Handle,
) -> Result<Fingerprint, Error> {
    handle.progress(PROGRESS, "Looking for the image");
    let offer = api.ports.remotes.look(wanted).await?;
    if let Some(known) = offer.fingerprint.as_ref().filter(|f| api.view().images.contains_key(&wishes.image(f))) {
        handle.clear(PROGRESS);
        return Ok(known.clone());
    }
    let pull = api.pulls.join(api, wanted, &offer);
    let facts = pull.end(handle).await?;
    let fingerprint = facts.fingerprint.clone();
    handle.clear(PROGRESS);
    match add(api, facts, &offer, wishes).await {
        // Somebody else waited for the same download, or another member had its own.
        Ok(()) | Err(Error::Conflict(_)) => Ok(fingerprint),
        Err(error) => Err(error),
    }
}

/// Makes what was received an image of the project.
///
/// # Errors
/// [`Error::Conflict`] when the project has it already.
pub(crate) async fn add(api: &Api, facts: ImageFacts, offer: &Offer, wishes: &Wishes) -> Result<(), Error> {
    let fingerprint = facts.fingerprint;
    let mut properties = facts.properties;
    properties.extend(offer.properties.clone());
    properties.extend(wishes.properties.clone());
    let names = [&wishes.filename, &offer.filename].into_iter().find(|name| !name.is_empty());
    let known = |at: Timestamp| Some(at).filter(|at| *at != Timestamp::NEVER);
    let image = Image {
        project: wishes.project.clone(),
        filename: names.map_or_else(|| format!("{fingerprint}.tar"), |name| plain_name(name)),
        fingerprint: fingerprint.clone(),
        kind: facts.kind,
        architecture: facts.architecture,
        format: facts.format,
        size: facts.size,
        public: wishes.public,
        properties,
        created_at: facts.created_at,
        uploaded_at: clock::now(),
        expires_at: wishes
            .expires_at
            .or(known(facts.expires_at))
            .or(known(offer.expires_at))
            .unwrap_or(Timestamp::NEVER),
        last_used_at: wishes.last_used_at,
        holders: [api.ports.cluster.standing().me].into_iter().collect(),
        cached: wishes.cached,
        auto_update: wishes.auto_update,
        update_source: wishes.source.clone(),
        profiles: wishes.profiles.clone(),
    };
    let added = propose(api, Command::Image(ImageCommand::Add(Box::new(image)))).await;
    // It may have happened where there was no answer.
    if added.as_ref().is_err_and(|error| !matches!(error, Error::Unavailable(_))) {
        api.ports.images.release(&fingerprint);
    }
    match added {
        Err(Error::Conflict(_)) => Err(Error::Conflict("Image with same fingerprint already exists".into())),
        other => other.map(drop),
    }
}

/// Only shown; but it comes back in a header, and must not bring lines or folders of its own.
pub(crate) fn plain_name(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or_default();
    let kept = name.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\' | ';'));
    kept.take(255).collect()
}

/// Gives an image the names that the caller wants for it; one that it has already is fine.
///
/// # Errors
/// Another image has the name.
pub(crate) async fn name(api: &Api, fingerprint: &Fingerprint, wishes: &Wishes) -> Result<(), Error> {
    for name in &wishes.aliases {
        let id = AliasKey { project: wishes.project.clone(), name: name.clone() };
        if api.view().aliases.get(&id).is_some_and(|alias| alias.target == *fingerprint) {
            continue;
        }
        let AliasKey { project, name } = id;
        let alias = Alias { project, name, target: fingerprint.clone(), description: String::new() };
        propose(api, Command::Image(ImageCommand::SetAlias { alias, replace: false })).await?;
    }
    Ok(())
}

/// An image of the project that is kept current, and that came from where `wanted` is looked for: no server need be asked.
pub(crate) fn kept(view: &StateView, project: &ProjectName, wanted: &RemoteImage) -> Option<Fingerprint> {
    let same = |image: &&Image| image.auto_update && image.update_source.as_ref() == Some(&wanted.source);
    let asked_by_name = !wanted.name.is_empty() && wanted.name == wanted.source.alias;
    let newest = view.images_of(project).filter(same).max_by_key(|image| image.uploaded_at);
    newest.filter(|_| asked_by_name).map(|image| image.fingerprint.clone())
}

/// Looks for a newer image where this one came from, and lets it take this one's place. Says its fingerprint.
///
/// Broken off anywhere, the next call finishes: the newer one is there, names still point to the old one.
///
/// # Errors
/// The source cannot be asked, or the image has none.
pub(crate) async fn refresh(api: &Arc<Api>, old: &Image, handle: &Handle) -> Result<Option<Fingerprint>, Error> {
    let Some(source) = old.update_source.clone() else {
        return Err(Error::Refused("the image did not come from another server: there is nothing to look at".into()));
    };
    let wanted = RemoteImage { name: source.alias.clone(), secret: String::new(), source: source.clone() };
    let wishes = Wishes {
        public: old.public,
        auto_update: old.auto_update,
        cached: old.cached,
        profiles: old.profiles.clone(),
        last_used_at: old.last_used_at,
        source: Some(source),
        ..Wishes::of(old.project.clone())
    };
    let newer = pull(api, &wanted, &wishes, handle).await?;
    if newer == old.fingerprint {
        return Ok(None);
    }
    for alias in api.view().aliases.values().filter(|alias| alias.image() == old.id()) {
        let alias = Alias { target: newer.clone(), ..alias.clone() };
        propose(api, Command::Image(ImageCommand::SetAlias { alias, replace: true })).await?;
    }
    match propose(api, Command::Image(ImageCommand::Remove(old.id()))).await {
        // Gone already, or an instance is just being made from it: the next look removes it.
        Ok(_) | Err(Error::NotFound(_) | Error::Refused(_)) => Ok(Some(newer)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_only_names() {
        assert_eq!(plain_name("../../etc/passwd"), "passwd");
        assert_eq!(plain_name("a\r\nSet-Cookie: x\"; y"), "aSet-Cookie: x y");
        assert_eq!(plain_name(&"x".repeat(999)).len(), 255);
    }
}
