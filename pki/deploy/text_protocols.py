"""SMTP and IMAP: how TLS begins (STARTTLS), and what shows whether the server lets a client in.

Of our modules this one imports only `bounded_stream`: Ansible ships both.
"""

from __future__ import annotations

from pki.deploy.bounded_stream import ProtocolFault, Reply, Stream, shown

LINES = 100  # of one reply
CLIENT = "doit-pki.invalid"  # the name in EHLO (RFC 2606)


# -- SMTP (RFC 5321) ---------------------------------------------------------------------------------------------------


def start_smtp(stream: Stream) -> None:
    """Begin TLS in SMTP (RFC 3207)."""
    _expect_smtp(stream, 220)
    stream.send(f"EHLO {CLIENT}\r\n".encode())
    if "STARTTLS" not in _expect_smtp(stream, 250).upper().split():
        raise ProtocolFault("does not offer STARTTLS")
    stream.send(b"STARTTLS\r\n")
    _expect_smtp(stream, 220)


def ask_smtp(stream: Stream, _account: str, *, by_certificate: bool) -> Reply:
    """Return the answer to EHLO after STARTTLS."""
    del by_certificate  # a server that demands a certificate answers nothing else without one
    stream.send(f"EHLO {CLIENT}\r\n".encode())
    reply = _judge_smtp(*_smtp_reply(stream))
    stream.send(b"QUIT\r\n")
    return reply


def ask_smtps(stream: Stream, account: str, *, by_certificate: bool) -> Reply:
    """Return the answer to EHLO, where TLS begins at once; the server speaks first."""
    code, text = _smtp_reply(stream)
    return ask_smtp(stream, account, by_certificate=by_certificate) if code == 220 else _judge_smtp(code, text)


def _judge_smtp(code: int, text: str) -> Reply:
    """Return what a reply means. Only x.7.x is a matter of security (RFC 3463).

    421 may be an overload, and 530, 550 and 554 refuse for any reason, such as the address of this machine.
    """
    if code == 250:
        return Reply(200, "answers EHLO")
    is_security = text.partition(".")[2].startswith("7.") and text[:1] in {"4", "5"}
    if is_security or code in {530, 550, 554}:
        return Reply(403, shown(f"{code} {text}"), is_certain=is_security)
    raise ProtocolFault(f"answers {shown(f'{code} {text}')} to EHLO")


def _expect_smtp(stream: Stream, code: int) -> str:
    actual, text = _smtp_reply(stream)
    if actual != code:
        raise ProtocolFault(f"answers {shown(f'{actual} {text}')} before STARTTLS")
    return text


def _smtp_reply(stream: Stream) -> tuple[int, str]:
    """Return the code and the text of a reply, which may have several lines."""
    texts = []
    for _ in range(LINES):
        line = stream.read_line()
        code, separator, text = line[:3], line[3:4], line[4:]
        if not (code.isdigit() and separator in {"", " ", "-"}):
            raise ProtocolFault("does not answer as an SMTP server")
        texts.append(text)
        if separator != "-":
            return int(code), " ".join(texts)
    raise ProtocolFault(f"answers with more than {LINES} lines")


# -- IMAP (RFC 9051) ---------------------------------------------------------------------------------------------------


def start_imap(stream: Stream) -> None:
    """Begin TLS in IMAP."""
    _imap_greeting(stream)
    stream.send(b"a1 STARTTLS\r\n")
    status, text, _ = _imap_answer(stream, "a1")
    if status != "OK":
        raise ProtocolFault(f"refuses STARTTLS: {shown(f'{status} {text}')}")


def ask_imaps(stream: Stream, account: str, *, by_certificate: bool) -> Reply:
    """Return whether the client can log in, where TLS begins at once; the server speaks first."""
    _imap_greeting(stream)
    return ask_imap(stream, account, by_certificate=by_certificate)


def ask_imap(stream: Stream, _account: str, *, by_certificate: bool) -> Reply:
    """Return whether a client can log in with its certificate (EXTERNAL, RFC 4422), or the answer to CAPABILITY.

    Dovecot answers CAPABILITY to everybody and uses the certificate only at a login. The answer to it is therefore
    certain only for a service that everybody may use.
    """
    stream.send(b"a2 CAPABILITY\r\n")
    status, text, untagged = _imap_answer(stream, "a2")
    if status != "OK":
        raise ProtocolFault(f"answers {shown(f'{status} {text}')} to CAPABILITY")
    reply = Reply(
        200, "answers CAPABILITY; it offers no AUTH=EXTERNAL, so that only a login shows more", is_certain=False
    )
    if not by_certificate:
        reply = Reply(200, "answers CAPABILITY")
    elif "AUTH=EXTERNAL" in untagged.upper().split():
        reply = _log_in(stream)
    stream.send(b"a9 LOGOUT\r\n")
    return reply


def _log_in(stream: Stream) -> Reply:
    stream.send(b"a3 AUTHENTICATE EXTERNAL =\r\n")
    status, text, _ = _imap_answer(stream, "a3")
    if status == "OK":
        return Reply(200, "permits AUTHENTICATE EXTERNAL")
    # Dovecot refuses a certificate with [ALERT]; the codes of RFC 5530 are about the account, a limit or the server
    is_certain = status == "NO" and text.upper().startswith("[ALERT]")
    return Reply(403, shown(f"{status} {text}"), is_certain=is_certain)


def _imap_greeting(stream: Stream) -> None:
    line = stream.read_line()
    if not line.upper().startswith(("* OK", "* PREAUTH")):
        is_imap = line.startswith("* BYE")
        raise ProtocolFault(f"answers {shown(line)}" if is_imap else "does not answer as an IMAP server")


def _imap_answer(stream: Stream, tag: str) -> tuple[str, str, str]:
    """Return status and text of the answer with a tag, and the untagged lines before it."""
    untagged: list[str] = []
    for _ in range(LINES):
        line = stream.read_line()
        if line.startswith("* BYE"):
            raise ProtocolFault(f"answers {shown(line)}")
        if line.startswith("+"):
            stream.send(b"\r\n")  # an empty response: the identity is that of the certificate
        elif line.startswith(f"{tag} "):
            status, _, text = line.removeprefix(f"{tag} ").partition(" ")
            return status.upper(), text, " ".join(untagged)
        elif line.startswith("* "):
            untagged.append(line)
        else:
            raise ProtocolFault("does not answer as an IMAP server")
    raise ProtocolFault(f"answers with more than {LINES} lines")
