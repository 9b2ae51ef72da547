"""One institution of a consortium: read what was agreed, check this machine, make the nodes, say where they are."""

import pulumi

from consortium.components import Institution
from consortium.image import node_image
from consortium.preflight import preflight
from consortium.stack import explained, load_stack
from consortium.upgrade.before import wanted
from consortium.upgrade.guard import guard

with explained():
    model, secrets = load_stack(pulumi.Config("consortium"))
    before = wanted(pulumi.Config("consortium"))
    image = before.image if before else node_image(model)
    preflight(model, image)
    guard(model, secrets.operator_token)

institution = Institution(model.party, model, secrets, image, before.files if before else None)

pulumi.export("gateway_endpoint", institution.gateway_endpoint)
pulumi.export("status_page", institution.status_page)
pulumi.export("coordinator_api", institution.coordinator_api)
