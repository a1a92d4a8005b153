//! Content encodings as servers send them, well and badly.

use std::io::Write;

use bytes::Bytes;
use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};
use tricorne_http::{ClientConfig, FailureKind};
use tricorne_loopback::{Reply, Server};

use crate::common::{client, failure, quick, run};

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("memory");
    encoder.finish().expect("memory")
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("memory");
    encoder.finish().expect("memory")
}

fn raw_deflate(plain: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("memory");
    encoder.finish().expect("memory")
}

fn br(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let params = brotli::enc::BrotliEncoderParams { quality: 3, ..Default::default() };
    brotli::BrotliCompress(&mut &plain[..], &mut out, &params).expect("memory");
    out
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(plain, 3).expect("memory")
}

/// A server that sends each of the bodies with its `Content-Encoding`, at the path of its place in the list.
fn serve(bodies: Vec<(&'static str, Vec<u8>)>) -> Server {
    let bodies: Vec<_> = bodies.into_iter().map(|(name, body)| (name, Bytes::from(body))).collect();
    Server::start(move |request| {
        let (name, body) = &bodies[request.path[1..].parse::<usize>().expect("a number")];
        Reply::html(body.clone()).header("Content-Encoding", *name)
    })
    .expect("a server")
}

/// Text that is neither tiny nor trivial: beyond one step of the decoder.
fn text() -> Vec<u8> {
    let words = (0..90_000_u32).map(|number| format!("word{} ", number.wrapping_mul(2_654_435_761) % 9973));
    words.collect::<String>().into_bytes()
}

#[test]
fn all_encodings_and_stacks_of_them() {
    let plain = text();
    let mut two_members = gzip(&plain[..1000]);
    two_members.extend(gzip(&plain[1000..]));
    let mut padded = gzip(&plain);
    padded.extend([0; 500]);
    let mut two_frames = zstd(&plain[..1000]);
    two_frames.extend(zstd(&plain[1000..]));
    let cases = vec![
        ("identity", plain.clone()),
        ("", plain.clone()),
        ("gzip", gzip(&plain)),
        ("X-GZIP", gzip(&plain)),
        ("gzip", two_members),
        ("gzip", padded),
        ("deflate", zlib(&plain)),
        ("deflate", raw_deflate(&plain)),
        ("br", br(&plain)),
        ("zstd", zstd(&plain)),
        ("zstd", two_frames),
        ("gzip, br", br(&gzip(&plain))),
        ("deflate , identity,zstd", zstd(&raw_deflate(&plain))),
        ("gzip,gzip", gzip(&gzip(&plain))),
        ("br, deflate, gzip", gzip(&zlib(&br(&plain)))),
    ];
    let count = cases.len();
    let server = serve(cases.clone());
    run(async {
        let client = client(quick());
        for (index, (name, encoded)) in cases.iter().enumerate() {
            let page = client.get(&server.url(&format!("/{index}"))).await.expect(name);
            assert!(page.body == plain, "{name}: {} bytes instead of {}", page.body.len(), plain.len());
            assert_eq!(page.wire_bytes, encoded.len() as u64);
        }
        assert_eq!(client.stats().decoded_bytes, (plain.len() * count) as u64);
    });
}

#[test]
fn an_empty_body_is_empty_in_any_encoding() {
    let names = ["gzip", "deflate", "br", "zstd"];
    let server = serve(names.map(|name| (name, Vec::new())).to_vec());
    run(async {
        let client = client(quick());
        for index in 0..names.len() {
            assert!(
                client.get(&server.url(&format!("/{index}"))).await.expect("it is there").body.is_empty()
            );
        }
    });
}

#[test]
fn encodings_that_are_unknown_broken_or_cut() {
    let plain = text();
    let cut = |encoded: Vec<u8>| encoded[..encoded.len() / 2].to_vec();
    let mut flipped = gzip(&plain);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x55;
    let cases = vec![
        ("compress", plain.clone()),
        ("gzip", plain.clone()),
        ("br", plain.clone()),
        ("zstd", plain.clone()),
        ("gzip", flipped),
        ("gzip", cut(gzip(&plain))),
        ("deflate", cut(zlib(&plain))),
        ("deflate", cut(raw_deflate(&plain))),
        ("br", cut(br(&plain))),
        ("zstd", cut(zstd(&plain))),
        ("gzip,gzip,gzip,gzip,gzip", plain.clone()),
    ];
    let server = serve(cases.clone());
    run(async {
        let client = client(quick());
        for (index, (name, _)) in cases.iter().enumerate() {
            let failed = failure(&client, &server.url(&format!("/{index}"))).await;
            assert_eq!(
                (failed.kind, failed.attempts),
                (FailureKind::BadEncoding, 1),
                "{index} {name}: {failed:?}"
            );
            assert!(
                failed.message.contains(name.split(',').next().expect("a name")) || index == cases.len() - 1
            );
        }
    });
}

#[test]
fn bombs_are_stopped_at_the_limit() {
    // 300 MB of zeros in a few hundred kilobytes, or less.
    let zeros = vec![0; 300_000_000];
    let bombs = vec![
        ("gzip", gzip(&zeros)),
        ("deflate", raw_deflate(&zeros)),
        ("br", br(&zeros)),
        ("zstd", zstd(&zeros)),
        ("gzip, gzip", gzip(&gzip(&zeros))),
        ("zstd, br", br(&zstd(&zeros))),
    ];
    drop(zeros);
    let server = serve(bombs.clone());
    run(async {
        let client = client(ClientConfig { max_decoded_bytes: 2_000_000, ..quick() });
        for (index, (name, _)) in bombs.iter().enumerate() {
            let failed = failure(&client, &server.url(&format!("/{index}"))).await;
            assert_eq!(
                (failed.kind, failed.attempts),
                (FailureKind::DecodedTooLarge, 1),
                "{name}: {failed:?}"
            );
        }
    });
}

#[test]
fn the_decoded_limit_is_exact_and_holds_for_plain_bodies() {
    let plain = vec![b'x'; 400_000];
    let server = serve(vec![("gzip", gzip(&plain)), ("zstd", zstd(&plain)), ("", plain)]);
    run(async {
        for (limit, fits) in [(400_000, true), (399_999, false)] {
            let client = client(ClientConfig { max_decoded_bytes: limit, ..quick() });
            for index in 0..3 {
                match client.get(&server.url(&format!("/{index}"))).await {
                    Ok(page) => assert!(fits && page.body.len() == 400_000),
                    Err(failed) => {
                        assert!(!fits && failed.kind == FailureKind::DecodedTooLarge, "{failed:?}");
                    }
                }
            }
        }
    });
}
