//! The program's text, line by line.
//!
//! ```text
//!  ingress(dp="basalt-net7-ls-int", inport="...")             where: a new station when the datapath is another
//!   4. ls_out_acl (northd.c:6543): MATCH, priority P, uuid U  the flow that counts in a table
//!      drop;                                                  what it does, indented
//!      /* output to "PORT", type "TYPE" */                    it leaves the datapath
//! ```

use super::{End, Names, Step, Way};

/// A flow that the packet met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Flow {
    table: String,
    about: String,
    priority: i64,
}

/// Reads an answer to its end. Of several copies, as of a broadcast, the first that arrives counts.
pub fn read(text: &str, names: &Names) -> Way {
    let mut reader = Reader {
        names,
        at: String::new(),
        flow: Flow::default(),
        steps: Vec::new(),
        asks: None,
        hop: None,
        rule: None,
    };
    for line in text.lines() {
        if let Some(end) = reader.line(line.trim()) {
            return Way { steps: reader.steps, end };
        }
    }
    // It came nowhere: what it met last let it fall.
    let by = reader.culprit();
    Way { steps: reader.steps, end: End::Dropped { by } }
}

struct Reader<'a> {
    names: &'a Names,
    /// The datapath.
    at: String,
    flow: Flow,
    steps: Vec<Step>,
    /// Whose hardware address is asked for, from there on in place of the packet.
    asks: Option<String>,
    /// The next hop, as the router chose it.
    hop: Option<String>,
    /// The rule of a list that was met last: newer programs look rules up in one table and obey in the next.
    rule: Option<String>,
}

impl Reader<'_> {
    fn line(&mut self, line: &str) -> Option<End> {
        if let Some(header) = ["ingress(", "egress(", "multicast("].iter().find_map(|word| line.strip_prefix(word)) {
            self.arrive(header);
            return None;
        }
        if let Some(flow) = flow(line) {
            if is_acl(&flow.table)
                && let Some(rule) = self.names.rule(flow.priority, &flow.about)
            {
                self.rule = Some(rule.to_owned());
            }
            self.flow = flow;
            return None;
        }
        self.action(line)
    }

    fn arrive(&mut self, header: &str) {
        let Some(datapath) = quoted(header, "dp=") else { return };
        self.rule = None;
        if datapath != self.at {
            datapath.clone_into(&mut self.at);
            if let Some(port) = quoted(header, "inport=").filter(|port| self.names.ports.contains_key(*port)) {
                self.say(format!("comes in from {}", self.names.port(port)));
            }
        }
    }

    fn say(&mut self, what: impl Into<String>) {
        let step = Step { at: self.names.datapath(&self.at), what: what.into() };
        if self.steps.last() != Some(&step) {
            self.steps.push(step);
        }
    }

    fn action(&mut self, line: &str) -> Option<End> {
        if let Some(rest) = line.strip_prefix("/* output to ") {
            let (port, kind) = (quoted(rest, "").unwrap_or_default(), quoted(rest, "type ").unwrap_or_default());
            return self.leave(port, kind);
        }
        if line.starts_with("reject {") || line.starts_with("reject{") {
            return Some(End::Rejected { by: self.culprit() });
        }
        if line == "drop;" {
            // One copy of a broadcast that ends says nothing of the others.
            let copy = self.asks.is_some();
            return (!copy).then(|| End::Dropped { by: self.culprit() });
        }
        self.note(line);
        None
    }

    /// What is worth a line of its own.
    fn note(&mut self, line: &str) {
        let value = |name: &str| line.strip_prefix(name)?.strip_prefix(" = ")?.strip_suffix(';');
        let table = self.flow.table.as_str();
        match table {
            "ls_in_acl" | "ls_out_acl" if line.starts_with("reg0[1] =") || line == "next;" => self.allow(),
            "ls_in_acl_eval" | "ls_out_acl_eval" if line == "reg8[16] = 1;" => self.allow(),
            "lr_in_ip_input" if line.starts_with("ip4.dst <-> ip4.src") || line.starts_with("ip6.dst <-> ip6.src") => {
                self.say("is meant for the router itself");
            }
            "lr_in_ip_routing" => {
                if let Some(hop) = value("reg0").or_else(|| value("xxreg0")) {
                    self.hop = (hop.parse::<std::net::IpAddr>().is_ok()).then(|| hop.to_owned());
                }
                if let Some(port) = value("outport") {
                    let port = port.trim_matches('"');
                    let to = if port.ends_with("-lr-lrp-ext") { "to the uplink" } else { "inside" };
                    let peer = if port.contains("-lr-lrp-peer-") { "to a peer" } else { to };
                    let hop = self.hop.as_ref().map(|hop| format!(", next hop {hop}")).unwrap_or_default();
                    self.say(format!("is routed {peer}{hop}"));
                }
            }
            _ => {}
        }
        if let Some(rest) = line.strip_prefix("ct_lb(backends=").or_else(|| line.strip_prefix("ct_lb_mark(backends=")) {
            let backends = rest.split([')', ';']).next().unwrap_or_default();
            self.say(format!("is balanced over {backends}"));
        }
        for word in ["ct_snat_in_czone(", "ct_snat(", "ct_dnat_in_czone(", "ct_dnat("] {
            if let Some(address) = line.strip_prefix(word).and_then(|rest| rest.split([')', ',']).next()) {
                let end = if word.starts_with("ct_snat") { "source" } else { "destination" };
                self.say(format!("its {end} becomes {address} (NAT)"));
            }
        }
        if line.starts_with("arp {") || line.starts_with("nd_ns {") {
            let neighbour = self.hop.clone().unwrap_or_else(|| "the destination".into());
            self.say(format!("asks who has {neighbour}: it is not known yet"));
            self.asks = Some(neighbour);
        }
    }

    fn allow(&mut self) {
        let rule = self.names.rule(self.flow.priority, &self.flow.about);
        if let Some(rule) = rule.map(|rule| format!("allowed: {rule}")) {
            self.say(rule);
        }
    }

    fn leave(&mut self, port: &str, kind: &str) -> Option<End> {
        match (kind, self.asks.take()) {
            ("patch", asks) => {
                self.asks = asks;
                None
            }
            ("localnet", Some(neighbour)) => Some(End::Asks { neighbour }),
            ("localnet", None) => Some(End::Left { port: port.to_owned() }),
            (_, Some(neighbour)) => Some(End::Asks { neighbour }),
            // The way back of what the router answers.
            _ if self.steps.iter().any(|step| step.what == "is meant for the router itself") => Some(End::Answered),
            _ => Some(End::Delivered { port: port.to_owned() }),
        }
    }

    /// What the flow that was met last stands for.
    fn culprit(&self) -> String {
        let at = self.names.datapath(&self.at);
        match (self.flow.table.as_str(), &self.rule) {
            ("", _) => "the southbound database does not know the port".into(),
            (table, Some(rule)) if is_acl(table) => format!("{at}: {rule}"),
            ("ls_in_check_port_sec" | "ls_in_apply_port_sec", _) => {
                format!("{at}: port security: the interface has no such address (security.mac_filtering)")
            }
            ("ls_out_check_port_sec" | "ls_out_apply_port_sec", _) => {
                format!("{at}: port security: the interface that it comes to has no such address")
            }
            ("ls_in_l2_lkup" | "ls_in_l2_unknown", _) => format!("{at}: nobody there has this hardware address"),
            ("lr_in_ip_routing" | "lr_in_ip_routing_ecmp", _) => format!("{at}: it has no route there"),
            ("lr_in_policy", _) => format!("{at}: its source is not of this network"),
            ("lr_in_admission", _) => format!("{at}: it is not meant for the router"),
            (table, _) => format!("{at}: table {table}: {} (priority {})", self.flow.about, self.flow.priority),
        }
    }
}

/// Whether a table is about rules of lists.
fn is_acl(table: &str) -> bool {
    table.starts_with("ls_in_acl") || table.starts_with("ls_out_acl")
}

/// ` 4. ls_out_acl (northd.c:6543): MATCH, priority P, uuid U`
fn flow(line: &str) -> Option<Flow> {
    let (number, rest) = line.split_once(". ")?;
    number.parse::<u8>().ok()?;
    let (head, rest) = rest.split_once(": ")?;
    let table = head.split(' ').next()?.to_owned();
    let (about, tail) = rest.rsplit_once(", priority ")?;
    let priority = tail.split(',').next()?.trim().parse().ok()?;
    Some(Flow { table, about: about.to_owned(), priority })
}

/// What is between quotes after a word.
fn quoted<'a>(text: &'a str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("{after}\""))?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names::default();
        names.ports.insert("p3".into(), "eth0 of c3".into());
        names
    }

    #[test]
    fn a_packet_that_leaves() {
        let text = r#"# tcp,reg14=0x3
ingress(dp="ls", inport="p3")
-----------------------------
 0. ls_in_check_port_sec (northd.c:8432): 1, priority 50, uuid a69716ca
    next;
    /* output to "ls-r", type "patch" */

ingress(dp="lr", inport="lr-int")
---------------------------------
13. lr_in_ip_routing (northd.c:10388): reg7 == 0 && ip4.dst == 0.0.0.0/0, priority 1, uuid 4608a403
    ip.ttl--;
    reg0 = 192.0.2.1;
    outport = "basalt-net7-lr-lrp-ext";
    next;

egress(dp="lr", inport="lr-int", outport="lr-ext")
 3. lr_out_snat (northd.c:13958): ip && ip4.src == 10.7.0.0/24, priority 153, uuid 021c53ff
    ct_snat_in_czone(192.0.2.10);

ingress(dp="ext", inport="ext-r")
multicast(dp="ext", mcgroup="_MC_unknown")
    egress(dp="ext", inport="a", outport="b")
         9. ls_out_apply_port_sec (northd.c:5777): 1, priority 0, uuid 9e1ac7bb
            output;
            /* output to "b", type "localnet" */"#;
        let way = read(text, &names());
        let steps: Vec<_> = way.steps.iter().map(|s| format!("{}: {}", s.at, s.what)).collect();
        let expected = [
            "ls: comes in from eth0 of c3",
            "lr: is routed to the uplink, next hop 192.0.2.1",
            "lr: its source becomes 192.0.2.10 (NAT)",
        ];
        assert_eq!((steps, way.end), (expected.map(str::to_owned).into(), End::Left { port: "b".into() }));
    }

    #[test]
    fn what_ends_nowhere_was_dropped_by_what_it_met_last() {
        let spoofed = "ingress(dp=\"ls\", inport=\"p3\")\n 1. ls_in_apply_port_sec (northd.c:8435): reg0[15] == 1, priority 50, uuid f11aa74c\n    drop;";
        let End::Dropped { by } = read(spoofed, &names()).end else { panic!() };
        assert!(by.contains("port security"), "{by}");
        // With a log, the program does not write `drop`.
        let logged = "ingress(dp=\"ls\", inport=\"p3\")\n 8. ls_in_acl (northd.c:1): x, priority 1500, uuid f11aa74c\n    log(name=\"x\");\nLOG: ACL name=x\n----";
        let End::Dropped { by } = read(logged, &names()).end else { panic!() };
        assert!(by.contains("ls_in_acl: x (priority 1500)"), "{by}");
        assert!(matches!(read("", &names()).end, End::Dropped { by } if by.contains("does not know")));
    }
}
