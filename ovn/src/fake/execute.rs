//! Carries operations out, one after the other, before anything is checked as a whole.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::Tables;
use crate::nb::{Kind, Table};
use crate::ovsdb::op::{Condition, Function, Mutation, Mutator, OpResult, Operation, Until};
use crate::ovsdb::value::{Atom, Datum, Row};

pub(super) fn run(tables: &mut Tables, next: &mut u128, operations: &[Operation]) -> Result<Vec<OpResult>, String> {
    // Names may be used before the insertion that has them.
    let mut named = BTreeMap::new();
    for operation in operations {
        if let Operation::Insert { uuid_name: Some(name), .. } = operation {
            *next += 1;
            if named.insert(name.as_str(), Uuid::from_u128(*next)).is_some() {
                return Err(format!("duplicate uuid-name: {name}"));
            }
        }
    }
    operations.iter().map(|operation| one(tables, next, &named, operation)).collect()
}

type Named<'a> = BTreeMap<&'a str, Uuid>;

fn one(tables: &mut Tables, next: &mut u128, named: &Named<'_>, operation: &Operation) -> Result<OpResult, String> {
    match operation {
        Operation::Insert { table, row, uuid_name } => {
            let table = known(table)?;
            let uuid = match uuid_name {
                Some(name) => named[name.as_str()],
                None => {
                    *next += 1;
                    Uuid::from_u128(*next)
                }
            };
            let mut made: Row = table.columns().iter().map(|c| (c.name.into(), c.kind.default_datum())).collect();
            overwrite(table, &mut made, row, named)?;
            tables.entry(table).or_default().insert(uuid, made);
            Ok(OpResult::Inserted(uuid))
        }
        Operation::Update { table, where_, row } => {
            each(tables, table, where_, |table, held| overwrite(table, held, row, named))
        }
        Operation::Mutate { table, where_, mutations } => each(tables, table, where_, |table, held| {
            mutations.iter().try_for_each(|mutation| mutate(table, held, mutation, named))
        }),
        Operation::Delete { table, where_ } => {
            let rows = tables.entry(known(table)?).or_default();
            let before = rows.len();
            rows.retain(|uuid, row| !fits(*uuid, row, where_));
            Ok(OpResult::Count((before - rows.len()) as u64))
        }
        Operation::Wait { table, where_, columns, until, rows, .. } => {
            let held = tables.entry(known(table)?).or_default();
            let part = |row: &Row| columns.iter().filter_map(|c| Some((c.clone(), row.get(c)?.clone()))).collect();
            let found: Vec<Row> = held.iter().filter(|(u, row)| fits(**u, row, where_)).map(|(_, r)| part(r)).collect();
            match (found == *rows) == (*until == Until::Equal) {
                true => Ok(OpResult::Done),
                false => Err("timed out: \"wait\" timed out".into()),
            }
        }
        Operation::Select { table, where_, .. } => {
            let held = tables.entry(known(table)?).or_default();
            Ok(OpResult::Rows(held.iter().filter(|(u, r)| fits(**u, r, where_)).map(|(_, r)| r.clone()).collect()))
        }
        Operation::Comment(_) | Operation::Assert(_) => Ok(OpResult::Done),
        Operation::Abort => Err("aborted".into()),
    }
}

fn known(name: &str) -> Result<Table, String> {
    Table::ALL.iter().find(|table| table.name() == name).copied().ok_or_else(|| format!("no table named {name}"))
}

fn each(
    tables: &mut Tables,
    name: &str,
    where_: &[Condition],
    mut act: impl FnMut(Table, &mut Row) -> Result<(), String>,
) -> Result<OpResult, String> {
    let table = known(name)?;
    let mut count = 0;
    for (uuid, row) in tables.entry(table).or_default() {
        if fits(*uuid, row, where_) {
            act(table, row)?;
            count += 1;
        }
    }
    Ok(OpResult::Count(count))
}

fn fits(uuid: Uuid, row: &Row, where_: &[Condition]) -> bool {
    where_.iter().all(|condition| {
        let id = Datum::from(uuid);
        let held = if &*condition.column == "_uuid" { Some(&id) } else { row.get(&condition.column) };
        match condition.function {
            Function::Equal => held == Some(&condition.value),
            Function::NotEqual => held != Some(&condition.value),
            Function::Includes => held.is_some_and(|held| includes(held, &condition.value)),
            Function::Excludes => held.is_some_and(|held| !includes(held, &condition.value)),
            Function::Less | Function::LessOrEqual | Function::GreaterOrEqual | Function::Greater => false,
        }
    })
}

fn includes(held: &Datum, part: &Datum) -> bool {
    match (held, part) {
        (Datum::Set(held), Datum::Set(part)) => part.is_subset(held),
        (Datum::Map(held), Datum::Map(part)) => part.iter().all(|(k, v)| held.get(k) == Some(v)),
        (Datum::Set(_), Datum::Map(_)) | (Datum::Map(_), Datum::Set(_)) => false,
    }
}

fn overwrite(table: Table, held: &mut Row, row: &Row, named: &Named<'_>) -> Result<(), String> {
    for (name, datum) in row {
        let datum = resolved(datum, named)?;
        typed(table, name, &datum)?;
        held.insert(name.clone(), datum);
    }
    Ok(())
}

fn mutate(table: Table, held: &mut Row, mutation: &Mutation, named: &Named<'_>) -> Result<(), String> {
    let value = resolved(&mutation.value, named)?;
    let name = &mutation.column;
    let datum = held.get_mut(name).ok_or_else(|| format!("no column {name} in {}", table.name()))?;
    match (mutation.mutator, &mut *datum, value) {
        (Mutator::Insert, Datum::Set(held), Datum::Set(more)) => held.extend(more),
        (Mutator::Insert, Datum::Map(held), Datum::Map(more)) => {
            for (key, value) in more {
                held.entry(key).or_insert(value);
            }
        }
        (Mutator::Delete, Datum::Set(held), Datum::Set(less)) => held.retain(|atom| !less.contains(atom)),
        (Mutator::Delete, Datum::Map(held), Datum::Set(keys)) => held.retain(|key, _| !keys.contains(key)),
        (Mutator::Delete, Datum::Map(held), Datum::Map(pairs)) => held.retain(|k, v| pairs.get(k) != Some(v)),
        (mutator, held, value) => return Err(format!("{mutator:?} of {value:?} on {held:?}")),
    }
    typed(table, name, datum)
}

fn resolved(datum: &Datum, named: &Named<'_>) -> Result<Datum, String> {
    let Datum::Set(atoms) = datum else { return Ok(datum.clone()) };
    let one = |atom: &Atom| match atom {
        Atom::Named(name) => {
            named.get(name.as_str()).map(|u| Atom::Uuid(*u)).ok_or_else(|| format!("no insertion is named {name}"))
        }
        Atom::Integer(_) | Atom::Real(_) | Atom::Boolean(_) | Atom::String(_) | Atom::Uuid(_) => Ok(atom.clone()),
    };
    Ok(Datum::Set(atoms.iter().map(one).collect::<Result<BTreeSet<_>, _>>()?))
}

/// Whether the column can hold this.
fn typed(table: Table, name: &str, datum: &Datum) -> Result<(), String> {
    let column = table.column(name).ok_or_else(|| format!("no column {name} in {}", table.name()))?;
    let one = |is: fn(&Atom) -> bool| datum.one().is_some_and(is);
    let good = match column.kind {
        Kind::Text => one(|atom| matches!(atom, Atom::String(_))),
        Kind::Integer => one(|atom| matches!(atom, Atom::Integer(_))),
        Kind::Boolean => one(|atom| matches!(atom, Atom::Boolean(_))),
        Kind::Set => matches!(datum, Datum::Set(_)),
        Kind::Map => matches!(datum, Datum::Map(_)),
        Kind::Refs(..) => match datum {
            Datum::Set(set) => set.iter().all(|a| a.as_uuid().is_some()) && (!column.single || set.len() < 2),
            Datum::Map(_) => false,
        },
    };
    match good {
        true => Ok(()),
        false => Err(format!("{}.{name} cannot hold {datum:?}", table.name())),
    }
}
