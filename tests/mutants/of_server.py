"""Mutants of the server's loop and of its sockets."""

from typing import Final

from tests.mutants.mutant import Mutant

_LOOP: Final = "server/test_loop_storing.py"
_SOCKETS: Final = "server/test_sockets.py"

MUTANTS: Final = (
    Mutant(
        "loop-confirms-before-commit",
        "P2",
        "the broker is told that a commit is made before it is",
        "server/storing.py",
        "            await self._storage.commit(changes)\n",
        "            self._broker.committed(changes, self._now())\n"
        "            self._perform()\n"
        "            await self._storage.commit(changes)\n",
        (_LOOP,),
    ),
    Mutant(
        "failed-commit-taken-for-made",
        "P2",
        "what the disk could not store is confirmed",
        "server/storing.py",
        "        except StorageError as error:\n            self._refuse(changes, str(error))\n",
        "        except StorageError as error:\n            self._broker.committed(changes, self._now())\n",
        (_LOOP,),
    ),
    Mutant(
        "full-disk-forgets-the-rest",
        "P7",
        "what was settled while the disk was full comes again after a restart",
        "server/storing.py",
        "            self._changes[:0] = later\n",
        "",
        (_LOOP,),
    ),
    Mutant(
        "read-before-commit",
        "P7",
        "what is settled by a change that waits for space is read as if it were not",
        "server/storing.py",
        "            self._queries[:0] = queries\n",
        "            for query in queries:\n                await self._answer(query)\n",
        (_LOOP,),
    ),
    Mutant(
        "settled-waits-for-ever",
        "P7",
        "what was acknowledged is not in the file as long as nothing else is stored, and comes again after a crash",
        "server/storing.py",
        "        self._is_timed = False\n        if self._changes:\n            self._is_urgent = True\n",
        "        self._is_timed = False\n        if self._changes:\n",
        ("server/test_storing.py",),
    ),
    Mutant(
        "settled-waits-for-nobody",
        "P2",
        "each message that is stored alone costs two syncs",
        "server/storing.py",
        "if not isinstance(effect, Settle) or ",
        "if ",
        ("server/test_storing.py",),
    ),
    Mutant(
        "last-changes-not-committed",
        "P7",
        "what is settled at the last moment before a stop comes again after it",
        "server/loop.py",
        "        await self._storing.commit()\n",
        "",
        (_LOOP,),
    ),
    Mutant(
        "outbox-without-limit",
        "P8",
        "any amount of frames waits for a peer that takes nothing",
        "server/loop.py",
        "elif len(outbox) < self._send_queue and outbox.size < self._send_queue_size:",
        "elif True:",
        (_LOOP,),
    ),
    Mutant(
        "router-drops",
        "P2",
        "a frame for a peer that is gone vanishes, and the broker goes on counting on that peer",
        "transport/sockets.py",
        "router.set(zmq.ROUTER_MANDATORY, 1)",
        "router.set(zmq.ROUTER_MANDATORY, 0)",
        (_SOCKETS,),
    ),
    Mutant(
        "any-size-is-read",
        "P8",
        "a frame of any size is read into the server's memory",
        "transport/sockets.py",
        "    router.set(zmq.MAXMSGSIZE, options.max_message_size + _FRAME_SLACK)\n",
        "",
        ("integration/test_bad_input.py::test_an_oversized_frame_is_cut_off",),
    ),
    Mutant(
        "sockets-connect-by-themselves",
        "P4",
        "what was in the queue for one server reaches the next one, unasked",
        "transport/sockets.py",
        "socket.set(zmq.RECONNECT_IVL, -1)",
        "socket.set(zmq.RECONNECT_IVL, 10)",
        (_SOCKETS,),
    ),
    Mutant(
        "timer-fires-once",
        "P2",
        "of what is due on an idle server only the first is done",
        "server/loop.py",
        "        self._perform()\n        self._pump()\n",
        "        self._pump()\n",
        ("server/test_loop_storing.py",),
    ),
    Mutant(
        "store-is-asked-twice-at-once",
        "P2",
        "a change is handed to the store before an earlier one is stored, and may be confirmed before that",
        "server/loop.py",
        "if self._storing.has_work and not self._is_storing:",
        "if self._storing.has_work:",
        (_LOOP,),
    ),
    Mutant(
        "what-came-meanwhile-is-forgotten",
        "P2",
        "what came while the store was at work is stored only when something else happens",
        "server/loop.py",
        "        self._is_storing = False\n        self._pump()\n        self._store()\n",
        "        self._is_storing = False\n        self._pump()\n",
        (_LOOP,),
    ),
)
