"""Faults in ``mixops.offline``: shares of content and style, barycentres, masks by a teacher."""

from __future__ import annotations

from .base import Fault

STYLE = ("mixops/offline/test_style_mix.py",)
TRANSPORT = ("mixops/offline/test_barycentres.py",)
TEACHER = ("mixops/offline/test_teacher_masks.py",)

# one line a fault
# ruff: noqa: E501
FAULTS = (
    Fault("content and style of StyleMix exchanged", "mixops/offline/style_mix.py", "(both, content), (style, neither) =", "(both, style), (content, neither) =", STYLE),
    Fault("label of StyleMix of content alone", "mixops/offline/style_mix.py", "self.r * self.content + (1 - self.r) * self.style", "self.content.copy()", STYLE),
    Fault("content and style go together beyond their limits", "mixops/offline/style_mix.py", "least + rows.t * (most - least)", "np.clip(rows.t, least, most)", STYLE),
    Fault("outputs in the order in which they were drawn", "mixops/offline/style_draws.py", "np.argsort(-weight, axis=1, kind=\"stable\")", "np.argsort(0 * weight, axis=1, kind=\"stable\")", STYLE),
    Fault("content and style are sorted apart", "mixops/offline/style_draws.py", "np.take_along_axis(value, order.reshape(*order.shape, *[1] * (value.ndim - 2)), 1) for value", "-np.sort(-value, axis=1) for value", STYLE),
    Fault("outputs of an image apart in the batch", "mixops/offline/style_mix.py", "features.flatten(0, 1), images)", "features.transpose(0, 1).flatten(0, 1), images)", STYLE),
    Fault("AdaIN without the style's mean", "mixops/offline/style_statistics.py", "* style_std + style_mean", "* style_std", STYLE),
    Fault("a class is 0 from itself", "mixops/offline/style_statistics.py", " + _SAME_CLASS * (own == own[rows])", "", STYLE),
    Fault("one image of each class counts for its style", "mixops/offline/style_statistics.py", "np.add.at(total, index, rows)", "total[index] += rows", STYLE),
    Fault("box of StyleCutMix shows the partner", "mixops/offline/style_cut_mix.py", "params[..., DV] = ~rows.mixed[:, None], rows.mixed[:, None]", "params[..., DV] = 1, -1.0 * rows.mixed[:, None]", STYLE),
    Fault("gamma of the label the other way round", "mixops/offline/style_cut_mix.py", "return gamma[:, None] * content + (1 - gamma[:, None]) * style", "return (1 - gamma[:, None]) * content + gamma[:, None] * style", STYLE),
    Fault("shares of style exchanged outside the box", "mixops/offline/style_cut_mix.py", "outside = (1 - style) * theirs[:, None] + style * theirs_restyled", "outside = style * theirs[:, None] + (1 - style) * theirs_restyled", STYLE),
    Fault("box of StyleCutMix of lambda, not its root", "mixops/offline/style_cut_mix.py", "box_masks(np.sqrt(lam),", "box_masks(lam,", STYLE),
    Fault("kernel of twice the entropy", "mixops/offline/barycentres.py", "** 2) / eps for at", "** 2) / (2 * eps) for at", TRANSPORT),
    Fault("barycentre of equal weights", "mixops/offline/barycentres.py", "log_b = (share * log_kept).sum(1, keepdim=True)", "log_b = log_kept.mean(1, keepdim=True)", TRANSPORT),
    Fault("mass is not given back", "mixops/offline/barycentres.py", "return b * total", "return b", TRANSPORT),
    Fault("empty channels take part", "mixops/offline/barycentres.py", "share = torch.where(seen, share, 0)", "share = share * 1", TRANSPORT),
    Fault("masks are pulled to one half", "mixops/offline/teacher_masks.py", "loss = apart + problem.sparsity", "loss = apart - problem.sparsity", TEACHER),
    Fault("steps along the rough gradient", "mixops/offline/teacher_masks.py", "smooth = _smoothed(gradient, blur)", "smooth = gradient", TEACHER),
    Fault("shares of one class assigned, not added", "mixops/offline/teacher_masks.py", ".scatter_add_(1, classes, lam)", ".scatter_(1, classes, lam)", TEACHER),
    Fault("done when one of the classes is seen", "mixops/offline/teacher_masks.py", "least = logits.masked_fill(~wanted, torch.inf).amin(1)", "least = logits.masked_fill(~wanted, -torch.inf).amax(1)", TEACHER),
    Fault("rows that are done go on", "mixops/offline/teacher_masks.py", "rows = (~done).nonzero()[:, 0]", "rows = torch.arange(b, device=z.device)", TEACHER),
)  # fmt: skip
