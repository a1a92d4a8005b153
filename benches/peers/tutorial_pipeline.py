"""The tutorial's pipeline: 20 threads download with requests, then a process pool computes three counts of every page's text.

It is written as it is taught: everything is downloaded before the first text is counted, every page has a connection of its own,
and every text goes to a process of its own accord. Only the decoding is not `response.text`, which takes a page without a charset in
its header for Latin-1: the declared charset is used here, UTF-8 without one. Prints `{url: [word_count, unique_words, avg_word_len]}`.
"""

import json
import re
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import requests

DECLARED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?([A-Za-z0-9_-]+)""")


def download(url):
    response = requests.get(url, timeout=30)
    response.raise_for_status()
    return decode(response.content)


def decode(body):
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        declared = DECLARED.search(body[:2048])
        name = declared[1].decode().lower() if declared else "windows-1252"
        # The web takes the one for the other.
        name = {"iso-8859-1": "windows-1252", "us-ascii": "windows-1252"}.get(name, name)
        return body.decode(name, errors="replace")


def count(text):
    words = text.lower().split()
    return len(words), len(set(words)), sum(map(len, words)) / len(words) if words else 0.0


def main():
    with open(sys.argv[1], encoding="utf-8") as lines:
        urls = lines.read().split()
    with ThreadPoolExecutor(max_workers=20) as pool:
        texts = list(pool.map(download, urls))
    with ProcessPoolExecutor() as pool:
        counts = list(pool.map(count, texts))
    json.dump(dict(zip(urls, counts)), sys.stdout)


if __name__ == "__main__":
    main()
