//! Content decoding: gzip, deflate (zlib or raw), br, zstd, and stacks of them, with a bound on what comes out.
//!
//! A decoder is pulled, not pushed: each step asks for at most [`STEP_BYTES`] of output, so that a small body that
//! unfolds to gigabytes is stopped at the limit after the memory of the limit, and a large one lets other tasks of
//! the event loop run between steps.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};

use crate::error::{AttemptError, FailureKind};

/// What is asked for by `Accept-Encoding`.
pub(crate) const ACCEPTED: &str = "gzip, deflate, br, zstd";

/// Output of one uninterrupted step: about a millisecond of work.
const STEP_BYTES: usize = 256 << 10;

/// Encodings on top of each other, of which servers by mistake send two; more are an attack.
const MAX_STACKED: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// The encodings of a body, in the order in which they were applied.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Encodings(Vec<Encoding>);

impl Encodings {
    /// Reads the values of all `Content-Encoding` headers.
    pub(crate) fn parse<'a>(values: impl Iterator<Item = &'a str>) -> Result<Self, AttemptError> {
        let mut stack = Vec::new();
        for token in values.flat_map(|value| value.split(',')) {
            let token = token.trim();
            let encoding = match token.to_ascii_lowercase().as_str() {
                "" | "identity" | "none" => continue,
                "gzip" | "x-gzip" => Encoding::Gzip,
                "deflate" => Encoding::Deflate,
                "br" => Encoding::Brotli,
                "zstd" => Encoding::Zstd,
                _ => return Err(bad(format!("content encoding `{token}` is unknown"))),
            };
            stack.push(encoding);
        }
        if stack.len() > MAX_STACKED {
            return Err(bad(format!("{} content encodings on top of each other", stack.len())));
        }
        Ok(Encodings(stack))
    }

    pub(crate) fn is_identity(&self) -> bool {
        self.0.is_empty()
    }

    /// Undoes the encodings. An empty body is empty in any encoding, as servers send it.
    pub(crate) async fn decode(&self, body: &[u8], max_bytes: u64) -> Result<Vec<u8>, AttemptError> {
        if body.is_empty() {
            return Ok(Vec::new());
        }
        let broken = |error: &io::Error| bad(format!("the {} body cannot be decoded: {error}", self.names()));
        let mut reader: Box<dyn BufRead + Send + '_> = Box::new(body);
        for &encoding in self.0.iter().rev() {
            reader = layer(encoding, reader, max_bytes).map_err(|error| broken(&error))?;
        }
        // Text shrinks to a quarter or so; the vector grows if that is wrong.
        let guess = body.len().saturating_mul(4).min(usize::try_from(max_bytes).unwrap_or(usize::MAX));
        let mut out = Vec::with_capacity(guess.min(4 << 20));
        loop {
            // One byte more than allowed tells a body at the limit from one beyond it.
            let left = max_bytes.saturating_add(1) - out.len() as u64;
            let step = left.min(STEP_BYTES as u64);
            let read = reader.by_ref().take(step).read_to_end(&mut out).map_err(|error| broken(&error))?;
            if out.len() as u64 > max_bytes {
                let message = format!("more than `{max_bytes}` bytes come out of a body of {}", body.len());
                return Err(AttemptError::new(FailureKind::DecodedTooLarge, message));
            }
            if (read as u64) < step {
                if out.capacity() / 2 > out.len() {
                    out.shrink_to_fit();
                }
                return Ok(out);
            }
            tokio::task::yield_now().await;
        }
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.0.iter().map(|encoding| format!("{encoding:?}").to_lowercase()).collect();
        names.join(", ")
    }
}

fn bad(message: String) -> AttemptError {
    AttemptError::new(FailureKind::BadEncoding, message)
}

fn layer<'a>(
    encoding: Encoding,
    mut input: Box<dyn BufRead + Send + 'a>,
    max_bytes: u64,
) -> io::Result<Box<dyn BufRead + Send + 'a>> {
    Ok(match encoding {
        Encoding::Gzip => Box::new(BufReader::new(GzipMembers { member: Some(GzDecoder::new(input)) })),
        Encoding::Deflate => {
            let mut start = Vec::with_capacity(2);
            input.by_ref().take(2).read_to_end(&mut start)?;
            let zlib = is_zlib(&start);
            let whole = io::Cursor::new(start).chain(input);
            if zlib {
                Box::new(BufReader::new(ZlibDecoder::new(whole)))
            } else {
                Box::new(BufReader::new(DeflateDecoder::new(whole)))
            }
        }
        Encoding::Brotli => Box::new(BufReader::new(brotli::Decompressor::new(input, 4 << 10))),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            // Every decoder must take 8 MiB (RFC 9659); a window larger than what may come out has no use.
            decoder.window_log_max(max_bytes.clamp(1 << 23, 1 << 27).next_power_of_two().ilog2())?;
            Box::new(BufReader::new(decoder))
        }
    })
}

/// Whether these bytes are a zlib header: `deflate` means zlib, but some servers send the bare stream.
fn is_zlib(start: &[u8]) -> bool {
    matches!(*start, [method, flags] if method & 0x0f == 8 && (u16::from(method) << 8 | u16::from(flags)) % 31 == 0)
}

/// All members of a gzip stream. Bytes after the last one that start no new member are padding and ignored.
struct GzipMembers<R> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = &mut self.member else { return Ok(0) };
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            if let Some(mut rest) = self.member.take().map(GzDecoder::into_inner)
                && rest.fill_buf()?.first() == Some(&0x1f)
            {
                self.member = Some(GzDecoder::new(rest));
            }
        }
    }
}
