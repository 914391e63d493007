//! Taking back what was done.

/// Steps that take back what was done, run last to first when the value is dropped, be it by an early return or a
/// panic. Success [disarms](Undo::disarm) it.
#[derive(Default)]
#[must_use = "dropping it takes back what was done"]
pub struct Undo<'s> {
    steps: Vec<Box<dyn FnOnce() + 's>>,
}

impl<'s> Undo<'s> {
    /// Nothing to take back yet.
    pub fn new() -> Undo<'s> {
        Undo::default()
    }

    /// Something was done; this takes it back.
    pub fn push(&mut self, step: impl FnOnce() + 's) {
        self.steps.push(Box::new(step));
    }

    /// All went well: nothing is taken back.
    pub fn disarm(mut self) {
        self.steps.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        while let Some(step) = self.steps.pop() {
            step();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn runs_backwards_unless_disarmed() {
        let log = RefCell::new(Vec::new());
        let mut undo = Undo::new();
        undo.push(|| log.borrow_mut().push(1));
        undo.push(|| log.borrow_mut().push(2));
        drop(undo);
        assert_eq!(*log.borrow(), [2, 1]);

        let mut undo = Undo::new();
        undo.push(|| log.borrow_mut().push(3));
        undo.disarm();
        assert_eq!(*log.borrow(), [2, 1]);
    }
}
