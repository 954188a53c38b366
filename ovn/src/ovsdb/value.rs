//! Values of OVSDB columns, and their JSON (RFC 7047, section 5.1), both ways.
//!
//! ```text
//! 7  "x"  true  1.5         Datum::Set of one atom          ["uuid", "2f1c.."]        a row
//! ["set", [a, b]]           Datum::Set                      ["named-uuid", "row1"]    a row of this transaction
//! ["map", [[k, v], ..]]     Datum::Map
//! ```
//! A scalar is a set of one: the wire does not tell them apart, so neither does this. A real without a fraction is an
//! integer, as the server writes it. What is equal here is equal in the database.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::{self, IgnoredAny, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, SerializeTuple};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The name of a table or a column. Cheap to clone; looked up by `&str`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Columns of one row. One that the monitor did not ask for is not there.
pub type Row = BTreeMap<Name, Datum>;

/// One value.
#[derive(Debug, Clone)]
pub enum Atom {
    /// A signed 64-bit number.
    Integer(i64),
    /// A number with a fraction; use [`Atom::real`], which keeps equal numbers equal.
    Real(f64),
    /// A truth value.
    Boolean(bool),
    /// A text.
    String(String),
    /// A row of the database.
    Uuid(Uuid),
    /// A row that the same transaction inserts, by the `uuid_name` of its insertion.
    Named(String),
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Datum {
    /// No, one or many values, each once.
    Set(BTreeSet<Atom>),
    /// Values by key.
    Map(BTreeMap<Atom, Atom>),
}

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Name(text.into())
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Name(text.into())
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Name::from)
    }
}

impl Atom {
    /// A number that may have a fraction. NaN and the infinities have no JSON: they are 0.
    pub fn real(value: f64) -> Self {
        // The bounds are powers of two, so exactly representable.
        const LIMIT: f64 = 9_223_372_036_854_775_808.0;
        match value {
            v if !v.is_finite() => Atom::Integer(0),
            #[allow(clippy::cast_possible_truncation)] // within the bounds, and without a fraction
            v if v.fract() == 0.0 && (-LIMIT..LIMIT).contains(&v) => Atom::Integer(v as i64),
            v => Atom::Real(v),
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Atom::String(text) => Some(text),
            Atom::Integer(_) | Atom::Real(_) | Atom::Boolean(_) | Atom::Uuid(_) | Atom::Named(_) => None,
        }
    }

    /// The row, if it is one that exists.
    pub fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Atom::Uuid(uuid) => Some(*uuid),
            Atom::Integer(_) | Atom::Real(_) | Atom::Boolean(_) | Atom::String(_) | Atom::Named(_) => None,
        }
    }

    /// The number, if it is one without a fraction.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Atom::Integer(number) => Some(*number),
            Atom::Real(_) | Atom::Boolean(_) | Atom::String(_) | Atom::Uuid(_) | Atom::Named(_) => None,
        }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Atom::Boolean(value) => Some(*value),
            Atom::Integer(_) | Atom::Real(_) | Atom::String(_) | Atom::Uuid(_) | Atom::Named(_) => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Atom::Integer(_) => 0,
            Atom::Real(_) => 1,
            Atom::Boolean(_) => 2,
            Atom::String(_) => 3,
            Atom::Uuid(_) => 4,
            Atom::Named(_) => 5,
        }
    }
}

impl Ord for Atom {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Atom::Integer(a), Atom::Integer(b)) => a.cmp(b),
            (Atom::Real(a), Atom::Real(b)) => a.total_cmp(b),
            (Atom::Boolean(a), Atom::Boolean(b)) => a.cmp(b),
            (Atom::String(a), Atom::String(b)) | (Atom::Named(a), Atom::Named(b)) => a.cmp(b),
            (Atom::Uuid(a), Atom::Uuid(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Atom {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Atom {}

impl From<&str> for Atom {
    fn from(text: &str) -> Self {
        Atom::String(text.to_owned())
    }
}

impl From<String> for Atom {
    fn from(text: String) -> Self {
        Atom::String(text)
    }
}

impl From<i64> for Atom {
    fn from(number: i64) -> Self {
        Atom::Integer(number)
    }
}

impl From<bool> for Atom {
    fn from(value: bool) -> Self {
        Atom::Boolean(value)
    }
}

impl From<Uuid> for Atom {
    fn from(row: Uuid) -> Self {
        Atom::Uuid(row)
    }
}

impl<A: Into<Atom>> From<A> for Datum {
    fn from(atom: A) -> Self {
        Datum::Set(BTreeSet::from([atom.into()]))
    }
}

impl Datum {
    /// The set without a member.
    pub fn empty() -> Self {
        Datum::Set(BTreeSet::new())
    }

    /// A set.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Self {
        Datum::Set(atoms.into_iter().map(Into::into).collect())
    }

    /// A map.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Datum::Map(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        match self {
            Datum::Set(set) => set.is_empty(),
            Datum::Map(map) => map.is_empty(),
        }
    }

    /// The only value of a set of one: what a scalar column holds.
    pub fn one(&self) -> Option<&Atom> {
        match self {
            Datum::Set(set) if set.len() == 1 => set.first(),
            Datum::Set(_) | Datum::Map(_) => None,
        }
    }

    /// The only value, as a text.
    pub fn as_str(&self) -> Option<&str> {
        self.one().and_then(Atom::as_str)
    }

    /// The only value, as a row.
    pub fn as_uuid(&self) -> Option<Uuid> {
        self.one().and_then(Atom::as_uuid)
    }

    /// The only value, as a whole number.
    pub fn as_integer(&self) -> Option<i64> {
        self.one().and_then(Atom::as_integer)
    }

    /// The only value, as a truth value.
    pub fn as_bool(&self) -> Option<bool> {
        self.one().and_then(Atom::as_bool)
    }

    /// The members of a set; none for a map.
    pub fn atoms(&self) -> impl Iterator<Item = &Atom> {
        match self {
            Datum::Set(set) => Some(set.iter()),
            Datum::Map(_) => None,
        }
        .into_iter()
        .flatten()
    }

    /// The rows that a set refers to.
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> {
        self.atoms().filter_map(Atom::as_uuid)
    }

    /// The text that a map of texts has under a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        match self {
            // Texts are looked up by a borrowed key only with an `Atom` made of it; maps are small.
            Datum::Map(map) => map.iter().find(|(k, _)| k.as_str() == Some(key)).and_then(|(_, v)| v.as_str()),
            Datum::Set(_) => None,
        }
    }

    /// What `modify` of an update says of a column applied to what it was. Of a column of at most one value (`single`),
    /// the new value is sent; of a set, what is in one of both; of a map, the pairs that are in one of both or differ, these
    /// with their new value.
    pub(crate) fn apply(&mut self, difference: Datum, single: bool) {
        match (self, difference) {
            (Datum::Set(now), Datum::Set(changed)) if !single => {
                for atom in changed {
                    if !now.remove(&atom) {
                        now.insert(atom);
                    }
                }
            }
            (Datum::Map(now), Datum::Map(changed)) if !single => {
                for (key, value) in changed {
                    match now.get(&key) {
                        Some(old) if *old == value => drop(now.remove(&key)),
                        Some(_) | None => drop(now.insert(key, value)),
                    }
                }
            }
            (now, new) => *now = new,
        }
    }
}

impl Serialize for Atom {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Atom::Integer(number) => to.serialize_i64(*number),
            Atom::Real(number) => to.serialize_f64(*number),
            Atom::Boolean(value) => to.serialize_bool(*value),
            Atom::String(text) => to.serialize_str(text),
            Atom::Uuid(row) => tagged(to, "uuid", row),
            Atom::Named(name) => tagged(to, "named-uuid", name),
        }
    }
}

impl Serialize for Datum {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Datum::Set(set) => match (set.len(), set.first()) {
                (1, Some(atom)) => atom.serialize(to),
                _ => tagged(to, "set", set),
            },
            Datum::Map(map) => tagged(to, "map", &Pairs(map)),
        }
    }
}

fn tagged<S: Serializer, T: Serialize + ?Sized>(to: S, tag: &str, value: &T) -> Result<S::Ok, S::Error> {
    let mut pair = to.serialize_tuple(2)?;
    pair.serialize_element(tag)?;
    pair.serialize_element(value)?;
    pair.end()
}

/// A map as a list of pairs: its keys are not all texts.
struct Pairs<'a>(&'a BTreeMap<Atom, Atom>);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut list = to.serialize_seq(Some(self.0.len()))?;
        for pair in self.0 {
            list.serialize_element(&pair)?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Datum {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(DatumVisitor)
    }
}

impl<'de> Deserialize<'de> for Atom {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Datum::deserialize(from)? {
            // An atom is written like a set of one; `["set", ["x"]]` in its place harms nobody.
            Datum::Set(set) if set.len() == 1 => {
                set.into_iter().next().ok_or_else(|| de::Error::custom("an empty set is not one value"))
            }
            Datum::Set(_) | Datum::Map(_) => Err(de::Error::custom("expected one value, not a set or a map")),
        }
    }
}

struct DatumVisitor;

impl<'de> Visitor<'de> for DatumVisitor {
    type Value = Datum;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an atom, [\"uuid\", ..], [\"set\", [..]] or [\"map\", [[.., ..], ..]]")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Datum, E> {
        Ok(value.into())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Datum, E> {
        Ok(number.into())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Datum, E> {
        i64::try_from(number).map(Datum::from).map_err(|_| E::custom("an integer above 2^63 - 1"))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Datum, E> {
        Ok(Atom::real(number).into())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Datum, E> {
        Ok(text.into())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Datum, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Datum, A::Error> {
        let tag: Tag = part(&mut list)?;
        let datum = match tag {
            Tag::Uuid => Datum::from(part::<Uuid, _>(&mut list)?),
            Tag::Named => Datum::from(Atom::Named(part(&mut list)?)),
            Tag::Set => Datum::Set(part(&mut list)?),
            Tag::Map => Datum::Map(part::<Vec<(Atom, Atom)>, _>(&mut list)?.into_iter().collect()),
        };
        match list.next_element::<IgnoredAny>()? {
            None => Ok(datum),
            Some(_) => Err(de::Error::custom("a value of more than two parts")),
        }
    }
}

fn part<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(list: &mut A) -> Result<T, A::Error> {
    list.next_element()?.ok_or_else(|| de::Error::custom("a value that lacks a part"))
}

#[derive(Deserialize)]
enum Tag {
    #[serde(rename = "uuid")]
    Uuid,
    #[serde(rename = "named-uuid")]
    Named,
    #[serde(rename = "set")]
    Set,
    #[serde(rename = "map")]
    Map,
}

#[cfg(test)]
mod tests;
