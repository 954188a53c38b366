//! `key=value` arguments, and devices written as `name,key=value,...`.

use anyhow::{Context as _, Result, bail};

use basalt_api::dto::{Devices, Map};

/// A parser for clap: one `key=value`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

/// All of `texts` as a map.
pub(crate) fn map(texts: &[String]) -> Result<Map> {
    texts.iter().map(|text| pair(text).map_err(anyhow::Error::msg)).collect()
}

/// `root,size=10GiB` changes or adds device `root`; several of one device add up.
pub(crate) fn devices(texts: &[String]) -> Result<Devices> {
    let mut devices = Devices::new();
    for text in texts {
        let mut fields = text.split(',');
        let name = fields.next().unwrap_or_default();
        if name.is_empty() || name.contains('=') {
            bail!("{text:?} is not a device: give NAME,KEY=VALUE[,KEY=VALUE...]");
        }
        let device = devices.entry(name.to_owned()).or_default();
        for field in fields {
            let (key, value) = pair(field).map_err(anyhow::Error::msg).with_context(|| format!("device {name}"))?;
            device.insert(key, value);
        }
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_equals_signs() {
        assert_eq!(pair("user.x=a=b").unwrap(), ("user.x".to_owned(), "a=b".to_owned()));
        assert_eq!(pair("user.x=").unwrap().1, "");
        assert!(pair("=x").is_err());
        assert!(pair("x").is_err());
    }

    #[test]
    fn devices_add_up() {
        let wanted = ["root,size=1GiB".to_owned(), "eth0,network=a".to_owned(), "root,pool=p".to_owned()];
        let devices = devices(&wanted).unwrap();
        assert_eq!(devices["root"], Map::from([("pool".into(), "p".into()), ("size".into(), "1GiB".into())]));
        assert!(super::devices(&["size=1".to_owned()]).is_err());
    }
}
