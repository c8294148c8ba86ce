"""Objects as COCO annotations with compressed run lengths, which keep holes and separate parts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsegdiff_core.errors import LSegDiffError

DEFAULT_CLASSES = ("lesion",)


def encode(labels: NDArray[np.integer], provenance: Mapping[str, Any]) -> bytes:
    """Return ``labels`` (H, W) as a COCO JSON file of one image; an annotation has its object's id.

    See `encode_all` for the provenance.
    """
    return encode_all([(labels, provenance)])


def encode_all(frames: Sequence[tuple[NDArray[np.integer], Mapping[str, Any]]]) -> bytes:
    """Return masks and their provenance as one COCO JSON file.

    An annotation's category is its object's class, or the first one if that is not known. Of several images the
    annotations are numbered through.

    Parameters
    ----------
    frames
        For each image its labels (H, W), 0 on the background, and its provenance: ``classes``, a list of names,
        becomes the categories (default: "lesion"), and ``image``'s ``name`` the image's file name (default: empty).
        ``objects``, a list with ``id`` and ``class``, says what each object is.

    Raises
    ------
    LSegDiffError
        If ``classes`` is not a list of names or ``objects`` not one of objects.
    """
    parts = [(labels, provenance, *object_classes(provenance)) for labels, provenance in frames]
    classes = list(dict.fromkeys(name for _, _, known, names in parts for name in (*known, *names.values())))
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (labels, provenance, known, names) in enumerate(parts, start=1):
        image = provenance.get("image")
        name = str(image.get("name", "")) if isinstance(image, Mapping) else ""
        height, width = labels.shape
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for index in np.unique(labels):
            if index:
                category = classes.index(names.get(int(index), known[0])) + 1
                identity = int(index) if len(frames) == 1 else len(annotations) + 1
                annotations.append({"id": identity, "image_id": number, **_annotation(labels, int(index), category)})
    dataset = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, start=1)],
    }
    return json.dumps(dataset, allow_nan=False).encode()


def object_classes(provenance: Mapping[str, Any]) -> tuple[Sequence[str], dict[int, str]]:
    """Return the classes, and of which class each object is, by its id.

    Raises
    ------
    LSegDiffError
        If ``classes`` is not a list of names or ``objects`` not one of objects.
    """
    classes = provenance.get("classes", DEFAULT_CLASSES)
    if not isinstance(classes, list | tuple) or not classes or not all(isinstance(name, str) for name in classes):
        raise LSegDiffError(f"provenance.classes: {classes!r} is not a list of names; give for example ['polyp']")
    objects = provenance.get("objects", [])
    if not isinstance(objects, list | tuple) or not all(map(_is_object, objects)):
        raise LSegDiffError(f"provenance.objects: {objects!r} is not a list such as [{{'id': 1, 'class': 'polyp'}}]")
    return classes, {item["id"]: item["class"] for item in objects if "class" in item}


def _is_object(item: Any) -> bool:
    return isinstance(item, Mapping) and isinstance(item.get("id"), int) and isinstance(item.get("class", ""), str)


def decode(dataset: Any) -> NDArray[np.integer]:
    """Return the labels (H, W) of a COCO file of one image: what `encode` has written.

    Raises
    ------
    LookupError, TypeError, ValueError, MemoryError
        If it is not of that form.
    """
    from pycocotools import mask as coco_mask

    (image,) = dataset["images"]
    labels = np.zeros((image["height"], image["width"]), np.int32)
    for annotation in dataset["annotations"]:
        if annotation["id"] < 1:  # 0 is the background
            raise ValueError(f"id {annotation['id']}: ids begin at 1")
        inside = np.asarray(coco_mask.decode(annotation["segmentation"]), dtype=np.bool_)
        labels[inside] = annotation["id"]
    return labels


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return a mask (H, W) as COCO's uncompressed run lengths: ``size`` and ``counts``, down the columns, from 0 on."""
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = [0, *ends.tolist(), flat.size]
    counts = [end - start for start, end in itertools.pairwise(starts)]
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def from_run_lengths(runs: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return the mask (H, W) of what `run_lengths` made.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is not of that form.
    """
    counts = np.asarray(runs["counts"], dtype=np.int64)
    height, width = runs["size"]
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape((height, width), order="F")


def _annotation(labels: NDArray[np.integer], index: int, category: int) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    runs = coco_mask.encode(np.asfortranarray(labels == index, dtype=np.uint8))
    return {
        "category_id": category,
        "segmentation": {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode("ascii")},
        "area": int(coco_mask.area(runs)),
        "bbox": [float(value) for value in coco_mask.toBbox(runs)],
        "iscrowd": 0,
    }
