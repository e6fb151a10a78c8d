//! The objects that a search has found, of which the application may have been given only some. Pure decisions.

use std::collections::HashSet;

/// How many objects the token is asked for when the application has come back for more.
const BATCH: u64 = 512;
/// So many of the objects are kept when the search is over.
const KEPT: usize = 16_384;

/// What is known of a session's last search.
#[derive(Debug, Default)]
pub struct Search {
    /// The objects in the order in which the token gave them.
    found: Vec<u64>,
    /// How many of them the application has been given.
    given: usize,
    /// Whether the token was asked for some.
    asked: bool,
    /// How many calls that change objects had begun or ended when it was.
    changes: u64,
    /// Objects that were found before the search was begun once more, and will be again.
    known: HashSet<u64>,
}

impl Search {
    /// How many objects to ask the token for, where the application wants so many. The first call is made as it is: many
    /// searches are for one object, and end with it.
    #[must_use]
    pub fn wanted(&self, maximum: u64) -> u64 {
        if self.asked {
            maximum.max(BATCH)
        } else {
            maximum
        }
    }

    /// Whether so many objects can be given without asking the token. What may have ended the search is for the token to say,
    /// and so is whether there are more.
    #[must_use]
    pub fn has(&self, maximum: u64, changes: u64) -> bool {
        self.changes == changes && (self.found.len() - self.given) as u64 >= maximum
    }

    /// The token has given these. Whether it is to be asked for more before the application is answered: so far it has only
    /// repeated itself.
    pub fn found(&mut self, objects: &[u64], changes: u64) -> bool {
        let known = &mut self.known;
        self.found.extend(objects.iter().filter(|object| !known.remove(object)));
        self.asked = true;
        self.changes = changes;
        !objects.is_empty() && self.given == self.found.len()
    }

    /// The search was begun once more, on another connection.
    pub fn restart(&mut self) {
        self.known = self.found.iter().copied().collect();
    }

    /// Gives the application the next ones, at most so many.
    pub fn give(&mut self, maximum: u64) -> &[u64] {
        let start = self.given;
        let rest = self.found.len() - start;
        self.given += usize::try_from(maximum).map_or(rest, |maximum| maximum.min(rest));
        &self.found[start..self.given]
    }

    /// The search is over. What was given stays known.
    pub fn end(&mut self) {
        self.found.truncate(self.given.min(KEPT));
        self.found.shrink_to(KEPT);
        self.given = self.found.len();
        self.known = HashSet::new();
    }

    /// The objects in the order in which they were found.
    #[must_use]
    pub fn objects(&self) -> &[u64] {
        &self.found
    }

    /// Which of the objects that were given this is; those behind `at` are likelier.
    #[must_use]
    pub fn position(&self, object: u64, at: usize) -> Option<usize> {
        let given = &self.found[..self.given.min(KEPT)];
        let behind = given.iter().skip(at).position(|other| *other == object);
        behind
            .map(|distance| at + distance)
            .or_else(|| given.iter().take(at).position(|other| *other == object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_given_in_their_order_and_once() {
        let mut search = Search::default();
        assert_eq!(search.wanted(1), 1);
        assert_eq!(search.wanted(1_000), 1_000);
        search.found(&[7], 0);
        assert_eq!(search.give(1), [7]);
        assert!(!search.has(1, 0), "the token says when there are no more");
        assert_eq!((search.wanted(1), search.wanted(1_000)), (BATCH, 1_000));
        search.found(&[8, 9, 7], 0);
        assert!(search.has(3, 0) && !search.has(4, 0));
        assert_eq!(search.give(2), [8, 9]);
        search.found(&[10], 0);
        assert_eq!(search.give(u64::MAX), [7, 10]);
        assert_eq!(search.give(1), []);
    }

    #[test]
    fn a_search_that_may_have_ended_is_asked_again_and_loses_nothing() {
        let mut search = Search::default();
        search.found(&[1, 2, 3], 4);
        assert_eq!(search.give(1), [1]);
        assert!(search.has(1, 4) && !search.has(1, 5));
        search.found(&[], 5);
        assert!(search.has(2, 5));
        assert_eq!(search.give(9), [2, 3]);
    }

    #[test]
    fn a_search_that_is_begun_once_more_gives_no_object_twice() {
        let mut search = Search::default();
        assert!(!search.found(&[1], 0));
        assert_eq!(search.give(1), [1]);
        assert!(!search.found(&[2, 3], 0));
        assert_eq!(search.give(1), [2]);
        search.restart();
        assert!(!search.found(&[3, 1], 1), "there is one to give");
        assert_eq!(search.give(1), [3]);
        assert!(search.found(&[2], 1), "there may be more");
        assert!(!search.found(&[4], 1));
        assert_eq!(search.give(5), [4]);
        assert!(!search.found(&[], 1), "there are no more");
        assert_eq!(search.give(5), []);
    }

    #[test]
    fn only_objects_that_were_given_are_known() {
        let mut search = Search::default();
        search.found(&[1, 2, 3], 0);
        search.give(2);
        assert_eq!(search.position(3, 0), None);
        assert_eq!((search.position(1, 1), search.position(2, 1)), (Some(0), Some(1)));
        assert_eq!(search.objects(), [1, 2, 3]);
        search.end();
        assert_eq!(search.objects(), [1, 2]);
        assert_eq!(search.give(5), []);
    }
}
