//! Files of instances, by headers and by SFTP. They lie with the instance's home.

use axum::extract::Request;

use super::home::at_home;
use crate::call::{Call, Segment};
use crate::error::Error;
use crate::reply::Reply;
use crate::stream::files;

fn path(call: &Call) -> Result<&str, Error> {
    call.query("path").ok_or_else(|| Error::invalid("path", "is missing"))
}

fn happened(call: &Call, what: &str, name: &str) {
    let project = call.project().ok();
    call.happened(what, format!("/1.0/instances/{name}"), project.as_ref());
}

pub(crate) async fn get(mut call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let (instance, _) = match at_home(&mut call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    let answer = files::get(call.api.ports.files.clone(), instance.id, path(&call)?, &call.method).await?;
    happened(&call, "instance-file-retrieved", &name);
    Ok(answer)
}

pub(crate) async fn post(mut call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let (instance, request) = match at_home(&mut call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    let body = request.into_body();
    let answer = files::post(call.api.ports.files.clone(), instance.id, path(&call)?, &call.headers, body).await?;
    happened(&call, "instance-file-pushed", &name);
    Ok(answer)
}

pub(crate) async fn delete(mut call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let (instance, _) = match at_home(&mut call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    let answer = files::delete(call.api.ports.files.clone(), instance.id, path(&call)?).await?;
    happened(&call, "instance-file-deleted", &name);
    Ok(answer)
}

pub(crate) async fn sftp(mut call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let (instance, request) = match at_home(&mut call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    files::sftp(&call.api.tasks, call.api.ports.files.clone(), instance.id, request).await
}
