"""Downloads every URL of a list with requests.get in 20 threads; prints how many pages and bytes came."""

import sys
from concurrent.futures import ThreadPoolExecutor

import requests


def fetch(url):
    response = requests.get(url, timeout=30)
    response.raise_for_status()
    return len(response.content)


with open(sys.argv[1], encoding="utf-8") as lines:
    urls = lines.read().split()
with ThreadPoolExecutor(max_workers=20) as pool:
    sizes = list(pool.map(fetch, urls))
print(len(sizes), sum(sizes))
