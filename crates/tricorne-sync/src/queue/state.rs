//! What a queue's mutex guards, and the rules by which items and waiters come together.

use std::time::Instant;
use std::vec;

use super::order::{Item, Order, Store};
use super::{QueueStats, TooManyDone};
use crate::wait::{Deferred, WaitList};

pub(crate) struct State<T, O: Order<T>> {
    pub(super) items: O::Store,
    pub(super) weight: u64,
    capacity: usize,
    max_weight: u64,
    pub(super) closed: bool,
    /// Each waits with its item, which goes into the queue in the moment in which there is room.
    pub(super) producers: WaitList<Item<T>>,
    /// They are nudged for items. Those granted have a claim on one item each; which one is settled when they come to take
    /// it.
    pub(super) consumers: WaitList<()>,
    /// They wait until there is something to take, without taking it.
    pub(super) watchers: WaitList<()>,
    /// They wait until all is done.
    pub(super) joiners: WaitList<()>,
    puts: u64,
    gets: u64,
    done: u64,
    high_water_items: usize,
    high_water_weight: u64,
}

impl<T, O: Order<T>> State<T, O> {
    pub(super) fn new(capacity: Option<usize>, max_weight: Option<u64>) -> Self {
        Self {
            items: O::Store::default(),
            weight: 0,
            capacity: capacity.unwrap_or(usize::MAX),
            max_weight: max_weight.unwrap_or(u64::MAX),
            closed: false,
            producers: WaitList::new(),
            consumers: WaitList::new(),
            watchers: WaitList::new(),
            joiners: WaitList::new(),
            puts: 0,
            gets: 0,
            done: 0,
            high_water_items: 0,
            high_water_weight: 0,
        }
    }

    #[inline]
    pub(super) fn has_room(&self, weight: u64) -> bool {
        let len = self.items.len();
        len == 0
            || (len < self.capacity
                && self.weight.checked_add(weight).is_some_and(|total| total <= self.max_weight))
    }

    /// A put now is a push and nothing else.
    #[inline]
    pub(super) fn put_is_simple(&self, weight: u64) -> bool {
        self.consumers.is_idle()
            && self.producers.is_idle()
            && self.watchers.is_idle()
            && !self.closed
            && self.has_room(weight)
    }

    /// A get now is a pop and nothing else, if there is an item.
    #[inline]
    pub(super) fn get_is_simple(&self) -> bool {
        self.consumers.is_idle() && self.producers.is_idle()
    }

    /// Items on which no consumer has a claim.
    pub(super) fn unclaimed(&self) -> usize {
        self.items.len().saturating_sub(self.consumers.granted_len())
    }

    /// Closed, and every item was taken. Items that are claimed count as there: the claim may be given up.
    pub(super) fn is_finished(&self) -> bool {
        self.closed && self.items.len() == 0
    }

    pub(super) fn unfinished(&self) -> u64 {
        self.puts - self.done
    }

    #[inline]
    pub(super) fn push(&mut self, item: Item<T>) {
        self.weight += item.weight;
        self.puts += 1;
        // Last of these, as it may compare items: if that panics, the item is in the queue and counted.
        self.items.push(item);
        self.high_water_items = self.high_water_items.max(self.items.len());
        self.high_water_weight = self.high_water_weight.max(self.weight);
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        let item = self.items.pop()?;
        self.weight -= item.weight;
        self.gets += 1;
        Some(item.value)
    }

    /// Puts the first of `items` that fit, if nobody waits before them.
    pub(super) fn put_what_fits(&mut self, items: &mut vec::IntoIter<Item<T>>, deferred: &mut Deferred) {
        while !self.closed
            && self.producers.is_empty()
            && items.as_slice().first().is_some_and(|item| self.has_room(item.weight))
            && let Some(item) = items.next()
        {
            self.push(item);
        }
        self.settle(deferred);
    }

    /// Takes out all items. They count as done.
    pub(super) fn drain(&mut self) -> Vec<T> {
        let mut items = Vec::with_capacity(self.items.len());
        while let Some(item) = self.items.pop() {
            items.push(item.value);
        }
        self.weight = 0;
        // Whoever reported more than it took has reported some of these.
        self.done = (self.done + items.len() as u64).min(self.puts);
        items
    }

    pub(super) fn close(&mut self, deferred: &mut Deferred) {
        self.closed = true;
        self.producers.wake_all(deferred);
        self.settle(deferred);
        self.release_joiners(deferred);
    }

    /// One item more is done.
    pub(super) fn finish_one(&mut self, deferred: &mut Deferred) -> Result<(), TooManyDone> {
        if self.done == self.puts {
            return Err(TooManyDone);
        }
        self.done += 1;
        self.release_joiners(deferred);
        Ok(())
    }

    fn release_joiners(&mut self, deferred: &mut Deferred) {
        if self.unfinished() == 0 {
            while self.joiners.grant_front((), deferred).is_some() {}
        }
    }

    /// Brings the lines up to date after any change: lets in producers for whom there is room, wakes a consumer for each
    /// item that nobody is on the way for, and tells those who wait for items when nothing will come any more.
    pub(super) fn settle(&mut self, deferred: &mut Deferred) {
        while !self.closed && self.producers.front().is_some_and(|item| self.has_room(item.weight)) {
            if let Some(item) = self.producers.grant_front((), deferred) {
                self.push(item);
            }
        }
        // Whoever insists comes before those who are on the way to look, or it would be overtaken for as long as they are.
        while self.consumers.front_insists() && self.unclaimed() > 0 {
            self.consumers.grant_front((), deferred);
        }
        while self.consumers.has_sleepers() && self.unclaimed() > self.consumers.nudged_len() {
            self.consumers.nudge_front(deferred);
        }
        if self.is_finished() {
            self.consumers.wake_all(deferred);
        }
        if self.is_ready() {
            while self.watchers.grant_front((), deferred).is_some() {}
        }
    }

    /// Something can be taken, or nothing will come any more.
    pub(super) fn is_ready(&self) -> bool {
        self.unclaimed() > 0 || self.is_finished()
    }

    pub(super) fn stats(&self, now: Instant) -> QueueStats {
        let (producers, consumers) = (self.producers.stats(now), self.consumers.stats(now));
        QueueStats {
            len: self.items.len(),
            weight: self.weight,
            puts: self.puts,
            gets: self.gets,
            unfinished: self.unfinished(),
            put_waits: producers.waits,
            put_wait: producers.wait,
            get_waits: consumers.waits,
            get_wait: consumers.wait,
            high_water_items: self.high_water_items,
            high_water_weight: self.high_water_weight,
        }
    }
}
