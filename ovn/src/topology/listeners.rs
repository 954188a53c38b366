//! Forwards and load balancers: addresses of the uplink that lead to addresses inside. A forward is a balancer with one
//! target each.

use std::collections::BTreeMap;
use std::net::IpAddr;

use basalt_model::network::balance::{HealthCheck, Transport};

use super::facts::{Listener, Network};
use crate::nb::{Rows, Table};

/// Adds the rows of one network.
pub(super) fn add(rows: &mut Rows, net: &Network) {
    for listener in &net.listeners {
        if let Some(target) = listener.rest {
            let row = Balancer { net, listener, word: "rest", protocol: None };
            row.add(rows, &BTreeMap::from([(plain(listener.address), vec![plain(target)])]));
        }
        for protocol in [Transport::Tcp, Transport::Udp] {
            let word = protocol.as_str();
            let mapped = listener.ports.iter().filter(|(of, ..)| *of == protocol);
            let vips: BTreeMap<String, Vec<String>> = mapped
                .map(|(_, port, targets)| {
                    let targets = targets.iter().map(|(ip, port)| joined(*ip, *port)).collect();
                    (joined(listener.address, *port), targets)
                })
                .collect();
            if !vips.is_empty() {
                Balancer { net, listener, word, protocol: Some(word) }.add(rows, &vips);
            }
        }
    }
}

fn plain(ip: IpAddr) -> String {
    ip.to_string()
}

fn joined(ip: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(ip, port).to_string()
}

/// One row of the table `Load_Balancer`.
struct Balancer<'a> {
    net: &'a Network,
    listener: &'a Listener,
    word: &'static str,
    protocol: Option<&'static str>,
}

impl Balancer<'_> {
    fn add(&self, rows: &mut Rows, vips: &BTreeMap<String, Vec<String>>) {
        let (net, address) = (self.net, self.listener.address);
        let key = net.key(&format!("lb/{address}/{}", self.word));
        let row = rows.add(Table::LoadBalancer, key.as_str());
        row.text("name", format!("{}-lb-{address}-{}", net.prefix(), self.word)).texts("protocol", self.protocol);
        for (vip, targets) in vips {
            row.put("vips", vip.as_str(), targets.join(","));
        }
        // The router answers for the address although it is not its own.
        if self.listener.answered {
            row.put("options", "neighbor_responder", "all");
        }
        if let Some(check) = self.listener.check.filter(|_| self.protocol.is_some() && address.is_ipv4()) {
            self.checked(rows, &key, vips, check);
        }
        rows.add(Table::LogicalRouter, net.key("lr")).refer("load_balancer", key.as_str());
        rows.add(Table::LogicalSwitch, net.key("ls-int")).refer("load_balancer", key);
    }

    /// Backends that are interfaces of ours are asked whether they are there; others cannot be.
    fn checked(&self, rows: &mut Rows, key: &str, vips: &BTreeMap<String, Vec<String>>, check: HealthCheck) {
        let Some(from) = self.net.gateway4.map(basalt_model::network::check::checker4) else { return };
        for port in &self.net.ports {
            let Some(ip) = port.ipv4.filter(|ip| self.listener.leads_to((*ip).into())) else { continue };
            rows.add(Table::LoadBalancer, key).put("ip_port_mappings", ip.to_string(), format!("{}:{from}", port.name));
        }
        for vip in vips.keys() {
            let own = format!("{key}/check/{vip}");
            let row = rows.add(Table::HealthCheck, own.as_str());
            row.text("vip", vip.as_str());
            row.put("options", "interval", check.interval.to_string());
            row.put("options", "timeout", check.timeout.to_string());
            row.put("options", "success_count", check.success_count.to_string());
            row.put("options", "failure_count", check.failure_count.to_string());
            rows.add(Table::LoadBalancer, key).refer("health_check", own);
        }
    }
}
