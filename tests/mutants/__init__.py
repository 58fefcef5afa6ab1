"""Faults that are seeded on purpose, one at a time, to see that the tests notice each: ``make mutants``.

``mutant.py`` says what a mutant is, ``of_*.py`` are the mutants of each part, ``workshop.py`` tries them on a copy of
the tree, ``display.py`` shows what came of it.
"""

from typing import Final

from tests.mutants import (
    of_asyncio,
    of_broker,
    of_client,
    of_groups,
    of_repair,
    of_requests,
    of_retained,
    of_server,
    of_storage,
    of_stored_publishes,
    of_testing,
)

MUTANTS: Final = (
    *of_stored_publishes.MUTANTS,
    *of_broker.MUTANTS,
    *of_repair.MUTANTS,
    *of_storage.MUTANTS,
    *of_server.MUTANTS,
    *of_client.MUTANTS,
    *of_asyncio.MUTANTS,
    *of_requests.MUTANTS,
    *of_retained.MUTANTS,
    *of_groups.MUTANTS,
    *of_testing.MUTANTS,
)
