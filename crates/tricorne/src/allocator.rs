//! The allocator of the command: mimalloc, told to give memory back soon.
//!
//! The peak memory of a run shall follow from its bounds and not from what the allocator keeps in reserve. Two of its
//! habits stand against that:
//!
//! - It asks for huge pages, so that the first byte of a block costs 2 MiB. The `no_thp` feature turns that off.
//! - It keeps freed memory for a second. One millisecond is enough for what one page of text work leaves to be used
//!   by the next, which is where the time is saved.
//!
//! The environment variables of mimalloc still have the last word.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h`, which the bindings do not name; the same in its versions 2 and 3.
const PURGE_DELAY: c_int = 15;
const PURGE_DELAY_MILLIS: c_long = 1;

/// Sets the allocator up. To be called first of all, while there is one thread.
#[expect(unsafe_code, reason = "the allocator has its settings behind a C interface only")]
pub(crate) fn set_up() {
    // SAFETY: the function stores a number in a table of the allocator. The option is one of those of the table
    // (a constant below `_mi_option_last`). No other thread reads the table meanwhile, as `main` has started none:
    // the caller keeps that. The allocator takes any value; a delay of any length is correct.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MILLIS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another version of the allocator may number its options anew.
    #[test]
    #[expect(unsafe_code, reason = "as above")]
    fn the_option_is_the_one_that_is_meant() {
        set_up();
        // SAFETY: reads a number of the same table; other tests of this program do not write to it.
        let delay = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        let from_environment = std::env::var_os("MIMALLOC_PURGE_DELAY").is_some();
        assert!(delay == PURGE_DELAY_MILLIS || from_environment, "{delay}");
    }
}
