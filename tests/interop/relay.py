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
    - strand(): the same in both directions, for the connections that there are; new ones work. What
      they carried arrives late, even if who sent it is gone by then.
    - delay(seconds): every byte comes that much later, in each direction.
    """

    def __init__(self, target):
        self.target = target
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.lag = 0.0
        self._held = frozenset()  # Of new connections.
        self._server = None
        self._connections = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.heal()

    def cut(self):
        self._run(self._cut())

    def reset(self):
        self._run(self._reset())

    def hold(self, *directions):
        self._run(self._hold(frozenset(directions or BOTH), frozenset(directions or BOTH)))

    def strand(self):
        self._run(self._hold(frozenset(BOTH), self._held))

    def delay(self, seconds):
        self.lag = seconds

    def heal(self):
        self.lag = 0.0
        self._run(self._hold(frozenset(), frozenset()))
        self._run(self._listen())

    def close(self):
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def connections(self):
        return len(self._connections)

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
        for connection in list(self._connections):
            connection.abort()

    async def _hold(self, now, later):
        self._held = later
        for connection in self._connections:
            connection.hold(now)

    async def _end(self):
        await self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _on_connection(self, reader, writer):
        try:
            host, port = self.target.rsplit(":", 1)
            there, other = await asyncio.open_connection(host, int(port))
        except OSError:
            return abort(writer)
        connection = Connection(self, reader, writer, there, other)
        connection.hold(self._held)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


class Connection:
    """One of a Relay's, with its other half to the target."""

    def __init__(self, relay, reader, writer, there, other):
        self.relay = relay
        self.writers = (writer, other)
        self.ways = ((REQUESTS, reader, other), (ANSWERS, there, writer))
        self.passing = {direction: asyncio.Event() for direction in BOTH}

    def hold(self, directions):
        for direction, event in self.passing.items():
            if direction in directions:
                event.clear()
            else:
                event.set()

    def abort(self):
        for writer in self.writers:
            abort(writer)
        self.hold(())  # What was held is lost.

    async def run(self):
        """Until either side is gone, and what it had sent has been passed on."""
        passing = [asyncio.ensure_future(self.pass_on(*way)) for way in self.ways]
        try:
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in passing:
                task.cancel()
            for writer in self.writers:
                writer.close()
            await asyncio.gather(*passing, return_exceptions=True)

    async def pass_on(self, direction, reader, writer):
        loop = asyncio.get_running_loop()
        queue = asyncio.Queue()

        async def take():
            data = True
            while data:
                try:
                    data = await reader.read(1 << 18)
                except OSError:
                    data = b""
                queue.put_nowait((loop.time() + self.relay.lag, data))

        taking = asyncio.ensure_future(take())
        try:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(due - loop.time())
                await self.passing[direction].wait()
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
