# Public data alone: whatever a data source gives lands in the state in the clear.
data "external" "keys" {
  program = ["${path.module}/keys-public"]
  query = {
    fleet  = "${path.module}/../fleet"
    pin    = var.fleet_id
    member = "*"
  }
}

variable "fleet_id" {
  type = string
}

locals {
  sshfp = jsondecode(data.external.keys.result.sshfp)
}

output "sshfp" {
  value = { for record in local.sshfp : record.data => record.name }
}
