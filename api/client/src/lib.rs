//! Typed client of the `/1.0` API.
//!
//! ```text
//!   typed calls (instances, images, cluster, ...)      sessions (exec, console)      events
//!                     \                                       |                       /
//!                      Client: project, target, envelope -> typed result or Error
//!                                             |
//!                      Transport: kept HTTP/1.1 connections, streamed bodies, websockets
//!                                             |
//!                      Endpoint: unix socket, or TLS pinned to one certificate
//! ```
//!
//! Invariants: a call has a deadline; a change is never repeated when the member may have seen it; a member reached
//! over TLS is the one whose certificate was pinned. Nothing runs on after what started it was dropped.
//!
//! Failure: [`Error`] tells the member's own errors from connections that failed (then it is unknown whether a change
//! was made), and says with `next_step` what a user can do.
//!
//! It does not choose between members, keep configuration, or print: that is the business of its callers.

mod client;
mod cluster;
mod endpoint;
mod envelope;
mod error;
mod events;
mod files;
mod half;
mod identity;
mod images;
mod instances;
mod multipart;
mod objects;
mod operation;
mod path;
mod pump;
mod session;
mod snapshots;
mod tls;
mod token;
mod transport;
mod trust;
mod upload;

pub use basalt_api::dto;
pub use client::{Client, Raw, Submitted, Tagged};
pub use endpoint::server_certificate;
pub use error::{Error, Result};
pub use events::Events;
pub use files::{Attributes, Content, Download, GuestFile, NewFile, Source};
pub use http::Method;
pub use identity::Identity;
pub use images::{ImageSource, ImageUpload};
pub use instances::{Output, exit_code};
pub use objects::Object;
pub use path::Path;
pub use pump::Control;
pub use session::Session;
pub use tls::{pem_fingerprint, pinned};
pub use token::Token;
pub use trust::{Redeemed, redeem};
pub use upload::Progress;
