"""One institution of a consortium: read what was agreed, check this machine, make the nodes, say where they are."""

import pulumi

from consortium.components import Institution
from consortium.image import node_image
from consortium.preflight import preflight
from consortium.stack import explained, load_stack

with explained():
    model, secrets = load_stack(pulumi.Config("consortium"))
    image = node_image(model)
    preflight(model, image)

institution = Institution(model.party, model, secrets, image)

pulumi.export("gateway_endpoint", institution.gateway_endpoint)
pulumi.export("status_page", institution.status_page)
pulumi.export("coordinator_api", institution.coordinator_api)
