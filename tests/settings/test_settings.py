"""Settings: where they come from, which of them wins, and what is said when one is wrong."""

from pathlib import Path

import pytest
import yaml

from mezzenger.errors import ConfigurationError
from mezzenger.settings import (
    ChannelResendSettings,
    ChannelSettings,
    ClientSettings,
    ResendSettings,
    ServerSettings,
    Settings,
)
from tests.settings.sources import (
    DURATION_RULE,
    HOST_RULE,
    SIZE_RULE,
    construct,
    problems_of_variables,
    problems_of_yaml,
    write,
)


class TestSources:
    """Which value wins."""

    def test_defaults(self) -> None:
        """Without any source every setting has its default."""
        assert Settings.load(environ={}) == Settings(server=ServerSettings(), client=ClientSettings())

    def test_yaml_wins_over_defaults(self) -> None:
        """What the file sets replaces the default, and nothing else changes."""
        loaded = Settings.load(write("server:\n  pub_port: 7301\n"), environ={})
        assert loaded == Settings(server=ServerSettings(pub_port=7301))

    def test_environment_wins_over_yaml(self) -> None:
        """A variable replaces what the file sets, and leaves the file's other keys alone."""
        write("server:\n  pub_port: 7301\n  recv_port: 7302\n")
        loaded = Settings.load(environ={"MEZZENGER_SERVER__PUB_PORT": "7401"})
        assert (loaded.server.pub_port, loaded.server.recv_port) == (7401, 7302)

    def test_arguments_win_over_all(self) -> None:
        """An argument replaces what file and environment set."""
        write("server: {pub_port: 7301}\nclient: {window: 3}\n")
        environ = {"MEZZENGER_SERVER__PUB_PORT": "7401", "MEZZENGER_CLIENT__WINDOW": "4"}
        loaded = Settings.load(environ=environ, server={"pub_port": 7501}, client={"window": 5})
        assert (loaded.server.pub_port, loaded.client.window) == (7501, 5)

    def test_an_argument_that_is_none_was_not_given(self) -> None:
        """Options that were left out on the command line hide nothing."""
        write("server: {pub_port: 7301}\n")
        assert Settings.load(environ={}, server={"pub_port": None}).server.pub_port == 7301

    def test_a_value_that_is_replaced_does_no_harm(self) -> None:
        """Only the value that wins is checked."""
        write("server: {pub_port: 99999}\n")
        assert Settings.load(environ={"MEZZENGER_SERVER__PUB_PORT": "7401"}).server.pub_port == 7401

    def test_the_process_environment_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without ``environ`` the variables of this process count."""
        monkeypatch.setenv("MEZZENGER_CLIENT__SERVER_ADDRESS", "10.0.0.5")
        assert Settings.load().client.server_address == "10.0.0.5"

    @pytest.mark.parametrize(
        ("name", "written", "value"),
        [
            ("SERVER__VERBOSE", "true", ServerSettings(verbose=True)),
            ("SERVER__PERSIST_FILE", "a/b.db", ServerSettings(persist_file=Path("a/b.db"))),
            ("SERVER__MAX_MESSAGE_SIZE", "1MiB", ServerSettings(max_message_size=2**20)),
            ("SERVER__RESEND__MULTIPLIER", "1.5", ServerSettings(resend=ResendSettings(multiplier=1.5))),
            ("SERVER__DRAIN_TIMEOUT", "2m", ServerSettings(drain_timeout=120)),
        ],
    )
    def test_variables_are_text(self, name: str, written: str, value: ServerSettings) -> None:
        """A variable's text becomes a value of the setting's type."""
        assert Settings.load(environ={f"MEZZENGER_{name}": written}).server == value

    @pytest.mark.parametrize(
        "name",
        [
            "MEZZENGER_SERVER",
            "MEZZENGER_SERVER_PORT",
            "MEZZENGER_SERVER_PORT_7201_TCP_PORT",
            "MEZZENGER_SERVER_SERVICE_PORT_PUB",
            "MEZZENGER_CHANNELS",
            "MEZZENGER___X",
            "SERVER_PUB_PORT",
            "SERVER__PUB_PORT",
            "XMEZZENGER_SERVER__X",
        ],
    )
    def test_other_variables_are_not_ours(self, name: str) -> None:
        """Only MEZZENGER_SECTION__KEY is read; orchestrators set others that look similar."""
        assert Settings.load(environ={name: "99999"}) == Settings()

    def test_a_link_to_a_service_is_not_ours(self) -> None:
        """An orchestrator sets this one if there is a service named mezzenger-server-pub."""
        assert Settings.load(environ={"MEZZENGER_SERVER_PUB_PORT": "tcp://10.0.0.5:7201"}) == Settings()

    def test_empty_text_takes_the_persist_file_back(self) -> None:
        """An argument or a variable can undo what the file sets, though neither can be null."""
        write("server: {persist_file: a.db}\n")
        assert Settings.load(environ={}).server.persist_file == Path("a.db")
        assert Settings.load(environ={"MEZZENGER_SERVER__PERSIST_FILE": ""}).server.persist_file is None
        assert Settings.load(environ={}, server={"persist_file": ""}).server.persist_file is None

    @pytest.mark.parametrize(
        "text", ["", "# nothing\n", "null\n", "{}\n", "server:\n", "server:\nclient: {}\n", "\ufeff"]
    )
    def test_an_empty_file_is_fine(self, text: str) -> None:
        """A file, or a section, may set nothing."""
        assert Settings.load(write(text), environ={}) == Settings()

    def test_aliases_are_followed(self) -> None:
        """YAML's anchors may repeat a value."""
        loaded = Settings.load(
            write("server: {heartbeat_timeout: &t 9s}\nclient: {heartbeat_timeout: *t}\n"), environ={}
        )
        assert loaded.client.heartbeat_timeout == 9


class TestMerging:
    """YAML's key ``<<``, by which a mapping takes what another one has."""

    def test_what_is_lacking_is_taken(self) -> None:
        """A key of one's own wins, whichever of both comes first; a section is replaced as a whole."""
        loaded = Settings.load(
            write(
                "channels:\n"
                "  a: &a {ttl: 1h, delay: 1s, resend: {initial: 2s, max: 9s}}\n"
                "  b:\n    ttl: 5s\n    <<: *a\n    resend: {initial: 3s}\n"
            ),
            environ={},
        )
        assert loaded.channels["b"] == ChannelSettings(ttl=5, delay=1, resend=ChannelResendSettings(initial=3))

    def test_several(self) -> None:
        """Of several the first wins, and what that has taken itself counts as its own."""
        loaded = Settings.load(
            write(
                "channels:\n"
                "  a: &a {ttl: 1, max_pending: 1}\n"
                "  b: &b {<<: *a, delay: 2}\n"
                "  c: &c {ttl: 3, delay: 3, retain: last}\n"
                "  d: {<<: [*b, *c]}\n"
            ),
            environ={},
        )
        assert loaded.channels["d"] == ChannelSettings(ttl=1, max_pending=1, delay=2, retain="last")

    def test_sections_and_channels(self) -> None:
        """It may stand in any mapping; of channels one's own come first."""
        loaded = Settings.load(
            write(
                "server: &s {heartbeat_interval: 2s, heartbeat_timeout: 9s}\n"
                "client: {<<: *s, window: 3}\n"
                "channels:\n  <<: &c {b: {ttl: 2}, a: {ttl: 2}}\n  a: {ttl: 1}\n"
            ),
            environ={},
        )
        assert loaded.client == ClientSettings(heartbeat_interval=2, heartbeat_timeout=9, window=3)
        assert [(name, channel.ttl) for name, channel in loaded.channels.items()] == [("a", 1), ("b", 2)]

    def test_nothing(self) -> None:
        """A mapping may take nothing, or even itself."""
        assert Settings.load(write("server: &s {<<: *s, credit: 1, <<: }\n"), environ={}).server.credit == 1

    def test_in_quotes_it_is_a_key(self) -> None:
        """Who wants a name that is written that way puts it in quotes."""
        assert list(Settings.load(write("channels: {'<<': {ttl: 1}}\n"), environ={}).channels) == ["<<"]

    def test_a_mistake_has_the_line_where_it_is_written(self) -> None:
        """That is not the line of the mapping that takes it."""
        assert problems_of_yaml("channels:\n  a: &a\n    ttl: -1\n    tl: 5\n  b:\n    <<: *a\n    delay: x\n") == [
            "mezzenger.yaml:3: channels.a.ttl: must not be negative (got -1)",
            "mezzenger.yaml:4: channels.a.tl: unknown key; did you mean ttl?",
            "mezzenger.yaml:3: channels.b.ttl: must not be negative (got -1)",
            f"mezzenger.yaml:7: channels.b.delay: {DURATION_RULE} (got x)",
            "mezzenger.yaml:4: channels.b.tl: unknown key; did you mean ttl?",
        ]

    def test_what_cannot_be_taken(self) -> None:
        """Only a mapping has keys."""
        assert problems_of_yaml("server:\n  <<: 5\nclient:\n  <<: [{}, []]\n") == [
            "mezzenger.yaml:2: server: must hold keys with values",
            "mezzenger.yaml:4: client: must hold keys with values",
        ]


class TestFiles:
    """Which file is read."""

    def test_the_argument_comes_first(self) -> None:
        """A named file is the only one that is read."""
        write("client: {window: 1}\n", "mine.yaml")
        write("client: {window: 2}\n", "variable.yaml")
        write("client: {window: 3}\n")
        assert Settings.load("mine.yaml", environ={"MEZZENGER_CONFIG": "variable.yaml"}).client.window == 1

    def test_then_the_variable(self) -> None:
        """``$MEZZENGER_CONFIG`` comes before the usual places."""
        write("client: {window: 2}\n", "variable.yaml")
        write("client: {window: 3}\n")
        assert Settings.load(environ={"MEZZENGER_CONFIG": "variable.yaml"}).client.window == 2

    def test_then_the_usual_places_in_order(
        self, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The working folder comes before the home, the home before the machine, all before the defaults."""
        machine = tmp_path / "machine.yaml"
        monkeypatch.setattr(
            "mezzenger.settings.sources._PLACES", ("mezzenger.yaml", "~/.config/mezzenger/mezzenger.yaml", str(machine))
        )
        home = tmp_path / "home" / ".config" / "mezzenger" / "mezzenger.yaml"
        home.parent.mkdir(parents=True)
        places = [folder / "mezzenger.yaml", home, machine]
        for number, place in enumerate(places, 1):
            place.write_text(f"client: {{window: {number}}}\n", "utf-8")
        found = []
        for place in places:
            found.append(Settings.load(environ={}).client.window)
            place.unlink()
        assert found == [1, 2, 3]
        assert Settings.load(environ={}) == Settings()

    def test_which_one_it_is(self, tmp_path: Path) -> None:
        """Who asks is told the file that is read, with its folder; None if there is none."""
        assert Settings.find_file(environ={}) is None
        write("")
        assert Settings.find_file(environ={}) == Path.cwd() / "mezzenger.yaml"
        variable = tmp_path / "variable.yaml"
        assert Settings.find_file(environ={"MEZZENGER_CONFIG": str(variable)}) == variable
        assert Settings.find_file("mine.yaml", environ={"MEZZENGER_CONFIG": str(variable)}) == Path.cwd() / "mine.yaml"

    def test_an_empty_variable_names_no_file(self) -> None:
        """``MEZZENGER_CONFIG=`` is the same as not setting it."""
        write("client: {window: 3}\n")
        assert Settings.load(environ={"MEZZENGER_CONFIG": ""}).client.window == 3

    def test_a_named_file_must_exist(self) -> None:
        """A file that is named and missing is an error, never the defaults."""
        with pytest.raises(ConfigurationError) as caught:
            Settings.load("nowhere.yaml", environ={})
        assert caught.value.problems == ["nowhere.yaml: cannot be read: No such file or directory"]

    @pytest.mark.parametrize(
        ("file", "problem"),
        [
            ("", "the name of the settings file is empty"),
            ("a\0b", "a\0b: cannot be read: embedded null byte"),
        ],
    )
    def test_a_name_must_be_one(self, file: str, problem: str) -> None:
        """What no file can be called is refused like a file that is missing."""
        with pytest.raises(ConfigurationError) as caught:
            Settings.load(file, environ={})
        assert caught.value.problems == [problem]

    def test_a_file_of_the_variable_must_exist(self) -> None:
        """The same for the variable, and the error says who named the file."""
        assert problems_of_variables(CONFIG="nowhere.yaml") == [
            "environment MEZZENGER_CONFIG: nowhere.yaml: cannot be read: No such file or directory"
        ]

    def test_what_is_found_must_be_readable(self) -> None:
        """A file in a usual place that cannot be read is not passed over."""
        Path("mezzenger.yaml").mkdir()
        with pytest.raises(ConfigurationError, match=r"^mezzenger\.yaml: cannot be read: "):
            Settings.load(environ={})

    def test_a_file_is_utf8(self) -> None:
        """Bytes that are not UTF-8 are refused."""
        Path("mezzenger.yaml").write_bytes(b"server: {bind: \xff}\n")
        with pytest.raises(ConfigurationError) as caught:
            Settings.load(environ={})
        assert caught.value.problems == ["mezzenger.yaml: is not UTF-8 text"]


class TestYaml:
    """Files that are wrong before any value is looked at."""

    @pytest.mark.parametrize(
        ("text", "line", "reason"),
        [
            (
                "server:\n  bind: [a\n\n",
                4,
                "while parsing a flow sequence, expected ',' or ']', but got '<stream end>'",
            ),
            ("\nserver: b: c\n", 2, "mapping values are not allowed here"),
            ("server:\n  bind: a\0b\n", 2, "unacceptable character #x0000: special characters are not allowed"),
            ("--- {}\n--- {}\n", 2, "expected a single document in the stream, but found another document"),
            ("server:\n  bind: !env X\n", 2, "could not determine a constructor for the tag '!env'"),
            ("server:\n  credit: !!int x\n", 2, "invalid literal for int() with base 10: 'x'"),
            ("server:\n  credit: !!int ''\n", 2, "a value does not fit its tag"),
            ("server:\n  drain_timeout: !!float ''\n", 2, "a value does not fit its tag"),
            ("server:\n  verbose: !!bool maybe\n", 2, "a value does not fit its tag"),
            ("server:\n  bind: !!timestamp foo\n", 2, "a value does not fit its tag"),
            (f"server:\n  bind: {'[' * 3000}\n", 2, "it is nested too deeply"),
        ],
    )
    def test_text_that_is_no_yaml(self, text: str, line: int, reason: str) -> None:
        """What the YAML parser cannot read is told in one line, with the parser's reason."""
        assert problems_of_yaml(text) == [f"mezzenger.yaml:{line}: is not valid YAML: {reason}"]

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("- server\n", "mezzenger.yaml:1: must hold sections, such as server: and client:"),
            ("\nserver\n", "mezzenger.yaml:2: must hold sections, such as server: and client:"),
            ("server: 5\n", "mezzenger.yaml:1: server: must hold keys with values"),
            ("client:\n  - window\n", "mezzenger.yaml:2: client: must hold keys with values"),
            ("[server]: {}\n", "mezzenger.yaml:1: a key must be a word"),
            ("server:\n  ? {a: b}\n  : 1\n", "mezzenger.yaml:2: a key must be a word"),
            (
                "server:\n  credit: 1\n  window: 2\n  credit: 3\n",
                "mezzenger.yaml:4: server.credit: is set twice, first in line 2",
            ),
            ("server: {}\nclient: {}\nserver: {}\n", "mezzenger.yaml:3: server: is set twice, first in line 1"),
        ],
    )
    def test_yaml_of_the_wrong_shape(self, text: str, problem: str) -> None:
        """A file holds sections, a section holds keys, and each of them once."""
        assert problems_of_yaml(text) == [problem]

    def test_a_value_of_many_lists(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What can be parsed, and is too deep to become a value, is refused with its line, too."""

        def fail(_loader: object, _node: object) -> None:
            raise RecursionError

        monkeypatch.setattr(yaml.SafeLoader, "construct_document", fail)
        assert problems_of_yaml("server:\n  bind: [[]]\n") == [
            "mezzenger.yaml:2: is not valid YAML: it is nested too deeply"
        ]

    def test_all_are_told(self) -> None:
        """A second mistake in the shape of a file does not wait for the repair of the first."""
        assert problems_of_yaml("server: 5\nclient: {window: 1, window: 2}\n") == [
            "mezzenger.yaml:1: server: must hold keys with values",
            "mezzenger.yaml:2: client.window: is set twice, first in line 2",
        ]


class TestProblems:
    """Values and keys that are wrong."""

    @pytest.mark.parametrize(
        ("setting", "problem"),
        [
            ("server: {pub_port: 99999}", "server.pub_port: must be at most 65535 (got 99999)"),
            ("server: {pub_port: -1}", "server.pub_port: must be at least 0 (got -1)"),
            ("server: {pub_port: eighty}", "server.pub_port: must be a whole number (got eighty)"),
            ("server: {pub_port: 80.5}", "server.pub_port: must be a whole number (got 80.5)"),
            ("server: {pub_port: null}", "server.pub_port: must be a whole number (got null)"),
            ("server: {pub_port: [1]}", "server.pub_port: must be a whole number (got a list)"),
            ("server: {pub_port: {a: 1}}", "server.pub_port: must be a whole number (got a dict)"),
            ("server: {pub_port: yes}", "server.pub_port: must be a number (got true)"),
            ("server: {pub_port: ''}", "server.pub_port: must be a whole number (got '')"),
            ("server: {pub_port: 72 01}", "server.pub_port: must be a whole number (got '72 01')"),
            (f"server: {{pub_port: {'x' * 99}}}", f"server.pub_port: must be a whole number (got {'x' * 60}...)"),
            ("server: {send_queue: 0}", "server.send_queue: must be at least 1 (got 0)"),
            ("server: {credit: 0}", "server.credit: must be at least 1 (got 0)"),
            ("server: {verbose: maybe}", "server.verbose: must be true or false (got maybe)"),
            ("server: {verbose: []}", "server.verbose: must be true or false (got a list)"),
            ("server: {persist_file: 5}", "server.persist_file: must be a path (got 5)"),
            ("server: {bind: 5}", "server.bind: must be text (got 5)"),
            ("server: {bind: ''}", f"server.bind: {HOST_RULE} (got '')"),
            ("server: {max_message_size: 1KiB}", "server.max_message_size: must be at least 65536 (got 1024)"),
            (
                "server: {max_message_size: 2GiB}",
                "server.max_message_size: must be at most 1073741824 (got 2147483648)",
            ),
            ("server: {max_message_size: 64M}", f"server.max_message_size: {SIZE_RULE} (got 64M)"),
            ("server: {resend: {multiplier: 0.5}}", "server.resend.multiplier: must be at least 1 (got 0.5)"),
            ("server: {resend: {multiplier: x}}", "server.resend.multiplier: must be a number (got x)"),
            ("server: {resend: {multiplier: []}}", "server.resend.multiplier: must be a number (got a list)"),
            (
                "server: {resend: {multiplier: .inf}}",
                "server.resend.multiplier: must be a finite number (got Infinity)",
            ),
            ("server: {resend: {initial: 0}}", "server.resend.initial: must be more than 0 (got 0)"),
            ("server: {heartbeat_interval: 0s}", "server.heartbeat_interval: must be more than 0 (got 0)"),
            ("server: {drain_timeout: -1s}", "server.drain_timeout: must not be negative (got -1s)"),
            ("server: {drain_timeout: .nan}", "server.drain_timeout: must be a finite number (got NaN)"),
            ("server: {drain_timeout: on}", "server.drain_timeout: must be a number (got true)"),
            ("server: {drain_timeout: 2 weeks}", f"server.drain_timeout: {DURATION_RULE} (got '2 weeks')"),
            ("server: {drain_timeout: 2020-01-01}", f"server.drain_timeout: {DURATION_RULE} (got a date)"),
            ("client: {send_port: 0}", "client.send_port: must be at least 1 (got 0)"),
            ("client: {sub_port: 65536}", "client.sub_port: must be at most 65535 (got 65536)"),
            ("client: {send_timeout: 0}", "client.send_timeout: must be more than 0 (got 0)"),
            ("client: {connection_retries: -1}", "client.connection_retries: must be at least 0 (got -1)"),
            ("client: {codec: xml}", "client.codec: must be 'pickle', 'msgpack', 'json' or 'raw' (got xml)"),
            ("client: {allow_pickle: no}", "client.allow_pickle: must be 'loopback', 'always' or 'never' (got false)"),
            ("client: {window: 0}", "client.window: must be at least 1 (got 0)"),
            ("client: {receive_queue: 0}", "client.receive_queue: must be at least 1 (got 0)"),
            ("client: {reconnect_min: 0}", "client.reconnect_min: must be more than 0 (got 0)"),
            # Else ZeroMQ would fail on them, without a word of which setting it is.
            ("server: {send_queue: 10000000000}", "server.send_queue: must be at most 2147483647 (got 10000000000)"),
            ("server: {credit: 1073741824}", "server.credit: must be at most 1000000000 (got 1073741824)"),
            (
                "client: {receive_queue: 2147483648}",
                "client.receive_queue: must be at most 2147483647 (got 2147483648)",
            ),
            ("client: {send_timeout: 30d}", "client.send_timeout: must be at most 1728000 (got 2592000)"),
            ("client: {send_timeout: 1.0e+308}", "client.send_timeout: must be at most 1728000 (got 1e+308)"),
            (
                "client: {heartbeat_interval: 21d, heartbeat_timeout: 9s}",
                "client.heartbeat_interval: must be at most 1728000 (got 1814400)",
            ),
            ("client: {heartbeat_timeout: 30d}", "client.heartbeat_timeout: must be at most 1728000 (got 2592000)"),
            (
                "server: {heartbeat_interval: 21d, heartbeat_timeout: 9s}",
                "server.heartbeat_interval: must be at most 1728000 (got 1814400)",
            ),
            ("server: {heartbeat_timeout: 30d}", "server.heartbeat_timeout: must be at most 1728000 (got 2592000)"),
            (
                f"client: {{connection_retries: 1{'0' * 18}}}",
                f"client.connection_retries: must be at most 1000000000 (got 1{'0' * 18})",
            ),
        ],
    )
    def test_a_value_is_refused(self, setting: str, problem: str) -> None:
        """A value that cannot be is refused in plain words, with its place and what was given."""
        assert problems_of_yaml(f"\n{setting}\n") == [f"mezzenger.yaml:2: {problem}"]

    @pytest.mark.parametrize(
        ("setting", "problem"),
        [
            ("server: {pubport: 1}", "server.pubport: unknown key; did you mean pub_port?"),
            ("server: {color: red}", "server.color: unknown key"),
            ("server: {5: 5}", "server.5: unknown key"),
            ("sever: {pub_port: 99999}", "sever: unknown key; did you mean server?"),
            ("sever: 5", "sever: unknown key; did you mean server?"),
            ("sever:", "sever: unknown key; did you mean server?"),
            ("logging: {level: info}", "logging: unknown key"),
            ("recv_port: 7202", "recv_port: unknown key; did you mean server.recv_port?"),
        ],
    )
    def test_a_key_is_unknown(self, setting: str, problem: str) -> None:
        """A misspelt key or section is an error, with the key that was probably meant."""
        assert problems_of_yaml(f"\n{setting}\n") == [f"mezzenger.yaml:2: {problem}"]

    def test_each_problem_has_its_line(self) -> None:
        """All problems of a file are told at once."""
        text = "server:\n  pub_port: x\n  pubport: 1\n\nclient:\n  window: 0\n"
        assert problems_of_yaml(text) == [
            "mezzenger.yaml:2: server.pub_port: must be a whole number (got x)",
            "mezzenger.yaml:3: server.pubport: unknown key; did you mean pub_port?",
            "mezzenger.yaml:6: client.window: must be at least 1 (got 0)",
        ]

    def test_the_variable_is_named(self) -> None:
        """A mistake in the environment names the variable."""
        assert problems_of_variables(
            SERVER__PUB_PORT="99999", SERVER__PUBPORT="1", SEVER__PUB_PORT="1", CLIENT__CODEC=""
        ) == [
            "environment MEZZENGER_SERVER__PUB_PORT: server.pub_port: must be at most 65535 (got 99999)",
            "environment MEZZENGER_SERVER__PUBPORT: server.pubport: unknown key; did you mean pub_port?",
            "environment MEZZENGER_CLIENT__CODEC: client.codec: must be 'pickle', 'msgpack', 'json' or 'raw' (got '')",
            "environment MEZZENGER_SEVER__PUB_PORT: sever: unknown key; did you mean server?",
        ]

    def test_one_underscore_where_two_are_meant(self) -> None:
        """A variable that would not be read for that is refused, and the right one is named."""
        assert problems_of_variables(
            SERVER_PUB_PORT="7301",
            SERVER_RESEND_MAX_ATTEMPTS="3",
            SERVER_PERSISTFILE="a.db",
            CLIENT_SERVER_ADDRESS="10.0.0.5",
        ) == [
            f"environment MEZZENGER_{name}: unknown variable; did you mean MEZZENGER_{meant}, with two underscores?"
            for name, meant in (
                ("SERVER_PUB_PORT", "SERVER__PUB_PORT"),
                ("SERVER_RESEND_MAX_ATTEMPTS", "SERVER__RESEND__MAX_ATTEMPTS"),
                ("SERVER_PERSISTFILE", "SERVER__PERSIST_FILE"),
                ("CLIENT_SERVER_ADDRESS", "CLIENT__SERVER_ADDRESS"),
            )
        ]

    def test_an_argument_is_named(self) -> None:
        """A mistake in an argument says so."""
        with pytest.raises(ConfigurationError) as caught:
            Settings.load(environ={}, server={"pub_port": 99999}, client={"windw": 1})
        assert caught.value.problems == [
            "argument: server.pub_port: must be at most 65535 (got 99999)",
            "argument: client.windw: unknown key; did you mean window?",
        ]

    def test_each_problem_has_its_own_source(self) -> None:
        """Sources may be mixed, and each problem names the one it came from."""
        write("server: {credit: 0, pub_port: x}\n")
        with pytest.raises(ConfigurationError) as caught:
            Settings.load(environ={"MEZZENGER_SERVER__PUB_PORT": "y"}, server={"send_queue": 0})
        assert caught.value.problems == [
            "environment MEZZENGER_SERVER__PUB_PORT: server.pub_port: must be a whole number (got y)",
            "argument: server.send_queue: must be at least 1 (got 0)",
            "mezzenger.yaml:1: server.credit: must be at least 1 (got 0)",
        ]


class TestContradictions:
    """Values that are fine alone and wrong together."""

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            (
                "server:\n  pub_port: 5\n  recv_port: 5\n",
                "3: server.recv_port: must differ from pub_port (got 5 and 5)",
            ),
            (
                "server:\n  pub_port: 7202\n",
                "2: server.pub_port: recv_port must differ from pub_port (got 7202 and 7202)",
            ),
            (
                "client:\n  sub_port: 7202\n",
                "2: client.sub_port: must differ from send_port (got 7202 and 7202)",
            ),
            (
                "server:\n  resend:\n    initial: 2m\n",
                "3: server.resend.initial: max must be at least initial (got 60 and 120)",
            ),
            (
                "server:\n  resend:\n    initial: 1s\n\n    max: 500ms\n",
                "5: server.resend.max: must be at least initial (got 0.5 and 1)",
            ),
            (
                "server:\n  heartbeat_timeout: 1s\n",
                "2: server.heartbeat_timeout: must be more than heartbeat_interval (got 1 and 1)",
            ),
            (
                "client:\n  heartbeat_interval: 3s\n",
                "2: client.heartbeat_interval: heartbeat_timeout must be more than heartbeat_interval (got 3 and 3)",
            ),
            (
                "client:\n  reconnect_min: 1s\n  reconnect_max: 500ms\n",
                "3: client.reconnect_max: must be at least reconnect_min (got 0.5 and 1)",
            ),
        ],
    )
    def test_a_contradiction_is_refused(self, text: str, problem: str) -> None:
        """The line that is named is one of the file, also if the other value is a default."""
        assert problems_of_yaml(text) == [f"mezzenger.yaml:{problem}"]

    def test_across_sources(self) -> None:
        """Two sources can contradict each other."""
        write("server: {pub_port: 7301}\n")
        assert problems_of_variables(SERVER__RECV_PORT="7301") == [
            "environment MEZZENGER_SERVER__RECV_PORT: server.recv_port: must differ from pub_port (got 7301 and 7301)"
        ]

    def test_any_free_port_twice(self) -> None:
        """Two ports that the system chooses do not collide."""
        assert ServerSettings(pub_port=0, recv_port=0).recv_port == 0

    def test_equal_limits(self) -> None:
        """The longest pause may be the first one."""
        assert ResendSettings(initial=5, max=5).max == 5
        assert ClientSettings(reconnect_min=5, reconnect_max=5).reconnect_max == 5

    def test_nothing_is_compared_with_a_wrong_value(self) -> None:
        """A value that is wrong by itself causes one problem, not two."""
        assert problems_of_yaml("server: {heartbeat_interval: x, heartbeat_timeout: 1s}\n") == [
            f"mezzenger.yaml:1: server.heartbeat_interval: {DURATION_RULE} (got x)"
        ]


class TestHosts:
    """Addresses of the server."""

    @pytest.mark.parametrize(
        "host", ["localhost", "10.0.0.5", "broker.example.org", "::1", "fe80::1%eth0", "0.0.0.0", "my_host", "*"]
    )
    def test_a_host_is_taken(self, host: str) -> None:
        """Names and addresses of both kinds are taken as they are."""
        assert ClientSettings(server_address=host).server_address == host
        assert ServerSettings(bind=host).bind == host

    @pytest.mark.parametrize(
        ("host", "shown"),
        [
            ("", "''"),
            (" ", "' '"),
            ("a b", "'a b'"),
            ("a\n", r"'a\n'"),
            ("tcp://10.0.0.5", "tcp://10.0.0.5"),
            ("10.0.0.5:7202", "10.0.0.5:7202"),
            ("tcp://10.0.0.5:7202", "tcp://10.0.0.5:7202"),
            ("[::1]", "[::1]"),
            ("[::1]:7202", "[::1]:7202"),
            ("a/b", "a/b"),
        ],
    )
    def test_what_is_more_than_a_host_is_refused(self, host: str, shown: str) -> None:
        """A scheme or a port belongs elsewhere, and the error shows how to write an address."""
        with pytest.raises(ConfigurationError) as caught:
            ClientSettings(server_address=host)
        assert caught.value.problems == [f"argument: client.server_address: {HOST_RULE} (got {shown})"]


class TestConstruction:
    """Settings made in Python, without any source."""

    def test_a_number_of_many_digits(self) -> None:
        """It is refused like any other, though Python writes no number of so many."""
        with pytest.raises(ConfigurationError) as caught:
            ServerSettings(pub_port=10**5000)
        assert str(caught.value).endswith(" (got a number of more than 60 digits)")

    def test_a_wrong_value(self) -> None:
        """The constructor raises our error, not pydantic's."""
        with pytest.raises(ConfigurationError) as caught:
            ServerSettings(pub_port=99999)
        assert str(caught.value) == "argument: server.pub_port: must be at most 65535 (got 99999)"

    def test_an_unknown_key(self) -> None:
        """A misspelt argument is answered with the right one."""
        with pytest.raises(ConfigurationError) as caught:
            construct(ClientSettings, windw=1)
        assert caught.value.problems == ["argument: client.windw: unknown key; did you mean window?"]

    def test_contradicting_arguments(self) -> None:
        """A contradiction names an argument that was given."""
        with pytest.raises(ConfigurationError) as both:
            ServerSettings(pub_port=5, recv_port=5)
        with pytest.raises(ConfigurationError) as one:
            ServerSettings(pub_port=7202)
        assert both.value.problems == ["argument: server.recv_port: must differ from pub_port (got 5 and 5)"]
        assert one.value.problems == [
            "argument: server.pub_port: recv_port must differ from pub_port (got 7202 and 7202)"
        ]

    def test_the_tree(self) -> None:
        """The whole tree takes sections, and nothing else."""
        assert Settings(server=ServerSettings(credit=5)).server.credit == 5
        with pytest.raises(ConfigurationError) as caught:
            construct(Settings, server=5, sever=1)
        assert caught.value.problems == [
            "argument: server: must hold keys with values (got 5)",
            "argument: sever: unknown key; did you mean server?",
        ]

    def test_what_we_have_no_words_for(self) -> None:
        """An error of a rare kind keeps pydantic's words."""
        with pytest.raises(ConfigurationError) as caught:
            construct(ServerSettings, bind=b"\xff")
        (problem,) = caught.value.problems
        assert problem.startswith("argument: server.bind: ")
        assert problem.endswith(" (got a bytes)")

    @pytest.mark.parametrize("settings", [ServerSettings(), ClientSettings()])
    def test_nothing_changes_later(self, settings: ServerSettings | ClientSettings) -> None:
        """Settings are frozen, and equal ones are one key in a dict."""
        with pytest.raises(ValueError, match="frozen"):
            setattr(settings, "verbose", True)  # noqa: B010  # a type checker refuses the plain assignment
        assert hash(settings) == hash(type(settings)())
