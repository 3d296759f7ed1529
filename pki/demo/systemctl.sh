#!/bin/sh
# systemctl for a machine without systemd: does what the units of Debian do, for the daemons of the lab, by pid files.
# Every call that changes something is logged in /var/log/systemctl.log.
set -u
PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin

pid_file() { # UNIT
    case $1 in
        nginx | haproxy) echo "/run/$1.pid" ;;
        apache2) echo /run/apache2/apache2.pid ;;
        caddy) echo /run/caddy/pid ;;
        ssh | sshd) echo /run/sshd.pid ;;
        *) return 1 ;;
    esac
}

pid() { # UNIT
    number=$(cat "$(pid_file "$1")" 2>/dev/null) && [ -n "$number" ] && kill -0 "$number" 2>/dev/null && echo "$number"
}

as_caddy() {
    setpriv --reuid caddy --regid caddy --init-groups --inh-caps +net_bind_service --ambient-caps +net_bind_service \
        env HOME=/var/lib/caddy "$@"
}

launch() { # UNIT
    case $1 in
        nginx) nginx -t -q -g 'daemon on; master_process on;' && nginx -g 'daemon on; master_process on;' ;;
        haproxy) haproxy -W -D -f /etc/haproxy/haproxy.cfg -p /run/haproxy.pid -S /run/haproxy-master.sock ;;
        apache2) apache2ctl start ;;
        caddy)
            install -d -o caddy -g caddy /run/caddy
            as_caddy caddy start --config /etc/caddy/Caddyfile --pidfile /run/caddy/pid
            ;;
        ssh | sshd) sshd -t && /usr/sbin/sshd -E /var/log/sshd.log ;;
    esac
}

reload() { # UNIT
    case $1 in
        nginx) nginx -g 'daemon on; master_process on;' -s reload ;;
        haproxy) haproxy -W -f /etc/haproxy/haproxy.cfg -c -q -S /run/haproxy-master.sock && kill -USR2 "$(pid haproxy)" ;;
        apache2) apache2ctl graceful ;;
        caddy) as_caddy caddy reload --config /etc/caddy/Caddyfile --force ;;
        ssh | sshd) sshd -t && kill -HUP "$(pid "$1")" ;;
    esac
}

within() { # SECONDS COMMAND...
    tries=$(($1 * 50))
    shift
    until "$@" >/dev/null; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.02
    done
}

# shellcheck disable=SC2317 # started by within
gone() { ! kill -0 "$1" 2>/dev/null; }

start() { # UNIT
    pid "$1" >/dev/null && return
    launch "$1" </dev/null >>"/var/log/$1.log" 2>&1 && within 10 pid "$1" && return
    echo "Job for $1.service failed: $(tail -n 3 "/var/log/$1.log")" >&2
    return 1
}

stop() { # UNIT
    number=$(pid "$1") || return 0
    kill -TERM "$number"
    within 5 gone "$number" || kill -KILL "$number"
    within 5 gone "$number"
    rm -f "$(pid_file "$1")"
}

# Output goes to a file first: a daemon that holds the caller's pipe open would keep the caller waiting.
reload_running() { # UNIT
    pid "$1" >/dev/null || { echo "$1.service is not active, cannot reload." >&2; return 1; }
    reload "$1" </dev/null >>"/var/log/$1.log" 2>&1 && return
    echo "Job for $1.service failed: $(tail -n 3 "/var/log/$1.log")" >&2
    return 1
}

installed() { # UNIT: succeed if a unit file of that name exists, as for timers, which are not started here
    [ -e "/etc/systemd/system/$1" ] || [ -e "/lib/systemd/system/$1" ] ||
        [ -e "/etc/systemd/system/$1.service" ] || [ -e "/lib/systemd/system/$1.service" ]
}

act() { # VERB UNIT
    unit=${2%.service}
    case $1 in
        enable | disable | is-enabled) installed "$2"; return ;;
    esac
    if ! pid_file "$unit" >/dev/null; then
        echo "Unit $2 not found." >&2
        [ "$1" = is-active ] && return 4
        return 5
    fi
    case $1 in
        is-active)
            if pid "$unit" >/dev/null; then echo active; else echo inactive; return 3; fi ;;
        start) start "$unit" ;;
        stop) stop "$unit" ;;
        restart) stop "$unit"; start "$unit" ;;
        reload) reload_running "$unit" ;;
        reload-or-restart) if pid "$unit" >/dev/null; then reload_running "$unit"; else start "$unit"; fi ;;
        try-reload-or-restart) if pid "$unit" >/dev/null; then reload_running "$unit"; fi ;;
        *) echo "Unknown command verb $1." >&2; return 1 ;;
    esac
}

verb='' now='' quiet='' units=''
for word in "$@"; do
    case $word in
        --now) now=yes ;;
        -q | --quiet) quiet=yes ;;
        --*) ;;
        *) if [ -z "$verb" ]; then verb=$word; else units="$units $word"; fi ;;
    esac
done
[ -z "$quiet" ] || exec >/dev/null
case $verb in
    is-*) ;;
    *) echo "$verb$units" >>/var/log/systemctl.log ;;
esac
[ "$verb" != daemon-reload ] || exit 0
code=0
for unit in $units; do
    act "$verb" "$unit" || code=$?
    if [ -n "$now" ] && [ "$verb" = enable ]; then act start "$unit" || code=$?; fi
done
exit "$code"
