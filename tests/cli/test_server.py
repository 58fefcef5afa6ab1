"""``mezzenger-server`` as a process: its settings, its log, its signals and its exit codes."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import mezzenger
from tests.cli.processes import SERVER, Commands, read_line, read_until, terminal

FREE_PORTS = ("--pub-port", 0, "--recv-port", 0)

FAILING = """
import sys
from mezzenger.cli.server import main
from mezzenger.errors import StorageError
from mezzenger.server.server import MezzengerServer

def run(self):
    raise StorageError("messages.db is locked by another server")

MezzengerServer.run = run
sys.argv[1:] = []
main()
"""


def settings_of(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the settings that --check-config has printed, which are YAML."""
    assert (result.returncode, result.stderr) == (0, "")
    settings: dict[str, Any] = yaml.safe_load(result.stdout)
    return settings


def test_precedence(commands: Commands) -> None:
    """The command line wins over the environment, that over the YAML file, that over the default."""
    file = commands.folder / "own.yaml"
    file.write_text("server:\n  bind: 0.0.0.0\n  pub_port: 7301\n  recv_port: 7302\n")
    environ = {"MEZZENGER_SERVER__PUB_PORT": "7401", "MEZZENGER_SERVER__RECV_PORT": "7402"}
    arguments = ("--check-config", "--config", file, "--pub-port", 7501)
    settings = settings_of(commands.run(SERVER, *arguments, environ=environ))
    assert (settings["pub_port"], settings["recv_port"], settings["bind"]) == (7501, 7402, "0.0.0.0")
    assert (settings["verbose"], settings["drain_timeout"]) == (False, 5.0)


def test_check_config_says_that_all_is_fine(commands: Commands) -> None:
    """On a pipe the settings are YAML; flags are among them."""
    result = commands.run(SERVER, "--check-config", "--verbose")
    assert result.stdout.startswith("# The configuration is fine. There is no file. These settings of the server hold:")
    assert list(settings_of(result)) == list(mezzenger.ServerSettings.model_fields)
    settings = mezzenger.ServerSettings.model_validate(settings_of(result))
    assert settings == mezzenger.ServerSettings(verbose=True)


def test_check_config_shows_channels(commands: Commands) -> None:
    """What is printed about sections and channels can be copied: it makes the same settings again."""
    file = commands.folder / "mezzenger.yaml"
    text = """
server: {resend: {initial: 2s, jitter: 0}}
channels:
  "*": {resend: {max: 10m}, ttl: 1h}
  jobs.'>': {overflow: block, max_pending: 5}
  greetings: {groups: [workers, "käfer"]}
"""
    file.write_text(text, "utf-8")
    result = commands.run(SERVER, "--check-config")
    printed = settings_of(result)
    assert result.stdout.startswith(f"# The configuration is fine. The file is {file}. These settings")
    assert printed["resend"]["initial"] == 2
    assert printed["channels"]["*"] == {"resend": {"max": 600}, "ttl": 3600, "delay": 0, "groups": []}
    channels = printed.pop("channels")
    again = commands.folder / "again.yaml"
    again.write_text(yaml.safe_dump({"server": printed, "channels": channels}, sort_keys=False))
    assert mezzenger.Settings.load(again, environ={}) == mezzenger.Settings.load(file, environ={})


def test_check_config_is_read_as_it_was_written(commands: Commands) -> None:
    """What would mean something else in YAML is quoted."""
    groups = ["null", "~", "yes", "1", "2026-11-26", "*", "- a", "# a", "a: b", " ", "'", '"', "\u2028"]
    server = {"bind": "::", "persist_file": "/data/a #1.db"}
    file = commands.folder / "mezzenger.yaml"
    file.write_text(json.dumps({"server": server, "channels": {"- x": {"groups": groups}}}), "utf-8")
    printed = settings_of(commands.run(SERVER, "--check-config"))
    assert {key: printed[key] for key in server} == server
    assert printed["channels"] == {"- x": {"resend": {}, "delay": 0, "groups": groups}}


def test_check_config_of_a_file_whose_name_is_no_text(commands: Commands) -> None:
    """It can be read again, however long it is, and whatever the configuration file itself is called."""
    odd = os.fsdecode(b"caf\xe9, long \t and \x7f" * 20)
    file = commands.folder / os.fsdecode(b"caf\xe9\npub_port: 1")
    file.touch()
    printed = settings_of(commands.run(SERVER, "--check-config", "--persist-file", odd, "--config", file))
    assert (printed["persist_file"], printed["pub_port"]) == (odd, 7201)


def test_check_config_is_utf8(commands: Commands) -> None:
    """It is YAML whatever the locale says, which is read as UTF-8."""
    (commands.folder / "mezzenger.yaml").write_text("channels: {käse.日本: {}}", "utf-8")
    printed = settings_of(commands.run(SERVER, "--check-config", environ={"PYTHONIOENCODING": "latin-1"}))
    assert list(printed["channels"]) == ["käse.日本"]


def test_check_config_on_a_terminal(commands: Commands) -> None:
    """On a terminal the settings are a table with an explanation of each, sections and channels included."""
    (commands.folder / "mezzenger.yaml").write_text('channels: {"[jobs]": {resend: {max: 5m}}}')
    with terminal() as (ours, theirs), commands.started(SERVER, "--check-config", stdout=theirs) as process:
        shown = read_until(ours, "┘".encode()).decode()
        assert process.wait(20) == 0
    assert f"The configuration is fine. The file is {commands.folder / 'mezzenger.yaml'}." in " ".join(shown.split())
    assert "│ pub_port" in shown
    assert "Port that hands messages out" in shown
    assert "│ resend.initial" in shown
    assert '│ channels."[jobs]".resend.max' in shown


@pytest.mark.parametrize("arguments", [(), ("--check-config",)])
def test_wrong_settings(commands: Commands, arguments: tuple[str, ...]) -> None:
    """Each problem is a line with its place in the file, and the exit code is 2."""
    file = commands.folder / "mezzenger.yaml"
    file.write_text("server:\n  pub_prot: 7301\n  recv_port: 99999\nchannels:\n  a|b: {}\n")
    result = commands.run(SERVER, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert sorted(result.stderr.splitlines()) == [
        "mezzenger-server: error: mezzenger.yaml:2: server.pub_prot: unknown key; did you mean pub_port?",
        "mezzenger-server: error: mezzenger.yaml:3: server.recv_port: must be at most 65535 (got 99999)",
        (
            "mezzenger-server: error: mezzenger.yaml:5: channels.'a|b': pattern 'a|b' holds '|', "
            "which separates the name from the rest; use another character"
        ),
    ]


@pytest.mark.parametrize("arguments", [("--no-such-flag",), ("--pub-port", "many"), ("--config", "missing.yaml")])
def test_bad_arguments(commands: Commands, arguments: tuple[str, ...]) -> None:
    """A flag or value that cannot be used ends with 2, and no traceback."""
    result = commands.run(SERVER, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert any(argument in result.stderr for argument in arguments)
    assert "Traceback" not in result.stderr


def test_a_folder_that_is_gone(commands: Commands) -> None:
    """A file that is named from a folder that was removed is a file that cannot be read."""
    script = f"mkdir gone; cd gone; rmdir ../gone; exec {sys.executable} -m {SERVER} --config own.yaml"
    command = ["bash", "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=commands.folder)
    line = "mezzenger-server: error: own.yaml: cannot be read: No such file or directory\n"
    assert (result.returncode, result.stderr) == (2, line)


def test_a_port_in_use(commands: Commands) -> None:
    """If it cannot listen it says so in one line, and ends with 3."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = commands.run(SERVER, "--pub-port", 0, "--recv-port", port)
    assert result.returncode == 3
    (line,) = result.stderr.splitlines()
    assert line.startswith("mezzenger-server: error: cannot listen on 127.0.0.1")
    assert str(port) in line


def test_a_store_that_cannot_be_used(tmp_path: Path) -> None:
    """A StorageError is one line, and ends with 4."""
    command = [sys.executable, "-c", FAILING]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    line = "mezzenger-server: error: messages.db is locked by another server\n"
    assert (result.returncode, result.stderr) == (4, line)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(commands: Commands, number: signal.Signals) -> None:
    """The log tells time, level, file and ports; after SIGTERM or SIGINT it is complete, and the exit code is 0."""
    with commands.started(SERVER, *FREE_PORTS) as process:
        time, clock, level, message = read_line(process, "stderr").split(" ", 3)
        assert (len(time), len(clock), level) == (10, 12, "INFO")
        assert message.startswith("listening on 127.0.0.1, pub_port ")
        assert read_line(process, "stderr").endswith(" without persist_file: ack=1 messages are kept in memory only")
        assert read_line(process, "stderr").endswith(" INFO no configuration file")
        process.send_signal(number)
        assert read_line(process, "stderr").endswith("INFO stopped")
        assert process.wait(20) == 0


def test_the_log_names_the_files(commands: Commands) -> None:
    """Which configuration it is, and which file keeps messages; an empty text that takes that back is seen there."""
    config, messages = commands.folder / "mezzenger.yaml", commands.folder / "messages.db"
    config.write_text("server: {persist_file: messages.db}")
    for given, last in [
        ((), f"ack=1 messages are kept in {messages}"),
        (("--persist-file", ""), "without persist_file: ack=1 messages are kept in memory only"),
    ]:
        with commands.started(SERVER, *given, *FREE_PORTS) as process:
            lines = [read_line(process, "stderr").partition(" INFO ")[2] for _ in range(3)]
        assert lines[1:] == [last, f"configuration file {config}"]


def test_verbose(commands: Commands) -> None:
    """With --verbose the log tells what happens to a message."""
    with commands.started(SERVER, "--verbose", *FREE_PORTS) as process:
        words = read_line(process, "stderr").replace(",", "").split()
        pub_port, recv_port = int(words[words.index("pub_port") + 1]), int(words[words.index("recv_port") + 1])
        with mezzenger.Mezzenger(send_port=recv_port, sub_port=pub_port) as client:
            client.send_message("greetings", "hello", ack=1)
        assert process.stderr is not None
        assert b"DEBUG" in read_until(process.stderr.fileno(), b"'greetings'")


def test_help_and_version(commands: Commands) -> None:
    """--version prints the version, --help every option; neither loads the server."""
    assert commands.run(SERVER, "--version").stdout == f"{mezzenger.__version__}\n"
    text = commands.run(SERVER, "--help").stdout
    options = "--config --bind --pub-port --recv-port --persist-file --verbose --check-config --version"
    assert [option for option in options.split() if option not in text] == []
    code = "import sys, mezzenger.cli.server; sys.exit('mezzenger.broker' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
