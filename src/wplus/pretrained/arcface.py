"""ArcFace identity network (Deng et al. 2019, https://arxiv.org/abs/1801.07698), IR-SE backbone, without weights.

Parameter names are those of the public file `model_ir_se50.pth`.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from wplus.errors import UserError
from wplus.models.encoders.ir_se import CHANNELS, body, stem

INPUT_SIZE = 112  # px
EMBEDDING_DIM = 512


class ArcFaceNet(nn.Module):
    """Aligned faces (N, 3, 112, 112) in [-1, 1] -> unit vectors (N, 512), for comparison by cosine similarity."""

    def __init__(self, *, depth: int = 50) -> None:
        super().__init__()
        self.input_layer = stem()
        self.body = body(depth)
        num = CHANNELS[-1] * (INPUT_SIZE // 16) ** 2
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(CHANNELS[-1]), nn.Dropout(0.6), nn.Flatten(),
            nn.Linear(num, EMBEDDING_DIM), nn.BatchNorm1d(EMBEDDING_DIM),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, 112, 112) -> (N, 512), unit vectors. UserError for images of another shape."""
        if images.shape[1:] != (3, INPUT_SIZE, INPUT_SIZE):
            raise UserError(f"images must be (N, 3, {INPUT_SIZE}, {INPUT_SIZE}), got {tuple(images.shape)}.")
        return F.normalize(self.output_layer(self.body(self.input_layer(images))))
