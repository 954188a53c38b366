//! The vocabulary of OVSDB: values, operations, schemas. Pure: nothing here knows of a connection.

pub mod op;
pub mod schema;
pub mod value;
