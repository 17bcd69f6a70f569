"""What export cannot do is explained: the operator, and the file and line of the model, with exit code 3."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.cli.commands import mapper

MODULE = """import torch
from torch import nn
from torch.nn import functional

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
{body}

def build():
    return Net(), torch.ones(4, 4)
"""
NUMBER = itertools.count()

TRACED = {
    "data-dependent branch": (
        "if self.linear(x).sum() > 0:  # here\n    x = x + 1\nreturn self.linear(x)",
        r"bool\(\) of a tensor makes what is computed depend on what a tensor holds\n.*torch\.where",
    ),
    "branch on a number": (
        "total = x.sum().item()\nreturn x if total > 0 else -x  # here",
        r"bool\(\) of a number that a tensor held makes what is computed depend",
    ),
    "data-dependent loop": (
        "for _ in range(int(x.sum())):  # here\n    x = self.linear(x)\nreturn x",
        r"int\(\) of a tensor makes what is computed depend",
    ),
    "torch.cond": (
        "return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))  # here",
        "cond chooses at run time what is computed",
    ),
    "number": ("return x * x.sum().item()  # here", r"aten\.item\.default turns a tensor into a number.*\nKeep it"),
    "nonzero": (
        "return x.nonzero() * 2  # here",
        r"aten\.nonzero\.default .*\(u0, 2\) depends on the data\nOnly fixed",
    ),
    "length of nonzero": ("return x[: len(x.nonzero())]  # here", r"depend on what a tensor holds"),
    "mask": ("y = self.linear(x)\nreturn y[y > 0]  # here", r"aten\.index\.Tensor .*depends on the data"),
    "unique": ("return torch.unique(x)  # here", r"aten\._unique2\.default cannot be mapped"),
    "custom operator": (
        "return torch.ops.mapper_test.known(x) + 1  # here",
        r"mapper_test\.known\.default is no operator of torch's own \(aten, prims\)\nA worker loads no code",
    ),
    "custom operator without a fake": (
        "return torch.ops.mapper_test.unknown(x) + 1  # here",
        r"cannot trace mapper_test\.unknown\.default: it is no operator of torch's own",
    ),
    "changes its input": (
        "x += self.linear(x)  # here\nreturn x * 2",
        r"changes what it is given \(user input mutation of 'x' by aten\.add\.Tensor\)\nLet it work on a copy",
    ),
    "writes into its input": (
        "x[:, 0] = 1  # here\nreturn self.linear(x)",
        r"changes what it is given \(user input mutation of 'x' by aten\.\w+\.default\)",
    ),
    "changes its buffer": (
        "self.count += 1  # here\nreturn x * self.count",
        r"changes its own state \(buffer mutation of 'count' by aten\.add\.Tensor\)",
    ),
    "dropout left on": (
        "return functional.dropout(self.linear(x), 0.5)  # here",
        r"aten\.native_dropout\.default draws random numbers\nTrace the model in eval mode",
    ),
    "random numbers": ("return x + torch.randn(4)  # here", r"aten\.randn\.default draws random numbers"),
    "another device": (
        'return x + torch.ones(4, 4, device="meta")  # here',
        r"cannot trace aten\.add\.Tensor: Expected all tensors to be on the same device.*cpu and meta",
    ),
    "wrong shapes": ("return self.linear(x[:, :3])  # here", r"cannot trace aten\.\w+\.default: .*reduction dim"),
    "complex numbers": (
        "return torch.fft.fft(x).abs()  # here",
        r"aten\.fft_fft\.default cannot be mapped: its numbers are complex64",
    ),
    "complex view": ("return torch.view_as_complex(x.view(4, 2, 2)) * 2  # here", r"aten\.view_as_complex\.default"),
    "sparse": ("return x.to_sparse() @ x  # here", r"aten\.to_sparse\.\w+ cannot be mapped: its layout is sparse_coo"),
    "numpy": ("return torch.from_numpy(x.numpy() * 2)  # here", r"cannot trace Tensor\.numpy"),
    "its own error": ('raise ValueError("weights of the wrong year")  # here', "weights of the wrong year"),
}


@pytest.fixture(scope="module", autouse=True)
def custom_operators() -> Iterator[None]:
    """Operators as a package of the user may add them: one that torch.export understands, one that it does not."""
    library = torch.library.Library("mapper_test", "FRAGMENT")
    for name in ("known", "unknown"):
        library.define(f"{name}(Tensor x) -> Tensor")
        library.impl(name, lambda x: x + 1, "CPU")
    torch.library.register_fake("mapper_test::known", torch.empty_like, lib=library)
    yield
    library._destroy()


def written(folder: Path, text: str) -> str:
    """A module of the working folder with `text`, under a name that nothing has imported."""
    name = f"failing_{next(NUMBER)}"
    (folder / f"{name}.py").write_text(text)
    return name


@pytest.mark.parametrize("name", TRACED)
def test_what_cannot_be_traced_names_operator_and_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    body, message = TRACED[name]
    text = MODULE.format(body="\n".join(f"        {line}" for line in body.splitlines()))
    line = next(i for i, code in enumerate(text.splitlines(), 1) if "# here" in code)
    module = written(tmp_path, text)
    done = mapper("model", "show", f"{module}:build", "--json")
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("mapper: ")
    assert f"{module}.py, line {line}: " in done.err
    assert re.search(message, done.err), done.err
    assert len(done.err.splitlines()) <= 2, "one line that says what, one that says what to do"


BUILT = {
    "weights on another device": (
        'return Net().to("meta"), torch.ones(4, 4)',
        "the weight 'linear.weight' is on meta.*\nCall model.cpu",
    ),
    "a buffer on another device": (
        'net = Net()\n    net.count = net.count.to("meta")\n    return net, torch.ones(4, 4)',
        "the weight 'count' is on meta",
    ),
    "an item on another device": ('return Net(), torch.ones(4, 4, device="meta")', "'arg0' is on meta"),
    "a number as input": ("return Net(), (torch.ones(4, 4), 2)", "the example input 'arg1' is a int, no tensor"),
    "complex input": ("return nn.Flatten(), torch.ones(4, 4) * 1j", "complex64"),
    "complex weight": (
        "net = Net()\n    net.linear = nn.Linear(4, 4, dtype=torch.complex64)\n    return net, torch.ones(4, 4)",
        "complex64|dtype",
    ),
}


@pytest.mark.parametrize("name", BUILT)
def test_what_is_handed_over_wrongly_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build, message = BUILT[name]
    text = MODULE.format(body="        return self.linear(x) * self.count")
    module = written(tmp_path, text.replace("return Net(), torch.ones(4, 4)", build))
    done = mapper("model", "show", f"{module}:build", "--json")
    assert (done.code, done.out) == (3, ""), done.err
    assert re.search(message, done.err), done.err


def test_what_a_model_prints_while_it_is_traced_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    body = '        print("shape", x.shape)\n        return self.linear(x)'
    done = mapper("model", "show", f"{written(tmp_path, MODULE.format(body=body))}:build", "--json")
    assert done.code == 0 and "shape torch.Size([4, 4])" in done.err
    assert json.loads(done.out)["kinds"] == {"matmul": 1}
