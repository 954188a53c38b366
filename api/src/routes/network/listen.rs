//! What forwards and load balancers have in common.

use std::net::IpAddr;

use crate::dto::Map;
use crate::error::Error;
use crate::routes::spec;

/// An address, however it was written.
///
/// # Errors
/// It is none.
pub(super) fn address(field: &str, text: &str) -> Result<IpAddr, Error> {
    text.parse().map_err(|_| Error::invalid(field, format!("{text:?} is not an IP address")))
}

/// Keys without those that are unset.
///
/// # Errors
/// A text that could not be kept.
pub(super) fn config(mut given: Map) -> Result<Map, Error> {
    spec::plain_text("config", &given)?;
    given.retain(|_, value| !value.is_empty());
    Ok(given)
}
