"""Reads journal records with Python's email package and checks what readers of records rely on.

Usage: check_record.py DIRECTORY

For every NAME.record in the directory there is NAME.original (the octets that were relayed) and NAME.json (sender of
the record, journaling address, recipients with their labels), and perhaps NAME.report, a notification about it. Prints how many records were read; the first thing wrong
ends it with status 1 and says which record.
"""

import email
import email.header
import email.utils
import hashlib
import hmac
import json
import pathlib
import re
import sys

OUTER = [
    "From", "To", "Subject", "Message-ID", "Date", "MIME-Version", "X-MS-Journal-Report", "X-WM-Journal-Report",
    "X-MS-Exchange-Parent-Message-Id", "Auto-Submitted", "X-Journal-Record", "X-Journal-Received",
    "X-Journal-Original-SHA256", "X-Journal-Mail-From", "X-Journal-Auth", "X-Journal-Outcome", "X-Journal-Supplement",
    "X-Journal-Mac",
    "Content-Transfer-Encoding", "Content-Type",
]
LINE = re.compile(r"(Sender|On-Behalf-Of|Subject|Message-Id|To|Cc|Bcc|Recipient): (.*)", re.ASCII)
RANK = {"Sender": 0, "On-Behalf-Of": 1, "Subject": 2, "Message-Id": 3, "To": 4, "Cc": 5, "Bcc": 6, "Recipient": 7}
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def check(true, what):
    if not true:
        raise ValueError(what)


def decoded(value):
    unfolded = re.sub("\r?\n(?=[ \t])", "", value)
    return str(email.header.make_header(email.header.decode_header(unfolded)))


def check_outer(message, record, original, expected):
    names = message.keys()
    places = [OUTER.index(name) for name in names]
    check(places == sorted(set(places)), f"outer fields {names}")
    check(message["From"] == expected["sender"] and message["To"] == expected["journaling_address"], "From or To")
    check(re.fullmatch(f"<{UUID}@journal\\.report\\.generator>", message["Message-ID"]), message["Message-ID"])
    check(email.utils.parsedate_to_datetime(message["Date"]), "Date")
    check(message["X-MS-Journal-Report"] == "" and message["X-WM-Journal-Report"] == "journal", "markers")
    check(message["Auto-Submitted"] == "auto-generated" and message["MIME-Version"] == "1.0", "constants")
    check_mac(record, original)
    check(message["X-Journal-Original-SHA256"] == hashlib.sha256(original).hexdigest(), "hash")
    head = record[: record.index(b"\r\n\r\n")]
    check(max(map(len, head.split(b"\r\n"))) <= 998, "a header line over 998 octets")
    check(b"\r\nX-MS-Journal-Report:\r\n" in head, "the marker's spelling")
    check(re.search(rb'\r\nContent-Type: multipart/mixed; boundary="_[0-9a-f-]{36}_"$', head), "Content-Type")
    check(all(32 <= octet < 127 for octet in head.replace(b"\r\n", b"")), "a control or 8-bit octet in the header")


def check_parts(message, record, original, expected):
    check(message.get_content_type() == "multipart/mixed" and message.is_multipart(), "no multipart/mixed")
    check(not message.preamble and not message.epilogue and not message.defects, f"form: {message.defects}")
    parts = message.get_payload()
    check(len(parts) == 2, f"{len(parts)} parts")
    check([part.get_content_type() for part in parts] == ["text/plain", "message/rfc822"], "types")
    check(set(parts[1].keys()) <= {"Content-Transfer-Encoding", "Content-Type"}, "fields of the second part")
    encoding = parts[1]["Content-Transfer-Encoding"]
    check(encoding in (None, "8bit", "binary"), f"the original is {encoding}")
    outer = message["Content-Transfer-Encoding"]
    inner = parts[0]["Content-Transfer-Encoding"]
    widest = max((part for part in (encoding, inner) if part in ("8bit", "binary")), default=None)
    check(outer == widest, f"outer encoding {outer}, widest {widest}")
    boundary = message.get_boundary().encode()
    check(boundary not in original, "the boundary occurs in the original")
    check(record.count(b"--" + boundary) == 3, "delimiters")
    start = record.rindex(b"\r\n--" + boundary + b"\r\n")
    start = record.index(b"\r\n\r\n", start + 2) + 4
    end = b"\r\n--" + boundary + b"--\r\n"
    check(record.endswith(end), "the closing delimiter")
    check(record[start : len(record) - len(end)] == original, "the original is not what was relayed")
    return parts


def check_mac(record, original):
    """The key of the tests is 32 times 7; every field but the MAC's own counts, and the body in three pieces."""
    header, body = record.split(b"\r\n\r\n", 1)
    lines = (header + b"\r\n").splitlines(keepends=True)
    others = b"".join(line for line in lines if not line.startswith(b"X-Journal-Mac: "))
    before, behind = body.split(b"Content-Type: message/rfc822\r\n\r\n", 1)
    before += b"Content-Type: message/rfc822\r\n\r\n"
    pieces = [others, before, original, behind[len(original):]]
    key = bytes([7] * 32)
    hashes = b"".join(hashlib.sha256(piece).digest() for piece in pieces)
    name = hashlib.sha256(b"journal-relay mac key 1\0" + key).hexdigest()[:16]
    mac = hmac.new(key, b"journal-relay mac 1\0" + hashes, "sha256").hexdigest()
    check(f"X-Journal-Mac: v1; {name}; {mac}\r\n".encode() in lines, "the MAC")


def check_envelope(part, expected):
    check(part["Content-Transfer-Encoding"] in ("7bit", "8bit", "quoted-printable"), "encoding of the envelope part")
    charset = part.get_content_charset()
    text = part.get_payload(decode=True).decode(charset)
    check(text.endswith("\r\n") and not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", text.replace("\r\n", "")),
          "controls in the envelope part")
    lines = text[:-2].split("\r\n")
    fields = []
    for line in lines:
        match = LINE.fullmatch(line)
        check(match, f"no line of an envelope: {line!r}")
        name, value = match.groups()
        check(value == value.strip(" "), f"blanks: {line!r}")
        check(value or name == "Subject", f"empty: {line!r}")
        fields.append((name, value))
    ranks = [RANK[name] for name, _ in fields]
    check(ranks == sorted(ranks), f"order: {lines}")
    for name in ("Sender", "Subject", "Message-Id"):
        check(sum(known == name for known, _ in fields) == 1, f"{name} not once")
    check(len([name for name, _ in fields if name == "On-Behalf-Of"]) <= 1, "On-Behalf-Of")
    named = [[name, value] for name, value in fields if RANK[name] >= 4]
    check(sorted(named) == sorted(expected["recipients"]), f"recipients {named}")
    return dict(fields) | {"recipients": named}


def check_facts(message, envelope, original):
    """What Python reads in the original, where the two of us must agree: plain headers."""
    inner = email.message_from_bytes(original)
    agreed = 0
    subject = inner["Subject"]
    check(decoded(message["Subject"]) == envelope["Subject"], f"outer subject {message['Subject']!r}")
    # Python takes a bare CR for a line end, which it is not (RFC 5322, section 2.3).
    if re.search(rb"\r(?!\n)", original):
        return 0
    if isinstance(subject, str) and subject.isascii() and "\0" not in subject:
        try:
            theirs = decoded(subject)
        except (LookupError, UnicodeError, email.errors.HeaderParseError):
            theirs = None
        if theirs is not None and "\ufffd" not in theirs:
            squeeze = lambda text: " ".join(re.sub("[\x00-\x20\x7f-\xa0\u2028\u2029]", " ", text).split())
            check(squeeze(theirs) == squeeze(envelope["Subject"]), f"subject {theirs!r} is {envelope['Subject']!r}")
            agreed += 1
    message_id = inner["Message-ID"]
    if isinstance(message_id, str) and message_id.isascii() and message_id.strip() and message_id.isprintable():
        check(envelope["Message-Id"] == message_id.strip(), f"Message-Id {envelope['Message-Id']!r}")
        check(message["X-MS-Exchange-Parent-Message-Id"] == message_id.strip(), "parent")
        agreed += 1
    # Where a line is no field, Python begins the body, and everything after it is unknown to it.
    if inner.defects:
        return agreed
    for name, others in (("To", ("To", "Resent-To")), ("Cc", ("Cc", "Resent-Cc"))):
        listed = "".join(str(value) for other in others for value in inner.get_all(other, []))
        listed = re.sub(r"\s", "", listed).lower()
        for known, value in envelope["recipients"]:
            if known == name and value.isascii():
                check(value.lower() in listed, f"{value} is not in {name}")
                agreed += 1
    return agreed


def check_report(report, record, boundary):
    message = email.message_from_bytes(report)
    check(message.get_content_type() == "multipart/report" and not message.defects, f"{message.defects}")
    check(message.get_param("report-type") == "delivery-status", "report-type")
    check(message["Auto-Submitted"] == "auto-generated" and message["X-Journal-Record"], "fields")
    parts = message.get_payload()
    types = ["text/plain", "message/delivery-status", "message/rfc822"]
    check([part.get_content_type() for part in parts] == types, "types")
    about_message, about_recipient = parts[1].get_payload()[:2]
    check(about_message["Reporting-MTA"].startswith("dns; "), "Reporting-MTA")
    for name in ("Final-Recipient", "Action", "Status", "Diagnostic-Code", "Last-Attempt-Date"):
        check(about_recipient[name], name)
    check(report.count(record) == 1, "the record is not attached as it is")
    check(parts[2].get_payload()[0].get_boundary() == boundary, "the attached record is not one")


def main(directory):
    sys.setrecursionlimit(20_000)
    count = agreed = reports = 0
    for path in sorted(pathlib.Path(directory).glob("*.record")):
        record = path.read_bytes()
        original = path.with_suffix(".original").read_bytes()
        expected = json.loads(path.with_suffix(".json").read_text("utf-8"))
        try:
            message = email.message_from_bytes(record)
            check_outer(message, record, original, expected)
            parts = check_parts(message, record, original, expected)
            envelope = check_envelope(parts[0], expected)
            agreed += check_facts(message, envelope, original)
            report = path.with_suffix(".report")
            if report.exists():
                check_report(report.read_bytes(), record, message.get_boundary())
                reports += 1
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            print(f"{path.name}: {error!r}")
            return 1
        count += 1
    print(f"{count} records, {agreed} facts as Python reads them, {reports} reports")
    return 0


sys.exit(main(sys.argv[1]))
