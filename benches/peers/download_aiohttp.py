"""Downloads every URL of a list with aiohttp, 100 at a time; prints how many pages and bytes came."""

import asyncio
import sys

import aiohttp


async def main(urls):
    limit = asyncio.Semaphore(100)
    pages = size = 0

    async def fetch(session, url):
        nonlocal pages, size
        async with limit, session.get(url) as response:
            response.raise_for_status()
            body = await response.read()
            pages += 1
            size += len(body)

    connector = aiohttp.TCPConnector(limit=100)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(fetch(session, url) for url in urls))
    print(pages, size)


with open(sys.argv[1], encoding="utf-8") as lines:
    asyncio.run(main(lines.read().split()))
