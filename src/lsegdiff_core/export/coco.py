"""Objects as COCO annotations with compressed run lengths, which keep holes and separate parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsegdiff_core.errors import LSegDiffError

DEFAULT_CLASSES = ("lesion",)


def encode(labels: NDArray[np.integer], provenance: Mapping[str, Any]) -> bytes:
    """Return ``labels`` (H, W) as a COCO JSON file.

    An annotation has its object's id; its category is the object's class, or the first one if that is not known.

    Parameters
    ----------
    labels
        (H, W); 0 is background.
    provenance
        ``classes``, a list of names, becomes the categories (default: "lesion"), and ``image``'s ``name`` the image's
        file name (default: empty). ``objects``, a list with ``id`` and ``class``, says what each object is.

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
    names = {item["id"]: item["class"] for item in objects if "class" in item}
    classes = list(dict.fromkeys([*classes, *names.values()]))
    image = provenance.get("image")
    height, width = labels.shape
    dataset = {
        "images": [
            {
                "id": 1,
                "file_name": str(image.get("name", "")) if isinstance(image, Mapping) else "",
                "height": height,
                "width": width,
            }
        ],
        "annotations": [
            _annotation(labels, int(index), classes.index(names.get(int(index), classes[0])) + 1)
            for index in np.unique(labels)
            if index
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, start=1)],
    }
    return json.dumps(dataset, allow_nan=False).encode()


def _is_object(item: Any) -> bool:
    return isinstance(item, Mapping) and isinstance(item.get("id"), int) and isinstance(item.get("class", ""), str)


def _annotation(labels: NDArray[np.integer], index: int, category: int) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    runs = coco_mask.encode(np.asfortranarray(labels == index, dtype=np.uint8))
    return {
        "id": index,
        "image_id": 1,
        "category_id": category,
        "segmentation": {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode("ascii")},
        "area": int(coco_mask.area(runs)),
        "bbox": [float(value) for value in coco_mask.toBbox(runs)],
        "iscrowd": 0,
    }
