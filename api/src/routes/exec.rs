//! Programs and consoles in guests. Their operations live on the member that is the instance's home.

use axum::extract::{FromRequest, Request};
use basalt_model::instance::{Instance, Phase};
use serde_json::{Map, Value, json};

use super::home::at_home;
use crate::call::{Call, Json, Segment};
use crate::dto::instance::{Console, Exec};
use crate::dto::operation::Class;
use crate::error::Error;
use crate::operation::New;
use crate::port::ExecRequest;
use crate::reply::{self, Reply};
use crate::stream::console::{self, Session};
use crate::stream::exec::{self, Sockets};

/// Where programs are looked for when nobody says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A terminal of nobody's choice.
const DEFAULT_SIZE: (u16, u16) = (80, 25);

/// Refuses what needs a running guest, as far as a quorum knows of none: that it was started may have been told by
/// another member a moment before this one hears of it.
async fn must_run(call: &mut Call, name: &str, instance: &Instance) -> Result<(), Error> {
    if runs(instance).is_ok() {
        return Ok(());
    }
    call.confirm().await?;
    runs(&call.instance(name)?)
}

fn runs(instance: &Instance) -> Result<(), Error> {
    match instance.phase() {
        Some(Phase::Running) => Ok(()),
        Some(Phase::Frozen) => Err(Error::Refused("Instance is frozen".into())),
        // A failed request says nothing of the guest: it is asked.
        Some(Phase::Failed) => Ok(()),
        Some(Phase::Stopped) | None => Err(Error::Refused("Instance is not running".into())),
    }
}

pub(crate) async fn exec(mut call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let (instance, request) = match at_home(&mut call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    let Json(body) = Json::<Exec>::from_request(request, &call.api).await?;
    must_run(&mut call, &name, &instance).await?;
    if body.command.is_empty() || body.command[0].is_empty() {
        return Err(Error::invalid("command", "is missing"));
    }
    if body.command.iter().chain(body.environment.values()).chain(body.environment.keys()).any(|t| t.contains('\0')) {
        return Err(Error::invalid("command", "may not hold a zero byte"));
    }
    if body.record_output && (body.wait_for_websocket || body.interactive) {
        return Err(Error::invalid("record-output", "cannot be used with wait-for-websocket or interactive"));
    }
    call.happened("instance-exec", format!("/1.0/instances/{}", instance.name), Some(&instance.project));
    let wanted = exec_request(&call, &instance, &body);
    match body.wait_for_websocket {
        true => with_sockets(&call, &instance, body, wanted),
        false => without_sockets(&call, &instance, body, wanted),
    }
}

fn exec_request(call: &Call, instance: &Instance, body: &Exec) -> ExecRequest {
    let mut environment = Map::new();
    let root = body.user == 0;
    for (key, value) in [("PATH", PATH), ("LANG", "C.UTF-8")] {
        environment.insert(key.into(), json!(value));
    }
    if root {
        environment.insert("HOME".into(), json!("/root"));
        environment.insert("USER".into(), json!("root"));
    }
    let mut environment: crate::dto::Map =
        environment.into_iter().map(|(k, v)| (k, v.as_str().unwrap_or_default().to_owned())).collect();
    for (key, value) in call.view.expanded_config(&instance.project, &instance.spec) {
        if let Some(name) = key.strip_prefix("environment.") {
            environment.insert(name.to_owned(), value);
        }
    }
    environment.extend(body.environment.clone());
    let size = match (body.width, body.height) {
        (0, _) | (_, 0) => DEFAULT_SIZE,
        size => size,
    };
    let cwd = Some(body.cwd.clone()).filter(|cwd| !cwd.is_empty());
    ExecRequest {
        command: body.command.clone(),
        environment,
        cwd,
        uid: body.user,
        gid: body.group,
        terminal: body.interactive.then_some(size),
    }
}

fn described(body: &Exec, request: &ExecRequest) -> Map<String, Value> {
    let mut metadata = Map::new();
    metadata.insert("command".into(), json!(body.command));
    metadata.insert("environment".into(), json!(request.environment));
    metadata.insert("interactive".into(), json!(body.interactive));
    metadata
}

fn with_sockets(call: &Call, instance: &Instance, body: Exec, request: ExecRequest) -> Reply {
    let new = New {
        class: Class::Websocket,
        metadata: described(&body, &request),
        ..call.instance_operation("Executing command", instance)
    };
    let (api, id) = (call.api.clone(), instance.id);
    let names: &[&str] = if body.interactive { &["0"] } else { &["0", "1", "2"] };
    let started = call.api.operations.start(new, |handle| {
        // Made before the answer goes out: the client attaches with them.
        let mut fds = Map::new();
        let mut data = Vec::new();
        for name in names {
            let (secret, socket) = handle.socket();
            fds.insert((*name).to_owned(), json!(secret));
            data.push(socket);
        }
        let (secret, control) = handle.socket();
        fds.insert("control".into(), json!(secret));
        handle.metadata("fds", Value::Object(fds));
        async move {
            let outcome = exec::run(api, id, request, Sockets { data, control }).await;
            if outcome.is_err() {
                handle.metadata("return", json!(-1));
            }
            outcome.map(exec::returned)
        }
    });
    reply::operation(&started)
}

fn without_sockets(call: &Call, instance: &Instance, body: Exec, request: ExecRequest) -> Reply {
    let new = New {
        class: Class::Task,
        metadata: described(&body, &request),
        ..call.instance_operation("Executing command", instance)
    };
    let (api, id, name) = (call.api.clone(), instance.id, instance.name.clone());
    let started = call.api.operations.start(new, |handle| async move {
        let record = body.record_output.then(|| handle.snapshot().id);
        let outcome = exec::run_recorded(api, id, request, record).await;
        if outcome.is_err() {
            handle.metadata("return", json!(-1));
        }
        let (code, recorded) = outcome?;
        let mut metadata = exec::returned(code);
        if let Some([out, err]) = recorded {
            let url = |file| format!("/1.0/instances/{name}/logs/exec-output/{file}");
            metadata.insert("output".into(), json!({"1": url(out), "2": url(err)}));
        }
        Ok(metadata)
    });
    reply::operation(&started)
}

pub(crate) async fn console(mut call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let (instance, request) = match at_home(&mut call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    let Json(body) = Json::<Console>::from_request(request, &call.api).await?;
    match body.kind.as_str() {
        "" | "console" => {}
        "vga" => return Err(Error::invalid("type", "only virtual machines have a graphical console")),
        other => return Err(Error::invalid("type", format!("{other:?} is neither console nor vga"))),
    }
    must_run(&mut call, &name, &instance).await?;
    let size = match (body.width, body.height) {
        (0, _) | (_, 0) => DEFAULT_SIZE,
        size => size,
    };
    let taken = call.api.consoles.take(instance.id, body.force)?;
    call.happened("instance-console", format!("/1.0/instances/{}", instance.name), Some(&instance.project));
    let new = New { class: Class::Websocket, ..call.instance_operation("Showing console", &instance) };
    let (api, id) = (call.api.clone(), instance.id);
    let started = call.api.operations.start(new, |handle| {
        let (data_secret, data) = handle.socket();
        let (control_secret, control) = handle.socket();
        handle.metadata("fds", json!({"0": data_secret, "control": control_secret}));
        async move { console::run(api, Session { id, size, data, control, taken }).await }
    });
    reply::operation(&started)
}

pub(crate) async fn clear_console_log(mut call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let (instance, _) = match at_home(&mut call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    call.api.ports.guests.clear_console_log(instance.id).await?;
    call.happened("instance-console-reset", format!("/1.0/instances/{}", instance.name), Some(&instance.project));
    reply::empty()
}

pub(crate) async fn console_log(mut call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    if call.query("type") == Some("vga") {
        return Err(Error::invalid("type", "only virtual machines have a graphical console"));
    }
    let (instance, _) = match at_home(&mut call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    let log = call.api.ports.guests.console_log(instance.id).await?;
    call.happened("instance-console-retrieved", format!("/1.0/instances/{}", instance.name), Some(&instance.project));
    Ok(reply::raw("application/octet-stream", log))
}
