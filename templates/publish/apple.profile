# deploy-target: /var/www/pki/trust/roots.mobileconfig
# deploy-hosts: {{ inventory.publish.host }}
# deploy-artifact: trust:profile
# deploy-reload: {{ host.reload if host.proxy == 'haproxy' else '' }}
