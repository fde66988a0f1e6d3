"""What is measured is what happened: bytes are those of the packets, times lie where the settings put them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from math import inf
from pathlib import Path

import pytest

from openclaw import wire
from openclaw.config import Settings
from openclaw.effects import Send
from openclaw.messages import Status
from openclaw.notes import MemberChanged
from sims import experiments
from sims.__main__ import main
from sims.bench import MODELS, OURS, PROTOCOLS, Bench, NeverFound, Protocol
from sims.documents import put
from sims.experiments import Samples
from sims.figures import ROWS, Results, as_markdown, known, merged, table, to_json
from sims.measure import WEATHERS, summed_up
from sims.meter import Figure, figure, quantile
from sims.models import MEMBERLIST, SWIM
from sims.network import Weather
from sims.plots import PLOTS, write_plots
from sims.targets import TARGETS, verdicts

MEMBERLIST_MODEL, SWIM_MODEL = MODELS


def bench_of(protocol: Protocol, nodes: int, seed: int = 1, weather: Weather | None = None) -> Bench:
    bench = Bench(protocol, nodes, seed, weather=weather)
    with bench.standing_in():
        bench.found()
    return bench


def deaths(protocol: Protocol, nodes: int, *, machine: bool) -> Samples:
    samples: Samples = defaultdict(list)
    bench = bench_of(protocol, nodes)
    with bench.standing_in():
        for _ in range(4):
            experiments.death(bench, samples, dying=1, machine=machine)
    return samples


def test_the_bytes_that_are_counted_are_those_of_the_packets() -> None:
    bench = bench_of(OURS, 4)
    packets: list[bytes] = []

    def keep(_at: float, _who: str, what: object) -> None:
        if isinstance(what, Send):
            packets.append(wire.encode(what.message))

    bench.world.trace.observers.append(keep)
    bench.run(20.0)
    meter = bench.meter
    assert len(packets) > 100
    assert sum(meter.per_second(meter.bins, 20)) == sum(map(len, packets))
    assert sum(meter.per_second(meter.messages, 20)) == len(packets)
    assert len(meter.per_second(meter.bins, 20)) == 80


def test_silence_counts_as_seconds_without_bytes() -> None:
    bench = bench_of(OURS, 3)
    for host in bench.hosts:
        host.crash(machine=True)
    bench.meter.clear()
    bench.run(5.0)
    assert bench.meter.per_second(bench.meter.bins, 5) == [0.0] * 15


def test_a_refused_dial_and_a_silent_loss_are_found_out_when_the_settings_say() -> None:
    settings = Settings()
    refused = deaths(OURS, 5, machine=False)
    for first, last in zip(refused["process_death_first_s"], refused["process_death_last_s"], strict=True):
        assert settings.refused_confirm_s <= first <= last < settings.refused_confirm_s + 0.1
    silent = deaths(OURS, 5, machine=True)
    least_s = settings.suspect_s_min
    probed_s = (2 * 5 - 1) * settings.probe_every_s + settings.probe_timeout_s + settings.indirect_timeout_s
    for first, last in zip(silent["machine_death_first_s"], silent["machine_death_last_s"], strict=True):
        assert least_s < first <= last < probed_s + settings.suspect_s_max
    assert len(silent["machine_death_each_s"]) == 4 * 4
    assert silent["death_false_deaths"] == [0] * 4


def test_models_take_as_long_as_their_parameters_say() -> None:
    for protocol, parameters in ((MEMBERLIST_MODEL, MEMBERLIST), (SWIM_MODEL, SWIM)):
        samples = deaths(protocol, 6, machine=True)
        shortest_s = parameters.shortest_s(6)
        longest_s = shortest_s * parameters.suspicion_stretch + 11 * parameters.period_s
        for first in samples["machine_death_first_s"]:
            assert shortest_s < first < longest_s


def test_a_death_that_nobody_notices_took_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "DETECTION_S_MAX", 0.05)
    monkeypatch.setattr("sims.bench.STEP_S", 0.01)
    assert set(deaths(OURS, 3, machine=True)["machine_death_last_s"]) == {inf}


def test_calling_a_live_node_dead_is_a_false_death_unless_it_is_excused_cut_off_or_gone() -> None:
    bench = bench_of(OURS, 4)
    accuser, healthy, excused, gone = bench.hosts
    bench.meter.excused = {excused.id}
    gone.crash(machine=True)

    def accuse() -> None:
        for host in (healthy, excused, gone):
            incarnation = accuser.node.membership.incarnation if accuser.node else None
            bench.world.trace.effect(
                bench.now, accuser.name, MemberChanged(host.id, Status.DOWN, incarnation)  # type: ignore[arg-type]
            )  # fmt: skip

    accuse()
    assert bench.meter.false_deaths == 1
    bench.world.network.cut(accuser.id, healthy.id)
    accuse()
    assert bench.meter.false_deaths == 1


def test_a_rumour_reaches_half_before_all() -> None:
    samples: Samples = defaultdict(list)
    bench = bench_of(OURS, 20)
    experiments.rumour(bench, samples)
    half, most, all_of_them = (samples[f"rumour_{share}_percent_s"][0] for share in ("50", "99", "99.99"))
    assert 0 < half < most <= all_of_them < 5.0
    assert samples["news_99.99_percent_s"][0] >= all_of_them


def test_an_election_is_counted_and_ends() -> None:
    samples: Samples = defaultdict(list)
    bench = bench_of(OURS, 5)
    before = bench.leader()
    experiments.election(bench, samples)
    assert bench.leader() is not before
    (messages,) = samples["election_messages_per_node"]
    assert 1.0 <= messages * 4 / 4 <= 8.0  # one candidacy and one announcement to each, at the least
    assert 0.0 < samples["election_s"][0] < samples["election_from_death_s"][0] < 2.0


def test_halves_that_are_never_joined_never_heal(monkeypatch: pytest.MonkeyPatch) -> None:
    samples: Samples = defaultdict(list)
    bench = bench_of(OURS, 4)
    experiments.split(bench, samples, 10.0)
    assert 0.0 < samples["heal_s"][0] < 15.0
    assert len(bench.leaders()) == 1
    monkeypatch.setattr(bench.world.network, "mend", lambda *_: None)
    monkeypatch.setattr(experiments, "HEAL_S_MAX", 5.0)
    experiments.split(bench, samples, 10.0)
    assert samples["heal_s"][1] == samples["split_leader_s"][1] == inf


def test_nodes_that_never_meet_are_no_world_to_measure_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sims.bench.FOUND_S_MAX", 5.0)
    with pytest.raises(NeverFound):
        bench_of(OURS, 3, weather=Weather(loss=1.0))


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
def test_one_seed_gives_one_set_of_figures(protocol: Protocol) -> None:
    assert deaths(protocol, 4, machine=True) == deaths(protocol, 4, machine=True)


def test_the_model_without_lifeguard_makes_mistakes_where_we_make_none() -> None:
    mistakes = []
    for protocol in (OURS, SWIM_MODEL):
        samples: Samples = defaultdict(list)
        bench = bench_of(protocol, 10, weather=WEATHERS["datagrams"])
        experiments.lossy(bench, samples, "datagrams", 60.0)
        mistakes.append(samples["datagrams_lost_false_deaths_per_node_hour"][0])
    assert mistakes[0] == 0.0
    assert mistakes[1] > 50.0


def test_quantiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 0.9999)) == (50.0, 99.0, 100.0)
    assert figure([3.0, 1.0, 2.0]) == Figure(2.0, 2.0, 3.0, 3.0, 3)
    assert figure([]) is None


def test_what_was_measured_is_a_table_a_document_and_pictures(tmp_path: Path) -> None:
    samples: Samples = defaultdict(list, {"heal_s": [inf], "process_death_last_s": [0.2, 0.4]})
    results = {"openclaw": {"3": summed_up(samples), "10": summed_up(samples)}}
    assert set(samples) <= set(ROWS)
    document = json.loads(to_json(results))
    assert document["openclaw"]["3"]["heal_s"]["p50"] is None
    assert document["openclaw"]["10"]["process_death_last_s"]["worst"] == 0.4
    assert "never / never" in table(results)
    assert "0.2 / 0.4" in table(results)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured -->\nold\n<!-- end of measured -->\nafter\n")
    put(page, "measured", as_markdown(results))
    assert "| never / never | never / never |" in page.read_text()
    assert "old" not in page.read_text()
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("\nafter\n")
    with pytest.raises(ValueError, match="no place for reality"):
        put(page, "reality", "")
    write_plots(results, tmp_path / "plots")
    (picture,) = (tmp_path / "plots").iterdir()
    drawing = ElementTree.parse(picture).getroot()
    assert len(drawing.findall("{http://www.w3.org/2000/svg}circle")) == 2


def results_of(sizes: dict[str, dict[str, list[float]]], protocol: Protocol = OURS) -> Results:
    return {protocol.name: {size: summed_up(defaultdict(list, samples)) for size, samples in sizes.items()}}


def test_figures_of_several_runs_become_one(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    first.write_text(to_json(results_of({"100": {"heal_s": [inf]}, "3": {"heal_s": [1.0]}})))
    second.write_text(to_json(results_of({"10": {"heal_s": [2.0]}}, SWIM_MODEL)))
    both = merged([known(first), known(second), results_of({"3": {"heal_s": [4.0]}})])
    assert list(both) == [OURS.name, SWIM_MODEL.name]
    assert list(both[OURS.name]) == ["3", "100"]
    assert both[OURS.name]["100"]["heal_s"].worst == inf
    assert both[OURS.name]["3"]["heal_s"].mean == 4.0
    assert "| halves heal: all see all, one leader | 4 / 4 | – | never / never |" in as_markdown(both)
    assert f"| … {SWIM_MODEL.name} | – | 2 / 2 | – |" in as_markdown(both)
    assert [line for line in table(both).splitlines() if line.endswith(" (model)")][1].startswith("10 nodes")


def test_a_target_is_held_against_the_worst_of_its_sizes() -> None:
    assert {target.row for target in TARGETS} <= set(ROWS)
    good = results_of({"3": {"process_death_last_s": [0.2]}, "1000": {"rumour_99.99_percent_s": [0.5, 0.9]}})
    assert verdicts(good).count("reached") == 2
    assert "not reached" not in verdicts(good)
    bad = results_of(
        {"3": {"heal_s": [1.0]}, "10": {"heal_s": [16.0]}, "1000": {"process_death_last_s": [2.0]}}
    )
    assert "| 15 s | 16 s (at 10) | **not reached** |" in verdicts(bad)
    assert "process killed" not in verdicts(bad)


def test_mistakes_are_held_against_those_of_plain_swim() -> None:
    row = "datagrams_lost_false_deaths_per_node_hour"
    for ours, word in ((2.0, "| reached |"), (2.1, "| **not reached** |")):
        both = results_of({"10": {row: [ours]}}) | results_of({"10": {row: [100.0]}}, SWIM_MODEL)
        assert verdicts(both).endswith(word)
    assert "plain SWIM" not in verdicts(results_of({"10": {row: [0.0]}}))


def test_the_command_measures_and_leaves_figures_plots_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sims.measure.WORK_MAX", 30.0)
    monkeypatch.setattr("sims.measure.rounds", lambda _nodes: 2)
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- {name} -->\n<!-- end of {name} -->\n" for name in ("measured", "targets")))
    asked = ["measure", "--nodes", "3", "--json", "all.json", "--plots", "plots", "--doc", "page.md"]
    assert main(asked) == 0
    measured = known(tmp_path / "all.json")
    assert set(measured) == {protocol.name for protocol in PROTOCOLS}
    assert set(measured[OURS.name]["3"]) >= set(ROWS)
    assert "plain SWIM (model), 3 nodes:" in capsys.readouterr().out
    assert len(list((tmp_path / "plots").iterdir())) == len(PLOTS)
    assert "not reached" not in page.read_text()
    assert main(["measure", "--nodes", "", "--known", "all.json", "--json", "again.json"]) == 0
    assert known(tmp_path / "again.json") == measured
