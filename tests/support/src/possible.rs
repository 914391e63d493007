//! What something may be, when changes of it may have been broken off.

use std::fmt::Debug;

/// The states that something may be in: one, unless a change of it has failed half way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Possible<T>(Vec<T>);

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was made.
    Done,
    /// Nothing was changed.
    Refused,
    /// It may have been made or not.
    Unknown,
}

impl<T: Clone + PartialEq + Debug> Possible<T> {
    /// It is in this state.
    pub fn only(state: T) -> Possible<T> {
        Possible(vec![state])
    }

    /// A change to `state` has come to this end.
    pub fn change(&mut self, state: T, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.0 = vec![state],
            Outcome::Refused => {}
            Outcome::Unknown if self.0.contains(&state) => {}
            Outcome::Unknown => self.0.push(state),
        }
    }

    /// It is in this state, as is found now. Fails if it may not be.
    pub fn found(&self, state: &T, what: &str) -> Result<(), String> {
        match self.0.contains(state) {
            true => Ok(()),
            false => Err(format!("{what} is {state:?}, and may be {:?}", self.0)),
        }
    }

    /// It is in one of the states of either.
    pub fn or(&self, other: &Possible<T>) -> Possible<T> {
        let mut states = self.0.clone();
        states.extend(other.0.iter().filter(|state| !self.0.contains(state)).cloned());
        Possible(states)
    }

    /// From now on it is in this state and in no other.
    pub fn settle(&mut self, state: T) {
        self.0 = vec![state];
    }
}
