"""An IPv4 network between network namespaces, with a one-way delay and nodes that can be cut off.

    network.py NAMESPACE...

The n-th namespace gets the device eth0 with 198.51.100.n. Says "ready", then takes lines on stdin: "delay SECONDS",
"cut N", "join N". Ends with its stdin.
"""

import collections
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def device(namespace, number):
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    name = f"{namespace}t"
    fcntl.ioctl(handle, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    for words in (
        ["link", "set", name, "netns", namespace, "name", "eth0"],
        ["-n", namespace, "addr", "add", f"198.51.100.{number}/24", "dev", "eth0"],
        ["-n", namespace, "link", "set", "eth0", "mtu", "1500", "txqueuelen", "5000", "up"],
        ["-n", namespace, "link", "set", "lo", "up"],
    ):
        subprocess.run(["ip", *words], check=True)
    return handle


def main():
    handles = {n: device(namespace, n) for n, namespace in enumerate(sys.argv[1:], 1)}
    numbers = {handle: n for n, handle in handles.items()}
    delay, cut, waiting = 0.0, set(), collections.deque()
    watch = select.poll()
    for handle in (*numbers, 0):
        watch.register(handle, select.POLLIN)
    print("ready", flush=True)
    while True:
        # The delay changes only while nothing is under way that would be overtaken: packets keep their order.
        pause = max(0.0, waiting[0][0] - time.monotonic()) * 1000 if waiting else None
        for handle, _ in watch.poll(pause):
            if handle == 0:
                line = sys.stdin.readline().split()
                match line:
                    case []:
                        return
                    case ["delay", seconds]:
                        delay = float(seconds)
                    case ["cut", n]:
                        cut.add(int(n))
                    case ["join", n]:
                        cut.discard(int(n))
                print("done", flush=True)
                continue
            source, due = numbers[handle], time.monotonic() + delay
            for _ in range(64):
                try:
                    packet = os.read(handle, 2048)
                except BlockingIOError:
                    break
                to = packet[19] if len(packet) >= 20 and packet[0] >> 4 == 4 else 0
                if to in handles and source not in cut and to not in cut:
                    waiting.append((due, to, packet))
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, to, packet = waiting.popleft()
            try:
                os.write(handles[to], packet)
            except OSError:
                pass


main()
