"""Pipelines: results, reports, errors, threads."""

import errno
import json
import shutil
import threading
from pathlib import Path

import pytest
from held_server import HeldServer

import tricorne
from tricorne import Pipeline, PlanError, RunError, TricorneError
from tricorne import pipeline as module


def test_a_run_makes_the_data_and_returns_its_report(plan: Path) -> None:
    report = Pipeline.from_toml(plan).run()
    out = plan.parent / "out"
    rows = [json.loads(line) for line in (out / "shard-00000.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["title"] for row in rows] == ["Page 0", "Page 1", "Page 2"]
    assert [row["word_count"] for row in rows] == [4, 4, 4]
    assert report["rows"] == 3
    assert (report["failed"], report["interrupted"]) == ({}, False)
    assert report["version"] == tricorne.__version__
    assert report == json.loads((out / "run.json").read_text(encoding="utf-8"))


def test_the_types_name_every_key_of_a_report(plan: Path) -> None:
    report = Pipeline.from_toml(plan).run()
    assert set(report) == module.RunReport.__required_keys__
    assert set(report["fetch"]) == module.FetchStats.__required_keys__
    assert set(report["stages"][0]) == module.StageReport.__required_keys__
    assert set(report["shards"][0]) == module.ShardReport.__required_keys__


def test_a_pipeline_may_run_again_and_does_nothing_twice(plan: Path) -> None:
    pipeline = Pipeline.from_toml(str(plan))
    first = pipeline.run()
    again = pipeline.run()
    assert again["resumed"] == 3
    assert again["shards"] == first["shards"]
    shutil.rmtree(plan.parent / "out")
    assert pipeline.run(serial=True)["shards"] == first["shards"]


def test_a_wrong_plan_is_refused_with_every_mistake(plan: Path) -> None:
    plan.write_text('[source]\nfiels = "*.html"\n\n[sink]\npath = "out"\nformat = "parket"\n', encoding="utf-8")
    with pytest.raises(PlanError, match="`fiels`") as caught:
        Pipeline.from_toml(plan)
    assert isinstance(caught.value, TricorneError)
    assert isinstance(caught.value, ValueError)
    assert f"{plan}:2:1" in str(caught.value)
    assert "parquet" in str(caught.value)
    assert not (plan.parent / "out").exists()


def test_a_plan_that_is_not_there_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Pipeline.from_toml(tmp_path / "none.toml")
    assert caught.value.filename == str(tmp_path / "none.toml")


def test_an_output_folder_of_another_plan_is_refused_with_a_hint(plan: Path) -> None:
    Pipeline.from_toml(plan).run()
    plan.write_text(plan.read_text(encoding="utf-8") + "records_per_shard = 2\n", encoding="utf-8")
    with pytest.raises(RunError, match="belongs to another plan") as caught:
        Pipeline.from_toml(plan).run()
    assert isinstance(caught.value, TricorneError)
    assert isinstance(caught.value, RuntimeError)
    assert any(note.startswith("hint: ") for note in caught.value.__notes__)


def test_what_the_system_refuses_is_an_oserror(plan: Path) -> None:
    name = "n" * 300
    plan.write_text(plan.read_text(encoding="utf-8").replace('"out"', f'"{name}"'), encoding="utf-8")
    with pytest.raises(OSError, match="File name too long") as caught:
        Pipeline.from_toml(plan).run()
    assert caught.value.errno == errno.ENAMETOOLONG
    assert str(plan.parent / name) in caught.value.filename


def test_other_threads_go_on_during_a_run(held_plan: Path, held_server: HeldServer) -> None:
    reports: list[module.RunReport] = []
    pipeline = Pipeline.from_toml(held_plan)
    runner = threading.Thread(target=lambda: reports.append(pipeline.run()))
    runner.start()
    # The server's own Python threads answer, and this one releases them, while the run waits.
    assert held_server.asked.wait(60)
    assert not reports
    held_server.released.set()
    runner.join(60)
    assert [report["rows"] for report in reports] == [4]
    assert set(reports[0]["in_flight"][0]) == module.InFlightSample.__required_keys__
