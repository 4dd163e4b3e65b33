"""The operator's command line."""

from __future__ import annotations

import pytest
from fuse_operator.main import _parser, run, settings_of
from fuse_operator.settings import Address, OperatorSettings

from fusechat.errors import FuseChatError


def _settings(*arguments: str, **environment: str) -> OperatorSettings:
    named = {f"FUSECHAT_OPERATOR_{name}": value for name, value in environment.items()}
    return settings_of(_parser(named).parse_args(["run", "--lease-namespace=ns", *arguments]))


def test_options_and_environment_say_the_same_and_options_win() -> None:
    by_option = _settings(
        "--worker-image=w:1", "--namespaces=a, b", "--worker-image-pull-secrets=s", "--log-progress=false",
        "--health-address=127.0.0.1:9", "--identity=me", "--gang-start-seconds=5",
    )  # fmt: skip
    by_environment = _settings(
        WORKER_IMAGE="w:1",
        NAMESPACES="a,b",
        WORKER_IMAGE_PULL_SECRETS="s",
        LOG_PROGRESS="FALSE",
        HEALTH_ADDRESS="127.0.0.1:9",
        IDENTITY="me",
        GANG_START_SECONDS="5",
    )
    assert by_option == by_environment
    assert by_option.namespaces == ("a", "b")
    assert by_option.worker.image_pull_secrets == ("s",)
    assert by_option.health == Address("127.0.0.1", 9)
    assert not by_option.log_progress
    assert _settings("--worker-image=b", WORKER_IMAGE="a").worker.image == "b"


def test_two_processes_of_one_host_have_two_identities() -> None:
    assert _settings("--worker-image=w").lease.identity != _settings("--worker-image=w").lease.identity


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "said"),
    [
        (["run"], {}, 64, "--worker-image is missing"),
        (["run", "--worker-image=w", "--workers=0"], {}, 64, "not at least 1"),
        (["run", "--worker-image=w"], {"FUSECHAT_OPERATOR_WORKERS": "many"}, 64, "--workers"),
        (["run", "--worker-image=w", "--health-address=here"], {}, 64, "HOST:PORT"),
        (["run", "--worker-image=w", "--log-format=xml"], {}, 64, "none of json, text"),
        (["run", "--worker-image=w", "--no-such-option"], {}, 64, "--no-such-option"),
        (["walk"], {}, 64, "walk"),
        ([], {}, 64, "COMMAND"),
        (["run", "--worker-image=w", "--lease-namespace=n", "--renew-seconds=20"], {}, 78, "must last longer"),
    ],
)
def test_mistakes_have_a_message_and_an_exit_code(
    arguments: list[str], environment: dict[str, str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments, environment) == code
    assert said in capsys.readouterr().err


def test_no_cluster_to_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    from fuse_operator import connection

    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/none")
    with pytest.raises(FuseChatError) as caught:
        connection.load()
    assert caught.value.exit_code == 78
    assert "KUBECONFIG" in str(caught.value)


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["run", "--help"], {})
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "FUSECHAT_OPERATOR_" in shown
    assert "exit codes" in shown
    for flag in ("--namespaces", "--worker-image", "--lease-name", "--metrics-address", "--log-progress"):
        assert flag in shown
