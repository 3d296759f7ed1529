#!/bin/sh
# The first process of a machine, alone in its namespaces: give it folders of its own, then hold it until stdin ends.
# usage: machine.sh NAME SCRATCH HOSTS SYSTEMCTL OVERLAY NEEDED...
set -eu
name=$1 scratch=$2 hosts=$3 systemctl=$4 overlay=$5
shift 5
umask 022

layer() { # FOLDER: what it holds, writable for this machine alone
    mkdir -p "$scratch$1/upper" "$scratch$1/work"
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$scratch$1/upper,workdir=$scratch$1/work" "$1"
}

copy() { # FOLDER: the same, where the kernel refuses overlays
    mkdir -p "$scratch$1"
    cp -a "$1/." "$scratch$1"
    mount --bind "$scratch$1" "$1"
}

folders_of() { # FOLDER: its folders without their files, for it may hold gigabytes
    mkdir -p "$scratch$1"
    (cd "$1" && find . -xdev ! -type f -print0 | tar -c --null --no-recursion -T -) | tar -x -C "$scratch$1"
    mount --bind "$scratch$1" "$1"
}

mount -t tmpfs -o mode=0755 machine "$scratch"
echo "$name" >/proc/sys/kernel/hostname
if [ "$overlay" = yes ] && ! layer /etc; then overlay=no; fi
[ "$overlay" = yes ] || copy /etc
: >"$scratch/empty"
rm -f /etc/resolv.conf # nobody is asked for names
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
    for needed in "$@"; do # what the program stands on, where it lay in one of these
        [ -e "$needed" ] || { mkdir -p "$needed" && mount --bind "$scratch/needed$needed" "$needed"; }
    done
fi
find /root -maxdepth 1 -type f -name '.*' -delete # root here has none of the habits and keys of root below
mkdir -p /root/.ssh
mount -t tmpfs -o mode=0700 machine /root/.ssh
[ ! -S /dev/log ] || mount --bind "$scratch/empty" /dev/log # the log of the machine below
mount -t tmpfs -o mode=0755 machine /run
mkdir -m 1777 /run/lock
mkdir /run/sshd
if id haproxy >/dev/null 2>&1; then install -d -o haproxy -g haproxy -m 2775 /run/haproxy; fi
rm -f /etc/ssh/ssh_host_* # a machine has keys of its own, or none
mkdir -p /usr/local/sbin
install -m 0755 "$systemctl" /usr/local/sbin/systemctl
ip link set lo up
echo ready
# Whoever ends here is waited for by nobody else: https://man7.org/linux/man-pages/man2/sigaction.2.html on SIGCHLD
exec env --ignore-signal=CHLD cat >/dev/null
