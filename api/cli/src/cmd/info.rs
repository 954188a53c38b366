//! `basalt info`: an instance in words, or the server as YAML.

use std::fmt::Write;

use anyhow::Result;
use clap::Args;

use basalt_api::dto::instance::Full;
use basalt_api::dto::state::Interface;

use crate::context::Context;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Info {
    /// The instance; the server when left out
    name: Option<String>,
    /// The member to ask
    #[arg(long)]
    target: Option<String>,
    /// What the machine has
    #[arg(long, conflicts_with = "name")]
    resources: bool,
    /// Its engine's log as well
    #[arg(long, requires = "name")]
    show_log: bool,
}

pub(crate) async fn info(context: &Context, args: Info) -> Result<()> {
    let client = context.client()?.at(args.target.as_deref());
    let Some(name) = &args.name else {
        if args.resources {
            return output::print(&output::yaml(&client.resources().await?)?);
        }
        return output::print(&output::yaml(&client.server().await?.value)?);
    };
    let instance = client.instance_full(name).await?;
    output::print(&describe(&instance)?)?;
    if args.show_log {
        let file = if instance.instance.kind == "virtual-machine" { "qemu.log" } else { "lxc.log" };
        let log = client.instance_log(name, file).await?;
        output::print(&format!("\nLog:\n\n{}", String::from_utf8_lossy(&log)))?;
    }
    Ok(())
}

fn describe(full: &Full) -> Result<String> {
    let (instance, state) = (&full.instance, &full.state);
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        if value.is_empty() { Ok(()) } else { writeln!(text, "{label}: {value}") }
    };
    line("Name", &instance.name)?;
    line("Description", &instance.description)?;
    line("Status", &instance.status.to_uppercase())?;
    line("Type", &instance.kind)?;
    line("Architecture", &instance.architecture)?;
    line("Location", &instance.location)?;
    line("Profiles", &instance.profiles.join(", "))?;
    line("Created", &output::time(&instance.created_at))?;
    line("Last used", &output::time(&instance.last_used_at))?;
    if state.pid > 0 {
        line("PID", &state.pid.to_string())?;
        line("Started", &output::time(&state.started_at))?;
        let count = |value: i64| output::bytes(u64::try_from(value).unwrap_or(0));
        writeln!(text, "\nResources:")?;
        writeln!(text, "  Processes: {}", state.processes)?;
        writeln!(text, "  CPU time: {:.2} s", state.cpu.usage as f64 / 1e9)?;
        writeln!(text, "  Memory: {} (peak {})", count(state.memory.usage), count(state.memory.usage_peak))?;
        for (name, disk) in &state.disk {
            writeln!(text, "  Disk {name}: {}", count(disk.usage))?;
        }
        for (name, interface) in &state.network {
            describe_interface(&mut text, name, interface)?;
        }
    }
    if !full.snapshots.is_empty() {
        writeln!(text, "\nSnapshots:")?;
        for snapshot in &full.snapshots {
            writeln!(text, "  {} ({})", snapshot.name, output::time(&snapshot.created_at))?;
        }
    }
    Ok(text)
}

fn describe_interface(text: &mut String, name: &str, interface: &Interface) -> std::fmt::Result {
    let count = |value: i64| output::bytes(u64::try_from(value).unwrap_or(0));
    writeln!(text, "  Interface {name}: {} {}", interface.state.to_uppercase(), interface.hwaddr)?;
    let counters = &interface.counters;
    writeln!(text, "    Received: {}, sent: {}", count(counters.bytes_received), count(counters.bytes_sent))?;
    for address in &interface.addresses {
        writeln!(text, "    {}: {}/{} ({})", address.family, address.address, address.netmask, address.scope)?;
    }
    Ok(())
}
