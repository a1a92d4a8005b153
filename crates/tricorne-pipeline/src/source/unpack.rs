//! Content that may be compressed, read as what is in it.

use std::io::{self, BufRead, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

/// A gzip member or zstd frame starts with these bytes.
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

/// Unpacks gzip (of any number of members) and zstd (of any number of frames), told by how the content
/// starts, not by a name. Nothing is read before the first read, which for a pipe may wait.
pub(super) enum Unpack<R: BufRead> {
    Unopened(Option<R>),
    Plain(Whole<R>),
    Gzip(io::BufReader<MultiGzDecoder<Whole<R>>>),
    Zstd(io::BufReader<zstd::Decoder<'static, Whole<R>>>),
}

impl<R: BufRead> Unpack<R> {
    pub(super) fn new(content: R) -> Self {
        Unpack::Unopened(Some(content))
    }

    fn open(&mut self) -> io::Result<&mut dyn BufRead> {
        if let Unpack::Unopened(content) = self {
            let Some(mut content) = content.take() else {
                return Err(io::Error::other("the start of the content could not be read"));
            };
            let mut start = Vec::new();
            (&mut content).take(ZSTD.len() as u64).read_to_end(&mut start)?;
            let (gzip, zstd) = (start.starts_with(GZIP), start.starts_with(ZSTD));
            let whole = Cursor::new(start).chain(content);
            *self = if gzip {
                Unpack::Gzip(io::BufReader::new(MultiGzDecoder::new(whole)))
            } else if zstd {
                Unpack::Zstd(io::BufReader::new(zstd::Decoder::with_buffer(whole)?))
            } else {
                Unpack::Plain(whole)
            };
        }
        Ok(match self {
            Unpack::Unopened(_) => unreachable!("opened above"),
            Unpack::Plain(content) => content,
            Unpack::Gzip(content) => content,
            Unpack::Zstd(content) => content,
        })
    }

    /// What was being unpacked, for messages about errors.
    fn explained(&self, error: io::Error) -> io::Error {
        let format = match self {
            Unpack::Gzip(_) => "gzip",
            Unpack::Zstd(_) => "zstd",
            _ => return error,
        };
        let what = match error.kind() {
            io::ErrorKind::Interrupted => return error,
            io::ErrorKind::UnexpectedEof => "ends too early".into(),
            _ => format!("is damaged: {error}"),
        };
        io::Error::new(error.kind(), format!("the {format} data {what}"))
    }
}

impl<R: BufRead> Read for Unpack<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.open().and_then(|content| content.read(buffer));
        read.map_err(|error| self.explained(error))
    }
}

impl<R: BufRead> BufRead for Unpack<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        // Asked twice, as the borrow of the first answer would last: the second time it is there.
        if let Err(error) = self.open().and_then(|content| content.fill_buf().map(|_| ())) {
            return Err(self.explained(error));
        }
        self.open()?.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        if let Ok(content) = self.open() {
            content.consume(amount);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write as _;

    use super::*;

    pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    pub(crate) fn zstd(content: &[u8]) -> Vec<u8> {
        zstd::encode_all(content, 1).unwrap()
    }

    /// Gives one byte at a time, as a slow pipe does.
    struct Slowly<'a>(&'a [u8]);

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let one = buffer.len().min(1);
            self.0.read(&mut buffer[..one])
        }
    }

    fn unpacked(content: &[u8]) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        Unpack::new(io::BufReader::new(Slowly(content))).read_to_end(&mut read).map(|_| read)
    }

    #[test]
    fn content_is_the_same_however_it_was_packed() {
        for content in [&b""[..], b"x", b"\x1f", b"abc", b"line\nline\n"] {
            assert_eq!(unpacked(content).unwrap(), content);
            assert_eq!(unpacked(&gzip(content)).unwrap(), content);
            assert_eq!(unpacked(&zstd(content)).unwrap(), content);
            let twice = [content, content].concat();
            assert_eq!(unpacked(&[gzip(content), gzip(content)].concat()).unwrap(), twice);
            assert_eq!(unpacked(&[zstd(content), zstd(content)].concat()).unwrap(), twice);
        }
    }

    #[test]
    fn a_cut_or_damaged_file_says_so() {
        for (format, packed) in [("gzip", gzip(&[7; 1000])), ("zstd", zstd(&[7; 1000]))] {
            let cut = unpacked(&packed[..packed.len() - 3]).unwrap_err().to_string();
            assert!(cut.contains(format) && cut.contains("too early"), "{cut}");
            let mut damaged = packed.clone();
            damaged[4..].fill(0xff);
            let damaged = unpacked(&damaged).unwrap_err().to_string();
            assert!(damaged.contains(format), "{damaged}");
        }
    }
}
