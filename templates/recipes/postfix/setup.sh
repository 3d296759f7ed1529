#!/bin/sh
# deploy-target: /etc/doit-pki/postfix/setup.sh
# deploy-hosts: recipe:postfix
# deploy-mode: 0755
# Lets Postfix read the delivered files. Run it once on the host, and after each change of this file.
set -eu
postconf -e 'smtpd_tls_chain_files = /etc/doit-pki/postfix/tls.pem' 'tls_append_default_CA = no'
{% if "smtp" in recipes.postfix.ports %}
postconf -M '{{ recipes.postfix.ports.smtp }}/inet={{ recipes.postfix.ports.smtp }} inet n - y - - smtpd'
postconf -P '{{ recipes.postfix.ports.smtp }}/inet/smtpd_tls_security_level=encrypt'
{% if recipes.postfix.access == "mtls" %}
postconf -P '{{ recipes.postfix.ports.smtp }}/inet/smtpd_tls_CAfile=/etc/doit-pki/postfix/client-chain.pem'
postconf -P '{{ recipes.postfix.ports.smtp }}/inet/smtpd_tls_req_ccert=yes'
{% endif %}
{% endif %}
{% if "smtps" in recipes.postfix.ports %}
postconf -M '{{ recipes.postfix.ports.smtps }}/inet={{ recipes.postfix.ports.smtps }} inet n - y - - smtpd'
postconf -P '{{ recipes.postfix.ports.smtps }}/inet/smtpd_tls_wrappermode=yes'
{% if recipes.postfix.access == "mtls" %}
postconf -P '{{ recipes.postfix.ports.smtps }}/inet/smtpd_tls_CAfile=/etc/doit-pki/postfix/client-chain.pem'
postconf -P '{{ recipes.postfix.ports.smtps }}/inet/smtpd_tls_req_ccert=yes'
{% endif %}
{% endif %}
