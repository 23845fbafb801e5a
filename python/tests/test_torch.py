"""Each module and function of PyTorch that the server has, as torch.fx traces it; and those that it has not,
by name."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exporting import config_of, kinds, nothing_in, wide
from torch import nn

from safeserve_export import ExportError, UnsupportedError, export_torch, names, torch_names


def randomised(module):
    """The module with other weights and statistics than those that it is made with."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.1)
    return module


class Of(nn.Module):
    """A module that computes a function."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, torch.Tensor):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


MODULES = {
    "Linear": nn.Linear(6, 3),
    "Linear without bias": nn.Linear(6, 3, bias=False),
    "BatchNorm1d": nn.BatchNorm1d(6),
    "BatchNorm1d, bare": nn.BatchNorm1d(6, eps=0.01, affine=False),
    "LayerNorm": nn.LayerNorm(6),
    "LayerNorm, bare": nn.LayerNorm(6, eps=0.01, elementwise_affine=False),
    "LayerNorm without bias": nn.LayerNorm(6, bias=False),
    "PReLU": nn.PReLU(),
    "PReLU by column": nn.PReLU(6),
    "ReLU": nn.ReLU(),
    "ReLU6": nn.ReLU6(),
    "LeakyReLU": nn.LeakyReLU(0.2),
    "ELU": nn.ELU(0.7),
    "SELU": nn.SELU(),
    "CELU": nn.CELU(1.3),
    "Sigmoid": nn.Sigmoid(),
    "Hardsigmoid": nn.Hardsigmoid(),
    "Tanh": nn.Tanh(),
    "Hardtanh": nn.Hardtanh(-0.5, 2.0),
    "Softplus": nn.Softplus(),
    "Softplus, steep": nn.Softplus(beta=2.5),
    "Softsign": nn.Softsign(),
    "GELU": nn.GELU(),
    "GELU by tanh": nn.GELU("tanh"),
    "SiLU": nn.SiLU(),
    "Mish": nn.Mish(),
    "Hardswish": nn.Hardswish(),
    "Softmax": nn.Softmax(-1),
    "Softmax along 1": nn.Softmax(1),
    "LogSoftmax": nn.LogSoftmax(-1),
    "Identity": nn.Identity(),
    "Dropout": nn.Dropout(),
    "Dropout1d": nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Dropout1d()),
    "Dropout2d": nn.Sequential(nn.Unflatten(1, (2, 3, 1)), nn.Dropout2d()),
    "Dropout3d": nn.Sequential(nn.Unflatten(1, (2, 3, 1, 1)), nn.Dropout3d()),
    "AlphaDropout": nn.AlphaDropout(),
    "FeatureAlphaDropout": nn.FeatureAlphaDropout(),
    "Flatten": nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Flatten()),
    "Unflatten": nn.Unflatten(1, (3, 2)),
    "a parametrization": nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)),
    "a compiled module": torch.compile(nn.Linear(6, 4)),
}


@pytest.mark.parametrize("case", MODULES)
def test_each_module_is_exported(case, tmp_path):
    module = copy.deepcopy(MODULES[case])
    exported = export_torch(randomised(module), tmp_path / "m", wide(6, rows=8), check_rows=wide(6))
    config_of(exported)


def test_no_module_of_the_list_is_left_out():
    tried = {type(part).__name__ for module in MODULES.values() for part in module.modules()}
    assert set(torch_names.MODULES) <= tried


FUNCTIONS = {
    "relu": [F.relu, torch.relu, lambda x: x.relu()],
    "relu6": [F.relu6],
    "leaky_relu": [lambda x: F.leaky_relu(x, 0.2), lambda x: F.leaky_relu(x, negative_slope=0.2)],
    "elu": [lambda x: F.elu(x, 0.7)],
    "selu": [F.selu, torch.selu],
    "celu": [lambda x: F.celu(x, alpha=1.3)],
    "sigmoid": [torch.sigmoid, lambda x: x.sigmoid(), F.sigmoid],
    "hardsigmoid": [F.hardsigmoid],
    "tanh": [torch.tanh, lambda x: x.tanh(), F.tanh],
    "hardtanh": [F.hardtanh, lambda x: F.hardtanh(x, -0.5, 2.0)],
    "softplus": [F.softplus, lambda x: F.softplus(x, 2.5)],
    "softsign": [F.softsign],
    "gelu": [F.gelu, lambda x: F.gelu(x, approximate="tanh")],
    "silu": [F.silu],
    "mish": [F.mish],
    "hardswish": [F.hardswish],
    "softmax": [lambda x: F.softmax(x, dim=-1), lambda x: torch.softmax(x, 1), lambda x: x.softmax(-1)],
    "log_softmax": [lambda x: F.log_softmax(x, -1), lambda x: x.log_softmax(dim=1)],
    "flatten": [
        lambda x: x.view(-1, 2, 3).flatten(1),
        lambda x: torch.flatten(x.reshape(x.size(0), 3, 2), 1),
    ],
    "unflatten": [lambda x: x.unflatten(1, (2, 3))],
    "reshape": [lambda x: x.reshape(x.shape[0], 3, 2), lambda x: torch.reshape(x, (-1, 2, 3))],
    "view": [lambda x: x.view(x.size(0), -1, 2)],
    "squeeze": [lambda x: x.unsqueeze(1).squeeze(1)],
    "unsqueeze": [lambda x: x.unsqueeze(-1)],
    "layer_norm": [lambda x: F.layer_norm(x, (6,)), lambda x: F.layer_norm(x, [6], eps=0.01)],
    "linear": [lambda x: F.linear(x, torch.ones(2, 6) / 8)],
    "matmul": [lambda x: x @ (torch.ones(6, 2) / 8), lambda x: torch.matmul(x, torch.ones(6, 3) / 8)],
    "prelu": [lambda x: F.prelu(x, torch.tensor([0.3]))],
    "cat": [lambda x: torch.cat([x, x * 2], dim=1), lambda x: torch.cat((x, x), -1)],
    "add": [
        lambda x: x + x,
        lambda x: x + 1,
        lambda x: 1 + x,
        lambda x: torch.add(x, x, alpha=3),
        lambda x: x.add(2, alpha=3),
    ],
    "sub": [
        lambda x: x - x * 3,
        lambda x: x - 1,
        lambda x: 1 - x,
        lambda x: torch.sub(x, 2, alpha=3),
        lambda x: x - torch.arange(6.0),
    ],
    "mul": [lambda x: x * x, lambda x: 3 * x, lambda x: x * torch.arange(6.0), lambda x: torch.mul(x, 2)],
    "div": [lambda x: x / 3, lambda x: x / torch.arange(1.0, 7), lambda x: torch.div(x, 8)],
    "neg": [lambda x: -x, torch.neg],
    "maximum": [lambda x: torch.maximum(x, -x), lambda x: torch.max(x, -x)],
    "minimum": [lambda x: torch.minimum(x, -x), lambda x: torch.min(x, -x)],
    "normalize": [F.normalize, lambda x: F.normalize(x, 2, -1, 0.5)],
}


@pytest.mark.parametrize(
    ("function", "index"), [(name, index) for name, forms in FUNCTIONS.items() for index in range(len(forms))]
)
def test_each_function_is_exported(function, index, tmp_path):
    module = Of(lambda self, x: FUNCTIONS[function][index](x))
    config_of(export_torch(module, tmp_path / "m", wide(6, rows=8), check_rows=wide(6)))


def test_no_function_of_the_list_is_left_out():
    assert set(FUNCTIONS) == {*names.TORCH_FUNCTIONS, *torch_names.SHAPED, *torch_names.ARITHMETIC}


class Residual(nn.Module):
    """A skip connection, shared weights, constants, an optional argument."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.block = nn.Sequential(nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Sequential(nn.Linear(8, 8), nn.GELU()))
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("mean", torch.full((4,), 1000.0))
        self.register_buffer("deviation", torch.rand(4) + 0.5)

    def forward(self, x, gate=None):
        x = (x - self.mean) / self.deviation
        hidden = self.first(x)
        hidden = hidden + self.block(hidden)
        if gate is not None:
            hidden = hidden * gate
        hidden = F.dropout(self.dropout(hidden), 0.5, self.training)
        return F.linear(hidden, self.first.weight.t())


def test_a_traced_module_with_a_skip_connection_and_tied_weights(tmp_path):
    rows = torch.randn(50, 4) + 1000
    module = randomised(Residual())
    module.mean.fill_(1000)
    module.deviation.abs_().add_(0.5)
    exported = export_torch(module, tmp_path / "m", rows, check_rows=rows)
    assert kinds(exported).count("dense") == 3
    assert [layer["name"] for layer in config_of(exported)["inputs"] if layer] == ["x"]
    gate = torch.rand(50, 8)
    exported = export_torch(module, tmp_path / "m", {"x": rows, "gate": gate}, check_rows=(rows, gate))
    assert [layer["name"] for layer in config_of(exported)["inputs"]] == ["x", "gate"]


def test_the_module_is_left_in_the_modes_that_its_parts_were_in(tmp_path):
    module = Residual()
    module.block[0].eval()
    before = [part.training for part in module.modules()]
    assert before[0] and not all(before)
    export_torch(module, tmp_path / "m", torch.randn(3, 4) + 1000)
    assert [part.training for part in module.modules()] == before
    with pytest.raises(UnsupportedError):
        export_torch(
            nn.Sequential(module, nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 1, 1)),
            tmp_path / "m",
            torch.randn(3, 4),
        )
    assert [part.training for part in module.modules()] == before


@pytest.mark.parametrize("datatype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_widths(datatype, tmp_path):
    module = randomised(nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2))).to(datatype)
    config_of(export_torch(module, tmp_path / "m", torch.randn(4, 6)))
    assert next(module.parameters()).dtype == datatype


def test_a_module_and_a_tensor_that_are_used_twice(tmp_path):
    shared = nn.Linear(6, 6)
    module = nn.Sequential(shared, nn.Tanh(), shared, nn.Tanh(), nn.Linear(6, 6))
    module[4].weight = shared.weight
    exported = export_torch(randomised(module), tmp_path / "m", torch.randn(4, 6))
    assert kinds(exported) == ["dense", "tanh", "dense", "tanh", "dense"]


@pytest.mark.parametrize(
    "function",
    [
        lambda self, x: (h := self.part(x), F.relu_(h), h * 2)[2],
        lambda self, x: (h := self.part(x), h.tanh_(), h * 2)[2],
        lambda self, x: (h := self.part(x), F.relu(h, inplace=True), h * 2)[2],
        lambda self, x: (h := self.part(x), self.bend(h), h * 2)[2],
        lambda self, x: self.bend(x) + x,
    ],
)
def test_what_is_changed_in_place_is_read_changed(function, tmp_path):
    module = Of(function, part=nn.Linear(6, 6), bend=nn.ReLU(inplace=True))
    config_of(export_torch(module, tmp_path / "m", torch.randn(9, 6)))


def test_the_rows_given_stay_as_they_are(tmp_path):
    rows = torch.randn(9, 6)
    before = rows.clone()
    exported = export_torch(
        nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 2)), tmp_path / "m", rows, check_rows=rows
    )
    config_of(exported)
    assert torch.equal(rows, before)


class Both(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, left, right):
        return self.form(left + right, torch.softmax(left, 1))


@pytest.mark.parametrize(
    ("form", "names"),
    [
        (lambda a, b: {"sum": a, "share": b}, ["sum", "share"]),
        (lambda a, b: (a, b), ["output_0", "output_1"]),
        (lambda a, b: [b, a, a], ["output_0", "output_1", "output_2"]),
        (lambda a, b: (b + a,), ["output"]),
    ],
)
def test_several_inputs_and_outputs_by_name(form, names, tmp_path):
    exported = export_torch(Both(form), tmp_path / "m", (torch.randn(4, 3), torch.randn(4, 3)))
    config = config_of(exported)
    assert [output["name"] for output in config["outputs"]] == names
    assert [value["name"] for value in config["inputs"]] == ["left", "right"]


def test_an_output_that_is_an_input(tmp_path):
    config_of(export_torch(Of(lambda self, x: (x, x + 1)), tmp_path / "m", torch.randn(4, 3)))


@pytest.mark.parametrize(
    ("last", "labels", "task", "output"),
    [
        (
            nn.Sequential(nn.Linear(6, 1), nn.Sigmoid()),
            ["no", "yes"],
            "binary-classification",
            "probabilities",
        ),
        (
            nn.Sequential(nn.Linear(6, 1), nn.Sigmoid(), nn.Flatten(0)),
            ["no", "yes"],
            "binary-classification",
            "probabilities",
        ),
        (nn.Linear(6, 1), ["no", "yes"], {"type": "binary-classification", "threshold": 0}, "scores"),
        (nn.Sequential(nn.Linear(6, 3), nn.Softmax(-1)), None, "multiclass-classification", "probabilities"),
        (nn.Linear(6, 3), ["a", "b", "c"], "multiclass-classification", "scores"),
        (nn.Linear(6, 3), None, None, "output"),
    ],
)
def test_the_task_is_what_the_last_layer_says(last, labels, task, output, tmp_path):
    config = config_of(export_torch(last, tmp_path / "m", torch.randn(4, 6), labels=labels))
    assert (config.get("task"), config["outputs"][0]["name"]) == (task, output)


FAULTS = {
    "a convolution": (
        nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Conv1d(2, 1, 2)),
        "nn.Conv1d of 1",
        "the server has no such thing",
    ),
    "a recurrence": (
        Of(lambda self, x: self.part(x)[0], part=nn.LSTM(6, 2)),
        "nn.LSTM of part",
        "gives several tensors",
    ),
    "an unknown function": (
        Of(lambda self, x: torch.cumsum(x, 1)),
        "torch.cumsum",
        "the server has no such thing",
    ),
    "an unknown method": (Of(lambda self, x: x.abs()), "Tensor.abs", "the server has no such thing"),
    "a part of a row": (Of(lambda self, x: x[:, :3]), "operator.getitem", "the server has no such thing"),
    "several pieces": (Of(lambda self, x: x.chunk(2, 1)[0]), "Tensor.chunk", "gives several tensors"),
    "statistics of a batch": (
        nn.BatchNorm1d(6, track_running_stats=False),
        "nn.BatchNorm1d of 0",
        "track_running_stats=False",
    ),
    "BatchNorm1d of two axes": (
        nn.Sequential(nn.Unflatten(1, (2, 3)), nn.BatchNorm1d(2)),
        "nn.BatchNorm1d of 1",
        "rows of shape [2, 3]",
    ),
    "LayerNorm of two axes": (
        nn.Sequential(nn.Unflatten(1, (2, 3)), nn.LayerNorm((2, 3))),
        "nn.LayerNorm of 1",
        "normalized_shape=[2, 3]",
    ),
    "PReLU along the first of two axes": (
        nn.Sequential(nn.Unflatten(1, (2, 3)), nn.PReLU(2)),
        "nn.PReLU of 1",
        "2 slopes for rows of shape [2, 3]",
    ),
    "softmax over the rows": (nn.Softmax(0), "nn.Softmax of 0", "dim=0; only the last axis"),
    "softmax along the first of two axes": (
        Of(lambda self, x: x.view(-1, 2, 3).softmax(1)),
        "Tensor.softmax",
        "dim=1; only the last axis",
    ),
    "dropout that never ends": (
        Of(lambda self, x: F.dropout(x)),
        "torch.nn.functional.dropout",
        "drops out when evaluating too",
    ),
    "rows that mix": (
        Of(lambda self, x: x.view(-1, 3)),
        "Tensor.view",
        "only what keeps the rows is supported",
    ),
    "rows in another order": (Of(lambda self, x: x.t()), "Tensor.t", "the server has no such thing"),
    "one number for all rows": (
        Of(lambda self, x: x - x.mean()),
        "Tensor.mean",
        "the server has no such thing",
    ),
    "joined rows": (Of(lambda self, x: torch.cat([x, x], 0)), "torch.cat", "dim=0 are the rows"),
    "a constant next to rows": (
        Of(lambda self, x: torch.cat([x, self.ones], 1), ones=torch.ones(8, 1)),
        "torch.cat",
        "one of the tensors is a constant",
    ),
    "rows of two shapes": (
        Of(lambda self, x: x * self.part(x), part=nn.Linear(6, 1)),
        "operator.mul",
        "operands of different shapes",
    ),
    "a quotient": (
        Of(lambda self, x: 1 / x),
        "operator.truediv",
        "only the division of a tensor by a constant",
    ),
    "division by zero": (
        Of(lambda self, x: x / torch.tensor([1.0, 1, 1, 1, 1, 0])),
        "operator.truediv",
        "divides by zero",
    ),
    "a product of rows": (
        Of(lambda self, x: x @ self.part(x).t(), part=nn.Linear(6, 6)),
        "Tensor.t",
        "the server has no such thing",
    ),
    "a constant of the row's shape": (
        Of(lambda self, x: x.view(-1, 2, 3) * torch.ones(2, 3)),
        "operator.mul",
        "a constant of shape [2, 3]",
    ),
    "whole numbers": (Of(lambda self, x: x.to(torch.int64)), "Tensor.to", "casts to torch.int64"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_the_server_has_not_is_named_with_the_reason(case, tmp_path):
    module, kind, reason = FAULTS[case]
    with pytest.raises(UnsupportedError) as caught:
        export_torch(module, tmp_path / "models" / "m", torch.randn(4, 6))
    assert [fault.kind for fault in caught.value.faults][:1] == [kind], str(caught.value)
    assert reason in caught.value.faults[0].reason
    assert nothing_in(tmp_path / "models")


def test_all_that_the_server_has_not_is_named_at_once_by_its_node(tmp_path):
    module = Of(
        lambda self, x: torch.relu(self.conv(torch.cumsum(x, 1).unsqueeze(1))).flatten(1).abs(),
        conv=nn.Conv1d(1, 2, 3),
    )
    with pytest.raises(UnsupportedError) as caught:
        export_torch(module, tmp_path / "m", torch.randn(4, 6))
    assert [(fault.place, fault.kind) for fault in caught.value.faults] == [
        ("cumsum", "torch.cumsum"),
        ("conv", "nn.Conv1d of conv"),
        ("abs_1", "Tensor.abs"),
    ]
    message = str(caught.value)
    assert message.startswith("Of: 3 parts cannot be exported:\n  'cumsum' (torch.cumsum): ")
    assert message.endswith(f"the server has: {', '.join(torch_names.SUPPORTED)}")


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Loops(nn.Module):
    def forward(self, x):
        return sum(row for row in x)


class Anything(nn.Module):
    def forward(self, *rows):
        return rows[0]


class Forgetful(nn.Module):
    def forward(self, x, unused):
        return x * 2


@pytest.mark.parametrize(
    ("module", "example", "reason"),
    [
        (
            Branches(),
            torch.ones(2, 3),
            "Branches cannot be traced by torch.fx: symbolically traced variables cannot be used",
        ),
        (
            Of(lambda self, x: torch.ones(x, 3)),
            torch.ones(2, 3),
            "Of cannot be traced by torch.fx: ones\\(\\) ",
        ),
        (Loops(), torch.ones(2, 3), "Loops cannot be traced by torch.fx: Proxy object cannot be iterated"),
        (Anything(), torch.ones(2, 3), "forward takes \\*args"),
        (nn.Linear(3, 2), torch.ones(2, 4), "the module fails on the example: "),
        (
            nn.Linear(3, 2),
            torch.ones(2, 3, dtype=torch.int64),
            "expected floating-point numbers, got torch.int64",
        ),
        (nn.Linear(3, 2), torch.tensor(1.0), "expected rows, got one number"),
        (nn.Linear(3, 2), (torch.ones(2, 3), torch.ones(2, 3)), "forward takes input; got 2 inputs"),
        (nn.Linear(3, 2), {"x": torch.ones(2, 3)}, "forward takes input; got x"),
        (Forgetful(), (torch.ones(2, 3), torch.ones(2, 3)), "'unused' has no part in what forward computes"),
        (Of(lambda self, x: torch.ones(2)), torch.ones(2, 3), "has no part in what forward computes"),
        (Of(lambda self, x: (x * 2, None)), torch.ones(2, 3), "the output 'output_1' is no tensor"),
        ("a module", torch.ones(2, 3), "expected a torch.nn.Module, got str"),
    ],
)
def test_what_cannot_be_traced_or_asked_is_refused(module, example, reason, tmp_path):
    with pytest.raises(ExportError, match=reason):
        export_torch(module, tmp_path / "models" / "m", example)
    assert nothing_in(tmp_path / "models")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_torchscript_is_refused(tmp_path):
    with pytest.raises(ExportError, match="is TorchScript; export the nn.Module"):
        export_torch(torch.jit.script(nn.Linear(2, 2)), tmp_path / "m", torch.ones(2, 2))


def test_a_weight_that_is_no_number_is_refused(tmp_path):
    module = nn.Linear(3, 2)
    module.weight.data[0, 0] = float("nan")
    with pytest.raises(ExportError, match="weight '0.weight' holds NaN"):
        export_torch(module, tmp_path / "m", torch.ones(2, 3))


def test_rows_may_be_arrays_or_lists(tmp_path):
    for example in (np.ones((2, 3)), [[1.0, 2, 3], [4, 5, 6]]):
        config_of(export_torch(nn.Linear(3, 2), tmp_path / "m", example))
