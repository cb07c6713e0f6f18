"""Ansible lookup: the values of secrets, by 'keys open' on the controller."""

import os
import subprocess

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = """
name: keys
author: the keys project
short_description: values of secrets of a keys fleet
description:
  - Opens each secret with C(keys open), where Ansible runs and with the keys of who runs it.
  - A value that cannot be opened fails the task. The message has the exit code alone, which C(keys explain) explains.
  - Values are text. Set C(no_log) on every task that uses one, since Ansible prints what a module is given.
options:
  _terms:
    description: addresses, OWNER/NAME
    required: true
  fleet:
    description: the fleet's directory; what KEYS_FLEET says, if it is not given
    vars: [{name: keys_fleet}]
  home:
    description: the directory with the private halves; what KEYS_HOME says, if it is not given
    vars: [{name: keys_home}]
  program:
    description: the program
    default: keys
    vars: [{name: keys_program}]
"""

EXAMPLES = """
- ansible.builtin.copy:
    content: "{{ lookup('keys', 'nginx@fra1/api-token') }}"
    dest: /etc/nginx/api-token
    mode: "0400"
  no_log: true
"""

RETURN = """
_raw:
  description: the values, as they are
  type: list
  elements: str
"""


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        environment = dict(os.environ)
        for option, name in (("fleet", "KEYS_FLEET"), ("home", "KEYS_HOME")):
            if self.get_option(option):
                environment[name] = self.get_option(option)
        return [self.open(str(address), environment) for address in terms]

    def open(self, address, environment):
        words = [self.get_option("program"), "--quiet", "open", "--", address]
        # What it says on stderr may quote what others wrote: it is not shown. None of this is kept as a cause, either.
        try:
            ran = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        except OSError as error:
            raise AnsibleLookupError("keys open did not start: errno %s" % error.errno) from None
        if ran.returncode != 0:
            raise AnsibleLookupError("keys open ended with exit code %d ('keys explain')" % ran.returncode)
        try:
            return ran.stdout.decode("utf-8")
        except UnicodeDecodeError:
            raise AnsibleLookupError("a value is no text, and Ansible takes no other") from None
