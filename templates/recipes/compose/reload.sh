#!/bin/sh
# deploy-target: /etc/doit-pki/compose/reload.sh
# deploy-hosts: recipe:compose
# deploy-mode: 0755
# Restarts the container that has the name of the service. Before it exists, there is nothing to do.
docker container inspect {{ recipes.compose.services[0] }} >/dev/null 2>&1 || exit 0
exec docker restart {{ recipes.compose.services[0] }}
