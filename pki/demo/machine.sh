#!/bin/sh
# The first process of a machine, in its own namespaces: create its folders, then wait until stdin closes.
# usage: machine.sh NAME SCRATCH HOSTS SYSTEMCTL OVERLAY NEEDED...
set -eu
name=$1 scratch=$2 hosts=$3 systemctl=$4 overlay=$5
shift 5
umask 022

layer() { # FOLDER: its content, writable for this machine only
    mkdir -p "$scratch$1/upper" "$scratch$1/work"
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$scratch$1/upper,workdir=$scratch$1/work" "$1"
}

copy() { # FOLDER: the same, where the kernel refuses overlays
    mkdir -p "$scratch$1"
    cp -a "$1/." "$scratch$1"
    mount --bind "$scratch$1" "$1"
}

folders_of() { # FOLDER: its folders without their files, which may be gigabytes
    mkdir -p "$scratch$1"
    (cd "$1" && find . -xdev ! -type f -print0 | tar -c --null --no-recursion -T -) | tar -x -C "$scratch$1"
    mount --bind "$scratch$1" "$1"
}

mount -t tmpfs -o mode=0755 machine "$scratch"
echo "$name" >/proc/sys/kernel/hostname
if [ "$overlay" = yes ] && ! layer /etc; then overlay=no; fi
[ "$overlay" = yes ] || copy /etc
: >"$scratch/empty"
rm -f /etc/resolv.conf # no name server
: >/etc/resolv.conf
echo "$name" >/etc/hostname
[ -e /etc/hosts ] || : >/etc/hosts
mount --bind "$hosts" /etc/hosts # one file for all machines
if [ "$overlay" = yes ]; then
    for folder in /var /usr/local /root /home /srv; do layer "$folder"; done
else
    folders_of /var
    copy /usr/local/sbin
    copy /usr/local/share
    for needed in "$@"; do
        mkdir -p "$scratch/needed$needed"
        mount --bind "$needed" "$scratch/needed$needed"
    done
    for folder in /root /home /srv; do mount -t tmpfs -o mode=0755 machine "$folder"; done
    for needed in "$@"; do # files that the program needs, if they were in one of these
        [ -e "$needed" ] || { mkdir -p "$needed" && mount --bind "$scratch/needed$needed" "$needed"; }
    done
fi
find /root -maxdepth 1 -type f -name '.*' -delete # root has no settings and keys of the outer root
mkdir -p /root/.ssh
mount -t tmpfs -o mode=0700 machine /root/.ssh
[ ! -S /dev/log ] || mount --bind "$scratch/empty" /dev/log # the log of the outer machine
mount -t tmpfs -o mode=0755 machine /run
mkdir -m 1777 /run/lock
mkdir /run/sshd
if id haproxy >/dev/null 2>&1; then install -d -o haproxy -g haproxy -m 2775 /run/haproxy; fi
rm -f /etc/ssh/ssh_host_* # each machine creates its own keys
mkdir -p /usr/local/sbin
install -m 0755 "$systemctl" /usr/local/sbin/systemctl
ip link set lo up
echo ready
# Processes that end here have no other parent to wait for them: https://man7.org/linux/man-pages/man2/sigaction.2.html on SIGCHLD
exec env --ignore-signal=CHLD cat >/dev/null
