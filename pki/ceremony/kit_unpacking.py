"""The shell commands that copy a kit from the exchange drive and verify it before it is used.

Each byte is read from the drive once, because a manipulated drive may return other bytes the second time. The list is
copied first and compared with the paper; then only the files in the list are copied, as plain files, and verified.
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
