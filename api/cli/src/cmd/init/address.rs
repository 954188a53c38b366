//! Which of this machine's addresses others reach it by.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::Result;
use basalt_client::Client;

const PORT: u16 = 8443;
/// An address that is nobody's: where the default route would take a packet to.
const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// `host:port`, the port added when it is missing.
pub(crate) fn complete(address: &str) -> String {
    let address = address.strip_prefix("https://").unwrap_or(address);
    match address.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, PORT).to_string(),
        Err(_) if address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => address.to_owned(),
        Err(_) => format!("{address}:{PORT}"),
    }
}

/// What the member says that it listens on, else the address of the default route, else that of any interface.
pub(crate) async fn of_this_machine(client: &Client) -> Result<String> {
    let said = client.server().await?.value.environment.and_then(|e| e.addresses.into_iter().next());
    Ok(said.filter(|address| !address.is_empty()).unwrap_or_else(|| guess(&[ANYWHERE])))
}

/// The address from which those are reached.
pub(crate) fn towards(addresses: &[String]) -> String {
    let targets: Vec<SocketAddr> = addresses.iter().filter_map(|address| address.parse().ok()).collect();
    guess(&targets)
}

fn guess(targets: &[SocketAddr]) -> String {
    let routed = targets.iter().find_map(|target| source(*target));
    let ip = routed.or_else(|| source(ANYWHERE)).or_else(of_interface).unwrap_or(Ipv4Addr::LOCALHOST.into());
    SocketAddr::new(ip, PORT).to_string()
}

/// The address that the kernel would send from. Connecting a datagram socket sends nothing.
fn source(target: SocketAddr) -> Option<IpAddr> {
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

fn of_interface() -> Option<IpAddr> {
    let addresses = nix::ifaddrs::getifaddrs().ok()?;
    addresses
        .filter_map(|interface| Some(IpAddr::V4(interface.address?.as_sockaddr_in()?.ip())))
        .find(|ip| !ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_added_once() {
        assert_eq!(complete("10.0.0.1"), "10.0.0.1:8443");
        assert_eq!(complete("https://10.0.0.1:9443"), "10.0.0.1:9443");
        assert_eq!(complete("node1.example"), "node1.example:8443");
        assert_eq!(complete("fd00::1"), "[fd00::1]:8443");
    }

    #[test]
    fn loopback_is_reached_from_loopback() {
        assert_eq!(towards(&["127.0.0.1:1".to_owned()]), "127.0.0.1:8443");
    }
}
