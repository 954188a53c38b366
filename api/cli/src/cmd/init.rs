//! `basalt init`: makes this machine a cluster of one, or a member of an existing cluster, and gives a new cluster its
//! first pool, network and default profile. Every step is skipped when it was done before, so an interrupted init is
//! simply run again.

mod address;
mod ask;
mod plan;

use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use basalt_client::{Client, Object, Token};
use clap::Args;

use basalt_api::dto::cluster::JoinToken;
use basalt_api::dto::network::{self, Network};
use basalt_api::dto::pool::Pool;
use basalt_api::dto::profile::{self, Profile};
use basalt_api::dto::project::Project;
use basalt_api::dto::server;

use crate::context::Context;
use crate::output;
use plan::{Begin, OwnedNetwork, Plan, Resources};

/// How long a fresh cluster may take until it accepts writes.
const SETTLE: Duration = Duration::from_secs(30);
/// How long a pool or network may take to be made.
const MAKE: Duration = Duration::from_secs(180);

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Ask nothing: a new cluster with usual settings
    #[arg(long, conflicts_with_all = ["preseed", "join"])]
    auto: bool,
    /// Read all answers from a YAML file, or from standard input (-)
    #[arg(long, value_name = "FILE", conflicts_with = "join")]
    preseed: Option<PathBuf>,
    /// Join the cluster that gave this token (`basalt cluster token NAME` there)
    #[arg(long, value_name = "TOKEN")]
    join: Option<String>,
    /// Name of this member; the host name when left out
    #[arg(long)]
    name: Option<String>,
    /// Address of this member's API, HOST or HOST:PORT; that of the default route when left out
    #[arg(long)]
    address: Option<String>,
    /// Storage driver of the pool `default`: zfs when the host has it, else dir
    #[arg(long, value_name = "DRIVER", value_parser = ["zfs", "dir"])]
    storage_driver: Option<String>,
    /// Size of its loop file (zfs), such as 20GiB
    #[arg(long, value_name = "SIZE")]
    storage_size: Option<String>,
    /// Where it lies: a device, a dataset, a folder
    #[arg(long, value_name = "PATH")]
    storage_source: Option<String>,
    /// Address and prefix of the bridge, such as 10.7.0.1/24; a free one when left out
    #[arg(long, value_name = "CIDR")]
    network_address: Option<String>,
}

pub(crate) async fn init(context: &Context, args: Init) -> Result<()> {
    let client = context.conf.local();
    let plan = if let Some(path) = &args.preseed {
        plan::Preseed::read(&read(path)?)?.into_plan(&client).await?
    } else if let Some(token) = &args.join {
        join_plan(token, args.address.as_deref())?
    } else if args.auto || given(&args) {
        auto_plan(&client, &args).await?
    } else if io::stdin().is_terminal() {
        ask::plan(&client).await?
    } else {
        bail!("there is no terminal to ask on: use --auto, --preseed FILE or --join TOKEN");
    };
    carry_out(context, &client, plan).await
}

fn given(args: &Init) -> bool {
    let options = [&args.name, &args.address, &args.storage_driver, &args.storage_size, &args.storage_source];
    options.iter().any(|option| option.is_some()) || args.network_address.is_some()
}

fn read(path: &std::path::Path) -> Result<String> {
    if path == std::path::Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The plan for joining with a token.
pub(crate) fn join_plan(token: &str, address: Option<&str>) -> Result<Plan> {
    let token = JoinToken::decode(token)?;
    let address = address.map_or_else(|| address::towards(&token.addresses), address::complete);
    Ok(Plan { begin: Begin::Join { token, address }, resources: Resources::default() })
}

async fn auto_plan(client: &Client, args: &Init) -> Result<Plan> {
    let name = args.name.clone().map_or_else(plan::host_name, Ok)?;
    let address = match &args.address {
        Some(address) => address::complete(address),
        None => address::of_this_machine(client).await?,
    };
    let driver = match &args.storage_driver {
        Some(driver) => driver.clone(),
        None => plan::best_driver(client).await?,
    };
    let mut pool = plan::usual_pool(&driver);
    let keys = [("size", &args.storage_size), ("source", &args.storage_source)];
    pool.config.extend(keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?))));
    let mut network = plan::usual_network();
    if let Some(address) = &args.network_address {
        network.config.insert("ipv4.address".to_owned(), address.clone());
        network.config.insert("ipv4.nat".to_owned(), "true".to_owned());
    }
    let profile = plan::usual_profile(&pool.name, Some(&network.name));
    let resources = Resources {
        pools: vec![pool],
        networks: vec![network.into()],
        profiles: vec![profile],
        ..Resources::default()
    };
    Ok(Plan { begin: Begin::Bootstrap { name, address }, resources })
}

/// Does what the plan says and was not done yet.
pub(crate) async fn carry_out(context: &Context, client: &Client, plan: Plan) -> Result<()> {
    let initialised = is_initialised(client).await?;
    match (&plan.begin, initialised) {
        (Begin::Join { .. }, true) => bail!("this machine already is part of a cluster: see `basalt cluster list`"),
        (Begin::Nothing, false) => {
            bail!("the preseed has no section `cluster`, and this machine is part of no cluster")
        }
        (Begin::Join { token, address }, false) => {
            let operation = client.join(token, address).await?;
            let name = &token.server_name;
            context.follow(client, &operation, &format!("Joining as {name}")).await?;
            settle(client).await?;
            context.say(format!("Joined the cluster as {name}, API at https://{address}"))?;
        }
        (Begin::Bootstrap { name, address }, false) => {
            let operation = client.bootstrap(name, address).await?;
            context.follow(client, &operation, "Making the cluster").await?;
            settle(client).await?;
            context.say(format!("Made a cluster of one: {name}, API at https://{address}"))?;
        }
        (Begin::Bootstrap { .. } | Begin::Nothing, true) => {
            if !context.is_quiet() {
                output::note("This machine already is part of a cluster; adding what is missing.");
            }
        }
    }
    provide(context, client, plan.resources).await
}

/// Whether there is a cluster here.
pub(crate) async fn is_initialised(client: &Client) -> Result<bool> {
    match client.list::<Pool>().await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(503) && error.to_string().contains("not initialised") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Waits until the cluster answers.
async fn settle(client: &Client) -> Result<()> {
    let ready = async {
        loop {
            match client.list::<Pool>().await {
                Err(error) if error.code() == Some(503) => tokio::time::sleep(Duration::from_millis(100)).await,
                result => return result.map(drop),
            }
        }
    };
    tokio::time::timeout(SETTLE, ready).await.context("the cluster was made but does not answer yet")??;
    Ok(())
}

async fn provide(context: &Context, client: &Client, wanted: Resources) -> Result<()> {
    if !wanted.config.is_empty() {
        let now = client.server().await?;
        let mut config = now.value.config;
        config.extend(wanted.config);
        let config = config.into_iter().map(|(key, value)| (key, value.into())).collect();
        client.replace_server(&server::Put { config }, now.etag.as_deref()).await?;
    }
    for project in wanted.projects {
        let replace =
            network::Put { description: Some(project.description.clone()), config: Some(project.config.clone()) };
        ensure::<Project>(client, "project", &project.name.clone(), &project, Some(replace)).await?;
    }
    for pool in wanted.pools {
        let made = ensure::<Pool>(client, "storage pool", &pool.name, &pool, None).await?;
        ready(&format!("storage pool {}", pool.name), async || {
            let now = client.object::<Pool>(&pool.name).await?.value;
            Ok((now.status, now.description))
        })
        .await?;
        if made {
            context.say(format!("Made storage pool {} ({})", pool.name, pool.driver))?;
        }
    }
    for OwnedNetwork { project, network } in wanted.networks {
        let client = &project.map_or_else(|| client.clone(), |project| client.in_project(Some(&project)));
        let made = ensure::<Network>(client, "network", &network.name, &network, None).await?;
        ready(&format!("network {}", network.name), async || {
            let now = client.object::<Network>(&network.name).await?.value;
            Ok((now.status, now.description))
        })
        .await?;
        if made {
            context.say(format!("Made network {}", network.name))?;
        }
    }
    for profile in wanted.profiles {
        ensure_profile(client, profile).await?;
    }
    Ok(())
}

/// Waits until the members have made what was asked for; `look` gives status and description, which says why it failed.
async fn ready(what: &str, look: impl AsyncFn() -> Result<(String, String)>) -> Result<()> {
    let settled = async {
        loop {
            match look().await? {
                (status, _) if status == "Pending" => tokio::time::sleep(Duration::from_millis(100)).await,
                (status, why) if status == "Errored" => bail!("{what} could not be made {why}"),
                _ => return Ok(()),
            }
        }
    };
    let late = || {
        format!(
            "{what} is not made after {} s: look at `basalt storage list` and `basalt network list`",
            MAKE.as_secs()
        )
    };
    tokio::time::timeout(MAKE, settled).await.with_context(late)?
}

/// Makes an object unless there is one, which is replaced if `replace` says so. Tells whether it was made.
async fn ensure<T: Object>(
    client: &Client,
    what: &str,
    name: &str,
    wanted: &T::Create,
    replace: Option<T::Replace>,
) -> Result<bool> {
    let doing = || format!("{what} {name}");
    match client.object::<T>(name).await {
        Ok(now) => {
            if let Some(replace) = replace {
                client.replace_object::<T>(name, &replace, now.etag.as_deref()).await.with_context(doing)?;
            }
            Ok(false)
        }
        Err(error) if error.is_not_found() => {
            client.create::<T>(wanted).await.with_context(doing)?;
            Ok(true)
        }
        Err(error) => Err(error).with_context(doing),
    }
}

/// The default profile exists from the start: what it lacks is added, what it has is left alone.
async fn ensure_profile(client: &Client, wanted: Profile) -> Result<()> {
    let doing = || format!("profile {}", wanted.name);
    let mut now = match client.object::<Profile>(&wanted.name).await {
        Ok(now) => now,
        Err(error) if error.is_not_found() => return client.create::<Profile>(&wanted).await.with_context(doing),
        Err(error) => return Err(error).with_context(doing),
    };
    let mut devices = wanted.devices.clone();
    devices.append(&mut now.value.devices);
    let mut config = wanted.config.clone();
    config.append(&mut now.value.config);
    let put = profile::Put { description: Some(now.value.description), config: Some(config), devices: Some(devices) };
    client.replace_object::<Profile>(&wanted.name, &put, now.etag.as_deref()).await.with_context(doing)
}
