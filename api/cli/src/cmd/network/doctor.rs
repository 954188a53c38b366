//! `basalt network doctor` and `basalt network trace`.

use anyhow::Result;
use basalt_api::dto::diagnosis::{Diagnosis, Trace};
use basalt_client::{Client, Path};
use clap::{Args, ValueEnum};

use crate::output::{self, Format, Output};
use crate::table::Table;

/// The exit code when something is wrong, or a packet does not arrive.
const BAD: u8 = 1;

#[derive(Debug, Args)]
pub(crate) struct Question {
    instance: String,
    /// Where the packet is to go
    address: String,
    /// Which interface sends it; the first on a logical network when absent
    #[arg(short, long)]
    device: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    protocol: Protocol,
    /// The port of tcp and udp
    #[arg(long)]
    port: Option<u16>,
    /// Print what ovn-trace says, too
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Protocol {
    #[default]
    Icmp,
    Tcp,
    Udp,
}

/// Says what is wrong with a network.
pub(super) async fn doctor(client: &Client, name: &str, output: Output) -> Result<u8> {
    let found: Diagnosis = client.get(Path::of("networks").segment(name).segment("doctor")).await?;
    match output.format {
        Format::Json => output::print(&(serde_json::to_string(&found)? + "\n"))?,
        Format::Yaml => output::print(&output::yaml(&found)?)?,
        Format::Csv | Format::Compact => output.list(&found.findings, || table(&found))?,
        Format::Table => output::print(&told(name, &found))?,
    }
    Ok(if found.healthy { 0 } else { BAD })
}

fn table(found: &Diagnosis) -> Table {
    let mut table = Table::new(["SEVERITY", "STATION", "LOCATION", "WHAT", "REMEDY"]);
    for f in &found.findings {
        table.row([&f.severity, &f.station, &f.location, &f.what, &f.remedy]);
    }
    table
}

fn told(name: &str, found: &Diagnosis) -> String {
    let mut text = String::new();
    for finding in &found.findings {
        let at = match finding.location.as_str() {
            "" => String::new(),
            location => format!(" ({location})"),
        };
        text.push_str(&format!("{} [{}]{at}: {}\n", finding.severity, finding.station, finding.what));
        if !finding.remedy.is_empty() {
            text.push_str(&format!("    {}\n", finding.remedy));
        }
    }
    let switches = found.hosts.len();
    text.push_str(&match found.healthy {
        true => format!("{name} is healthy: state, northbound, southbound and {switches} switches agree\n"),
        false => {
            let wrong = found.findings.iter().filter(|finding| finding.severity == "error").count();
            format!("{name} is not healthy: errors: {wrong}\n")
        }
    });
    text
}

/// Says where a packet would go.
pub(super) async fn trace(client: &Client, question: &Question) -> Result<u8> {
    let protocol = match question.protocol {
        Protocol::Icmp => "icmp",
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let path = Path::of("network-trace").with("instance", &question.instance).with("address", &question.address);
    let path = path.with("protocol", protocol).with_some("device", question.device.as_deref());
    let port = question.port.map(|port| port.to_string());
    let trace: Trace = client.get(path.with_some("port", port.as_deref())).await?;
    output::print(&way(&trace))?;
    if question.verbose {
        output::print(&format!("\nAs ovn-trace on {} has it:\n{}", trace.location, trace.raw))?;
    }
    let fine = matches!(trace.outcome.as_str(), "delivered" | "left" | "asks" | "answered");
    Ok(if fine { 0 } else { BAD })
}

fn way(trace: &Trace) -> String {
    let mut text = String::new();
    let wide = trace.steps.iter().map(|step| step.at.len()).max().unwrap_or_default();
    for step in &trace.steps {
        text.push_str(&format!("{:<wide$}  {}\n", step.at, step.what));
    }
    text.push_str(&format!("=> {}\n", trace.end));
    text
}

#[cfg(test)]
mod tests {
    use basalt_api::dto::diagnosis::{Finding, Step};

    use super::*;

    #[test]
    fn a_diagnosis_says_what_to_do() {
        let finding = Finding {
            severity: "error".into(),
            station: "port".into(),
            location: "node1".into(),
            what: "eth0 of c1 is not plugged in".into(),
            remedy: "plug it in".into(),
        };
        let sick = told("net0", &Diagnosis { findings: vec![finding], ..Diagnosis::default() });
        let expected =
            "error [port] (node1): eth0 of c1 is not plugged in\n    plug it in\nnet0 is not healthy: errors: 1\n";
        assert_eq!(sick, expected);
        let healthy = Diagnosis { healthy: true, ..Diagnosis::default() };
        assert!(told("net0", &healthy).starts_with("net0 is healthy"));
    }

    #[test]
    fn a_way_is_a_line_for_each_station() {
        let step = |at: &str, what: &str| Step { at: at.into(), what: what.into() };
        let steps = vec![step("switch of a", "comes in"), step("router of a", "is routed")];
        let trace = Trace { steps, end: "delivered".into(), ..Trace::default() };
        assert_eq!(way(&trace), "switch of a  comes in\nrouter of a  is routed\n=> delivered\n");
    }
}
