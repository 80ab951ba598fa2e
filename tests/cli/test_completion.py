"""The tab key, as the shells use it."""

import os
import pty
import subprocess

import pytest
from click.shell_completion import get_completion_class

from acclimate.cli.completion import VARIABLE
from acclimate.cli.main import cli

SHELLS = ("bash", "zsh", "fish")


def completed(shell, *words):
    """What the installed command answers to a shell, one candidate a line."""
    env = {
        **os.environ, **shell.env, VARIABLE: "bash_complete",
        "COMP_WORDS": "\n".join(["acclimate", *words]), "COMP_CWORD": str(len(words)),
    }  # fmt: skip
    done = subprocess.run([shell.script], env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def in_bash(shell, *words):
    """What bash would offer, by the script that the command prints."""
    quoted = " ".join(f"'{word}'" for word in ["acclimate", *words])
    script = (
        'source <(acclimate completion bash); compopt() { echo "$@"; }; '
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _acclimate_completion acclimate; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    env = {**os.environ, **shell.env, "PATH": f"{shell.script.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=env, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", SHELLS)
def test_each_shell_has_a_script(cold, name):
    done = cold("completion", name)
    kind = get_completion_class(name)
    assert done.out == kind(cli, {}, "acclimate", VARIABLE).source() + "\n"
    assert "acclimate" in done.out
    assert done.code == 0


def test_an_unknown_shell_is_answered_with_the_known_ones(cold):
    done = cold("completion", "tcsh")
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in done.err
    assert done.code == 2


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["fine"], ["plain,fine-tune"]),
        (["models", "a"], ["plain,available"]),
        (["recipe", "qu"], ["plain,quantize"]),
        (["run", "--max"], ["plain,--max-minutes"]),
        (["run", "--device", "c"], ["plain,cpu", "plain,cuda"]),
        (["probe", "eff"], [f"plain,efficientnet-lite{n}" for n in "012"]),
        (["probe", "leaf"], ["file,leaf"]),
        (["probe", "efficientnet-lite0", "pho"], ["file,pho"]),
    ],
    ids=" ".join,
)
def test_commands_options_models_and_files_are_completed(shell, words, offered):
    assert completed(shell, *words) == offered


def test_without_a_beginning_the_packaged_models_are_offered(shell):
    offered = completed(shell, "predict", "")
    assert offered == [*(f"plain,efficientnet-lite{n}" for n in "012"), "plain,timm:"]


@pytest.mark.parametrize("before", [["predict"], ["run", "--model"], ["run", "--model", "="]])
def test_bash_completes_a_name_with_a_colon(shell, before):
    """It takes timm:resnet26 for three words and replaces only the last one."""
    assert in_bash(shell, *before, "timm", ":", "resnet26") == [
        "resnet26",
        "resnet26d",
        "resnet26t",
    ]


def test_bash_completes_a_name_in_one_word_too(shell):
    """So it comes if the user took the colon out of COMP_WORDBREAKS."""
    offered = in_bash(shell, "predict", "timm:resnet26")
    assert offered == ["timm:resnet26", "timm:resnet26d", "timm:resnet26t"]


def on_a_terminal(shell, *args, **env):
    """What a command writes to a terminal."""
    master, slave = pty.openpty()
    unset = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [shell.script, *args], stdout=slave, stderr=slave, stdin=slave,
        env={**unset, **shell.env, "TERM": "xterm-256color", **env},
    )  # fmt: skip
    os.close(slave)
    text = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        text += chunk
    process.wait()
    os.close(master)
    return text.decode()


def test_no_color_turns_the_colors_off(shell):
    red = "\x1b[1;31m"
    assert red in on_a_terminal(shell, "recipe", "fine")
    plain = on_a_terminal(shell, "recipe", "fine", NO_COLOR="1")
    assert red not in plain
    assert ";3" not in plain
    assert "no section 'fine'" in plain
