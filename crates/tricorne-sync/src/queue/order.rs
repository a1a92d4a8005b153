//! The order in which a queue hands its items out.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

/// First in, first out: the order of [`Queue`](crate::Queue).
#[derive(Debug, Clone, Copy)]
pub struct Fifo;

/// Last in, first out: the order of [`LifoQueue`](crate::LifoQueue).
#[derive(Debug, Clone, Copy)]
pub struct Lifo;

/// Smallest first: the order of [`PriorityQueue`](crate::PriorityQueue).
#[derive(Debug, Clone, Copy)]
pub struct Priority;

/// How a queue of `T` keeps its items. Sealed: [`Fifo`], [`Lifo`] and [`Priority`] are the ones.
pub trait Order<T>: sealed::Sealed {
    #[doc(hidden)]
    type Store: Store<T>;
}

/// Items, in an order.
#[doc(hidden)]
pub trait Store<T>: Default {
    fn push(&mut self, item: Item<T>);
    fn pop(&mut self) -> Option<Item<T>>;
    fn len(&self) -> usize;
    /// Looks at each, in no particular order.
    fn for_each(&self, look: impl FnMut(&T));
}

/// An item in a queue, with its weight.
#[doc(hidden)]
pub struct Item<T> {
    pub(crate) value: T,
    pub(crate) weight: u64,
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Fifo {}
    impl Sealed for super::Lifo {}
    impl Sealed for super::Priority {}
}

impl<T> Order<T> for Fifo {
    type Store = VecDeque<Item<T>>;
}

impl<T> Store<T> for VecDeque<Item<T>> {
    #[inline]
    fn push(&mut self, item: Item<T>) {
        self.push_back(item);
    }

    #[inline]
    fn pop(&mut self) -> Option<Item<T>> {
        self.pop_front()
    }

    #[inline]
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn for_each(&self, mut look: impl FnMut(&T)) {
        self.iter().for_each(|item| look(&item.value));
    }
}

impl<T> Order<T> for Lifo {
    type Store = Vec<Item<T>>;
}

impl<T> Store<T> for Vec<Item<T>> {
    fn push(&mut self, item: Item<T>) {
        Self::push(self, item);
    }

    fn pop(&mut self) -> Option<Item<T>> {
        Self::pop(self)
    }

    fn len(&self) -> usize {
        Self::len(self)
    }

    fn for_each(&self, mut look: impl FnMut(&T)) {
        self.iter().for_each(|item| look(&item.value));
    }
}

impl<T: Ord> Order<T> for Priority {
    type Store = Heap<T>;
}

/// A heap that hands out the smallest item, and of equal ones the oldest.
#[doc(hidden)]
pub struct Heap<T> {
    items: BinaryHeap<Ranked<T>>,
    next: u64,
}

struct Ranked<T> {
    item: Item<T>,
    /// Grows with each item.
    age: u64,
}

impl<T: Ord> Ord for Ranked<T> {
    /// The other way round: the standard heap hands out the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.item.value.cmp(&self.item.value).then(other.age.cmp(&self.age))
    }
}

impl<T: Ord> PartialOrd for Ranked<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> PartialEq for Ranked<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Ord> Eq for Ranked<T> {}

impl<T: Ord> Default for Heap<T> {
    fn default() -> Self {
        Self { items: BinaryHeap::new(), next: 0 }
    }
}

impl<T: Ord> Store<T> for Heap<T> {
    fn push(&mut self, item: Item<T>) {
        self.items.push(Ranked { item, age: self.next });
        self.next += 1;
    }

    fn pop(&mut self) -> Option<Item<T>> {
        self.items.pop().map(|ranked| ranked.item)
    }

    fn len(&self) -> usize {
        self.items.len()
    }

    fn for_each(&self, mut look: impl FnMut(&T)) {
        self.items.iter().for_each(|ranked| look(&ranked.item.value));
    }
}
