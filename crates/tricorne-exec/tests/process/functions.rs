//! What the workers can do.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::process::{
    PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, Signal, getpid, kill_process, pidfd_getfd, pidfd_open,
    setrlimit,
};
use tricorne_exec::process::{Buffer, Function, ProcessPoolExecutor, Registry};

pub(crate) static SQUARE: Function<u64, u64> = Function::new("square", |n| n * n);
pub(crate) static PID: Function<(), u32> = Function::new("pid", |()| std::process::id());
pub(crate) static PANIC: Function<String, ()> = Function::new("panic", |message| panic!("{message}"));
pub(crate) static ABORT: Function<String, ()> = Function::new("abort", |message| {
    eprintln!("{message}");
    std::process::abort()
});
pub(crate) static EXIT: Function<i32, ()> = Function::new("exit", |code| std::process::exit(code));
pub(crate) static KILL: Function<(), ()> = Function::new("kill", |()| die());
pub(crate) static SLEEP: Function<u64, ()> =
    Function::new("sleep", |millis| std::thread::sleep(Duration::from_millis(millis)));
pub(crate) static SPIN: Function<u64, ()> = Function::new("spin", |millis| {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(millis) {
        std::hint::spin_loop();
    }
});
/// File, item, and the item at which the process is killed, if it is this one.
pub(crate) static COUNT: Function<(String, u32, u32), u32> =
    Function::new("count", |(path, item, deadly)| {
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the counters");
        file.write_all(&item.to_le_bytes()).expect("room on the disk");
        if item == deadly {
            die();
        }
        item
    });
pub(crate) static OUT_OF_MEMORY: Function<(), usize> = Function::new("out_of_memory", |()| {
    let limit = Some(1 << 30);
    setrlimit(Resource::As, Rlimit { current: limit, maximum: limit }).expect("a lower limit");
    vec![1_u8; 4 << 30].len()
});
/// Takes so many MiB, and then so many milliseconds.
pub(crate) static GROW: Function<(usize, u64), usize> = Function::new("grow", |(mebibytes, millis)| {
    let block = std::hint::black_box(vec![1_u8; mebibytes << 20]);
    std::thread::sleep(Duration::from_millis(millis));
    block.len()
});
/// Writes these bytes to every socket that the process has, then waits.
pub(crate) static GARBAGE: Function<Vec<u8>, ()> = Function::new("garbage", |bytes| {
    for socket in own_descriptors("socket:") {
        let _ = rustix::net::send(&socket, &bytes, rustix::net::SendFlags::NOSIGNAL);
    }
    std::thread::sleep(Duration::from_secs(60));
});
/// Shuts every socket that the process has, then waits.
pub(crate) static HANG_UP: Function<(), ()> = Function::new("hang_up", |()| {
    for socket in own_descriptors("socket:") {
        let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Both);
    }
    std::thread::sleep(Duration::from_secs(60));
});
/// What the descriptors from 3 on are.
pub(crate) static DESCRIPTORS: Function<(), Vec<String>> = Function::new("descriptors", |()| {
    let folder = std::fs::read_dir("/proc/self/fd").expect("Linux has it");
    let mut names: Vec<String> = folder
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok_and(|fd| fd > 2))
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .map(|target| target.to_string_lossy().split(':').next().unwrap_or_default().to_owned())
        // The descriptor that reads the folder.
        .filter(|target| !target.starts_with("/proc/"))
        .collect();
    names.sort();
    names
});
pub(crate) static ECHO: Function<Buffer, Buffer> = Function::new("echo", |buffer| buffer);
pub(crate) static INCREMENT: Function<Buffer, Buffer> = Function::new("increment", |mut buffer| {
    buffer.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
    buffer
});
pub(crate) static SUM: Function<Vec<Buffer>, u64> =
    Function::new("sum", |buffers| buffers.iter().flat_map(|b| b.iter()).map(|byte| u64::from(*byte)).sum());
pub(crate) static MAKE: Function<(usize, u8), Buffer> =
    Function::new("make", |(len, byte)| Buffer::from(vec![byte; len]));
pub(crate) static TEXT: Function<usize, String> = Function::new("text", |len| "t".repeat(len));
pub(crate) static PRINT: Function<(String, String), ()> = Function::new("print", |(out, err)| {
    println!("{out}");
    eprintln!("{err}");
});
pub(crate) static NESTED: Function<u64, Vec<u64>> = Function::new("nested", |n| {
    let pool = ProcessPoolExecutor::builder().workers(1).build().expect("processes in a process");
    pool.map(&SQUARE, 0..n).collect::<Result<_, _>>().expect("squares")
});
pub(crate) static SET_UP: Function<String, ()> = Function::new("set_up", |what| match what.as_str() {
    "panic" => panic!("no database"),
    "die" => die(),
    _ => std::fs::write(what, "set up").expect("a file"),
});
pub(crate) static UNKNOWN: Function<(), ()> = Function::new("unknown", |()| ());

static AT_EXIT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
/// Takes its time at the exit of the process, and then writes this file.
pub(crate) static SLOW_EXIT: Function<String, ()> = Function::new("slow_exit", |path| {
    extern "C" fn at_exit() {
        std::thread::sleep(Duration::from_millis(400));
        let _ = std::fs::write(AT_EXIT.get().map_or("", String::as_str), "done");
    }
    AT_EXIT.set(path).expect("once");
    // SAFETY: the handler lives as long as the program.
    #[expect(unsafe_code, reason = "there is no other way")]
    let set = unsafe { libc::atexit(at_exit) };
    assert_eq!(set, 0);
});
/// Cannot be read, unless it is 0.
#[derive(serde::Serialize)]
pub(crate) struct Bomb(pub(crate) u64);
impl<'de> serde::Deserialize<'de> for Bomb {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        assert_eq!(number, 0, "it goes off");
        Ok(Self(number))
    }
}
pub(crate) static BOMB: Function<u64, Bomb> = Function::new("bomb", Bomb);

pub(crate) fn registry() -> Registry {
    Registry::new()
        .with(&SQUARE)
        .with(&PID)
        .with(&PANIC)
        .with(&ABORT)
        .with(&EXIT)
        .with(&KILL)
        .with(&SLEEP)
        .with(&SPIN)
        .with(&COUNT)
        .with(&OUT_OF_MEMORY)
        .with(&GROW)
        .with(&GARBAGE)
        .with(&HANG_UP)
        .with(&DESCRIPTORS)
        .with(&ECHO)
        .with(&INCREMENT)
        .with(&SUM)
        .with(&MAKE)
        .with(&TEXT)
        .with(&PRINT)
        .with(&NESTED)
        .with(&SET_UP)
        .with(&SLOW_EXIT)
        .with(&BOMB)
}

fn die() {
    kill_process(getpid(), Signal::KILL).expect("oneself may always be killed");
    std::thread::sleep(Duration::from_secs(60));
}

/// Copies of this process's own descriptors of a kind.
fn own_descriptors(kind: &str) -> Vec<OwnedFd> {
    let me = pidfd_open(getpid(), PidfdFlags::empty()).expect("this process");
    let folder = std::fs::read_dir("/proc/self/fd").expect("Linux has it");
    let is_kind = |path: &std::path::Path| {
        std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with(kind))
    };
    folder
        .flatten()
        .filter(|entry| is_kind(&entry.path()))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|number| pidfd_getfd(me.as_fd(), number, PidfdGetfdFlags::empty()).ok())
        .collect()
}
