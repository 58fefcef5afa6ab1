"""Mutants of the last messages that are kept: which one, for how long, and what a subscriber is given of them."""

from typing import Final

from tests.mutants.mutant import Mutant

_BROKER: Final = "broker/test_retained.py"
_SESSION: Final = "protocol/test_session_retained.py"
_STORAGE: Final = "storage/test_retained.py"

MUTANTS: Final = (
    Mutant(
        "first-message-retained",
        "order",
        "the first message of a name is kept instead of the last",
        "broker/retained.py",
        "elif kept.number < value.last.number:",
        "else:",
        (f"{_BROKER}::TestWhichOne",),
    ),
    Mutant(
        "stored-not-retained",
        "P2",
        "a confirmed message is not the last one after a crash",
        "broker/intake.py",
        "if publication.due is None:\n            name, queue",
        "if False:\n            name, queue",
        (f"{_BROKER}::TestWriting",),
    ),
    Mutant(
        "retained-not-written",
        "P1",
        "what was published with ack=0 is kept in memory alone",
        "broker/retained.py",
        "                self._write_at = now + WRITE_SECONDS\n\n    def storing",
        "                pass\n\n    def storing",
        (f"{_BROKER}::TestWriting",),
    ),
    Mutant(
        "retained-not-read",
        "P2",
        "a server that starts has forgotten the last messages",
        "storage/rows.py",
        "_next_moment(database), read_retained(database))",
        "_next_moment(database), [])",
        (f"{_STORAGE}::TestFile",),
    ),
    Mutant(
        "older-retained-written",
        "order",
        "an older message takes the place of the last one in the file",
        "storage/retained.py",
        "if number is not None and number > change.number:",
        "if False:",
        (f"{_STORAGE}::TestFile",),
    ),
    Mutant(
        "pending-given-as-retained",
        "order",
        "the last message is given before older ones that wait",
        "broker/retained.py",
        "kept is not None and name not in self._pending.last and not",
        "kept is not None and not",
        (f"{_BROKER}::TestWhoIsGivenIt",),
    ),
    Mutant(
        "expired-given-as-retained",
        "P2",
        "a message is given after it has expired",
        "broker/retained.py",
        "name not in self._pending.last and not _has_expired(kept, now):",
        "name not in self._pending.last:",
        (f"{_BROKER}::TestTime",),
    ),
    Mutant(
        "retained-without-limit",
        "P8",
        "last messages may have any number of bytes",
        "broker/retained.py",
        "if self.size > self._options.max_size and name in self._values:",
        "if False:",
        (f"{_BROKER}::TestRoom",),
    ),
    Mutant(
        "retained-for-all-names",
        "P8",
        "a subscriber is given the last messages of names that it did not ask for",
        "broker/retained.py",
        "sorted(self._names.matching(pattern))",
        "sorted(self._values)",
        (f"{_BROKER}::TestWhoIsGivenIt",),
    ),
    Mutant(
        "no-mark",
        "order",
        "a subscriber cannot tell what is newer than the last message that it was given",
        "broker/retained.py",
        "            self._effects.append(Mark(command.token))",
        "            pass",
        (f"{_BROKER}::TestWhoIsGivenIt",),
    ),
    Mutant(
        "older-after-retained",
        "order",
        "what was published before the last message is given after it",
        "protocol/freshness.py",
        "            if not others:\n                return None\n",
        "            if not others:\n                return delivery\n",
        (f"{_SESSION}::TestOnce",),
    ),
    Mutant(
        "retained-after-newer",
        "order",
        "the last message that was kept is given after a newer one",
        "protocol/freshness.py",
        "elif name in self._marked[request]:",
        "elif False:",
        (f"{_SESSION}::TestOnce",),
    ),
    Mutant(
        "retained-twice",
        "P7",
        "after a break a callback is given the last message again that it was given before",
        "protocol/freshness.py",
        "header.sequence <= given.sequence:",
        "header.sequence < given.sequence:",
        (f"{_SESSION}::TestAgain",),
    ),
)
