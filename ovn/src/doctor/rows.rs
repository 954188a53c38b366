//! The northbound rows of one network, beside those that the state calls for.

use std::collections::BTreeMap;

use super::{Finding, Station, few};
use crate::diff::{Change, Fault, diff};
use crate::nb::rows::unit;
use crate::nb::{Actual, Kind, Rows, Table};
use crate::ovsdb::value::Datum;

const HEALS: &str = "the leader mends this within seconds; if it stays, see `basalt warning list` and the leader's log";

/// Compares the rows of a unit (`net7`).
pub fn rows(of: &str, desired: &Rows, actual: &Actual<'_>) -> Vec<Finding> {
    let mut found: BTreeMap<(Fault, Table), Vec<String>> = BTreeMap::new();
    let changes = diff(desired, actual).into_iter().flat_map(|transaction| transaction.changes);
    for Change { row, fault } in changes.filter(|change| change.row.unit() == of) {
        let names = found.entry((fault, row.table)).or_default();
        let name = row.key.split_once('/').map_or(row.key.as_str(), |(_, rest)| rest).to_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let say = |((fault, table), names): ((Fault, Table), Vec<String>)| {
        let word = match fault {
            Fault::Missing => "missing",
            Fault::Altered => "altered",
            Fault::Reference => "not tied to the rows they should be tied to",
            Fault::Surplus => "left over",
        };
        let what = format!("rows of {} are {word}: {}", table.name(), few(&names));
        Finding::wrong(Station::Northbound, what, HEALS)
    };
    found.into_iter().map(say).chain(foreign(of, actual)).collect()
}

/// What hangs in our rows and is not ours: it is left alone, and packets may go by it.
fn foreign(of: &str, actual: &Actual<'_>) -> Vec<Finding> {
    let mut found: BTreeMap<(Table, String, &'static str), usize> = BTreeMap::new();
    for (table, key, held) in actual.iter().filter(|(_, key, _)| unit(key) == of) {
        for column in table.columns() {
            let Kind::Refs(to, _) = column.kind else { continue };
            let refs = held.column(column.name).into_iter().flat_map(Datum::uuids);
            let count = refs.filter(|uuid| actual.key(to, *uuid).is_none()).count();
            if count > 0 {
                let name = held.column("name").and_then(Datum::as_str).unwrap_or(key).to_owned();
                *found.entry((to, name, column.name)).or_default() += count;
            }
        }
    }
    let say = |((to, holder, column), count): ((Table, String, &str), usize)| {
        let what = format!("{count} rows of {} in {column} of {holder} were made by somebody else", to.name());
        Finding::note(
            Station::Northbound,
            what,
            "they are left alone; look at them with ovn-nbctl if packets go astray",
        )
    };
    found.into_iter().map(say).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::Gravity;
    use super::*;
    use crate::nb::rows::{KEY, OWNER};
    use crate::ovsdb::value::{Name, Row};

    const OURS: Uuid = Uuid::from_u128(7);

    /// A row as a database has it: all columns, those that are not given by default.
    fn tagged(table: Table, key: &str, columns: &[(&'static str, Datum)]) -> Row {
        let ids = Datum::map([(OWNER, OURS.to_string()), (KEY, key.to_owned())]);
        let mut row: Row = table.columns().iter().map(|c| (Name::from(c.name), c.kind.default_datum())).collect();
        row.extend(columns.iter().map(|(name, datum)| (Name::from(*name), datum.clone())));
        row.insert(Name::from("external_ids"), ids);
        row
    }

    fn desired() -> Rows {
        let mut rows = Rows::new(OURS);
        rows.add(Table::LogicalSwitch, "net7/ls-int").text("name", "sw").refer("ports", "net7/port/1/eth0");
        rows.add(Table::LogicalSwitchPort, "net7/port/1/eth0").text("name", "p1");
        rows.add(Table::LogicalSwitch, "net8/ls-int").text("name", "other");
        rows
    }

    #[test]
    fn rows_that_are_not_as_they_should_be_are_named() {
        let desired = desired();
        let (port, strange) = (Uuid::from_u128(2), Uuid::from_u128(3));
        let switch =
            |ports: Datum| tagged(Table::LogicalSwitch, "net7/ls-int", &[("name", "sw".into()), ("ports", ports)]);
        let row = tagged(Table::LogicalSwitchPort, "net7/port/1/eth0", &[("name", "p1".into())]);
        let look = |switch: &Row, port_there: bool| {
            let mut actual = Actual::new(OURS);
            actual.add(Table::LogicalSwitch, Uuid::from_u128(1), switch);
            if port_there {
                actual.add(Table::LogicalSwitchPort, port, &row);
            }
            rows("net7", &desired, &actual)
        };
        assert_eq!(look(&switch(Datum::set([port])), true), [], "another network's row is not this one's");
        let missing = look(&switch(Datum::empty()), false);
        assert!(
            missing.iter().any(|f| f.what == "rows of Logical_Switch_Port are missing: port/1/eth0"),
            "{missing:?}"
        );
        let foreign = look(&switch(Datum::set([port, strange])), true);
        assert_eq!(foreign.len(), 1, "{foreign:?}");
        assert!(foreign[0].what.starts_with("1 rows of Logical_Switch_Port in ports of sw"), "{foreign:?}");
        assert_eq!(foreign[0].gravity, Gravity::Note);
    }
}
