"""A small replica: `python upstream.py NAME FD` answers HTTP on the listening socket FD with what it was asked.

The header `x-sleep` makes it take so many seconds, `x-status` answer so. GET /count says how many requests with a body
it has had, and how many of those were marked as shadow.
"""

import asyncio
import json
import socket
import sys


class Replica:
    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.shadows = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = lines[0].split(" ")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if path == "/count":
                    answer = {"count": self.count, "shadows": self.shadows}
                else:
                    answer = {"replica": self.name, "method": method, "path": path, "headers": headers}
                    answer["bytes"] = len(body)
                if body:
                    self.count += 1
                    self.shadows += "x-windlass-shadow" in headers
                await asyncio.sleep(float(headers.get("x-sleep", 0)))
                content = json.dumps(answer).encode()
                status = headers.get("x-status", "200")
                head = [f"HTTP/1.1 {status} X", "server: replica", f"content-length: {len(content)}", "", ""]
                writer.write("\r\n".join(head).encode() + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def main() -> None:
    listener = socket.socket(fileno=int(sys.argv[2]))
    server = await asyncio.start_server(Replica(sys.argv[1]).serve, sock=listener, backlog=1024)
    await server.serve_forever()


asyncio.run(main())
