//! Names for instances that were given none: an adjective and an animal.

use rand::seq::IndexedRandom;

const ADJECTIVES: &[&str] = &[
    "able", "active", "amber", "apt", "bold", "brave", "bright", "brisk", "calm", "careful", "clear", "clever", "cool",
    "crisp", "deep", "eager", "early", "easy", "fair", "fast", "fine", "firm", "fresh", "gentle", "glad", "golden",
    "grand", "happy", "honest", "humble", "keen", "kind", "light", "lively", "loyal", "lucky", "mellow", "merry",
    "mighty", "modest", "neat", "nimble", "noble", "open", "patient", "plain", "polite", "proud", "quick", "quiet",
    "rapid", "ready", "robust", "sharp", "silent", "simple", "sincere", "smooth", "solid", "steady", "still", "strong",
    "sunny", "swift", "tidy", "tough", "trusty", "vivid", "warm", "wise",
];

const ANIMALS: &[&str] = &[
    "ant", "badger", "bat", "bear", "beaver", "bee", "bison", "boar", "bream", "buzzard", "carp", "cat", "cod", "colt",
    "cow", "crab", "crane", "crow", "deer", "dove", "duck", "eagle", "eel", "elk", "falcon", "ferret", "finch", "fox",
    "frog", "gecko", "goat", "goose", "hare", "hawk", "hen", "heron", "horse", "ibex", "jay", "kite", "koala", "lark",
    "lion", "lynx", "mole", "moose", "moth", "mouse", "newt", "orca", "otter", "owl", "ox", "panda", "perch", "pike",
    "puffin", "quail", "rabbit", "raven", "robin", "salmon", "seal", "shrew", "snail", "sparrow", "squid", "stork",
    "swan", "tapir", "tern", "thrush", "tiger", "toad", "trout", "turtle", "vole", "walrus", "wasp", "weasel", "whale",
    "wolf", "wren", "yak", "zebra",
];

/// A name that `taken` does not know.
pub(super) fn generate(taken: impl Fn(&str) -> bool) -> String {
    let mut random = rand::rng();
    let mut pick = |words: &[&'static str]| words.choose(&mut random).copied().unwrap_or("guest");
    let mut name = format!("{}-{}", pick(ADJECTIVES), pick(ANIMALS));
    while taken(&name) {
        // Longer each time, so that this ends even when every short name is in use.
        name = format!("{}-{name}", pick(ADJECTIVES));
        if name.len() > 60 {
            name = format!("{}-{}", pick(ADJECTIVES), pick(ANIMALS));
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use basalt_model::InstanceName;

    #[test]
    fn every_name_is_valid_and_free() {
        let taken = |name: &str| name.matches('-').count() == 1;
        for _ in 0..200 {
            let name = generate(taken);
            assert!(InstanceName::new(name.as_str()).is_ok(), "{name}");
            assert!(!taken(&name));
        }
    }
}
