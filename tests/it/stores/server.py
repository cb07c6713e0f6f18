"""S3 on loopback, by moto, for the tests: honest, or with a flaw. Prints its port.

honest    writes are carried out one after the other
ignores   If-None-Match is not looked at
races     If-None-Match is looked at some time before the write
"""

import sys
import threading
import time

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

flaw = sys.argv[1]
moto = DomainDispatcherApplication(create_backend_app)
one = threading.Lock()
WSGIRequestHandler.protocol_version = "HTTP/1.1"


def exists(environ):
    said = []
    asked = {k: v for k, v in environ.items() if k != "HTTP_IF_NONE_MATCH"}
    asked |= {"REQUEST_METHOD": "HEAD", "CONTENT_LENGTH": "0"}
    list(moto(asked, lambda status, headers, *rest: said.append(status)))
    return said[0].startswith("200")


def application(environ, start_response):
    if environ["REQUEST_METHOD"] == "GET":
        return moto(environ, start_response)
    if "HTTP_IF_NONE_MATCH" in environ and flaw != "honest":
        del environ["HTTP_IF_NONE_MATCH"]
        if flaw == "races":
            with one:
                there = exists(environ)
            if there:
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start_response("412 Precondition Failed", [("Content-Length", "0")])
                return []
            time.sleep(0.02)
    with one:
        return list(moto(environ, start_response))


s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket("fleets", "us-east-1")
server = make_server("127.0.0.1", 0, application, threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
