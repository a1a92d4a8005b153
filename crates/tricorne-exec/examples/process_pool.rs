//! A process pool: results in order, large buffers without copies, a crash that costs one task, a time-out, Ctrl-C-safe.
//!
//! `cargo run -p tricorne-exec --example process_pool`

#[cfg(target_os = "linux")]
mod linux {
    use std::process::ExitCode;
    use std::time::Duration;

    use tricorne_exec::TaskError;
    use tricorne_exec::process::{
        Buffer, Function, ProcessEnd, ProcessPoolExecutor, Registry, TaskOptions, worker_main,
    };

    static COLLATZ: Function<u64, u32> = Function::new("collatz", |start| {
        let mut n = start;
        let mut steps = 0;
        while n != 1 {
            n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 };
            steps += 1;
        }
        steps
    });
    static BRIGHTEN: Function<(Buffer, u8), Buffer> = Function::new("brighten", |(mut pixels, by)| {
        pixels.iter_mut().for_each(|pixel| *pixel = pixel.saturating_add(by));
        pixels
    });
    /// Native code with a bug: it takes its process with it.
    static DECODE: Function<String, usize> = Function::new("decode", |file| match file.as_str() {
        "damaged.img" => std::process::abort(),
        other => other.len(),
    });
    static FOR_EVER: Function<(), ()> = Function::new("for_ever", |()| {
        loop {
            std::hint::spin_loop();
        }
    });

    pub(super) fn main() -> ExitCode {
        let functions = Registry::new().with(&COLLATZ).with(&BRIGHTEN).with(&DECODE).with(&FOR_EVER);
        // The same program is started again for the workers; there this does all the work.
        if let Some(code) = worker_main(std::env::args_os(), functions) {
            return code;
        }
        match run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        }
    }

    fn run() -> Result<(), Box<dyn std::error::Error>> {
        let pool = ProcessPoolExecutor::builder().workers(2).build()?;

        let steps: Vec<u32> = pool.map(&COLLATZ, 1..100_000).collect::<Result<_, _>>()?;
        let longest = (1_u64..).zip(&steps).max_by_key(|(_, steps)| **steps);
        println!("longest way to 1 below 100000: {longest:?} (start, steps)");
        assert_eq!(longest, Some((77_031, &350)));
        let stats = pool.stats();
        println!("{} tasks in {} batches", stats.completed, stats.batches);

        let pixels = Buffer::from(vec![100; 8 << 20]);
        let mut brighter = pool.submit(&BRIGHTEN, (pixels, 50)).result()?;
        brighter[0] = 0; // it is ours to change
        println!("{} MiB of pixels, the second one is {}", brighter.len() >> 20, brighter[1]);
        assert_eq!(brighter[1], 150);

        let files = ["a.img", "damaged.img", "another.img"].map(str::to_owned);
        for (file, result) in files.iter().zip(pool.map(&DECODE, files.clone())) {
            match result {
                Ok(size) => println!("{file}: {size}"),
                Err(TaskError::WorkerCrashed(crash)) => {
                    println!("{file}: {crash}");
                    assert!(file == "damaged.img" && matches!(crash.end, ProcessEnd::Signal(_)));
                }
                Err(error) => return Err(error.into()),
            }
        }

        let options = TaskOptions::timeout(Duration::from_millis(50));
        let (_, endless) = pool.submit_with(&FOR_EVER, (), options);
        let error = endless.result().expect_err("it does not end by itself");
        println!("{error}");
        assert_eq!(pool.submit(&COLLATZ, 27).result()?, 111);
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("process pools need Linux");
}
