"""Makes a container in Azurite, by the account that everybody knows: arguments are its port and the container's name.

The signature is that of "Authorize with Shared Key" in Azure's REST documentation.
"""

import base64
import email.utils
import hashlib
import hmac
import sys
import urllib.request

port, name, account, key = sys.argv[1:]
date = email.utils.formatdate(usegmt=True)
version = "2021-08-06"
to_sign = f"PUT\n{chr(10) * 11}x-ms-date:{date}\nx-ms-version:{version}\n/{account}/{account}/{name}\nrestype:container"
signature = base64.b64encode(hmac.new(base64.b64decode(key), to_sign.encode(), hashlib.sha256).digest()).decode()
url = f"http://127.0.0.1:{port}/{account}/{name}?restype=container"
headers = {"x-ms-date": date, "x-ms-version": version, "Authorization": f"SharedKey {account}:{signature}"}
with urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers)) as answer:
    assert answer.status == 201, answer.status
