#!/bin/sh
# Prepares this host for doit-pki: installs pki-apply, pki-trust and pki-apply.conf, and a key that may start only pki-apply.
set -eu
umask 022
fail() { printf 'bootstrap: %s\n' "$1" >&2; exit 1; }

[ "$(id -u)" -eq 0 ] || fail 'run this script as root'
# shellcheck disable=SC2043 # a list, after the placeholders between @ are replaced
for program in @NEEDED@; do
    command -v "$program" >/dev/null || fail "$program is not installed: install coreutils, tar, gawk and util-linux, or busybox"
done

put() { # FILE MODE: writes standard input to a file, with one rename
    mkdir -p "${1%/*}"
    cat >"$1.new"
    chmod "$2" "$1.new"
    mv -f "$1.new" "$1"
}

put @PROGRAM@ 0755 <<'END-OF-PKI-APPLY'
@PKI_APPLY@
END-OF-PKI-APPLY

put @TRUST@ 0755 <<'END-OF-PKI-TRUST'
@PKI_TRUST@
END-OF-PKI-TRUST

put /etc/pki-apply.conf 0644 <<'END-OF-PERMISSIONS'
@PERMISSIONS@
END-OF-PERMISSIONS

account='@ACCOUNT@'
if [ -n "$account" ]; then
    if ! id -u "$account" >/dev/null 2>&1; then
        useradd --system --create-home --shell /bin/sh "$account" 2>/dev/null || adduser -S -D -s /bin/sh "$account" \
            || fail "the account $account could not be created"
    fi
    home=$(awk -F: -v a="$account" '$1 == a { print $6 }' /etc/passwd)
    [ -n "$home" ] || fail "the account $account has no home folder"
    # runs as the account, because .ssh or authorized_keys may be links of its own
    # shellcheck disable=SC2016 # expanded by the account's shell
    su -s /bin/sh "$account" -c 'umask 077 && cd "$0" && mkdir -p .ssh && cd .ssh && touch authorized_keys &&
        { grep -v "pki-apply\" " authorized_keys; cat; } >authorized_keys.new && mv -f authorized_keys.new authorized_keys' \
        "$home" <<'END-OF-KEY' || fail "the key could not be added to $home/.ssh/authorized_keys"
@AUTHORIZED@
END-OF-KEY
    if [ "$account" != root ]; then
        command -v sudo >/dev/null || fail 'sudo is not installed: install it, or deliver as root (ssh: {user: root})'
        no_terminal='' # deliveries have no terminal; other implementations of sudo do not know requiretty
        ! grep -Eqs '^[^#]*requiretty' /etc/sudoers /etc/sudoers.d/* || no_terminal='Defaults!@PROGRAM@ !requiretty'
        printf '%s\n%s ALL=(root) NOPASSWD: %s ""\n' "$no_terminal" "$account" '@PROGRAM@' | put /etc/sudoers.d/pki-apply 0440
        if command -v visudo >/dev/null; then visudo -cqf /etc/sudoers.d/pki-apply || fail 'the sudo rule is not valid'; fi
    fi
fi

if [ -d /run/systemd/system ]; then
    put /etc/systemd/system/pki-apply-recover.service 0644 <<'END-OF-UNIT'
[Unit]
Description=Finish or undo an interrupted delivery of doit-pki
ConditionPathExists=/var/lib/pki-apply
Before=nginx.service haproxy.service caddy.service apache2.service traefik.service
After=local-fs.target

[Service]
Type=oneshot
ExecStart=@PROGRAM@ recover

[Install]
WantedBy=multi-user.target
END-OF-UNIT
    systemctl daemon-reload
    systemctl enable --quiet pki-apply-recover.service
fi
printf 'pki-apply is installed\n'
