//! The northbound database as we use it: which tables and columns are ours to set, rows by keys of our own, and those of
//! ours that a database holds.

pub mod cache;
pub mod rows;
pub mod table;

pub use cache::Actual;
pub use rows::{Row, RowId, Rows, Value};
pub use table::{Column, Hold, Kind, Table};
