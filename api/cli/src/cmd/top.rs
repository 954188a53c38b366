//! `basalt top`: members and instances, live, the busiest first. Printed once when there is no terminal.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use anyhow::Result;
use basalt_client::Client;
use clap::Args;

use basalt_api::dto::cluster::{Member, MemberState};
use basalt_api::dto::instance::Full;

use crate::context::Context;
use crate::output;
use crate::table::Table;

/// Home, and clear what is below: no flicker.
const REDRAW: &str = "\x1b[H\x1b[J";
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Seconds between two looks
    #[arg(short, long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
    /// Of all projects
    #[arg(long)]
    all_projects: bool,
}

/// One look at the cluster.
struct Look {
    at: Instant,
    members: Vec<(Member, Option<MemberState>)>,
    instances: Vec<Full>,
}

pub(crate) async fn top(context: &Context, args: Top) -> Result<()> {
    let client = context.client()?;
    let interval = Duration::from_secs(args.interval);
    let before = look(&client, args.all_projects).await?;
    if !io::stdout().is_terminal() {
        tokio::time::sleep(interval).await;
        let now = look(&client, args.all_projects).await?;
        return output::print(&render(&before, &now, usize::MAX));
    }
    output::print(ENTER)?;
    let result = tokio::select! {
        result = Box::pin(watch(&client, args.all_projects, interval, before)) => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    output::print(LEAVE)?;
    result
}

async fn watch(client: &Client, all_projects: bool, interval: Duration, mut before: Look) -> Result<()> {
    loop {
        tokio::time::sleep(interval).await;
        let now = look(client, all_projects).await?;
        let rows = usize::from(crate::terminal::size().1);
        let screen: Vec<String> = render(&before, &now, rows).lines().take(rows - 1).map(str::to_owned).collect();
        output::print(&format!("{REDRAW}{}\n", screen.join("\n")))?;
        before = now;
    }
}

async fn look(client: &Client, all_projects: bool) -> Result<Look> {
    let instances = client.instances(None, all_projects).await?;
    let mut members = Vec::new();
    for member in client.members().await? {
        // A member that cannot be asked is shown as such.
        let state = client.member_state(&member.server_name).await.ok();
        members.push((member, state));
    }
    Ok(Look { at: Instant::now(), members, instances })
}

fn render(before: &Look, now: &Look, rows: usize) -> String {
    let mut text = String::new();
    let mut members = Table::new(["MEMBER", "STATE", "LOAD", "CPUS", "MEMORY USED", "MEMORY", "INSTANCES"]);
    for (member, state) in &now.members {
        let info = state.as_ref().map(|state| &state.sysinfo);
        let load = info.and_then(|i| i.load_averages.first()).map_or_else(String::new, |load| format!("{load:.2}"));
        let cpus = info.map_or_else(String::new, |i| i.logical_cpus.to_string());
        let used = info.map_or_else(String::new, |i| output::bytes(i.total_ram.saturating_sub(i.free_ram)));
        let total = info.map_or_else(String::new, |i| output::bytes(i.total_ram));
        let home = now.instances.iter().filter(|i| i.instance.location == member.server_name).count().to_string();
        members.row([&member.server_name, &member.status.to_uppercase(), &load, &cpus, &used, &total, &home]);
    }
    text.push_str(&members.compact());
    text.push('\n');
    text.push_str(&instances(before, now, rows.saturating_sub(now.members.len() + 3)).compact());
    text
}

fn instances(before: &Look, now: &Look, rows: usize) -> Table {
    let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
    let key = |i: &Full| (i.instance.project.clone(), i.instance.name.clone());
    let earlier: BTreeMap<_, i64> = before.instances.iter().map(|i| (key(i), i.state.cpu.usage)).collect();
    let mut shown: Vec<(f64, &Full)> = now
        .instances
        .iter()
        .map(|i| {
            // One that was not measured before has no rate yet.
            let usage = earlier.get(&key(i)).copied().filter(|&usage| usage > 0);
            let spent = usage.map_or(0, |usage| i.state.cpu.usage.saturating_sub(usage).max(0));
            (spent as f64 / 1e7 / seconds, i)
        })
        .collect();
    shown.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.instance.name.cmp(&b.1.instance.name)));
    let mut table = Table::new(["INSTANCE", "STATE", "CPU %", "MEMORY", "DISK", "PROCESSES", "LOCATION"]);
    for (cpu, full) in shown.into_iter().take(rows) {
        let count = |value: i64| u64::try_from(value).ok().filter(|&v| v > 0).map_or_else(String::new, output::bytes);
        let disk = full.state.disk.get("root").map_or(0, |disk| disk.usage);
        table.row([
            full.instance.name.clone(),
            full.instance.status.to_uppercase(),
            format!("{cpu:.1}"),
            count(full.state.memory.usage),
            count(disk),
            full.state.processes.max(0).to_string(),
            full.instance.location.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_comes_first_in_percent_of_one_cpu() {
        let full = |name: &str, usage: i64| {
            let mut full = Full::default();
            full.instance.name = name.to_owned();
            full.state.cpu.usage = usage;
            full
        };
        let at = Instant::now();
        let look = |seconds, a, b| Look {
            at: at + Duration::from_secs(seconds),
            members: Vec::new(),
            instances: vec![full("a", a), full("b", b)],
        };
        let table = instances(&look(0, 1, 1), &look(2, 200_000_001, 3_000_000_001), 10).csv();
        assert_eq!(table, "b,,150.0,,,0,\na,,10.0,,,0,\n");
    }
}
