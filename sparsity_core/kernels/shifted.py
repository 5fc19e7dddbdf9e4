"""Images laid out for a kernel: for each of its columns a copy, shifted, so that reads are aligned.

In the copy of kernel column s, pixel j of a row is the one that output column j multiplies with a
weight in column s. So all outputs of a row, and all rows after another, are one run of floats for
each weight, which begins on a cache line where rows are a multiple of 16 wide: a read that
straddles two lines takes twice as long. There is no margin between columns to be computed in vain.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparsity_core.kernels.compiled import compiled
from sparsity_core.kernels.dense_convolution import Convolution, Pair
from sparsity_core.kernels.instructions import (
    bytes_at,
    float_at,
    load_lanes,
    permute,
    put_float,
    short_at,
    store_part,
)
from sparsity_core.kernels.vector import LANES

SLACK = 8 * LANES  # positions that the last panel may compute and nobody reads
# How long reads take that begin on every cache line, on every second half, or anywhere.
_UNALIGNED = {16: 1.0, 8: 1.25, 1: 1.6}


@dataclass(frozen=True)
class Layout:
    """Where the pixels of images lie for one kernel; all sizes in floats."""

    kernel: Convolution
    weight: tuple[int, ...]  # its shape
    size: tuple[int, ...]  # of the images: (n, channels, height, width)
    strides: tuple[int, ...]  # of the images
    out: Pair = field(init=False)  # height and width of an output
    pitch: int = field(init=False)  # from one row of outputs to the next
    between: int = field(init=False)  # rows from one image to the next
    plane: int = field(init=False)  # of one channel, copy and phase of rows
    rows: int = field(init=False)  # of a plane
    vectors: int = field(init=False)  # of 16 positions, which are computed

    def __post_init__(self) -> None:
        images, _, height, _ = self.size
        (rows, _), down = self.weight[2:], self.kernel.stride[0]
        tall, wide = self.kernel.output_size(self.weight, (height, self.size[3]))
        needed = (rows - 1) * self.kernel.dilation[0] // down + tall
        # The margin below an image serves the next one as well.
        shared = down == 1 and images > 1
        between = max(height + self.kernel.padding[0], tall) if shared else needed
        pitch = self.strides[2] if self.in_place else wide if self._flat else pitch_of(wide)
        last = ((images - 1) * between + tall - 1) * pitch + wide
        held = (images - 1) * between + needed
        for name, value in {
            "out": (tall, wide),
            "pitch": pitch,
            "between": between,
            "plane": -(-held * pitch // LANES) * LANES,
            "rows": held,
            "vectors": -(-last // LANES),
        }.items():
            object.__setattr__(self, name, value)

    @property
    def floats(self) -> int:
        """Of the whole buffer, with what the last reads may touch."""
        copies = self.size[1] * self.weight[3] * self.kernel.stride[0]
        return copies * self.plane + self.pitch * self.weight[2] + SLACK

    @property
    def room(self) -> int:
        """Of the outputs of one filter."""
        return LANES * self.vectors

    @property
    def plane_of_channel(self) -> int:
        """From one channel to the next."""
        return self.weight[3] * self.kernel.stride[0] * self.plane

    @property
    def _flat(self) -> bool:
        """A kernel of one pixel: wherever its rows begin, reads are aligned if channels are."""
        kernel = self.kernel
        return (self.weight[2:], kernel.stride, kernel.padding) == ((1, 1), (1, 1), (0, 0))

    @property
    def in_place(self) -> bool:
        """Whether the images are read where they lie: each channel in whole cache lines."""
        images, _, height, _ = self.size
        lines = self.strides[1] % LANES == 0 and self.strides[2] * height <= self.strides[1]
        # All of the last row as well: what the last vector reads must be memory of the tensor.
        return self._flat and images == 1 and lines

    @property
    def widest(self) -> int:
        """Vectors of a panel at most."""
        return 8

    def tile(self, size: int) -> int:
        """Channels whose pixels for a panel take so many bytes."""
        vectors = min(self.widest, self.vectors)
        reach = LANES * vectors + self.pitch * (self.weight[2] - 1)
        return max(1, size // (4 * self.weight[3] * reach))

    def offsets(self, channel: int) -> Tensor:
        """(channels, kernel rows, kernel columns): where a weight finds its pixel for output 0.

        `channel`: from one channel to the next.
        """
        _, _, rows, columns = self.weight
        down, dilation = self.kernel.stride[0], self.kernel.dilation[0]
        row, column = (torch.arange(rows) * dilation)[:, None], torch.arange(columns)
        within = (column * down + row % down) * self.plane + row // down * self.pitch
        return channel * torch.arange(self.size[1])[:, None, None] + within

    def outputs(self, sums: Tensor) -> Tensor:
        """(n, filters, height, width) as a view of sums (filters * room)."""
        images, (tall, wide) = self.size[0], self.out
        strides = (self.between * self.pitch, self.room, self.pitch, 1)
        shape = (images, self.weight[0], tall, wide)
        return sums.as_strided(shape, strides, sums.storage_offset())


def pitch_of(wide: int) -> int:
    """The quickest distance between rows of outputs: some lanes in vain, for aligned reads."""
    costs = {-(-wide // step) * step: cost for step, cost in reversed(_UNALIGNED.items())}
    if wide <= LANES // 4:  # several rows a vector
        return wide
    return min(costs, key=lambda pitch: (pitch * costs[pitch], pitch))


class Spread:
    """Copies of images of one shape and strides into a buffer for a layout."""

    def __init__(self, layout: Layout, buffer: Tensor) -> None:
        kernel, (images, channels, height, width) = layout.kernel, layout.size
        strides = layout.strides
        (top, left), (down, across) = kernel.padding, kernel.stride
        wide, columns = layout.out[1], layout.weight[3]
        shifts = [s * kernel.dilation[1] - left for s in range(columns)]
        rows, length, source_row = height, wide, strides[2]
        # Rows that follow each other here and there are one long row.
        flat = (down, across, layout.pitch, source_row) == (1, 1, width, width) and wide == width
        if flat:
            rows, length = 1, height * width
        vectors = -(-length // LANES)
        masks = torch.zeros(columns, vectors, 2, dtype=torch.int64)
        lane = torch.arange(2 * LANES)
        for s, shift in enumerate(shifts):
            for v in range(vectors):
                found = lane[:LANES] if across == 1 else lane
                within = LANES * v * across + found
                column = within % width if flat else within
                there = (column + shift >= 0) & (column + shift < width)
                there &= within < length * across
                bits = (there.long() << found % LANES).view(-1, LANES).sum(1)
                masks[s, v, : len(bits)] = bits
        self.masks = masks.to(torch.uint16)
        self.even = torch.arange(0, 2 * LANES, 2, dtype=torch.uint8)
        self.buffer = buffer
        most = length if flat else layout.pitch
        self.numbers = (
            *(buffer.data_ptr(), images, channels, rows, columns, vectors, most),
            *(4 * strides[0], 4 * strides[1], 4 * source_row),
            *(layout.between, top, down, across, layout.rows, width, wide),
            *(4 * layout.plane, 4 * layout.pitch, 4 * kernel.dilation[1], 4 * left),
            *(self.masks.data_ptr(), self.even.data_ptr()),
        )

    def __call__(self, x: Tensor) -> None:
        """Fill the buffer; margins stay as they are, which is zero."""
        spread_image(x.data_ptr(), self.numbers, 0, self.numbers[2])


@compiled
def spread_image(x, numbers, first, end):  # type: ignore[no-untyped-def]
    """The copies of `Spread`, from its numbers, of the channels first..end."""
    buffer, images, _, rows, columns, vectors, most = numbers[:7]
    image_step, channel_step, row_step = numbers[7:10]
    between, top, down, across, held, width, wide = numbers[10:17]
    plane, pitch, dilation, left, masks, even = numbers[17:]
    for channel in range(first, end):
        for image in range(images):
            for row in range(rows):
                padded = row + top
                place = image * between + padded // down
                if place >= held:
                    continue  # below what any output reads
                source = x + image_step * image + channel_step * channel + row_step * row - left
                target = buffer + plane * (channel * columns * down + padded % down)
                target += pitch * place
                mask = masks
                for s in range(columns):
                    if across > 2:
                        for j in range(wide):
                            if 0 <= 4 * across * j + s * dilation - left < 4 * width:
                                value = float_at(source + 4 * across * j)
                                put_float(target + 4 * j, value)
                    else:
                        for v in range(vectors):
                            here = source + 64 * across * v
                            found = load_lanes(here, short_at(mask))
                            if across == 2:
                                high = load_lanes(here + 64, short_at(mask + 2))
                                found = permute(found, bytes_at(even), high)
                            store_part(target + 64 * v, found, min(LANES, most - LANES * v))
                            mask += 4
                    source += dilation
                    target += plane * down
