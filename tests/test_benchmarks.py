"""The benchmarks count right: losses are seen, ratios and goals are worked out as they say, and few messages run."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks import load, page, picture, report
from benchmarks.figures import GOALS, Figure, Goal, Measured, Results, as_json, figure, from_json, ratio
from benchmarks.load import Counters, Load, Payloads, Plan, Stuck, Tally, payload_maker
from benchmarks.peers.base import INSTALL_EXTRA, needs
from benchmarks.peers.registry import PEERS
from benchmarks.processes import Failed
from benchmarks.runner import Runner
from benchmarks.session import Round, latencies
from benchmarks.workloads import WORKLOADS

ROOT: Final = Path(__file__).parent.parent


def counters(publishers: int = 1, subscribers: int = 1) -> Counters:
    return Counters([0] * publishers, [0] * subscribers)


def results(**rates: float) -> Results:
    """Return results of one workload, in which each peer had the same rate in two of three rounds."""
    measured = {
        peer: Measured([Round({"per_second": value}, messages=5) for value in (rate, rate, rate * 2)])
        for peer, rate in rates.items()
    }
    machine = {
        "date": "2026-01-01",
        "cores": 2,
        "processor": "x86_64",
        "memory_gb": 8,
        "system": "Linux",
        "python": "3.11.0",
        "versions": {"mezzenger": "1"},
        "rounds": 3,
        "seconds": 0.1,
        "load_before": 0.5,
    }
    return Results(machine, {"redis": "apt-get install redis-server"}, {"throughput-150": measured})


class TestTally:
    def test_all_came(self) -> None:
        """It is complete when the last number has come, in any order, and has told the publishers so."""
        shared = counters()
        tally = Tally(Plan(16), 3, shared, 0)
        make = payload_maker(16)
        for number in (2, 0):
            tally.add(make(number))
        assert (tally.is_complete, tally.lost) == (False, 1)
        tally.add(make(1))
        assert (tally.is_complete, tally.lost, tally.duplicates) == (True, 0, 0)
        assert list(shared.handled) == [3]
        tally.wait()

    def test_as_many_as_expected_but_not_all(self) -> None:
        """A message that came twice does not hide that another one was lost."""
        tally = Tally(Plan(), 3, counters(), 0)
        for number in (0, 1, 1):
            tally.add(load.record(number))
        assert (tally.is_complete, tally.lost, tally.duplicates) == (False, 1, 1)
        tally.add(load.record(2))
        assert (tally.is_complete, tally.lost, tally.duplicates) == (True, 0, 1)

    def test_nothing_comes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is given up after a while without any message."""
        monkeypatch.setattr(load, "PATIENCE", 0.01)
        tally = Tally(Plan(), 2, counters(), 0)
        tally.wait()
        assert (tally.is_complete, tally.lost) == (False, 2)


class TestLoad:
    def test_payloads_are_numbered(self) -> None:
        """The payloads of a publisher have the numbers that it was given, of any size."""
        for size in (16, 100_000):
            one = Load(Plan(size), Payloads(size), counters(), first=7, count=20)
            sent = list(one.each())
            assert [int.from_bytes(payload[:8]) for payload in sent] == list(range(7, 27))
            assert {len(payload) for payload in sent} == {size}

    def test_it_waits_for_credit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No more is sent than may be under way; it is given up if nothing is handled."""
        monkeypatch.setattr(load, "PATIENCE", 0.01)
        shared, plan = counters(2), Plan(2**20)
        shared.sent[1] = 4
        one = Load(plan, Payloads(plan.size), shared, count=1000)
        with pytest.raises(Stuck):
            for _ in one.each():
                pass
        assert sum(shared.sent) == plan.in_flight
        with pytest.raises(Stuck):
            asyncio.run(one.credit())
        shared.handled[0] = plan.in_flight
        one.wait()
        asyncio.run(one.credit())

    def test_patience_begins_with_the_first_look(self) -> None:
        """A publisher whose others have used up the credit before it looked waits for them."""
        shared, plan = counters(2), Plan(2**20, publishers=2)
        shared.sent[1] = plan.in_flight
        one = Load(plan, Payloads(plan.size), shared, count=1)
        threading.Timer(0.05, lambda: shared.handled.__setitem__(0, plan.in_flight)).start()
        one.wait()

    def test_it_keeps_a_rate(self) -> None:
        """With a rate, messages leave no faster."""
        began = time.monotonic()
        assert len(list(Load(Plan(), Payloads(None), counters(), count=50, rate=1000).each())) == 50
        assert time.monotonic() - began >= 0.045

    def test_single_sends_are_timed(self) -> None:
        """One at a time, each has a chunk and a time of its own."""
        one = Load(Plan(one_at_a_time=True), Payloads(None), counters(), count=5)
        assert [len(chunk) for chunk in one.chunks()] == [1] * 5
        assert len(one.took) == 5

    def test_what_may_be_under_way(self) -> None:
        """The bounds are those that the page tells."""
        assert Plan().in_flight == 20_000
        assert Plan(2**20).in_flight == 16
        assert Plan(subscribers=100).in_flight == 1000
        assert Plan(durable=True).in_flight > 10**9


class TestFigures:
    def test_median_and_range(self) -> None:
        """The middle one, the lowest and the highest."""
        assert figure([3.0, 1.0, 2.0, 10.0, 2.5]) == Figure(2.5, 1.0, 10.0)
        assert figure([]) is None

    def test_ratio(self) -> None:
        """Ours over theirs; nothing is divided by nothing."""
        assert ratio(30.0, 10.0) == 3.0
        assert ratio(30.0, None) is None
        assert ratio(30.0, 0.0) is None

    @pytest.mark.parametrize(
        ("ours", "at_least", "verdict"),
        [(300.0, True, "met"), (150.0, True, "missed by 50%"), (300.0, False, "met"), (450.0, False, "missed by 50%")],
    )
    def test_goals(self, ours: float, at_least: bool, verdict: str) -> None:
        """A goal is met from its target on, in its own direction; a miss is told in percent of the target."""
        goal = Goal("x", "throughput-150", "per_second", "nats", 3.0, at_least)
        assert goal.verdict(results(mezzenger=ours, nats=100.0)) == verdict

    def test_a_goal_that_was_not_measured(self) -> None:
        """Without the peer there is no verdict; a goal without a peer is about Mezzenger's own value."""
        found = results(mezzenger=300.0)
        assert Goal("x", "throughput-150", "per_second", "nats", 3.0).verdict(found) == "not measured"
        assert Goal("x", "throughput-150", "per_second", None, 200.0).reached(found) == 300.0

    def test_goals_are_of_what_is_measured(self) -> None:
        """Each goal names a workload, and a peer that takes part in it."""
        for goal in GOALS:
            assert goal.peer is None or goal.peer in WORKLOADS[goal.workload].peers

    def test_a_lost_message_fails_the_run(self) -> None:
        """One of Mezzenger does, one of a peer is only shown."""
        found = results(mezzenger=1.0, nats=1.0)
        found.workloads["throughput-150"]["nats"].rounds[0].lost = 5
        assert found.problems() == []
        found.workloads["throughput-150"]["mezzenger"].rounds[2].lost = 1
        assert found.problems() == ["throughput-150: mezzenger: 1 messages lost"]
        found.workloads["throughput-150"]["mezzenger"].failure = "it ended"
        assert found.problems() == ["throughput-150: mezzenger: it ended"]

    def test_json_can_be_read_again(self) -> None:
        """What was written for a script is all there is."""
        found = results(mezzenger=300.0, nats=100.0)
        written = as_json(found)
        assert from_json(json.loads(json.dumps(written))) == found
        figures = written["workloads"]["throughput-150"]["nats"]["figures"]["per_second"]
        assert figures == {"median": 100.0, "low": 100.0, "high": 200.0, "mezzenger_ratio": 3.0}

    def test_percentiles(self) -> None:
        """Of a thousand and one echoes, in microseconds."""
        found = latencies([number / 1e6 for number in range(1001)])
        assert found == pytest.approx({"p50": 500.0, "p99": 990.0, "p999": 999.0})
        with pytest.raises(Failed):
            latencies([1.0])


class TestReport:
    def test_tables(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Medians, ranges, ratios, goals, and how to install what is missing, also for who has no terminal."""
        report.show(results(mezzenger=300.0, nats=100.0))
        printed = " ".join(capsys.readouterr().out.split())
        for text in ("nats-py 100 100 to 200 3.00 x 0", "at least 3 3.00 met", "apt-get install redis-server"):
            assert text in printed

    def test_the_page_is_replaced_between_its_marks(self, tmp_path: Path) -> None:
        """What people have written stays; the picture lies beside it."""
        file = tmp_path / "x.md"
        file.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n", "utf-8")
        for _ in range(2):
            page.write(results(mezzenger=300.0, nats=100.0), file)
        text = file.read_text("utf-8")
        assert (text[:7], text[-6:]) == ("before\n", "after\n")
        assert "old" not in text
        assert "| 3.00 x |" in text
        assert (tmp_path / "x.svg").read_text("utf-8").startswith("<svg")
        with pytest.raises(page.NoMarks):
            page.replaced("no marks", "part")

    def test_the_picture_has_each_peer(self) -> None:
        """A bar and a name for each."""
        drawn = picture.draw(results(mezzenger=300.0, nats=100.0))
        assert drawn.count('rx="2"') == 2
        assert ">nats-py</text>" in drawn


class TestPeers:
    def test_what_is_missing_is_named(self) -> None:
        """The command installs the extra for a module, and the package of the system for a program."""
        assert needs(["json"], []) is None
        assert needs(["no_such_module"]) == INSTALL_EXTRA
        assert needs(["no_such_module"], ["no-such-program"], "a-package") == (
            f"{INSTALL_EXTRA} && apt-get install a-package"
        )

    def test_a_peer_that_is_not_installed_is_skipped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The run goes on without it, and says how to install it."""
        monkeypatch.setattr(PEERS["redis"], "install_command", lambda: "apt-get install redis-server")
        said: list[str] = []
        found = Runner(1, 0.01, said.append).run([WORKLOADS["throughput-16"]], ["redis"])
        assert found.workloads == {}
        assert found.skipped == {"redis": "apt-get install redis-server"}
        assert said == ["redis is skipped; to install it: apt-get install redis-server"]

    def test_each_workload_has_mezzenger_and_known_peers(self) -> None:
        """Nothing is measured for others alone."""
        for workload in WORKLOADS.values():
            assert "mezzenger" in workload.peers
            assert set(workload.peers) <= set(PEERS)


def test_a_short_run(tmp_path: Path) -> None:
    """Our clients and raw pyzmq do every kind of work with a few messages; nothing is lost, and all is reported."""
    file = tmp_path / "result.json"
    only = {"throughput-150": "per_second", "echo-half": "load", "idle": "rss"}
    durable = {"durable-window": "per_second"}
    command = [sys.executable, "-m", "benchmarks", "--rounds", "2", "--seconds", "0.1", "--peers"]
    done = subprocess.run(
        [*command, "mezzenger,mezzenger-asyncio,raw", "--only", ",".join(only | durable), "--json", str(file)],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    assert found["skipped"] == {}
    assert list(found["workloads"]) == [*only, *durable]
    for workload, metric in (only | durable).items():
        peers = found["workloads"][workload]
        expected = {"mezzenger"} if workload in durable else {"mezzenger", "raw"}
        assert set(peers) == expected | ({"mezzenger-asyncio"} & set(WORKLOADS[workload].peers))
        for measured in peers.values():
            assert (measured["failure"], measured["lost"]) == (None, 0)
            assert len(measured["rounds"]) == 2
            assert all(one["values"][metric] > 0 and one["problem"] is None for one in measured["rounds"])
    for text in ("Throughput", "Latency of an echo", "Goals"):
        assert text in done.stdout


def test_a_peer_that_fails_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends at once costs its peer the workload; of Mezzenger, it fails the run."""

    def broken(*_: object, **__: object) -> object:
        raise Failed("the server ended")

    monkeypatch.setattr("benchmarks.runner.Session", broken)
    found = Runner(2, 0.01, lambda _text: None).run([WORKLOADS["throughput-16"]], ["mezzenger", "raw"])
    assert found.problems() == ["throughput-16: mezzenger: the server ended"]
    report.show(found)
