"""Instructions to install each format, for each system, in the terms of that system's screens."""

from __future__ import annotations

from typing import NamedTuple


class Guide(NamedTuple):
    """The steps on one system."""

    system: str
    steps: tuple[str, ...]


WINDOWS = Guide(
    "Windows",
    (
        "Double-click the file; choose Current User.",
        "Type the passphrase. Leave “Mark this key as exportable” unticked.",
        "Let Windows choose the store by the type of certificate, and confirm the new authority.",
    ),
)
LINUX = Guide(
    "Linux: Chromium, Chrome",
    (
        "chrome://certificate-manager → Your certificates → Import.",
        "Choose the file, type the passphrase.",
        "Trust the authority: Local certificates → Installed by you → Trusted certificates → Import.",
    ),
)
FIREFOX = Guide(
    "Firefox, on any computer",
    (
        "Settings → Privacy & Security → Certificates → View Certificates.",
        "Your Certificates → Import: choose the file, type the passphrase.",
        "Authorities: find the organisation → Edit Trust → “can identify websites”.",
    ),
)
ANDROID = Guide(
    "Android",
    (
        "Settings → Security → Encryption & credentials → Install a certificate.",
        "VPN & app user certificate: choose the file, type the passphrase.",
        "CA certificate: install the certificate of the authority; ask the person who gave you this sheet for it.",
    ),
)
MAC = Guide(
    "Mac",
    (
        "Double-click the file; Keychain Access opens. Choose the keychain “login”.",
        "Type the passphrase.",
        "Find the authority there → Get Info → Trust: Always Trust.",
    ),
)
IPHONE = Guide(
    "iPhone, iPad",
    (
        "Open the file from AirDrop, Files or Mail; choose this device.",
        "Settings → Profile Downloaded → Install; type the code of the device, then the passphrase.",
        "Settings → General → About → Certificate Trust Settings: switch the authority on.",
    ),
)
MAC_PROFILE = Guide(
    "Mac",
    (
        "Double-click the file, then open System Settings and search for “Profiles”.",
        "Double-click the profile → Install; type the passphrase.",
    ),
)

OF = {
    "p12": (WINDOWS, LINUX, FIREFOX, ANDROID),
    "p12-legacy": (MAC, ANDROID, WINDOWS),
    "mobileconfig": (IPHONE, MAC_PROFILE),
}
