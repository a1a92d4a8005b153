//! A function that locks calls itself and others that lock: with a re-entrant lock a thread does not wait for itself,
//! and others still wait for it.
//!
//! `cargo run -p tricorne-exec --example reentrant_lock`

use std::cell::Cell;
use std::thread;
use std::time::Duration;

use tricorne_sync::RLock;

struct Account {
    balance: Cell<i64>,
}

fn deposit(account: &RLock<Account>, amount: i64) {
    let account = account.lock();
    account.balance.set(account.balance.get() + amount);
}

/// Locks, and calls what locks again; at the bottom the lock is held `parts` times.
fn deposit_in_parts(account: &RLock<Account>, parts: u32) {
    let held = account.lock();
    if parts > 0 {
        deposit(account, 1);
        deposit_in_parts(account, parts - 1);
    } else {
        let refused = thread::scope(|scope| {
            scope.spawn(|| account.lock_timeout(Duration::from_millis(1)).is_none()).join()
        });
        assert!(refused.is_ok_and(|refused| refused), "another thread got in");
    }
    drop(held);
}

fn main() {
    let account = RLock::new(Account { balance: Cell::new(0) });
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| deposit_in_parts(&account, 50));
        }
    });
    assert!(!account.is_locked(), "every level was given back");
    let balance = account.into_inner().balance.get();
    assert_eq!(balance, 100);
    println!("locked 51 levels deep by two threads, each alone while it held it: the balance is {balance}");
}
