"""A TCP relay between two processes of a test, that can be cut, black-holed and delayed."""

import asyncio
import contextlib
import socket
import struct
import threading

from harness import free_port

REQUESTS = "requests"  # From who connects to the target.
ANSWERS = "answers"    # From the target.
BOTH = (REQUESTS, ANSWERS)


class Relay:
    """Listens on a port of its own and passes bytes to and from the target's address.

    Faults may be set from any thread, at any time, until heal() takes all of them away:
    - cut(): every connection is reset, new ones are refused.
    - reset(): every connection is reset once; new ones are taken.
    - hold(*directions): a black hole. Connections stay and new ones are accepted, but nothing comes
      through. heal() lets what was held go on, as TCP would repeat it; after cut() or reset() it
      is lost for the one side, while the other may have had it: hold(ANSWERS), then cut().
    - delay(seconds): every byte comes that much later, in each direction.
    """

    def __init__(self, target):
        self.target = target
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._held = frozenset()
        self._delay = 0.0
        self._server = None
        self._writers = set()
        self._loop = asyncio.new_event_loop()
        self._passing = {direction: asyncio.Event() for direction in BOTH}
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.heal()

    def cut(self):
        self._run(self._cut())

    def reset(self):
        self._run(self._reset())

    def hold(self, *directions):
        self._run(self._set_passing(directions or BOTH))

    def delay(self, seconds):
        self._delay = seconds

    def heal(self):
        self._delay = 0.0
        self._run(self._set_passing(()))
        self._run(self._listen())

    def close(self):
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def connections(self):
        return len(self._writers) // 2

    def _run(self, coroutine):
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self):
        if self._server is None:
            self._server = await asyncio.start_server(
                self._on_connection, "127.0.0.1", self.port, reuse_address=True)

    async def _cut(self):
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._reset()

    async def _reset(self):
        for writer in list(self._writers):
            abort(writer)

    async def _set_passing(self, held):
        for direction, event in self._passing.items():
            if direction in held:
                event.clear()
            else:
                event.set()

    async def _end(self):
        await self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _on_connection(self, reader, writer):
        self._writers.add(writer)
        other = None
        passing = []
        try:
            host, port = self.target.rsplit(":", 1)
            there, other = await asyncio.open_connection(host, int(port))
            self._writers.add(other)
            ways = ((REQUESTS, reader, other), (ANSWERS, there, writer))
            passing = [asyncio.ensure_future(self._pass_on(*way)) for way in ways]
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass
        finally:
            for task in passing:
                task.cancel()
            for end in filter(None, (writer, other)):
                self._writers.discard(end)
                abort(end)
            await asyncio.gather(*passing, return_exceptions=True)

    async def _pass_on(self, direction, reader, writer):
        """Until either side is gone."""
        queue = asyncio.Queue()

        async def take():
            data = True
            while data:
                try:
                    data = await reader.read(1 << 18)
                except OSError:
                    data = b""
                queue.put_nowait((self._loop.time() + self._delay, data))

        taking = asyncio.ensure_future(take())
        try:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(due - self._loop.time())
                await self._passing[direction].wait()
                if not data:
                    return
                writer.write(data)
                await writer.drain()
        finally:
            taking.cancel()


def abort(writer):
    """Resets the connection, so that neither side waits for the other."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
