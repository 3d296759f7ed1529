#!/bin/sh
# deploy-target: /etc/doit-pki/compose/reload.sh
# deploy-hosts: recipe:compose
# deploy-mode: 0755
# Restarts the container that has the name of the service, with Docker or Podman. Before it exists, there is nothing to do.
for engine in docker podman; do
    if "$engine" container inspect {{ recipes.compose.services[0] }} >/dev/null 2>&1; then
        exec "$engine" restart {{ recipes.compose.services[0] }}
    fi
done
