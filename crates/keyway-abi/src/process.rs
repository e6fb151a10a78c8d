//! What the module has to know of its process, and can't do without unsafe code.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

/// Whether the program runs with more rights than its caller has (set-uid and the like).
#[must_use]
pub fn is_privileged() -> bool {
    // SAFETY: it takes no pointer and changes nothing.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Closes a descriptor that a forked process inherited and that no code in it uses.
pub fn close_inherited(descriptor: i32) {
    // SAFETY: the number was the parent's and never closed since; nothing in this process owns it.
    unsafe { libc::close(descriptor) };
}

/// A place for one value that can be replaced without a lock; a lock could be held by a thread that a fork left behind.
///
/// What is replaced lives on: somebody may still look at it.
#[derive(Debug)]
pub struct Place<T>(AtomicPtr<T>);

impl<T: Send + Sync> Place<T> {
    /// An empty place.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    /// The value, if there is one.
    pub fn get(&'static self) -> Option<&'static T> {
        // SAFETY: what is in the place came from a Box that is never freed.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Puts `value` there if `old` still is what is there; returns what is there then.
    pub fn replace(&'static self, old: Option<&'static T>, value: T) -> &'static T {
        let old = old.map_or(null_mut(), |old| core::ptr::from_ref(old).cast_mut());
        let new = Box::into_raw(Box::new(value));
        match self.0.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: the box is in the place now, and never freed.
            Ok(_) => unsafe { &*new },
            Err(other) => {
                // SAFETY: nobody else has seen the new one; the other one is never freed, nor is it NULL, since
                // a place is never emptied.
                unsafe {
                    drop(Box::from_raw(new));
                    &*other
                }
            }
        }
    }
}

impl<T: Send + Sync> Default for Place<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_keeps_what_came_first() {
        static PLACE: Place<u32> = Place::new();
        assert_eq!(PLACE.get(), None);
        let first = PLACE.replace(None, 1);
        assert_eq!(*PLACE.replace(None, 2), 1);
        assert_eq!(*PLACE.replace(Some(first), 3), 3);
        assert_eq!(PLACE.get(), Some(&3));
        assert_eq!(*first, 1);
    }
}
