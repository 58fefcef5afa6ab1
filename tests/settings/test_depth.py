"""Sections within sections: the same holds for them, and is said about them, as for those at the top."""

import pytest

from mezzenger.errors import ConfigurationError
from mezzenger.server.server import MezzengerServer
from mezzenger.settings import ResendSettings, ServerSettings, Settings
from tests.settings.sources import DURATION_RULE, construct, problems_of_variables, problems_of_yaml, write


class TestSources:
    """Which value wins."""

    def test_each_source_sets_keys_of_its_own(self) -> None:
        """A source replaces the keys that it sets, and leaves the other keys of the section alone."""
        write("server:\n  resend:\n    initial: 2s\n    max: 5m\n    jitter: 0.5\n")
        environ = {"MEZZENGER_SERVER__RESEND__MAX": "6m", "MEZZENGER_SERVER__RESEND__JITTER": "0.6"}
        loaded = Settings.load(environ=environ, server={"resend": {"jitter": 0.7, "multiplier": None}})
        assert loaded.server.resend == ResendSettings(initial=2, max=360, jitter=0.7)

    def test_a_section_as_a_whole(self) -> None:
        """A section made in Python replaces all that was set of it."""
        write("server:\n  resend:\n    initial: 2s\n")
        loaded = Settings.load(environ={}, server={"resend": ResendSettings(max=90)})
        assert loaded.server.resend == ResendSettings(max=90)

    @pytest.mark.parametrize("text", ["server: {resend: }", "server: {resend: null}", "server: {resend: {}}"])
    def test_an_empty_section_is_fine(self, text: str) -> None:
        """A section may set nothing."""
        assert Settings.load(write(text), environ={}) == Settings()

    def test_from_config(self) -> None:
        """A server made from the file has what the file says, overridden key by key."""
        write("server:\n  resend: {initial: 2s, max: 5m}\nchannels:\n  jobs: {ttl: 1h}\n")
        server = MezzengerServer.from_config(resend={"initial": 3})
        assert server.settings.resend == ResendSettings(initial=3, max=300)
        assert server.channels["jobs"].ttl == 3600


class TestShape:
    """Files that are wrong before any value is looked at."""

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("server:\n  resend: 5\n", "2: server.resend: must hold keys with values"),
            ("server:\n  resend:\n    - initial\n", "3: server.resend: must hold keys with values"),
            ("server:\n  resend:\n    [max]: 5\n", "3: a key must be a word"),
            (
                "server:\n  resend:\n    max: 5m\n    jitter: 0\n    max: 6m\n",
                "5: server.resend.max: is set twice, first in line 3",
            ),
            ("server:\n  resend: {}\n  resend: {}\n", "3: server.resend: is set twice, first in line 2"),
            (
                "server:\n  resend:\n    max: !!int x\n",
                "3: is not valid YAML: invalid literal for int() with base 10: 'x'",
            ),
            ("server: &loop\n  resend: *loop\n", "2: server.resend.resend: unknown key"),
        ],
    )
    def test_yaml_of_the_wrong_shape(self, text: str, problem: str) -> None:
        """The line is that of the mistake, the key is written in full; a section that holds itself ends nowhere."""
        assert problems_of_yaml(text) == [f"mezzenger.yaml:{problem}"]


class TestProblems:
    """Values and keys that are wrong."""

    @pytest.mark.parametrize(
        ("setting", "problem"),
        [
            ("initial: soon", f"initial: {DURATION_RULE} (got soon)"),
            ("initial: 0", "initial: must be more than 0 (got 0)"),
            ("multiplier: yes", "multiplier: must be a number (got true)"),
            ("max: -1s", "max: must not be negative (got -1s)"),
            ("jitter: 1.5", "jitter: must be at most 1 (got 1.5)"),
            ("jitter: -0.1", "jitter: must be at least 0 (got -0.1)"),
            ("jitter: .nan", "jitter: must be a finite number (got NaN)"),
            ("max_attempts: 0", "max_attempts: must be at least 1 (got 0)"),
            ("max_attempts: on", "max_attempts: must be a number (got true)"),
            ("max_attempts: null", "max_attempts: must be a whole number (got null)"),
            ("initail: 1s", "initail: unknown key; did you mean initial?"),
            ("colour: red", "colour: unknown key"),
            ("a b: red", "'a b': unknown key"),
            (f"{'x.' * 99}: 5", f"'{'x.' * 30}...': unknown key"),
        ],
    )
    def test_a_section_in_a_section(self, setting: str, problem: str) -> None:
        """A mistake in ``server.resend`` is told with its line and its full key."""
        text = f"server:\n  credit: 5\n  resend:\n\n    {setting}\n"
        assert problems_of_yaml(text) == [f"mezzenger.yaml:5: server.resend.{problem}"]

    @pytest.mark.parametrize(
        ("setting", "problem"),
        [
            ("max_pending: 0", "max_pending: must be at least 1 (got 0)"),
            ("max_pending: yes", "max_pending: must be a number (got true)"),
            ("overflow: wait", "overflow: must be 'reject', 'drop_oldest', 'dead_letter' or 'block' (got wait)"),
            ("max_dead_letters: -1", "max_dead_letters: must be at least 0 (got -1)"),
            ("max_names: 0", "max_names: must be at least 1 (got 0)"),
            ("max_peers: 0", "max_peers: must be at least 1 (got 0)"),
            ("send_queue_size: 1kB", "send_queue_size: must be at least 65536 (got 1000)"),
            ("resend_initial: 1s", "resend_initial: unknown key; did you mean resend.initial?"),
            ("resend_multiplier: 2", "resend_multiplier: unknown key; did you mean resend.multiplier?"),
            ("resend_max: 60s", "resend_max: unknown key; did you mean resend.max?"),
            ("max_attempts: 5", "max_attempts: unknown key; did you mean resend.max_attempts?"),
        ],
    )
    def test_the_server(self, setting: str, problem: str) -> None:
        """A limit that cannot be kept is refused, and an old flat key is answered with the new one."""
        assert problems_of_yaml(f"server:\n  {setting}\n") == [f"mezzenger.yaml:2: server.{problem}"]

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("resend: {max: 5}", "resend: unknown key; did you mean server.resend?"),
            ("resend_max: 60s", "resend_max: unknown key; did you mean server.resend.max?"),
            ("chanels: {}", "chanels: unknown key; did you mean channels?"),
        ],
    )
    def test_a_section_was_forgotten(self, text: str, problem: str) -> None:
        """A key that belongs further down is answered with its full path."""
        assert problems_of_yaml(text) == [f"mezzenger.yaml:1: {problem}"]

    def test_the_variable_is_named(self) -> None:
        """A mistake in the environment names the variable, and the key as far as there is one."""
        assert problems_of_variables(
            SERVER__RESEND__INITIAL="0",
            SERVER__RESEND__MAX__X="1",
            SERVER__RESEND_MAX="1",
            SERVER__RSEND__MAX="1",
        ) == [
            "environment MEZZENGER_SERVER__RESEND__INITIAL: server.resend.initial: must be more than 0 (got 0)",
            "environment MEZZENGER_SERVER__RESEND__MAX__X: server.resend.max__x: unknown key; did you mean max?",
            "environment MEZZENGER_SERVER__RESEND_MAX: server.resend_max: unknown key; did you mean resend.max?",
            "environment MEZZENGER_SERVER__RSEND__MAX: server.rsend: unknown key; did you mean resend?",
        ]

    def test_a_variable_cannot_be_a_section(self) -> None:
        """Text where a section stands is refused, also if its keys are set as well."""
        assert problems_of_variables(SERVER__RESEND="5", SERVER__RESEND__MAX="60s") == [
            "environment MEZZENGER_SERVER__RESEND: server.resend: must hold keys with values (got 5)"
        ]

    def test_each_problem_has_its_own_source(self) -> None:
        """Within one section each key remembers who set it."""
        write("server:\n  resend:\n    jitter: 2\n    max_attempts: 0\n")
        with pytest.raises(ConfigurationError) as caught:
            Settings.load(environ={"MEZZENGER_SERVER__RESEND__JITTER": "3"}, server={"resend": {"initial": 0}})
        assert caught.value.problems == [
            "argument: server.resend.initial: must be more than 0 (got 0)",
            "environment MEZZENGER_SERVER__RESEND__JITTER: server.resend.jitter: must be at most 1 (got 3)",
            "mezzenger.yaml:4: server.resend.max_attempts: must be at least 1 (got 0)",
        ]

    def test_constructors_name_the_full_key(self) -> None:
        """Whether the section or what holds it is constructed, the error is the same."""
        for values in ({"resend": {"initial": 120}}, {"initial": 120}):
            with pytest.raises(ConfigurationError) as caught:
                construct(ServerSettings if "resend" in values else ResendSettings, **values)
            assert caught.value.problems == [
                "argument: server.resend.initial: max must be at least initial (got 60 and 120)"
            ]
