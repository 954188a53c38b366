//! Files in the guest that are made of its image's templates, before it starts.
//!
//! ```text
//!   metadata.yaml: path -> template, when      first start: create, start     first start of a copy: copy, start
//!        |                                      later: start
//!        '--> template + instance --render--> file in the guest, as its root
//! ```
//! Which start it is, a file in the volume's own folder tells: it holds the id of the instance for which the first was
//! made, and is written last, so that what was broken off is done again.
//!
//! Templates come with images, which are not trusted: they see the instance's own configuration and nothing else, work
//! with a bounded number of steps and bytes, and what they make is written by the rules of the guest's own root.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use basalt_api::dto::image_metadata::ImageTemplate;
use basalt_api::port::PortError;
use basalt_api::port::files::{FileError, Files, OpenOptions};
use basalt_api::port::parts::{ImageParts, MAX_TEMPLATE};
use basalt_model::instance::{Instance, Kind};
use basalt_model::{InstanceId, StateView};
use bytes::Bytes;
use minijinja::{Environment, Value, context};

use super::Parts;
use crate::port::files::NodeFiles;
use crate::port::parts::NodeParts;

/// Steps of a template.
const FUEL: u64 = 200_000;

/// Makes the files that are due at this start.
///
/// # Errors
/// Says which template it was and what is wrong with it.
pub(super) async fn render(parts: &Parts, view: &StateView, instance: &Instance) -> Result<(), String> {
    if instance.spec.kind != Kind::Container {
        return Ok(());
    }
    let image = NodeParts { cluster: parts.cluster.clone(), pools: parts.pools.clone() };
    let metadata = image.metadata(instance.id).await.map_err(|e| e.to_string())?;
    if metadata.templates.is_empty() {
        return Ok(());
    }
    let first_of = image.first_start(instance.id).await.map_err(|e| e.to_string())?;
    let due = match first_of {
        None => ["create", "start"],
        Some(id) if id == instance.id => ["start", "start"],
        Some(_) => ["copy", "start"],
    };
    let files =
        NodeFiles { cluster: parts.cluster.clone(), drivers: parts.drivers.clone(), pools: parts.pools.clone() };
    for (path, template) in &metadata.templates {
        let Some(trigger) = due.iter().find(|trigger| template.when.iter().any(|w| w == *trigger)) else { continue };
        let failed = |why: String| format!("template {:?} for {path}: {why}", template.template);
        if template.create_only && exists(&files, instance.id, Path::new(path)).await.map_err(failed)? {
            continue;
        }
        let source = image.template(instance.id, &template.template).await.map_err(|e| failed(e.to_string()))?;
        let source = String::from_utf8(source).map_err(|_| failed("is not UTF-8".into()))?;
        let subject = Subject { view, instance, template, path, trigger };
        let made = subject.rendered(&source).map_err(failed)?;
        write(&files, instance.id, Path::new(path), made).await.map_err(failed)?;
    }
    match first_of == Some(instance.id) {
        true => Ok(()),
        false => image.set_first_start(instance.id).await.map_err(|e| e.to_string()),
    }
}

/// What a template is about.
struct Subject<'a> {
    view: &'a StateView,
    instance: &'a Instance,
    template: &'a ImageTemplate,
    path: &'a str,
    trigger: &'a str,
}

impl Subject<'_> {
    fn rendered(&self, source: &str) -> Result<Vec<u8>, String> {
        let (instance, view) = (self.instance, self.view);
        let config: BTreeMap<String, String> = view.expanded_config(&instance.project, &instance.spec);
        let devices = view.expanded_devices(&instance.project, &instance.spec);
        let flag = |key: &str| config.get(key).is_some_and(|v| basalt_model::config::is_true(v)).to_string();
        let about = context! {
            name => instance.name.to_string(),
            type => instance.spec.kind.as_str(),
            architecture => instance.spec.architecture,
            project => instance.project.to_string(),
            ephemeral => instance.spec.ephemeral.to_string(),
            privileged => flag("security.privileged"),
        };
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_keep_trailing_newline(true);
        // Files are no web pages.
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        let known = config.clone();
        environment.add_function("config_get", move |key: String, default: Option<Value>| match known.get(&key) {
            Some(value) => Value::from(value.clone()),
            None => default.unwrap_or_else(|| Value::from("")),
        });
        let context = context! {
            trigger => self.trigger,
            path => self.path,
            container => about,
            instance => about,
            config => config,
            devices => devices,
            properties => self.template.properties,
        };
        let template = environment.template_from_str(source).map_err(|error| chain(&error))?;
        let mut made = Bounded(Vec::new());
        template.render_captured_to(context, &mut made).map_err(|error| chain(&error))?;
        Ok(made.0)
    }
}

fn chain(error: &minijinja::Error) -> String {
    basalt_runtime::chain(error)
}

/// Takes no more than a template may hold.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.len() + bytes.len() <= MAX_TEMPLATE {
            true => {
                self.0.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            false => Err(io::Error::other(format!("makes more than {MAX_TEMPLATE} bytes"))),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn exists(files: &NodeFiles, id: InstanceId, path: &Path) -> Result<bool, String> {
    match files.stat(id, path, false).await {
        Ok(_) => Ok(true),
        Err(FileError::NotFound | FileError::NotDir) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

async fn write(files: &NodeFiles, id: InstanceId, path: &Path, content: Vec<u8>) -> Result<(), String> {
    let parents: Vec<PathBuf> = path.ancestors().skip(1).map(Path::to_owned).collect();
    for folder in parents.iter().rev().filter(|f| *f != Path::new("/")) {
        match files.mkdir(id, folder, 0o755).await {
            Ok(()) | Err(FileError::Exists) => {}
            Err(error) => return Err(format!("{}: {error}", folder.display())),
        }
    }
    let how = OpenOptions { write: true, truncate: true, create: Some(0o644), ..OpenOptions::default() };
    let file = files.open(id, path, how).await.map_err(|error| error.to_string())?;
    file.write_at(0, Bytes::from(content)).await.map_err(|error| error.to_string())
}

/// What [`render`] needs of the volume's folder beside the API's own port.
impl NodeParts {
    /// The instance whose first start this volume has seen last.
    async fn first_start(&self, id: InstanceId) -> Result<Option<InstanceId>, PortError> {
        let text = self.note(id, FIRST_START).await?;
        Ok(text.and_then(|text| String::from_utf8(text).ok()?.trim().parse().ok()))
    }

    async fn set_first_start(&self, id: InstanceId) -> Result<(), PortError> {
        self.set_note(id, FIRST_START, format!("{id}\n").into_bytes()).await
    }
}

const FIRST_START: &str = "templated";
