"""What MediaPipe makes of .tflite files; runs in `.mediapipe`, an environment of its own, and prints one JSON object.

    python mediapipe_worker.py FILE IMAGES.npz OUT.npz

IMAGES: uint8 [h, w, 3] each; OUT: for each name the category mask, uint8 [h, w], and under NAME-confidence the
confidence masks, float32 [h, w, classes].
"""

import json
import sys
from pathlib import Path

import mediapipe
import numpy as np
from mediapipe.tasks.metadata import image_segmenter_metadata_schema_py_generated as segmenter_schema
from mediapipe.tasks.metadata import metadata_schema_py_generated as schema
from mediapipe.tasks.metadata import schema_py_generated as model_schema
from mediapipe.tasks.python import BaseOptions, vision


def plain(value):
    """The schema's objects as JSON has them, without what is empty."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if hasattr(value, "__dict__"):
        return {key: plain(item) for key, item in vars(value).items() if item is not None}
    return value


def metadata_of(file):
    """The metadata by the code that is generated from MediaPipe's .fbs; what is the segmenter's own, unpacked, too."""
    model = model_schema.ModelT.InitFromPackedBuf(file, 0)
    (entry,) = (item for item in model.metadata if item.name == b"TFLITE_METADATA")
    buffer = bytes(model.buffers[entry.buffer].data)
    assert schema.ModelMetadata.ModelMetadataBufferHasIdentifier(buffer, 0)
    metadata = schema.ModelMetadataT.InitFromPackedBuf(buffer, 0)
    for custom in metadata.subgraphMetadata[0].customMetadata:
        data = bytes(custom.data)
        assert segmenter_schema.ImageSegmenterOptions.ImageSegmenterOptionsBufferHasIdentifier(data, 0)
        custom.data = segmenter_schema.ImageSegmenterOptionsT.InitFromPackedBuf(data, 0)
    return plain(metadata)


def main(file, images, out):
    options = vision.ImageSegmenterOptions(
        base_options=BaseOptions(model_asset_path=file), output_category_mask=True, output_confidence_masks=True
    )
    arrays = {}
    with vision.ImageSegmenter.create_from_options(options) as segmenter:
        for name, image in np.load(images).items():
            picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
            result = segmenter.segment(picture)
            size = image.shape[:2]
            arrays[name] = result.category_mask.numpy_view().reshape(size).copy()
            masks = [mask.numpy_view().reshape(size) for mask in result.confidence_masks]
            arrays[f"{name}-confidence"] = np.stack(masks, -1)
        labels = list(segmenter.labels)
    np.savez(out, **arrays)
    return labels


if __name__ == "__main__":
    labels = main(*sys.argv[1:])
    print(json.dumps({"labels": labels, "metadata": metadata_of(Path(sys.argv[1]).read_bytes())}))
