"""Several hosts as one machine: by name, from cluster files, and each by itself again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.errors import BadInput, MapperError, UsageError
from mapper.machine.cluster import UNREACHABLE, cluster, parse_link
from mapper.machine.files import load_machine, save_machine
from mapper.machine.hosts import cores_of, feeder_host, host_numbers, host_of, name_of, on_host
from mapper.machine.model import Machine
from mapper.machine.restrict import restrict
from tests.cli.commands import mapper

LINK = "10Gbit,20us"
SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 2, 4]))


def made_up(shape: tuple[int, int, int, int]) -> Machine:
    """A machine of so many packages, nodes, groups and cores."""
    packages, nodes, groups, cores = shape
    return load_machine(f"pack:{packages} numa:{nodes} group:{groups} core:{cores}")


def test_copies_of_a_machine_are_numbered_through() -> None:
    one, four = load_machine("sg2042"), load_machine("sg2042*4", LINK)
    assert four.counts == {"hosts": 4, "packages": 4, "nodes": 16, "groups": 64, "cores": 256, "pus": 256}
    assert [node.package for node in four.nodes[::4]] == [node.host for node in four.nodes[::4]] == [0, 1, 2, 3]
    assert four.cores[70].pus == one.cores[6].pus, "PUs are those of the host"
    assert four.fingerprint != one.fingerprint
    assert (four.distance(0, 63), four.distance(63, 64)) == ("package", "cluster")
    assert four.links["cluster"].bandwidth_bytes_per_s is not None
    assert four.links["cluster"].bandwidth_bytes_per_s.value == 1.25e9
    assert four.links["cluster"].line_s.value == pytest.approx(20e-6)
    assert four.memory == one.memory and four.caches == one.caches and four.compute == one.compute
    assert four.distances is not None and one.distances is not None
    assert four.distances[5][4:8] == one.distances[1] and four.distances[5][0] == UNREACHABLE


@given(st.lists(SHAPES, min_size=2, max_size=3))
def test_each_host_is_the_machine_that_it_was_made_from(shapes: list[tuple[int, int, int, int]]) -> None:
    machines = [made_up(shape) for shape in shapes]
    whole = cluster(machines, parse_link(LINK))
    assert host_numbers(whole) == tuple(range(len(machines))) and feeder_host(whole) == 0
    for number, machine in enumerate(machines):
        alone = on_host(whole, number)
        assert alone.fingerprint == machine.fingerprint
        assert [core.pus for core in alone.cores] == [core.pus for core in machine.cores]
        numbers = cores_of(whole, number)
        assert all(host_of(whole, core) == number for core in numbers)
        assert [whole.cores[core].pus for core in numbers] == [core.pus for core in machine.cores]


def test_where_hosts_differ_every_figure_is_the_one_that_is_worst_for_a_plan() -> None:
    a, b = load_machine("epyc-7763"), load_machine("epyc-9684x")
    both = load_machine("epyc-7763+epyc-9684x", LINK)
    assert a.group_cache and b.group_cache and both.group_cache
    assert both.group_cache.bytes.value == min(a.group_cache.bytes.value, b.group_cache.bytes.value)
    assert both.dram_bytes_per_s == 2 * min(a.dram_bytes_per_s, b.dram_bytes_per_s)
    assert both.compute.peak_flop_per_s.value == min(m.compute.peak_flop_per_s.value for m in (a, b))
    assert both.overheads.dispatch_s.value == max(m.overheads.dispatch_s.value for m in (a, b))
    assert any("differ" in note for note in both.notes)
    assert not any("differ" in note for note in load_machine("epyc-7763*2", LINK).notes)


def test_a_measured_rate_counts_only_where_all_hosts_have_one() -> None:
    fast, slow = load_machine("core:4"), load_machine("core:4(flops=1G)")
    rate = {"start_s": 1e-6, "unit_s": 1e-12}
    measured = Machine.model_validate({
        **json.loads(fast.model_dump_json(by_alias=True, exclude_none=True)),
        "compute": {**json.loads(fast.compute.model_dump_json(exclude_none=True)), "rates": {"matmul": rate}},
    })  # fmt: skip
    assert cluster([measured, measured], parse_link(LINK)).compute.rates
    mixed = cluster([measured, slow], parse_link(LINK))
    assert not mixed.compute.rates and mixed.compute.peak_flop_per_s.value == 1e9


def test_figures_of_several_hosts_are_changed_by_name() -> None:
    changed = load_machine("sg2042*2@1Gbit,50us+l2_bytes=2MiB")
    assert changed.group_cache and changed.group_cache.bytes.value == 2**21
    single = load_machine("sg2042+l2_bytes=2MiB*2@1Gbit,50us")
    assert single.group_cache and single.group_cache.bytes.value == 2**21 and single.counts["hosts"] == 2
    assert load_machine("sg2042*1").counts["hosts"] == 1


@pytest.mark.parametrize(("link", "bandwidth", "latency", "message"), [
    ("10Gbit,20us", 1.25e9, 20e-6, 50e-6), ("1.25GB/s, 0", 1.25e9, 0.0, 50e-6),
    ("100Gbit/s,5us,10us", 1.25e10, 5e-6, 1e-5),
])  # fmt: skip
def test_a_link_is_bandwidth_latency_and_perhaps_a_message(
    link: str, bandwidth: float, latency: float, message: float
) -> None:
    found = parse_link(link)
    assert found.bandwidth_bytes_per_s and found.message_s
    assert (found.bandwidth_bytes_per_s.value, found.line_s.value, found.message_s.value) == pytest.approx(
        (bandwidth, latency, message)
    )


@pytest.mark.parametrize(("spec", "link", "kind", "said"), [
    ("sg2042*4", None, UsageError, "--link 10Gbit,20us"),
    ("sg2042", LINK, UsageError, "sg2042 is one host"),
    ("sg2042*4", "10Gbit", UsageError, "bandwidth and latency"),
    ("sg2042*4", "0Gbit,1us", UsageError, "more than 0"),
    ("sg2042*4", "10Gb,1us", UsageError, "unknown unit"),
    ("sg2042*0", LINK, UsageError, "from 1 to"),
    ("sg2042*99999", LINK, UsageError, "from 1 to"),
    ("sg2042+epyc-7763", LINK, BadInput, "different ways"),
    ("sg2043*2", LINK, BadInput, "sg2042"),
    ("absent/a.json*2", LINK, BadInput, "no such file"),
])  # fmt: skip
def test_what_is_wrong_with_several_hosts_is_said(
    spec: str, link: str | None, kind: type[MapperError], said: str
) -> None:
    with pytest.raises(kind, match=said.replace("(", r"\(")):
        load_machine(spec, link)


# cluster files

FILE = {
    "schema": "mapper-cluster/1",
    "hosts": [
        {"machine": "board.json", "count": 2, "names": ["left", "right"], "addresses": ["10.0.0.1", "10.0.0.2"]},
        {"machine": "sg2042"},
    ],
    "link": {"bandwidth_bytes_per_s": "10Gbit", "latency_s": "20us"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a topology file."""
    save_machine(load_machine("sg2042"), tmp_path / "board.json")
    return tmp_path


def written(folder: Path, **changes: object) -> Path:
    """A cluster file in `folder`."""
    path = folder / "cluster.json"
    path.write_text(json.dumps(FILE | changes))
    return path


def test_a_cluster_file_names_hosts_and_machines_beside_it(folder: Path) -> None:
    found = load_machine(str(written(folder)))
    assert found.counts["hosts"] == 3 and found.hosts is not None
    assert [(host.name, host.address, host.machine) for host in found.hosts] == [
        ("left", "10.0.0.1", "sg2042"), ("right", "10.0.0.2", "sg2042"), ("", "", "sg2042"),
    ]  # fmt: skip
    assert [name_of(found, n) for n in range(3)] == ["host 0 (left)", "host 1 (right)", "host 2"]
    assert found.links["cluster"].message_s is None
    assert found.fingerprint == load_machine("sg2042*3", LINK).fingerprint
    assert load_machine(str(folder / "cluster.json"), "1Gbit,1ms").links["cluster"].line_s.value == 1e-3


@pytest.mark.parametrize(("changes", "said"), [
    ({"hosts": [{"machine": "absent.json", "count": 2}]}, "/hosts/0/machine"),
    ({"hosts": [{"machine": "sg2042"}]}, "/hosts"),
    ({"hosts": [{"machine": "sg2042", "count": 2, "names": ["a"]}]}, "/hosts/0/names"),
    ({"hosts": [{"machine": "sg2042", "count": 2, "names": ["a", "a"]}]}, "/hosts: two hosts are called 'a'"),
    ({"hosts": [{"machine": "sg2042", "count": 0}]}, "/hosts/0/count"),
    ({"hosts": []}, "/hosts"),
    ({"link": {"bandwidth_bytes_per_s": "10 parrots", "latency_s": 0}}, "/link/bandwidth_bytes_per_s"),
    ({"link": {"bandwidth_bytes_per_s": 0, "latency_s": 0}}, "/link/bandwidth_bytes_per_s"),
    ({"link": {"bandwidth_bytes_per_s": "1Gbit"}}, "/link/latency_s"),
    ({"schema": "mapper-cluster/2"}, "/schema"),
    ({"speed": 1}, "/speed"),
])  # fmt: skip
def test_a_wrong_cluster_file_is_refused_at_its_place(folder: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_machine(str(written(folder, **changes)))
    assert said in str(caught.value)


def test_a_cluster_of_clusters_is_refused(folder: Path) -> None:
    inner = written(folder)
    outer = folder / "outer.json"
    outer.write_text(json.dumps(FILE | {"hosts": [{"machine": inner.name, "count": 2}]}))
    with pytest.raises(BadInput, match="several hosts itself"):
        load_machine(str(outer))


def test_what_the_commands_write_is_the_same_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    found = load_machine("board.json*2+sg2042", LINK)
    shown = mapper("topo", "show", "board.json*2+sg2042", "--link", LINK, "-o", "whole.json")
    assert shown.code == 0 and load_machine("whole.json") == found
    made = mapper("topo", "cluster", "board.json*2+sg2042", "--link", LINK, "--names", "a,b,c", "-o", "sub.json")
    assert made.code == 0, made.err
    named = load_machine("sub.json")
    assert named.fingerprint == found.fingerprint and [host.name for host in named.hosts or ()] == ["a", "b", "c"]
    assert json.loads((folder / "sub.json").read_text())["hosts"][0]["machine"] == "board.json"
    checked = mapper("topo", "check", "sub.json")
    assert checked.code == 0 and "3 hosts" in checked.out
    text = mapper("topo", "show", "sub.json").out
    assert "host 0 (a)" in text and "host 2 (c)" in text and "to another host" in text


def test_the_commands_say_what_to_give() -> None:
    missing = mapper("topo", "check", "sg2042*4")
    assert missing.code == 2 and "--link" in missing.err
    assert mapper("topo", "cluster", "sg2042*2", "--link", LINK, "--names", "a").code == 2
    assert mapper("topo", "check", "absent/cluster.json").code == 3
    schema = json.loads(mapper("schema", "cluster").out)
    assert schema["properties"]["hosts"]["minItems"] == 1


# parts of a cluster


def test_hosts_that_stay_keep_their_numbers() -> None:
    four = load_machine("sg2042*4", LINK)
    part = restrict(four, hosts="1,3")
    assert host_numbers(part) == (1, 3) and feeder_host(part) == 1
    assert part.part_of is not None and part.part_of.cores == (*range(64, 128), *range(192, 256))
    assert [core.pus for core in on_host(part, 3).cores] == [core.pus for core in load_machine("sg2042").cores]
    with pytest.raises(UsageError, match="no host 4"):
        restrict(four, hosts="4")
    shown = mapper("topo", "show", "sg2042*4", "--link", LINK, "--hosts", "2", "--json")
    assert json.loads(shown.out)["counts"]["hosts"] == 1
