//! What stands at which path of the demo site, how long it takes, and what goes wrong there.
//!
//! Everything is drawn from hashes of the seed and the path, by rank instead of by chance: so the numbers of faults, of
//! redirects and so on are exact, and no two roles fall on one page.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::DemoOptions;
use super::corpus::{Page, pages};

/// Neighbours in the list that are refused together with 429, as a rate limit does.
const TOO_MANY_REQUESTS: usize = 4;
const UNAVAILABLE: usize = 6;
const CUT: usize = 5;
const DROPPED: usize = 3;
const REDIRECTED: usize = 8;
const COMPRESSED: usize = 40;
const SLOW: usize = 6;
const DUPLICATES: usize = 12;
/// Distance in the list from one failing URL, and from one duplicate, to the next.
const FAILURE_STEP: usize = 40;
const DUPLICATE_STEP: usize = 10;
/// Where the list starts from is the same for all seeds.
const LIST_SALT: u64 = 0;

/// What goes wrong at the first request for a path; the second one succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// Status 429 with `Retry-After: 1`.
    TooManyRequests,
    /// Status 503 without a hint.
    Unavailable,
    /// The connection ends half-way through the body.
    CutBody,
    /// The connection ends before the answer.
    DroppedConnection,
}

/// Why a URL never gives a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// Status 404.
    NotFound,
    /// A PDF that is called `text/html`.
    Pdf,
    /// A gzip file that is called `text/html` (no `Content-Encoding`).
    Gzip,
    /// Nobody listens at the host and port.
    ConnectionRefused,
    /// A redirect to itself.
    RedirectLoop,
}

/// What a URL gives in the end.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// This page, for the first time in the list.
    Page(&'static Page),
    /// The page of an earlier URL once more, byte for byte.
    Duplicate(&'static Page),
    /// No page, however often it is tried.
    Fails(Failure),
}

/// One line of the list.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) path: String,
    /// Where the redirects end; the same as `path` for most.
    pub(super) final_path: String,
    pub(super) outcome: Outcome,
    pub(super) fault: Option<Fault>,
}

/// What the server does at one path.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) content: Content,
    pub(super) latency: Duration,
    pub(super) fault: Option<Fault>,
}

#[derive(Debug)]
pub(super) enum Content {
    Page(&'static Page),
    /// The page, and its gzip form for clients that take it.
    Compressed(&'static Page, Bytes),
    Redirect {
        status: u16,
        to: String,
        /// Whether `Location` names the host, or the path only.
        absolute: bool,
    },
    /// Something else, called `text/html`.
    Disguised(Bytes),
}

/// The whole site: the list of its URLs, and what stands at each path.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) list: Vec<Listed>,
    pub(super) routes: HashMap<String, Route>,
}

impl Site {
    pub(super) fn build(options: &DemoOptions) -> io::Result<Self> {
        let ordered = ranked(pages().iter().collect(), LIST_SALT);
        let roles = Roles::draw(&ordered, options.seed);
        let mut site = Self { list: Vec::new(), routes: HashMap::new() };
        for &page in &ordered {
            site.add_page(page, &roles, options)?;
        }
        if options.with_failures {
            site.add_failures()?;
        }
        site.add_duplicates(&ordered, options);
        Ok(site)
    }

    fn add_page(&mut self, page: &'static Page, roles: &Roles, options: &DemoOptions) -> io::Result<()> {
        let fault = roles.faults.get(page.path).copied().filter(|_| options.faults);
        let content = if roles.compressed.contains(page.path) {
            Content::Compressed(page, gzip(page.body)?)
        } else {
            Content::Page(page)
        };
        let latency = if roles.slow.contains(page.path) {
            Duration::from_millis(550 + hash(options.seed, page.path) % 100)
        } else {
            page_latency(options.seed, page.path)
        };
        self.route(page.path, content, if options.latency { latency } else { Duration::ZERO }, fault);
        let path = match roles.redirects.get(page.path) {
            Some(&number) => self.redirect_to(page.path, number, options),
            None => page.path.to_owned(),
        };
        self.list.push(Listed {
            path,
            final_path: page.path.to_owned(),
            outcome: Outcome::Page(page),
            fault,
        });
        Ok(())
    }

    /// Puts redirect number `number` in front of `path`, every fourth time with another one before it; returns where the
    /// way starts.
    fn redirect_to(&mut self, path: &str, number: usize, options: &DemoOptions) -> String {
        let latency = if options.latency { Duration::from_millis(15) } else { Duration::ZERO };
        let status = [301, 302, 307, 308][number % 4];
        let absolute = number.is_multiple_of(2);
        let moved = format!("/moved{path}");
        self.route(&moved, Content::Redirect { status, to: path.to_owned(), absolute }, latency, None);
        if !number.is_multiple_of(4) {
            return moved;
        }
        let archive = format!("/archive{path}");
        self.route(&archive, Content::Redirect { status: 301, to: moved, absolute: false }, latency, None);
        archive
    }

    /// Repeats pages of the first half of the list in its second half, under paths of their own.
    fn add_duplicates(&mut self, ordered: &[&'static Page], options: &DemoOptions) {
        let half = ordered.len() / 2;
        let originals = ranked(ordered[..half].to_vec(), options.seed);
        let first = self.list.len() - half;
        for (number, page) in originals.into_iter().take(DUPLICATES).enumerate() {
            let path = format!("/mirror{}", page.path);
            let latency = if options.latency { page_latency(options.seed, &path) } else { Duration::ZERO };
            self.route(&path, Content::Page(page), latency, None);
            let listed =
                Listed { final_path: path.clone(), path, outcome: Outcome::Duplicate(page), fault: None };
            self.list.insert(first + number * DUPLICATE_STEP, listed);
        }
    }

    fn add_failures(&mut self) -> io::Result<()> {
        let now = Duration::ZERO;
        let pdf = Bytes::from_static(PDF);
        let archive = gzip(pages()[0].body)?;
        self.route("/broken/report.html", Content::Disguised(pdf), now, None);
        self.route("/broken/archive.html", Content::Disguised(archive), now, None);
        let itself = "/broken/loop.html";
        let content = Content::Redirect { status: 302, to: itself.to_owned(), absolute: false };
        self.route(itself, content, now, None);
        let failures = [
            ("/broken/missing.html", Failure::NotFound),
            ("/broken/report.html", Failure::Pdf),
            ("/broken/archive.html", Failure::Gzip),
            ("/broken/refused.html", Failure::ConnectionRefused),
            (itself, Failure::RedirectLoop),
        ];
        for (number, (path, failure)) in failures.into_iter().enumerate() {
            let listed = Listed {
                path: path.to_owned(),
                final_path: path.to_owned(),
                outcome: Outcome::Fails(failure),
                fault: None,
            };
            self.list.insert((number + 1) * FAILURE_STEP, listed);
        }
        Ok(())
    }

    fn route(&mut self, path: &str, content: Content, latency: Duration, fault: Option<Fault>) {
        self.routes.insert(path.to_owned(), Route { content, latency, fault });
    }
}

/// Which page has which peculiarity, by path.
struct Roles {
    faults: HashMap<&'static str, Fault>,
    /// With a running number.
    redirects: HashMap<&'static str, usize>,
    compressed: HashSet<&'static str>,
    slow: HashSet<&'static str>,
}

impl Roles {
    fn draw(ordered: &[&'static Page], seed: u64) -> Self {
        // The burst starts anywhere but near the ends of the list.
        let room = ordered.len() / 2;
        let start = room / 2 + (hash(seed, "burst") % room as u64) as usize;
        let burst = &ordered[start..start + TOO_MANY_REQUESTS];
        let mut faults: HashMap<_, _> =
            burst.iter().map(|page| (page.path, Fault::TooManyRequests)).collect();
        let others = ordered.iter().copied().filter(|page| !faults.contains_key(page.path)).collect();
        let mut drawn = ranked(others, seed).into_iter().map(|page| page.path);
        for (count, fault) in
            [(UNAVAILABLE, Fault::Unavailable), (CUT, Fault::CutBody), (DROPPED, Fault::DroppedConnection)]
        {
            faults.extend(drawn.by_ref().take(count).map(|path| (path, fault)));
        }
        Self {
            faults,
            redirects: drawn.by_ref().take(REDIRECTED).enumerate().map(|(n, path)| (path, n)).collect(),
            compressed: drawn.by_ref().take(COMPRESSED).collect(),
            slow: drawn.take(SLOW).collect(),
        }
    }
}

/// 20 to 120 ms.
fn page_latency(seed: u64, path: &str) -> Duration {
    Duration::from_millis(20 + hash(seed, path) % 101)
}

/// The pages in an order that depends on `salt` and their paths only.
fn ranked(mut pages: Vec<&'static Page>, salt: u64) -> Vec<&'static Page> {
    pages.sort_by_cached_key(|page| (hash(salt, page.path), page.path));
    pages
}

/// FNV-1a with a final mix. It must stay as it is: the order of the list, and so the golden output, hangs on it.
fn hash(salt: u64, text: &str) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325 ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in text.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    state ^= state >> 32;
    state = state.wrapping_mul(0xd6e8_feb8_6659_fd93);
    state ^ (state >> 32)
}

fn gzip(body: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body)?;
    Ok(encoder.finish()?.into())
}

/// A document of one empty page.
const PDF: &[u8] = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n\
    1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n\
    2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n\
    3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>endobj\n\
    trailer<</Root 1 0 R>>\n%%EOF\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn count(site: &Site, wanted: impl Fn(&Listed) -> bool) -> usize {
        site.list.iter().filter(|listed| wanted(listed)).count()
    }

    #[test]
    fn roles_are_exact_and_apart_for_any_seed() {
        for seed in 0..10 {
            let options = DemoOptions { seed, ..DemoOptions::default() };
            let site = Site::build(&options).unwrap();
            assert_eq!(site.list.len(), 260 + DUPLICATES);
            for (fault, expected) in [
                (Fault::TooManyRequests, TOO_MANY_REQUESTS),
                (Fault::Unavailable, UNAVAILABLE),
                (Fault::CutBody, CUT),
                (Fault::DroppedConnection, DROPPED),
            ] {
                assert_eq!(count(&site, |listed| listed.fault == Some(fault)), expected, "{fault:?}");
            }
            let redirected: Vec<_> =
                site.list.iter().filter(|listed| listed.path != listed.final_path).collect();
            assert_eq!(redirected.len(), REDIRECTED);
            assert!(redirected.iter().all(|listed| listed.fault.is_none()));
            let paths: HashSet<_> = site.list.iter().map(|listed| &listed.path).collect();
            assert_eq!(paths.len(), site.list.len());
        }
    }

    #[test]
    fn duplicates_come_after_their_originals() {
        for with_failures in [false, true] {
            let site = Site::build(&DemoOptions { with_failures, ..DemoOptions::default() }).unwrap();
            let mut seen = HashSet::new();
            let mut duplicates = 0;
            for listed in &site.list {
                match listed.outcome {
                    Outcome::Page(page) => assert!(seen.insert(page.sha256)),
                    Outcome::Duplicate(page) => {
                        duplicates += 1;
                        assert!(seen.contains(page.sha256), "{}", listed.path);
                    }
                    Outcome::Fails(_) => {}
                }
            }
            assert_eq!((seen.len(), duplicates), (260, DUPLICATES));
        }
    }

    #[test]
    fn faults_and_latency_leave_the_list_as_it_is() {
        let paths = |options: DemoOptions| -> Vec<_> {
            let site = Site::build(&options).unwrap();
            site.list.into_iter().map(|listed| (listed.path, listed.final_path)).collect()
        };
        let calm = DemoOptions { faults: false, latency: false, ..DemoOptions::default() };
        assert_eq!(paths(calm), paths(DemoOptions::default()));
        let calm = Site::build(&calm).unwrap();
        assert!(calm.routes.values().all(|route| route.fault.is_none() && route.latency.is_zero()));
    }

    #[test]
    fn failures_are_only_there_when_asked_for() {
        let fails = |listed: &Listed| matches!(listed.outcome, Outcome::Fails(_));
        let site = Site::build(&DemoOptions::default()).unwrap();
        assert_eq!(count(&site, fails), 0);
        let site = Site::build(&DemoOptions { with_failures: true, ..DemoOptions::default() }).unwrap();
        assert_eq!(count(&site, fails), 5);
    }

    #[test]
    fn latencies_are_realistic() {
        let site = Site::build(&DemoOptions::default()).unwrap();
        let slow = site.routes.values().filter(|route| route.latency >= Duration::from_millis(550)).count();
        assert_eq!(slow, SLOW);
        let usual = site.routes.values().filter(|route| route.latency <= Duration::from_millis(120)).count();
        assert_eq!(usual, site.routes.len() - SLOW);
    }
}
