"""Google's XML API before fake-gcs-server, which has the JSON API and parts of the other: arguments are that
server's port, and "honest" or a flaw. Prints its own port.

Writes and deletions become requests of the JSON API, `x-goog-if-generation-match` becomes `ifGenerationMatch`. What holds of
the generations, and whether a condition is met, says fake-gcs-server. With the flaw "ignores" it is asked in its other way of uploading, in which it does not look at conditions.
"""

import http.client
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlencode

behind, flaw = int(sys.argv[1]), sys.argv[2]
kept = threading.local()
# Between the parts of an upload; nothing that is stored has it.
EDGE = b"a-line-between-the-parts-of-an-upload"


def ask(method, path, body=None, headers={}):
    if not hasattr(kept, "connection"):
        kept.connection = http.client.HTTPConnection("127.0.0.1", behind)
    kept.connection.request(method, path, body, headers)
    answer = kept.connection.getresponse()
    return answer, answer.read()


def in_parts(name, content):
    kind = b"Content-Type: application/"
    parts = [kind + b"json\r\n\r\n" + json.dumps({"name": name}).encode(), kind + b"octet-stream\r\n\r\n" + content]
    body = b"".join(b"--" + EDGE + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + EDGE + b"--"
    return body, f"multipart/related; boundary={EDGE.decode()}"


class Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def give(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204 and not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        answer, body = ask(self.command, self.path, headers={k: v for k, v in self.headers.items() if k == "range"})
        left = ("transfer-encoding", "connection", "date", "server")
        self.give(answer.status, [(k, v) for k, v in answer.getheaders() if k.lower() not in left], body)

    do_HEAD = do_GET

    def do_PUT(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        bucket, name = self.path.lstrip("/").split("/", 1)
        query = {"uploadType": "media", "name": unquote(name)} if flaw == "ignores" else {"uploadType": "multipart"}
        match = self.headers.get("x-goog-if-generation-match")
        if match is not None:
            query["ifGenerationMatch"] = match
        path = f"/upload/storage/v1/b/{bucket}/o?{urlencode(query, quote_via=quote)}"
        kind = "application/octet-stream"
        if flaw != "ignores":
            body, kind = in_parts(unquote(name), body)
        answer, said = ask("POST", path, body, {"Content-Type": kind})
        if answer.status != 200:
            return self.give(answer.status, [], said)
        made = json.loads(said)
        self.give(200, [("ETag", made["etag"]), ("x-goog-generation", made["generation"])])

    def do_DELETE(self):
        bucket, name = self.path.lstrip("/").split("/", 1)
        answer, said = ask("DELETE", f"/storage/v1/b/{bucket}/o/{name}")
        self.give(204 if answer.status == 200 else answer.status, [], b"" if answer.status == 200 else said)


answer, said = ask("POST", "/storage/v1/b?project=tests", json.dumps({"name": "fleets"}), {"Content-Type": "application/json"})
assert answer.status == 200, said
# As many at once as the probe has writers, and more.
ThreadingHTTPServer.request_queue_size = 128
server = ThreadingHTTPServer(("127.0.0.1", 0), Front)
server.daemon_threads = True
print(server.server_port, flush=True)
server.serve_forever()
