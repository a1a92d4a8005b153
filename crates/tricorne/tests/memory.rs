//! Flat memory: once the queues and the open row group have filled, within the first thousand pages, more pages
//! need no more memory. `TRICORNE_DEEP=1` runs 26,000 pages, twenty times as many as the run that it is compared
//! with; without it, it is four times as many.
//!
//! The peak is a matter of chance, too: of which large pages are in work at the same time. It varies by a third from
//! run to run, so only a growth beyond that is one. Not shown here are the peak against that of 260 pages, which do
//! not fill the row group, and what the allocator keeps in reserve, which is switched off.

mod support;

use std::time::Duration;

use support::{Folder, calm_site, json_file, run, tricorne, url_list};

const FEW: usize = 1_300;

#[test]
fn the_peak_does_not_grow_with_the_input() {
    let many = if std::env::var_os("TRICORNE_DEEP").is_some() { 20 * FEW } else { 4 * FEW };
    let server = calm_site(Duration::ZERO);
    let folder = Folder::new();
    let peak_bytes = |pages: usize| {
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
                path = "out-{pages}"
                [run]
                workers = 2
                "#
            ),
        );
        let mut command = tricorne(["run", "--quiet"]);
        command.arg(plan).env("MIMALLOC_PURGE_DELAY", "0");
        run(command).expect(0);
        let report = json_file(&folder.path(&format!("out-{pages}/run.json")));
        assert_eq!(report["fetched"].as_u64(), Some(pages as u64));
        report["peak_rss_bytes"].as_u64().expect("a number")
    };
    let (few, most) = (peak_bytes(FEW), peak_bytes(many));
    println!("{FEW} pages: {} kB, {many} pages: {} kB at the peak", few / 1000, most / 1000);
    assert!(most * 2 <= few * 3, "{FEW} pages: {few} bytes, {many} pages: {most} bytes at the peak");
}
