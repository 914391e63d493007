//! What must hold: for everything that clients change, the states that it may be in.

use cenote_test_support::Possible;
use std::collections::BTreeMap;

/// A secret that is there has a value, or none.
pub type Secret = Option<Option<u32>>;

/// Everything that clients change, each thing by one client at a time.
#[derive(Debug, Default)]
pub struct Model {
    /// The variant of a persistent definition.
    pub pools: BTreeMap<String, Possible<Option<u32>>>,
    pub autostart: BTreeMap<String, Possible<bool>>,
    /// The capacities of volumes, by pool and name.
    pub volumes: BTreeMap<(String, String), Possible<Option<u64>>>,
    pub secret: Option<Possible<Secret>>,
}

impl Model {
    pub fn pool(&mut self, pool: &str) -> &mut Possible<Option<u32>> {
        self.pools.entry(pool.to_owned()).or_insert(Possible::only(None))
    }

    pub fn autostart(&mut self, pool: &str) -> &mut Possible<bool> {
        self.autostart.entry(pool.to_owned()).or_insert(Possible::only(false))
    }

    pub fn volume(&mut self, pool: &str, name: &str) -> &mut Possible<Option<u64>> {
        self.volumes.entry((pool.to_owned(), name.to_owned())).or_insert(Possible::only(None))
    }

    pub fn secret(&mut self) -> &mut Possible<Secret> {
        self.secret.get_or_insert(Possible::only(None))
    }
}
