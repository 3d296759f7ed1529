"""PostgreSQL, MySQL, LDAP and MQTT: how TLS begins, and what shows whether the server lets a client in.

Of our modules this one imports only `bounded_stream`: Ansible ships both.
"""

from __future__ import annotations

import struct

from pki.deploy.bounded_stream import LIMIT, ProtocolFault, Reply, Stream, shown

# -- PostgreSQL (https://www.postgresql.org/docs/current/protocol-message-formats.html) ----------------------------------

SSL_REQUEST = struct.pack("!II", 8, 80877103)
PROTOCOL_3 = 196608


def start_postgres(stream: Stream) -> None:
    """Begin TLS in the protocol of PostgreSQL: SSLRequest."""
    stream.send(SSL_REQUEST)
    answer = stream.read(1)
    if answer == b"N":
        raise ProtocolFault("does not offer TLS (ssl = off)")
    if answer != b"S":
        raise ProtocolFault("does not answer as a PostgreSQL server")


def ask_postgres(stream: Stream, account: str, *, by_certificate: bool) -> Reply:
    """Return the answer to a startup message for the role `account`.

    A demand for a password, like AuthenticationOk, is sent only after the TLS of the client was accepted: `cert` and
    `clientcert` of pg_hba.conf are judged before. An error of class 28 is a refusal by pg_hba.conf: without a
    certificate where it demands one, but also for a role that it does not know.
    """
    del by_certificate
    parameters = b"".join(part.encode() + b"\0" for part in ("user", account, "database", "postgres")) + b"\0"
    stream.send(struct.pack("!II", len(parameters) + 8, PROTOCOL_3) + parameters)
    kind, size = struct.unpack("!cI", stream.read(5))
    if kind not in {b"R", b"E"} or not 4 <= size <= LIMIT:
        raise ProtocolFault("does not answer as a PostgreSQL server")
    body = stream.read(size - 4)
    stream.send(b"X" + struct.pack("!I", 4))
    if kind == b"R":
        return Reply(200, "answers the startup message")
    fields = {field[:1]: field[1:].decode("utf-8", "replace") for field in body.split(b"\0") if field}
    code, text = fields.get(b"C", ""), shown(f"{fields.get(b'C', '')} {fields.get(b'M', '')}")
    if code.startswith("28"):  # invalid authorization specification
        return Reply(403, text, is_certain=False)
    raise ProtocolFault(f"answers {text}")


# -- MySQL and MariaDB (https://mariadb.com/kb/en/connection/) -----------------------------------------------------------

LONG_PASSWORD, PROTOCOL_41, SSL, SECURE_CONNECTION, PLUGIN_AUTH = 0x1, 0x200, 0x800, 0x8000, 0x80000
CAPABILITIES = LONG_PASSWORD | PROTOCOL_41 | SSL | SECURE_CONNECTION | PLUGIN_AUTH
LOGIN = struct.pack("<IIB23x", CAPABILITIES, LIMIT, 45)  # 45: utf8mb4
REFUSED_ACCOUNT = {1044, 1045, 1251, 1698, 4151}
PLUGIN = b"mysql_native_password\0"


def start_mysql(stream: Stream) -> None:
    """Begin TLS in the protocol of MySQL: the server greets, the client requests SSL."""
    greeting, number = _mysql_packet(stream)
    if greeting[:1] == b"\xff":
        raise ProtocolFault(f"answers {_mysql_error(greeting)[1]}")
    capabilities = greeting[greeting.find(b"\0", 1) + 14 :][:2]  # after version, thread, salt and a filler
    if greeting[:1] != b"\n" or len(capabilities) < 2:
        raise ProtocolFault("does not answer as a MySQL server")
    if not int.from_bytes(capabilities, "little") & SSL:
        raise ProtocolFault("does not offer TLS (have_ssl is not YES)")
    _send_mysql(stream, LOGIN, number + 1)


def ask_mysql(stream: Stream, account: str, *, by_certificate: bool) -> Reply:
    """Return the answer to a login of `account` without a password.

    OK is certain: CREATE USER … REQUIRE X509 demands the certificate. A refused login also has other causes, such as an
    account that does not exist.
    """
    del by_certificate
    _send_mysql(stream, LOGIN + account.encode() + b"\0\0" + PLUGIN, 2)
    packet, number = _mysql_packet(stream)
    if packet[:1] == b"\xfe":  # another method of authentication: try it without a password, too
        _send_mysql(stream, b"", number + 1)
        packet, number = _mysql_packet(stream)
    if packet[:1] == b"\0":
        _send_mysql(stream, b"\x01", 0)  # COM_QUIT
        return Reply(200, "permits a login")
    if packet[:1] == b"\x01":
        return Reply(403, "demands a password", is_certain=False)
    if packet[:1] != b"\xff":
        raise ProtocolFault("does not answer as a MySQL server")
    code, text = _mysql_error(packet)
    if code in REFUSED_ACCOUNT:
        return Reply(403, text, is_certain=False)
    raise ProtocolFault(f"answers {text}")


def _send_mysql(stream: Stream, payload: bytes, number: int) -> None:
    stream.send(len(payload).to_bytes(3, "little") + bytes([number & 0xFF]) + payload)


def _mysql_packet(stream: Stream) -> tuple[bytes, int]:
    header = stream.read(4)
    size = int.from_bytes(header[:3], "little")
    if not 0 < size <= LIMIT:
        raise ProtocolFault("does not answer as a MySQL server")
    return stream.read(size), header[3]


def _mysql_error(packet: bytes) -> tuple[int, str]:
    code, text = int.from_bytes(packet[1:3], "little"), packet[3:].decode("utf-8", "replace")
    return code, shown(f"{code} {text[6:] if text.startswith('#') else text}")


# -- LDAP (RFC 4511) ---------------------------------------------------------------------------------------------------

START_TLS = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"
ROOT_DSE = bytes.fromhex(  # a search of the empty name for (objectClass=*), without attributes (RFC 4512 §5.1)
    "302a020102 6325 0400 0a0100 0a0100 020101 020105 010100 870b6f626a656374436c617373 3005 0403312e31"
)
UNBIND = bytes.fromhex("3005 020103 4200")
EXTENDED_RESPONSE, SEARCH_ENTRY, SEARCH_DONE = 0x78, 0x64, 0x65
LDAP_RESULTS = {8: "strongerAuthRequired", 13: "confidentialityRequired", 48: "inappropriateAuthentication"}
LDAP_RESULTS |= {49: "invalidCredentials", 50: "insufficientAccessRights", 53: "unwillingToPerform"}


def start_ldap(stream: Stream) -> None:
    """Begin TLS in LDAP: the extended operation StartTLS (RFC 4511 §4.14)."""
    stream.send(START_TLS)
    operation, result = _ldap_message(stream)
    if operation != EXTENDED_RESPONSE:
        raise ProtocolFault("does not answer as an LDAP server")
    if result:
        raise ProtocolFault(f"refuses StartTLS: {LDAP_RESULTS.get(result, f'result {result}')}")


def ask_ldap(stream: Stream, _account: str, *, by_certificate: bool) -> Reply:
    """Return the answer to an anonymous search for the root DSE.

    A server that demands a certificate gives no answer without one; GnuTLS servers close the connection instead.
    """
    del by_certificate
    stream.send(ROOT_DSE)
    operation, result = _ldap_message(stream)
    stream.send(UNBIND)
    if operation == SEARCH_ENTRY or (operation == SEARCH_DONE and not result):
        return Reply(200, "answers a search")
    if operation != SEARCH_DONE:
        raise ProtocolFault("does not answer as an LDAP server")
    text = f"{LDAP_RESULTS.get(result, f'result {result}')} to an anonymous search"
    return Reply(403, text, is_certain=False)


def _ldap_message(stream: Stream) -> tuple[int, int]:
    """Return the tag of the operation of the next message, and its result code (0 for an entry)."""
    if stream.read(1) != b"\x30":
        raise ProtocolFault("does not answer as an LDAP server")
    packet = stream.read(_ber_length(stream))
    size = packet[1] if len(packet) > 2 and packet[0] == 0x02 else -1  # the message's number
    operation = packet[2 + size :] if size >= 0 else b""
    if len(operation) < 2:
        raise ProtocolFault("does not answer as an LDAP server")
    tag = operation[0]
    if tag == SEARCH_ENTRY:
        return tag, 0
    content = operation[2 + (operation[1] & 0x7F) :] if operation[1] & 0x80 else operation[2:]
    if content[:2] != b"\x0a\x01" or len(content) < 3:  # ENUMERATED, one byte
        raise ProtocolFault("does not answer as an LDAP server")
    return tag, content[2]


def _ber_length(stream: Stream) -> int:
    first = stream.read(1)[0]
    if first < 0x80:
        return first
    size = int.from_bytes(stream.read(first & 0x7F), "big") if 0x81 <= first <= 0x84 else LIMIT + 1
    if size > LIMIT:
        raise ProtocolFault("does not answer as an LDAP server")
    return size


# -- MQTT (OASIS MQTT 3.1.1) -------------------------------------------------------------------------------------------

MQTT_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00"  # clean session, without name: the server gives one
MQTT_REFUSALS = {4: "bad user name or password", 5: "not authorized"}


def ask_mqtt(stream: Stream, _account: str, *, by_certificate: bool) -> Reply:
    """Return the answer to CONNECT without user name and password."""
    del by_certificate
    stream.send(MQTT_CONNECT)
    packet = stream.read(4)
    if packet[:2] != b"\x20\x02":
        raise ProtocolFault("does not answer as an MQTT broker")
    code = packet[3]
    if code in MQTT_REFUSALS:
        return Reply(403, f"CONNACK {code}, {MQTT_REFUSALS[code]}", is_certain=False)
    if code:
        raise ProtocolFault(f"answers CONNACK {code}")
    stream.send(b"\xe0\x00")  # DISCONNECT
    return Reply(200, "answers CONNACK 0")
