//! The questions of an interactive init. Every one has a usual answer.

use std::io::{self, BufRead, Write};

use anyhow::{Result, bail};
use basalt_client::{Client, Token};

use basalt_api::dto::cluster::JoinToken;

use super::address;
use super::plan::{self, BRIDGE, Begin, POOL, Plan, Resources};

pub(crate) async fn plan(client: &Client) -> Result<Plan> {
    if yes("Join an existing cluster?", false)? {
        let token = checked("Join token (`basalt cluster token NAME` on a member gives one)", None, JoinToken::decode)?;
        let usual = address::towards(&token.addresses);
        let address = address::complete(&ask("Address of this member's API", Some(&usual))?);
        return Ok(Plan { begin: Begin::Join { token, address }, resources: Resources::default() });
    }
    let name = ask("Name of this member", Some(&plan::host_name()?))?;
    let usual = address::of_this_machine(client).await?;
    let address = address::complete(&ask("Address of this member's API", Some(&usual))?);
    let mut resources = Resources::default();
    let driver = plan::best_driver(client).await?;
    let driver = checked("Storage driver (zfs, dir)", Some(&driver), |answer| match answer {
        "zfs" | "dir" => Ok(answer.to_owned()),
        _ => Err(format!("there is no driver {answer:?}")),
    })?;
    let mut pool = plan::usual_pool(&driver);
    pool.name = ask("Name of the storage pool", Some(POOL))?;
    if driver == "zfs" {
        let size = ask("Size of its loop file (empty: a fifth of the free space)", Some(""))?;
        if !size.is_empty() {
            pool.config.insert("size".to_owned(), size);
        }
    }
    let mut bridge = None;
    if yes("Make a bridge network with DHCP and NAT?", true)? {
        let mut network = plan::usual_network();
        network.name = ask("Name of the network", Some(BRIDGE))?;
        let subnet = ask("Its IPv4 address and prefix (auto picks a free one)", Some("auto"))?;
        if subnet != "auto" {
            network.config.insert("ipv4.address".to_owned(), subnet);
            network.config.insert("ipv4.nat".to_owned(), "true".to_owned());
        }
        bridge = Some(network.name.clone());
        resources.networks.push(network.into());
    }
    resources.profiles.push(plan::usual_profile(&pool.name, bridge.as_deref()));
    resources.pools.push(pool);
    Ok(Plan { begin: Begin::Bootstrap { name, address }, resources })
}

fn yes(question: &str, usual: bool) -> Result<bool> {
    let shown = if usual { "yes" } else { "no" };
    checked(&format!("{question} (yes/no)"), Some(shown), |answer| match answer.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(true),
        "n" | "no" => Ok(false),
        _ => Err("answer yes or no".to_owned()),
    })
}

fn ask(question: &str, usual: Option<&str>) -> Result<String> {
    checked(question, usual, |answer| Ok::<_, String>(answer.to_owned()))
}

/// Asks until the answer is good.
fn checked<T, E: std::fmt::Display>(
    question: &str,
    usual: Option<&str>,
    check: impl Fn(&str) -> Result<T, E>,
) -> Result<T> {
    let mut out = io::stdout().lock();
    loop {
        match usual {
            Some(usual) if !usual.is_empty() => write!(out, "{question} [{usual}]: ")?,
            _ => write!(out, "{question}: ")?,
        }
        out.flush()?;
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line)? == 0 {
            bail!("no more answers");
        }
        let answer = match (line.trim(), usual) {
            ("", Some(usual)) => usual,
            ("", None) => continue,
            (answer, _) => answer,
        };
        match check(answer) {
            Ok(value) => return Ok(value),
            Err(error) => writeln!(out, "{error}")?,
        }
    }
}
