//! What must hold: for everything that clients change, the states that it may be in.

use crate::machine::End;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// The states that something may be in: one, unless a change of it has failed half way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Possible<T>(Vec<T>);

impl<T: Clone + PartialEq + Debug> Possible<T> {
    pub fn only(state: T) -> Possible<T> {
        Possible(vec![state])
    }

    pub fn may_be(&self, state: &T) -> bool {
        self.0.contains(state)
    }

    /// A change to `state` has come to this end.
    pub fn change(&mut self, state: T, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.0 = vec![state],
            Outcome::Refused => {}
            Outcome::Unknown if self.may_be(&state) => {}
            Outcome::Unknown => self.0.push(state),
        }
    }

    /// It was found in this state. What a killed daemon left may still be lost with the machine, if it was not done.
    pub fn found(&mut self, state: T, end: End, what: &str) -> Result<(), String> {
        if !self.may_be(&state) {
            return Err(format!("{what} is {state:?}, and may be {:?}", self.0));
        }
        if end == End::PowerLoss {
            self.0 = vec![state];
        }
        Ok(())
    }
}

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Nothing was changed.
    Refused,
    /// The machine failed meanwhile, or came to its end: it may have been done or not.
    Unknown,
}

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
