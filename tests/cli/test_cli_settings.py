"""Which layer wins, that every wrong value names its place, and how spans of time are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openclaw.__main__ import main
from openclaw.cli.options import start_options
from openclaw.cli.settings import WrongSetting, resolve, seconds, state_folder
from openclaw.config import PORT


def test_flags_beat_environment_beats_file_beats_default(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('port = 1000\nname = "of-file"\npolicy = "skills"\nmdns = false\nlabel = {gpu = "a"}\n')
    environ = {
        "OPENCLAW_MESH_PORT": "2000",
        "OPENCLAW_MESH_NAME": "of-env",
        "OPENCLAW_MESH_BIND": "10.0.0.1, ::1",
    }
    found = resolve(tmp_path, {"port": "3000", "name": None, "seed": ()}, environ)
    assert found["port"] == (3000, "flag")
    assert found["name"] == ("of-env", "OPENCLAW_MESH_NAME")
    assert found["policy"] == ("skills", str(file))
    assert found["mdns"] == (False, str(file))
    assert found["bind"] == (("10.0.0.1", "::1"), "OPENCLAW_MESH_BIND")
    assert found["label"] == (("gpu=a",), str(file))
    assert found["seed"] == ((), "default")
    assert resolve(tmp_path / "other", {}, {})["port"] == (PORT, "default")


def test_options_have_their_final_types(tmp_path):
    flags = {
        "label": ("a=b=c",),
        "slots": "3",
        "skills_dir": (str(tmp_path),),
        "seed": ("nas:27460",),
        "lead": False,
    }
    options = start_options(tmp_path, resolve(tmp_path, flags, {}), join="oc1_x")
    assert options.labels == (("a", "b=c"),)
    assert (options.slots, options.port, options.join) == (3, PORT, "oc1_x")
    assert options.skills_dirs == (Path(tmp_path),)
    assert (options.lead, options.mdns, options.binds) == (False, True, ())


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"OPENCLAW_MESH_PORT": "x"}, "OPENCLAW_MESH_PORT"),
        ({"OPENCLAW_MESH_PORT": "65534"}, "OPENCLAW_MESH_PORT"),
        ({"OPENCLAW_MESH_SLOTS": "0"}, "OPENCLAW_MESH_SLOTS"),
        ({"OPENCLAW_MESH_BIND": "nas.local"}, "nas.local"),
        ({"OPENCLAW_MESH_SEED": "nas"}, "HOST:PORT"),
        ({"OPENCLAW_MESH_LABEL": "gpu"}, "KEY=VALUE"),
        ({"OPENCLAW_MESH_POLICY": "all"}, "skills, commands, none"),
        ({"OPENCLAW_MESH_MDNS": "maybe"}, "OPENCLAW_MESH_MDNS"),
        ({"OPENCLAW_MESH_NAME": "a\nb"}, "OPENCLAW_MESH_NAME"),
    ],
)
def test_a_wrong_value_names_its_place(tmp_path, environ, place):
    with pytest.raises(WrongSetting, match=place):
        resolve(tmp_path, {}, environ)


@pytest.mark.parametrize("text", ["port = ", "prot = 1", 'port = "x"', "bind = 7", "\xff"])
def test_a_damaged_file_is_refused_by_name(tmp_path, text):
    (tmp_path / "config.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(WrongSetting, match=r"config\.toml"):
        resolve(tmp_path, {}, {})


def test_the_state_folder(tmp_path):
    assert state_folder(str(tmp_path), {"OPENCLAW_MESH_STATE_DIR": "/elsewhere"}) == tmp_path
    assert state_folder(None, {"OPENCLAW_MESH_STATE_DIR": "/elsewhere"}) == Path("/elsewhere")
    assert state_folder(None, {}).name == "openclaw-mesh"


@pytest.mark.parametrize(
    ("text", "span_s"), [("90", 90), ("1.5", 1.5), ("10s", 10), ("5m", 300), ("2h", 7200), ("1h30m", 5400),
                        ("250ms", 0.25)]
)  # fmt: skip
def test_spans_of_time(text, span_s):
    assert seconds(text) == span_s


@pytest.mark.parametrize("text", ["", "soon", "5 m", "-1", "5x", "m", "1m30"])
def test_what_is_no_span_of_time(text):
    with pytest.raises(ValueError, match="span of time"):
        seconds(text)


def test_config_shows_every_value_and_its_source(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("OPENCLAW_MESH_SLOTS", "2")
    assert main(["config", "--state-dir", str(tmp_path), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["state_dir"] == str(tmp_path)
    assert document["settings"]["slots"] == {"value": 2, "source": "OPENCLAW_MESH_SLOTS"}
    assert document["settings"]["policy"] == {"value": "commands", "source": "default"}
    assert main(["config", "--state-dir", str(tmp_path)]) == 0
    assert "OPENCLAW_MESH_SLOTS" in capfd.readouterr().out


def test_a_wrong_setting_is_wrong_usage(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("OPENCLAW_MESH_SLOTS", "many")
    assert main(["node", "start", "--state-dir", str(tmp_path)]) == 2
    assert "OPENCLAW_MESH_SLOTS" in capfd.readouterr().err
