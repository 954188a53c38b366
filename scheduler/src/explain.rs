//! A refusal in words, for the user whose request it was.

use std::collections::BTreeMap;

use basalt_model::{InstanceName, MemberName};

use crate::Reason;

/// Names every member with its reason; members that share one are named together.
pub fn explain(name: &InstanceName, reasons: &[(MemberName, Reason)]) -> String {
    let mut seen: BTreeMap<&Reason, usize> = BTreeMap::new();
    let mut groups: Vec<(&Reason, Vec<&str>)> = Vec::new();
    for (member, reason) in reasons {
        let at = *seen.entry(reason).or_insert(groups.len());
        if at == groups.len() {
            groups.push((reason, Vec::new()));
        }
        groups[at].1.push(member.as_str());
    }
    let texts: Vec<String> =
        groups.into_iter().map(|(reason, members)| format!("{}: {reason}", members.join(", "))).collect();
    match texts.is_empty() {
        true => format!("no member can take instance {name}: the cluster has none"),
        false => format!("no member can take instance {name}: {}", texts.join("; ")),
    }
}

/// A size for people: the largest unit that leaves a whole part, with one decimal where it is not exact.
pub(crate) fn bytes(size: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in UNITS {
        let whole = size >> shift;
        if whole > 0 {
            let tenths = ((size - (whole << shift)) >> (shift - 10)) * 10 / 1024;
            return match tenths {
                0 => format!("{whole} {unit}"),
                tenths => format!("{whole}.{tenths} {unit}"),
            };
        }
    }
    format!("{size} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_with_the_same_reason_are_named_together() {
        let name = InstanceName::new("web").unwrap();
        let member = |n: &str| MemberName::new(n).unwrap();
        let short = Reason::Memory { free: 512 << 20, total: 2 << 30, needed: 3 << 29 };
        let reasons = [(member("n1"), Reason::Offline), (member("n2"), short), (member("n3"), Reason::Offline)];
        assert_eq!(
            explain(&name, &reasons),
            "no member can take instance web: n1, n3: offline; n2: not enough memory: 512 MiB free of 2 GiB, 1.5 GiB needed"
        );
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(5 << 40), "5 TiB");
        assert_eq!(bytes(u64::MAX), "16777215.9 TiB");
    }
}
