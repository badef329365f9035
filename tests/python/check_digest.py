"""Reads reports about several records with Python's email package, as a mail reader and a program would.

Usage: check_digest.py FILE…

Prints the id of every record named, one a line; the first thing wrong ends it with status 1 and says what.
"""

import csv
import email
import email.policy
import email.utils
import io
import pathlib
import sys


def check(true, what):
    if not true:
        raise ValueError(what)


def ids_of(octets):
    message = email.message_from_bytes(octets, policy=email.policy.default)
    check(message.get_content_type() == "multipart/report" and not message.defects, f"{message.defects}")
    check(message.get_param("report-type") == "delivery-status", "report-type")
    check(message["Auto-Submitted"] == "auto-generated", "Auto-Submitted")
    check(email.utils.parsedate_to_datetime(message["Date"]), "Date")
    parts = message.get_payload()
    types = ["text/plain", "message/delivery-status", "text/csv"]
    check([part.get_content_type() for part in parts] == types, f"{[part.get_content_type() for part in parts]}")
    about_report, *groups = parts[1].get_payload()
    check(about_report["Reporting-MTA"].startswith("dns; "), "Reporting-MTA")
    for group in groups:
        for name in ("Final-Recipient", "Action", "Status", "Diagnostic-Code", "Last-Attempt-Date", "X-Journal-Record"):
            check(group[name], f"{name} in {group.items()}")
    check(parts[2].get_filename() == "records.csv", "the table's name")
    rows = list(csv.DictReader(io.StringIO(parts[2].get_content(), newline="")))
    check(all(None not in row and None not in row.values() for row in rows), "a row of another length")
    named = [group["X-Journal-Record"] for group in groups]
    check([row["record"] for row in rows] == named, "the table and the groups name different records")
    check(len(set(named)) == len(named), "a record is named twice")
    check(str(len(named)) in message["Subject"], f"the count is missing in {message['Subject']!r}")
    check(f"{len(named)} journal records" in parts[0].get_content(), "the count is missing in the text")
    return named


def main(paths):
    try:
        for path in paths:
            for name in ids_of(pathlib.Path(path).read_bytes()):
                print(name)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        print(f"{path}: {error!r}")
        return 1
    return 0


sys.exit(main(sys.argv[1:]))
