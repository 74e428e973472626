"""The moving average, against a loop; wrappers, buffers, modes, state."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from mixops.embedding.multimix import MultiMix
from mixops.embedding.teacher import EmaTeacher
from mixops.key import Key
from mixops.runtime.unwrap import unwrap


class Net(nn.Module):
    """Batch norm, a shared parameter, an integer buffer, a buffer that is not saved, and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(3, 5)
        self.norm = nn.BatchNorm1d(5)
        self.again = self.stem
        self.fc = nn.Linear(5, 4)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("scale", torch.ones(5), persistent=False)

    def features(self, x):
        return self.norm(self.stem(x)).relu() * self.scale

    def forward(self, x):
        return self.fc(self.features(x))


def train(model, steps, teacher=None):
    inner = unwrap(model)
    optimizer = torch.optim.SGD(inner.parameters(), lr=0.1)
    states = []
    for step in range(steps):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        F.cross_entropy(model(x), torch.arange(8) % 4).backward()
        optimizer.step()
        optimizer.zero_grad()
        inner.seen += 1
        inner.scale.mul_(1.01)
        if teacher is not None:
            teacher.update(model)
        states.append({k: v.clone() for k, v in [*inner.named_parameters(), *inner.named_buffers()]})
    return states


def test_every_tensor_follows_and_integers_are_copied():
    torch.manual_seed(0)
    model = Net()
    teacher = EmaTeacher(model, 0.7)
    expected = {k: v.clone() for k, v in [*model.named_parameters(), *model.named_buffers()]}
    for state in train(model, 5, teacher):
        for name, value in state.items():
            expected[name] = 0.7 * expected[name] + 0.3 * value if value.is_floating_point() else value
    got = dict([*teacher.module.named_parameters(), *teacher.module.named_buffers()])
    assert {"stem.weight", "norm.running_var", "norm.num_batches_tracked", "seen", "scale"} <= got.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, atol=1e-6, rtol=1e-6)
    assert not torch.equal(got["fc.weight"], model.fc.weight)


def test_decay_zero_is_the_model_itself():
    model = Net()
    teacher = EmaTeacher(model, 0.0)
    train(model, 2, teacher)
    for a, b in zip(teacher.module.state_dict().values(), model.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


def test_no_gradient_no_training_mode_and_no_tie_to_the_model():
    model = Net()
    teacher = EmaTeacher(model, 0.9)
    wrapper = nn.ModuleList([model, teacher]).train()
    assert model.training and not any(m.training for m in teacher.modules()) and wrapper.training
    assert not any(p.requires_grad for p in teacher.parameters())
    x = torch.randn(8, 3, requires_grad=True)
    before = copy.deepcopy(teacher.state_dict())
    assert not teacher(x).requires_grad
    for a, b in zip(before.values(), teacher.state_dict().values(), strict=True):
        assert torch.equal(a, b)  # evaluation leaves batch statistics alone
    with torch.no_grad():
        model.fc.weight.zero_()
    assert teacher.fc.weight.any() and teacher.module.again is teacher.module.stem


def test_it_is_the_teacher_of_multimix():
    torch.manual_seed(0)
    model = Net()
    teacher = EmaTeacher(model, 0.9)
    loss = MultiMix(model.fc, 20, distill=0.5)
    x, y = torch.randn(8, 3), torch.arange(8) % 4
    with torch.no_grad():
        seen = teacher.features(x)
    value = loss(model.features(x), y, teacher=(seen, teacher.fc), key=Key())
    value.backward()
    assert model.stem.weight.grad is not None and teacher.fc.weight.grad is None


def test_state_goes_through_a_file():
    model = Net()
    teacher = EmaTeacher(model, 0.9)
    train(model, 2, teacher)
    file = io.BytesIO()
    torch.save(teacher.state_dict(), file)
    file.seek(0)
    other = EmaTeacher(Net(), 0.9)
    other.load_state_dict(torch.load(file, weights_only=True))
    for a, b in zip(teacher.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert set(teacher.state_dict()) == {f"module.{name}" for name in model.state_dict()}
    again = copy.deepcopy(teacher)
    assert torch.equal(again.fc.weight, teacher.fc.weight) and again.fc.weight is not teacher.fc.weight


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # dynamo's own, at any graph break
def test_compiled_models_and_teachers():
    torch.manual_seed(0)
    model = Net()
    compiled = torch.compile(copy.deepcopy(model), backend="eager")
    teachers = EmaTeacher(model, 0.9), EmaTeacher(compiled, 0.9)
    train(model, 3, teachers[0])
    train(compiled, 3, teachers[1])
    x = torch.randn(8, 3)
    torch.testing.assert_close(teachers[0](x), teachers[1](x))
    assert isinstance(teachers[1].module, Net)
    fast = torch.compile(teachers[0], backend="eager")
    torch.testing.assert_close(fast(x), teachers[1](x))
    before = fast(x)
    train(model, 1, teachers[0])
    assert not torch.equal(fast(x), before)  # compiled code sees the update


@pytest.fixture
def process_group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_distributed_models(process_group):
    torch.manual_seed(0)
    model = Net()
    wrapped = nn.parallel.DistributedDataParallel(copy.deepcopy(model))
    teachers = EmaTeacher(model, 0.9), EmaTeacher(wrapped, 0.9)
    train(model, 3, teachers[0])
    train(wrapped, 3, teachers[1])
    for a, b in zip(teachers[0].state_dict().values(), teachers[1].state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)
    assert set(teachers[1].state_dict()) == set(teachers[0].state_dict())


def test_missing_attributes_are_reported_as_such():
    teacher = EmaTeacher(Net())
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'head'"):
        _ = teacher.head
    assert "decay=0.999" in repr(teacher)


def test_bad_arguments():
    with pytest.raises(TypeError, match=r"model must be an nn\.Module, got 3"):
        EmaTeacher(3)
    for decay in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"decay must be in \[0, 1\)"):
            EmaTeacher(Net(), decay)
    with pytest.raises(ValueError, match=r"model must have .* got a difference in \['bias', "):
        EmaTeacher(Net()).update(nn.Linear(3, 3))
    with pytest.raises(TypeError, match=r"model must be an nn\.Module, got 'Net'"):
        EmaTeacher(Net()).update("Net")
    with pytest.raises(
        ValueError, match=r"model must have the teacher's shapes, dtypes and devices, got others for .*weight"
    ):
        EmaTeacher(nn.Linear(3, 3)).update(nn.Linear(4, 3))
    with pytest.raises(ValueError, match=r"model must have the teacher's shapes, dtypes and devices"):
        EmaTeacher(nn.Linear(3, 3)).update(nn.Linear(3, 3).double())
