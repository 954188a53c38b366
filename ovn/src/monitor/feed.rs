//! What a monitor holds: the tables, and how far they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;
use uuid::Uuid;

use super::update::{Change, OldUpdates, Updates};
use super::{MonitorTable, Table, Tables};
use crate::Refusal;
use crate::ovsdb::op::Condition;
use crate::ovsdb::schema::Schema;
use crate::ovsdb::value::{Datum, Name, Row};

/// In which way a monitor is asked for; servers know the later ones, older servers only the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// What changed since a transaction.
    Since,
    /// Differences.
    Cond,
    /// RFC 7047.
    Old,
}

impl Dialect {
    pub(crate) fn method(self) -> &'static str {
        match self {
            Dialect::Since => "monitor_cond_since",
            Dialect::Cond => "monitor_cond",
            Dialect::Old => "monitor",
        }
    }

    pub(crate) fn older(self) -> Option<Self> {
        match self {
            Dialect::Since => Some(Dialect::Cond),
            Dialect::Cond => Some(Dialect::Old),
            Dialect::Old => None,
        }
    }
}

/// One monitor's tables. Written by the link, read by the handle.
#[derive(Debug)]
pub(crate) struct Feed {
    id: u64,
    wanted: Vec<MonitorTable>,
    state: Mutex<State>,
    generation: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    tables: Option<Arc<Tables>>,
    /// The last transaction in them; nil when the server keeps no count.
    last: Uuid,
    layout: Layout,
    refusal: Option<Refusal>,
}

/// The columns of each table, in the order of their names, as the server's schema has them.
type Layout = BTreeMap<Name, Vec<Column>>;

#[derive(Debug, Clone, PartialEq)]
struct Column {
    name: Name,
    default: Datum,
    single: bool,
}

/// `{"columns": [..], "where": [..]}`
#[derive(Debug, Serialize)]
pub(crate) struct Asked {
    columns: Vec<Name>,
    #[serde(rename = "where", skip_serializing_if = "Vec::is_empty")]
    where_: Vec<Condition>,
}

impl Feed {
    pub(crate) fn new(id: u64, wanted: Vec<MonitorTable>) -> Self {
        Feed { id, wanted, state: Mutex::default(), generation: watch::channel(0).0 }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    pub(super) fn tables(&self) -> Option<Arc<Tables>> {
        self.state().tables.clone()
    }

    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.state().refusal.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Changes are checked before the first is made.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to ask a server with this schema for, and since when. Another schema than before: from the beginning.
    pub(crate) fn ask(&self, schema: &Schema, dialect: Dialect) -> (BTreeMap<Name, Vec<Asked>>, Uuid) {
        let layout = layout(&self.wanted, schema);
        let mut state = self.state();
        state.refusal = None;
        if state.layout != layout || state.tables.is_none() {
            state.last = Uuid::nil();
            state.layout = layout;
        }
        let asked = self.wanted.iter().filter_map(|wanted| {
            let columns = state.layout.get(&wanted.table)?.iter().map(|c| c.name.clone()).collect();
            let where_ = match dialect {
                Dialect::Since | Dialect::Cond => wanted.where_.clone(),
                Dialect::Old => Vec::new(),
            };
            Some((wanted.table.clone(), vec![Asked { columns, where_ }]))
        });
        (asked.collect(), state.last)
    }

    /// The server's answer: true if it was only what had changed. Nobody is woken yet: [`Feed::announce`].
    pub(crate) fn begin(&self, dialect: Dialect, answer: &[u8], epoch: u64) -> Result<bool, String> {
        let (found, last, updates) = match dialect {
            Dialect::Since => parse::<(bool, Uuid, Updates)>(answer)?,
            Dialect::Cond => (false, Uuid::nil(), parse(answer)?),
            Dialect::Old => (false, Uuid::nil(), parse::<OldUpdates>(answer)?.into()),
        };
        let mut state = self.state();
        let mut tables = state.tables.clone().filter(|_| found).unwrap_or_default();
        let now = Arc::make_mut(&mut tables);
        now.generation = state.tables.as_ref().map_or(0, |t| t.generation) + 1;
        now.epoch = epoch;
        apply(now, &state.layout, updates)?;
        (state.tables, state.last) = (Some(tables), last);
        Ok(found)
    }

    /// Wakes whoever waits for a change.
    pub(crate) fn announce(&self) {
        let generation = self.tables().map_or(0, |tables| tables.generation);
        self.generation.send_replace(generation);
    }

    /// A change while the link is up.
    pub(crate) fn update(&self, last: Option<Uuid>, updates: Updates) -> Result<(), String> {
        let mut state = self.state();
        let State { tables, layout, .. } = &mut *state;
        let Some(tables) = tables else { return Err("a change of what was not loaded yet".into()) };
        check(tables, layout, &updates)?;
        // Copied only if somebody still reads it, and then only the tables that change.
        let now = Arc::make_mut(tables);
        now.generation += 1;
        apply(now, layout, updates)?;
        state.last = last.unwrap_or_default();
        drop(state);
        self.announce();
        Ok(())
    }

    /// The server does not want it.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.state().refusal = Some(refusal);
        self.announce();
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(text: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|e| format!("what a monitor was given is not understood: {e}"))
}

fn layout(wanted: &[MonitorTable], schema: &Schema) -> Layout {
    let columns = |wanted: &MonitorTable| {
        let mut found: Vec<Column> = schema
            .columns(&wanted.table)
            .filter(|name| wanted.columns.is_empty() || wanted.columns.contains(name))
            .filter_map(|name| {
                let column = schema.column(&wanted.table, name)?;
                Some(Column { name: name.clone(), default: column.default_value(), single: column.is_single() })
            })
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    };
    wanted.iter().filter(|w| schema.has_table(&w.table)).map(|w| (w.table.clone(), columns(w))).collect()
}

/// Whether they can be applied: no table, and no row to modify, that is not there.
fn check(tables: &Tables, layout: &Layout, updates: &Updates) -> Result<(), String> {
    for (table, rows) in &updates.0 {
        if !layout.contains_key(table) {
            return Err(format!("a change of table {table}, which was not asked for"));
        }
        let known = tables.table(table);
        for (row, change) in rows {
            match change {
                Change::Modify(_) if !known.contains_key(row) => {
                    return Err(format!("a change of row {row} of {table}, which is not known"));
                }
                Change::Initial(_) | Change::Insert(_) | Change::Delete(()) | Change::Modify(_) => {}
            }
        }
    }
    Ok(())
}

fn apply(tables: &mut Tables, layout: &Layout, updates: Updates) -> Result<(), String> {
    check(tables, layout, &updates)?;
    for (name, rows) in updates.0 {
        let Some((name, columns)) = layout.get_key_value(&name) else { continue };
        let table: &mut Table = Arc::make_mut(tables.tables.entry(name.clone()).or_default());
        for (id, change) in rows {
            match change {
                Change::Initial(row) | Change::Insert(row) => drop(table.insert(id, Arc::new(whole(columns, row)))),
                Change::Delete(()) => drop(table.remove(&id)),
                Change::Modify(changed) => {
                    if let Some(row) = table.get_mut(&id) {
                        modify(Arc::make_mut(row), columns, changed);
                    }
                }
            }
        }
    }
    Ok(())
}

/// A row with all its columns. Their names are the layout's, one for all rows.
fn whole(columns: &[Column], mut row: Row) -> Row {
    columns.iter().map(|c| (c.name.clone(), row.remove(&c.name).unwrap_or_else(|| c.default.clone()))).collect()
}

fn modify(row: &mut Row, columns: &[Column], changed: Row) {
    for (name, difference) in changed {
        let Ok(at) = columns.binary_search_by(|c| c.name.cmp(&name)) else { continue };
        if let (Some(column), Some(value)) = (columns.get(at), row.get_mut(&name)) {
            value.apply(difference, column.single);
        }
    }
}

#[cfg(test)]
mod tests;
