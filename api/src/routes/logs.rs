//! Logs of instances: the engine's, the console's, and recorded output of programs. They lie with the instance's home.

use axum::extract::Request;

use super::home::at_home;
use crate::call::{Call, Segment};
use crate::error::Error;
use crate::reply::{self, Reply};

const ENGINE_LOG: &str = "lxc.log";
const CONSOLE_LOG: &str = "console.log";

pub(crate) async fn list(call: Call, Segment(name): Segment<String>) -> Reply {
    call.instance(&name)?;
    reply::sync([ENGINE_LOG, CONSOLE_LOG].map(|file| format!("/1.0/instances/{name}/logs/{file}")))
}

pub(crate) async fn get(mut call: Call, Segment((name, file)): Segment<(String, String)>, request: Request) -> Reply {
    let (instance, _) = match at_home(&mut call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    let log = match file.as_str() {
        ENGINE_LOG => call.api.ports.guests.engine_log(instance.id).await?,
        CONSOLE_LOG => call.api.ports.guests.console_log(instance.id).await?,
        _ => return Err(Error::NotFound("Log".into())),
    };
    Ok(reply::raw("application/octet-stream", log))
}

pub(crate) async fn list_recordings(mut call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let (instance, _) = match at_home(&mut call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    let names = call.api.recordings.list(instance.id).into_iter();
    reply::sync(names.map(|file| format!("/1.0/instances/{name}/logs/exec-output/{file}")).collect::<Vec<_>>())
}

pub(crate) async fn get_recording(
    mut call: Call,
    Segment((name, file)): Segment<(String, String)>,
    request: Request,
) -> Reply {
    let (instance, _) = match at_home(&mut call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    let bytes = call.api.recordings.get(instance.id, &file).ok_or_else(|| Error::NotFound("Recording".into()))?;
    Ok(reply::raw("application/octet-stream", bytes))
}

pub(crate) async fn delete_recording(
    mut call: Call,
    Segment((name, file)): Segment<(String, String)>,
    request: Request,
) -> Reply {
    let (instance, _) = match at_home(&mut call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    match call.api.recordings.remove(instance.id, &file) {
        true => reply::empty(),
        false => Err(Error::NotFound("Recording".into())),
    }
}
