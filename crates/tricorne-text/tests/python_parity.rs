//! The counts beside the real Python: equal to the last bit on every character that both Unicode versions
//! know.
//!
//! One `python3` process first says which characters it knows, then counts each text that it is sent by the
//! definition in `counts.rs`. Without a `python3`, or with one that knows a newer Unicode, the tests say that
//! they did nothing.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tricorne_text::{Counter, Counts, UNICODE_VERSION};

const PROGRAM: &str = r"
import json, sys, unicodedata
known = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ('Cn', 'Cs')]
print(unicodedata.unidata_version, *known, flush=True)
for line in sys.stdin.buffer:
    text = json.loads(line)
    words = text.lower().split()
    average = sum(map(len, words)) / len(words) if words else 0.0
    print(len(words), len(set(words)), repr(average), len(text))
";

/// A Python that has said what it knows and waits for texts.
struct Python {
    child: Child,
    output: BufReader<ChildStdout>,
    known_chars: Vec<char>,
}

impl Python {
    /// Nothing, with a notice, if there is no Python.
    fn start() -> Option<Self> {
        let spawned = Command::new("python3")
            .args(["-I", "-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                eprintln!("SKIPPED: parity with Python is not tested, as `python3` does not start: {error}");
                return None;
            }
        };
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let (version, known_chars) = line.split_once(' ').unwrap();
        let major = |version: &str| version.split('.').next().unwrap().parse::<u32>().unwrap();
        if major(version) > major(UNICODE_VERSION) {
            eprintln!(
                "SKIPPED: Python has Unicode {version}, newer than {UNICODE_VERSION}: what both know is not known"
            );
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        let known_chars: Vec<char> = known_chars
            .split_ascii_whitespace()
            .map(|number| char::from_u32(number.parse().unwrap()).unwrap())
            .collect();
        assert!(known_chars.len() > 280_000, "Python knows only {} characters", known_chars.len());
        Some(Self { child, output, known_chars })
    }

    /// Compares the counts of all texts.
    fn compare(mut self, texts: &[String]) {
        let mut input = BufWriter::new(self.child.stdin.take().unwrap());
        let to_send = texts.to_vec();
        let sender = thread::spawn(move || {
            for text in to_send {
                serde_json::to_writer(&mut input, &text).unwrap();
                input.write_all(b"\n").unwrap();
            }
        });
        let (done, is_done) = mpsc::channel::<()>();
        let mut child = self.child;
        let watchdog = thread::spawn(move || {
            // Also ends when the test fails, as that drops the other end.
            let _ = is_done.recv_timeout(Duration::from_secs(120));
            let _ = child.kill();
            let _ = child.wait();
        });
        let mut counter = Counter::new();
        let mut line = String::new();
        for text in texts {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "Python ended early");
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let expected = Counts {
                word_count: fields[0].parse().unwrap(),
                unique_words: fields[1].parse().unwrap(),
                avg_word_len: fields[2].parse().unwrap(),
                char_count: fields[3].parse().unwrap(),
            };
            assert_eq!(counter.count(text), expected, "{text:?}");
        }
        sender.join().unwrap();
        drop(done);
        watchdog.join().unwrap();
    }
}

/// A xorshift generator: the same texts in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

#[test]
fn every_character_in_every_position() {
    let Some(python) = Python::start() else { return };
    let texts: Vec<String> = python
        .known_chars
        .iter()
        .map(|&ch| {
            // With its own lower case beside it, a wrong one shows as another number of different words. The
            // sigmas ask whether the character has a case, and whether the rule for the final sigma looks
            // through it.
            let lower: String = ch.to_lowercase().collect();
            format!("{ch} {lower} x{ch}Y x{lower}y A{ch}B \u{3a3}{ch} A\u{3a3}{ch} A{ch}\u{3a3} A\u{3a3}{ch}B {ch}\u{3a3}")
        })
        .collect();
    python.compare(&texts);
}

#[test]
fn random_texts() {
    let Some(python) = Python::start() else { return };
    const SPACES: &[char] = &[
        ' ', ' ', ' ', '\n', '\t', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{1f}', '\u{85}',
        '\u{a0}', '\u{1680}', '\u{2000}', '\u{200a}', '\u{2028}', '\u{2029}', '\u{202f}', '\u{205f}',
        '\u{3000}',
    ];
    const NEARLY_SPACES: &[char] = &[
        '\0', '\u{8}', '\u{e}', '\u{1b}', '\u{7f}', '\u{84}', '\u{86}', '\u{180e}', '\u{200b}', '\u{200c}',
        '\u{2060}', '\u{feff}',
    ];
    const CASED: &[char] = &[
        'Σ', 'Σ', 'σ', 'ς', 'İ', 'I', 'ı', 'ß', 'ẞ', 'ǅ', 'Ǆ', 'K', 'Å', 'Ω', 'Ⱥ', 'Ⱦ', 'Ა', 'Ꭰ', 'ꭰ', '𐐀',
        'Ａ', 'ﬁ', 'Ⅷ', 'Ⓐ', 'ͅ', '\u{301}', '\u{307}', '\'', '·', '.', ':', '\u{ad}', '’', 'É', 'Я', 'Ё',
        'Ђ', 'Ա',
    ];
    const ASCII: &[u8] = b"abcdefgABCXYZ0129@[`{_-,";
    let mut random = Random(0x5eed_0f7e_c7ed_5eed);
    let texts: Vec<String> = (0..20_000)
        .map(|number| {
            // Mixtures from nearly all ASCII to all of Unicode.
            let (ascii, cased) = [(90, 5), (60, 25), (20, 60), (10, 10)][number % 4];
            let char_count = random.below(120);
            let mut text = String::new();
            for _ in 0..char_count {
                let kind = random.below(100);
                text.push(match kind {
                    _ if random.below(6) == 0 => random.pick(SPACES),
                    _ if random.below(40) == 0 => random.pick(NEARLY_SPACES),
                    _ if kind < ascii => char::from(random.pick(ASCII)),
                    _ if kind < ascii + cased => random.pick(CASED),
                    _ => random.pick(&python.known_chars),
                });
            }
            text
        })
        .collect();
    python.compare(&texts);
}
