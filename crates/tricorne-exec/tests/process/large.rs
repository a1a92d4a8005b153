//! Large buffers: in, out, changed, kept, and used again.

use tricorne_exec::process::Buffer;

use crate::Test;
use crate::functions::*;
use crate::support::{Facts, descriptors, eventually, pool};

pub(crate) const TESTS: &[Test] = &[
    ("large_buffers_in_and_out", large_buffers_in_and_out),
    ("large_buffers_can_be_changed", large_buffers_can_be_changed),
    ("buffers_that_are_kept_do_not_change", buffers_that_are_kept_do_not_change),
    ("segments_are_used_again", segments_are_used_again),
    ("many_buffers_of_all_sizes", many_buffers_of_all_sizes),
];

const LARGE: usize = 64 << 20;

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|index| (index.wrapping_mul(31).wrapping_add(seed) >> 3) as u8).collect()
}

fn large_buffers_in_and_out(_: &mut Facts) {
    let pool = pool(2);
    let bytes = pattern(LARGE, 1);
    let back = pool.submit(&ECHO, bytes.clone().into()).result().expect("it comes back");
    assert!(*back == *bytes);
    let made = pool.submit(&MAKE, (LARGE, 7)).result().expect("made");
    assert!(made.len() == LARGE && made.iter().all(|byte| *byte == 7));
    let owner = Buffer::from_owner(bytes);
    let sum = owner.iter().map(|byte| u64::from(*byte)).sum();
    assert_eq!(pool.submit(&SUM, vec![owner]).result(), Ok(sum));
}

fn large_buffers_can_be_changed(_: &mut Facts) {
    let pool = pool(1);
    let bytes = Buffer::from(pattern(1 << 20, 2));
    // Changed by the worker, which does not change ours.
    let mut changed = pool.submit(&INCREMENT, bytes.clone()).result().expect("changed");
    assert!(*bytes == *pattern(1 << 20, 2));
    assert!(changed.iter().zip(&*bytes).all(|(new, old)| *new == old.wrapping_add(1)));
    // Changed by us, where it lies.
    changed[5] = 99;
    assert_eq!(changed[5], 99);
    let again = pool.submit(&ECHO, changed.clone()).result().expect("it comes back");
    assert_eq!(again, changed);
}

fn buffers_that_are_kept_do_not_change(_: &mut Facts) {
    let pool = pool(2);
    let kept: Vec<Buffer> =
        (0..20_u8).map(|n| pool.submit(&MAKE, (200_000, n)).result().expect("made")).collect();
    for n in 100..140_u8 {
        drop(pool.submit(&MAKE, (200_000, n)).result().expect("made"));
    }
    for (n, buffer) in kept.iter().enumerate() {
        assert!(buffer.iter().all(|byte| usize::from(*byte) == n), "buffer {n}");
    }
    // Nor when the worker that has sent them is gone.
    drop(pool);
    for (n, buffer) in kept.iter().enumerate() {
        assert!(buffer.iter().all(|byte| usize::from(*byte) == n), "buffer {n}");
    }
}

fn segments_are_used_again(facts: &mut Facts) {
    let pool = pool(1);
    let round = || {
        let back = pool.submit(&INCREMENT, vec![1; 1 << 20].into()).result().expect("changed");
        assert!(back.iter().all(|byte| *byte == 2));
    };
    round();
    eventually("it idles", || pool.stats().idle == 1);
    let before = descriptors();
    for _ in 0..200 {
        round();
    }
    let stats = pool.stats();
    assert!(stats.segments_free + stats.segments_lent <= 4, "{stats:?}");
    eventually("no more descriptors", || descriptors() <= before + 2);
    facts.insert("segments".to_owned(), (stats.segments_free + stats.segments_lent).into());
}

fn many_buffers_of_all_sizes(_: &mut Facts) {
    let pool = pool(2);
    let sizes = [0, 1, 1000, 40_000, 65_535, 65_536, 65_537, 300_000];
    let buffers: Vec<Buffer> = (0..150).map(|n| pattern(sizes[n % sizes.len()], n).into()).collect();
    let sum = buffers.iter().flat_map(|buffer| buffer.iter()).map(|byte| u64::from(*byte)).sum();
    assert_eq!(pool.submit(&SUM, buffers).result(), Ok(sum));
    let inputs: Vec<Buffer> = (0..300).map(|n| pattern(sizes[n % sizes.len()], n).into()).collect();
    let outputs: Vec<Buffer> =
        pool.map(&ECHO, inputs.clone()).collect::<Result<_, _>>().expect("all come back");
    assert!(inputs == outputs);
}
