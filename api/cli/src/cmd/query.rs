//! `basalt query`: any request to the API. Prints the answer's metadata, or the whole answer with `--raw`.

use std::io::{self, Read};

use anyhow::{Context as _, Result, bail};
use basalt_client::{Client, Method};
use clap::Args;
use serde_json::Value;

use basalt_api::dto::operation::Operation;

use crate::context::Context;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Query {
    /// The path, such as /1.0/instances?recursion=1
    path: String,
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    request: String,
    /// What to send, as JSON; from standard input when it is `-`
    #[arg(short, long)]
    data: Option<String>,
    /// Print the answer as it came
    #[arg(long)]
    raw: bool,
    /// Wait for the operation that this starts, and print that
    #[arg(long)]
    wait: bool,
}

pub(crate) async fn query(context: &Context, args: Query) -> Result<u8> {
    if !args.path.starts_with('/') {
        bail!("the path starts with a slash: /1.0/...");
    }
    let method = Method::from_bytes(args.request.to_uppercase().as_bytes()).context("not a method")?;
    let body = match args.data.as_deref() {
        Some("-") => {
            let mut text = Vec::new();
            io::stdin().read_to_end(&mut text).context("cannot read standard input")?;
            Some(text)
        }
        data => data.map(|text| text.as_bytes().to_vec()),
    };
    let client = context.client()?;
    let answer = client.query(method, &args.path, body).await?;
    let parsed: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let shown = match parsed {
        Some(envelope) if !args.raw && envelope.get("type").is_some() => metadata(&client, envelope, args.wait).await?,
        _ => String::from_utf8_lossy(&answer.body).into_owned(),
    };
    output::line(shown.trim_end())?;
    Ok(u8::from(!answer.status.is_success()))
}

async fn metadata(client: &Client, envelope: Value, wait: bool) -> Result<String> {
    if let Some(error) = envelope.get("error").and_then(Value::as_str).filter(|error| !error.is_empty()) {
        bail!("{error}");
    }
    let metadata = envelope.get("metadata").cloned().unwrap_or_default();
    if wait && envelope.get("type").and_then(Value::as_str) == Some("async") {
        let operation: Operation = serde_json::from_value(metadata)?;
        return Ok(serde_json::to_string_pretty(&client.wait(&operation).await?)?);
    }
    Ok(serde_json::to_string_pretty(&metadata)?)
}
