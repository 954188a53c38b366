//! Configuration: one TOML file and a few flags over it. `raw` mirrors what is written, `resolved` holds what it means;
//! the conversion reports all mistakes together.

pub mod ovn;
pub mod raw;
pub mod resolved;

pub use ovn::{Ovn, RawOvn};
pub use raw::{Flags, Raw};
pub use resolved::{Config, Engine, Mistakes};
