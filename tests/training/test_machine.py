"""What the machine offers, on machines that are made up here."""

from __future__ import annotations

import builtins
import io
import subprocess
import sys
from typing import Any

import pytest
import torch

from stillmotion.core.errors import UserError
from stillmotion.training import machine
from stillmotion.training.machine import Processes, choose_device, choose_precision, has_bfloat16, is_first, join_processes

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["banana", "cpu:x", "cuda:77", ""])
def test_a_device_that_is_not_there_is_refused_with_its_name(name: str) -> None:
    with pytest.raises(UserError, match="a device that PyTorch can use here") as caught:
        choose_device(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(("name", "gpu", "expected"), [("auto", False, "cpu"), ("cpu", True, "cpu"), ("auto", True, "cuda:3")])
def test_the_device_is_the_gpu_of_this_process(monkeypatch: pytest.MonkeyPatch, name: str, gpu: bool, expected: str) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert choose_device(name) == torch.device(expected)


def test_cuda_without_a_number_is_the_gpu_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch, "empty", lambda *size, device: None)
    assert choose_device("cuda") == torch.device("cuda", 1)
    assert choose_device("cuda:0") == torch.device("cuda", 0)


def pretend(monkeypatch: pytest.MonkeyPatch, cpuinfo: str, platform: str = "linux") -> None:
    """A processor that describes itself so."""
    real = builtins.open

    def fake(file: Any, *arguments: Any, **options: Any) -> Any:
        return io.StringIO(cpuinfo) if file == "/proc/cpuinfo" else real(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", fake)
    monkeypatch.setattr(sys, "platform", platform)


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 sse\nflags\t\t: fpu\n", True), ("flags : fpu amx_bf16 amx_tile\n", True),
        ("processor : 0\nFeatures\t: fp asimd bf16 i8mm\n", True), ("flags : fpu avx2 avx512f\n", False),
        ("model name : bf16 special\nflags : fpu not_bf16x\n", False), ("", False),
    ],
)
def test_bfloat16_is_native_where_the_processor_says_so(monkeypatch: pytest.MonkeyPatch, cpuinfo: str, expected: bool) -> None:
    pretend(monkeypatch, cpuinfo)
    assert has_bfloat16(CPU) is expected
    assert choose_precision("auto", CPU) == ("bfloat16" if expected else "float32")
    assert choose_precision("float32", CPU) == "float32"
    assert choose_precision("bfloat16", CPU) == "bfloat16"


def test_other_systems_do_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "flags : avx512_bf16\n", platform="darwin")
    assert not has_bfloat16(CPU)


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_counts_only_what_it_does_not_emulate(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert has_bfloat16(torch.device("cuda", 0)) is native


def test_a_process_that_nobody_announced_is_alone_and_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_processes(CPU) == Processes(rank=0, world=1)
    assert is_first()
    machine.wait_for_all(CPU)
    assert not torch.distributed.is_initialized()


def test_keeping_freed_memory_changes_no_number() -> None:
    before = torch.arange(1000.0).cumsum(0)
    machine.keep_freed_memory()
    assert torch.equal(torch.arange(1000.0).cumsum(0), before)


PEAK = """
import torch
from stillmotion.training.machine import peak_memory
before = peak_memory()
torch.ones(100_000_000)
after = peak_memory()
assert after is None or 0.3 < after - before < 0.6, (before, after)
print("none" if after is None else "told")
"""


def test_the_peak_of_memory_counts_what_was_given_back_too() -> None:
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "told\n" if sys.platform == "linux" else "none\n"), done.stderr


@pytest.mark.parametrize("told", [None, "Name: python\n"])
def test_where_the_system_does_not_tell_the_peak_of_memory_is_unknown(monkeypatch: pytest.MonkeyPatch, told: str | None) -> None:
    def reads(*_: object, **__: object) -> io.StringIO:
        if told is None:
            raise FileNotFoundError
        return io.StringIO(told)

    monkeypatch.setattr(builtins, "open", reads)
    assert machine.peak_memory() is None
