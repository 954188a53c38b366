//! Storage volumes: the roots of instances, as clients list them. Custom volumes do not exist yet.

use basalt_model::instance::Instance;
use basalt_model::pool::Pool;

use super::render;
use crate::call::{Call, Segment};
use crate::clock;
use crate::dto::pool::Volume;
use crate::error::Error;
use crate::filter::Filter;
use crate::reply::{self, Reply};

fn of_instance(call: &Call, instance: &Instance) -> Volume {
    Volume {
        name: instance.name.to_string(),
        kind: instance.spec.kind.as_str().into(),
        content_type: match instance.spec.kind {
            basalt_model::instance::Kind::Container => "filesystem".into(),
            basalt_model::instance::Kind::VirtualMachine => "block".into(),
        },
        description: String::new(),
        config: crate::dto::Map::new(),
        used_by: vec![render::instance_url(instance)],
        location: render::location(&call.view, instance),
        project: instance.project.to_string(),
        created_at: clock::text(instance.created_at),
    }
}

fn volumes(call: &Call, pool: &Pool) -> Result<Vec<Volume>, Error> {
    let projects = call.projects()?;
    let filter = Filter::parse(call.query("filter").unwrap_or_default())?;
    let instances = call.view.instances.values().filter(|i| projects.contains(&i.project));
    let here = instances.filter(|i| call.view.root_pool(&i.project, &i.spec).as_ref() == Some(&pool.name));
    let mut all: Vec<Volume> = here.map(|i| of_instance(call, i)).filter(|v| filter.takes(v)).collect();
    all.sort_by(|a, b| (&a.project, &a.name).cmp(&(&b.project, &b.name)));
    Ok(all)
}

fn answer(call: &Call, pool: &Pool, volumes: Vec<Volume>) -> Reply {
    match call.recursion() {
        0 => {
            let url = |v: &Volume| format!("/1.0/storage-pools/{}/volumes/{}/{}", pool.name, v.kind, v.name);
            reply::sync(volumes.iter().map(url).collect::<Vec<_>>())
        }
        _ => reply::sync(volumes),
    }
}

pub(crate) async fn list(call: Call, Segment(name): Segment<String>) -> Reply {
    let pool = call.pool(&name)?;
    let all = volumes(&call, &pool)?;
    answer(&call, &pool, all)
}

pub(crate) async fn list_kind(call: Call, Segment((name, kind)): Segment<(String, String)>) -> Reply {
    let pool = call.pool(&name)?;
    if !["container", "virtual-machine", "image", "custom"].contains(&kind.as_str()) {
        return Err(Error::invalid("type", format!("{kind:?} is not a type of volume")));
    }
    let all = volumes(&call, &pool)?.into_iter().filter(|v| v.kind == kind).collect();
    answer(&call, &pool, all)
}

pub(crate) async fn get(call: Call, Segment((name, kind, volume)): Segment<(String, String, String)>) -> Reply {
    let pool = call.pool(&name)?;
    let found = volumes(&call, &pool)?.into_iter().find(|v| v.kind == kind && v.name == volume);
    reply::sync(found.ok_or_else(|| Error::NotFound("Storage volume".into()))?)
}
