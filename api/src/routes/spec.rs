//! From what users write to a [`Spec`]: every rule that can be checked before the cluster is asked, each naming its
//! field.

use basalt_model::config::{self, INSTANCE};
use basalt_model::device::{self, Device};
use basalt_model::instance::{Kind, Spec};
use basalt_model::{Mac, ProfileName, ProjectName, StateView};
use rand::Rng;

use crate::dto::{Devices, Map};
use crate::error::Error;

/// What the kernel calls architectures that guests can have.
const ARCHITECTURES: &[&str] =
    &["i686", "x86_64", "armv7l", "armv8l", "aarch64", "ppc64le", "s390x", "mips64", "riscv64", "loongarch64"];

/// An instance type by its word.
///
/// # Errors
/// Unknown word.
pub(super) fn kind(text: &str) -> Result<Kind, Error> {
    match text {
        "container" => Ok(Kind::Container),
        "virtual-machine" => Ok(Kind::VirtualMachine),
        _ => Err(Error::invalid("type", format!("{text:?} is neither container nor virtual-machine"))),
    }
}

/// A known architecture.
///
/// # Errors
/// Unknown word.
pub(super) fn architecture(text: &str) -> Result<String, Error> {
    match ARCHITECTURES.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(Error::invalid("architecture", format!("{text:?} is not one of {}", ARCHITECTURES.join(", ")))),
    }
}

/// Checks the keys of an instance or a profile, and drops those that are unset.
///
/// # Errors
/// All keys that are unknown or wrong.
pub(super) fn config(mut given: Map) -> Result<Map, Error> {
    plain_text("config", &given)?;
    config::validate(INSTANCE, &given).map_err(|wrong| Error::keys("config", &wrong))?;
    given.retain(|_, value| !value.is_empty());
    Ok(given)
}

/// No text of a configuration may hold what ends a C string, no key what ends a line.
pub(super) fn plain_text(field: &str, map: &Map) -> Result<(), Error> {
    for (key, value) in map {
        if key.is_empty() || key.chars().any(char::is_control) {
            return Err(Error::invalid(field, format!("{key:?} is not a key")));
        }
        if value.contains('\0') {
            return Err(Error::invalid(format!("{field}.{key}"), "may not hold a zero byte"));
        }
    }
    Ok(())
}

/// Checks devices.
///
/// # Errors
/// Names the device and the key at fault.
pub(super) fn devices(given: Devices) -> Result<Devices, Error> {
    for (name, properties) in &given {
        let good = !name.is_empty()
            && name.len() <= 63
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if !good {
            return Err(Error::invalid("devices", format!("{name:?} is not a device name")));
        }
        plain_text(&format!("devices.{name}"), properties)?;
        device::parse(properties).map_err(|e| Error::invalid(format!("devices.{name}.{}", e.key), e.why))?;
    }
    Ok(given)
}

/// Checks that profiles exist, and that none is named twice.
///
/// # Errors
/// Names the profile.
pub(super) fn profiles(view: &StateView, project: &ProjectName, given: &[String]) -> Result<Vec<ProfileName>, Error> {
    let mut names: Vec<ProfileName> = Vec::new();
    for text in given {
        let name = ProfileName::new(text.as_str()).map_err(|e| Error::invalid("profiles", e))?;
        if view.profile_of(project, &name).is_none() {
            return Err(Error::invalid("profiles", format!("Profile {text:?} doesn't exist")));
        }
        if names.contains(&name) {
            return Err(Error::invalid("profiles", format!("{text:?} is named twice")));
        }
        names.push(name);
    }
    Ok(names)
}

/// Gives every interface without an address one that no instance has: `volatile.<device>.hwaddr`.
pub(super) fn with_macs(view: &StateView, project: &ProjectName, spec: &mut Spec) {
    for (name, device) in view.parsed_devices(project, spec) {
        let Device::Nic { mac: None, .. } = device else { continue };
        spec.config.entry(format!("volatile.{name}.hwaddr")).or_insert_with(|| free_mac(view).to_string());
    }
}

fn free_mac(view: &StateView) -> Mac {
    loop {
        let mut bytes = [0x00, 0x16, 0x3e, 0, 0, 0];
        rand::rng().fill(&mut bytes[3..]);
        let mac = Mac(bytes);
        let text = mac.to_string();
        let taken = |map: &Map| map.iter().any(|(k, v)| k.ends_with("hwaddr") && *v == text);
        let used = view.instances.values().any(|i| taken(&i.spec.config) || i.spec.devices.values().any(taken));
        if !used {
            return mac;
        }
    }
}

/// The configuration after a `PUT`: what is volatile belongs to Basalt and stays, but for addresses of interfaces.
pub(super) fn replaced_config(present: &Map, given: Map) -> Map {
    let editable = |key: &str| !key.starts_with("volatile.") || key.ends_with(".hwaddr");
    let mut config: Map = given.into_iter().filter(|(key, _)| editable(key)).collect();
    for (key, value) in present.iter().filter(|(key, _)| key.starts_with("volatile.")) {
        config.entry(key.clone()).or_insert_with(|| value.clone());
    }
    config
}

/// The configuration after a `PATCH`: merged; an empty value unsets.
pub(super) fn merged(present: &Map, given: Map) -> Map {
    let mut config = present.clone();
    for (key, value) in given {
        match value.is_empty() {
            true => config.remove(&key),
            false => config.insert(key, value),
        };
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Map {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn names_what_is_wrong() {
        let text = |e: Error| e.to_string();
        assert!(text(config(map(&[("colour", "red")])).unwrap_err()).contains("Unknown configuration key"));
        assert!(text(config(map(&[("user.a\nb", "x")])).unwrap_err()).starts_with("config: "));
        assert!(text(config(map(&[("user.a", "x\0")])).unwrap_err()).starts_with("config.user.a: "));
        let disk = [("root".to_owned(), map(&[("type", "disk"), ("path", "/")]))].into_iter().collect();
        assert!(text(devices(disk).unwrap_err()).starts_with("devices.root.pool: "));
        let odd = [("a/b".to_owned(), map(&[("type", "none")]))].into_iter().collect();
        assert!(devices(odd).is_err());
        assert!(architecture("vax").is_err());
    }

    #[test]
    fn volatile_keys_survive_a_put() {
        let present = map(&[("volatile.uuid", "1"), ("user.a", "1"), ("volatile.eth0.hwaddr", "00:16:3e:00:00:01")]);
        let given = map(&[("volatile.uuid", "2"), ("volatile.eth0.hwaddr", "00:16:3e:00:00:02")]);
        let after = replaced_config(&present, given);
        assert_eq!(after, map(&[("volatile.uuid", "1"), ("volatile.eth0.hwaddr", "00:16:3e:00:00:02")]));
    }

    #[test]
    fn patch_merges_and_unsets() {
        let after = merged(&map(&[("user.a", "1"), ("user.b", "2")]), map(&[("user.a", ""), ("user.c", "3")]));
        assert_eq!(after, map(&[("user.b", "2"), ("user.c", "3")]));
    }
}
