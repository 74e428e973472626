"""A model with all that happens between a batch and its loss, so that DistributedDataParallel sees one forward.

Mixing happens in the loader wherever it can. What needs the model happens here: PuzzleMix looks at the model's saliency,
ManifoldMix mixes a hidden layer, MultiMix the embeddings, in some of the steps or in all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from model import create_model, embed
from recipe import Recipe
from torch import Tensor, nn

from mixstage.mixops import Key, ManifoldMix, MultiMix, gradient_saliency
from mixstage.mixops.key import Stream

Images = Tensor | tuple[Tensor, ...]  # one view of a batch, or several


class Network(nn.Module):
    """The model of a recipe with its loss."""

    def __init__(self, recipe: Recipe, classes: int) -> None:
        super().__init__()
        self.recipe, self.classes = recipe, classes
        self.model = create_model(recipe, classes)
        self.mixer = None if recipe.mixes_in_loader() else recipe.mixing
        self.manifold = None
        if recipe.layers and self.mixer is not None:
            layers = [int(layer) if layer.isdigit() else layer for layer in recipe.layers.split()]
            self.manifold = ManifoldMix(self.model, layers, self.mixer)
        self.multimix = None
        if recipe.tuples:
            options = {"dense": recipe.dense, "distill": recipe.distill, "smoothing": recipe.smoothing}
            self.multimix = MultiMix(self.model.get_classifier(), recipe.tuples, **options)

    def forward(self, images: Images, targets: Tensor, key: Key, teacher: nn.Module | None = None) -> Tensor:
        """The loss; ``targets`` are class numbers or, of mixed images, class probabilities.

        Of two views the model sees the first and ``teacher`` the second.
        """
        first, last = (images[0], images[-1]) if isinstance(images, tuple) else (images, images)
        if self.multimix is not None and self._interpolates_embeddings(key):
            return self._multimix_loss(first, last, targets, key, teacher)
        if self.mixer is None or not self.recipe.mixes(key.epoch):
            return self.loss(self.model(first), targets)
        if self.manifold is not None:
            return self.loss(*self.manifold(first, targets, key=key, num_classes=self.classes))
        saliency = gradient_saliency(self.model, first, targets) if "saliency" in self.mixer.needs else None
        mixed, mixed_targets = self.mixer(first, targets, key=key, num_classes=self.classes, saliency=saliency)
        loss = self.loss(self.model(mixed), mixed_targets)
        if self.recipe.clean_loss:
            loss = loss + self.recipe.clean_loss * self.loss(self.model(first), targets)
        return loss

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, or the mean over classes of the binary cross-entropies."""
        if self.recipe.loss == "ce":
            return F.cross_entropy(logits, targets, label_smoothing=self.recipe.smoothing)
        if targets.ndim == 1:
            targets = F.one_hot(targets, self.classes)
        targets = targets.to(logits.dtype) * (1 - self.recipe.smoothing) + self.recipe.smoothing / self.classes
        if self.recipe.bce_threshold is not None:
            targets = (targets > self.recipe.bce_threshold).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, targets)

    def _interpolates_embeddings(self, key: Key) -> bool:
        always = self.recipe.multimix_prob == 1  # then nothing is drawn, which a compiler could not follow
        return always or float(key.uniform(Stream.LAYER, (1,))[0]) < self.recipe.multimix_prob

    def _multimix_loss(self, first: Tensor, last: Tensor, targets: Tensor, key: Key, teacher: nn.Module | None) -> Tensor:
        seen = None
        if teacher is not None:
            with torch.no_grad():
                seen = embed(teacher, last, self.recipe.dense), teacher.get_classifier()
        return self.multimix(embed(self.model, first, self.recipe.dense), targets, teacher=seen, key=key)
