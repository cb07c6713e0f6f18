"""A numbered UDP stream from one node to each of the others, and what of theirs arrives.

    stream.py OWN_ADDRESS PACKETS_PER_SECOND PEER_ADDRESS...

Says "ready", sends from the line "go" to the line "stop", and at the end of its stdin tells, as JSON, how many packets it
sent to each peer, and of each peer's: how many came, which numbers did not (ranges, the last one open), how many came
twice, and the longest time between two, in seconds.
"""

import json
import select
import socket
import struct
import sys
import time

PORT = 4000


class Source:
    def __init__(self):
        self.next, self.count, self.twice, self.late, self.missing = 0, 0, 0, 0, []
        self.last, self.gap = None, 0.0

    def take(self, number, now):
        if self.last is not None:
            self.gap = max(self.gap, now - self.last)
        self.last = now
        if number >= self.next:
            if number > self.next:
                self.missing.append([self.next, number])
            self.next = number + 1
            self.count += 1
            return
        for span in self.missing:
            if span[0] <= number < span[1]:
                self.missing.remove(span)
                self.missing += [s for s in ([span[0], number], [number + 1, span[1]]) if s[0] < s[1]]
                self.count, self.late = self.count + 1, self.late + 1
                return
        self.twice += 1


def main():
    own, rate, peers = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    handle = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        # The one with FORCE, which root may, is one above or so; what the system allows does as well.
        handle.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
    handle.bind((own, PORT))
    handle.setblocking(False)
    sources = {peer: Source() for peer in peers}
    sent, refused, sending, begin = 0, 0, False, time.monotonic()
    filler = bytes(96)
    watch = select.poll()
    watch.register(handle, select.POLLIN)
    watch.register(0, select.POLLIN)
    print("ready", flush=True)
    while True:
        due = int((time.monotonic() - begin) * rate) if sending else sent
        while sent < due:
            packet = struct.pack("!I", sent) + filler
            for peer in peers:
                try:
                    handle.sendto(packet, (peer, PORT))
                except OSError:
                    refused += 1
            sent += 1
        pause = max(0.0, begin + (sent + 1) / rate - time.monotonic()) * 1000 if sending else 1000
        for ready, _ in watch.poll(pause):
            if ready == 0:
                line = sys.stdin.readline()
                if not line:
                    report = {
                        peer: {"arrived": s.count, "missing": s.missing + [[s.next, None]], "twice": s.twice, "gap": s.gap}
                        for peer, s in sources.items()
                    }
                    print(json.dumps({"sent": sent, "refused": refused, "from": report}), flush=True)
                    return
                sending, begin = line == "go\n", time.monotonic()
                continue
            for _ in range(256):
                try:
                    packet, (address, _) = handle.recvfrom(2048)
                except BlockingIOError:
                    break
                source = sources.get(address)
                if source and len(packet) >= 4:
                    source.take(struct.unpack_from("!I", packet)[0], time.monotonic())


main()
