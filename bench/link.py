"""Two places with a link of a known rate between them: `FAR` for a broker, and `NEAR` for an agent
and its client, as a sidecar has it. Each is a network namespace; what goes from FAR to NEAR is held
to the rate (`tc`, a token bucket). Needs root.
"""

import contextlib
import subprocess

DEVICE = "veth-bench"  # In both.


class Place:
    """`prefix` runs a command there; `host` is where its processes listen."""

    def __init__(self, namespace, address, host):
        self.namespace = namespace
        self.address = address
        self.host = host
        self.prefix = ("ip", "netns", "exec", namespace)


class Here:
    """This host, without a link."""

    namespace = None
    prefix = ()
    host = "127.0.0.1"


FAR = Place("holdfast-bench-far", "10.99.0.2", "10.99.0.2")
NEAR = Place("holdfast-bench-near", "10.99.0.1", "127.0.0.1")


def run(*command):
    subprocess.run(command, check=True)


@contextlib.contextmanager
def places(rates):
    """Where a broker is to run, and where agent and client; both are this host without `rates`."""
    if not rates:
        yield Here, Here
        return
    made = []
    try:
        for place in FAR, NEAR:
            run("ip", "netns", "add", place.namespace)
            made.append(place)
        run("ip", "link", "add", DEVICE, "netns", FAR.namespace, "type", "veth", "peer", "name",
            DEVICE, "netns", NEAR.namespace)
        for place in made:
            run("ip", "-n", place.namespace, "addr", "add", f"{place.address}/24", "dev", DEVICE)
            for device in "lo", DEVICE:
                run("ip", "-n", place.namespace, "link", "set", device, "up")
        yield FAR, NEAR
    finally:
        for place in made:
            run("ip", "netns", "del", place.namespace)


def at_each(rates):
    """Words for each of the rates, at which the link then is; once without."""
    for rate in rates:
        set_rate(rate)
        yield f"across a link of {rate}, "
    if not rates:
        yield ""


def set_rate(rate):
    run(*FAR.prefix, "tc", "qdisc", "replace", "dev", DEVICE, "root", "tbf", "rate", rate, "burst",
        "1mb", "latency", "50ms")
