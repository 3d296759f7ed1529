"""How a kit is taken from the exchange drive: what is typed before anything of it is believed.

Each byte is read from the drive once, for a drive may give other bytes the second time. The list is copied first and the
copy compared with the paper; then only what it names is copied, each as a plain file, and the copies are checked.
"""

LIST = (
    "mkdir ~/kit && cd ~/kit",
    "cat /mnt/exchange/doit-pki-kit/SHA256SUMS > SHA256SUMS",
    "sha256sum SHA256SUMS",
)
FILES = (
    "while read -r digest name; do \\",
    '  mkdir -p "$(dirname "$name")"; \\',
    '  cat "/mnt/exchange/doit-pki-kit/$name" > "$name"; \\',
    "  done < SHA256SUMS",
)
CHECKS = (
    "sha256sum --strict --quiet -c SHA256SUMS && echo whole",
    "find . ! -type d ! -name SHA256SUMS | wc -l",
)
