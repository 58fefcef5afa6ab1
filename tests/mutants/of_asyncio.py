"""Mutants of the asyncio client."""

from typing import Final

from tests.mutants.mutant import Mutant

_ASYNCIO: Final = "integration/test_asyncio.py"
_CANCELLING: Final = "integration/test_cancelling.py"

MUTANTS: Final = (
    Mutant(
        "cancelled-send-given-up",
        "P4",
        "a message that is under way when its task is cancelled is given up, and nobody knows whether it is stored",
        "client/async_pump.py",
        "        fate = Fate.UNDER_WAY if self.is_done else self._pump.cancel(self)\n",
        "        fate = Fate.UNKNOWN\n",
        (f"{_CANCELLING}::test_a_send",),
    ),
    Mutant(
        "cancelled-callback-acknowledged",
        "P3",
        "a message whose callback was cancelled is acknowledged",
        "client/lanes.py",
        "                self._failed(share, index, error)\n",
        "",
        (f"{_CANCELLING}::test_a_handler",),
    ),
    Mutant(
        "no-task-in-place-of-a-cancelled-one",
        "P3",
        "after a callback was cancelled nothing is handled any more",
        "client/lanes.py",
        "            asyncio.get_running_loop().call_later(_RESPITE, self._hire_for_all)\n",
        "            pass\n",
        (f"{_CANCELLING}::test_what_waits_behind_a_cancelled_handler",),
    ),
    Mutant(
        "forgotten-message-kept",
        "P2",
        "a message in hand that everybody has forgotten stays with the client",
        "client/messages.py",
        "        if not self._outcome.done():\n            # Whatever",
        "        if False:\n            # Whatever",
        (f"{_CANCELLING}::test_a_loop_over_messages",),
    ),
    Mutant(
        "concurrency-without-limit",
        "P8",
        "as many callbacks run at once as there are messages",
        "client/lanes.py",
        "range(min(work, self.handler.concurrency - len(self._tasks)))",
        "range(work)",
        (f"{_ASYNCIO}::test_at_once",),
    ),
    Mutant(
        "sent-batches-not-counted",
        "P4",
        "who sends many messages with ack=0 is told that none was sent before an error",
        "client/batches.py",
        "                done += len(batch)\n",
        "                pass\n",
        ("integration/test_client.py::test_send_messages_counts_what_has_left",),
    ),
    Mutant(
        "any-loop-may-use-it",
        "P4",
        "a client is used in another loop than its own, which nobody waits in, and a message is sent by halves",
        "client/async_pump.py",
        "        if asyncio._get_running_loop() is not self.loop:",
        "        if self.loop is None:",
        (f"{_ASYNCIO}::TestAnotherLoop",),
    ),
    Mutant(
        "sent-in-another-loop-all-the-same",
        "P4",
        "a message that was refused in another loop is sent with the next one",
        "client/gatherer.py",
        "            self._gathering.take_back(now)\n",
        "",
        (f"{_ASYNCIO}::TestAnotherLoop",),
    ),
    Mutant(
        "only-one-task-is-told",
        "P3",
        "of several tasks that ask for messages, only one is ever given any, and the others wait for ever",
        "client/messages.py",
        "            self._arrived.clear()\n",
        "            self._arrived = asyncio.Event()\n",
        (f"{_ASYNCIO}::TestMessages::test_several_tasks",),
    ),
    Mutant(
        "failed-subscription-takes-the-next-lane-with-it",
        "P5",
        "a subscription that has failed takes out the callback of the one that was made in its place",
        "client/lanes.py",
        "if lane is None or (handler is not None and handler is not lane.handler):",
        "if lane is None:",
        (f"{_ASYNCIO}::test_a_subscription_in_place_of_another",),
    ),
    Mutant(
        "in-hand-for-ever",
        "P3",
        "a client does not stop that has taken a message from a loop which was left",
        "client/lanes.py",
        "        for lane in self._all():\n            lane.stop()\n",
        "        for lane in self._lanes.values():\n            lane.stop()\n",
        (f"{_ASYNCIO}::TestMessages",),
    ),
)
