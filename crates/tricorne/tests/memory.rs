//! Flat memory: a run of many pages peaks no higher than 1.2 times as high as one of 260, which is each page of the
//! corpus once. `TRICORNE_DEEP=1` runs 26,000 pages; without it, it is 5,200.
//!
//! The peak is a matter of chance, too: of which large pages are in work at the same time, and of when the threads are
//! given a core. So the few pages are run several times, and the median of their peaks counts.

mod support;

use std::time::Duration;

use support::{Folder, calm_site, json_file, run, tricorne, url_list};

const FEW: usize = 260;
/// Runs of the few pages.
const THROWS: usize = 3;

#[test]
fn the_peak_does_not_grow_with_the_input() {
    let many = if std::env::var_os("TRICORNE_DEEP").is_some() { 26_000 } else { 5_200 };
    let server = calm_site(Duration::ZERO);
    let folder = Folder::new();
    let peak_bytes = |pages: usize, run_number: usize| {
        folder.write(&format!("{pages}.txt"), url_list(&server, pages));
        let plan = folder.write(
            &format!("{pages}.toml"),
            format!(
                r#"
                [source]
                urls = "{pages}.txt"
                [fetch]
                concurrency = 16
                per_host = 16
                [[stage]]
                use = "extract"
                [[stage]]
                use = "clean"
                [[stage]]
                use = "features"
                [[stage]]
                use = "dedup"
                by = "sha256"
                [sink]
                path = "out-{pages}-{run_number}"
                [run]
                workers = 2
                "#
            ),
        );
        let mut command = tricorne(["run", "--quiet"]);
        command.arg(plan);
        run(command).expect(0);
        let report = json_file(&folder.path(&format!("out-{pages}-{run_number}/run.json")));
        assert_eq!(report["fetched"].as_u64(), Some(pages as u64));
        report["peak_rss_bytes"].as_u64().expect("a number")
    };
    let mut few: Vec<u64> = (0..THROWS).map(|number| peak_bytes(FEW, number)).collect();
    few.sort_unstable();
    let few = few[THROWS / 2];
    let most = peak_bytes(many, 0);
    println!("{FEW} pages: {} kB, {many} pages: {} kB at the peak", few / 1000, most / 1000);
    assert!(most * 10 <= few * 12, "{FEW} pages: {few} bytes, {many} pages: {most} bytes at the peak");
}
