"""A witness, written from C2SP tlog-witness, tlog-cosignature and signed-note alone. Signatures are openssl's.

usage: foreign.py DIRECTORY LOG-VKEY      prints its vkey and its address, then answers until it is ended
"""
import base64
import hashlib
import http.server
import pathlib
import struct
import subprocess
import sys
import time

place = pathlib.Path(sys.argv[1])
log_name, _, log_key = sys.argv[2].split("+", 2)
log_raw = base64.b64decode(log_key)[1:]
name = "foreign.example/w"
key = place / "foreign.pem"
PREFIX = bytes.fromhex("302a300506032b6570032100")


def openssl(*args, data=None):
    return subprocess.run(["/usr/bin/openssl", *args], input=data, capture_output=True, check=True).stdout


openssl("genpkey", "-algorithm", "ed25519", "-out", str(key))
own_raw = openssl("pkey", "-in", str(key), "-pubout", "-outform", "DER")[-32:]
own_id = hashlib.sha256(name.encode() + b"\n\x04" + own_raw).digest()[:4]
log_id = hashlib.sha256(log_name.encode() + b"\n\x01" + log_raw).digest()[:4]
last = {"size": 0, "root": None}


def sign(message):
    (place / "message").write_bytes(message)
    return openssl("pkeyutl", "-sign", "-rawin", "-inkey", str(key), "-in", str(place / "message"))


def log_signed(text, lines):
    for line in lines:
        dash, signer, payload = line.split(" ")
        raw = base64.b64decode(payload)
        if signer == log_name and raw[:4] == log_id:
            (place / "log.der").write_bytes(PREFIX + log_raw)
            (place / "text").write_bytes(text)
            (place / "signature").write_bytes(raw[4:])
            done = subprocess.run(
                ["/usr/bin/openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER",
                 "-inkey", str(place / "log.der"), "-in", str(place / "text"), "-sigfile", str(place / "signature")],
                capture_output=True)
            return done.returncode == 0
    return False


def node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def consistent(m, n, old, new, proof):
    """RFC 6962, section 2.1.2, by its recursive definition: both roots from one walk over the proof."""
    proof = list(proof)

    def walk(m, n, whole):
        if m == n:
            if whole:
                return old, old
            hash = proof.pop(0)
            return hash, hash
        k = 1
        while k * 2 < n:
            k *= 2
        if m <= k:
            a, b = walk(m, k, whole)
            right = proof.pop(0)
            return a, node(b, right)
        a, b = walk(m - k, n - k, False)
        left = proof.pop(0)
        return node(left, a), node(left, b)

    try:
        a, b = walk(m, n, True)
    except IndexError:
        return False
    return a == old and b == new and not proof


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, body=b"", kind="text/plain"):
        with open(place / "asked", "a") as asked:
            asked.write(f"{status}\n")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head, _, note = body.partition(b"\n\n")
        text, _, signatures = note.partition(b"\n\n")
        text += b"\n"
        lines = head.decode().split("\n")
        old = int(lines[0].removeprefix("old "))
        proof = [base64.b64decode(line) for line in lines[1:]]
        origin, size, root = text.decode().split("\n")[:3]
        size, root = int(size), base64.b64decode(root)
        if self.path != "/add-checkpoint" or origin != log_name:
            return self.reply(404)
        if not log_signed(text, signatures.decode().strip().split("\n")):
            return self.reply(403)
        if old > size:
            return self.reply(400)
        if old != last["size"]:
            return self.reply(409, f"{last['size']}\n".encode(), "text/x.tlog.size")
        if old == 0:
            good = not proof
        elif old == size:
            good = not proof and root == last["root"]
        else:
            good = consistent(old, size, last["root"], root, proof)
        if not good:
            return self.reply(422)
        last.update(size=size, root=root)
        now = int(time.time())
        signature = sign(f"cosignature/v1\ntime {now}\n".encode() + text)
        payload = base64.b64encode(own_id + struct.pack(">Q", now) + signature).decode()
        self.reply(200, f"\u2014 {name} {payload}\n".encode())


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
vkey = base64.b64encode(b"\x04" + own_raw).decode()
print(f"{name}+{own_id.hex()}+{vkey}")
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
