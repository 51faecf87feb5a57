from pathlib import Path

import pytest

from hpcsynapse.errors import SiteError, SpecError
from hpcsynapse.spec import settings


def test_later_sources_win(workdir: Path, tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text('[queue]\npartition = "site"\naccount = "site"\nqos = "site"\n[launch.env]\nA = "1"\nB = "1"\n')
    (workdir / "hpcsynapse.toml").write_text(
        '[queue]\npartition = "project"\naccount = "project"\n[launch.env]\nB = "2"\n'
    )
    run = workdir / "run.toml"
    run.write_text('[queue]\npartition = "run"\n[resources]\nnodes = 2\n')
    spec = settings.load(run, {"resources": {"nodes": 3}}, site=str(site))
    assert (spec.queue.partition, spec.queue.account, spec.queue.qos) == ("run", "project", "site")
    assert spec.resources.nodes == 3
    assert spec.launch.env == {"A": "1", "B": "2"}


def test_site_file_by_variable_and_by_default(workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    (config / "hpcsynapse").mkdir(parents=True)
    (config / "hpcsynapse" / "site.toml").write_text('[site]\nname = "default"\n')
    other = tmp_path / "other.toml"
    other.write_text('[site]\nname = "variable"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config))
    assert settings.load().site.name == "default"
    monkeypatch.setenv("HPCSYNAPSE_SITE", str(other))
    assert settings.load().site.name == "variable"
    monkeypatch.setenv("HPCSYNAPSE_SITE", str(tmp_path / "missing"))
    with pytest.raises(SiteError, match="hpcsynapse init"):
        settings.load()


def test_a_resolved_description_is_complete(workdir: Path) -> None:
    (workdir / "hpcsynapse.toml").write_text('[queue]\nqos = "later"\n')
    resolved = workdir / "run.toml"
    resolved.write_text("format = 1\n[resources]\nnodes = 2\n")
    assert settings.load(resolved).queue.qos is None
    resolved.write_text("format = 99\n")
    with pytest.raises(SpecError, match="another release"):
        settings.load(resolved)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[resources\n", ["line 1"]),
        ("[resources]\nnodess = 1\n", ["resources.nodess", "'nodes'"]),
        ("nodes = 1\n", ["unknown setting nodes"]),
        ("resources = 1\n", ["[resources]", "table"]),
    ],
)
def test_errors_name_the_file(workdir: Path, text: str, words: list[str]) -> None:
    path = workdir / "mine.toml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        settings.load(path)
    assert "mine.toml" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_files_that_cannot_be_read(workdir: Path) -> None:
    with pytest.raises(SpecError, match=r"absent\.toml"):
        settings.load(workdir / "absent.toml")
    (workdir / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match=r"bytes\.toml"):
        settings.load(workdir / "bytes.toml")


def test_set_reads_toml_values_and_bare_texts() -> None:
    tables = settings.parse_set(
        ("train.lr=0.5", "queue.partition=gpu", "train.milestones=[1, 2]", "train.data_args.size=8", "launch.env.A=1")
    )
    assert tables == {
        "train": {"lr": 0.5, "milestones": (1, 2), "data_args": {"size": 8}},
        "queue": {"partition": "gpu"},
        "launch": {"env": {"A": "1"}},
    }


@pytest.mark.parametrize("text", ["lr=1", "train.lr", "train.lrr=1", "train.lr=fast", "tran.lr=1"])
def test_set_refuses_what_it_does_not_know(text: str) -> None:
    with pytest.raises(SpecError, match=text.partition("=")[0]):
        settings.parse_set((text,))
